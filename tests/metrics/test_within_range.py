"""Shares of genes whose predicted mean lies within the spread of cells."""

import numpy as np
import pytest
from cells_world import cells_world, evaluation_of, with_response

from perturbcast.metrics.base import get_metric
from perturbcast.metrics.within_range import RANGES, fraction_within, fraction_within_one_sd


@pytest.fixture(scope="module")
def evaluation():
    return evaluation_of(cells_world(n_queries=9, n_genes=80))


def score(evaluation, name) -> np.ndarray:
    return get_metric(name).score(evaluation, np.ones(evaluation.truth.response.shape, dtype=bool))


def test_bounds_belong_to_the_range():
    predicted = np.array([1.0, 2.0, 3.0, 4.0])
    assert fraction_within(predicted, np.full(4, 2.0), np.full(4, 3.0)) == 0.5
    assert np.isnan(fraction_within(predicted[:0], predicted[:0], predicted[:0]))


def test_a_gene_without_variance_must_be_exact():
    truth, variance = np.array([[1.0, 1.0, 1.0]]), np.array([[0.0, 0.0, 4.0]])
    assert fraction_within_one_sd(np.array([[1.0, 1.1, 2.9]]), truth, variance=variance) == pytest.approx([2 / 3])


def test_wider_ranges_hold_more(evaluation):
    shares = {name: score(evaluation, name).mean() for name in RANGES}
    assert shares["within_45_55"] <= shares["within_40_60"] < shares["within_25_75"] < shares["within_min_max"] == 1.0


def test_scores_are_those_of_numpy_on_dense_cells(evaluation):
    screen, query = evaluation.screen, evaluation.truth.queries[1]
    cells = screen.expression(screen.cells_of(query)).toarray().astype(float)
    expected = evaluation.truth.expression[1]
    low, high = np.quantile(cells, [0.25, 0.75], axis=0)
    inside = (expected >= low - 1e-6) & (expected <= high + 1e-6)
    assert score(evaluation, "within_25_75")[1] == pytest.approx(inside.mean())


def test_far_predictions_leave_every_range(evaluation):
    far = with_response(evaluation, evaluation.truth.response + 20.0)
    assert score(far, "within_min_max").max() == 0.0
    assert score(far, "within_one_sd").max() == 0.0
    assert score(evaluation, "within_one_sd").min() == 1.0
