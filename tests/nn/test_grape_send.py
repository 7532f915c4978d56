"""What GRAPE's targets send: neighbours and never themselves, sums over targets, answers that depend on no other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from perturbcast.nn.grape_parts import error_and_ranks
from perturbcast.nn.grape_send import HEARD, Sending, heard_edges
from perturbcast.nn.nodes import Edges
from perturbcast.nn.response_axes import response_axes
from perturbcast.nn.response_net import Rows

N, CORE = 8, 6
GRAPHS = {
    "first": Edges(np.array([0, 1, 2, 3, 7]), np.array([1, 1, 0, 7, 2]), np.array([2.0, 5.0, 1.0, 1.0, 1.0])),
    "second": Edges(np.array([2, 4]), np.array([1, 1]), np.array([1.0, 3.0])),
}


@pytest.fixture
def sending():
    torch.manual_seed(0)
    found = Sending(
        {"text": 4}, n_graphs=2, n_core=CORE, n_state=3, width=5, rank=2, dropout=0.3, n_genes=CORE, rows=None
    ).eval()
    torch.nn.init.normal_(found.turn)
    torch.nn.init.normal_(found.code.weight)
    return found


def sent(sending, slots, features, states=None):
    heard = [torch.from_numpy(array) for array in heard_edges(GRAPHS, n_core=CORE, n_nodes=N).values()]
    states = torch.zeros(N, 3) if states is None else states
    with torch.no_grad():
        return sending(torch.tensor(slots), sending.known({"text": features}), states, heard)


def test_edges_come_from_other_core_genes_and_weights_of_a_destination_add_to_one():
    source, weight, first = heard_edges(GRAPHS, n_core=CORE, n_nodes=N).values()
    of = {(g, i): list(range(first[g * N + i], first[g * N + i + 1])) for g in range(2) for i in range(N)}
    assert source[of[0, 1]].tolist() == [0]  # itself is no neighbour
    assert source[of[0, 7]].tolist() == [3]
    assert of[0, 2] == []  # node 7 is beyond the core
    assert source[of[1, 1]].tolist() == [2, 4]
    np.testing.assert_allclose(weight[of[1, 1]], [0.25, 0.75])


def test_own_free_state_of_a_target_has_no_say_but_those_of_its_neighbours_have(sending):
    features = torch.randn(N, 4)
    before = sent(sending, [[1]], features)
    with torch.no_grad():
        sending.free[1] += 1.0
    torch.testing.assert_close(sent(sending, [[1]], features), before, rtol=0, atol=0)
    for neighbour in (0, 2, 4):
        with torch.no_grad():
            sending.free[neighbour] += 1.0
        after = sent(sending, [[1]], features)
        assert not torch.allclose(after, before)
        before = after


def test_targets_add_up_and_kappa_weighs_combinations_alone(sending):
    features, states = torch.randn(N, 4), torch.randn(N, 3)
    both, first, second, none = sent(sending, [[1, 7], [1, -1], [7, -1], [-1, -1]], features, states)
    torch.testing.assert_close(both, first + second)
    assert not none.any()
    with torch.no_grad():
        sending.over_additive.fill_(-0.5)
    torch.testing.assert_close(sent(sending, [[1, 7]], features, states)[0], 0.5 * both)
    torch.testing.assert_close(sent(sending, [[1, -1]], features, states)[0], first)


def test_read_out_starts_at_the_axes_of_training_responses():
    rng = np.random.default_rng(0)
    target = np.outer(rng.normal(size=9), rng.normal(size=CORE)) + 1e-6
    rows = Rows(np.zeros((9, 1), dtype=np.int64), target, np.ones(9), np.ones(CORE), train=np.arange(5))
    (axis, *_) = response_axes(rows, rank=3, n_genes=CORE)
    assert abs(float(torch.corrcoef(torch.stack([axis, torch.from_numpy(target[0]).float()]))[0, 1])) > 0.999
    assert float(axis.norm()) == pytest.approx(CORE**0.5, rel=1e-5)
    unlike = replace(rows, target=np.concatenate([target[:5], rng.normal(size=(4, CORE))]))
    assert torch.equal(response_axes(unlike, rank=3, n_genes=CORE)[0], axis)  # rows left out have no part
    assert tuple(HEARD) == tuple(heard_edges(GRAPHS, n_core=CORE, n_nodes=N))


def test_error_and_ranks_is_one_without_a_prediction_and_nought_for_a_perfect_one():
    target = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    assert error_and_ranks(torch.zeros_like(target), target) == pytest.approx(1.0)
    assert error_and_ranks(target, target) == pytest.approx(0.0, abs=1e-6)
    assert error_and_ranks(0.1 * target, target) == pytest.approx(0.45)  # too small, and yet each finds its own
    assert error_and_ranks(-target, target) == pytest.approx(2.0)
    assert error_and_ranks(0.5 * target[:1], target[:1]) == pytest.approx(0.5)  # one row has nothing to be told from
