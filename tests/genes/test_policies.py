"""Missing genes, transforms, controls and files of embedding tables."""

import numpy as np
import pytest

from perturbcast.errors import BadOption, NeedsKnowledge, UnknownFormat
from perturbcast.genes.graphs import graph_of_edges
from perturbcast.genes.knowledge import EmbeddingTable
from perturbcast.genes.load import load_knowledge
from perturbcast.genes.policies import coexpression_table, completed, control_tables, transformed, write_table

SMALL = EmbeddingTable(
    "x", np.array(["A", "B", "C"], dtype=object), np.array([[1, 2], [3, 6], [5, 1]], dtype=np.float32)
)


def wide_table(*, n_genes=60, width=7, seed=0):
    names = np.array([f"G{number}" for number in range(n_genes)], dtype=object)
    rows = np.random.default_rng(seed).normal(3, 2, (n_genes, width)) * np.arange(1, width + 1)
    return EmbeddingTable("wide", names, rows.astype(np.float32))


def test_missing_genes_are_dropped_or_flagged():
    assert list(completed(SMALL, ["C", "?", "A"]).genes) == ["C", "A"]
    flagged = completed(SMALL, ["C", "?", "A"], missing="flag")
    assert list(flagged.genes) == ["C", "?", "A"]
    assert flagged.matrix.tolist() == [[5, 1, 0], [0, 0, 1], [1, 2, 0]]


def test_missing_genes_get_the_weighted_mean_of_their_neighbours():
    graph = graph_of_edges("g", ["?", "B", "!"], ["A", "?", "+"], weights=np.array([1.0, 3.0, 1.0]))
    filled = completed(SMALL, ["?", "!", "C"], missing="neighbours", graph=graph)
    assert list(filled.genes) == ["?", "C"]  # the neighbour of ! has no row either
    np.testing.assert_allclose(filled.matrix, [[2.5, 5], [5, 1]])
    with pytest.raises(NeedsKnowledge):
        completed(SMALL, ["A"], missing="neighbours")


def test_transforms_do_what_they_say():
    table = wide_table()
    zscore = transformed(table, "zscore").matrix
    np.testing.assert_allclose(zscore.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(zscore.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(transformed(table, "l2").matrix, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(transformed(table, "none").matrix, table.matrix)
    constant = EmbeddingTable("x", SMALL.genes, np.array([[1, 7], [2, 7], [4, 7]], dtype=np.float32))
    assert not transformed(constant, "zscore").matrix[:, 1].any()


@pytest.mark.parametrize(("n_genes", "width"), [(60, 7), (6, 20)])
def test_principal_components_keep_distances_and_order(n_genes, width):
    table = wide_table(n_genes=n_genes, width=width)
    most = min(n_genes - 1, width)
    scores = transformed(table, "pca", width=most).matrix
    centred = table.matrix - table.matrix.mean(axis=0)
    np.testing.assert_allclose(scores @ scores.T, centred @ centred.T, rtol=1e-3, atol=1e-2)
    assert (np.diff((scores**2).sum(axis=0)) <= 1e-3).all()
    fewer = transformed(table, "pca", width=2).matrix
    np.testing.assert_allclose(fewer, scores[:, :2], atol=1e-4)
    with pytest.raises(BadOption):
        transformed(table, "pca", width=width + n_genes)


def test_controls_have_the_shape_but_not_the_knowledge():
    table = wide_table(n_genes=400)
    controls = control_tables(table, seed=1)
    assert list(controls) == ["random", "permuted", "one-hot"]
    assert controls["random"].matrix.shape == table.matrix.shape
    assert controls["random"].matrix.std() == pytest.approx(np.sqrt(table.matrix.var(axis=0).mean()), rel=0.05)
    assert abs(np.corrcoef(controls["random"].matrix[:, 0], table.matrix[:, 0])[0, 1]) < 0.2
    permuted = controls["permuted"].matrix
    assert sorted(map(tuple, permuted)) == sorted(map(tuple, table.matrix))
    assert (permuted != table.matrix).any(axis=1).mean() > 0.95
    one_hot = controls["one-hot"].matrix
    np.testing.assert_array_equal(one_hot @ one_hot.T, np.eye(400))
    turned = EmbeddingTable("wide", table.genes[::-1], table.matrix[::-1])
    for how, control in control_tables(turned, seed=1).items():
        if how != "one-hot":
            np.testing.assert_allclose(control.matrix[::-1], controls[how].matrix, rtol=1e-5)
    again, other = control_tables(table, seed=1), control_tables(table, seed=2)
    np.testing.assert_array_equal(again["random"].matrix, controls["random"].matrix)
    assert not np.array_equal(other["permuted"].matrix, permuted)


def test_coexpression_brings_modules_together():
    rng = np.random.default_rng(0)
    modules = rng.normal(size=(30, 2))
    profiles = np.repeat(modules, 10, axis=1) + 0.1 * rng.normal(size=(30, 20))
    table = coexpression_table(profiles, [f"G{number}" for number in range(20)], width=5)
    assert table.matrix.shape == (20, 5)
    distance = np.linalg.norm(table.matrix[:, None] - table.matrix[None], axis=2)
    assert distance[:10, :10].max() < distance[:10, 10:].min()


@pytest.mark.parametrize("ending", [".npz", ".parquet", ".csv"])
def test_written_tables_are_read_again(tmp_path, ending):
    table = wide_table()
    write_table(table, tmp_path / f"wide{ending}")
    (read,) = load_knowledge([tmp_path / f"wide{ending}"]).embeddings.values()
    assert read.name == "wide"
    assert list(read.genes) == list(table.genes)
    np.testing.assert_allclose(read.matrix, table.matrix, rtol=1e-6)


def test_ways_that_are_none_are_refused(tmp_path):
    with pytest.raises(BadOption):
        completed(SMALL, ["A"], missing="mean")
    with pytest.raises(BadOption):
        transformed(SMALL, "rank")
    with pytest.raises(UnknownFormat):
        write_table(SMALL, tmp_path / "x.pkl")
    assert list(tmp_path.iterdir()) == []
