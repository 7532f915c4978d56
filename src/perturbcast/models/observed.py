"""Observed training responses, looked up by target: what the models of combinations build on."""

from collections.abc import Mapping

import numpy as np

from perturbcast.data.conditions import Query, is_single, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import CannotPredict, did_you_mean
from perturbcast.models.mean import mean_by_context


def single_state(table: ResponseTable) -> dict[str, np.ndarray]:
    """The arrays from which `Singles` is made: responses of singles, their rows, and the mean single response."""
    rows = np.array([row for row, query in enumerate(table.queries) if is_single(query.condition)], dtype=np.int64)
    base = table.take(rows) if len(rows) else table
    return {"single.rows": rows, "single.response": table.response[rows], "single.mean": mean_by_context(base)}


class Singles:
    """Responses of single perturbations; the mean single response stands in for a target that was not seen."""

    def __init__(self, queries: tuple[Query, ...], contexts: tuple[str, ...], state: Mapping[str, np.ndarray]) -> None:
        self._response = state["single.response"]
        self._mean = state["single.mean"]
        self._contexts = contexts
        self._rows: dict[str, dict[str, int]] = {}
        for position, row in enumerate(state["single.rows"]):
            query = queries[int(row)]
            self._rows.setdefault(query.condition, {})[query.context] = position

    def of(self, target: str, context: str) -> tuple[np.ndarray, Support] | None:
        """Response of a target in a context (mean of other contexts if not seen there); None if unseen."""
        rows = self._rows.get(target)
        if rows is None:
            return None
        if context in rows:
            return self._response[rows[context]], Support.SEEN
        return self._response[sorted(rows.values())].mean(axis=0), Support.CONTEXT

    def parts(self, query: Query, *, fallback: bool) -> tuple[list[np.ndarray], Support]:
        """One response per target, and what they rest on; CannotPredict for unseen targets unless `fallback`."""
        targets = targets_of(query.condition)
        found = [self.of(target, query.context) for target in targets]
        unseen = [target for target, part in zip(targets, found, strict=True) if part is None]
        if unseen and not fallback:
            known = did_you_mean(unseen[0], self._rows) if self._rows else ""
            raise CannotPredict(f"no single perturbation of {', '.join(map(repr, unseen))} was in training. {known}")
        mean = self._mean[self._contexts.index(query.context)]
        parts = [mean if part is None else part[0] for part in found]
        return parts, self._support([None if part is None else part[1] for part in found])

    @staticmethod
    def _support(found: list[Support | None]) -> Support:
        seen = [support for support in found if support is not None]
        if not seen:
            return Support.MEAN
        if len(seen) < len(found):
            return Support.PARTIAL
        if Support.CONTEXT in seen:
            return Support.CONTEXT
        return Support.SEEN if len(found) == 1 else Support.SINGLES
