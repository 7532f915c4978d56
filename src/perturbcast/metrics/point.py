"""Distances between a predicted and an observed mean profile (spec F-1, D-10, C.7, F-30).

All take responses. With the same control on both sides the distance of responses is that of expression, and control
is always the truth's (see Evaluation), so no score depends on a submitted control.
"""

import math
from typing import Any

import numpy as np

from perturbcast._types import MaskByQuery, ProfileByQuery, ScoreByQuery
from perturbcast.metrics.base import Evaluation, MetricCard, on_responses, register
from perturbcast.metrics.masked import ratio, row_mean, row_sum


def mse(predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None) -> ScoreByQuery:
    """(query,) mean squared error over the genes of the mask, squared units of the response (F-1); NaN if empty."""
    return row_mean((predicted - truth) ** 2, mask)


def rmse(predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None) -> ScoreByQuery:
    """(query,) root mean squared error over the mask, units of the response (F-1); NaN if empty."""
    return np.sqrt(mse(predicted, truth, mask=mask))


def mae(predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None) -> ScoreByQuery:
    """(query,) mean absolute error over the mask, units of the response (F-1, F-14); NaN if empty."""
    return row_mean(np.abs(predicted - truth), mask)


def l2(predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None) -> ScoreByQuery:
    """(query,) Euclidean distance over the mask, units of the response (F-1, D-10): a sum, so it grows with genes."""
    return np.sqrt(row_sum((predicted - truth) ** 2, mask))


def mse_normalised(
    predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None
) -> ScoreByQuery:
    """(query,) squared error as a share of that of predicting no change (GEARS, C.7); NaN where nothing changed."""
    return ratio(row_sum((predicted - truth) ** 2, mask), row_sum(truth**2, mask))


def excess_l2(
    predicted: ProfileByQuery,
    truth: ProfileByQuery,
    *,
    variance: ProfileByQuery,
    n_cells: np.ndarray,
    mask: MaskByQuery | None = None,
) -> ScoreByQuery:
    """(query,) L2 beyond what a perfect model shows by sampling of the truth: sqrt(max(0, L2² − Σ s²/n)) (F-30).

    `variance` is between cells (n − 1), `n_cells` the cells behind each mean. Units of the response.
    """
    noise = row_sum(variance / np.maximum(n_cells, 1)[:, None], mask)
    return np.sqrt(np.maximum(0.0, row_sum((predicted - truth) ** 2, mask) - noise))


def _excess_l2(evaluation: Evaluation, mask: np.ndarray) -> np.ndarray:
    truth = evaluation.truth
    assert truth.variance is not None
    assert truth.n_cells is not None
    return excess_l2(
        evaluation.predicted.response, truth.response, variance=truth.variance, n_cells=truth.n_cells, mask=mask
    )


def _error_card(**fields: Any) -> MetricCard:
    """The card of an error: 0 is perfect, lower is better; what is a constant prediction worth depends on the data."""
    common = {"higher_is_better": False, "perfect": 0.0, "chance": math.nan, "lowest": 0.0}
    return MetricCard(**({"reads": frozenset({"response"})} | common | fields))


_EMPTY = "the gene set is empty for this query."
register(
    _error_card(
        name="l2",
        title="Euclidean distance",
        formula="sqrt(sum over genes of (predicted − observed)²)",
        source="Ahlmann-Eltze et al. 2025; spec D-10, F-1",
        gene_sets=("all", "all-notarget", "top1000", "hvg", "de20", "de40", "de20-nondropout"),
        core=True,
        gameable_by=("shrunk", "perturbed mean"),
        note="Over many unaffected genes it is ruled by noise: a replicate can lose to the perturbed mean (F.11).",
    )
)(on_responses(l2))
register(
    _error_card(
        name="rmse",
        title="Root mean squared error",
        formula="sqrt(mean over genes of (predicted − observed)²)",
        source="spec F-1, A.6",
        gene_sets=("all", "top1000", "de20", "de40"),
        gameable_by=("shrunk", "perturbed mean"),
        undefined=_EMPTY,
    )
)(on_responses(rmse))
register(
    _error_card(
        name="mae",
        title="Mean absolute error",
        formula="mean over genes of |predicted − observed|",
        source="VCC 2025; spec F-1, F-14",
        gene_sets=("all", "top1000", "de20"),
        core=True,
        gameable_by=("shrunk", "control mean"),
        undefined=_EMPTY,
    )
)(on_responses(mae))
register(
    _error_card(
        name="mse",
        title="Mean squared error",
        formula="mean over genes of (predicted − observed)²",
        source="spec F-1, C.7",
        gene_sets=("all", "top1000", "de20", "de20-nondropout"),
        gameable_by=("shrunk", "perturbed mean"),
        undefined=_EMPTY,
    )
)(on_responses(mse))
register(
    _error_card(
        name="mse_normalised",
        title="Squared error as a share of predicting no change",
        formula="sum (predicted − observed)² / sum observed²",
        source="GEARS; spec C.7",
        gene_sets=("all", "de20", "de20-nondropout"),
        undefined="the query changes no gene of the set.",
        note="1 is the score of predicting no change.",
    )
)(on_responses(mse_normalised))
register(
    _error_card(
        name="excess_l2",
        title="Euclidean distance beyond sampling noise",
        formula="sqrt(max(0, L2² − sum s²/n))",
        source="spec F-30",
        reads=frozenset({"response", "variance"}),
        gene_sets=("all", "top1000"),
        core=True,
        gameable_by=("shrunk", "perturbed mean"),
        note="0 for every prediction as near as a perfect model would be.",
    )
)(_excess_l2)
