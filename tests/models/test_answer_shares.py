"""Answers moved towards the mean response and no change: exact shares, their groups, and what stays as it is."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from perturbcast.data.conditions import targets_of
from perturbcast.data.prediction import Support
from perturbcast.models.answer_shares import FEWEST, MEAN_MODEL, SHARE, AnswerShares, LeftOut, best_shares
from perturbcast.models.base import FittedModel, Model, ModelCard
from perturbcast.models.check_world import check_world
from perturbcast.models.latent_additive import LatentAdditive
from perturbcast.models.left_out import KnowsLeftOutErrors, left_out_errors
from perturbcast.models.scgen import Scgen


@pytest.fixture(scope="module")
def world():
    return check_world()


class FittedLoud(KnowsLeftOutErrors):
    """Three times the mean response, and as such too much."""

    def _respond(self, query):
        return 3.0 * self._state["level"], None, Support.MEAN


@dataclass(frozen=True)
class Loud(Model):
    """A model whose answers are best taken back."""

    card: ClassVar[ModelCard] = ModelCard("loud", "Loud", "Too much.", "a test", frozenset({"unseen_single"}))
    fitted_class: ClassVar[type[FittedModel]] = FittedLoud

    def fit(self, training, *, seed=0, progress=None):
        return FittedLoud(self, training.responses, {"level": training.responses.perturbed_mean()})


@pytest.fixture(scope="module")
def loud(world):
    """Fitted, with the shares that left-out conditions want."""
    own = Loud().fit(world.training)
    more = left_out_errors(Loud(), world.training, n_folds=3, seed=0, shrink=True)
    return FittedLoud(Loud(), world.training.responses, own.state() | more)


def unseen_singles(world):
    """Test conditions of one target that training has not."""
    there = set(world.training.responses.conditions)
    return [q for q in world.test.queries if len(targets_of(q.condition)) == 1 and q.condition not in there]


def rows(seed, n_rows=40, n_genes=30):
    return np.random.default_rng(seed).normal(size=(n_rows, n_genes))


@pytest.mark.parametrize("wanted", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.25, 0.6), (0.5, 0.5)])
def test_shares_that_made_the_data_are_found(wanted):
    predicted, mean = rows(0), rows(1)
    observed = wanted[0] * predicted + wanted[1] * mean + 0.3 * rows(2)
    np.testing.assert_allclose(best_shares(observed, predicted, mean), wanted, atol=0.051)


def test_shares_are_never_above_one_nor_below_zero():
    predicted, mean = rows(0), rows(1)
    assert best_shares(3.0 * predicted, predicted, mean).tolist() == [1.0, 0.0]
    assert best_shares(-predicted, predicted, mean).tolist() == [0.0, 0.0]


def test_most_conditions_decide_and_not_the_strongest():
    predicted, mean = np.ones((9, 4)), np.zeros((9, 4))
    observed = np.zeros((9, 4))
    observed[0] = 100.0
    assert best_shares(observed, predicted, mean).tolist() == [0.0, 0.0]


def test_a_silent_model_leaves_the_mean_its_share():
    mean = rows(1)
    own, rest = best_shares(0.5 * mean, np.zeros_like(mean), mean)
    assert rest == 0.5
    assert own == 0.5  # of no effect, as large as can be


def test_groups_with_few_conditions_are_not_moved():
    names = ("many",) * FEWEST + ("few",) * (FEWEST - 1)
    left = LeftOut(names, np.zeros((len(names), 3)), np.ones((len(names), 3)), np.ones((len(names), 3)))
    shares = left.shares()
    assert set(shares) == {"many"}
    np.testing.assert_array_equal(left.moved(shares)[:FEWEST], 0.0)
    np.testing.assert_array_equal(left.moved(shares)[FEWEST:], 1.0)


def test_unseen_targets_are_answered_between_model_mean_and_no_change(world, loud):
    own, rest = loud.state()[f"{SHARE}targets-single"]
    assert own <= 0.5
    mean = MEAN_MODEL.fit(world.training).predict(unseen_singles(world)).response
    shares = AnswerShares(loud)
    for row, query in enumerate(unseen_singles(world)):
        said = loud.predict([query]).response[0]
        np.testing.assert_allclose(shares.answer(query, said), own * said + rest * mean[row], atol=1e-12)


def test_moved_answers_err_less_on_new_conditions(world, loud):
    asked, shares = unseen_singles(world), AnswerShares(loud)
    truth = world.test.take(world.test.index(asked)).response
    said = loud.predict(asked).response
    moved = np.array([shares.answer(query, row) for query, row in zip(asked, said, strict=True)])
    assert np.linalg.norm(truth - moved, axis=1).mean() < np.linalg.norm(truth - said, axis=1).mean()


def test_errors_are_those_of_the_moved_answers(world):
    plain, moved = (
        left_out_errors(Loud(), world.training, n_folds=3, seed=0, shrink=shrink) for shrink in (False, True)
    )
    level, slope, _ = plain["errors.targets-single.about"]
    assert moved["errors.targets-single.about"][:2].sum() < level + slope
    assert not any(name.startswith(SHARE) for name in plain)


def test_answers_to_conditions_of_training_stay(world, loud):
    query = world.training.responses.queries[0]
    said = loud.predict([query]).response[0]
    np.testing.assert_array_equal(AnswerShares(loud).answer(query, said), said)


@pytest.mark.parametrize("model", [Scgen(space="pca", below="mean"), LatentAdditive(max_steps=2, width=4, shrink=True)])
def test_models_of_cells_move_their_answers_and_still_do_so_when_restored(world, model):
    fitted = model.fit(world.with_cells, seed=0)
    plain = replace(model, folds=0, shrink=False).fit(world.with_cells, seed=0)
    own, rest = fitted.state()[f"{SHARE}targets-single"]
    asked = unseen_singles(world)[:2]
    mean = MEAN_MODEL.fit(world.training).predict(asked).response
    found = type(fitted).restore(fitted.model, world.training.responses, fitted.state()).predict(asked).response
    np.testing.assert_allclose(found, own * plain.predict(asked).response + rest * mean, atol=1e-6)
    assert (own, rest) != (1.0, 0.0)
