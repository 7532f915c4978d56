"""Pair ridge: kernels of combinations, shrunk sums, and interactions that like pairs share."""

import numpy as np
import pytest

from perturbcast.data.conditions import Query
from perturbcast.models.base import TrainingData
from perturbcast.models.check_world import check_world
from perturbcast.models.lowrank_additive import LowRankAdditive
from perturbcast.models.pair_fit import PairFit, leading_axes, shrunk
from perturbcast.models.pair_kernels import Combinations
from perturbcast.models.pair_ridge import PairRidge


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(0)
    singles = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 40))
    pairs = [(a, b) for a in range(12) for b in range(a + 1, 12)]
    return singles, pairs


def of(singles, pairs):
    return [[singles[a], singles[b]] for a, b in pairs], [(f"T{a}", f"T{b}") for a, b in pairs]


def test_kernel_of_pairs_is_the_sum_over_both_matchings(parts):
    singles, pairs = parts
    made = Combinations.of(*of(singles, pairs[:6]), centre=singles.mean(axis=0))
    rows = singles - singles.mean(axis=0)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = unit @ unit.T
    _, alike, _, paired, same = made.kernels(made)
    for left, (a, b) in enumerate(pairs[:6]):
        for right, (c, d) in enumerate(pairs[:6]):
            assert paired[left, right] == pytest.approx(cosine[a, c] * cosine[b, d] + cosine[a, d] * cosine[b, c])
            assert alike[left, right] == pytest.approx(cosine[np.ix_([a, b], [c, d])].sum())
            assert same[left, right] == len({a, b} & {c, d})


def test_kernels_of_combinations_have_no_negative_eigenvalue(parts):
    made = Combinations.of(*of(*parts), centre=parts[0].mean(axis=0))
    for kernel in made.kernels(made):
        assert np.linalg.eigvalsh(kernel)[0] > -1e-8 * np.trace(kernel)


def test_shrunk_sum_keeps_what_is_inside_the_axes(parts):
    singles, pairs = parts
    given, _ = of(singles, pairs)
    axes = leading_axes(singles)
    total = np.array([singles[a] + singles[b] for a, b in pairs])
    np.testing.assert_allclose(shrunk(given, singles.mean(axis=0), axes, 0.0), total, atol=1e-8)
    noisy = singles + np.random.default_rng(1).normal(size=singles.shape)
    found = shrunk(of(noisy, pairs)[0], singles.mean(axis=0), axes, 0.0)
    assert np.linalg.norm(found - total) < np.linalg.norm(np.array([noisy[a] + noisy[b] for a, b in pairs]) - total)


def test_interaction_that_depends_on_both_parts_is_found(parts):
    """Doubles of parts that respond alike saturate; a model of the sum alone cannot tell them from others."""
    singles, pairs = parts
    rows = singles - singles.mean(axis=0)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    beyond = np.random.default_rng(2).normal(size=40)
    truth = np.array([singles[a] + singles[b] + 2 * (unit[a] @ unit[b]) * beyond for a, b in pairs])
    given, names = of(singles, pairs)
    out = np.arange(0, len(pairs), 4)
    kept = np.setdiff1d(np.arange(len(pairs)), out)
    fit = PairFit.of([given[n] for n in kept], [names[n] for n in kept], truth[kept], singles=singles)
    found = fit.predict([given[n] for n in out], [names[n] for n in out])
    additive = np.array([np.sum(given[n], axis=0) for n in out])
    assert np.linalg.norm(found - truth[out]) < 0.5 * np.linalg.norm(additive - truth[out])


def test_without_training_combinations_singles_and_sums_are_those_of_the_model_below():
    world = check_world()
    singles = world.training.responses.take(
        np.array([q.condition.count("+") == 0 for q in world.training.responses.queries])
    )
    fitted = PairRidge().fit(TrainingData(singles, knowledge=world.training.knowledge))
    first, second = (query.condition for query in singles.queries[:2])
    asked = [Query("+".join(sorted((first, second)))), world.test.queries[0]]
    np.testing.assert_array_equal(fitted.predict(asked).response, fitted.below.predict(asked).response)


def test_doubles_of_the_check_world_are_no_worse_than_by_the_lowrank_model():
    world = check_world()
    test = world.test
    both = np.array([q.condition.count("+") == 1 for q in test.queries])
    asked = test.take(both)
    error = {}
    for model in (PairRidge(), LowRankAdditive()):
        found = model.fit(world.training).predict(asked.queries)
        error[model.card.name] = np.linalg.norm(found.response - asked.response, axis=1).mean()
    assert error["pair-ridge"] <= 1.02 * error["lowrank-additive"]
