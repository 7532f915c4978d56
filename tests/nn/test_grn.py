"""Oracles and identities of the network terms of GPO-VAE (spec 5, 13)."""

import numpy as np
import pytest
import torch

from perturbcast.nn.cradle_net import CradleShape
from perturbcast.nn.gpo_net import GpoNet, GpoShape, network_columns
from perturbcast.nn.grn import (
    EffectTargets,
    Penalties,
    aligned,
    effect_alignment,
    l1_alignment,
    l1_probability_alignment,
    logit,
    off_diagonal,
    prior_probabilities,
    reach_alignment,
    signed_hops,
    sparsity,
)
from perturbcast.nn.hops import hops
from perturbcast.nn.latent import standardiser

CHAIN = torch.tensor([[0.0, 2, 0], [0, 0, 3], [0, 0, 0]], dtype=torch.float64)


def published_net(*, n_targets, n_latent, n_genes, encoder_width, embedding, decoder):
    shape = CradleShape(
        n_targets=n_targets,
        n_latent=n_latent,
        encoder_width=encoder_width,
        encoder_layers=1,
        decoder_width=decoder,
        decoder_layers=2,
        likelihood="counts",
        n_offset=n_targets,
        embedding_width=embedding[0],
        embedding_layers=embedding[1],
        artefact="network",
    )
    gpo = GpoShape(shape, n_sources=n_targets, guide="correlated", alignment="cells")
    return GpoNet(gpo, standardiser(np.zeros(n_genes), np.ones(n_genes), "counts"))


def n_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_o5_alignment_of_the_chain():
    total = hops(torch.tensor([[1.0, 0, 0], [0, 0, 0]], dtype=torch.float64), CHAIN, n_hops=5)
    change = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0, 0.4]], dtype=torch.float64)
    each = l1_alignment(total, change, criterion=0.4)
    assert float(each.mean()) == pytest.approx(0.8833333, abs=1e-7)
    assert float(each[:1].mean()) == pytest.approx(1.5666667, abs=1e-7)


def test_o6_sparsity_of_the_chain():
    assert float(sparsity(CHAIN)) == pytest.approx(0.59259680, abs=1e-8)


def test_o22_the_best_total_is_the_median_over_cells():
    change = torch.tensor([[0.0], [0.0], [1.2], [1.4], [2.0]], dtype=torch.float64)
    grid = torch.linspace(-1, 2, 3001, dtype=torch.float64)
    losses = [float(l1_alignment(t.expand(5, 1), change, criterion=0.5).mean()) for t in grid]
    best = grid[int(np.argmin(losses))]
    assert float(best) == pytest.approx(0.7, abs=1e-3)
    assert float(torch.sigmoid(best)) == pytest.approx(0.66818777, abs=1e-3)


def test_o22_the_null_of_unsigned_changes_is_not_zero():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 200_000))
    assert np.median(np.abs(one - other)) == pytest.approx(0.95387255, abs=0.005)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"n_targets": 655, "n_latent": 200, "n_genes": 8749}, 8_783_233),
        ({"n_targets": 1546, "n_latent": 100, "n_genes": 8563}, 12_333_934),
    ],
)
def test_o23_published_networks_have_as_many_parameters(sizes, expected):
    with torch.device("meta"):
        network = published_net(**sizes, encoder_width=200, embedding=(400, 4), decoder=400)
    assert n_parameters(network) == expected


def test_o23_tiny_network_has_445_parameters():
    network = published_net(n_targets=3, n_latent=2, n_genes=4, encoder_width=5, embedding=(6, 2), decoder=7)
    assert n_parameters(network) == 445


def test_probability_alignment_is_zero_where_totals_are_the_squashed_changes():
    change = torch.tensor([[0.9, 0.1]])
    assert float(l1_probability_alignment(torch.sigmoid(change - 0.4), change, criterion=0.4)) == 0.0


def test_signed_hops_follow_a_chain_and_stop_at_a_gene_acted_on():
    effect = torch.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 2.0], [0.3, 0.0, 0.0]])
    place = torch.arange(3)
    alone = torch.tensor([[-1.0, 0.0, 0.0]])
    direct = signed_hops(alone, effect, place=place, n_hops=0)
    torch.testing.assert_close(direct, torch.tensor([[0.0, -0.5, 0.0]]))
    reached = signed_hops(alone, effect, place=place, n_hops=1)
    torch.testing.assert_close(reached, torch.tensor([[0.0, -0.5, -1.0]]))
    circled = signed_hops(alone, effect, place=place, n_hops=7)  # what comes back to gene 0 goes no further
    torch.testing.assert_close(circled, torch.tensor([[-0.3, -0.5, -1.0]]))
    both = signed_hops(torch.tensor([[-1.0, 1.0, 0.0]]), effect, place=place, n_hops=7)
    torch.testing.assert_close(both, torch.tensor([[0.6, -0.5, 2.0]]))


def targets_of(change, *, place, error=0.02, least=0.5):
    n_rows = len(change)
    return EffectTargets.of(
        change,
        np.full(change.shape, error),
        np.eye(n_rows, dtype=bool),
        place=np.asarray(place),
        is_measured=np.ones(change.shape[1], dtype=bool),
        least=least,
        direction=-1.0,
    )


