"""The mean training response, in the three variants of spec D-2 and by number of targets."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, is_single
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import NeedsCells, NotEnoughTraining
from perturbcast.models.base import FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.spread_by_size import combined, sd_by_size, spread_by_size


class FittedMean(FittedModel):
    """One mean response per context; contexts without training queries get the mean over all."""

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        context = self.contexts.index(query.context)
        mean = self._state["mean" if is_single(query.condition) else "mean.combined"]
        return mean[context], sd_by_size(self._state, query), Support.MEAN


@dataclass(frozen=True)
class Mean(Model):
    """The mean response of the training queries of the context asked for.

    `perturbed`: one vote per query (D-2b); `cells`: one vote per perturbed cell (D-2c, Systema's nonctl-mean);
    `with-control`: control is one of the conditions (D-2a, Ahlmann-Eltze et al.), which shrinks by K / (K + 1);
    `same-size` (ours): as `perturbed`, but singles from singles and combinations from combinations where training has
    both, because two perturbations change more than one.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="mean",
        title="Mean response",
        summary="Predicts for every condition the average response of the training conditions.",
        source="Ahlmann-Eltze et al. 2025, doi:10.1038/s41592-025-02772-6; Systema 2025; spec D-2a to D-2c",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        baseline=True,
        profiles={
            "perturbed": {"variant": "perturbed"},
            "cells": {"variant": "cells"},
            "with-control": {"variant": "with-control"},
            "same-size": {"variant": "same-size"},
        },
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedMean
    variant: Literal["perturbed", "cells", "with-control", "same-size"] = "perturbed"  # D-2b, D-2c, D-2a, ours

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedMean:
        """The fitted model; NeedsCells where `cells` is asked for and cell numbers are unknown."""
        table = training.responses
        if self.variant == "cells" and table.n_cells is None:
            raise NeedsCells("mean:cells weighs conditions by their cells, which are not known for these data.")
        many = combined(table.queries)
        if self.variant == "same-size" and 0 < many.sum() < len(many):
            singles, rest = table.take(~many), table.take(many)
            mean, of_combined = mean_by_context(singles), mean_by_context(rest)
            residual = np.empty_like(table.response)
            residual[~many], residual[many] = left_out_by_mean(singles), left_out_by_mean(rest)
        else:
            mean = of_combined = mean_by_context(table, variant=self.variant)
            residual = left_out_by_mean(table, variant=self.variant)
        state = {"mean": mean, "mean.combined": of_combined} | spread_by_size(table.queries, residual)
        return FittedMean(self, table, state, split_fingerprint=training.split_fingerprint)


def left_out_by_mean(table: ResponseTable, *, variant: str = "perturbed") -> np.ndarray:
    """(query, gene) responses less the mean without them; NaN where the context has no other query."""
    vote, one_control = _votes(table, variant)
    code = table.context_code
    total = np.bincount(code, weights=vote, minlength=len(table.contexts))[code] + one_control
    alone = total - vote <= 1e-9 * total
    factor = np.where(alone, np.nan, total / np.where(alone, 1.0, total - vote))
    return (table.response - mean_by_context(table, variant=variant)[code]) * factor[:, None]


def mean_by_context(table: ResponseTable, *, variant: str = "perturbed") -> np.ndarray:
    """(context, gene) mean training response of a variant; NotEnoughTraining if there is no training query."""
    if not table.n_queries:
        raise NotEnoughTraining("there is no training condition.")
    weight, one_control = _votes(table, variant)
    code = table.context_code
    rows = []
    for context in range(len(table.contexts)):
        inside = weight * (code == context)
        votes = inside if inside.any() else weight
        rows.append(votes @ table.response / (votes.sum() + one_control))
    return np.array(rows)


def _votes(table: ResponseTable, variant: str) -> tuple[np.ndarray, float]:
    """How much each query and control count."""
    if variant == "cells" and table.n_cells is not None:
        return table.n_cells.astype(float), 0.0
    return np.ones(table.n_queries), 1.0 if variant == "with-control" else 0.0
