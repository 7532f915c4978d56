"""What is computed by shorter ways gives the numbers and the gradients of the straightforward formulas."""

import numpy as np
import pytest
import torch
from cradle_worlds import small_screen
from scipy import sparse
from torch import Tensor

from perturbcast.models.gpo_vae import GpoVae
from perturbcast.nn import counts as counts_module
from perturbcast.nn import gpo_net, guides
from perturbcast.nn.cells import CellBatches
from perturbcast.nn.counterfactual import LabelledBatches, References
from perturbcast.nn.counts import CountHead, negative_binomial_log_prob
from perturbcast.nn.divergences import drawn_log_ratio, standard_normal_log_ratio
from perturbcast.nn.gpo_net import NetworkBatches
from perturbcast.nn.grn import EffectTargets
from perturbcast.nn.hops import hops
from perturbcast.nn.latent import standardiser
from perturbcast.nn.masks import EDGE, straight_through_mask
from perturbcast.nn.plates import charged
from perturbcast.nn.trunk import Dosed, Gaussian, Trunk


def gradients(value: Tensor, *of: Tensor):
    """Of the sum of the squares, which weighs entries differently."""
    return torch.autograd.grad((value**2).sum(), of, retain_graph=True)


def same(ours, theirs, **tolerance):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def powers(rows, weights, *, n_hops):
    """Equation (20) by powers of the whole matrix."""
    total = sum(torch.linalg.matrix_power(weights, k) / len(weights) ** (k - 1) for k in range(1, n_hops + 2))
    return rows @ total


@pytest.mark.parametrize("n_hops", [0, 1, 5])
def test_hops_and_their_gradient_are_those_of_whole_powers(n_hops):
    noise = torch.Generator().manual_seed(0)
    weights = torch.randn(9, 9, generator=noise, dtype=torch.float64).requires_grad_()
    rows = (torch.rand(6, 9, generator=noise) < 0.3).double()  # singles, doubles, controls
    ours, plain = hops(rows, weights, n_hops=n_hops), powers(rows, weights, n_hops=n_hops)
    torch.testing.assert_close(ours, plain)
    same(gradients(ours, weights), gradients(plain, weights))


def test_dosed_parts_of_a_layer_are_those_multiplied_out():
    torch.manual_seed(0)
    trunk = Trunk(7, width=5, n_layers=2).double()
    rest = torch.randn(3, 6, 2, dtype=torch.float64)
    values = torch.randn(3, 4, 5, dtype=torch.float64).requires_grad_()
    dosage = (torch.rand(6, 4) < 0.4).double()
    ours, plain = trunk(rest, Dosed(dosage, values)), trunk(rest, dosage @ values)
    torch.testing.assert_close(ours, plain)
    same(gradients(ours, values, *trunk.parameters()), gradients(plain, values, *trunk.parameters()))


def plain_mask(logits, uniform, *, temperature=1.0):
    """Equation (3) step by step; the rounding is added as a constant, so that gradients pass it."""
    uniform = uniform.clamp(EDGE, 1 - EDGE)
    soft = torch.sigmoid((logits + torch.log(uniform) - torch.log1p(-uniform)) / temperature).clamp(EDGE, 1 - EDGE)
    return soft + (torch.round(soft) - soft).detach()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_mask_and_its_gradient_are_those_of_equation_3(temperature):
    noise = torch.Generator().manual_seed(1)
    logits = (4 * torch.randn(5, 8, generator=noise, dtype=torch.float64)).requires_grad_()
    uniform = torch.rand(3, 5, 8, generator=noise, dtype=torch.float64)
    scale = torch.arange(8, dtype=torch.float64)
    ours = straight_through_mask(logits, uniform, temperature=temperature) * scale
    plain = plain_mask(logits, uniform, temperature=temperature) * scale
    torch.testing.assert_close(ours, plain)
    same(torch.autograd.grad(ours.sum(), logits), torch.autograd.grad(plain.sum(), logits))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_log_ratio_of_what_was_drawn_is_that_of_the_densities(scale):
    noise = torch.Generator().manual_seed(2)
    mean, log_variance, drawn = (torch.randn(4, 6, generator=noise, dtype=torch.float64) for _ in range(3))
    parts = (mean.requires_grad_(), log_variance.requires_grad_())
    found = Gaussian(mean, torch.exp(log_variance))
    value = found.draw(drawn)
    ours, plain = (
        drawn_log_ratio(value, found, drawn, scale=scale),
        standard_normal_log_ratio(value, found, scale=scale),
    )
    torch.testing.assert_close(ours, plain)
    same(gradients(ours, *parts), gradients(plain, *parts))


def plain_log_prob(head, units, values, library):
    """Equation (2) by autograd."""
    mean = torch.exp(head.log_share(units)) * library.unsqueeze(-1)
    return negative_binomial_log_prob(values, mean, torch.exp(head.log_dispersion)).sum(-1)


