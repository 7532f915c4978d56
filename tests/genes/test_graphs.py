"""Graphs, gene sets and their likenesses, against plain loops over pairs."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from perturbcast.errors import BadOption
from perturbcast.genes.graphs import gene_sets_of, graph_of_edges, jaccard_graph, lots, shared_sets_graph, strongest
from perturbcast.genes.knowledge import EmbeddingTable, align
from perturbcast.genes.similarity import diffusion, idf_cosine, idf_weights, jaccard

GENES = [f"G{number}" for number in range(8)]
SETS = st.lists(st.lists(st.sampled_from(GENES), min_size=1, max_size=6), min_size=1, max_size=10)
SOME_SETS = gene_sets_of("x", [("A", ["G1", "G2"]), ("B", ["G2", "G3", "G4"]), ("C", ["G1", "G2", "G5"])])


def test_repeated_edges_keep_the_largest_weight_and_go_both_ways():
    graph = graph_of_edges("x", ["B", "A", "A"], ["A", "B", "A"], weights=np.array([1.0, 3.0, 9.0]))
    assert list(graph.genes) == ["A", "B"]
    assert graph.weights.toarray().tolist() == [[0, 3], [3, 0]]
    assert graph.signs is None


def test_directed_edges_keep_their_direction_their_loops_and_their_signs():
    signs = np.array([1, -1, 0, -1, -1])
    graph = graph_of_edges("x", list("AABBC"), list("BBCBC"), signs=signs, directed=True)
    assert graph.weights.toarray().tolist() == [[0, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert graph.signs.toarray().tolist() == [[0, 0, 0], [0, -1, 0], [0, 0, -1]]


def test_rows_follow_the_genes_asked_for_and_are_zero_where_unknown():
    table = EmbeddingTable("x", np.array(["A", "B"], dtype=object), np.array([[1, 2], [3, 4]], dtype=np.float32))
    rows, known = table.rows(["B", "?", "A", "B"])
    assert rows.tolist() == [[3, 4], [0, 0], [1, 2], [3, 4]]
    assert known.tolist() == [True, False, True, True]
    rows, known = align(SOME_SETS, ["G5", "?", "G2"])
    assert rows.toarray().tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 1]]
    assert known.tolist() == [True, False, True]


def test_rows_and_squares_of_graphs_agree():
    graph = graph_of_edges("x", ["A", "B"], ["B", "C"], weights=np.array([2.0, 5.0]))
    rows, known = graph.rows(["C", "?", "B"])
    assert rows.toarray().tolist() == [[0, 5, 0], [0, 0, 0], [2, 0, 5]]
    square, known_too = graph.between(["C", "?", "B"])
    assert square.toarray().tolist() == [[0, 0, 5], [0, 0, 0], [5, 0, 0]]
    assert known.tolist() == known_too.tolist() == [True, False, True]


def test_asking_for_no_genes_gives_no_rows():
    rows, known = SOME_SETS.rows([])
    assert rows.shape == (0, 3)
    assert len(known) == 0


def test_sets_of_one_name_are_united():
    sets = gene_sets_of("x", [("A", ["G2", "G1"]), ("B", ["G3"]), ("A", ["G3", "G1"])])
    assert sets.sets == ("A", "B")
    assert sets.membership.toarray().tolist() == [[1, 0], [1, 0], [1, 1]]


@given(SETS)
def test_jaccard_is_intersection_over_union(drawn):
    sets = gene_sets_of("x", [(str(number), genes) for number, genes in enumerate(drawn)])
    rows, _ = sets.rows(GENES)
    similar = jaccard(rows)
    own = [{number for number, genes in enumerate(drawn) if gene in genes} for gene in GENES]
    for (i, a), (j, b) in itertools.product(enumerate(own), repeat=2):
        assert similar[i, j] == pytest.approx(len(a & b) / len(a | b) if a | b else 0.0)


@given(SETS)
def test_weighted_cosine_counts_small_sets_more(drawn):
    sets = gene_sets_of("x", [(str(number), genes) for number, genes in enumerate(drawn)])
    weights = idf_weights(sets.membership)
    rows, _ = sets.rows(GENES)
    similar = idf_cosine(rows, set_weights=weights)
    n_genes = len({gene for genes in drawn for gene in genes})
    idf = [math.log(n_genes / len(set(genes))) for genes in drawn]
    vectors = np.array([[w * (gene in genes) for w, genes in zip(idf, drawn, strict=True)] for gene in GENES])
    norms = np.linalg.norm(vectors, axis=1)
    expected = vectors @ vectors.T / np.maximum(np.outer(norms, norms), 1e-300)
    np.testing.assert_allclose(similar, np.where(np.outer(norms, norms) > 0, expected, 0.0), atol=1e-9)


def test_a_jaccard_graph_is_symmetric_without_loops():
    graph = jaccard_graph(SOME_SETS)
    dense = graph.weights.toarray()
    np.testing.assert_array_equal(dense, dense.T)
    assert not dense.diagonal().any()
    assert dense[0, 1] == pytest.approx(2 / 3)
    assert not graph.directed


def test_similarity_graphs_are_cut_by_weight_and_number():
    everything = jaccard_graph(SOME_SETS).weights
    strong = jaccard_graph(SOME_SETS, minimum=0.5).weights
    assert strong.nnz < everything.nnz
    assert strong.data.min() > 0.5
    one_each = jaccard_graph(SOME_SETS, top=1).weights
    assert (np.diff(one_each.indptr) >= 1).all()
    best = np.asarray(everything.max(axis=1).todense()).ravel()
    np.testing.assert_allclose(np.asarray(one_each.max(axis=1).todense()).ravel(), best)


def test_blocks_of_rows_do_not_change_a_similarity_graph(monkeypatch):
    whole = shared_sets_graph(SOME_SETS, top=2).weights.toarray()
    monkeypatch.setattr("perturbcast.genes.graphs.BLOCK", 2)
    np.testing.assert_array_equal(shared_sets_graph(SOME_SETS, top=2).weights.toarray(), whole)


def test_a_similarity_graph_of_some_genes_names_only_those():
    graph = jaccard_graph(SOME_SETS, genes=["G5", "?", "G1"])
    assert list(graph.genes) == ["G5", "G1"]
    assert graph.weights[0, 1] == pytest.approx(1 / 2)


def test_drawn_ties_prefer_no_gene_and_do_not_hang_on_the_order_of_genes():
    names = np.array([f"GENE{number:03d}" for number in range(200)], dtype=object)
    everyone = sparse.csr_matrix(np.ones((200, 200)) - np.eye(200))
    kept = strongest(everyone, 10, ties=(lots(names), lots(names))).toarray()
    assert (kept.sum(axis=1) == 10).all()
    assert kept.sum(axis=0).max() < 40  # by place, ten genes would be kept by all 200
    order = np.random.default_rng(0).permutation(200)
    shuffled = strongest(everyone, 10, ties=(lots(names[order]), lots(names[order]))).toarray()
    np.testing.assert_array_equal(shuffled, kept[np.ix_(order, order)])
    stronger = everyone.toarray()
    stronger[:, :3] += np.where(stronger[:, :3] > 0, 1.0, 0.0)
    assert strongest(sparse.csr_matrix(stronger), 10, ties=(lots(names), lots(names))).toarray()[3:, :3].all()


def test_the_strongest_entries_of_each_row_are_kept_first_columns_first():
    matrix = jaccard_graph(SOME_SETS).weights
    kept = strongest(matrix, 2)
    dense = matrix.toarray()
    for row in range(len(dense)):
        best = sorted(np.flatnonzero(dense[row]), key=lambda column: (-dense[row, column], column))[:2]
        assert list(np.flatnonzero(kept[[row]].toarray())) == sorted(best)


def test_diffusion_is_a_random_walk_with_restart():
    graph = graph_of_edges("x", ["A", "B"], ["B", "C"], weights=np.array([1.0, 3.0]))
    found, known = diffusion(graph, ["A", "?", "B"], restart=0.3, n_steps=200)
    step = np.array([[0, 1, 0], [0.25, 0, 0.75], [0, 1, 0]])
    exact = 0.3 * np.linalg.inv(np.eye(3) - 0.7 * step)
    np.testing.assert_allclose(found[[0, 2]], exact[[0, 1]], atol=1e-12)
    assert known.tolist() == [True, False, True]
    assert not found[1].any()


def test_diffusion_rows_sum_to_one_after_any_number_of_steps():
    graph = graph_of_edges("x", ["A", "B", "D"], ["B", "C", "D"], directed=True)
    for n_steps in (1, 2, 5):
        found, _ = diffusion(graph, graph.genes, n_steps=n_steps)
        np.testing.assert_allclose(found.sum(axis=1), 1.0)


@pytest.mark.parametrize("fields", [{"restart": 0.0}, {"restart": 1.5}, {"n_steps": 0}])
def test_a_walk_that_is_none_is_refused(fields):
    with pytest.raises(BadOption):
        diffusion(graph_of_edges("x", ["A"], ["B"]), ["A"], **fields)
