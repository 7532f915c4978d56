"""Exact values of the two specifications (ids as there) for the metrics of mean profiles."""

import numpy as np
import pytest
from scipy import stats

from perturbcast.metrics.calibration import dynamic_range_fraction, scale_to_replicate, vcc2025_score
from perturbcast.metrics.ceilings import (
    attainable_correlation,
    interpolate,
    l2_floor,
    l2_floor_from_halves,
    spearman_brown,
)
from perturbcast.metrics.correlation import ate_r2, ate_rho, pearson
from perturbcast.metrics.direction import clipped_response, jaccard_top, sign_agreement
from perturbcast.metrics.gene_sets import top_mask
from perturbcast.metrics.point import l2, rmse
from perturbcast.metrics.retrieval import (
    distances,
    midrank_accuracy,
    pds_2025,
    perturbench_rank,
    perturbench_rank_paper,
    strict_accuracy,
)
from perturbcast.metrics.weighted import r2_weighted, weights_from_t, wmse

TRUTH = np.array([[1.0, 0, 0], [0, 2, 0], [0, 0, 3.0]])
PREDICTED = np.array([[0.9, 0.1, 0], [0, 0.5, 0.4], [0, 1.6, 1.4]])


def matrix(predicted: np.ndarray, truth: np.ndarray, kind: str) -> np.ndarray:
    """Distances over all genes."""
    return distances(predicted, truth, mask=np.ones(predicted.shape, dtype=bool), kind=kind)


def test_a7_grape_scores_move_with_the_clip_alone():
    control = np.array([[1.0, 0.5, 0.0, 2.0, 0.004]])
    observed = np.array([[1.2, 0.4, 0.1, 2.0, 0.001]]) - control
    raw = np.array([[1.1, 0.45, 0.0, 2.1, 0.009]]) - control
    clipped = clipped_response(raw, control)
    assert sign_agreement(raw, observed) == pytest.approx([0.4])
    assert sign_agreement(clipped, observed) == pytest.approx([0.6])
    assert rmse(clipped, observed) == pytest.approx([0.080624], abs=1e-6)
    assert pearson(clipped, observed) == pytest.approx([0.623664], abs=1e-6)


def test_d5_l2_over_the_genes_highest_in_control():
    control = np.array([[5.0, 4.0, 3.0, 1.0]])
    mask = top_mask(control, np.array(list("abcd"), dtype=object), k=3)
    assert l2(np.array([[2.0, 1, 4, 0]]), np.array([[3.0, 1, 2, 9]]), mask=mask) == pytest.approx([np.sqrt(5)])


def test_f1_one_exact_tie_and_four_rules_for_it():
    d = matrix(PREDICTED, TRUTH, "l1")
    assert pds_2025(d) == pytest.approx([1, 2 / 3, 2 / 3])
    assert strict_accuracy(d) == pytest.approx([1, 0.5, 0.5])
    assert perturbench_rank(d) == pytest.approx([0, 1 / 3, 1 / 3])
    d = matrix(PREDICTED, TRUTH, "l2")
    assert pds_2025(d) == pytest.approx([1, 2 / 3, 2 / 3])
    assert strict_accuracy(d) == pytest.approx([1, 0.5, 0.5])
    assert perturbench_rank(d) == pytest.approx([0, 1 / 3, 0])


def test_f2_midrank_halves_the_tie():
    assert midrank_accuracy(matrix(PREDICTED, TRUTH, "l1")) == pytest.approx([1, 0.75, 0.5])


def test_f3_what_a_constant_prediction_scores():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(7, 5))
    d = matrix(np.tile(rng.normal(size=5), (7, 1)), truth, "l1")
    assert pds_2025(d).mean() == pytest.approx((7 + 1) / 14)
    assert strict_accuracy(d).mean() == pytest.approx(0.5)
    assert midrank_accuracy(d).mean() == pytest.approx(0.5)
    assert perturbench_rank(d).mean() == pytest.approx(0.5 - 1 / 14)
    assert perturbench_rank_paper(d) == pytest.approx(np.ones(7))
    ties = np.zeros((4, 4))
    assert strict_accuracy(ties) == pytest.approx(np.zeros(4))
    assert midrank_accuracy(ties) == pytest.approx(np.full(4, 0.5))


def test_f4_inflating_effects_raises_l1_discrimination_but_not_cosine():
    truth = np.array([[4.0, 0.1], [0.1, 4.0], [0.2, 0.2]])
    small = np.array([[0.5, 0.1], [0.1, 0.5], [0.2, 0.2]])
    inflated = small * np.array([[8.0], [8.0], [1.0]])
    assert pds_2025(matrix(small, truth, "l1")).mean() == pytest.approx(7 / 9)
    assert pds_2025(matrix(inflated, truth, "l1")).mean() == pytest.approx(1.0)
    by_cosine = [midrank_accuracy(matrix(profile, truth, "cosine")) for profile in (small, inflated)]
    assert by_cosine[0] == pytest.approx(by_cosine[1])


def test_f7_weights_and_weighted_scores():
    weights = weights_from_t(np.array([[-4.0, 1.0, 2.0, 0.0]]))
    truth, predicted = np.array([[1.0, 0, 0.5, 0.2]]), np.array([[0.8, 0.1, 0.1, 0.9]])
    assert weights == pytest.approx(np.array([[1, 1 / 16, 1 / 4, 0]]))
    assert wmse(predicted, truth, weights=weights) == pytest.approx([0.061429], abs=1e-6)
    assert r2_weighted(predicted, truth, weights=weights) == pytest.approx([0.179091], abs=1e-6)


