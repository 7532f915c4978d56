"""Correlation, cosine and R² of responses."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import REPEATABLE, pairs
from scipy import stats
from worlds import make_evaluation, with_prediction

from perturbcast.data.scale import Scale
from perturbcast.errors import MetricNeeds
from perturbcast.metrics.base import Evaluation, get_metric
from perturbcast.metrics.correlation import (
    ate_r2,
    ate_rho,
    cosine,
    fold_changes,
    log_fold_change,
    pearson,
    r2,
    spearman,
)
from perturbcast.metrics.score import score


@REPEATABLE
@given(pairs(), st.floats(0.1, 9), st.floats(-5, 5))
def test_pearson_ignores_scale_and_shift_and_cosine_ignores_scale(pair, scale, shift):
    predicted, truth = pair
    moved = scale * predicted + shift
    assert pearson(moved, truth) == pytest.approx(pearson(predicted, truth), abs=1e-6, nan_ok=True)
    assert cosine(scale * predicted, truth) == pytest.approx(cosine(predicted, truth), abs=1e-9, nan_ok=True)
    assert pearson(-predicted, truth) == pytest.approx(-pearson(predicted, truth), abs=1e-9, nan_ok=True)


@REPEATABLE
@given(pairs())
def test_a_mask_is_the_same_as_leaving_genes_out(pair):
    predicted, truth = (np.repeat(side, 2, axis=1) + 0.01 * np.arange(2 * side.shape[1]) for side in pair)
    keep = np.arange(truth.shape[1]) % 2 == 0
    mask = np.tile(keep, (len(truth), 1))
    for metric in (pearson, spearman, cosine, r2, ate_rho, ate_r2):
        expected = metric(predicted[:, keep], truth[:, keep])
        assert metric(predicted, truth, mask=mask) == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_spearman_agrees_with_scipy_ties_included():
    rng = np.random.default_rng(0)
    predicted, truth = rng.integers(0, 6, size=(2, 7, 25)).astype(float)
    expected = [stats.spearmanr(*pair).statistic for pair in zip(predicted, truth, strict=True)]
    assert spearman(predicted, truth) == pytest.approx(expected)


def test_r2_agrees_with_scikit_learn():
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(1)
    predicted, truth = rng.normal(size=(2, 5, 30))
    assert r2(predicted, truth) == pytest.approx([r2_score(*pair) for pair in zip(truth, predicted, strict=True)])
    assert ate_r2(predicted, truth) == pytest.approx([r2_score(truth.ravel(), predicted.ravel())])


@pytest.mark.parametrize("level", [0.0, 0.3, 1e9])
def test_a_profile_that_is_constant_but_for_rounding_has_no_correlation(level):
    truth = np.random.default_rng(0).normal(size=(1, 50))
    flat = np.full((1, 50), level) * (1 + 1e-16)
    assert np.isnan(pearson(flat, truth)).all()
    assert np.isnan(pearson(truth, flat)).all()


def test_no_change_scores_zero_with_a_reason_and_never_drops_out():
    table = score(make_evaluation(prediction="zero"), metrics=["pearson_delta", "cosine"], gene_sets=["all"])
    assert (table["value"] == 0).all()
    assert table["reason"].str.startswith("E603 UndefinedScore: ").all()


def test_the_perturbed_mean_scores_zero_against_itself_but_not_against_control():
    evaluation = make_evaluation()
    mean = np.tile(evaluation.perturbed_mean, (evaluation.truth.n_queries, 1))
    table = score(with_prediction(evaluation, mean), metrics=["pearson_delta", "pearson_delta_perturbed"])
    table = table[table["gene_set"] == "all"].groupby("metric")
    assert (table.get_group("pearson_delta_perturbed")["value"] == 0).all()
    assert (table.get_group("pearson_delta_perturbed")["reason"] != "").all()
    assert table.get_group("pearson_delta")["value"].mean() > 0.2


def test_the_perturbed_reference_is_that_of_training_not_of_the_test_side():
    evaluation = make_evaluation()
    table = score(evaluation, metrics=["pearson_delta_perturbed"], gene_sets=["all"])
    shift = evaluation.training.response.mean(axis=0)
    expected = pearson(evaluation.predicted.response - shift, evaluation.truth.response - shift)
    assert table["value"].to_numpy() == pytest.approx(expected)


def test_a_score_of_the_whole_data_set_is_one_row():
    evaluation = make_evaluation()
    table = score(evaluation, metrics=["ate_rho"])
    assert table[["condition", "context", "gene_set"]].to_numpy().tolist() == [["*", "*", "all"], ["*", "*", "delta20"]]
    flat = [side.response.ravel() for side in (evaluation.predicted, evaluation.truth)]
    assert table["value"][0] == pytest.approx(np.corrcoef(*flat)[0, 1])


def test_fold_changes_are_those_of_expected_counts():
    expression, control = np.log1p(np.array([[3.9, 0.0]])), np.log1p(np.array([[0.9, 0.3]]))
    assert log_fold_change(expression, control) == pytest.approx(np.array([[2.0, -2.0]]))


def test_fold_changes_are_refused_on_other_scales():
    evaluation = make_evaluation(n_queries=2)
    truth, predicted = (
        dataclasses.replace(side, scale=Scale.ZSCORE) for side in (evaluation.truth, evaluation.predicted)
    )
    with pytest.raises(MetricNeeds, match="zscore"):
        fold_changes(Evaluation(truth, predicted, evaluation.training))


def test_the_mean_summed_in_another_order_still_counts_as_no_information():
    evaluation = make_evaluation(seed=5)
    rows = evaluation.training.response
    votes = np.ones(len(rows))
    other_order = np.tile(votes[::-1] @ rows[::-1] / votes.sum() * (1 + 2e-16), (evaluation.truth.n_queries, 1))
    same = dataclasses.replace(
        evaluation, predicted=dataclasses.replace(evaluation.predicted, response=other_order), cache={}
    )
    mask = np.ones_like(other_order, dtype=bool)
    assert np.nan_to_num(get_metric("pearson_delta_perturbed").score(same, mask)).tolist() == [0.0] * len(mask)
