"""The network value: order, self-loops, choosing edges, and what it refuses."""

import numpy as np
import pytest

from perturbcast.errors import BadNetwork, BadOption, UnknownGenes, UnknownOption
from perturbcast.networks.network import EDGE_TABLE, Network

GENES = ["A", "B", "C", "D"]


def network(**details):
    weights = np.array([[9, 2, 0, 1], [0, 0, 3, 0], [0.5, 0, 7, 0], [0, 0, 0, 0]], dtype=float)
    return Network.of_matrix(GENES, weights, **details)


def pairs(net):
    frame = net.edges()
    return [f"{a}{b}" for a, b in zip(frame["source"], frame["target"], strict=True)]


def test_edges_come_strongest_first_without_self_loops():
    assert pairs(network()) == ["BC", "AB", "AD", "CA"]
    assert list(network().edges()) == list(EDGE_TABLE)


def test_equal_weights_are_ordered_by_name_whatever_the_order_of_genes():
    shuffled = Network.of_matrix(["C", "A", "B"], np.ones((3, 3)))
    assert pairs(shuffled) == ["AB", "AC", "BA", "BC", "CA", "CB"]


def test_permuting_genes_permutes_the_matrix_and_keeps_the_edges():
    order = np.array([2, 0, 3, 1])
    weights = network().weights.toarray()
    moved = Network.of_matrix([GENES[place] for place in order], weights[np.ix_(order, order)])
    assert moved.edges().equals(network().edges())


def test_top_and_threshold_take_the_strongest():
    assert pairs(network().top(2)) == ["BC", "AB"]
    assert network().top(0).n_edges == 0
    assert network().top(99).n_edges == 4
    assert pairs(network().threshold(1.0)) == ["BC", "AB"]  # strictly above
    probability = np.full((4, 4), 0.2)
    probability[0, 3] = 0.9
    assert pairs(network(columns={"probability": probability}).threshold(0.5, column="probability")) == ["AD"]


def test_matrix_and_edges_say_the_same():
    net = network(sign=np.sign(np.arange(16).reshape(4, 4) - 6))
    again = Network.of_matrix(GENES, net.weights, sign=net.signs.toarray())
    assert again.edges().equals(net.edges())
    assert net.signs[0, 1] == -1
    np.testing.assert_array_equal(net.between(["B", "X"], ["C", "A"]), [[3.0, 0.0], [0.0, 0.0]])
    assert np.isnan(net.between(["B"], ["A"], missing=np.nan)).all()


def test_among_reorders_keeps_flags_and_refuses_unknown_genes():
    net = network(is_perturbed=np.array([True, True, True, False]), is_extended=np.array([False, False, False, True]))
    wider = net.among(["D", "C", "B", "A", "E"])
    assert pairs(wider) == pairs(net)
    assert wider.is_extended.tolist() == [True, False, False, False, False]
    assert wider.edges()["extended"].tolist() == net.edges()["extended"].tolist() == [False, False, True, False]
    with pytest.raises(UnknownGenes, match=r"E806 .*1 of 4 genes .*'D'"):
        net.among(["A", "B", "C"])
    assert pairs(net.among(["A", "B", "C"], unknown="drop")) == ["BC", "AB", "CA"]


def test_a_network_survives_becoming_a_prior_graph():
    net = network(sign=np.array([[0, 1, 0, -1], [0, 0, 1, 0], [-1, 0, 0, 0], [0, 0, 0, 0]]))
    again = Network.from_graph(net.as_graph())
    columns = ["source", "target", "weight", "sign"]
    assert again.edges()[columns].equals(net.edges()[columns])


@pytest.mark.parametrize(
    ("error", "make"),
    [
        (BadOption, lambda: network().top(-1)),
        (BadOption, lambda: network().threshold(0.5, column="probability")),
        (BadOption, lambda: network().among(GENES, unknown="ignore")),
        (UnknownOption, lambda: network().column("probabilty")),
        (UnknownOption, lambda: network(columns={"q": np.zeros((4, 4))})),
        (BadNetwork, lambda: Network.of_matrix(["A", "A"], np.ones((2, 2)))),
        (BadNetwork, lambda: Network.of_matrix(["A", "B"], -np.ones((2, 2)))),
        (BadNetwork, lambda: Network.of_matrix(["A", "B"], np.full((2, 2), np.nan))),
        (BadNetwork, lambda: Network.of_matrix(["A", "B"], np.ones((2, 2)), sign=np.full((2, 2), 3))),
        (BadNetwork, lambda: Network.of_matrix(["A"], np.ones((2, 2)))),
        (BadNetwork, lambda: Network.of_edges(GENES, np.array([0, 0]), np.array([1, 1]), np.ones(2))),
        (BadNetwork, lambda: Network.of_edges(GENES, np.array([0, 0]), np.array([1, 2]), np.ones(1))),
    ],
)
def test_what_cannot_be_is_refused_with_a_code(error, make):
    with pytest.raises(error):
        make()
