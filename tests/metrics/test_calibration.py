"""Whether a metric tells a replicate from a trivial baseline; the seeded demonstration of spec F.11."""

from dataclasses import dataclass

import numpy as np
import pytest
from worlds import make_evaluation

from perturbcast.errors import MetricNeeds
from perturbcast.metrics.calibration import (
    bound_discrimination,
    calibrate,
    dynamic_range_fraction,
    scale_to_replicate,
    vcc2025_score,
)
from perturbcast.metrics.ceilings import adjusted_p, interpolate
from perturbcast.metrics.correlation import pearson
from perturbcast.metrics.point import mse
from perturbcast.metrics.retrieval import distances, strict_accuracy
from perturbcast.metrics.weighted import t_scores, weights_from_t, wmse


@dataclass(frozen=True)
class Demo:
    """The data of F.11: 800 genes, 40 conditions, 20 + 20 cells each, 12 specific genes, a shared shift."""

    control: np.ndarray
    truth: np.ndarray
    mean: np.ndarray  # leave-one-out
    duplicate: np.ndarray
    interpolated: np.ndarray
    weights: np.ndarray


@pytest.fixture(scope="module")
def demo() -> Demo:
    """Drawn in the order of the specification's script, so that its numbers come out."""
    rng = np.random.default_rng(7)
    n_genes, n_conditions, n_cells = 800, 40, 40
    base = rng.gamma(2, 0.4, n_genes)
    shared = rng.normal(0, 0.15, n_genes) * (rng.random(n_genes) < 0.3)
    effects = np.zeros((n_conditions, n_genes))
    for row in effects:
        row[rng.choice(n_genes, 12, replace=False)] = rng.normal(0, 0.8, 12)
    sd = 0.3 + 0.4 * rng.random(n_genes)
    cells = np.stack([base + shared + row + rng.normal(size=(n_cells, n_genes)) * sd for row in effects])
    control = (base + rng.normal(size=(400, n_genes)) * sd).mean(axis=0)
    halves = [cells[:, :20], cells[:, 20:]]
    mean, variance = [[f(half) for half in halves] for f in (lambda x: x.mean(1), lambda x: x.var(1, ddof=1))]

    def others(values: np.ndarray) -> np.ndarray:
        return (values.sum(axis=0) - values) / (n_conditions - 1)

    t = [
        t_scores(m, v, np.full(n_conditions, 20), rest_mean=others(m), rest_variance=others(v))
        for m, v in zip(mean, variance, strict=True)
    ]
    reference = others(mean[0])
    between = [interpolate(mean[1][[row]], reference[row], adjusted_p(t[1][[row]]))[0] for row in range(n_conditions)]
    return Demo(control, mean[0], reference, mean[1], np.array(between), weights_from_t(t[0]))


@pytest.mark.parametrize(
    ("predictor", "expected"),
    [
        ("mean", (0.0224, 0.719, 0.486, np.nan, 0.400)),
        ("duplicate", (0.0262, 0.036, 0.554, 0.410, 1.000)),
        ("interpolated", (0.0139, 0.037, 0.721, 0.609, 0.999)),
    ],
)
def test_the_table_of_the_specification_comes_out(demo, predictor, expected):
    predicted = getattr(demo, predictor)
    whole = np.ones(demo.truth.shape, dtype=bool)
    found = (
        np.median(mse(predicted, demo.truth)),
        np.median(wmse(predicted, demo.truth, weights=demo.weights)),
        np.median(pearson(predicted - demo.control, demo.truth - demo.control)),
        np.median(pearson(predicted - demo.mean, demo.truth - demo.mean)),
        strict_accuracy(distances(predicted, demo.truth, mask=whole, kind="l2")).mean(),
    )
    assert found == pytest.approx(expected, abs=6e-4, nan_ok=True)
    assert found[0] == pytest.approx(expected[0], abs=6e-5)


