"""The network report is one page that holds every edge shown and loads nothing."""

import re

import numpy as np
import pytest

from perturbcast.errors import BadOption, MissingFile, UnknownGenes
from perturbcast.networks.network import Network
from perturbcast.report.network_report import build_network_report, map_of


def network():
    rng = np.random.default_rng(0)
    weights = np.where(rng.random((12, 12)) < 0.3, rng.random((12, 12)), 0.0)
    names = [f"GENE{number}" for number in range(11)] + ["<b>&"]
    p = np.full((12, 12), 0.01)
    return Network.of_matrix(names, weights, sign=rng.integers(-1, 2, (12, 12)), columns={"p_value": p}, method="test")


def test_the_page_holds_every_edge_and_loads_nothing(tmp_path):
    page = build_network_report(network(), tmp_path / "net.html", around=["GENE0", "GENE1"], title="A & B").read_text()
    assert page.count("<line ") == network().n_edges
    assert page.count('class="gene"') == len(map_of(network())[0])
    assert "Around GENE0, GENE1" in page
    assert "A &amp; B" in page
    assert "<b>&" not in page.replace("&amp;", "&").replace("<b>&lt;", "")  # a name is text, not markup
    outside = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"'#]+)", page)
    assert not [link for link in outside if "://" in link]
    assert [path.name for path in tmp_path.iterdir()] == ["net.html"]


def test_the_map_keeps_genes_with_edges_inside_the_square():
    genes, edges = map_of(network().top(5))
    names = {gene["name"] for gene in genes}
    assert names == {edge[end] for edge in edges for end in ("source", "target")}
    assert all(0 <= float(gene[axis]) <= 1 for gene in genes for axis in "xy")


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (BadOption, {"top": 0}),
        (UnknownGenes, {"around": ["GENE99"]}),
    ],
)
def test_what_cannot_be_shown_is_refused_with_a_code(tmp_path, error, options):
    with pytest.raises(error):
        build_network_report(network(), tmp_path / "net.html", **options)
    with pytest.raises(BadOption):
        build_network_report(network().top(0), tmp_path / "net.html")
    with pytest.raises(MissingFile):
        build_network_report(network(), tmp_path / "no" / "net.html")
    assert not list(tmp_path.iterdir())
