"""Several models weighed against each other by what each says of conditions that were left out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Support
from perturbcast.errors import NotEnoughTraining, PerturbcastError
from perturbcast.models.base import Answers, FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.calibrated import CalibratedAnswers, calibrated_sd, group_errors, groups_left_out
from perturbcast.models.fields import Range
from perturbcast.models.holdouts import COMBINATIONS, TARGETS, Holdout, holdouts, question_of
from perturbcast.models.left_out import for_answers_alone

ORIGIN = "mean:same-size"  # weights are those of differences from it
FEWEST_QUERIES = 4
EVENNESS = 0.75  # of conditions in the choice of weights, as in the spectral ridge


class FittedStack(CalibratedAnswers):
    """origin + Σ weight of a member * (member - origin); weights by question, 0 for what a member refuses."""

    @cached_property
    def members(self) -> dict[str, FittedModel]:
        """The origin and the members, fitted to all of training, by name."""
        assert isinstance(self.model, Stack)
        return {name: self._restored(name) for name in self.model.names() if f"fitted.{name}" in self._state}

    def _restored(self, name: str) -> FittedModel:
        from perturbcast.models.registry import get_model

        return self.restored_within(get_model(name), f"member.{name}.")

    def weights(self, question: str) -> dict[str, float]:
        """Weight of each member for a question (`targets` or `combinations`)."""
        known = self._state.get(f"weights.{question}", self._state[f"weights.{TARGETS}"])
        return dict(zip(list(self.members)[1:], known.tolist(), strict=True))

    def _respond_many(self, queries: Sequence[Query], *, dtype: type) -> Answers:
        if not queries:
            return Answers(np.zeros((0, len(self.genes)), dtype=dtype), None, (), ())
        asked = list(queries)
        questions = [question_of(query, self.seen_singly) for query in asked]
        found = {name: member.predict(asked) for name, member in self.members.items()}
        origin, *others = (prediction.response for prediction in found.values())
        weights = np.array([list(self.weights(question).values()) for question in questions])
        response = blended(origin, np.array(others).reshape(len(others), *origin.shape), weights)
        sd: np.ndarray = calibrated_sd(self.errors, asked, questions, response, self.seen_singly).astype(dtype)
        support = tuple(self._support(row, query, list(found.values())) for row, query in enumerate(asked))
        known = np.isfinite(sd).all()
        return Answers(response.astype(dtype), sd if known else None, support, ("",) * len(asked))

    def _support(self, row: int, query: Query, found: Sequence) -> Support:
        """The strongest ground that any member has; members that know nothing but the mean come last."""
        if query in self.seen:
            return Support.SEEN
        said = [prediction.support[row] for prediction in found]
        ranked = (Support.CONTEXT, Support.SINGLES, Support.PARTIAL, Support.NEIGHBOURS, Support.MEAN)
        return next((support for support in ranked if support in said), Support.MEAN)


@dataclass(frozen=True)
class Stack(Model):
    """Non-negative weights of models, found by least squares on conditions that none of them saw.

    Targets, and combinations of targets seen singly, are left out in folds; every member is fitted to the rest. The two
    questions have weights of their own. Conditions are divided by their size to the power .75 before, so that a few
    strong ones do not decide. Members that cannot be fitted to the data have no weight.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="stack",
        title="Stacked models",
        summary="Combines several models by how well each predicted conditions that were left out of training.",
        source="ours; Wolpert 1992, Breiman 1996 (stacked regressions)",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        uses_knowledge=True,
        profiles={"plus": {}, "networks": {"members": ("pair-ridge", "kernel-ridge", "nearest", "fmlp", "app")}},
        quick={"members": ("lowrank-additive", "nearest"), "folds": 2},
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedStack
    members: tuple[str, ...] = ("pair-ridge", "kernel-ridge", "nearest", "lowrank-additive")
    folds: Annotated[int, Range(2)] = 4

    def names(self) -> list[str]:
        """The origin, then the members."""
        return [ORIGIN, *(name for name in self.members if name != ORIGIN)]

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedStack:
        """The fitted stack; NotEnoughTraining with fewer than four training queries."""
        table = training.responses
        if table.n_queries < FEWEST_QUERIES:
            raise NotEnoughTraining(f"stack needs {FEWEST_QUERIES} training conditions, there are {table.n_queries}.")
        given = replace(training, screen=None)
        fitted = fitted_members(self.names(), given, seed=seed)
        state: dict[str, np.ndarray] = {}
        for name, member in fitted.items():
            state[f"fitted.{name}"] = np.ones(1)
            state |= {f"member.{name}.{key}": value for key, value in member.state().items()}
        state[f"weights.{TARGETS}"] = np.full(len(fitted) - 1, 1 / max(len(fitted) - 1, 1))
        folds = holdouts(table.queries, n_folds=self.folds, seed=seed)
        for kind in (TARGETS, COMBINATIONS):
            own = [fold for fold in folds if fold.kind == kind]
            if own:
                state |= _weighed(list(fitted), given, own, kind=kind, seed=seed, progress=progress or Progress())
        return FittedStack(self, table, state, split_fingerprint=training.split_fingerprint)


