"""Calibrated errors by group of queries: what is asked of singles and of combinations errs differently."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float

from perturbcast.data.conditions import Query, targets_of
from perturbcast.models.base import AnswersTogether
from perturbcast.models.conformal import ErrorModel, error_model
from perturbcast.models.holdouts import TARGETS

PREFIX = "errors."


class CalibratedAnswers(AnswersTogether):
    """A fitted model that keeps the arrays of `group_errors` among those it learned."""

    @cached_property
    def errors(self) -> dict[str, ErrorModel]:
        """Calibrated errors by group of queries."""
        return restored_errors(self._state)


def group_of(query: Query, question: str) -> str:
    """Queries whose errors are calibrated together."""
    return f"{question}-{'combination' if len(targets_of(query.condition)) > 1 else 'single'}"


def group_errors(
    queries: Sequence[Query],
    question: str,
    residual: Float[np.ndarray, "query gene"],
    predicted: Float[np.ndarray, "query gene"],
) -> dict[str, np.ndarray]:
    """Arrays of the errors of left-out queries of one question: those of each group, and those of all of them."""
    groups = np.array([group_of(query, question) for query in queries], dtype=object)
    state: dict[str, np.ndarray] = {}
    for name in (*sorted(set(groups)), question):
        inside = np.ones(len(groups), dtype=bool) if name == question else groups == name
        errors = error_model(residual[inside], predicted[inside])
        if errors is not None:
            state |= errors.state(f"{PREFIX}{name}.")
    return state


def restored_errors(state: Mapping[str, np.ndarray]) -> dict[str, ErrorModel]:
    """Calibrated errors by group of queries, from the arrays among which those of `group_errors` are."""
    names = {key.split(".")[1] for key in state if key.startswith(PREFIX)}
    return {name: ErrorModel.restored(dict(state), f"{PREFIX}{name}.") for name in sorted(names)}


def calibrated_sd(
    errors: Mapping[str, ErrorModel],
    queries: Sequence[Query],
    questions: Sequence[str],
    predicted: Float[np.ndarray, "query gene"],
) -> Float[np.ndarray, "query gene"]:
    """Calibrated standard deviations; NaN where nothing could be left out to calibrate them."""
    found = np.full(predicted.shape, np.nan)
    for row, (query, question) in enumerate(zip(queries, questions, strict=True)):
        known = errors.get(group_of(query, question), errors.get(TARGETS))
        if known is not None:
            found[row] = known.sd(predicted[row : row + 1])[0]
    return found
