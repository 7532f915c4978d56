"""Spoilt graphs: exactly as much as asked, and nothing else."""

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from perturbcast.errors import BadOption
from perturbcast.genes.degrade import degraded
from perturbcast.genes.graphs import graph_of_edges

WAYS = ("remove", "add", "rewire", "permute")
RUNS = settings(max_examples=40, deadline=None)


def random_graph(*, seed, directed, n_genes=40, n_edges=90, signs=True):
    rng = np.random.default_rng(seed)
    ends = rng.integers(n_genes, size=(2, n_edges))
    weights = rng.choice(np.arange(1, 10_000), n_edges, replace=False) / 100
    sign = rng.choice([-1.0, 1.0], n_edges) if signs else None
    names = np.array([f"G{number:02d}" for number in range(n_genes)])
    return graph_of_edges("x", names[ends[0]], names[ends[1]], weights=weights, signs=sign, directed=directed)


def edges_of(graph):
    """Edges without loops as pairs of names, an undirected one sorted."""
    rows, columns = graph.weights.nonzero()
    pairs = zip(graph.genes[rows], graph.genes[columns], strict=True)
    return {pair if graph.directed else tuple(sorted(pair)) for pair in pairs if pair[0] != pair[1]}


def degrees(graph):
    pattern = (graph.weights != 0).astype(int)
    return np.asarray(pattern.sum(axis=0)).ravel(), np.asarray(pattern.sum(axis=1)).ravel()


DRAWN = st.tuples(st.integers(0, 10_000), st.booleans(), st.booleans())
SHARES = st.floats(0, 1)


def weights_of(graph):
    proper = sparse.triu(graph.weights, k=1) if not graph.directed else graph.weights
    return sorted(proper.data)


@RUNS
@given(DRAWN, SHARES, st.integers(0, 99))
def test_exactly_the_share_of_edges_is_removed(drawn, share, seed):
    graph = random_graph(seed=drawn[0], directed=drawn[1], signs=drawn[2])
    spoilt = degraded(graph, "remove", share, seed=seed)
    before, after = edges_of(graph), edges_of(spoilt)
    assert after <= before
    assert len(before) - len(after) == int(share * len(before) + 1e-9)
    left = spoilt.weights.toarray()
    np.testing.assert_array_equal(left, np.where(left > 0, graph.weights.toarray(), 0))


@RUNS
@given(DRAWN, SHARES, st.integers(0, 99))
def test_exactly_the_share_of_edges_is_added_between_free_pairs(drawn, share, seed):
    graph = random_graph(seed=drawn[0], directed=drawn[1], signs=drawn[2])
    spoilt = degraded(graph, "add", share, seed=seed)
    before, after = edges_of(graph), edges_of(spoilt)
    assert before <= after
    assert len(after) - len(before) == int(share * len(before) + 1e-9)
    assert set(spoilt.weights.data) == set(graph.weights.data)
    if graph.signs is not None:
        there = graph.weights.toarray() > 0
        np.testing.assert_array_equal(spoilt.signs.toarray()[there], graph.signs.toarray()[there])


@RUNS
@given(DRAWN, st.floats(0, 0.6), st.integers(0, 99))
def test_swaps_keep_every_degree_and_move_exactly_the_share(drawn, share, seed):
    graph = random_graph(seed=drawn[0], directed=drawn[1], signs=drawn[2])
    spoilt = degraded(graph, "rewire", share, seed=seed)
    before, after = edges_of(graph), edges_of(spoilt)
    n_moved = int(share * len(before) + 1e-9)
    assert len(after) == len(before)
    assert len(after - before) == n_moved - n_moved % 2
    np.testing.assert_array_equal(degrees(spoilt), degrees(graph))
    assert weights_of(spoilt) == pytest.approx(weights_of(graph))