def fitted_members(names: Sequence[str], training: TrainingData, *, seed: int) -> dict[str, FittedModel]:
    """The models that can be fitted to the data, the first of which must be."""
    from perturbcast.models.registry import get_model

    found = {names[0]: get_model(names[0]).fit(training, seed=seed)}
    for name in names[1:]:
        model = for_answers_alone(get_model(name))
        try:
            found[name] = model.fit(training, seed=seed)
        except PerturbcastError:
            continue
    return found


def _weighed(
    names: Sequence[str],
    training: TrainingData,
    folds: Sequence[Holdout],
    *,
    kind: str,
    seed: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Weights of the members for one question, and the errors of their sum."""
    table = training.responses
    said = []
    for fold in progress.track(folds, label=f"members without {kind}"):
        part = fitted_members(names, replace(training, responses=table.take(fold.train)), seed=seed)
        asked = [table.queries[row] for row in fold.valid]
        by_name = {name: member.predict(asked).response for name, member in part.items()}
        said.append(np.array([filled(by_name.get(name), by_name[names[0]]) for name in names]))
    out = np.concatenate([fold.valid for fold in folds])
    origin, *others = np.concatenate(said, axis=1)
    changes = np.array(others).reshape(len(others), *origin.shape)
    weights = best_weights(table.response[out] - origin, changes - origin)
    predicted = blended(origin, changes, np.tile(weights, (len(out), 1)))
    groups = groups_left_out(table.queries, folds)
    return {f"weights.{kind}": weights} | group_errors(groups, kind, table.response[out] - predicted, predicted)


def filled(response: np.ndarray | None, origin: np.ndarray) -> np.ndarray:
    """The response, that of the origin where a member refuses."""
    return origin if response is None else np.where(np.isfinite(response), response, origin)


def best_weights(
    rest: Float[np.ndarray, "row gene"], changes: Float[np.ndarray, "member row gene"]
) -> Float[np.ndarray, " member"]:
    """Non-negative least squares of what is to be explained on what members say, rows divided by their size^.75."""
    from scipy.optimize import nnls

    if not len(changes):
        return np.zeros(0)
    size = np.maximum(np.linalg.norm(rest, axis=1), 1e-12) ** EVENNESS
    scaled = (changes / size[:, None]).reshape(len(changes), -1)
    return np.asarray(nnls(scaled @ scaled.T, scaled @ (rest / size[:, None]).ravel())[0])


def blended(
    origin: Float[np.ndarray, "row gene"],
    others: Float[np.ndarray, "member row gene"],
    weights: Float[np.ndarray, "row member"],
) -> Float[np.ndarray, "row gene"]:
    """origin + Σ weight * (member - origin), a member that refuses counting as the origin."""
    found = np.array(origin, dtype=np.float64)
    for member, weight in zip(others, weights.T, strict=True):
        found += weight[:, None] * (filled(member, origin) - origin)
    return found
