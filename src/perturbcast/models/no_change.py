"""No change: every condition looks like control (spec D-1)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Support
from perturbcast.models.base import FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.spread_by_size import sd_by_size, spread_by_size


class FittedNoChange(FittedModel):
    """Zero response for every query."""

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        return np.zeros(len(self.genes)), sd_by_size(self._state, query), Support.MEAN


@dataclass(frozen=True)
class NoChange(Model):
    """Zero response; the sd is how far training responses are from zero, scaled to cover (`conformal`)."""

    card: ClassVar[ModelCard] = ModelCard(
        name="no-change",
        title="No change",
        summary="Predicts that a perturbation does nothing: every condition keeps the expression of control.",
        source="Ahlmann-Eltze et al. 2025, doi:10.1038/s41592-025-02772-6; spec D-1",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        baseline=True,
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedNoChange

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedNoChange:
        """The fitted model; nothing is learned but how far responses are from zero."""
        table = training.responses
        state = spread_by_size(table.queries, table.response)
        return FittedNoChange(self, table, state, split_fingerprint=training.split_fingerprint)
