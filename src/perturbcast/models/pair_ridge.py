"""Combinations from their parts: scaled sums, and what combinations of like parts did beyond them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.models.base import Answers, FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.calibrated import CalibratedAnswers, calibrated_sd, group_errors, group_of
from perturbcast.models.fields import Range
from perturbcast.models.holdouts import COMBINATIONS, holdouts, question_of
from perturbcast.models.observed import Singles, single_state
from perturbcast.models.pair_fit import PairFit
from perturbcast.models.spectral_ridge import FittedSpectralRidge, SpectralRidge

BELOW = "below."
FEWEST_COMBINATIONS = 8  # training combinations of targets seen singly, below which parts are only added


class FittedPairRidge(CalibratedAnswers):
    """Singles as the spectral ridge has them; combinations from the responses, observed or predicted, of parts."""

    @cached_property
    def below(self) -> FittedSpectralRidge:
        """The model of targets that were not seen singly."""
        assert isinstance(self.model, PairRidge)
        below = self.restored_within(self.model.single_model(), BELOW)
        assert isinstance(below, FittedSpectralRidge)
        return below

    @cached_property
    def _singles(self) -> Singles:
        return Singles(self.trained_on, self.contexts, self._state)

    @cached_property
    def _pairs(self) -> PairFit:
        return PairFit.restored(self._state)

    def _respond_many(self, queries: Sequence[Query], *, dtype: type) -> Answers:
        asked = list(queries)
        given = self.below.predict(asked)
        response: np.ndarray = np.array(given.response, dtype=dtype)
        sd: np.ndarray | None = None if given.sd is None else np.array(given.sd, dtype=dtype)
        for row, query in enumerate(asked):
            if len(targets_of(query.condition)) > 1 and "pairs.centre" in self._state:
                response[row] = self._combined(query)
                if sd is not None and question_of(query, self.seen_singly) == COMBINATIONS:
                    sd[row] = self._sd_of(query, response[row : row + 1])[0]
        return Answers(response, sd, given.support, given.reason)

    def _sd_of(self, query: Query, response: np.ndarray) -> np.ndarray:
        """(1, gene) of a combination of targets seen singly."""
        return calibrated_sd(self.errors, [query], [COMBINATIONS], response, self.seen_singly)

    def _combined(self, query: Query) -> np.ndarray:
        targets = targets_of(query.condition)
        unseen = [target for target in targets if self._singles.of(target, query.context) is None]
        told = self.below.predict([Query(target, query.context) for target in unseen])
        guess = dict(zip(unseen, told.response, strict=True))
        parts = []
        for target in targets:
            found = self._singles.of(target, query.context)
            parts.append(guess[target] if found is None else found[0])
        return self._pairs.predict([parts], [targets])[0]


@dataclass(frozen=True)
class PairRidge(Model):
    """A combination is the sum of its parts, shrunk, plus a Gaussian process over combinations.

    Parts are observed single responses, or those that `spectral-ridge` predicts. A slope per gene and an offset are
    fitted to their sums as in the scaled additive model. What training combinations did beyond that is carried to
    combinations whose parts respond alike, or are the same; all choices are made by leave-one-out over training
    combinations. Two such fits are averaged: of whole parts, and of parts in the leading principal axes of training,
    which leave out most of the noise of a single.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="pair-ridge",
        title="Kernel ridge on pairs",
        summary="Adds and scales the effects of two perturbations, then corrects by what similar pairs did.",
        source="ours, after spec D-5, D-17 and B.7",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        uses_knowledge=True,
        profiles={"plus": {}},
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedPairRidge
    evenness: Annotated[float, Range(0.0, 1.0)] = 0.75  # of the spectral ridge
    folds: Annotated[int, Range(2)] = 5  # in which combinations are left out for the intervals

    def single_model(self) -> SpectralRidge:
        """The model of targets that were not seen singly."""
        return SpectralRidge(evenness=self.evenness)

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedPairRidge:
        """The fitted model; NotEnoughTraining with fewer than four training queries."""
        table = training.responses
        below = self.single_model().fit(training, seed=seed)
        state = {BELOW + name: value for name, value in below.state().items()} | single_state(table)
        rows, parts, targets = _explained(table, state)
        if len(rows) >= FEWEST_COMBINATIONS:
            whole = PairFit.of(parts, targets, table.response[rows], singles=state["single.response"])
            state |= whole.state() | self._calibrated(table, rows, parts, targets, state, seed=seed)
        return FittedPairRidge(self, table, state, split_fingerprint=training.split_fingerprint)

    def _calibrated(
        self,
        table: ResponseTable,
        rows: np.ndarray,
        parts: list[list[np.ndarray]],
        targets: list[tuple[str, ...]],
        state: Mapping[str, np.ndarray],
        *,
        seed: int,
    ) -> dict[str, np.ndarray]:
        """Errors of combinations left out in folds."""
        place = {int(row): number for number, row in enumerate(rows)}
        predicted = np.zeros((len(rows), table.n_genes))
        done: list[int] = []
        for fold in holdouts(table.queries, n_folds=self.folds, seed=seed):
            out = [place[int(row)] for row in fold.valid if fold.kind == COMBINATIONS and int(row) in place]
            kept = [number for number in range(len(rows)) if number not in set(out)]
            if not out or len(kept) < FEWEST_COMBINATIONS:
                continue
            part = PairFit.of(
                [parts[number] for number in kept],
                [targets[number] for number in kept],
                table.response[rows[kept]],
                singles=state["single.response"],
            )
            predicted[out] = part.predict([parts[number] for number in out], [targets[number] for number in out])
            done += out
        residual = table.response[rows[done]] - predicted[done]
        groups = [group_of(table.queries[rows[number]], COMBINATIONS, targets[number]) for number in done]
        return group_errors(groups, COMBINATIONS, residual, predicted[done])


def _explained(
    table: ResponseTable, state: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, list[list[np.ndarray]], list[tuple[str, ...]]]:
    """Rows of training combinations whose targets were all seen singly, responses and names of their parts."""
    singles = Singles(table.queries, table.contexts, state)
    rows, parts, targets = [], [], []
    for row, query in enumerate(table.queries):
        names = targets_of(query.condition)
        found = [singles.of(name, query.context) for name in names]
        if len(names) > 1 and all(part is not None for part in found):
            rows.append(row)
            parts.append([part[0] for part in found if part is not None])
            targets.append(names)
    return np.array(rows, dtype=np.int64), parts, targets
