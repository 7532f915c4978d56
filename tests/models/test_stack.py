"""Stacked models: weights by question, from what was left out."""

from dataclasses import replace

import numpy as np
import pytest

from perturbcast.models.base import TrainingData
from perturbcast.models.check_world import check_world
from perturbcast.models.holdouts import COMBINATIONS, TARGETS
from perturbcast.models.stack import Stack, best_weights, blended, filled


@pytest.fixture(scope="module")
def fitted():
    return Stack(members=("kernel-ridge", "lowrank-additive", "no-change"), folds=3).fit(check_world().training, seed=1)


def test_weights_are_non_negative_and_each_question_has_its_own(fitted):
    targets, combinations = fitted.weights(TARGETS), fitted.weights(COMBINATIONS)
    assert set(targets) == {"kernel-ridge", "lowrank-additive", "no-change"}
    assert min([*targets.values(), *combinations.values()]) >= 0
    assert combinations["lowrank-additive"] > targets["lowrank-additive"]


def test_stack_is_no_worse_than_its_best_member(fitted):
    world = check_world()
    truth = world.test.response
    errors = {
        name: np.linalg.norm(model.predict(world.test.queries).response - truth, axis=1).mean()
        for name, model in {**fitted.members, "stack": fitted}.items()
    }
    assert errors["stack"] <= 1.03 * min(errors.values())


def test_least_squares_finds_the_mixture_that_made_the_truth():
    rng = np.random.default_rng(0)
    changes = rng.normal(size=(3, 30, 20))
    found = best_weights(0.7 * changes[0] + 0.2 * changes[2], changes)
    np.testing.assert_allclose(found, [0.7, 0.0, 0.2], atol=1e-8)


def test_member_that_refuses_counts_as_the_origin():
    origin = np.ones((2, 3))
    member = np.array([[2.0, 2.0, 2.0], [np.nan, np.nan, np.nan]])
    found = blended(origin, member[None], np.full((2, 1), 0.5))
    np.testing.assert_array_equal(found, [[1.5] * 3, [1.0] * 3])
    np.testing.assert_array_equal(filled(None, origin), origin)


def test_a_member_that_cannot_be_fitted_is_left_out():
    table = replace(check_world().training.responses, n_cells=None)
    fitted = Stack(members=("lowrank-additive", "mean:cells"), folds=2).fit(TrainingData(table))
    assert list(fitted.members) == ["mean:same-size", "lowrank-additive"]