@RUNS
@given(DRAWN, SHARES, st.integers(0, 99))
def test_permuted_labels_leave_the_shape_of_the_graph(drawn, share, seed):
    graph = random_graph(seed=drawn[0], directed=drawn[1], signs=drawn[2])
    spoilt = degraded(graph, "permute", share, seed=seed)
    assert list(spoilt.genes) == list(graph.genes)
    kind = networkx.DiGraph if graph.directed else networkx.Graph
    nets = [kind(net.weights) for net in (graph, spoilt)]
    assert networkx.is_isomorphic(*nets, edge_match=lambda one, other: one["weight"] == other["weight"])
    by_weight = [{d["weight"]: {a, b} for a, b, d in net.edges(data=True)} for net in nets]
    moved = set().union(*(by_weight[0][w] - by_weight[1][w] for w in by_weight[0]))
    assert len(moved) <= int(share * len(graph.genes) + 1e-9)


@RUNS
@given(DRAWN, st.sampled_from(WAYS), st.floats(0, 0.5), st.integers(0, 99))
def test_a_spoilt_graph_is_a_graph_of_the_same_kind(drawn, how, share, seed):
    graph = random_graph(seed=drawn[0], directed=drawn[1], signs=drawn[2])
    spoilt = degraded(graph, how, share, seed=seed)
    assert list(spoilt.genes) == list(graph.genes)
    assert spoilt.directed == graph.directed
    assert (spoilt.signs is None) == (graph.signs is None)
    if how != "permute":
        np.testing.assert_allclose(spoilt.weights.diagonal(), graph.weights.diagonal())
    if not graph.directed:
        assert (spoilt.weights != spoilt.weights.T).nnz == 0
    if spoilt.signs is not None:
        assert set(zip(*spoilt.signs.nonzero(), strict=True)) <= set(zip(*spoilt.weights.nonzero(), strict=True))
    again = degraded(graph, how, share, seed=seed)
    assert (again.weights != spoilt.weights).nnz == 0


@pytest.mark.parametrize("how", WAYS)
def test_nothing_is_spoilt_at_share_zero_and_seeds_differ(how):
    graph = random_graph(seed=1, directed=False)
    assert (degraded(graph, how, 0.0, seed=0).weights != graph.weights).nnz == 0
    spoilt = [degraded(graph, how, 0.5, seed=seed).weights for seed in (0, 1)]
    assert (spoilt[0] != spoilt[1]).nnz > 0


def test_removal_is_uniform_over_edges():
    graph = graph_of_edges("x", list("AABC"), list("BCCD"))
    left = [edges_of(degraded(graph, "remove", 0.25, seed=seed)) for seed in range(800)]
    gone = [next(iter(edges_of(graph) - edges)) for edges in left]
    counts = [gone.count(edge) for edge in edges_of(graph)]
    assert max(abs(count - 200) for count in counts) < 5 * np.sqrt(800 * 0.25 * 0.75)


def test_added_pairs_are_uniform_over_free_pairs():
    graph = graph_of_edges("x", list("ABCD"), list("BCDE"))  # a path: 6 free pairs
    added = [next(iter(edges_of(degraded(graph, "add", 0.25, seed=seed)) - edges_of(graph))) for seed in range(900)]
    counts = [added.count(pair) for pair in set(added)]
    assert len(counts) == 6
    assert max(abs(count - 150) for count in counts) < 5 * np.sqrt(900 / 6)


def test_a_star_cannot_be_rewired_and_a_full_graph_not_be_filled():
    star = graph_of_edges("x", list("AAAA"), list("BCDE"))
    with pytest.raises(BadOption, match="swaps end at 0"):
        degraded(star, "rewire", 0.5, seed=0)
    full = graph_of_edges("x", list("AAB"), list("BCC"))
    with pytest.raises(BadOption, match="only 0 pairs"):
        degraded(full, "add", 0.5, seed=0)


@pytest.mark.parametrize(("how", "share"), [("shuffle", 0.1), ("remove", -0.1), ("add", 1.1), ("permute", np.nan)])
def test_other_ways_and_shares_are_refused(how, share):
    with pytest.raises(BadOption):
        degraded(random_graph(seed=0, directed=True), how, share, seed=0)
