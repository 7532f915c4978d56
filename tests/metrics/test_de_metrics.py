"""Metrics of differential expression: on hand-made sets, and against the truth of a small screen."""

from dataclasses import replace

import numpy as np
import pytest
from cells_world import cells_world, evaluation_of, with_response
from scipy import stats

from perturbcast.errors import MetricNeeds
from perturbcast.metrics.base import get_metric
from perturbcast.metrics.cells import predicted_cells
from perturbcast.metrics.de_metrics import (
    confidence_order,
    de_size_ratio,
    direction_fidelity,
    log_fold_error,
    precision_reach,
    predicted_de,
    set_jaccard,
    significance_overlap,
    top_overlap,
    welch_t,
)

NAMES = ("des", "direction_fidelity", "direction_reach", "significant_jaccard", "lfc_nmae", "deg_recall")


@pytest.fixture(scope="module")
def evaluation():
    return evaluation_of(cells_world(n_queries=12, n_genes=150))


def mean_score(evaluation, name, mask=None) -> float:
    everything = np.ones(evaluation.truth.response.shape, dtype=bool)
    return float(np.nanmean(get_metric(name).score(evaluation, everything if mask is None else mask)))


def flags(*positions: int, n: int = 6) -> np.ndarray:
    return np.isin(np.arange(n), positions)


def test_equal_fold_changes_are_cut_by_gene_name():
    called, significant = flags(0, 1, 2), flags(2)
    folds, names = np.array([2.0, 2.0, 2.0, 0, 0, 0]), np.array(list("cbaxyz"), dtype=object)
    assert significance_overlap(called, significant, folds, names=names) == 1.0
    assert significance_overlap(called, significant, folds, names=names[[2, 1, 0, 3, 4, 5]]) == 0.0


def test_nothing_called_or_nothing_significant_scores_zero_overlap():
    nothing, some, names = flags(), flags(1), np.array(list("abcdef"), dtype=object)
    assert significance_overlap(nothing, some, np.ones(6), names=names) == 0.0
    assert significance_overlap(some, nothing, np.ones(6), names=names) == 0.0


def test_a_call_without_direction_is_wrong_and_one_that_cannot_be_judged_is_left_out():
    called = flags(0, 1, 2)
    observed = np.array([1.0, -1.0, 0.0, 1, 1, 1])
    assert direction_fidelity(called, flags(0), np.array([1.0, 0.0, 5.0, 0, 0, 0]), observed) == pytest.approx(1 / 2)
    assert np.isnan(direction_fidelity(flags(), flags(), np.ones(6), observed))


def test_calling_more_genes_than_are_significant_lowers_fidelity():
    observed = np.ones(6)
    few = direction_fidelity(flags(0, 1), flags(0, 1), np.ones(6), observed)
    many = direction_fidelity(flags(0, 1, 2, 3), flags(0, 1), np.array([1.0, 1, -1, -1, 0, 0]), observed)
    assert (few, many) == (1.0, 0.5)


def test_reach_of_an_empty_ranking_is_undefined_and_of_wrong_signs_zero():
    assert np.isnan(precision_reach(np.zeros(0, dtype=bool)))
    assert precision_reach(np.zeros(5, dtype=bool)) == 0.0


def test_confidence_puts_called_genes_first_then_p_then_fold_then_name():
    called = np.array([False, True, True, True, True])
    adjusted = np.array([0.2, 0.01, 0.01, 0.01, 0.001])
    p = np.array([0.0, 0.005, 0.002, 0.005, 0.0])
    fold = np.array([9.0, -3.0, 1.0, 3.0, 0.1])
    names = np.array(["z", "b", "c", "a", "d"], dtype=object)
    assert confidence_order(called, adjusted, p, fold, names=names).tolist() == [4, 2, 3, 1, 0]


def test_fold_error_needs_ten_genes_and_counts_infinite_guesses_as_none():
    observed = np.arange(1.0, 13.0)
    gate = np.ones(12, dtype=bool)
    assert log_fold_error(np.full(12, np.inf), observed, gate=gate) == 1.0
    assert np.isnan(log_fold_error(observed, observed, gate=gate & (observed < 10)))


def test_welch_t_is_that_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 4)), rng.normal(0.3, 2, size=(50, 4))
    ours = welch_t(a.mean(0), a.var(0, ddof=1), 30, b.mean(0), b.var(0, ddof=1), 50)
    assert np.allclose(ours, stats.ttest_ind(a, b, equal_var=False).statistic)


def test_top_overlap_counts_shared_genes():
    names = np.array(list("abcd"), dtype=object)
    assert top_overlap(np.array([4.0, -3, 1, 0]), np.array([0.0, 3, 1, -9]), names=names, k=2) == 0.5
    assert set_jaccard(flags(0, 1), flags(1, 2)) == pytest.approx(1 / 3)


def test_predicted_de_is_that_of_scipy_on_the_drawn_cells(evaluation):
    screen = evaluation.screen
    control = screen.expression(np.flatnonzero(screen.is_control))
    drawn = predicted_cells(evaluation, 1).expression.toarray()
    expected = stats.mannwhitneyu(drawn, control.toarray(), axis=0, method="asymptotic").pvalue
    found = predicted_de(evaluation)
    assert np.allclose(found.p[1], np.nan_to_num(expected, nan=1.0), rtol=1e-5, atol=1e-12)
    assert np.allclose(found.p_adjusted[1], stats.false_discovery_control(found.p[1]))


@pytest.mark.parametrize("name", NAMES)
def test_the_right_mean_beats_the_mean_of_another_query(evaluation, name):
    metric = get_metric(name)
    wrong = with_response(evaluation, np.roll(evaluation.truth.response, 1, axis=0))
    right_score, wrong_score = mean_score(evaluation, name), mean_score(wrong, name)
    assert (right_score > wrong_score) == metric.card.higher_is_better
    assert abs(right_score - metric.card.perfect) < 0.5
    assert abs(right_score - wrong_score) > 0.08


def test_no_change_calls_almost_nothing_and_earns_nothing(evaluation):
    unchanged = with_response(evaluation, np.zeros_like(evaluation.truth.response))
    assert predicted_de(unchanged).significant().mean() < 0.01
    assert mean_score(unchanged, "des") < 0.1
    assert mean_score(unchanged, "direction_fidelity") < 0.1
    assert mean_score(unchanged, "lfc_nmae") == pytest.approx(1.0, abs=0.3)


def test_right_responses_call_as_many_genes_as_truth_and_inflated_ones_more(evaluation):
    everything = np.ones(evaluation.truth.response.shape, dtype=bool)
    inflated = with_response(evaluation, 3 * evaluation.truth.response)
    assert 0.7 < np.nanmedian(de_size_ratio(evaluation, everything)) < 2
    assert np.nanmedian(de_size_ratio(inflated, everything)) > 1.5 * np.nanmedian(de_size_ratio(evaluation, everything))


def test_scores_of_a_mask_read_only_its_genes(evaluation):
    mask = np.zeros(evaluation.truth.response.shape, dtype=bool)
    mask[:, :60] = True
    elsewhere = evaluation.truth.response.copy()
    elsewhere[:, 60:] *= -1
    assert mean_score(with_response(evaluation, elsewhere), "direction_reach", mask) > 0.7


def test_responses_without_cells_give_a_reason(evaluation):
    responses = replace(evaluation, de=None, screen=None, cache={})
    with pytest.raises(MetricNeeds):
        mean_score(responses, "des")
