"""Kernel ridge in the principal axes of the responses: direction and size of a response apart, a ridge per axis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Float, Int

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import NotEnoughTraining
from perturbcast.models.base import Answers, FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.calibrated import NEW, CalibratedAnswers, calibrated_sd, group_errors, groups_left_out
from perturbcast.models.condition_kernels import Conditions
from perturbcast.models.fields import Range
from perturbcast.models.fixed_effects import FixedEffects
from perturbcast.models.holdouts import COMBINATIONS, TARGETS, holdouts, question_of
from perturbcast.models.kernel_ridge import FEWEST_QUERIES
from perturbcast.models.kernel_state import different, restored_views, view_state, views_in_use
from perturbcast.models.knowledge_views import response_view, views_of
from perturbcast.models.on_target import OnTarget
from perturbcast.models.sharper_views import sharper_views
from perturbcast.models.spectral_side import Scaled, Side, Solution

AT_ONCE = 1024  # queries answered together: bounds memory, not results
LARGEST_GAIN = 2.0
MOST_NEW = 60  # combinations that are left out with both targets


class FittedSpectralRidge(CalibratedAnswers):
    """Fixed effects + gain * mean over sides of size(P) * direction(P), from the likeness of P to training."""

    @cached_property
    def sides(self) -> list[Side]:
        """The solutions whose mean is predicted: of the usual views, and with further ones."""
        views = restored_views(self._state)
        numbers = range(int(self._state["n_sides"][0]))
        return [Side.restored(self.arrays_under(f"side.{number}."), views) for number in numbers]

    @cached_property
    def _training(self) -> Conditions:
        return Conditions.of(self.trained_on)

    @cached_property
    def _effects(self) -> FixedEffects:
        return FixedEffects.of(self.trained_on)

    def question(self, query: Query) -> str:
        """Whether a query asks of unseen targets or of a combination of targets seen singly."""
        kind = question_of(query, self.seen_singly)
        return kind if f"gain.{kind}" in self._state else TARGETS

    def _respond_many(self, queries: Sequence[Query], *, dtype: type) -> Answers:
        place = {query: row for row, query in enumerate(dict.fromkeys(queries))}
        if len(place) < len(queries):  # a product may round two equal rows differently
            found, rows = self._respond_many(list(place), dtype=dtype), [place[query] for query in queries]
            sd = None if found.sd is None else found.sd[rows]
            return Answers(found.response[rows], sd, tuple(found.support[row] for row in rows), ("",) * len(rows))
        return self._answers(queries, dtype=dtype)

    def _answers(self, queries: Sequence[Query], *, dtype: type) -> Answers:
        """Answers to queries that all differ."""
        response: np.ndarray = np.empty((len(queries), len(self.genes)), dtype=dtype)
        sd = np.empty_like(response)
        support: list[Support] = []
        own = OnTarget(self.genes, self._state["own.effect"])
        for start in range(0, len(queries), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            found, known = self._predicted(queries[part])
            questions = [self.question(query) for query in queries[part]]
            sd[part] = calibrated_sd(self.errors, queries[part], questions, found, self.seen_singly)
            for row, query in zip(found, queries[part], strict=True):
                own.add_to(row, query)
            response[part] = found
            support += [self._support(query, bool(told)) for query, told in zip(queries[part], known, strict=True)]
        return Answers(response, sd if np.isfinite(sd).all() else None, tuple(support), ("",) * len(queries))

    def _predicted(self, queries: Sequence[Query]) -> tuple[np.ndarray, np.ndarray]:
        """(query, gene) predictions without own genes, and whether any view knows a target of the query."""
        effects = self._effects.rows(queries)
        found = [side.predict(queries, effects, self._training) for side in self.sides]
        gain = np.array([self._state[f"gain.{self.question(query)}"][0] for query in queries])
        change = np.mean([response for response, _ in found], axis=0)
        return effects @ self._state["level"] + gain[:, None] * change, np.any([known for _, known in found], axis=0)

    def _support(self, query: Query, known: bool) -> Support:
        if query in self.seen:
            return Support.SEEN
        if query.condition in self.seen_singly:
            return Support.CONTEXT
        targets = targets_of(query.condition)
        n_seen = sum(target in self.seen_singly for target in targets)
        if n_seen:
            return Support.SINGLES if n_seen == len(targets) else Support.PARTIAL
        return Support.NEIGHBOURS if known else Support.MEAN


@dataclass(frozen=True)
class SpectralRidge(Model):
    """The multi-kernel ridge, with direction and size of a response apart and a ridge for each principal axis.

    Responses less the fixed effects are divided by their length to the power `evenness`: a few strong perturbations
    no longer speak for all. The shared kernel weights minimise the exact mean leave-one-out L2 of that. Then every
    principal axis of the scaled responses has a ridge of its own, by exact leave-one-out: axes that knowledge does not
    predict fall away, those it predicts are shrunk less. The log length is one more axis; what it predicts scales
    the answer. Two solutions are averaged: of the usual views of the kernel ridge, and of these with `sharper_views`
    (rare sets, topics of texts, axes of graphs, beginnings of symbols). Gains and intervals come from targets, and
    combinations, left out in closed form.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="spectral-ridge",
        title="Spectral kernel ridge",
        summary="Predicts direction and strength of a response apart from those of like genes, pattern by pattern.",
        source="ours, after spec D-17; Rasmussen and Williams 2006, chapters 2 and 5",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        uses_knowledge=True,
        profiles={"plus": {}, "usual-views": {"more_views": False}},
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedSpectralRidge
    evenness: Annotated[float, Range(0.0, 1.0)] = 0.75  # power of the length that conditions are divided by; 0: raw
    more_views: bool = True  # average with a solution that also sees rare sets, topics, graph axes, symbols
    on_target: bool = True  # a target's own gene gets the mean on-target effect; B-10
    folds: Annotated[int, Range(2)] = 10  # in which targets, and combinations, are left out for gains and intervals
    search_limit: Annotated[int, Range(32)] = 400  # queries on which kernel weights are searched

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedSpectralRidge:
        """The fitted model; NotEnoughTraining with fewer than four training queries."""
        table = training.responses
        if table.n_queries < FEWEST_QUERIES:
            raise NotEnoughTraining(
                f"spectral-ridge needs {FEWEST_QUERIES} training conditions, there are {table.n_queries}."
            )
        own = np.zeros(table.n_genes)
        if self.on_target:
            response, own = OnTarget.set_aside(table)
            table = replace(table, response=response)
        scaled = Scaled.of(table, evenness=self.evenness)
        usual = [*training.knowledge.derived(views_of), *response_view(training.responses)]
        more = training.knowledge.derived(sharper_views) if self.more_views else []
        solutions = [
            Solution.of(table, scaled, views, search_limit=self.search_limit, seed=seed)
            for views in ([usual, [*usual, *more]] if more else [usual])
        ]
        state = {"own.effect": own, "level": scaled.level, "n_sides": np.array([len(solutions)])}
        state[f"gain.{TARGETS}"] = np.ones(1)
        used = different(view for side in solutions for view in views_in_use(side.kernels, side.weights))
        state |= view_state(used)
        for number, solution in enumerate(solutions):
            state |= {f"side.{number}.{name}": array for name, array in solution.state(scaled, used).items()}
        for kind in (TARGETS, COMBINATIONS):
            state |= _calibrated(table, scaled, solutions, kind=kind, folds=self.folds, seed=seed)
        return FittedSpectralRidge(self, training.responses, state, split_fingerprint=training.split_fingerprint)


