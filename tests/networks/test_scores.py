"""Network scores against known rankings, an independent implementation, and the simulated truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import average_precision_score, roc_auc_score

from perturbcast.data.simulate import simulate
from perturbcast.errors import BadOption, NoEvaluablePair, NoOverlap, UnknownGenes
from perturbcast.networks.network import Network
from perturbcast.networks.ranking import area_under_roc, average_precision, expected_hits
from perturbcast.networks.scores import (
    direct_or_indirect,
    precision_recall,
    score_against,
    score_directness,
    score_network,
    truth_of_world,
    undirected,
)
from perturbcast.networks.topology import degrees, hops, neighbourhood, reachable
from perturbcast.networks.universe import Universe, universe_of


def of(edges, genes="abcd"):
    codes = np.array([[genes.index(edge[0]), genes.index(edge[1])] for edge in edges], dtype=np.int64).reshape(-1, 2)
    signs = np.array([{"-": -1, "+": 1}.get(edge[2:], 0) for edge in edges], dtype=float)
    return Network.of_edges(list(genes), codes[:, 0], codes[:, 1], np.arange(len(edges), 0, -1.0), sign=signs)


ALL = Universe(tuple("abcd"), tuple("abcd"))


def values(network, truth, universe=ALL, **options):
    return {score.score: score for score in score_network(network, truth, universe=universe, **options)}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), digits=st.integers(0, 3))
def test_areas_agree_with_scikit_learn_ties_included(seed, digits):
    rng = np.random.default_rng(seed)
    score, is_true = np.round(rng.random(30), digits), rng.random(30) < 0.3
    is_true[:2] = True, False
    assert average_precision(score, is_true) == pytest.approx(average_precision_score(is_true, score))
    assert area_under_roc(score, is_true) == pytest.approx(roc_auc_score(is_true, score))


def test_expected_hits_share_ties_evenly():
    score, value = np.array([3.0, 1.0, 1.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    assert expected_hits(score, value, 1) == 0
    assert expected_hits(score, value, 2) == pytest.approx(2 / 3)
    assert expected_hits(score, value, 4) == 2
    assert expected_hits(score, value, 99) == 3


def test_oracle_o24():
    assert precision_recall(of(["ab", "bc"], "abc"), of(["ab", "ca", "ac"], "abc")) == pytest.approx((1 / 2, 1 / 3))


def test_the_truth_itself_scores_perfectly():
    truth = of(["ab+", "bc-", "cd+"])
    found = values(truth, truth)
    assert [found[name].value for name in ("auprc", "auroc", "early_precision", "signed_accuracy")] == [1, 1, 1, 1]
    assert found["epr"].value == pytest.approx(12 / 3)
    assert found["auprc"].chance == pytest.approx(3 / 12)


def test_an_empty_network_scores_as_chance_does():
    found = values(of([]), of(["ab", "bc"]))
    assert found["auprc"].value == pytest.approx(found["auprc"].chance)
    assert found["auroc"].value == 0.5
    assert found["early_precision"].value == 0  # pairs without an edge are no guesses
    assert np.isnan(found["signed_accuracy"].value)


def test_self_loops_and_pairs_outside_the_universe_do_not_count():
    truth = of(["ab", "cd", "da"])
    small = Universe(("a",), tuple("abcd"))
    loops = Network.of_matrix(list("abcd"), np.eye(4) * 9 + np.array([[0, 1, 0, 0]] + [[0] * 4] * 3))
    assert values(loops, truth, small)["auprc"].value == 1
    assert values(loops, truth, small)["auprc"].chance == pytest.approx(1 / 3)


def test_signs_are_compared_on_true_edges_only():
    assert values(of(["ab-", "bc-", "ac+"]), of(["ab+", "bc-", "cd+"]))["signed_accuracy"].value == 0.5


def test_scores_do_not_depend_on_the_order_of_genes():
    rng = np.random.default_rng(0)
    weights = rng.random((6, 6))
    truth = Network.of_matrix(list("abcdef"), rng.random((6, 6)) < 0.3)
    order = rng.permutation(6)
    moved = Network.of_matrix([list("abcdef")[place] for place in order], weights[np.ix_(order, order)])
    universe = Universe(tuple("abcd"), tuple("abcdef"))
    straight = values(Network.of_matrix(list("abcdef"), weights), truth, universe)
    assert {name: score.value for name, score in values(moved, truth, universe).items()} == pytest.approx(
        {name: score.value for name, score in straight.items()}, nan_ok=True
    )


def test_intervals_hold_the_value_and_repeat_with_the_seed():
    rng = np.random.default_rng(1)
    names = [f"g{number}" for number in range(30)]
    truth = Network.of_matrix(names, rng.random((30, 30)) < 0.2)
    guess = Network.of_matrix(names, rng.random((30, 30)) + 0.3 * truth.between(names, names))
    universe = Universe(tuple(names), tuple(names))
    one, two = (values(guess, truth, universe, n_bootstrap=100, seed=3) for _ in range(2))
    assert one["auprc"] == two["auprc"]
    assert one["auprc"].low < one["auprc"].value < one["auprc"].high


def test_direct_and_indirect_pairs_are_told_apart():
    truth = of(["ab", "bc", "cd"])
    direct, indirect = direct_or_indirect(truth, ALL)
    assert direct.sum() == 3
    assert indirect.sum() == 3  # ac, ad, bd
    total = of(["ab", "ac", "ad", "bc", "bd", "cd"])  # total effects, strongest from a
    found = score_directness(total, truth, universe=ALL)
    assert found["top_direct"] == pytest.approx(1 / 3)
    assert found["top_indirect"] == pytest.approx(2 / 3)
    assert found["chance_direct_among_linked"] == 0.5
    assert score_directness(truth, truth, universe=ALL)["auprc_direct_among_linked"] == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), most=st.integers(1, 6))
def test_paths_are_those_of_boolean_matrix_powers(seed, most):
    rng = np.random.default_rng(seed)
    adjacency = rng.random((7, 7)) < 0.2
    power, within = np.eye(7, dtype=int), np.zeros((7, 7), dtype=bool)
    shortest = np.zeros((7, 7), dtype=int)
    for length in range(1, most + 1):
        power = ((power @ adjacency) > 0).astype(int)
        shortest[(shortest == 0) & (power > 0)] = length
        within |= power > 0
    np.fill_diagonal(shortest, 0)
    np.testing.assert_array_equal(reachable(adjacency, max_path=most), within)
    sources = np.array([4, 0, 6])
    found = hops(sparse.csr_matrix(adjacency.astype(float)), sources=sources, most=most)
    np.testing.assert_array_equal(found, shortest[sources])
    if most == 6:
        assert (reachable(adjacency) >= within).all()


def test_hubs_come_first_and_neighbourhoods_keep_the_strongest():
    network = of(["ab+", "ac-", "ad+", "bc+"])
    table = degrees(network)
    assert table["gene"].tolist() == ["a", "b", "c", "d"]
    assert table.loc[0, ["out_degree", "in_degree", "activates", "represses"]].tolist() == [3, 0, 2, 1]
    near = neighbourhood(network, ["a"], n_neighbours=1)
    assert near.genes.tolist() == ["a", "b"]
    assert near.n_edges == 1
    with pytest.raises(UnknownGenes):
        neighbourhood(network, ["x"])


def test_a_reference_is_scored_among_the_genes_it_knows():
    network = of(["ab", "ac", "ba", "da"])
    reference = of(["ac", "ca"], "acz")
    table = score_against(network, reference, universe=ALL).set_index("score")
    assert table["n_sources"].unique().tolist() == [2]  # a and c regulate in the reference
    assert table["n_pairs"].unique().tolist() == [2]  # ac, ca
    both = score_against(network, of(["ca"], "acz"), universe=ALL, directed=False).set_index("score")
    assert both["n_true"].unique().tolist() == [2]
    with pytest.raises(NoOverlap):
        score_against(network, of(["yz"], "yz"), universe=ALL)
    with pytest.raises(NoEvaluablePair):
        score_network(network, of(["yz"], "yz"), universe=ALL)


def test_undirected_keeps_the_stronger_weight():
    both = undirected(of(["ab", "ba", "cd"]))
    assert both.weights[0, 1] == both.weights[1, 0] == 3
    assert both.weights[3, 2] == 1


def test_paths_shorter_than_one_edge_are_refused():
    with pytest.raises(BadOption):
        reachable(np.eye(2, dtype=bool), max_path=0)
    with pytest.raises(BadOption):
        hops(sparse.csr_matrix(np.eye(2)), sources=np.array([0]), most=0)


@pytest.fixture(scope="module")
def world():
    return simulate(n_cells=300, n_genes=80, n_targets=15, n_doubles=0, seed=2)


def test_truth_of_a_world_is_its_network_without_self_regulation(world):
    truth, edges = truth_of_world(world), world.network.edges()
    other = edges[edges["source"] != edges["target"]]
    assert truth.n_edges == len(other)
    strongest = other.iloc[0]
    assert truth.edges().loc[0, ["source", "target"]].tolist() == strongest[["source", "target"]].tolist()
    assert truth.sign[0] == np.sign(strongest["weight"])
    universe = universe_of(world.screen)
    assert set(universe.sources) == set(world.targets) & {str(gene) for gene in world.genes}
