"""How far predictions of a fitted model lie from what was observed in training."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from perturbcast.data.conditions import Query
from perturbcast.data.responses import ResponseTable
from perturbcast.models.base import FittedModel

MOST_RESIDUALS = 64  # training queries that are looked at, evenly spaced
LEAST = 0.1  # of the mean square that is not put down to what the posterior leaves open


def residual_of(
    fitted: FittedModel, table: ResponseTable, *, spread: Callable[[Query], np.ndarray]
) -> Float[np.ndarray, " gene"]:
    """(gene,) what training responses lie from the predicted beyond `spread`, as a standard deviation.

    Root of the mean of (observed - predicted)² - spread², at least `LEAST` of the first, over training queries.
    """
    step = max(1, -(-table.n_queries // MOST_RESIDUALS))
    rows = np.arange(0, table.n_queries, step)
    found = fitted.predict([table.queries[row] for row in rows])
    rows, predicted = rows[found.predicted], found.response[found.predicted]
    square = ((table.response[rows] - predicted) ** 2).mean(axis=0)
    known = np.mean([spread(table.queries[row]) ** 2 for row in rows], axis=0)
    return np.asarray(np.sqrt(np.maximum(square - known, LEAST * square)), dtype=np.float32)
