"""The oracles of the specification (13): numbers worked out beforehand, to eight digits."""

import numpy as np
import pytest
import torch

from perturbcast.nn.batch import Batch
from perturbcast.nn.counts import CountHead, negative_binomial_log_prob
from perturbcast.nn.divergences import bernoulli_kl, importance_weighted_bound, normal_kl, standard_normal_kl
from perturbcast.nn.hops import hops, probability_hops, reach
from perturbcast.nn.masks import straight_through_mask
from perturbcast.nn.plates import charged, per_cell_share
from perturbcast.nn.standardise import Standardise
from perturbcast.nn.trunk import Gaussian


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def whole(weights, n_hops):
    """T̂_K of a matrix."""
    return hops(torch.eye(len(weights), dtype=torch.float64), weights, n_hops=n_hops)


def close(found, expected, tolerance=5e-9):
    torch.testing.assert_close(found, tensor(expected), rtol=tolerance, atol=tolerance)


CHAIN = tensor([[0, 2, 0], [0, 0, 3], [0, 0, 0]])
CYCLE = tensor([[0, 3, 0], [0, 0, 3], [3, 0, 0]])


def test_o1_chain_reaches_its_end_from_one_hop_on():
    close(whole(CHAIN, 0), CHAIN.tolist())
    for n_hops in (1, 2, 5):
        close(whole(CHAIN, n_hops), [[0, 2, 2], [0, 0, 3], [0, 0, 0]])


def test_o2_cycle_tells_k_from_k_plus_one():
    close(whole(CYCLE, 0), CYCLE.tolist())
    close(whole(CYCLE, 1), [[0, 3, 3], [3, 0, 3], [3, 3, 0]])
    close(whole(CYCLE, 2), np.full((3, 3), 3.0).tolist())
    close(whole(CYCLE, 5), np.full((3, 3), 6.0).tolist())


@pytest.mark.parametrize(("entry", "expected"), [(-0.8, -0.327936), (-0.5, -0.328125), (-0.4, -0.284544)])
@pytest.mark.parametrize("n", [2, 7])
def test_o3_constant_matrix(entry, expected, n):
    close(whole(torch.full((n, n), entry, dtype=torch.float64), 5), np.full((n, n), expected).tolist())


def test_o3_constant_matrix_cannot_fall_below_its_minimum():
    least = min(float(whole(torch.full((3, 3), a, dtype=torch.float64), 5).min()) for a in np.linspace(-1, 0, 2001))
    assert least == pytest.approx(-0.364906, abs=1e-6)


def test_o4_probability_branch_scales_columns():
    found = probability_hops(torch.eye(2, dtype=torch.float64), tensor([[0.5, 0.5], [0.25, 0.75]]), n_hops=2)
    close(found, [[1, 0], [0, 1]])


@pytest.mark.parametrize("n_hops", [0, 1, 4])
def test_hops_are_the_sum_of_powers(n_hops):
    rng = np.random.default_rng(0)
    weights, rows = rng.normal(size=(6, 6)), rng.normal(size=(4, 6))
    powers = sum(np.linalg.matrix_power(weights, k) / 6 ** (k - 1) for k in range(1, n_hops + 2))
    close(hops(torch.from_numpy(rows), torch.from_numpy(weights), n_hops=n_hops), (rows @ powers).tolist(), 1e-10)


def test_reach_is_the_edge_itself_without_hops_and_grows_with_them():
    probability = torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.2
    rows = torch.eye(5, dtype=torch.float64)
    direct = reach(rows, probability, n_hops=0)
    close(direct, (probability * (1 - rows)).tolist(), 1e-12)
    further = reach(rows, probability, n_hops=3)
    assert bool((further >= direct).all())
    assert bool((further <= 1).all())
    assert float((further - direct).max()) > 0.01


def test_reach_of_absent_edges_is_nothing():
    assert float(reach(torch.eye(4), torch.zeros(4, 4), n_hops=5).abs().max()) == 0.0


NB = [((3, 2, 1), -2.31500761, -2.31499095), ((0, 2, 0.5), -0.80471896, -0.80473896)]
NB += [((2, 3, 2), -1.75562042, -1.75563376), ((10, 4, 1.5), -3.82509165, -3.82505074)]


@pytest.mark.parametrize(("given", "exact", "shifted"), NB)
def test_o7_negative_binomial(given, exact, shifted):
    counts, mean, dispersion = (tensor(float(value)) for value in given)
    assert float(negative_binomial_log_prob(counts, mean, dispersion, epsilon=0.0)) == pytest.approx(exact, abs=6e-9)
    assert float(negative_binomial_log_prob(counts, mean, dispersion)) == pytest.approx(shifted, abs=6e-9)


def head_with(shares):
    """A head that gives those shares whatever the units."""
    head = CountHead(1, len(shares)).double()
    with torch.no_grad():
        head.share.weight.zero_()
        head.share.bias.copy_(torch.log(tensor(shares)))
    return head


def test_o8_library_head():
    head, counts = head_with([0.5, 0.3, 0.2]), tensor([[40, 35, 0], [40, 35, 0]])
    found = head.log_prob(torch.zeros(2, 1, dtype=torch.float64), counts, tensor([100, 75]))
    each = negative_binomial_log_prob(counts[0], tensor([50, 30, 20]), tensor([1, 1, 1]))
    close(each, [-4.72393112, -4.58163047, -3.04452720], 6e-9)
    assert found.tolist() == pytest.approx([-12.35008878, -12.15492235], abs=2e-8)


