"""Additive combinations: the response of a double is the sum of its singles (spec D-3, D-6)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.models.base import FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.conformal import spread_of
from perturbcast.models.mean import left_out_by_mean
from perturbcast.models.observed import Singles, single_state

FEWEST_RESIDUALS = 3  # doubles from which a residual sd is estimated


class FittedAdditive(FittedModel):
    """offset + slope * (sum of single responses); a seen single is answered with its own observed response."""

    def __init__(self, model: Model, training: ResponseTable, state: dict[str, np.ndarray], **options: str) -> None:
        super().__init__(model, training, state, **options)
        self.singles = Singles(self.trained_on, self.contexts, self._state)

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        fallback = bool(getattr(self.model, "fallback", True))
        parts, support = self.singles.parts(query, fallback=fallback)
        if len(parts) == 1:
            return parts[0], self._sd_of_single(support), support
        return self._combine(np.sum(parts, axis=0)), self._sd_of_sum(query), support

    def _combine(self, total: np.ndarray) -> np.ndarray:
        """Response of a combination from the sum of its singles."""
        return self._state["offset"] + self._state["slope"] * total

    def _sd_of_single(self, support: Support) -> np.ndarray | None:
        return None if support is Support.SEEN else self._state["single.sd"]

    def _sd_of_sum(self, query: Query) -> np.ndarray | None:
        """Residual sd of training doubles, plus the spread of singles for each target that was not seen."""
        if "sd" not in self._state:
            return None
        unseen = sum(self.singles.of(target, query.context) is None for target in targets_of(query.condition))
        spread = self._state["slope"] * self._state["single.sd"]
        return np.sqrt(self._state["sd"] ** 2 + unseen * spread**2)


@dataclass(frozen=True)
class Additive(Model):
    """The sum of the observed single responses; `residual-mean` adds the mean residual of training doubles (D-6).

    A single that was seen is answered with its own training response: report that only for queries never tested.
    The mean single response stands in for an unseen target, which `support` says; `fallback=False` refuses instead.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="additive",
        title="Additive",
        summary="Predicts that the effects of two perturbations add up. Hard to beat on combinations.",
        source="Ahlmann-Eltze et al. 2025, doi:10.1038/s41592-025-02772-6; spec D-3, D-6",
        predicts=frozenset({"unseen_double", "unseen_context"}),
        baseline=True,
        profiles={"residual-mean": {"residual": True}, "strict": {"fallback": False}},
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedAdditive
    residual: bool = False  # add the mean residual of training doubles, D-6
    fallback: bool = True  # mean single response for an unseen target

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedAdditive:
        """The fitted model; without training doubles there is no residual and no sd for doubles."""
        table = training.responses
        state = additive_state(table)
        total, observed = doubles_of(table, state)
        if self.residual and len(total):
            state["offset"] = (observed - total).mean(axis=0)
        state |= residual_sd(observed - total - state["offset"])
        return FittedAdditive(self, table, state, split_fingerprint=training.split_fingerprint)


def additive_state(table: ResponseTable) -> dict[str, np.ndarray]:
    """The state of the plain additive model: singles, their spread, slope one, offset zero."""
    state = single_state(table)
    residual = left_out_by_mean(table.take(state["single.rows"])) if len(state["single.rows"]) else table.response[:0]
    state["single.sd"] = spread_of(residual[np.isfinite(residual).all(axis=1)])
    return state | {"slope": np.ones(table.n_genes), "offset": np.zeros(table.n_genes)}


def doubles_of(table: ResponseTable, state: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(sum of singles, observed response), a row per training combination whose targets were all seen singly."""
    singles = Singles(table.queries, table.contexts, state)
    total, rows = [], []
    for row, query in enumerate(table.queries):
        if len(targets_of(query.condition)) < 2:
            continue
        parts, support = singles.parts(query, fallback=True)
        if support in (Support.SINGLES, Support.CONTEXT):
            total.append(np.sum(parts, axis=0))
            rows.append(row)
    return np.array(total).reshape(len(rows), table.n_genes), table.response[rows]


def residual_sd(residual: np.ndarray) -> dict[str, np.ndarray]:
    """`sd` (gene) of the residuals (double, gene); nothing where there are too few."""
    if len(residual) < FEWEST_RESIDUALS:
        return {}
    return {"sd": spread_of(residual)}
