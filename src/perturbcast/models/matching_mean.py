"""Matching mean: the average of what is known of a query's targets (Systema; spec D-4)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.models.base import FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.mean import left_out_by_mean, mean_by_context
from perturbcast.models.observed import Singles, single_state
from perturbcast.models.spread_by_size import combined, sd_by_size, spread_by_size


class FittedMatchingMean(FittedModel):
    """Average over targets of the single response where it was seen, else of the mean over perturbed cells."""

    def __init__(self, model: Model, training: ResponseTable, state: dict[str, np.ndarray], **options: str) -> None:
        super().__init__(model, training, state, **options)
        self.singles = Singles(self.trained_on, self.contexts, self._state)

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        _, support = self.singles.parts(query, fallback=True)
        mean = self._state["mean"][self.contexts.index(query.context)]
        sd = None if support is Support.SEEN else sd_by_size(self._state, query)
        return average_of_parts(self.singles, query, mean), sd, support


def average_of_parts(singles: Singles, query: Query, mean: Float[np.ndarray, " gene"]) -> Float[np.ndarray, " gene"]:
    """Average over targets of their single response, `mean` for those not seen."""
    found = [singles.of(target, query.context) for target in targets_of(query.condition)]
    return np.mean([mean if one is None else one[0] for one in found], axis=0)


@dataclass(frozen=True)
class MatchingMean(Model):
    """For A+B the average, not the sum, of the singles (D-4); for an unseen single the mean over perturbed cells.

    Differs from the paper: where cell numbers are unknown (files of responses) every training query has one vote.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="matching-mean",
        title="Matching mean",
        summary="Averages the responses of those single perturbations that make up the query.",
        source="Systema 2025, doi:10.1038/s41587-025-02777-8; spec D-4",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        baseline=True,
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedMatchingMean

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedMatchingMean:
        """The fitted model: single responses and the mean over perturbed training cells."""
        table = training.responses
        state = single_state(table) | {"mean": mean_by_context(table, variant="cells")}
        singles = Singles(table.queries, table.contexts, state)
        residual = left_out_by_mean(table, variant="cells")
        for row in np.flatnonzero(combined(table.queries)):
            mean = state["mean"][table.context_code[row]]
            residual[row] = table.response[row] - average_of_parts(singles, table.queries[row], mean)
        state |= spread_by_size(table.queries, residual)
        return FittedMatchingMean(self, table, state, split_fingerprint=training.split_fingerprint)