def test_head_is_the_plain_formula_and_its_gradient_is_right():
    rng = np.random.default_rng(0)
    head = CountHead(3, 5).double()
    with torch.no_grad():
        head.log_dispersion.copy_(torch.from_numpy(rng.normal(size=5)))
    units = torch.from_numpy(rng.normal(size=(2, 4, 3))).requires_grad_()
    counts, library = torch.from_numpy(rng.poisson(3, size=(4, 5)).astype(float)), tensor([5, 10, 20, 40])
    mean = torch.exp(head.log_share(units)) * library[:, None]
    plain = negative_binomial_log_prob(counts, mean, torch.exp(head.log_dispersion)).sum(-1)
    torch.testing.assert_close(head.log_prob(units, counts, library), plain)
    parameters = tuple(head.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(head.log_prob(units, counts, library).sum(), (units, *parameters)),
        torch.autograd.grad(plain.sum(), (units, *parameters)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(lambda given: head.log_prob(given, counts, library), units)


def test_o9_bernoulli_divergence():
    for (probability, prior), expected in {
        (0.5, 0.3): 0.08717669,
        (0.9, 0.3): 0.79416004,
        (0.5, 0.01): 1.61446308,
        (0.5, 0.001): 2.76123071,
    }.items():
        found = bernoulli_kl(torch.logit(tensor(probability)), prior)
        assert float(found) == pytest.approx(expected, abs=6e-9)


def test_o10_normal_divergence():
    one, half = Gaussian(tensor(1.0), tensor(4.0)), Gaussian(tensor(1.0), tensor(0.25))
    assert float(standard_normal_kl(one)) == pytest.approx(1.30685282, abs=6e-9)
    assert float(normal_kl(one, Gaussian(tensor(0.0), tensor(1.0)))) == pytest.approx(1.30685282, abs=6e-9)
    exact = normal_kl(half, Gaussian(tensor(0.0), tensor(4.0)))
    assert float(exact) == pytest.approx(1.04254436, abs=6e-9)
    assert 0.1 * 2 * float(exact) == pytest.approx(0.20850887, abs=6e-9)


def test_o11_plates_charge_each_cell_its_share():
    received, n_trained = tensor([[1, 0], [1, 0], [0, 1], [0, 0]]), tensor([2, 1])
    found = charged(per_cell_share(received, n_trained), tensor([[3, 5]]))
    close(found, [[1.5, 1.5, 5, 0]])
    assert float(found.mean()) == 2.0


def test_perturbation_without_training_cells_is_charged_nothing():
    assert per_cell_share(tensor([[1, 1]]), tensor([0, 4])).tolist() == [[0.0, 0.25]]


def test_o12_importance_weighted_bound():
    weights = tensor([[-10, -12], [-11, -12]])
    found = importance_weighted_bound(weights)
    close(found, [-10.37988549, -12], 6e-9)
    assert float(found.mean()) == pytest.approx(-11.18994275, abs=6e-9)
    assert float(weights.mean()) == -11.25
    assert bool((found >= weights.mean(0) - 1e-12).all())


def test_o13_straight_through_mask():
    logits = tensor([0.0]).requires_grad_()
    mask = straight_through_mask(logits, tensor([0.7]))
    mask.sum().backward()
    assert mask.item() == 1.0
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(0.21, abs=1e-9)
    sharper = tensor([0.0]).requires_grad_()
    straight_through_mask(sharper, tensor([0.7]), temperature=0.5).sum().backward()
    assert sharper.grad is not None
    assert sharper.grad.item() == pytest.approx(0.84482759 * (1 - 0.84482759) / 0.5, abs=1e-8)
    assert straight_through_mask(tensor([0.0]), tensor([0.5])).item() == 0.0


def test_o14_standardise_and_a_silent_gene():
    logs = np.log1p(np.array([[0.0], [1.0], [3.0]]))
    mean, sd = logs.mean(0), logs.std(0, ddof=1)
    assert (mean[0], sd[0]) == pytest.approx((0.69314718, 0.69314718), abs=6e-9)
    found = Standardise(mean, sd, logarithm=True)(torch.tensor([[0.0], [1.0], [3.0]]))
    assert found.flatten().tolist() == pytest.approx([-1, 0, 1], abs=1e-6)
    silent = Standardise(np.zeros(1), np.zeros(1), logarithm=True)(torch.tensor([[5.0]]))
    assert silent.item() == pytest.approx(np.log(6), abs=1e-6)


def test_shares_of_processes_average_to_the_mean_of_the_whole_batch():
    values = torch.arange(14.0).reshape(2, 7)
    found = 0.0
    for part in (slice(0, 3), slice(3, 7)):
        n_own = part.stop - part.start
        batch = Batch(
            values=torch.zeros(n_own, 2),
            library=torch.ones(n_own),
            present=torch.zeros(0, dtype=torch.int64),
            dosage=torch.zeros(n_own, 0),
            n_trained=torch.zeros(0),
            n_everywhere=7,
            cells=part,
            n_parts=2,
        )
        found += float(batch.mean(values[:, part])) / 2
    assert found == pytest.approx(float(values.mean()))
