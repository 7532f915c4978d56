"""Ceilings and floors: what a replicate, a perfect model and no model at all score on the same data (spec F.5, F.6).

A replicate is scored against the other half of the cells, each half with control cells of its own, so both sides
carry the noise of half the cells: it is a ceiling that a model can pass. `ceiling:perfect` is what a model without
error would score against all cells. Responses without cells have neither; there `ceiling:other-genes` shows what the
measured response says of itself, and `ceiling:counting` what is left to a model without error by the noise of counting
alone, where the counts can be read back.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from perturbcast._types import MaskByQuery, ProfileByQuery, ScoreByQuery
from perturbcast.data.de import DifferentialExpression
from perturbcast.data.prediction import Prediction, Support
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import BadOption, MetricNeeds, UndefinedScore
from perturbcast.metrics.base import Evaluation
from perturbcast.metrics.correlation import pearson
from perturbcast.metrics.gene_sets import gene_set_mask
from perturbcast.metrics.masked import row_count, row_sum
from perturbcast.metrics.other_genes import from_other_genes
from perturbcast.metrics.recounted import recounted
from perturbcast.metrics.score import COLUMNS, score
from perturbcast.metrics.weighted import rest_of_perturbed, t_scores

REPEATS = ("duplicate", "interpolated")  # halves of the cells against each other


def split_half_reliability(
    first: ProfileByQuery, second: ProfileByQuery, *, mask: MaskByQuery | None = None
) -> ScoreByQuery:
    """(query,) correlation of the responses of two halves with control halves of their own (F-29); NaN if constant."""
    return pearson(first, second, mask=mask)


def spearman_brown(reliability: ScoreByQuery) -> ScoreByQuery:
    """(query,) reliability of the whole from that of the halves, 2r/(1+r); negative r counts as 0 (F-29)."""
    positive = np.maximum(reliability, 0.0)
    return 2 * positive / (1 + positive)


def attainable_correlation(reliability: ScoreByQuery) -> ScoreByQuery:
    """(query,) best Pearson correlation of a perfect model with the measured mean: sqrt of Spearman-Brown (F-29)."""
    return np.sqrt(spearman_brown(reliability))


def l2_floor(variance: ProfileByQuery, n_cells: np.ndarray, *, mask: MaskByQuery | None = None) -> ScoreByQuery:
    """(query,) expected L2 of a perfect model to the measured mean, sqrt(Σ s²/n), units of the response (F-30)."""
    return np.sqrt(row_sum(variance / np.maximum(n_cells, 1)[:, None], mask))


def l2_floor_from_halves(
    first: ProfileByQuery, second: ProfileByQuery, *, mask: MaskByQuery | None = None
) -> ScoreByQuery:
    """(query,) half the distance between two equal halves: the same floor without variances (F-30).

    With control halves of their own the control's noise is in it too.
    """
    return np.sqrt(row_sum((first - second) ** 2, mask)) / 2


def interpolate(duplicate: ProfileByQuery, mean: np.ndarray, p_adjusted: ProfileByQuery) -> ProfileByQuery:
    """(query, gene) α TD + (1−α) mean, α = 1 − adjusted p and 0 where p is NaN (F-26)."""
    alpha = 1.0 - np.where(np.isnan(p_adjusted), 1.0, p_adjusted)
    return alpha * duplicate + (1 - alpha) * mean


def half_table(table: ResponseTable, half: int) -> ResponseTable:
    """The table of one half of the cells, 0 or 1; variances stay those of all cells. MetricNeeds without halves.

    Queries of which either half has no cell are left out.
    """
    if table.response_halves is None:
        raise MetricNeeds("a ceiling needs the two halves of the cells, which a file of responses does not have.")
    both = table.take(np.isfinite(table.response_halves).all(axis=(0, 2)))
    assert both.response_halves is not None
    return replace(
        both,
        response=both.response_halves[half],
        n_cells=None if both.n_cells is None else (both.n_cells + 1 - half) // 2,
        n_control=None if both.n_control is None else (both.n_control + 1 - half) // 2,
        response_halves=None,
    )


def technical_duplicate(truth: ResponseTable) -> tuple[ResponseTable, Prediction]:
    """The first half as truth and the second half as its prediction (F-25). MetricNeeds without halves."""
    first, second = half_table(truth, 0), half_table(truth, 1)
    return first, _as_prediction(first, second.response, "ceiling:duplicate", Support.SEEN)


def interpolated_duplicate(truth: ResponseTable, training: ResponseTable) -> tuple[ResponseTable, Prediction]:
    """The first half as truth; the second half, drawn to the training mean where it shows no effect, as prediction.

    F-26: p by t against the rest of perturbed cells, normal tails, BH within query, from the second half only.
    MetricNeeds without halves, variances or numbers of cells.
    Differs from the paper: gene variances are those of all cells of the query, not of the second half's alone.
    """
    first, second = half_table(truth, 0), half_table(truth, 1)
    if second.variance is None or second.n_cells is None:
        raise MetricNeeds("the interpolated duplicate needs variances between cells.")
    rest = rest_of_perturbed(second, training)
    t = t_scores(second.response, second.variance, second.n_cells, rest_mean=rest.mean, rest_variance=rest.variance)
    blended = interpolate(second.response, training.perturbed_mean(), adjusted_p(t))
    return first, _as_prediction(first, blended, "ceiling:interpolated", Support.SEEN)


def other_genes(truth: ResponseTable, training: ResponseTable) -> tuple[ResponseTable, Prediction]:
    """The truth, and each tenth of its genes predicted from the others.

    MetricNeeds where there are halves, which tell the noise better, and below ten training queries or genes.
    """
    if truth.response_halves is not None:
        raise MetricNeeds("genes are predicted from other genes only where there are no cells.")
    return truth, _as_prediction(truth, from_other_genes(truth, training), "ceiling:other-genes", Support.SEEN)


def counting(truth: ResponseTable, training: ResponseTable) -> tuple[ResponseTable, Prediction]:
    """The truth counted once more, and what was to be expected.

    MetricNeeds where there are halves, which tell the noise better, and where responses hide no counts.
    """
    if truth.response_halves is not None:
        raise MetricNeeds("counts are read back only where there are no cells.")
    again, expected = recounted(truth, training)
    own = replace(truth, response=again)
    return own, _as_prediction(own, expected, "ceiling:counting", Support.SEEN)


# truth and prediction of each ceiling, from measured and training responses
PAIRS: dict[str, Callable[[ResponseTable, ResponseTable], tuple[ResponseTable, Prediction]]] = {
    "duplicate": lambda truth, _: technical_duplicate(truth),
    "interpolated": interpolated_duplicate,
    "other-genes": other_genes,
    "counting": counting,
}


def adjusted_p(t: ProfileByQuery) -> ProfileByQuery:
    """(query, gene) two-sided normal p of t, Benjamini-Hochberg within query; NaN where t is NaN."""
    p = 2 * stats.norm.sf(np.abs(np.nan_to_num(t, nan=0.0)))
    adjusted = stats.false_discovery_control(p, axis=1) if p.size else p
    return np.where(np.isnan(t), np.nan, adjusted)


def no_change(truth: ResponseTable) -> Prediction:
    """The floor that predicts control for every query."""
    return _as_prediction(truth, np.zeros_like(truth.response), "floor:no-change", Support.NOTHING)


def perturbed_mean(truth: ResponseTable, training: ResponseTable) -> Prediction:
    """The floor that predicts the training perturbed mean for every query."""
    response = np.tile(training.perturbed_mean(), (truth.n_queries, 1))
    return _as_prediction(truth, response, "floor:mean", Support.MEAN)


def ceiling_evaluation(
    truth: ResponseTable, training: ResponseTable, *, kind: str, de: DifferentialExpression | None = None, seed: int = 0
) -> Evaluation:
    """An evaluation whose truth is the first half and whose prediction is the duplicate of that kind.

    `kind`: "duplicate" or "interpolated"; or "other-genes" and "counting", whose truth is the whole, as it is or
    counted once more. `de` of all cells still names the
    gene sets, so that rows compare; choosing genes by both halves favours the ceiling a little. MetricNeeds where the
    data cannot give that kind, BadOption where there is none of that name.
    """
    if kind not in PAIRS:
        raise BadOption(f"no ceiling is called {kind!r}. Known: {', '.join(map(repr, PAIRS))}.", "Use one of them.")
    own, predicted = PAIRS[kind](truth, training)
    of_own = None if de is None else _take_de(de, truth.index(own.queries))
    return Evaluation(truth=own, predicted=predicted, training=training, de=of_own, seed=seed)


def ceiling_scores(
    truth: ResponseTable,
    training: ResponseTable,
    *,
    de: DifferentialExpression | None = None,
    metrics: Sequence[str] | None = None,
    gene_sets: Sequence[str] | None = None,
    profile: str = "core",
) -> pd.DataFrame:
    """The long table of `score` with a column model: ceiling:duplicate, ceiling:interpolated, ceiling:perfect.

    `ceiling:perfect` exists for l2, rmse, mse, excess_l2 (F-30), pearson_delta and pearson_delta_perturbed (F-29),
    against all cells. A ceiling that these data cannot give is left out; responses without cells have only
    ceiling:other-genes and, where counts can be read back, ceiling:counting.
    """
    parts = []
    for kind in PAIRS:
        try:
            evaluation = ceiling_evaluation(truth, training, kind=kind, de=de)
        except MetricNeeds:
            continue
        table = score(evaluation, metrics=metrics, gene_sets=gene_sets, profile=profile)
        parts.append(table.assign(model=f"ceiling:{kind}"))
    if truth.response_halves is not None and parts:
        parts.append(_perfect_scores(truth, training, de, parts[0]).assign(model="ceiling:perfect"))
    full = [part for part in parts if len(part)]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=[*COLUMNS, "model"])


def perfect_model(evaluation: Evaluation, metric: str, mask: MaskByQuery) -> ScoreByQuery | None:
    """(query,) expected score of a model without error against all cells; None where no formula is known.

    NaN where a half has no cell. MetricNeeds where variances or halves are missing.
    """
    truth = evaluation.truth
    if metric == "excess_l2":
        return np.zeros(truth.n_queries)
    if metric in {"pearson_delta", "pearson_delta_perturbed"}:
        if truth.response_halves is None:
            raise MetricNeeds("the attainable correlation needs the two halves of the cells.")
        known = np.isfinite(truth.response_halves).all(axis=(0, 2))
        reference = evaluation.perturbed_mean if metric == "pearson_delta_perturbed" else 0.0
        halves = np.where(known[:, None], truth.response_halves - reference, 0.0)
        return np.where(known, attainable_correlation(split_half_reliability(halves[0], halves[1], mask=mask)), np.nan)
    if metric not in {"l2", "rmse", "mse"}:
        return None
    if truth.variance is None or truth.n_cells is None:
        raise MetricNeeds("the floor of a distance needs variances between cells.")
    floor = l2_floor(np.nan_to_num(truth.variance), truth.n_cells, mask=mask)
    per_gene = floor / np.sqrt(np.maximum(row_count(truth.response, mask), 1))
    return {"l2": floor, "rmse": per_gene, "mse": per_gene**2}[metric]


def _perfect_scores(
    truth: ResponseTable, training: ResponseTable, de: DifferentialExpression | None, asked: pd.DataFrame
) -> pd.DataFrame:
    evaluation = Evaluation(truth=truth, predicted=no_change(truth), training=training, de=de)
    parts = []
    for metric, gene_set in asked[["metric", "gene_set"]].drop_duplicates().itertuples(index=False):
        try:
            value = perfect_model(evaluation, metric, gene_set_mask(evaluation, gene_set))
        except MetricNeeds:
            continue
        if value is None:
            continue
        reason = str(UndefinedScore("a half has no cell, or does not vary.", ""))
        parts.append(
            pd.DataFrame(
                {
                    "condition": [query.condition for query in truth.queries],
                    "context": [query.context for query in truth.queries],
                    "metric": metric,
                    "gene_set": gene_set,
                    "value": value,
                    "reason": np.where(np.isnan(value), reason, ""),
                }
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def _as_prediction(truth: ResponseTable, response: np.ndarray, model: str, support: Support) -> Prediction:
    return Prediction(
        queries=truth.queries,
        genes=truth.genes,
        response=response,
        control=truth.control_by_query,
        support=(support,) * truth.n_queries,
        reason=("",) * truth.n_queries,
        scale=truth.scale,
        model=model,
    )


def _take_de(de: DifferentialExpression, rows: np.ndarray) -> DifferentialExpression:
    return replace(
        de,
        queries=tuple(de.queries[row] for row in rows),
        z=de.z[rows],
        p=de.p[rows],
        p_adjusted=de.p_adjusted[rows],
        log2_fold_change=de.log2_fold_change[rows],
    )
