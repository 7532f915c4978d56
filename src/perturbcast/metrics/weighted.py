"""Errors weighted by how specific each gene's change is to the query (spec F-5, F-24; Mejia et al. 2025).

The weights compare a query with all other perturbed cells of its context, so what every perturbation shares carries
little weight and the perturbed mean no longer wins.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perturbcast._types import MaskByQuery, ProfileByQuery, ScoreByQuery
from perturbcast.data.responses import ResponseTable
from perturbcast.metrics.base import Evaluation, MetricCard, MetricFunction, register
from perturbcast.metrics.masked import FLAT, ratio, row_sum


@dataclass(frozen=True)
class Rest:
    """Moments of all other perturbed cells of each query's context, between cells."""

    mean: np.ndarray  # (query, gene); NaN where there are no others
    variance: np.ndarray  # (query, gene)


def rest_of_perturbed(truth: ResponseTable, training: ResponseTable) -> Rest:
    """Moments of the cells of every other condition, truth and training together, from the two tables' moments.

    A table without `variance` and `n_cells` takes no part. Each cell has one vote; the spread between conditions is
    part of the variance, as in a test of a group of cells against the rest. Units of the response, variance squared.
    """
    mean, variance = np.full(truth.response.shape, np.nan), np.full(truth.response.shape, np.nan)
    tables = [table for table in (truth, training) if table.variance is not None and table.n_cells is not None]
    for context in truth.contexts:
        rows = [row for row, query in enumerate(truth.queries) if query.context == context]
        if not rows:
            continue
        pools = [_Sums(table.take(_rows_of(table, context))) for table in tables]
        for row in rows:
            n, first, second = _without(pools, truth.queries[row].condition)
            if n >= 2:
                mean[row] = first / n
                variance[row] = np.maximum(second - first**2 / n, 0.0) / (n - 1)
    return Rest(mean, variance)


def t_scores(
    mean: ProfileByQuery,
    variance: ProfileByQuery,
    n_cells: np.ndarray,
    *,
    rest_mean: ProfileByQuery,
    rest_variance: ProfileByQuery,
) -> ProfileByQuery:
    """(query, gene) t of a query against the rest with overestimated variance: the rest counts as n cells too.

    The form of scanpy's `t-test_overestim_var` (F-24). NaN where neither side varies or there is no rest.
    """
    standard_error = np.sqrt((variance + rest_variance) / np.maximum(n_cells, 1)[:, None])
    varies = standard_error > 0
    return np.divide(mean - rest_mean, standard_error, out=np.full(mean.shape, np.nan), where=varies)


def weights_from_t(t: ProfileByQuery) -> ProfileByQuery:
    """(query, gene) ((|t| − min|t|) / (max|t| − min|t|))², in 0..1, NaN → 0 (F-24); all 0 where all |t| are equal."""
    size = np.abs(t)
    known = np.isfinite(size)
    low = np.where(known, size, np.inf).min(axis=1, keepdims=True)
    high = np.where(known, size, -np.inf).max(axis=1, keepdims=True)
    span = np.where(known.any(axis=1, keepdims=True), high - np.where(np.isfinite(low), low, 0.0), 0.0)
    scaled = np.divide(size - low, span, out=np.zeros(size.shape), where=known & (span > 0))
    return scaled**2


def wmse(
    predicted: ProfileByQuery, truth: ProfileByQuery, *, weights: ProfileByQuery, mask: MaskByQuery | None = None
) -> ScoreByQuery:
    """(query,) Σ w(ŷ−m)² / Σ w over the mask, squared units of the response (F-24); equal weights where all are 0."""
    weights = _usable(weights, mask)
    return ratio(row_sum(weights * (predicted - truth) ** 2, mask), row_sum(weights, mask))


def r2_weighted(
    predicted: ProfileByQuery, truth: ProfileByQuery, *, weights: ProfileByQuery, mask: MaskByQuery | None = None
) -> ScoreByQuery:
    """(query,) R² with weights in mean, numerator and denominator (F-5), at most 1; equal weights where all are 0.

    NaN where the truth is constant over the weighted genes.
    """
    weights = _usable(weights, mask)
    centre = ratio(row_sum(weights * truth, mask), row_sum(weights, mask))[:, None]
    spread = row_sum(weights * (truth - centre) ** 2, mask)
    spread = np.where(spread <= FLAT * row_sum(weights * truth**2, mask), 0.0, spread)
    return 1.0 - ratio(row_sum(weights * (predicted - truth) ** 2, mask), spread)


