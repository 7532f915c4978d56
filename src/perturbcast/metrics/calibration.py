"""Is a metric worth reading? Whether it tells a replicate from a trivial baseline (spec F-27), and scaled scores."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from perturbcast._types import ScoreByQuery
from perturbcast.data.de import DifferentialExpression
from perturbcast.data.responses import ResponseTable
from perturbcast.metrics.base import Evaluation, MetricCard, all_metrics
from perturbcast.metrics.ceilings import REPEATS, ceiling_evaluation, no_change, perturbed_mean
from perturbcast.metrics.score import score

EPSILON = 1e-6  # F-27
COLUMNS = ("metric", "gene_set", "positive", "negative", "drf", "bds", "negative_score", "positive_score", "n")


def dynamic_range_fraction(
    negative: ScoreByQuery, positive: ScoreByQuery, *, perfect: float, higher_is_better: bool
) -> ScoreByQuery:
    """(query,) share of the range from negative control to perfect that the positive control covers, -1..1 (F-27).

    (S_pos − S_neg) / (S_perfect − S_neg + 1e-6); for errors (S_neg − S_pos) / (S_neg − S_perfect + 1e-6).
    """
    gain = positive - negative if higher_is_better else negative - positive
    span = perfect - negative if higher_is_better else negative - perfect
    return np.clip(gain / (span + EPSILON), -1.0, 1.0)


def bound_discrimination(negative: ScoreByQuery, positive: ScoreByQuery, *, higher_is_better: bool) -> float:
    """Share of queries where the positive control beats the negative one, ties ½ (F-27b), 0..1; NaN if none."""
    gain = positive - negative if higher_is_better else negative - positive
    return float(np.mean((gain > 0) + 0.5 * (gain == 0))) if len(gain) else float("nan")


def calibrate(
    truth: ResponseTable,
    training: ResponseTable,
    *,
    de: DifferentialExpression | None = None,
    metrics: Sequence[str] | None = None,
    gene_sets: Sequence[str] | None = None,
    profile: str = "core",
) -> pd.DataFrame:
    """A row per metric, gene set and positive control: drf (median), bds, mean of either control's score, n queries.

    The positive control is the technical or the interpolated duplicate, the negative one the training perturbed mean,
    or no change for metrics that take that mean as reference (it is undefined there). All are scored against the first
    half of the cells. A DRF near 0 says that the metric cannot tell a replicate from the baseline, near 1 that it is
    well calibrated. Metrics of the whole data set and those without a score are left out. MetricNeeds without halves.
    """
    rows: list[dict[str, object]] = []
    known = all_metrics()
    for kind in REPEATS:
        positive = ceiling_evaluation(truth, training, kind=kind, de=de)
        ours = score(positive, metrics=metrics, gene_sets=gene_sets, profile=profile)
        floors = {
            "mean": _scored(positive, "mean", metrics, gene_sets, profile),
            "no-change": _scored(positive, "no-change", metrics, gene_sets, profile),
        }
        for key, scored in ours.groupby(["metric", "gene_set"], sort=False):
            metric, gene_set = (str(part) for part in key)
            card = known[metric].card
            floor = "no-change" if "training" in card.reads else "mean"
            pair = (floors[floor][metric, gene_set], scored["value"].to_numpy())
            if card.per == "query" and len(pair[0]) == len(pair[1]) and np.isfinite(pair[0] + pair[1]).any():
                named = {"metric": metric, "gene_set": gene_set, "positive": kind, "negative": floor}
                rows.append(named | _compare(card, *pair))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _scored(
    positive: Evaluation, floor: str, metrics: Sequence[str] | None, gene_sets: Sequence[str] | None, profile: str
) -> dict[tuple[str, str], np.ndarray]:
    """Scores of a floor against the same half, by metric and gene set."""
    truth, training = positive.truth, positive.training
    predicted = no_change(truth) if floor == "no-change" else perturbed_mean(truth, training)
    table = score(
        replace(positive, predicted=predicted, cache={}), metrics=metrics, gene_sets=gene_sets, profile=profile
    )
    grouped = table.groupby(["metric", "gene_set"], sort=False)["value"]
    return {(str(metric), str(gene_set)): values.to_numpy() for (metric, gene_set), values in grouped}


def _compare(card: MetricCard, negative: np.ndarray, positive: np.ndarray) -> dict[str, object]:
    both = np.isfinite(negative) & np.isfinite(positive)
    negative, positive = negative[both], positive[both]
    better = card.higher_is_better
    fraction = dynamic_range_fraction(negative, positive, perfect=card.perfect, higher_is_better=better)
    return {
        "drf": float(np.median(fraction)),
        "bds": bound_discrimination(negative, positive, higher_is_better=better),
        "negative_score": float(negative.mean()),
        "positive_score": float(positive.mean()),
        "n": len(positive),
    }


def scale_to_replicate(
    value: Float[np.ndarray, " metric"],
    *,
    baseline: Float[np.ndarray, " metric"],
    replicate: Float[np.ndarray, " metric"],
) -> Float[np.ndarray, " metric"]:
    """(metric,) (u − b)/(r − b): 0 as the mean baseline, 1 as a replicate, unclipped (F-16, VCC 2026); NaN if r = b."""
    span = replicate - baseline
    return np.divide(value - baseline, span, out=np.full(span.shape, np.nan), where=span != 0)


def vcc2025_score(
    *, des: float, pds: float, mae: float, baseline_des: float, baseline_pds: float, baseline_mae: float
) -> float:
    """The 2025 challenge's score, 0..1 (x 100 there): mean of three gains over a mean baseline, each at least 0 (F-15).

    DES and PDS gain (u − b)/(1 − b), MAE (b − u)/b; NaN counts 0. The clip makes a terrible MAE free.
    """
    gains = np.array(
        [
            (des - baseline_des) / (1 - baseline_des),
            (pds - baseline_pds) / (1 - baseline_pds),
            (baseline_mae - mae) / baseline_mae,
        ]
    )
    return float(np.maximum(np.nan_to_num(gains, nan=0.0), 0.0).mean())
