"""What a model is: a frozen dataclass of hyper-parameters whose `fit` returns a new, final, fitted object.

A model file defines one `Model` and its fitted class; `models/registry.py` finds it by itself.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from perturbcast._progress import Progress
from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.prediction import Prediction, Support
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.errors import BadOption, PerturbcastError, UnknownContext, UnknownOption, did_you_mean
from perturbcast.genes.knowledge import GeneKnowledge


@dataclass(frozen=True)
class ModelCard:
    """What a model is and can do, for the list of models, the docs and the report."""

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


@dataclass(frozen=True)
class TrainingData:
    """What a model is given, and nothing of the test side."""

    responses: ResponseTable  # training queries
    screen: Screen | None = None  # training cells, controls among them; None where only responses are known
    knowledge: GeneKnowledge = field(default_factory=GeneKnowledge)
    split_fingerprint: str = ""


class FittedModel(ABC):
    """A fitted model. Immutable. Answers any query with a prediction or a coded reason."""

    def __init__(self, model: "Model", training: ResponseTable, *, split_fingerprint: str = "") -> None:
        self.model = model
        self.genes = training.genes
        self.contexts = training.contexts
        self.control = training.control  # (context, gene)
        self.scale = training.scale
        self.seen = frozenset(training.queries)
        self.split_fingerprint = split_fingerprint

    @abstractmethod
    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        """Response, sd (or None) and support of one query that is not control; raise a coded error to refuse."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """The learned arrays, to be written to weights.safetensors."""

    @classmethod
    @abstractmethod
    def restore(cls, model: "Model", training: ResponseTable, state: Mapping[str, np.ndarray]) -> Self:
        """The fitted model again, from `state`; `training` carries genes, contexts, control, scale and queries only."""

    def predict(self, queries: Sequence[Query | str]) -> Prediction:
        """Predicted responses in the order asked for; a query that cannot be answered has NaN and a coded reason."""
        asked = tuple(self._as_query(query) for query in queries)
        n_genes = len(self.genes)
        response = np.full((len(asked), n_genes), np.nan)
        sd = np.full((len(asked), n_genes), np.nan)
        control = np.full((len(asked), n_genes), np.nan)
        support, reason = [], []
        for row, query in enumerate(asked):
            try:
                if query.context not in self.contexts:
                    known = did_you_mean(query.context, self.contexts)
                    raise UnknownContext(f"context {query.context!r} was not in training. {known}")
                control[row] = self.control[self.contexts.index(query.context)]
                if query.condition == CONTROL:
                    response[row], sd[row] = 0.0, 0.0
                    support.append(Support.CONTROL)
                else:
                    response[row], row_sd, rests_on = self._respond(query)
                    sd[row] = np.nan if row_sd is None else row_sd
                    support.append(rests_on)
                reason.append("")
            except PerturbcastError as refusal:
                response[row] = np.nan
                support.append(Support.NOTHING)
                reason.append(str(refusal))
        return Prediction(
            queries=asked,
            genes=self.genes,
            response=response,
            control=control,
            support=tuple(support),
            reason=tuple(reason),
            scale=self.scale,
            model=self.model.label,
            sd=sd if np.isfinite(sd).any() else None,
        )

    def _as_query(self, query: Query | str) -> Query:
        if isinstance(query, Query):
            return query
        from perturbcast.data.conditions import condition_of

        parts = [part.strip() for part in str(query).split("+")]
        return Query(condition_of([part for part in parts if part]), self.contexts[0])

    def save(self, folder: str | Path) -> Path:
        """Writes the artefact folder (model.json, weights.safetensors), atomically; OutputExists if taken."""
        from perturbcast.models.artefact import save

        return save(self, Path(folder))


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
        for profile, preset in self.card.profiles.items():
            if preset and self == type(self)(**preset):
                return f"{self.card.name}:{profile}"
        return self.card.name

    @classmethod
    def make(cls, profile: str | None = None, **fields: Any) -> Self:
        """The model of a profile with some fields changed; unknown names are errors that offer the nearest."""
        from perturbcast.errors import UnknownProfile

        if profile is not None and profile not in cls.card.profiles:
            known = did_you_mean(profile, cls.card.profiles) if cls.card.profiles else "It has none."
            raise UnknownProfile(f"model {cls.card.name!r} has no profile {profile!r}. {known}")
        preset = dict(cls.card.profiles[profile]) if profile is not None else {}
        known_fields = {entry.name: entry for entry in dataclasses.fields(cls)}
        for name in fields:
            if name not in known_fields:
                raise UnknownOption(
                    f"model {cls.card.name!r} has no field {name!r}. {did_you_mean(name, known_fields)}"
                )
        try:
            return cls(**(preset | fields))
        except (TypeError, ValueError) as error:
            raise BadOption(f"model {cls.card.name!r}: {error}.") from error


__all__ = ["FittedModel", "Model", "ModelCard", "Scale", "Support", "TrainingData"]
