"""SAMS-VAE and its relatives: promises, known worlds, predictions that do not depend on chance."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from vae_worlds import best_f1, count_world, mask_world, two_contexts

from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.prediction import Support
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory
from perturbcast.errors import BadOption, CannotPredict, NeedsCells, NotCounts, NotEnoughTraining
from perturbcast.models.base import TrainingData
from perturbcast.models.capabilities import SamplesCells, TrainsByGradient
from perturbcast.models.check_world import check_world
from perturbcast.models.conditional_vae import ConditionalVae
from perturbcast.models.cradle_vae import CradleVae
from perturbcast.models.gpo_vae import GpoVae
from perturbcast.models.sams_vae import SamsVae
from perturbcast.models.svae_plus import SvaePlus
from perturbcast.models.training_cells import held_out_cells
from perturbcast.training.plan import RunOptions

SMALL = {"n_latent": 4, "encoder_width": 16, "decoder_width": 16, "n_particles": 2, "n_averaged": 20}
SMALL |= {"max_epochs": 4, "batch_size": 128}
GUIDE = {"embedding_width": 8, "embedding_layers": 2}
LEARNS = {"n_latent": 8, "encoder_width": 32, "decoder_width": 32, "n_particles": 2, "n_averaged": 128}
LEARNS |= {"max_epochs": 50, "batch_size": 64, "lr": 1e-2, "patience": 15}


def small(kind, **changes):
    """A model of that kind that trains in a tenth of a second."""
    return kind(**(SMALL | (GUIDE if kind is SamsVae else {}) | changes))


def test_network_has_the_parameters_that_the_fields_say():
    sizes = {"n_latent": 2, "encoder_width": 5, "decoder_width": 5, "embedding_width": 6, "embedding_layers": 2}
    from perturbcast.nn.standardise import Standardise

    standardise = Standardise(np.zeros(4), np.ones(4), logarithm=True)
    for guide, expected in (("correlated", 214), ("mean-field", 120)):
        network = SamsVae(**sizes, guide=guide).network(3, standardise, "counts")
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


# ------------------------------------------------------------------------------------------------------ known worlds
@pytest.fixture(scope="module")
def counts():
    """A world of counts and SAMS-VAE fitted to it."""
    world = count_world()
    return world, SamsVae(**LEARNS, **GUIDE).fit(world.training)


def test_responses_of_counts_are_found(counts):
    world, fitted = counts
    singles = [query for query in world.training.responses.queries if "+" not in query.condition]
    truth = world.training.responses.take(world.training.responses.index(singles)).response
    found = fitted.predict(singles)
    correlation = np.corrcoef(found.response.ravel(), truth.ravel())[0, 1]
    assert correlation > 0.93
    # on the scale of the table: the slope of truth on prediction is near one
    assert (found.response * truth).sum() / (found.response**2).sum() == pytest.approx(1.0, abs=0.35)
    assert set(found.support) == {Support.SEEN}


def test_control_mean_of_the_network_is_that_of_the_cells(counts):
    world, fitted = counts
    found = fitted._in_table_order(fitted._control_mean)
    assert np.abs(found - world.training.responses.control[0]).mean() < 0.15


@pytest.mark.parametrize("kind", [ConditionalVae, GpoVae])
def test_scale_is_that_of_whole_cells_where_the_screen_holds_a_part_of_their_genes(kind):
    training = count_world(n_targets=3, cells_each=40, doubles=()).training
    part = TrainingData.of(replace(training.screen, library=training.screen.library * 5))
    rest = {"quality": "none", "align_steps": 20} if kind is GpoVae else {}
    fitted = kind(**(LEARNS | {"max_epochs": 15}), **rest).fit(part)
    own = fitted._in_table_order(fitted._control_mean)
    assert np.abs(own - part.responses.control[0]).mean() < 0.25
    assert np.abs(own - training.responses.control[0]).mean() > 0.6  # as if they were whole


def test_identical_dosages_give_exactly_no_difference_and_predicting_repeats_its_bits(counts):
    world, fitted = counts
    assert np.array_equal(fitted._mean_of(CONTROL), fitted._control_mean)
    query = world.training.responses.queries[0]
    twice = fitted.predict([query, query]).response
    assert np.array_equal(twice[0], twice[1])


def test_combination_is_refused_with_the_reason_where_a_target_was_never_perturbed(counts):
    _, fitted = counts
    found = fitted.predict(["G000+G030", "G030", "G004+G005"])
    assert found.support == (Support.NOTHING, Support.NOTHING, Support.SINGLES)
    assert (
        "E503 CannotPredict: the network has one input per perturbation of training, and none for 'G030'"
        in (found.reason[0])
    )
    assert "5.9" in found.reason[1]


def test_sampled_cells_are_counts_with_the_mean_that_is_predicted(counts):
    world, fitted = counts
    assert isinstance(fitted, SamplesCells)
    query = world.training.responses.queries[1]
    cells = fitted.sample_cells(query, n_cells=600, seed=1)
    assert np.array_equal(cells, np.round(cells))
    assert np.array_equal(cells, fitted.sample_cells(query, n_cells=600, seed=1))
    assert not np.array_equal(cells, fitted.sample_cells(query, n_cells=600, seed=2))
    depth = world.training.screen.library
    assert cells.sum(1).mean() == pytest.approx(depth.mean(), rel=0.1)
    drawn = np.log1p(cells * (1e4 / cells.sum(1, keepdims=True))).mean(0)
    predicted = fitted._in_table_order(fitted._mean_of(query.condition))
    assert np.abs(drawn - predicted).mean() < 0.1
    with pytest.raises(CannotPredict):
        fitted.sample_cells("G030", n_cells=2)


def test_published_averages_come_near_the_recommended_ones_where_cells_are_as_deep(counts):
    world, fitted = counts
    query = world.training.responses.queries[1]
    averages = replace(fitted._averages, depths=np.full(1, 1e4, dtype=np.float32), n_particles=1500, _chunks={})
    dosage = fitted.dosage(query.condition)
    first, second = averages.published(dosage, key=1), averages.published(dosage, key=2)
    assert not np.array_equal(first, second)
    assert np.abs(first - averages.mean(dosage)).max() < 0.2


def test_bound_of_cells_is_higher_with_their_own_perturbation_than_with_another(counts):
    world, fitted = counts
    screen = world.training.screen
    cells = np.flatnonzero(~screen.is_control)[:200]
    own = fitted.evidence_bound(screen.take(cells), n_particles=20)
    moved = replace(screen.take(cells), condition_code=np.full(200, screen.conditions.index("G000"), dtype=np.int32))
    other = fitted.evidence_bound(moved, n_particles=20)
    assert own.shape == (200,)
    assert own.mean() > other.mean()


DEEP = {"n_latent": 6, "encoder_width": 64, "encoder_layers": 2, "decoder_width": 64, "decoder_layers": 3}
DEEP |= {"n_averaged": 8, "batch_size": 128, "patience": None, "max_steps": None, "n_particles": 1}


def mask_f1(**fields):
    """F1 of the masks found, and of shuffled ones, in the SAMS simulator with 60 targets and 6 latent units."""
    world = mask_world(n_latent=6, n_targets=60, cells_each=40, per_target=1.2)
    mask = SamsVae(**(DEEP | GUIDE | fields)).fit(world.training).mask()
    found = np.array([mask[target] for target in sorted(mask)]) > 0.7
    rng = np.random.default_rng(0)
    chance = max(best_f1(rng.permuted(found, axis=1), world.mask) for _ in range(20))
    return best_f1(found, world.mask), chance


@pytest.mark.slow  # 1,300 steps of a deep network
def test_masks_of_the_sams_simulator_are_found():
    found, chance = mask_f1(lr=1e-2, max_epochs=60)
    assert found > 0.65
    assert found > chance + 0.2


@pytest.mark.slow
def test_masks_of_the_sams_simulator_are_found_almost_without_error_when_trained_long():
    found, _ = mask_f1(lr=3e-3, max_epochs=250, guide="mean-field", mask_prior=0.001)
    assert found > 0.9


# ------------------------------------------------------------------------------------------------- how sure, and where
def test_sd_covers_observed_responses_and_grows_with_the_targets_of_an_unseen_combination(counts):
    world, fitted = counts
    table = world.training.responses
    found = fitted.predict(table.queries)
    inside = np.abs(found.response - table.response) <= 1.96 * found.sd
    assert 0.85 < inside.mean() < 0.99
    single, other, double = fitted.predict(["G004", "G005", "G004+G005"]).sd
    assert double.mean() > 1.1 * max(single.mean(), other.mean())


def test_published_predictions_have_no_sd_and_networks_without_draws_no_spread():
    training = count_world(n_targets=3, cells_each=20, doubles=()).training
    assert small(SamsVae, average="independent").fit(training).predict(["G000"]).sd is None
    fitted = small(ConditionalVae).fit(training)
    assert not fitted.spread(Query("G000")).any()
    assert (fitted.predict(["G000"]).sd > 0).all()


SLOWLY = [pytest.param(kind, marks=pytest.mark.slow) for kind in (SvaePlus, CradleVae)]  # the same code once more


NETWORK_ALONE = {"anchored": False, "quality": "none", "align_steps": 20}


@pytest.mark.parametrize("kind", [SamsVae, ConditionalVae, GpoVae, *SLOWLY])
def test_responses_may_differ_between_contexts(kind):
    training = two_contexts()
    table = training.responses
    rest = NETWORK_ALONE if kind is GpoVae else GUIDE if kind in (SamsVae, CradleVae) else {}
    fitted = kind(**(LEARNS | {"max_epochs": 50 if kind is CradleVae else 15}), **rest).fit(training)
    found = fitted.predict(table.queries)
    assert np.corrcoef(found.response.ravel(), table.response.ravel())[0, 1] > 0.6
    here, there = fitted.predict([Query("G000", "K562"), Query("G000", "RPE1")]).response
    assert not np.allclose(here, there, atol=0.05)
    assert set(fitted.mask()) <= {"G000", "G001", "G002", "G003"} | set(table.conditions)
    own = fitted._in_table_order(fitted._controls["RPE1"])
    assert np.abs(own - table.control[1]).mean() < np.abs(own - table.control[0]).mean()
    assert fitted.sample_cells(Query("G001", "RPE1"), n_cells=3).shape == (3, 30)
    assert np.isfinite(fitted.evidence_bound(training.screen.take(np.arange(20)), n_particles=5)).all()


def test_context_with_control_cells_alone_is_predicted_from_the_others():
    training = two_contexts()
    table = training.responses
    seen = replace(training, responses=table.take(table.context_code == 0))
    found = small(SamsVae).fit(seen).predict([Query("G000", "RPE1")])
    assert found.support == (Support.CONTEXT,)


# ------------------------------------------------------------------------------------------------------- bad input
def test_responses_alone_are_refused():
    with pytest.raises(NeedsCells, match="learns from cells"):
        small(SamsVae).fit(check_world().training)


def test_counts_that_are_not_whole_are_refused():
    world = count_world(n_targets=3, cells_each=10, doubles=())
    stored = world.training.screen.matrix.matrix.copy()
    stored.data = stored.data + np.float32(0.25)
    screen = replace(world.training.screen, matrix=InMemory(stored))
    with pytest.raises(NotCounts, match="not all are whole numbers"):
        small(SamsVae).fit(replace(world.training, screen=screen))


def test_counts_are_not_asked_of_expression():
    with pytest.raises(NotCounts, match="E515"):
        small(SamsVae, likelihood="counts").fit(check_world().with_cells)


def test_screen_of_controls_alone_is_refused():
    world = count_world(n_targets=3, cells_each=10, doubles=())
    alone = world.training.screen.take(world.training.screen.is_control)
    with pytest.raises(NotEnoughTraining):
        small(SamsVae).fit(replace(world.training, screen=alone))


def test_training_query_without_cells_is_refused_by_name():
    training = count_world(n_targets=3, cells_each=10, doubles=()).training
    gone = training.screen.cells_of(Query("G001"))
    left = training.screen.take(np.setdiff1d(np.arange(training.screen.n_cells), gone))
    with pytest.raises(NotEnoughTraining, match="1 training queries have no cells: 'G001'"):
        small(SamsVae).fit(replace(training, screen=left))


def test_every_query_keeps_a_cell_to_train_on():
    code = np.repeat([0, 1, 2, 3], [40, 1, 2, 1])
    for seed in range(20):
        train, valid = held_out_cells(len(code), share=0.5, seed=seed, query_code=code)
        assert set(code[train]) == {0, 1, 2, 3}
        assert sorted([*train, *valid]) == list(range(len(code)))


def test_screen_whose_cells_all_fail_is_refused():
    training = count_world(n_targets=3, cells_each=10, doubles=()).training
    covariates = pd.DataFrame({"bad": np.ones(training.screen.n_cells, dtype=bool)})
    with pytest.raises(NotEnoughTraining, match="every training cell fails"):
        small(CradleVae, quality_column="bad").fit(
            replace(training, screen=replace(training.screen, covariates=covariates))
        )


def test_negative_number_of_hops_is_refused():
    with pytest.raises(BadOption, match="n_hops=-1 is not allowed; it must be an integer, at least 0"):
        GpoVae(n_hops=-1)


@pytest.mark.parametrize("field", [{"n_latent": 0}, {"mask_prior": 1.5}, {"validation": 0.95}])
def test_fields_out_of_range_are_refused(field):
    with pytest.raises(BadOption):
        SamsVae(**field)


# ----------------------------------------------------------------------------------------------------- the engine
def test_fit_takes_run_options_and_goes_on_from_a_folder(tmp_path):
    world = count_world(n_targets=3, cells_each=20, doubles=())
    model = small(SamsVae)
    assert isinstance(model, TrainsByGradient)
    options = RunOptions(folder=tmp_path / "run", checkpoint_seconds=0.0)
    first = model.fit(world.training, options=options)
    again = model.fit(world.training, options=options)
    plain = model.fit(world.training)
    for name, array in first.state().items():
        assert np.array_equal(array, again.state()[name]), name
        assert np.array_equal(array, plain.state()[name]), name
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_arrays_of_a_fitted_model_are_short():
    fitted = small(SamsVae).fit(count_world(n_targets=3, cells_each=20, doubles=()).training)
    assert {array.dtype for array in fitted.state().values()} <= {np.dtype(np.float32), np.dtype(np.uint8)}
    assert fitted.losses.shape == (4, 2)


def test_fitting_and_predicting_leave_the_generator_of_torch_alone():
    training = count_world(n_targets=3, cells_each=20, doubles=()).training
    before = torch.get_rng_state()
    small(SvaePlus).fit(training).predict(["G000"])
    assert torch.equal(before, torch.get_rng_state())


def test_batches_of_a_backed_screen_are_those_of_memory(tmp_path):
    import anndata

    from perturbcast.data.matrix import BackedCsr
    from perturbcast.nn.cells import CellBatches

    screen = count_world(n_targets=3, cells_each=20, doubles=()).training.screen
    assert screen.scale is Scale.COUNTS
    path = tmp_path / "screen.h5ad"
    anndata.AnnData(screen.matrix.matrix).write_h5ad(path)
    import h5py

    with h5py.File(path) as file:
        indptr = file["X"]["indptr"][:].astype(np.int64)
    backed = replace(screen, matrix=BackedCsr(path, "X", screen.matrix.shape, indptr))
    cells, train = np.array([70, 3, 41, 5]), np.arange(screen.n_cells)
    batches = [
        CellBatches.of(each, columns=("G000", "G001"), train_cells=train).batch(cells) for each in (screen, backed)
    ]
    assert torch.equal(batches[0].values, batches[1].values)
    assert torch.equal(batches[0].library, batches[1].library)
    moments = [
        CellBatches.of(each, columns=(), train_cells=train).moments(train, logarithm=True) for each in (screen, backed)
    ]
    np.testing.assert_array_equal(moments[0], moments[1])
    dense = np.log1p(screen.matrix.matrix.toarray().astype(np.float64))
    np.testing.assert_allclose(moments[0][0], dense.mean(0))
    np.testing.assert_allclose(moments[0][1], dense.std(0, ddof=1))


def test_no_more_cells_than_a_batch_or_a_block_are_ever_read_at_once():
    from perturbcast.nn.cells import BLOCK

    class Watched(InMemory):
        largest = 0

        def rows(self, index):
            Watched.largest = max(Watched.largest, len(index))
            return super().rows(index)

    training = count_world(n_targets=3, cells_each=400, doubles=()).training
    assert training.screen.n_cells > BLOCK
    watched = replace(training.screen, matrix=Watched(training.screen.matrix.matrix))
    small(SamsVae, max_epochs=1).fit(replace(training, screen=watched))
    assert Watched.largest == BLOCK


@pytest.mark.slow
def test_two_processes_learn_what_one_learns():
    training = count_world(n_targets=3, cells_each=21, doubles=((0, 1),)).training
    model = small(SamsVae, batch_size=50)
    one, two = model.fit(training), model.fit(training, options=RunOptions(devices=2))
    np.testing.assert_allclose(two.losses, one.losses, rtol=1e-4)
