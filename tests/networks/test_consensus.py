"""What several networks of one method say together."""

import numpy as np
import pytest

from perturbcast.errors import BadOption
from perturbcast.networks.network import Network
from perturbcast.networks.stability import consensus

GENES = ("A", "B", "C", "D")


def network(edges, *, extended=()):
    """A network of {(source, target): signed weight}."""
    place = {name: number for number, name in enumerate(GENES)}
    codes = np.array([[place[a], place[b]] for a, b in edges], dtype=np.int64)
    values = np.array(list(edges.values()))
    return Network.of_edges(
        GENES,
        codes[:, 0],
        codes[:, 1],
        np.abs(values),
        sign=np.sign(values),
        columns={"probability": np.full(len(values), 0.8)},
        is_perturbed=np.array([name in {a for a, _ in edges} for name in GENES]),
        is_extended=np.array([name in extended for name in GENES]),
        method="m",
    )


def edge(found, source, target):
    return next(row for row in found.edges().itertuples() if (row.source, row.target) == (source, target))


def test_a_source_that_a_fit_did_not_know_does_not_count_against_its_edges():
    both = {("A", "B"): 2.0, ("B", "C"): -1.0}
    only = {("A", "B"): 4.0}  # a fold in which B was held back
    found = consensus([network(both), network(only, extended=("B",))])
    assert edge(found, "A", "B").weight == 3.0
    assert edge(found, "B", "C").weight == 1.0
    assert edge(found, "B", "C").sign == -1
    assert edge(found, "B", "C").probability == pytest.approx(0.8)
    assert found.is_perturbed.tolist() == [True, True, False, False]
    assert not found.is_extended.any()


def test_stability_counts_the_fits_in_which_an_edge_is_among_the_strongest():
    first = {("A", "B"): 3.0, ("A", "C"): 2.0, ("A", "D"): 1.0}
    second = {("A", "B"): 3.0, ("A", "D"): 2.0}
    found = consensus([network(first), network(second)], top=2)
    assert [edge(found, "A", gene).stability for gene in "BCD"] == [1.0, 0.5, 0.5]
    assert edge(found, "A", "C").weight == 1.0  # absent from a fit that knows its source: 0 there


def test_opposite_signs_cancel_and_one_network_is_itself():
    found = consensus([network({("A", "B"): 2.0}), network({("A", "B"): -2.0})])
    assert edge(found, "A", "B").sign == 0
    own = network({("A", "B"): 2.0, ("C", "D"): -1.0})
    same = consensus([own])
    assert same.edges()[["source", "target", "weight", "sign"]].equals(
        own.edges()[["source", "target", "weight", "sign"]]
    )
    with pytest.raises(BadOption):
        consensus([])
