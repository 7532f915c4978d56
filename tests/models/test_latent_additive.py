"""PerturBench's reference models on cells: what they compute, whom they refuse, and what knowledge adds."""

import numpy as np
import pytest
import torch

from perturbcast.data.conditions import targets_of
from perturbcast.errors import CannotPredict, NeedsCells
from perturbcast.models.check_world import check_world
from perturbcast.models.decoder_only import DecoderOnly
from perturbcast.models.latent_additive import LatentAdditive
from perturbcast.models.latent_additive_linear import LinearAdditive
from perturbcast.models.pair_family import held_out_conditions, pairs_source
from perturbcast.models.target_inputs import target_inputs
from perturbcast.nn import cell_pairs
from perturbcast.nn.doses import Doses
from perturbcast.nn.perturbench_net import DecoderOnlyNet, LatentAdditiveNet, LinearAdditiveNet, inverse_softplus

MODELS = (LatentAdditive, DecoderOnly, LinearAdditive)


@pytest.fixture(scope="module")
def world():
    return check_world()


@pytest.fixture(scope="module")
def latent(world):
    return LatentAdditive(width=32, n_latent=8, max_epochs=30, batch_size=64, lr=3e-3, folds=0).fit(
        world.with_cells, seed=1
    )


def test_linear_additive_starts_from_the_control_cell():
    network = LinearAdditiveNet(n_genes=3, n_own=2, n_inputs=2, positive=False)
    basal, dose = torch.rand(4, 3), Doses.each(torch.eye(2)[[0, 1, 0, 1]])
    torch.testing.assert_close(network.expression(basal, dose), basal)
    with torch.no_grad():
        network.effect.weight.copy_(torch.arange(6.0).reshape(3, 2))
    silent = LinearAdditiveNet(n_genes=3, n_own=2, n_inputs=2, positive=True)
    torch.testing.assert_close(
        silent.expression(torch.eye(3), Doses.each(torch.zeros(3, 2))), torch.eye(3), atol=0.011, rtol=0
    )
    both = network.expression(basal[:1], Doses.each(torch.ones(1, 2))) - basal[:1]
    torch.testing.assert_close(both, network.effect.weight.sum(dim=1)[None])


def test_latent_additive_adds_before_it_decodes():
    network = LatentAdditiveNet(n_genes=3, n_own=2, n_inputs=2, positive=True, width=8, n_latent=4, dropout=0.0)
    basal, dose = torch.rand(5, 3), torch.rand(5, 2)
    by_hand = network.decoder(network.encoder(basal) + network.of_targets(dose))
    torch.testing.assert_close(network.expression(basal, Doses.each(dose)), torch.nn.functional.softplus(by_hand))


def test_latent_additive_starts_from_the_level_of_control_where_it_is_given():
    control = torch.tensor([0.5, 2.0, 4.0])
    torch.manual_seed(0)
    sizes = {"n_genes": 3, "n_own": 2, "n_inputs": 2, "positive": True, "width": 8, "n_latent": 4, "dropout": 0.0}
    network = LatentAdditiveNet(**sizes, control=control)
    with torch.no_grad():
        network.decoder[-1].weight.zero_()
    torch.testing.assert_close(network.expression(torch.rand(2, 3), Doses.each(torch.eye(2))), control.expand(2, 3))