def test_f8_interpolated_duplicate_and_dynamic_range():
    p_adjusted = np.array([[0.0, 0.5, 1.0, np.nan]])
    assert interpolate(np.full((1, 4), 2.0), np.array([0.0, 0, 0, 1]), p_adjusted).tolist() == [[2, 1, 0, 1]]
    up = dynamic_range_fraction(np.array([0.2]), np.array([0.8]), perfect=1.0, higher_is_better=True)
    down = dynamic_range_fraction(np.array([0.04]), np.array([0.01]), perfect=0.0, higher_is_better=False)
    assert up == pytest.approx([0.749999], abs=1e-6)
    assert down == pytest.approx([0.749981], abs=1e-6)


def test_f9_score_of_the_2025_challenge():
    scaled = vcc2025_score(des=0.3, pds=0.7, mae=0.03, baseline_des=0.106, baseline_pds=0.514, baseline_mae=0.027)
    assert scaled == pytest.approx(0.199906, abs=1e-6)


def test_f10_ceilings_from_halves():
    assert spearman_brown(np.array([0.6])) == pytest.approx([0.75])
    assert attainable_correlation(np.array([0.6])) == pytest.approx([np.sqrt(0.75)])
    variance, n = np.array([[1.0, 4.0, 0.25]]), np.array([50])
    assert l2_floor(variance, n) == pytest.approx([0.324037], abs=1e-6)
    # a half against a half is twice as far as a perfect model from the whole: Monte Carlo of the same cells
    rng = np.random.default_rng(3)
    cells = rng.normal(size=(4000, 50, 3)) * np.sqrt(variance[0])
    first, second = cells[:, :25].mean(axis=1), cells[:, 25:].mean(axis=1)
    from_halves = np.sqrt((l2_floor_from_halves(first, second) ** 2).mean())
    assert from_halves == pytest.approx(np.sqrt(0.105), rel=0.03)


def test_f11_cosine_discrimination_with_a_zero_prediction_and_a_constant_one():
    truth = np.array([[1.0, 0, 0], [0, 2, 0], [0, 0, 3.0], [1, 1, 0]])
    predicted = np.array([[2.0, 0.5, 0], [1.0, 1.0, 0], [0, 0, 0.1], [0, 0, 0]])
    assert midrank_accuracy(matrix(predicted, truth, "cosine")) == pytest.approx([1, 0.5, 1, 0.5])
    constant = np.tile([1.0, 2.0, 3.0], (4, 1))
    assert midrank_accuracy(matrix(constant, truth, "cosine")).mean() == pytest.approx(0.5)


def test_f16_scaled_between_baseline_and_replicate():
    scaled = scale_to_replicate(
        np.array([0.75, 0.52]), baseline=np.array([0.52, 0.52]), replicate=np.array([0.95, 0.95])
    )
    assert scaled == pytest.approx([0.534884, 0.0], abs=1e-6)


def test_o15_average_effects_in_log2_shares():
    def level(counts: list[list[int]]) -> np.ndarray:
        share = np.array(counts) / np.sum(counts, axis=1, keepdims=True)
        return np.log1p(1e4 * share).mean(axis=0) / np.log(2)  # our ln of CP10k, in log2 as the paper's

    control = level([[5, 3, 2], [2, 6, 2]])
    assert control == pytest.approx([11.62725317, 12.05110741, 10.96650545], abs=1e-8)
    assert level([[8, 1, 1], [6, 2, 2]]) - control == pytest.approx([1.13122274, -1.58424155, -0.49963960], abs=1e-8)
    assert level([[1, 1, 8]]) - control == pytest.approx([-1.66002691, -2.08388115, 1.99945916], abs=1e-8)


def test_o16_flattened_and_per_perturbation_agreement():
    truth = np.array([[1, -2, 0.5], [-1, 0.25, 3]])
    predicted = np.array([[0.8, -1, 0.2], [-1.5, 0.1, 2]])
    genes = np.array(list("abc"), dtype=object)
    assert ate_rho(predicted, truth) == pytest.approx([0.94907238], abs=1e-8)
    assert ate_r2(predicted, truth) == pytest.approx([0.83769177], abs=1e-8)
    assert ate_r2(truth, predicted) == pytest.approx([0.69511421], abs=1e-8)
    assert pearson(predicted, truth) == pytest.approx([0.98432414, 0.98661985], abs=1e-8)
    assert jaccard_top(predicted, truth, genes=genes, k=2).tolist() == [1.0, 1.0]
    weaker = predicted.copy()
    weaker[0, 1] = -0.1
    assert jaccard_top(weaker, truth, genes=genes, k=2) == pytest.approx([1 / 3, 1])
    top = top_mask(np.abs(truth), genes, k=2)
    assert ate_rho(predicted, truth, mask=top) == pytest.approx([0.94918077], abs=1e-8)
    assert ate_r2(predicted, truth, mask=top) == pytest.approx([0.84474576], abs=1e-8)


def test_pearson_agrees_with_scipy_on_random_profiles():
    rng = np.random.default_rng(0)
    predicted, truth = rng.normal(size=(2, 8, 30))
    expected = [stats.pearsonr(*pair).statistic for pair in zip(predicted, truth, strict=True)]
    assert pearson(predicted, truth) == pytest.approx(expected)
