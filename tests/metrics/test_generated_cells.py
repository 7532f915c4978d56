"""Models that generate cells are judged by those cells, not by cells drawn from their means."""

from dataclasses import replace

import numpy as np
import pytest
from cells_world import cells_world, evaluation_of

from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory
from perturbcast.errors import CannotPredict
from perturbcast.metrics.base import get_metric
from perturbcast.metrics.cells import generated_cells, predicted_cells


@pytest.fixture(scope="module")
def evaluation():
    return evaluation_of(cells_world(n_genes=120, n_cells=60))


def resampled(screen, name=None):
    """A sampler that hands out observed cells, of the query or of another condition."""

    def sample(query, *, n_cells, seed=0):
        real = screen.cells_of(query if name is None else Query(name, query.context))
        return screen.stored(np.random.default_rng(seed).choice(real, n_cells)).toarray()

    return sample


def judged(evaluation, sampler, name):
    """Mean of a metric with those cells."""
    mask = np.ones(evaluation.truth.response.shape, dtype=bool)
    return np.mean(get_metric(name).score(replace(evaluation, sampler=sampler, cache={}), mask))


@pytest.mark.parametrize("name", ["edistance", "edistance_squared", "mmd", "energy_truth_pca"])
def test_cells_of_the_model_are_compared_whatever_its_mean_says(evaluation, name):
    own, control = resampled(evaluation.screen), resampled(evaluation.screen, CONTROL)
    # the mean prediction is the truth in all three
    assert judged(evaluation, own, name) < 0.5 * judged(evaluation, control, name)
    assert judged(evaluation, None, name) < 0.5 * judged(evaluation, control, name)


def test_tests_of_expression_take_cells_drawn_from_the_mean_as_of_any_model(evaluation):
    control = resampled(evaluation.screen, CONTROL)
    assert judged(evaluation, control, "significant_jaccard") == judged(evaluation, None, "significant_jaccard") > 0


def test_query_that_the_model_has_no_cells_of_is_drawn_from_its_mean(evaluation):
    def refuses(query, *, n_cells, seed=0):
        raise CannotPredict("no cells.")

    drawn = generated_cells(replace(evaluation, sampler=refuses, cache={}), 0)
    assert (drawn.counts != predicted_cells(replace(evaluation, cache={}), 0).counts).nnz == 0


def test_depth_of_generated_cells_is_that_of_whole_cells_where_the_screen_holds_a_part(evaluation):
    screen = replace(evaluation.screen, library=evaluation.screen.library * 4)
    whole = replace(evaluation, screen=screen, sampler=resampled(screen), cache={})
    query = evaluation.truth.queries[0]
    real = screen.expression(screen.cells_of(query)).toarray().mean(axis=0)
    generated = generated_cells(whole, 0).expression.toarray().mean(axis=0)
    assert np.abs(generated - real).mean() < 0.1 * real.mean()


def test_generated_expression_is_taken_as_it_is_and_never_below_zero(evaluation):
    cells = np.arange(evaluation.screen.n_cells)
    logged = evaluation.screen.expression(cells)
    screen = replace(evaluation.screen, matrix=InMemory(logged), scale=Scale.LOG1P_CP10K, library=None)

    def sample(query, *, n_cells, seed=0):
        return np.random.default_rng(seed).normal(size=(n_cells, screen.n_genes))

    drawn = generated_cells(replace(evaluation, screen=screen, sampler=sample, cache={}), 0).expression.toarray()
    assert drawn.min() == 0
    assert drawn[drawn > 0].mean() == pytest.approx(np.sqrt(2 / np.pi), rel=0.05)
