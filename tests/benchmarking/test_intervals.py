"""Intervals cover what they promise, and reduce to known cases."""

import numpy as np
import pytest
from scipy import stats

from perturbcast.benchmarking.intervals import draw_resamples, mean_interval


def _covered(
    conditions: list[str], gene_share: float, seed: int, *, skewed: bool = True, n_repeats: int = 300
) -> float:
    """Share of simulated score tables whose interval holds the true mean, 0."""
    generator = np.random.default_rng(seed)

    def draw(size: tuple[int, int]) -> np.ndarray:
        if not skewed:
            return generator.normal(size=size)
        return (generator.lognormal(0, 0.5, size) - np.exp(0.125)) / np.sqrt((np.exp(0.25) - 1) * np.exp(0.25))

    resamples = draw_resamples(conditions, n_bootstrap=399, seed=seed)
    by_gene = draw((resamples.genes_of.shape[1], n_repeats)) * np.sqrt(gene_share / 2)
    scores = resamples.genes_of @ by_gene + draw((len(conditions), n_repeats)) * np.sqrt(1 - gene_share)
    found = mean_interval(scores, np.ones_like(scores), resamples)
    return float(((found.low <= 0) & (found.high >= 0)).mean())


def _pairs(n_genes: int, n_pairs: int, seed: int = 0) -> list[str]:
    every = [f"G{one:02d}+G{two:02d}" for one in range(n_genes) for two in range(one + 1, n_genes)]
    return sorted(np.random.default_rng(seed).choice(every, n_pairs, replace=False).tolist())


@pytest.mark.parametrize("n_conditions", [20, 60, 200])
def test_intervals_over_singles_cover_the_true_mean_of_skewed_scores(n_conditions: int) -> None:
    shares = [_covered([f"G{row}" for row in range(n_conditions)], 0.0, seed) for seed in range(8)]
    assert 0.93 <= np.mean(shares) <= 0.97


@pytest.mark.parametrize("gene_share", [0.0, 0.3, 0.7])
def test_intervals_over_doubles_cover_the_true_mean_however_much_genes_matter(gene_share: float) -> None:
    shares = [_covered(_pairs(60, 80, seed), gene_share, seed, n_repeats=80) for seed in range(12)]
    assert 0.92 <= np.mean(shares) <= 0.98


def test_ignoring_shared_genes_would_miss_the_true_mean_too_often() -> None:
    pairs = _pairs(30, 80)
    generator = np.random.default_rng(0)
    resamples = draw_resamples(pairs, n_bootstrap=399)
    scores = resamples.genes_of @ generator.normal(size=(30, 300)) + 0.5 * generator.normal(size=(80, 300))
    by_gene = mean_interval(scores, np.ones_like(scores), resamples)
    assert resamples.apart is not None
    apart = mean_interval(scores, np.ones_like(scores), resamples.apart)
    assert ((apart.low > 0) | (apart.high < 0)).mean() > 0.2
    assert ((by_gene.low > 0) | (by_gene.high < 0)).mean() < 0.09


def test_intervals_are_never_narrower_than_student_s() -> None:
    scores = np.random.default_rng(0).normal(size=(25, 200))
    found = mean_interval(scores, np.ones_like(scores), draw_resamples([f"G{row}" for row in range(25)]))
    student = stats.t.interval(0.95, 24, loc=scores.mean(axis=0), scale=stats.sem(scores))
    assert (found.low <= student[0] + 1e-12).all()
    assert (found.high >= student[1] - 1e-12).all()


def test_a_condition_repeated_under_seeds_is_one_cluster() -> None:
    generator = np.random.default_rng(1)
    once = generator.normal(size=(40, 1))
    resamples = draw_resamples([f"G{row}" for row in range(40)])
    single = mean_interval(once, np.ones_like(once), resamples)
    fivefold = mean_interval(5 * once, np.full_like(once, 5.0), resamples)
    for one, five in zip(
        (single.mean, single.low, single.high), (fivefold.mean, fivefold.low, fivefold.high), strict=True
    ):
        np.testing.assert_allclose(one, five)


def test_shifting_and_scaling_scores_shifts_and_scales_the_interval() -> None:
    scores = np.random.default_rng(2).lognormal(size=(30, 1))
    resamples = draw_resamples(_pairs(15, 30))
    plain = mean_interval(scores, np.ones_like(scores), resamples)
    moved = mean_interval(3 * scores + 7, np.ones_like(scores), resamples)
    np.testing.assert_allclose(moved.low, 3 * plain.low + 7)
    np.testing.assert_allclose(moved.high, 3 * plain.high + 7)


def test_missing_scores_leave_the_interval_of_those_that_are_there() -> None:
    conditions = [f"G{row}" for row in range(30)]
    scores = np.random.default_rng(3).normal(size=(30, 2))
    count = np.ones_like(scores)
    count[20:, 1] = 0
    found = mean_interval(np.where(count > 0, scores, 0), count, draw_resamples(conditions))
    assert found.mean[1] == pytest.approx(scores[:20, 1].mean())
    assert found.low[1] < found.mean[1] < found.high[1]
    assert found.high[1] - found.low[1] > found.high[0] - found.low[0]


def test_one_condition_has_a_mean_and_no_interval() -> None:
    found = mean_interval(np.array([[2.0]]), np.ones((1, 1)), draw_resamples(["A"]))
    assert found.mean == [2.0]
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


def test_equal_scores_have_an_interval_without_width() -> None:
    found = mean_interval(np.full((10, 1), 0.3), np.ones((10, 1)), draw_resamples(_pairs(6, 10)))
    np.testing.assert_allclose([found.low, found.high], 0.3)
