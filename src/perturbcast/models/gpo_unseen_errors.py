"""How far answers for targets that GPO-VAE never saw may be off: by left-out training conditions (split-conformal)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from perturbcast.data.conditions import Query, is_single, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.models.conformal import FEWEST_ROWS, ErrorModel, error_model
from perturbcast.models.fixed_effects import FixedEffects
from perturbcast.models.kernel_ridge import FittedKernelRidge
from perturbcast.models.leave_one_out import free_queries

ERRORS, OWN_ERROR = "unseen.", "unseen_own"  # arrays of the errors, and of those of the targets' own genes


def error_state(
    rows: Int[np.ndarray, " row"], predicted: Float[np.ndarray, "row gene"], table: ResponseTable
) -> dict[str, np.ndarray]:
    """Arrays of the errors of predictions of some queries of a table that were left out; none with fewer than three.

    Single perturbations decide, all where there are fewer than three. Own genes err by as much as own responses differ.
    """
    single = np.array([is_single(table.queries[row].condition) for row in rows], dtype=bool)
    if single.sum() >= FEWEST_ROWS:
        rows, predicted = rows[single], predicted[single]
    own = own_genes([table.queries[row] for row in rows], table.genes)
    found = error_model(np.where(own, 0.0, table.response[rows] - predicted), predicted)
    if found is None:
        return {}
    responses = table.response[rows][own]
    spread = float(responses.std(ddof=1)) if len(responses) > 1 else 0.0
    return found.state(ERRORS) | {OWN_ERROR: np.array([spread])}


def left_out(learned: FittedKernelRidge) -> tuple[Int[np.ndarray, " row"], Float[np.ndarray, "row gene"]]:
    """Queries that can be left out, and their residuals if they were: α_i / Q_ii, without a fit (spec D-17)."""
    state = learned.state()
    precision = state["inverse"] - state["through"] @ state["schur"] @ state["through"].T
    rows = np.flatnonzero(free_queries(FixedEffects.of(learned.trained_on).rows(learned.trained_on)))
    return rows, state["alpha"][rows].astype(np.float64) / np.diag(precision)[rows, None]


def unseen_sd(
    state: Mapping[str, np.ndarray], query: Query, predicted: Float[np.ndarray, " gene"], genes: np.ndarray
) -> Float[np.ndarray, " gene"] | None:
    """Standard deviation of a new observed response to a query with unseen targets; None where it was not learned.

    Variances count once for every target of a combination.
    """
    if OWN_ERROR not in state:
        return None
    errors = ErrorModel.restored(dict(state), ERRORS)
    sd = errors.sd(predicted[None])[0] * np.sqrt(len(targets_of(query.condition)))
    own = own_genes([query], genes)[0]
    return np.where(own, np.maximum(sd, float(state[OWN_ERROR][0])), sd)


def own_genes(queries: Sequence[Query], genes: np.ndarray) -> Bool[np.ndarray, "query gene"]:
    """Which genes are targets of each query."""
    column = {str(gene): place for place, gene in enumerate(genes)}
    found = np.zeros((len(queries), len(genes)), dtype=bool)
    for row, query in enumerate(queries):
        found[row, [column[target] for target in targets_of(query.condition) if target in column]] = True
    return found
