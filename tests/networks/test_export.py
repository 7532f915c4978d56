"""Every export is read back as the same network, by us and by independent readers."""

import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_networks import network

from perturbcast.errors import BadNetwork, MissingFile, UnknownFormat, UnknownGenes
from perturbcast.networks.cx2 import from_cx2, to_cx2
from perturbcast.networks.export import ENDINGS, load_network, to_anndata, write_network
from perturbcast.networks.network import FLAGS, Network

LOSSLESS = (".parquet", ".graphml", ".cx2", ".h5ad")


def same(one: Network, other: Network) -> bool:
    pd.testing.assert_frame_equal(one.edges(), other.edges(), check_exact=True)
    return True


@pytest.mark.parametrize("ending", LOSSLESS)
def test_lossless_formats_give_back_everything(ending, tmp_path):
    net = network()
    again = load_network(write_network(net, tmp_path / f"net{ending}"))
    assert same(net, again)
    assert list(again.genes) == list(net.genes)
    assert (again.method, again.source) == (net.method, net.source)
    for flag in FLAGS:
        np.testing.assert_array_equal(getattr(again, flag), getattr(net, flag))
    assert [path.name for path in tmp_path.iterdir()] == [f"net{ending}"]


def test_tsv_gives_back_the_edge_table(tmp_path):
    again = load_network(write_network(network(), tmp_path / "net.tsv"))
    assert same(network(), again)
    assert sorted(again.genes) == ["IRF1", "JAK2", "NA", "STAT1"]  # a gene called NA is no missing value


def test_sif_gives_back_genes_and_signs(tmp_path):
    path = write_network(network(), tmp_path / "net.sif")
    assert "STAT1\tactivates\tIRF1" in path.read_text()
    again = load_network(path)
    assert sorted(again.genes) == sorted(network().genes)
    left, right = (net.edges().set_index(["source", "target"])["sign"].sort_index() for net in (network(), again))
    assert left.equals(right)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), ending=st.sampled_from([".graphml", ".cx2", ".parquet"]))
def test_any_network_survives_a_round_trip(seed, ending, tmp_path):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    weights = np.where(rng.random((n, n)) < 0.5, rng.lognormal(size=(n, n)), 0)
    net = Network.of_matrix([f"g-{i}é" for i in range(n)], weights, sign=rng.integers(-1, 2, (n, n)))
    assert same(net, load_network(write_network(net, tmp_path / f"net{ending}")))


def test_cx2_follows_the_specification():
    document = to_cx2(network())
    assert document[0] == {"CXVersion": "2.0", "hasFragments": False}
    assert list(document[-1]) == ["status"]
    aspects = {name: elements for block in document[1:] for name, elements in block.items()}
    counted = {entry["name"]: entry["elementCount"] for entry in aspects.pop("metaData")}
    assert counted == {name: len(elements) for name, elements in aspects.items() if name != "status"}
    order = [name for block in document for name in block]
    assert order.index("attributeDeclarations") < order.index("nodes") < order.index("edges")
    declared = aspects["attributeDeclarations"][0]
    kinds = {"string": str, "double": float, "boolean": bool, "integer": int}
    for aspect in ("nodes", "edges"):
        for element in aspects[aspect]:
            for name, value in element["v"].items():
                assert type(value) is kinds[declared[aspect][name]["d"]]
    identifiers = {node["id"] for node in aspects["nodes"]}
    assert all({edge["s"], edge["t"]} <= identifiers for edge in aspects["edges"])
    json.dumps(document, allow_nan=False)


def test_cx2_of_others_is_read_with_aliases_and_defaults():
    document = [
        {"CXVersion": "2.0", "hasFragments": True},
        {"attributeDeclarations": [{"nodes": {"name": {"a": "n", "d": "string"}}}]},
        {"attributeDeclarations": [{"edges": {"weight": {"d": "double", "v": 0.5}}}]},
        {"nodes": [{"id": 7, "v": {"n": "A"}}]},
        {"nodes": [{"id": 9, "x": 1.0, "y": 2.0, "v": {"n": "B"}}]},
        {"edges": [{"id": 0, "s": 7, "t": 9, "v": {}}, {"id": 1, "s": 9, "t": 7, "v": {"weight": 2.0}}]},
        {"status": [{"success": True}]},
    ]
    edges = from_cx2(document).edges()
    assert edges[["source", "target", "weight"]].to_numpy().tolist() == [["B", "A", 2.0], ["A", "B", 0.5]]


def test_a_network_is_laid_over_the_genes_of_an_object():
    adata = AnnData(np.ones((2, 6), dtype=np.float32), var=pd.DataFrame(index=[*reversed(network().genes), "MORE"]))
    laid = to_anndata(network(), adata)
    assert laid.varp["network"][4, 3] == pytest.approx(1 / 3)
    assert "network" not in adata.varp
    with pytest.raises(UnknownGenes):
        to_anndata(network(), adata[:, 2:])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("net.cx2", '[{"CXVersion": "2.0"}'),
        ("net.cx2", '{"nodes": []}'),
        ("net.cx2", '[{"CXVersion": "1.0"}]'),
        ("net.cx2", '[{"CXVersion": "2.0"}, {"nodes": []}]'),
        ("net.cx2", '[{"CXVersion": "2.0"}, {"edges": [{"id": 1, "s": 3, "t": 4}]}, {"status": [{"success": true}]}]'),
        ("net.graphml", "<graphml"),
        ("net.graphml", "<html></html>"),
        ("net.sif", "A\tactivates\n"),
        ("net.parquet", "no parquet"),
        ("net.tsv", "source\ttarget\tweight\tsign\nA\tB\tlarge\t1\n"),
        ("net.tsv", "source\ttarget\tweight\tsign\nA\tB\t-1\t1\n"),
        ("net.h5ad", "no file of ours"),
    ],
)
def test_damaged_files_are_refused_with_a_code(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadNetwork, match="E804"):
        load_network(tmp_path / name)


def test_formats_and_files_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(UnknownFormat, match=r"\.graphml"):
        write_network(network(), tmp_path / "net.pdf")
    with pytest.raises(MissingFile):
        load_network(tmp_path / "absent.sif")
    with pytest.raises(MissingFile):
        write_network(network(), tmp_path / "no" / "net.sif")
    assert len(ENDINGS) == 6