def _calibrated(
    table: ResponseTable, scaled: Scaled, solutions: Sequence[Solution], *, kind: str, folds: int, seed: int
) -> dict[str, np.ndarray]:
    """Gain and errors of one question, from rows that are left out to ask it; nothing where none can be."""
    asked = [fold for fold in holdouts(table.queries, n_folds=folds, seed=seed) if fold.kind == kind]
    if not asked:
        return {}
    rows = np.concatenate([fold.valid for fold in asked])
    found = np.concatenate([_left_out(scaled, solutions, fold.valid) for fold in asked])
    groups = groups_left_out(table.queries, asked)
    gain = best_gain(table.response[rows] - scaled.effects[rows] @ scaled.level, found)
    if kind == TARGETS:
        new, of_new = _new_combinations(table, scaled, solutions, seed=seed)
        rows, found = np.concatenate([rows, new]), np.concatenate([found, of_new])
        groups += [f"{TARGETS}-{NEW}"] * len(new)
    predicted = scaled.effects[rows] @ scaled.level + gain * found
    errors = group_errors(groups, kind, table.response[rows] - predicted, predicted)
    return errors | {f"gain.{kind}": np.array([gain])}


def _left_out(scaled: Scaled, solutions: Sequence[Solution], rows: np.ndarray) -> Float[np.ndarray, "row gene"]:
    """Responses less fixed effects, of rows left out together."""
    return np.asarray(np.mean([solution.left_out(scaled, rows) for solution in solutions], axis=0))


def _new_combinations(
    table: ResponseTable, scaled: Scaled, solutions: Sequence[Solution], *, seed: int
) -> tuple[Int[np.ndarray, " row"], Float[np.ndarray, "row gene"]]:
    """Some combinations, each left out with all that its targets occur in: folds seldom leave out both targets."""
    targets = [set(targets_of(query.condition)) for query in table.queries]
    rows = np.array([row for row, names in enumerate(targets) if len(names) > 1], dtype=np.int64)
    if len(rows) > MOST_NEW:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_NEW, replace=False))
    found = np.zeros((len(rows), table.n_genes))
    for place, row in enumerate(rows):
        out = np.array([other for other, names in enumerate(targets) if names & targets[row]])
        found[place] = _left_out(scaled, solutions, out)[np.flatnonzero(out == row)[0]]
    return rows, found


def best_gain(rest: Float[np.ndarray, "row gene"], found: Float[np.ndarray, "row gene"]) -> float:
    """Least squares factor between 0 and 2 on what was found of the rest."""
    size = float((found**2).sum())
    return float(np.clip((rest * found).sum() / size, 0.0, LARGEST_GAIN)) if size > 0 else 1.0