def test_the_dynamic_ranges_of_the_specification_come_out(demo):
    def fraction(metric, positive):
        pair = (metric(demo.mean, demo.truth), metric(positive, demo.truth))
        return np.median(dynamic_range_fraction(*pair, perfect=0.0, higher_is_better=False))

    def weighted(predicted, truth):
        return wmse(predicted, truth, weights=demo.weights)

    found = [fraction(metric, one) for metric in (mse, weighted) for one in (demo.duplicate, demo.interpolated)]
    assert found == pytest.approx([-0.159, 0.370, 0.947, 0.951], abs=6e-4)


def test_dynamic_range_is_one_for_perfect_zero_for_the_baseline_and_clipped_below():
    negative, positive = np.array([0.5, 0.5, 0.9]), np.array([1.0, 0.5, 0.0])
    assert dynamic_range_fraction(negative, positive, perfect=1.0, higher_is_better=True) == pytest.approx(
        [1, 0, -1], abs=1e-5
    )
    errors = dynamic_range_fraction(np.array([2.0, 2.0]), np.array([0.0, 9.0]), perfect=0.0, higher_is_better=False)
    assert errors == pytest.approx([1, -1], abs=1e-5)
    from_one = dynamic_range_fraction(np.array([3.0]), np.array([2.0]), perfect=1.0, higher_is_better=False)
    assert from_one == pytest.approx([0.5], abs=1e-5)


def test_discrimination_counts_wins_and_half_of_ties():
    negative, positive = np.array([1.0, 1.0, 1.0, 1.0]), np.array([2.0, 1.0, 0.0, 3.0])
    assert bound_discrimination(negative, positive, higher_is_better=True) == 2.5 / 4
    assert bound_discrimination(negative, positive, higher_is_better=False) == 1.5 / 4
    assert np.isnan(bound_discrimination(negative[:0], positive[:0], higher_is_better=True))


def test_calibration_ranks_weighted_error_above_plain_error():
    evaluation = make_evaluation(n_queries=40, n_genes=150)
    table = calibrate(evaluation.truth, evaluation.training, metrics=["l2", "wmse", "pds_cosine"], gene_sets=["all"])
    drf = table[table["positive"] == "duplicate"].set_index("metric")["drf"]
    assert drf["wmse"] > drf["l2"]
    assert drf["pds_cosine"] > 0.9


def test_metrics_with_the_perturbed_mean_as_reference_are_set_against_no_change():
    evaluation = make_evaluation(n_queries=16)
    table = calibrate(
        evaluation.truth, evaluation.training, metrics=["pearson_delta", "pearson_delta_perturbed"], gene_sets=["all"]
    )
    floors = dict(zip(table["metric"], table["negative"], strict=True))
    assert floors == {"pearson_delta": "mean", "pearson_delta_perturbed": "no-change"}
    assert (table["n"] == 16).all()
    assert table["drf"].between(-1, 1).all()
    assert table["bds"].between(0, 1).all()


def test_calibration_needs_halves_and_leaves_out_metrics_of_the_whole_data_set():
    evaluation = make_evaluation(n_queries=8)
    assert calibrate(evaluation.truth, evaluation.training, metrics=["ate_rho"]).empty
    bare = make_evaluation(n_queries=8, responses_only=True)
    with pytest.raises(MetricNeeds, match="halves"):
        calibrate(bare.truth, bare.training)


def test_a_score_equal_to_baseline_or_replicate_scales_to_zero_or_one():
    baseline, replicate = np.array([0.5, 0.9, 0.3]), np.array([0.9, 0.1, 0.3])
    scaled = scale_to_replicate(np.array([0.5, 0.1, 0.7]), baseline=baseline, replicate=replicate)
    assert scaled == pytest.approx([0.0, 1.0, np.nan], nan_ok=True)


def test_the_2025_score_forgives_a_terrible_error():
    """The known weakness of the clip, kept because it is the rule."""
    common = {"des": 0.3, "pds": 0.7, "baseline_des": 0.1, "baseline_pds": 0.5, "baseline_mae": 0.03}
    assert vcc2025_score(mae=0.03, **common) == vcc2025_score(mae=500.0, **common)
    assert vcc2025_score(mae=float("nan"), **common) == vcc2025_score(mae=0.03, **common)