def test_likelihood_in_blocks_is_the_plain_formula(monkeypatch):
    monkeypatch.setattr(counts_module, "BLOCK", 20)  # several blocks per particle
    rng = np.random.default_rng(3)
    torch.manual_seed(3)
    head = CountHead(3, 7).double()
    units = torch.from_numpy(rng.normal(size=(2, 9, 3))).requires_grad_()
    values = torch.from_numpy(rng.poisson(2, size=(9, 7)).astype(float))
    library = torch.from_numpy(rng.uniform(5, 40, 9))
    ours, plain = head.log_prob(units, values, library), plain_log_prob(head, units, values, library)
    torch.testing.assert_close(ours, plain)
    same(gradients(ours, units, *head.parameters()), gradients(plain, units, *head.parameters()))


def test_likelihood_of_short_units_is_that_of_the_plain_formula_in_full_precision():
    """Under mixed precision only the product with the weights is short, not sums over genes, which nearly cancel."""
    rng = np.random.default_rng(4)
    torch.manual_seed(4)
    head, units = CountHead(4, 60), torch.from_numpy(rng.normal(size=(2, 5, 4)).astype(np.float32))
    values = torch.from_numpy(rng.poisson(20, size=(5, 60)).astype(np.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = head.log_prob(units, values, values.sum(1))
    assert short.dtype == torch.float32
    torch.testing.assert_close(short, plain_log_prob(head, units, values, values.sum(1)), rtol=1e-3, atol=0)


def test_what_cells_are_charged_of_global_terms_is_not_shortened():
    noise = torch.Generator().manual_seed(5)
    share, term = torch.rand(6, 3, generator=noise), 100 * torch.rand(2, 3, generator=noise)
    exact = term @ share.T
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(charged(share, term), exact)


# ------------------------------------------------------------------------------------------------------- a whole step
def step(profile: str):
    """A network and a batch with all that its step reads."""
    screen, failed = small_screen(n_cells=60)
    labels, targets = failed[:, None].astype(np.float32), ["A", "B", "C"]
    genes = [*targets, *(f"extended{number}" for number in range(3))]
    n_targets, n_genes = len(targets), screen.n_genes
    rng = np.random.default_rng(0)
    cells = np.arange(screen.n_cells)
    plain = CellBatches.of(screen, columns=genes, train_cells=cells)
    references = References.of(screen, labels, train_cells=cells)
    rows = np.array([targets.index(name) if name in targets else -1 for name in screen.conditions])
    expression = sparse.csr_matrix(rng.random((screen.n_cells, len(genes))))
    changes = gpo_net.CellChanges(expression, rng.permutation(cells), np.ones(len(genes), dtype=bool))
    aligned = EffectTargets.of(
        rng.normal(size=(n_targets, len(genes))),
        np.full((n_targets, len(genes)), 0.1),
        np.eye(n_targets, dtype=bool),
        place=np.arange(n_targets),
        is_measured=np.ones(len(genes), dtype=bool),
        least=0.5,
        direction=-1.0,
    )
    source = NetworkBatches(
        LabelledBatches(plain, labels, cells, references), rows, changes if profile == "paper" else None
    )
    torch.manual_seed(0)
    small = {"n_latent": 3, "encoder_width": 6, "decoder_width": 6, "embedding_width": 6, "embedding_layers": 2}
    network = GpoVae.make(profile, **small).neural(
        n_perturbed=n_targets,
        n_columns=len(genes),
        standardise=standardiser(np.zeros(n_genes), np.ones(n_genes), "counts"),
        likelihood="counts",
        targets=aligned,
    )
    with torch.no_grad():  # not at the start, where much is zero
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return network, source.batch(cells)


@pytest.mark.parametrize("profile", ["paper", "plus"])
def test_a_step_has_the_terms_and_gradients_of_the_straightforward_step(profile, monkeypatch):
    network, batch = step(profile)
    ours = network.terms(batch, seed=1)
    by_ours = torch.autograd.grad(sum(ours.values()), network.parameters())
    monkeypatch.setattr(Dosed, "times", lambda part, weight: (part.dosage @ part.values) @ weight.T)
    monkeypatch.setattr(gpo_net, "hops", powers)
    monkeypatch.setattr(guides, "straight_through_mask", plain_mask)
    monkeypatch.setattr(
        guides, "drawn_log_ratio", lambda value, one, _, scale: standard_normal_log_ratio(value, one, scale=scale)
    )
    monkeypatch.setattr(CountHead, "log_prob", plain_log_prob)
    plain = network.terms(batch, seed=1)
    assert set(ours) == set(plain)
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6, msg=name)
    largest = max(float(one.abs().max()) for one in by_ours)
    by_plain = torch.autograd.grad(sum(plain.values()), network.parameters())
    same(by_ours, by_plain, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize("profile", ["paper", "plus"])
def test_every_term_of_a_step_stays_near_under_mixed_precision(profile):
    network, batch = step(profile)
    exact = network.terms(batch, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = network.terms(batch, seed=1)
    for name, value in exact.items():
        torch.testing.assert_close(
            short[name], value, rtol=0.01, atol=1e-4, msg=lambda told, name=name: f"{name}: {told}"
        )
