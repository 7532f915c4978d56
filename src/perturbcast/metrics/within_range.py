"""Whether a predicted mean lies within the spread of the observed cells (GEARS, spec C.7)."""

from functools import partial

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from perturbcast._types import MaskByQuery, Profile, ProfileByQuery, ScoreByQuery
from perturbcast.errors import MetricNeeds
from perturbcast.metrics.base import Evaluation, MetricCard, cached, register
from perturbcast.metrics.masked import row_mean

RANGES = {
    "within_min_max": (0.0, 1.0),
    "within_45_55": (0.45, 0.55),
    "within_40_60": (0.40, 0.60),
    "within_25_75": (0.25, 0.75),
}
LEVELS = sorted({level for pair in RANGES.values() for level in pair})
ROUNDING = 1e-6  # cells are single precision: a mean of equal cells must lie within them


def fraction_within(predicted: Profile, lower: Float[ndarray, " gene"], upper: Float[ndarray, " gene"]) -> float:
    """Share of genes with lower <= predicted <= upper; NaN without genes."""
    if len(predicted) == 0:
        return float("nan")
    return float(((predicted >= lower - ROUNDING) & (predicted <= upper + ROUNDING)).mean())


def fraction_within_one_sd(
    predicted: ProfileByQuery, truth: ProfileByQuery, *, variance: ProfileByQuery, mask: MaskByQuery | None = None
) -> ScoreByQuery:
    """(query,) share of genes with |predicted − observed| < standard deviation between cells; NaN for an empty mask.

    A gene without variance counts only if it is predicted exactly.
    """
    near = np.abs(predicted - truth) < np.sqrt(variance)
    exact = (variance == 0) & (predicted == truth)
    return row_mean((near | exact).astype(np.float64), mask)


def _quantiles(evaluation: Evaluation, mask: np.ndarray) -> list[np.ndarray]:
    """Per query (level, gene of the mask) quantiles of expression between cells, one query dense at a time."""

    def compute() -> list[np.ndarray]:
        screen = evaluation.screen
        if screen is None:
            raise MetricNeeds("this metric reads cells, and these data are responses.")
        rows = []
        for row, query in enumerate(evaluation.truth.queries):
            genes = np.flatnonzero(mask[row])
            cells = screen.expression(screen.cells_of(query))[:, genes].toarray().astype(np.float64)
            rows.append(
                np.quantile(cells, LEVELS, axis=0) if cells.size else np.full((len(LEVELS), len(genes)), np.nan)
            )
        return rows

    return cached(evaluation, "quantiles of cells", mask, compute)


def _within(evaluation: Evaluation, mask: np.ndarray, *, levels: tuple[float, float]) -> ScoreByQuery:
    positions = [LEVELS.index(level) for level in levels]
    expression = evaluation.control + evaluation.predicted.response
    scores = []
    for row, of_query in enumerate(_quantiles(evaluation, mask)):
        scores.append(fraction_within(expression[row, mask[row]], *of_query[positions]))
    return np.array(scores, dtype=float)


for _name, _levels in RANGES.items():
    _text = (
        "between the lowest and the highest cell"
        if _levels == (0.0, 1.0)
        else (f"between the {_levels[0]:.0%} and {_levels[1]:.0%} quantiles of the cells")
    )
    register(
        MetricCard(
            name=_name,
            title=f"Predicted mean {_text}",
            formula=f"share of genes whose predicted expression lies {_text} of the query",
            source="GEARS; spec C.7",
            reads=frozenset({"response", "expression", "cells"}),
            higher_is_better=True,
            perfect=1.0,
            chance=float("nan"),
            gene_sets=("de20", "de20-nondropout"),
            lowest=0.0,
            highest=1.0,
            undefined="the gene set is empty for this query.",
            reaches_perfect=False,
            gameable_by=("shrunk", "control mean"),
            note="Even the right mean need not lie between quantiles of skewed cells: many genes are silent in most.",
        )
    )(partial(_within, levels=_levels))


@register(
    MetricCard(
        name="within_one_sd",
        title="Predicted mean within one standard deviation",
        formula="share of genes with |predicted − observed| < sd between cells",
        source="GEARS; spec C.7",
        reads=frozenset({"response", "variance"}),
        higher_is_better=True,
        perfect=1.0,
        chance=float("nan"),
        gene_sets=("de20", "de20-nondropout"),
        lowest=0.0,
        highest=1.0,
        undefined="the gene set is empty for this query.",
        gameable_by=("shrunk", "own-target leak"),
        note="The spread is between cells, many times the standard error: most predictions pass.",
    )
)
def _within_one_sd(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    truth = evaluation.truth
    assert truth.variance is not None
    return fraction_within_one_sd(evaluation.predicted.response, truth.response, variance=truth.variance, mask=mask)
