"""Weights by specificity, and the scores that use them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from profiles import REPEATABLE, pairs
from scipy import stats
from worlds import make_evaluation, with_prediction

from perturbcast.data.conditions import CONTROL
from perturbcast.metrics.point import mse
from perturbcast.metrics.score import score
from perturbcast.metrics.weighted import (
    r2_weighted,
    rest_of_perturbed,
    specificity_weights,
    t_scores,
    weights_from_t,
    wmse,
)


@pytest.mark.parametrize("n_contexts", [1, 2])
def test_moments_of_the_rest_are_those_of_all_other_perturbed_cells(n_contexts):
    evaluation = make_evaluation(n_queries=6, n_genes=20, n_contexts=n_contexts)
    screen, truth = evaluation.screen, evaluation.truth
    rest = rest_of_perturbed(truth, evaluation.training)
    expression = np.asarray(screen.expression(np.arange(screen.n_cells)).todense(), dtype=float)
    conditions, contexts = np.array(screen.conditions)[screen.condition_code], screen.context_code
    for row, query in enumerate(truth.queries):
        here = contexts == truth.contexts.index(query.context)
        cells = expression[here & (conditions != CONTROL) & (conditions != query.condition)]
        cells = cells - truth.control_by_query[row]
        assert rest.mean[row] == pytest.approx(cells.mean(axis=0), abs=1e-6)
        assert rest.variance[row] == pytest.approx(cells.var(axis=0, ddof=1), rel=1e-5, abs=1e-6)


def test_a_condition_in_training_and_test_is_not_its_own_rest():
    """In a split of cells the same condition stands on both sides."""
    evaluation = make_evaluation(n_queries=6, n_genes=20)
    truth = evaluation.truth
    both = rest_of_perturbed(truth, truth)
    alone = rest_of_perturbed(truth, truth.take(np.array([], dtype=int)))
    assert both.mean == pytest.approx(alone.mean)


def test_t_scores_agree_with_scipy_where_the_rest_counts_as_many_cells():
    rng = np.random.default_rng(0)
    own, rest = rng.normal(0.3, 1.0, size=(20, 8)), rng.normal(0.0, 2.0, size=(500, 8))
    found = t_scores(
        own.mean(axis=0)[None],
        own.var(axis=0, ddof=1)[None],
        np.array([20]),
        rest_mean=rest.mean(axis=0)[None],
        rest_variance=rest.var(axis=0, ddof=1)[None],
    )
    moments = [own.mean(axis=0), own.std(axis=0, ddof=1), 20, rest.mean(axis=0), rest.std(axis=0, ddof=1), 20]
    assert found[0] == pytest.approx(stats.ttest_ind_from_stats(*moments, equal_var=False).statistic)


@REPEATABLE
@given(pairs())
def test_weights_lie_between_zero_and_one_and_grow_with_t(pair):
    t, _ = pair
    weights = weights_from_t(t)
    assert (weights >= 0).all()
    assert (weights.max(axis=1) == 1).all()
    assert (weights.min(axis=1) == 0).all()
    for row in range(len(t)):
        assert (np.diff(weights[row][np.argsort(np.abs(t[row]))]) >= 0).all()


def test_unknown_t_has_weight_zero_and_equal_t_have_no_weight_at_all():
    t = np.array([[np.nan, 2.0, -4.0], [np.nan] * 3, [1.0, -1.0, 1.0]])
    assert weights_from_t(t).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


@REPEATABLE
@given(pairs())
def test_equal_weights_or_none_give_the_plain_mean(pair):
    predicted, truth = pair
    for weights in (np.full(truth.shape, 0.3), np.zeros(truth.shape)):
        assert wmse(predicted, truth, weights=weights) == pytest.approx(mse(predicted, truth))


@REPEATABLE
@given(pairs())
def test_a_weight_is_like_repeating_a_gene(pair):
    predicted, truth = pair
    weights = np.ones(truth.shape)
    weights[:, 0] = 3.0
    repeated = [np.concatenate([side, side[:, :1], side[:, :1]], axis=1) for side in (predicted, truth)]
    ones = np.ones(repeated[0].shape)
    for metric in (wmse, r2_weighted):
        expected = metric(*repeated, weights=ones)
        assert metric(predicted, truth, weights=weights) == pytest.approx(expected, nan_ok=True, rel=1e-6, abs=1e-9)


def test_the_specific_genes_of_a_query_weigh_most():
    evaluation = make_evaluation(n_queries=30, n_genes=80, n_cells=60)
    weights = specificity_weights(evaluation)
    shift = evaluation.truth.response - evaluation.truth.response.mean(axis=0)
    strongest = np.argsort(-np.abs(shift), axis=1)[:, :5]
    assert np.take_along_axis(weights, strongest, axis=1).mean() > 5 * weights.mean()


def test_the_perturbed_mean_explains_no_weighted_variance_against_itself():
    evaluation = make_evaluation(n_queries=20)
    mean = np.tile(evaluation.perturbed_mean, (evaluation.truth.n_queries, 1))
    table = score(with_prediction(evaluation, mean), metrics=["r2_weighted_perturbed"], gene_sets=["all"])
    assert (table["value"] <= 0).all()


def test_without_variances_the_weights_are_refused_with_a_reason():
    evaluation = make_evaluation(n_queries=4)
    truth = dataclasses.replace(evaluation.truth, variance=None)
    table = score(dataclasses.replace(evaluation, truth=truth, cache={}), metrics=["wmse"], gene_sets=["all"])
    assert table["reason"].tolist() == [
        "E602 MetricNeeds: wmse reads variance, which these data do not have. Leave it out, or give what it reads."
    ]
