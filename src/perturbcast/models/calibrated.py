"""Calibrated errors by group of queries: what is asked of singles, of combinations and of new ones errs differently."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float

from perturbcast.data.conditions import Query, targets_of
from perturbcast.models.base import AnswersTogether
from perturbcast.models.conformal import ErrorModel, error_model
from perturbcast.models.holdouts import TARGETS, Holdout

PREFIX = "errors."
NEW = "new-combination"  # no target of it was seen singly


class CalibratedAnswers(AnswersTogether):
    """A fitted model that keeps the arrays of `group_errors` among those it learned."""

    @cached_property
    def errors(self) -> dict[str, ErrorModel]:
        """Calibrated errors by group of queries."""
        return restored_errors(self._state)


def group_of(query: Query, question: str, seen_singly: Collection[str]) -> str:
    """Queries whose errors are calibrated together: singles, combinations, and those with no target seen singly."""
    targets = targets_of(query.condition)
    if len(targets) == 1:
        return f"{question}-single"
    return f"{question}-{'combination' if any(target in seen_singly for target in targets) else NEW}"


def groups_left_out(queries: Sequence[Query], folds: Sequence[Holdout]) -> list[str]:
    """The group of every query that a fold leaves out, fold after fold.

    A combination that two folds leave out, each for one of its targets, stands there twice: the mean of what is then
    said of it would err less than any new query does.
    """
    found = []
    for fold in folds:
        seen_singly = {queries[row].condition for row in fold.train}
        found += [group_of(queries[row], fold.kind, seen_singly) for row in fold.valid]
    return found


def group_errors(
    groups: Sequence[str],
    question: str,
    residual: Float[np.ndarray, "query gene"],
    predicted: Float[np.ndarray, "query gene"],
) -> dict[str, np.ndarray]:
    """Arrays of the errors of left-out queries of one question: those of each group, and those of all of them."""
    state: dict[str, np.ndarray] = {}
    for name in (*sorted(set(groups)), question):
        inside = np.array([name in (question, group) for group in groups], dtype=bool)
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
    seen_singly: Collection[str],
) -> Float[np.ndarray, "query gene"]:
    """Calibrated standard deviations; NaN where nothing could be left out to calibrate them.

    Combinations with no target seen singly count as others where too few of them could be left out.
    """
    found = np.full(predicted.shape, np.nan)
    for row, (query, question) in enumerate(zip(queries, questions, strict=True)):
        group = group_of(query, question, seen_singly)
        known = errors.get(group, errors.get(group.replace(NEW, "combination"), errors.get(TARGETS)))
        if known is not None:
            found[row] = known.sd(predicted[row : row + 1])[0]
    return found
