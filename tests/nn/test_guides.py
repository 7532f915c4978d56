"""Guides, noise and networks: counts of parameters, gradients that stay away, Monte-Carlo forms that converge."""

import numpy as np
import pytest
import torch

from perturbcast.nn.batch import Batch
from perturbcast.nn.guides import CorrelatedGuide, MeanFieldGuide
from perturbcast.nn.noise import Noise
from perturbcast.nn.sams_net import SamsNet, SamsShape
from perturbcast.nn.standardise import Standardise
from perturbcast.nn.trunk import Trunk


def sams(guide="correlated", **changes):
    """The network of O23, with other choices."""
    sizes = {"n_targets": 3, "n_latent": 2, "encoder_width": 5, "encoder_layers": 1, "decoder_width": 5}
    sizes |= {"decoder_layers": 1, "embedding_width": 6, "embedding_layers": 2, "likelihood": "counts"}
    return SamsNet(
        SamsShape(**(sizes | {"guide": guide} | changes)), Standardise(np.zeros(4), np.ones(4), logarithm=True)
    )


def batch_of(dosage, seed=0, n_genes=4):
    """Counts of some cells with given dosages; only columns that occur are in the batch."""
    dosage = np.asarray(dosage, dtype=np.float32)
    present = np.flatnonzero(dosage.any(axis=0))
    values = np.random.default_rng(seed).poisson(3, size=(len(dosage), n_genes)).astype(np.float32)
    return Batch(
        values=torch.from_numpy(values),
        library=torch.from_numpy(values.sum(1)),
        present=torch.from_numpy(present),
        dosage=torch.from_numpy(dosage[:, present]),
        n_trained=torch.from_numpy((dosage != 0).sum(0)[present].astype(np.float32)),
        n_everywhere=len(dosage),
    )


@pytest.mark.parametrize(("guide", "expected"), [("correlated", 214), ("mean-field", 120)])
def test_o23_parameter_counts(guide, expected):
    assert sum(parameter.numel() for parameter in sams(guide).parameters()) == expected


def test_trunk_of_parts_is_the_trunk_of_the_whole():
    trunk = Trunk(7, width=5, n_layers=3)
    shared, own = torch.randn(4, 3), torch.randn(2, 4, 2)
    hot = torch.tensor([1, 0, 1, 1])
    onehot = torch.nn.functional.one_hot(hot, 2).float()
    joined = torch.cat([shared.expand(2, 4, 3), own, onehot.expand(2, 4, 2)], dim=-1)
    torch.testing.assert_close(trunk(shared, own, one_hot=hot), trunk(joined))


def test_rows_of_absent_perturbations_get_no_gradient():
    net = sams()
    sum(net.terms(batch_of([[1, 0, 0], [0, 0, 1], [0, 0, 0]]), seed=1).values()).backward()
    gradient = net.guide.logits.grad
    assert float(gradient[1].abs().max()) == 0.0
    assert float(gradient[[0, 2]].abs().min()) > 0.0


def test_batch_of_controls_alone_has_no_global_terms():
    terms = sams().terms(batch_of(np.zeros((5, 3))), seed=1)
    assert terms["mask_kl"].item() == terms["embedding_kl"].item() == 0.0
    assert torch.isfinite(terms["reconstruction"])


@pytest.mark.parametrize("guide", [MeanFieldGuide(3, 4), CorrelatedGuide(3, 4, width=8, n_layers=2)])
def test_monte_carlo_divergences_come_near_the_exact_ones(guide):
    with torch.no_grad():
        guide.logits.uniform_(-2, 2, generator=torch.Generator().manual_seed(0))
    drawn = guide.draw(torch.tensor([0, 2]), Noise(0, n_everywhere=1), n_particles=4000)
    for exact, sampled in (
        (drawn.mask_kl(0.1, analytic=True), drawn.mask_kl(0.1, analytic=False)),
        (drawn.embedding_kl(scale=0.7, analytic=True), drawn.embedding_kl(scale=0.7, analytic=False)),
    ):
        torch.testing.assert_close(exact.mean(0), sampled.mean(0), rtol=0.05, atol=0.05)


def test_prior_of_a_mask_may_differ_from_edge_to_edge():
    guide = MeanFieldGuide(2, 2)
    drawn = guide.draw(torch.tensor([0, 1]), Noise(0, n_everywhere=1), n_particles=1)
    prior = torch.tensor([[0.5, 0.1], [0.5, 0.5]])
    assert drawn.mask_kl(prior, analytic=True).tolist()[0] == pytest.approx([0.5108256, 0.0], abs=1e-6)


def test_noise_of_cells_is_cut_from_the_whole_and_other_noise_is_shared():
    whole = Noise(5, n_everywhere=7)
    draws = [whole.normal(2), whole.normal_of_cells(3, 4), whole.uniform(2)]
    for part in (slice(0, 3), slice(3, 7)):
        own = Noise(5, n_everywhere=7, cells=part)
        assert torch.equal(own.normal(2), draws[0])
        assert torch.equal(own.normal_of_cells(3, 4), draws[1][:, part])
        assert torch.equal(own.uniform(2), draws[2])


def test_noise_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    Noise(1, n_everywhere=2).normal(3)
    assert torch.equal(before, torch.get_rng_state())


def test_bound_with_many_particles_is_above_the_bound_with_one():
    net, batch = sams(), batch_of([[1, 0, 0], [0, 1, 0], [0, 0, 0]] * 5)
    with torch.no_grad():
        one = torch.stack([net.bound(batch, seed=seed, n_particles=1) for seed in range(30)]).mean()
        many = net.bound(batch, seed=0, n_particles=100).mean()
    assert float(many) > float(one)


def test_permuting_genes_permutes_what_the_decoder_says():
    net, order = sams(), torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        basal = torch.randn(6, 2)
        before = net.decoder.log_share(basal)
        net.decoder.head.share.weight.copy_(net.decoder.head.share.weight[order])
        net.decoder.head.share.bias.copy_(net.decoder.head.share.bias[order])
        torch.testing.assert_close(net.decoder.log_share(basal), before[:, order])
