"""sd of baselines: intervals cover new conditions of unequal strength, singles and combinations each by their own."""

import dataclasses
import itertools

import numpy as np
import pytest
from model_worlds import table_of

from perturbcast.models.base import TrainingData
from perturbcast.models.conformal import LEVEL, Z, spread_of
from perturbcast.models.mean import left_out_by_mean, mean_by_context
from perturbcast.models.registry import get_model

WORLDS = 12


def uneven(*, n_genes=60, seed=0):
    """(training, test) responses of conditions of very unequal strength; combinations are three times as strong."""
    rng = np.random.default_rng(seed)
    singles = [f"T{number}" for number in range(120)]
    doubles = [f"{first}+{second}" for first, second in itertools.pairwise(singles)]
    strength = np.exp(1.5 * rng.normal(size=len(singles) + len(doubles)))
    strength[len(singles) :] *= 3
    response = 0.3 + strength[:, None] * rng.normal(size=(len(strength), n_genes))
    table = table_of(response, [*singles, *doubles])
    trained = rng.random(len(strength)) < 0.5
    return table.take(trained), table.take(~trained)


@pytest.mark.parametrize("name", ["no-change", "mean", "mean:same-size", "matching-mean", "kernel-ridge"])
def test_intervals_cover_conditions_of_unequal_strength_of_either_size(name):
    held = {1: [], 2: []}
    for seed in range(WORLDS):
        training, test = uneven(seed=seed)
        found = get_model(name).fit(TrainingData(training)).predict(test.queries)
        inside = (np.abs(found.response - test.response) <= Z * found.sd).mean(axis=1)
        for query, share in zip(test.queries, inside, strict=True):
            held[1 + query.condition.count("+")].append(share)
    assert abs(np.mean(held[1]) - LEVEL) < 0.02
    assert abs(np.mean(held[2]) - LEVEL) < 0.02


@pytest.mark.parametrize("name", ["additive", "kappa-additive", "lowrank-additive"])
def test_unseen_singles_are_covered_by_additive_models(name):
    held = []
    for seed in range(WORLDS):
        training, test = uneven(seed=seed)
        singles = test.take(np.array(["+" not in condition for condition in test.conditions]))
        found = get_model(name).fit(TrainingData(training)).predict(singles.queries)
        held.append((np.abs(found.response - singles.response) <= Z * found.sd).mean())
    assert abs(np.mean(held) - LEVEL) < 0.02


@pytest.mark.parametrize("variant", ["perturbed", "cells", "with-control"])
def test_errors_of_the_mean_are_those_of_means_without_the_query(variant):
    rng = np.random.default_rng(0)
    table = table_of(rng.normal(size=(7, 3)), [f"T{row}" for row in range(7)], n_cells=[9, 50, 20, 5, 80, 30, 10])
    found = left_out_by_mean(table, variant=variant)
    for row in range(7):
        rest = table.take(np.array([place for place in range(7) if place != row]))
        np.testing.assert_allclose(found[row], table.response[row] - mean_by_context(rest, variant=variant)[0])


def test_a_query_alone_in_its_context_is_not_left_out():
    table = table_of(np.ones((4, 2)), ["A", "B"], contexts=("K562", "RPE1")).take(np.array([0, 1, 2]))
    found = left_out_by_mean(table)
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2]).all()
    assert np.isfinite(get_model("mean").fit(TrainingData(table)).predict(["C"]).sd).all()


def test_few_errors_give_their_root_mean_square_and_none_give_zero():
    np.testing.assert_allclose(spread_of(np.array([[3.0, 0.0], [4.0, 0.0]])), [np.sqrt(12.5), 0.0])
    np.testing.assert_array_equal(spread_of(np.empty((0, 2))), [0.0, 0.0])


def test_sd_follows_no_name_or_order_of_conditions():
    training, test = uneven()
    turned = training.take(np.arange(training.n_queries)[::-1])
    for name in ("no-change", "mean", "additive"):
        one = get_model(name).fit(TrainingData(training)).predict(test.queries).sd
        other = get_model(name).fit(TrainingData(dataclasses.replace(turned, name="other"))).predict(test.queries).sd
        np.testing.assert_allclose(one, other)