def specificity_weights(evaluation: Evaluation) -> ProfileByQuery:
    """(query, gene) weights of the evaluation's truth against the rest of perturbed cells, computed once."""
    if "weights" not in evaluation.cache:
        truth = evaluation.truth
        assert truth.variance is not None
        assert truth.n_cells is not None
        rest = rest_of_perturbed(truth, evaluation.training)
        t = t_scores(truth.response, truth.variance, truth.n_cells, rest_mean=rest.mean, rest_variance=rest.variance)
        evaluation.cache["weights"] = weights_from_t(t)
    weights = evaluation.cache["weights"]
    assert isinstance(weights, np.ndarray)
    return weights


class _Sums:
    """Counts, sums and sums of squares per row of a table, and their totals."""

    def __init__(self, table: ResponseTable) -> None:
        assert table.n_cells is not None
        assert table.variance is not None
        self.row = {query.condition: row for row, query in enumerate(table.queries)}
        self.n = table.n_cells.astype(float)
        count = self.n[:, None]
        self.first = count * table.response
        self.second = np.maximum(count - 1, 0) * np.nan_to_num(table.variance) + count * table.response**2
        self.total = (float(self.n.sum()), self.first.sum(axis=0), self.second.sum(axis=0))


def _without(pools: list[_Sums], condition: str) -> tuple[float, np.ndarray, np.ndarray]:
    n = sum(pool.total[0] for pool in pools)
    first = np.sum([pool.total[1] for pool in pools], axis=0)
    second = np.sum([pool.total[2] for pool in pools], axis=0)
    for pool in pools:
        own = pool.row.get(condition)
        if own is not None:
            n, first, second = n - pool.n[own], first - pool.first[own], second - pool.second[own]
    return float(n), first, second


def _rows_of(table: ResponseTable, context: str) -> np.ndarray:
    return np.array([query.context == context for query in table.queries], dtype=bool)


def _usable(weights: ProfileByQuery, mask: MaskByQuery | None) -> ProfileByQuery:
    none = row_sum(weights, mask) <= 0
    return np.where(none[:, None], 1.0, weights)


def _weighted(function: Callable[..., np.ndarray], *, perturbed: bool = False) -> MetricFunction:
    def score(evaluation: Evaluation, mask: np.ndarray) -> np.ndarray:
        shift = evaluation.perturbed_mean if perturbed else 0.0
        return function(
            evaluation.predicted.response - shift,
            evaluation.truth.response - shift,
            weights=specificity_weights(evaluation),
            mask=mask,
        )

    return score


_WEIGHTED = frozenset({"response", "variance"})
register(
    MetricCard(
        name="wmse",
        title="Squared error weighted by specificity",
        formula="sum w (predicted − observed)² / sum w; w from |t| against the other perturbed cells",
        source="Mejia et al. 2025; spec F-24",
        reads=_WEIGHTED,
        higher_is_better=False,
        perfect=0.0,
        chance=math.nan,
        gene_sets=("all", "all-notarget"),
        lowest=0.0,
        core=True,
        undefined="the gene set is empty for this query.",
    )
)(_weighted(wmse))
register(
    MetricCard(
        name="r2_weighted",
        title="Weighted R² of responses",
        formula="R² of responses, the weights of wmse in mean, numerator and denominator",
        source="Mejia et al. 2025; spec F-5, F-24",
        reads=_WEIGHTED,
        higher_is_better=True,
        perfect=1.0,
        chance=math.nan,
        gene_sets=("all",),
        highest=1.0,
        undefined="the truth does not vary over the weighted genes; it counts 0.",
        undefined_counts_as=0.0,
    )
)(_weighted(r2_weighted))
register(
    MetricCard(
        name="r2_weighted_perturbed",
        title="Weighted R² against the perturbed mean",
        formula="weighted R² of predicted and observed response, each minus the training perturbed mean",
        source="Mejia et al. 2025; spec F-5, F-24",
        reads=_WEIGHTED | {"training"},
        higher_is_better=True,
        perfect=1.0,
        chance=math.nan,
        gene_sets=("all", "all-notarget"),
        highest=1.0,
        core=True,
        undefined="the truth does not vary over the weighted genes; it counts 0.",
        undefined_counts_as=0.0,
    )
)(_weighted(r2_weighted, perturbed=True))
