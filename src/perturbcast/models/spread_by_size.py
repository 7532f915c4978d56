"""Standard deviations of baselines whose error does not hang on the query, but for how many targets it has."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from perturbcast.data.conditions import Query, is_single
from perturbcast.models.conformal import FEWEST_ROWS, spread_of

SINGLE, COMBINED = "sd", "sd.combined"


def combined(queries: Sequence[Query]) -> Bool[np.ndarray, " query"]:
    """Which queries have more than one target."""
    return np.array([not is_single(query.condition) for query in queries], dtype=bool)


def spread_by_size(
    queries: Sequence[Query], residual: Float[np.ndarray, "query gene"]
) -> dict[str, Float[np.ndarray, " gene"]]:
    """Arrays for `sd_by_size`, from errors of queries that were left out; NaN marks a row that could not be.

    Singles have their own sd and combinations theirs where there are enough of them, else that of all.
    """
    usable = np.isfinite(residual).all(axis=1)
    many = combined(queries)
    spread = {}
    for name, kind in ((SINGLE, ~many), (COMBINED, many)):
        rows = usable & kind
        spread[name] = spread_of(residual[rows if rows.sum() >= FEWEST_ROWS else usable])
    return spread


def sd_by_size(state: Mapping[str, np.ndarray], query: Query) -> Float[np.ndarray, " gene"]:
    """The sd of a query, from arrays of `spread_by_size`."""
    return state[SINGLE if is_single(query.condition) else COMBINED]
