"""What a model is: a frozen dataclass of hyper-parameters whose `fit` returns a new, final, fitted object.

A model file defines one `Model` and its fitted class; `models/registry.py` finds it by itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from perturbcast._progress import Progress
from perturbcast.data.conditions import CONTROL, JOINT, Query, condition_of, targets_of
from perturbcast.data.prediction import Prediction, Support
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.errors import (
    Diverged,
    GenesDiffer,
    PerturbcastError,
    UnknownContext,
    UnknownProfile,
    WrongScale,
    did_you_mean,
)
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.models.fields import check_fields, parsed_fields


@dataclass(frozen=True)
class ModelCard:
    """What a model is and can do, for the list of models, the docs and the report.

    `quick` is for models that train for minutes: fields under which one trains in well under a second on a few hundred
    cells, so that the conformance suite, which fits it about fifteen times, takes seconds. It makes every promise
    testable, not every prediction good: the model need not beat anything under them.
    """

    name: str  # command-line name, such as `kernel-ridge`
    title: str
    summary: str  # one or two sentences for a biologist
    source: str  # paper and equation
    predicts: frozenset[str]  # of: unseen_single, unseen_double, unseen_context
    baseline: bool = False
    needs_cells: bool = False
    uses_knowledge: bool = False
    learns_network: bool = False
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name after the colon -> fields
    quick: Mapping[str, Any] = field(default_factory=dict)  # fields of a short training
    ablations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what `ablate` takes away -> fields


@dataclass(frozen=True)
class TrainingData:
    """What a model is given, and nothing of the test side."""

    responses: ResponseTable  # training queries
    screen: Screen | None = None  # training cells, controls among them; None where only responses are known
    knowledge: GeneKnowledge = field(default_factory=GeneKnowledge)
    split_fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.screen is None:
            return
        if self.screen.scale.of_expression != self.responses.scale:
            raise WrongScale(f"the cells are {self.screen.scale}, their responses {self.responses.scale}.")
        if not np.array_equal(self.screen.genes, self.responses.genes):
            raise GenesDiffer("the cells and their responses differ in genes or in their order.")

    @classmethod
    def of(
        cls,
        data: Screen | ResponseTable,
        *,
        knowledge: GeneKnowledge | None = None,
        progress: Progress | None = None,
    ) -> "TrainingData":
        """All of a screen or of a table of responses as training data."""
        knowledge = GeneKnowledge() if knowledge is None else knowledge
        if isinstance(data, ResponseTable):
            return cls(responses=data, knowledge=knowledge)
        from perturbcast.data.statistics import response_table

        return cls(responses=response_table(data, progress=progress), screen=data, knowledge=knowledge)


@dataclass(frozen=True)
class Answers:
    """Answers to some queries, in their order. A refused query has NaN, support `nothing` and a coded reason."""

    response: np.ndarray  # (query, gene)
    sd: np.ndarray | None  # (query, gene); None where the model has none
    support: tuple[Support, ...]
    reason: tuple[str, ...]  # "" when answered


class FittedModel(ABC):
    """A fitted model. Immutable. Answers any query with a prediction or a coded reason.

    All that was learned is in `state`, named arrays; predictions are a function of it, so a saved and loaded model
    answers with the same bits. Text is held as arrays through `encode_text`.
    """

    def __init__(
        self,
        model: "Model",
        training: ResponseTable,
        state: Mapping[str, np.ndarray] | None = None,
        *,
        split_fingerprint: str = "",
    ) -> None:
        self.model = model
        self.genes = training.genes
        self.contexts = training.contexts
        self.control = training.control  # (context, gene)
        self.scale = training.scale
        self.unit = training.unit
        self.trained_on = training.queries
        self.seen = frozenset(training.queries)
        self.split_fingerprint = split_fingerprint
        self._state = {} if state is None else dict(state)
        if not all(np.isfinite(array).all() for array in self._state.values()):
            raise Diverged(f"model {model.card.name!r} learned values that are not finite.")

    @abstractmethod
    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        """Response, sd (or None) and support of one query that is not control; raise a coded error to refuse."""

    def _respond_many(self, queries: Sequence[Query], *, dtype: type) -> Answers:
        """Answers to queries that are not control; override where asking together is much cheaper."""
        n_genes = len(self.genes)
        response: np.ndarray = np.full((len(queries), n_genes), np.nan, dtype=dtype)
        sd: np.ndarray | None = None
        support, reason = [], []
        for row, query in enumerate(queries):
            try:
                mean, row_sd, rests_on = self._respond(query)
            except PerturbcastError as refusal:
                support.append(Support.NOTHING)
                reason.append(str(refusal))
                continue
            response[row] = mean
            if row_sd is not None:
                sd = np.full(response.shape, np.nan, dtype=dtype) if sd is None else sd
                sd[row] = row_sd
            support.append(rests_on)
            reason.append("")
        return Answers(response, sd, tuple(support), tuple(reason))

    def state(self) -> dict[str, np.ndarray]:
        """The learned arrays, to be written to weights.safetensors."""
        return dict(self._state)

    def arrays_under(self, prefix: str) -> dict[str, np.ndarray]:
        """The learned arrays whose names begin so, without that beginning."""
        return {name.removeprefix(prefix): array for name, array in self._state.items() if name.startswith(prefix)}

    def restored_within(self, model: "Model", prefix: str, *, queries: Sequence[Query] | None = None) -> "FittedModel":
        """A fitted model that is part of this one: its arrays are those under `prefix`.

        `queries` are those of training in the order in which it was fitted, where that is not the order of this model.
        """
        trained_on = self.trained_on if queries is None else tuple(queries)
        table = ResponseTable(
            name="restored",
            scale=self.scale,
            genes=self.genes,
            queries=trained_on,
            response=np.broadcast_to(np.float64(0.0), (len(trained_on), len(self.genes))),
            contexts=self.contexts,
            control=self.control,
            unit=self.unit,
        )
        return type(model).fitted_class.restore(model, table, self.arrays_under(prefix))

    @cached_property
    def seen_singly(self) -> frozenset[str]:
        """Conditions of training in any context, among them every target that was perturbed alone."""
        return frozenset(query.condition for query in self.trained_on)

    @classmethod
    def restore(cls, model: "Model", training: ResponseTable, state: Mapping[str, np.ndarray]) -> "FittedModel":
        """The fitted model again; `training` carries genes, contexts, control, scale, unit and queries only."""
        return cls(model, training, state)

    def predict(self, queries: Sequence[Query | str], *, dtype: type = np.float64) -> Prediction:
        """Predicted responses in the order asked for; a query that cannot be answered has NaN and a coded reason.

        A string is a condition in the first context of training. `dtype` np.float32 halves the memory.
        """
        asked = tuple(self._as_query(query) for query in queries)
        refused = {row: self._refusal_of_context(query) for row, query in enumerate(asked)}
        open_rows = [row for row, query in enumerate(asked) if not refused[row] and query.condition != CONTROL]
        answers = self._respond_many([asked[row] for row in open_rows], dtype=dtype)
        response: np.ndarray = np.full((len(asked), len(self.genes)), np.nan, dtype=dtype)
        sd = None if answers.sd is None else np.full_like(response, np.nan)
        support, reason = [Support.NOTHING] * len(asked), [refused[row] for row in range(len(asked))]
        for position, row in enumerate(open_rows):
            response[row] = answers.response[position]
            support[row], reason[row] = answers.support[position], answers.reason[position]
            if sd is not None and answers.sd is not None:
                sd[row] = answers.sd[position]
        for row, query in enumerate(asked):
            if query.condition == CONTROL and not refused[row]:
                response[row], support[row] = 0.0, Support.CONTROL
                if sd is not None:
                    sd[row] = 0.0
        return Prediction(
            queries=asked,
            genes=self.genes,
            response=response,
            control=self._control_of(asked),
            support=tuple(support),
            reason=tuple(reason),
            scale=self.scale,
            model=self.model.label,
            sd=sd,
        )

    def _control_of(self, asked: Sequence[Query]) -> np.ndarray:
        """(query, gene) control means, a read-only view where there is one context; NaN for unknown contexts."""
        if len(self.contexts) == 1 and all(query.context == self.contexts[0] for query in asked):
            return np.broadcast_to(self.control[0], (len(asked), len(self.genes)))
        control = np.full((len(asked), len(self.genes)), np.nan)
        for row, query in enumerate(asked):
            if query.context in self.contexts:
                control[row] = self.control[self.contexts.index(query.context)]
        return control

    def _refusal_of_context(self, query: Query) -> str:
        if query.context in self.contexts:
            return ""
        known = did_you_mean(query.context, self.contexts)
        return str(UnknownContext(f"context {query.context!r} was not in training. {known}"))

    def _as_query(self, query: Query | str) -> Query:
        if isinstance(query, Query):
            return Query(condition_of(targets_of(query.condition)), query.context)
        return self.query_of(query)

    def query_of(self, condition: str) -> Query:
        """The query of a condition as a user writes it (`B + A`) in the first context of training."""
        parts = [part.strip() for part in condition.split(JOINT)]
        return Query(condition_of([part for part in parts if part]), self.contexts[0])

    @property
    def training_targets(self) -> tuple[str, ...]:
        """Every target of every training query, sorted."""
        return tuple(sorted({target for query in self.trained_on for target in targets_of(query.condition)}))

    def single_conditions(self) -> list[str]:
        """Every measured gene and every training target as a condition, sorted."""
        return sorted({str(gene) for gene in self.genes} | set(self.training_targets))

    def pair_conditions(self) -> list[str]:
        """Every pair of training targets as a condition, in order."""
        return [condition_of(pair) for pair in combinations(self.training_targets, 2)]

    def save(self, folder: str | Path) -> Path:
        """Writes the artefact folder (model.json, weights.safetensors), atomically; OutputExists if taken."""
        from perturbcast.models.artefact import save

        return save(self, Path(folder))


class AnswersTogether(FittedModel):
    """A fitted model that answers queries together; one query is asked as a list of one."""

    @abstractmethod
    def _respond_many(self, queries: Sequence[Query], *, dtype: type) -> Answers: ...

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        answers = self._respond_many([query], dtype=np.float64)
        return answers.response[0], None if answers.sd is None else answers.sd[0], answers.support[0]


@dataclass(frozen=True)
class Model(ABC):
    """Hyper-parameters of a model; sub-classes add fields with their default and its source."""

    card: ClassVar[ModelCard]
    fitted_class: ClassVar[type[FittedModel]]

    @abstractmethod
    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedModel:
        """A fitted model; the same data and seed give the same numbers."""

    @property
    def label(self) -> str:
        """Name for tables: the card's name, with the profile's where the fields are those of a profile."""
        if self == type(self)():
            return self.card.name
        for profile, preset in self.card.profiles.items():
            if preset and self == type(self)(**preset):
                return f"{self.card.name}:{profile}"
        return self.card.name

    @classmethod
    def make(cls, profile: str | None = None, **fields: Any) -> "Model":
        """The model of a profile with some fields changed; text is read as the field's type."""
        if profile is not None and profile not in cls.card.profiles:
            known = did_you_mean(profile, cls.card.profiles) if cls.card.profiles else "It has none."
            raise UnknownProfile(f"model {cls.card.name!r} has no profile {profile!r}. {known}")
        preset = dict(cls.card.profiles[profile]) if profile is not None else {}
        return cls(**(preset | parsed_fields(cls, fields, label=f"model {cls.card.name!r}")))

    def __post_init__(self) -> None:
        check_fields(self, label=f"model {self.card.name!r}")


def encode_text(lines: Iterable[str]) -> np.ndarray:
    """Some lines as a uint8 array, the form in which text is kept among learned arrays."""
    return np.frombuffer("\n".join(lines).encode(), dtype=np.uint8).copy()


def decode_text(array: np.ndarray) -> list[str]:
    """The lines that `encode_text` was given; none for an empty array."""
    return array.tobytes().decode().split("\n") if array.size else []


__all__ = [
    "Answers",
    "AnswersTogether",
    "FittedModel",
    "Model",
    "ModelCard",
    "Scale",
    "Support",
    "TrainingData",
    "decode_text",
    "encode_text",
]
