"""Models of cells: intervals learned from conditions left out, and no query left without cells to train on."""

from dataclasses import replace

import numpy as np
import pytest

from perturbcast.data.conditions import is_single
from perturbcast.errors import NotEnoughTraining
from perturbcast.models import scgen as scgen_module
from perturbcast.models.check_world import check_world
from perturbcast.models.conformal import Z
from perturbcast.models.embedding_ridge import EmbeddingRidge, ridge_state
from perturbcast.models.latent_additive import LatentAdditive
from perturbcast.models.left_out import for_answers_alone, left_out_errors
from perturbcast.models.linear import Linear
from perturbcast.models.mean import Mean
from perturbcast.models.nearest import Nearest
from perturbcast.models.pair_family import pairs_source
from perturbcast.models.scgen import Scgen
from perturbcast.models.stack import Stack
from perturbcast.models.target_inputs import target_inputs


@pytest.fixture(scope="module")
def world():
    return check_world()


class Spied(Mean):
    """A model that notes what it was fitted to; it can refuse."""

    def __init__(self, *, least=0):
        object.__setattr__(self, "fitted_to", [])
        object.__setattr__(self, "least", least)
        super().__init__()

    def fit(self, training, *, seed=0, progress=None):
        if training.responses.n_queries < self.least:
            raise NotEnoughTraining("too few.")
        self.fitted_to.append(set(training.responses.queries))
        return Mean().fit(training, seed=seed)


def test_every_target_is_left_out_once_and_order_of_queries_does_not_matter(world):
    spied, table = Spied(), world.training.responses
    state = left_out_errors(spied, world.training, n_folds=3, seed=0)
    missing = [set(table.queries) - seen for seen in spied.fitted_to]
    assert set.union(*missing) == set(table.queries)
    assert {name.split(".")[1] for name in state} >= {"targets", "combinations", "targets-single"}
    turned = replace(world.training, responses=table.take(np.arange(table.n_queries)[::-1]))
    again = left_out_errors(Spied(), turned, n_folds=3, seed=0)
    for name, array in state.items():
        np.testing.assert_array_equal(array, again[name])


def test_nothing_is_learned_where_no_fold_can_be_fitted_and_without_folds(world):
    assert left_out_errors(Spied(least=1000), world.training, n_folds=3, seed=0) == {}
    assert left_out_errors(Spied(), world.training, n_folds=0, seed=0) == {}


def test_intervals_cover_new_conditions(world):
    fitted = Scgen(space="pca").fit(world.with_cells, seed=0)
    found = fitted.predict(world.test.queries)
    inside = np.abs(found.response - world.test.response) <= Z * found.sd
    assert 0.85 <= inside[found.predicted].mean() <= 0.95


@pytest.mark.parametrize("model", [Linear(), Nearest(), EmbeddingRidge()], ids=lambda model: model.label)
def test_baselines_cover_new_singles_and_new_combinations(world, model):
    fitted = model.fit(world.training, seed=0)
    found = fitted.predict(world.test.queries)
    inside = np.abs(found.response - world.test.response) <= Z * found.sd
    single = np.array([is_single(query.condition) for query in world.test.queries])
    for kind in (single, ~single):
        assert 0.8 <= inside[kind & found.predicted].mean() <= 0.97


@pytest.mark.parametrize("model", [Linear, Nearest, EmbeddingRidge])
def test_calibration_moves_the_standard_deviation_and_not_the_answer(world, model):
    queries = world.test.queries[:4]
    own, calibrated = (model(folds=folds).fit(world.training, seed=0).predict(queries) for folds in (0, 3))
    np.testing.assert_array_equal(own.response, calibrated.response)
    assert not np.array_equal(own.sd, calibrated.sd)


def test_models_that_are_asked_for_answers_alone_learn_no_errors_of_their_own(world):
    assert for_answers_alone(Nearest()) == Nearest(folds=0)
    assert for_answers_alone(Mean()) == Mean()
    assert for_answers_alone(Scgen()) == Scgen()  # its answers are moved by what is left out
    stacked = Stack(members=("kernel-ridge", "nearest"), folds=2).fit(world.training, seed=0)
    assert "member.nearest.deviation" in stacked.state()
    assert not [name for name in stacked.state() if name.startswith("member.nearest.errors.")]


def test_without_folds_there_is_no_standard_deviation(world):
    fitted = Scgen(space="pca", folds=0).fit(world.with_cells, seed=0)
    assert fitted.predict(world.test.queries[:2]).sd is None


def few_cells(world):
    """Two cells of each query."""
    screen = world.with_cells.screen
    kept = [np.flatnonzero(screen.query_code == code)[:2] for code in np.unique(screen.query_code)]
    return replace(world.with_cells, screen=screen.take(np.sort(np.concatenate(kept))))


@pytest.mark.parametrize("seed", range(3))
def test_every_query_keeps_a_cell_to_train_on(world, seed, monkeypatch):
    training = few_cells(world)
    inputs = target_inputs(training, knowledge=False)
    source, _ = pairs_source(training, inputs, seed=seed, label="test")
    every = set(np.unique(source.screen.query_code))
    train, _ = LatentAdditive(targets_by="name", validation=0.5)._cells(source, seed=seed)
    assert set(source.screen.query_code[train]) == every
    given = {}

    def stopped(network, source, *, cells, **rest):
        given["cells"] = cells
        raise NotEnoughTraining("seen enough.")

    monkeypatch.setattr(scgen_module, "trained_network", stopped)
    with pytest.raises(NotEnoughTraining, match="seen enough"):
        Scgen(validation=0.5, folds=0).fit(training, seed=seed)
    assert set(source.screen.query_code[given["cells"][0]]) == every


def test_ridge_says_how_far_rows_lie_though_one_is_explained_by_an_effect_of_its_own():
    rng = np.random.default_rng(0)
    features, response = rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
    effects = np.column_stack([np.ones(6), np.arange(6) == 5]).astype(float)
    whole = ridge_state(features, response, effects, strength=1.0, size=1.0)
    without = ridge_state(features[:5], response[:5], effects[:5, :1], strength=1.0, size=1.0)
    np.testing.assert_allclose(whole["sd"], without["sd"])