def planted(seed, *, n_sources=12, n_genes=30):
    """Responses to knocking down sources that regulate one another and further genes, and the true effects."""
    rng = np.random.default_rng(seed)
    effect = (rng.random((n_sources, n_genes)) < 0.1) * rng.choice([-0.8, 0.8], (n_sources, n_genes))
    effect[:, :n_sources] = np.triu(effect[:, :n_sources], 1)  # no loops
    amplitude = torch.diag(torch.full((n_sources,), -1.0))
    place = torch.arange(n_sources)
    change = signed_hops(amplitude, torch.tensor(effect, dtype=torch.float32), place=place, n_hops=8).numpy()
    change = change + rng.normal(size=change.shape) * 0.02
    change[np.arange(n_sources), np.arange(n_sources)] = -1.0
    return change.astype(np.float64), effect, place


def test_alignment_is_zero_at_the_truth_and_ignores_the_diagonal():
    change, effect, place = planted(0)
    targets = targets_of(change, place=place)
    strength = torch.tensor(effect, dtype=torch.float32)
    sure = torch.full_like(strength, 30.0)
    none = torch.zeros(strength.shape[1])
    at_truth = effect_alignment(sure, strength, none, targets, n_hops=8)
    moved = strength + 5 * (1 - off_diagonal(place, strength.shape[1]))
    assert float(effect_alignment(sure, moved, none, targets, n_hops=8)) == float(at_truth)
    assert float(at_truth) < 0.05 * float(effect_alignment(sure, 0 * strength, none, targets, n_hops=8))


def test_aligned_network_ranks_direct_edges_above_indirect_ones():
    for seed in range(3):
        change, effect, place = planted(seed)
        targets = targets_of(change, place=place)
        first = torch.zeros(effect.shape)
        found = aligned(targets, n_hops=2, penalties=Penalties(5.0, 3.0), first_logits=first, seed=seed)
        probability = torch.sigmoid(found.logits).numpy()
        off = off_diagonal(place, effect.shape[1]).numpy() > 0
        direct, indirect = (effect != 0) & off, (effect == 0) & off & (np.abs(change) > 0.3)
        assert indirect.any()
        assert np.median(probability[direct]) > 0.5
        assert probability[indirect].max() < np.quantile(probability[direct], 0.25)
        signs = np.sign(found.strength.numpy())[direct & (probability > 0.5)]
        assert (signs == np.sign(effect[direct & (probability > 0.5)])).all()


def test_aligned_network_is_a_function_of_its_seed():
    change, effect, place = planted(0)
    targets, first = targets_of(change, place=place), torch.zeros(effect.shape)
    runs = [
        aligned(targets, n_hops=2, penalties=Penalties(5.0, 3.0), first_logits=first, n_steps=20, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0].logits, runs[1].logits)
    assert not torch.equal(runs[0].logits, runs[2].logits)


def test_permuting_genes_permutes_the_alignment():
    change, effect, place = planted(1)
    order = np.random.default_rng(0).permutation(change.shape[1])
    where = np.argsort(order)
    logits = torch.randn(effect.shape, generator=torch.Generator().manual_seed(0))
    strength, none = torch.tensor(effect, dtype=torch.float32), torch.zeros(change.shape[1])
    before = effect_alignment(logits, strength, none, targets_of(change, place=place), n_hops=3)
    moved = targets_of(change[:, order], place=where[place.numpy()])
    after = effect_alignment(logits[:, order], strength[:, order], none, moved, n_hops=3)
    assert float(after) == pytest.approx(float(before), rel=1e-5)


def test_amplitude_of_a_target_is_its_own_change_but_never_too_small_or_of_the_wrong_sign():
    change = np.array([[-2.0, 0.1, 0.0], [0.3, 0.7, 0.1]])
    targets = targets_of(change, place=[0, 1])
    torch.testing.assert_close(targets.amplitude, torch.tensor([[-2.0, 0.0], [0.0, -0.5]]))
    assert targets.weight[0, 0] == 0
    assert targets.weight[1, 1] == 0
    assert (targets.weight[:, 2] > 0).all()


def test_reach_alignment_falls_when_edges_are_where_responses_are():
    change, effect, place = planted(2)
    targets = targets_of(change, place=place)
    right = torch.where(torch.tensor(effect != 0), 6.0, -6.0)
    wrong = torch.where(torch.tensor(effect != 0), -6.0, 6.0)
    found, opposite = (reach_alignment(w, targets, n_hops=2, criterion=0.2) for w in (right, wrong))
    assert float(found) < 0.5 * float(opposite)


def test_prior_knowledge_is_aligned_by_name_and_kept_off_certainty():
    found = prior_probabilities(
        ["B", "A"], ["A", "B", "C"], [("A", "C", 1.0), ("B", "A", 0.4), ("X", "A", 0.9)], background=0.1
    )
    np.testing.assert_allclose(found, [[0.4, 0.1, 0.1], [0.1, 0.1, 0.99]])
    torch.testing.assert_close(torch.sigmoid(logit(found)).double(), torch.tensor(found), rtol=1e-6, atol=1e-6)


def test_perturbed_genes_come_first_each_group_by_name():
    assert network_columns(["C", "A"], ["B", "A", "D"]) == ("A", "C", "B", "D")