def test_default_takes_so_many_steps_however_many_cells_and_the_published_form_so_many_passes():
    for n_cells in (1000, 100_000):
        plan = LatentAdditive(batch_size=100, max_steps=200).plan(n_cells)
        assert plan.n_steps(n_cells) == 200
        rates = [plan.lr_in(step // plan.steps_per_epoch(n_cells)) for step in range(200)]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] == plan.lr
        assert rates[-1] < 0.1 * plan.lr
    paper = LatentAdditive.make("paper").plan(8001)
    assert (paper.n_steps(8001), paper.steps_per_epoch(8001), paper.lr_in(400)) == (1500, 3, paper.lr)


def test_cells_at_hand_are_those_read_anew(world, monkeypatch):
    inputs = target_inputs(world.with_cells, knowledge=True)
    source, _ = pairs_source(world.with_cells, inputs, seed=0, label="test")
    kept = source.batch(np.arange(20))
    monkeypatch.setattr(cell_pairs, "MOST_AT_HAND", 0)
    anew = source.batch(np.arange(20))
    assert bool((kept.values == anew.values).all())
    assert bool((kept.basal == anew.basal).all())


def test_decoder_only_starts_from_the_mean_of_control_and_never_looks_at_the_cell():
    control = torch.tensor([0.5, 2.0, 4.0])
    network = DecoderOnlyNet(n_genes=3, n_own=2, n_inputs=2, positive=True, width=8, dropout=0.0, control=control)
    dose = Doses.each(torch.eye(2))
    torch.testing.assert_close(network.expression(torch.rand(2, 3), dose), control.expand(2, 3))
    torch.testing.assert_close(torch.nn.functional.softplus(inverse_softplus(control)), control)


def test_names_are_withheld_from_half_of_the_cells_only_where_more_is_known():
    doses = Doses(torch.ones(2, 5), torch.arange(400) % 2)
    torch.manual_seed(0)
    found = doses.half_named(2).through(torch.eye(5))
    assert 0.4 < float(found[:, 0].mean()) < 0.6
    assert bool((found[:, 0] == found[:, 1]).all())
    assert bool((found[:, 2:] == 1).all())
    assert doses.half_named(5) is doses


def test_layer_seen_once_per_condition_gives_what_it_gives_each_cell():
    layer, rows = torch.nn.Linear(5, 3), torch.rand(4, 5)
    of_cell = torch.tensor([3, 0, 0, 2, 1, 3])
    named = torch.tensor([[1.0], [0.0], [1.0], [0.0], [1.0], [0.0]])
    by_hand = torch.cat([rows[of_cell][:, :2] * named, rows[of_cell][:, 2:]], dim=1)
    found = Doses(rows, of_cell, 2, named).through(layer.weight, layer.bias)
    torch.testing.assert_close(found, layer(by_hand))
    torch.testing.assert_close(Doses(rows, of_cell).through(layer.weight, layer.bias), layer(rows[of_cell]))
    torch.testing.assert_close(Doses(rows, of_cell).none().through(layer.weight), torch.zeros(6, 3))


def test_combination_has_the_inputs_of_its_targets_together(world):
    inputs = target_inputs(world.training, knowledge=True)
    a, b = world.training.responses.targets[:2]
    np.testing.assert_allclose(inputs.dose(f"{a}+{b}"), inputs.dose(a) + inputs.dose(b), atol=1e-3)
    assert not inputs.dose("ctrl").any()
    with pytest.raises(CannotPredict, match="NEVER"):
        inputs.dose("NEVER_HEARD_OF")


def test_cells_to_stop_by_are_those_of_whole_conditions(world):
    screen = world.with_cells.screen
    train, valid = held_out_conditions(screen, share=0.2, seed=0)
    assert not set(screen.condition_code[train]) & set(screen.condition_code[valid])
    assert not screen.is_control[valid].any()
    assert held_out_conditions(screen.take(screen.condition_code < 3), share=0.2, seed=0) is None


def test_latent_additive_learns_from_cells_and_tells_unseen_targets_apart(world, latent):
    truth = world.training.responses
    found = latent.predict(truth.queries)
    error = np.linalg.norm(found.response - truth.response, axis=1).mean()
    assert error < 0.85 * np.linalg.norm(truth.response, axis=1).mean()
    unseen = latent.predict([q for q in world.test.queries if len(targets_of(q.condition)) == 1])
    assert unseen.response[unseen.predicted].std(axis=0).max() > 0.01


@pytest.mark.parametrize("model", MODELS)
def test_published_form_refuses_targets_that_it_never_saw(world, model):
    fitted = model.make("paper", **model.card.quick).fit(world.with_cells, seed=0)
    seen = {target for query in fitted.trained_on for target in targets_of(query.condition)}
    for query, reason in zip(world.test.queries, fitted.predict(world.test.queries).reason, strict=True):
        unseen = not set(targets_of(query.condition)) <= seen
        assert reason.startswith(CannotPredict.code) == unseen


@pytest.mark.parametrize("model", MODELS)
def test_without_cells_they_say_so(world, model):
    with pytest.raises(NeedsCells):
        model().fit(world.training, seed=0)
