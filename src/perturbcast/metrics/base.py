"""What a metric is: a pure function with a card, and the one value it reads."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Prediction
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.errors import NotFinite, ShapesDiffer, UnknownMetric, WrongScale, did_you_mean

if TYPE_CHECKING:
    from perturbcast.data.de import DifferentialExpression

Result = TypeVar("Result")
READS = frozenset({"response", "expression", "variance", "halves", "de", "cells", "training"})


@runtime_checkable
class Sampler(Protocol):
    """What draws cells of a query: (cell, gene) in the values of the screen, genes in its order."""

    def __call__(self, query: Query, *, n_cells: int, seed: int = 0) -> np.ndarray:
        """The cells; CannotPredict where the model has none of that query."""


@dataclass(frozen=True)
class MetricCard:
    """What a metric reads and how to read it.

    A metric function returns NaN where it is undefined; `score` then writes `undefined_counts_as` and the reason
    `E603 UndefinedScore: <undefined>`, so that no row is dropped and the mean is taken as the card says.
    """

    name: str  # lower case, stable: the name in scores.parquet
    title: str
    formula: str  # plain text
    source: str  # paper or specification number
    reads: frozenset[str]  # of: response, expression (control known), variance (and n), halves, de, cells, training
    higher_is_better: bool
    perfect: float
    chance: float  # mean score of a prediction that is the same for every query; NaN where it depends on the data
    gene_sets: tuple[str, ...]  # gene sets it is scored on by default, e.g. ("all", "top1000", "de20")
    gameable_by: tuple[str, ...] = ()  # attacks that are known to win; see docs/METRICS.md
    note: str = ""
    lowest: float = -math.inf  # range of the score
    highest: float = math.inf
    per: str = "query"  # "query": one score per query; "dataset": one score for all queries together
    core: bool = False  # part of the short profile
    undefined: str = "a value is not finite."  # when the function gives NaN
    undefined_counts_as: float = math.nan  # the value written then; NaN rows take no part in means
    samples: bool = False  # draws cells with the evaluation's seed, so it repeats exactly but is not invariant to order
    reaches_perfect: bool = True  # whether predicting the truth exactly gives `perfect`


ROUNDING = 1e-11  # of the largest mean response: a sum in another order differs by less


@dataclass(frozen=True)
class Evaluation:
    """Everything a metric may read. Truth and prediction have the same queries and genes, in the same order.

    Only queries with a prediction belong here. `training` is the training side: its perturbed mean is the reference
    of the perturbed-reference metrics. `screen` holds control and test cells; `predicted_cells` draws cells lazily.
    `sampler` is the `sample_cells` of a fitted model that generates cells: metrics of distributions then compare those.
    Absolute expression always rests on the truth's control on both sides, so no prediction gains by its own control.
    Raises ShapesDiffer, WrongScale, or NotFinite where a response of truth or prediction is NaN or infinite.
    """

    truth: ResponseTable
    predicted: Prediction
    training: ResponseTable
    de: "DifferentialExpression | None" = None  # of the truth's queries against control, same order
    screen: Screen | None = None
    seed: int = 0
    sampler: Sampler | None = None
    cache: dict[object, object] = field(default_factory=dict)  # shared intermediate results, keyed by name

    def __post_init__(self) -> None:
        same = self.truth.queries == self.predicted.queries and np.array_equal(self.truth.genes, self.predicted.genes)
        if not same:
            raise ShapesDiffer("truth and prediction differ in queries or genes.")
        if not np.array_equal(self.truth.genes, self.training.genes):
            raise ShapesDiffer("truth and training differ in genes.")
        if self.de is not None and self.de.queries != self.truth.queries:
            raise ShapesDiffer("truth and differential expression differ in queries.")
        if self.truth.scale != self.predicted.scale:
            raise WrongScale(f"the prediction is {self.predicted.scale}, the truth {self.truth.scale}.")
        for side, response in (("prediction", self.predicted.response), ("truth", self.truth.response)):
            broken = np.flatnonzero(~np.isfinite(response).all(axis=1))
            if len(broken):
                named = ", ".join(str(self.truth.queries[row]) for row in broken[:3])
                raise NotFinite(
                    f"the {side} has NaN or infinite values in {len(broken)} queries: {named}.",
                    "Score only queries that have a prediction (Prediction.predicted).",
                )

    @cached_property
    def perturbed_mean(self) -> np.ndarray:
        """(gene,) mean training response, one vote per query: the reference Δ̄."""
        return self.training.perturbed_mean()

    @cached_property
    def against_perturbed_mean(self) -> tuple[np.ndarray, np.ndarray]:
        """(query, gene) prediction and truth less the perturbed mean; what rounding alone leaves counts as nothing."""
        mean = self.perturbed_mean
        negligible = ROUNDING * np.abs(mean).max(initial=0.0)
        sides = [side - mean for side in (self.predicted.response, self.truth.response)]
        predicted, truth = (np.where(np.abs(side) > negligible, side, 0.0) for side in sides)
        return predicted, truth

    @cached_property
    def control(self) -> np.ndarray:
        """(query, gene) control mean of the truth, the reference of both sides; NaN if unknown."""
        return self.truth.control_by_query

    @property
    def available(self) -> frozenset[str]:
        """Which of the things that a card's `reads` may name these data have."""
        truth = self.truth
        has = {
            "response": True,
            "expression": truth.has_control,
            "variance": truth.variance is not None and truth.n_cells is not None,
            "halves": truth.response_halves is not None,
            "de": self.de is not None,
            "cells": self.screen is not None,
            "training": self.training.n_queries > 0,
        }
        return frozenset(name for name, known in has.items() if known)


MetricFunction = Callable[[Evaluation, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A card and its function: (Evaluation, (query, gene) bool mask) -> (query,) scores, NaN where undefined.

    Where the card says `per="dataset"` the function returns one score, shape (1,).
    """

    card: MetricCard
    score: MetricFunction


_REGISTRY: dict[str, Metric] = {}


def register(card: MetricCard) -> Callable[[MetricFunction], MetricFunction]:
    """Decorator that lists a function as a metric; the function itself stays as it is."""

    def listed(score: MetricFunction) -> MetricFunction:
        assert card.reads <= READS, f"{card.name} reads unknown things: {card.reads - READS}"
        assert card.per in {"query", "dataset"}, card.per
        _REGISTRY[card.name] = Metric(card, score)
        return score

    return listed


def all_metrics() -> Mapping[str, Metric]:
    """Every metric by name; importing this imports every metric module of the folder."""
    import importlib
    import pkgutil

    import perturbcast.metrics as folder

    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"perturbcast.metrics.{module.name}")
    return dict(sorted(_REGISTRY.items()))


def get_metric(name: str) -> Metric:
    """The metric of that name; UnknownMetric with the nearest names otherwise."""
    metrics = all_metrics()
    if name not in metrics:
        raise UnknownMetric(f"no metric is called {name!r}. {did_you_mean(name, metrics)}")
    return metrics[name]


def cached(evaluation: Evaluation, name: str, mask: np.ndarray, compute: Callable[[], Result]) -> Result:
    """The result of `compute`, computed once per name and mask object. The mask is kept, so its identity is safe."""
    key = (name, id(mask))
    held: Any = evaluation.cache.get(key)
    if held is not None and held[0] is mask:
        return held[1]
    result = compute()
    evaluation.cache[key] = (mask, result)
    return result


def pack(values: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """(query, k) the masked values of each row in order, where every row has equally many; None otherwise."""
    counts = mask.sum(axis=1)
    if not len(counts) or (counts != counts[0]).any():
        return None
    if counts[0] == mask.shape[1]:
        return values
    return values[mask].reshape(len(counts), int(counts[0]))


def on_responses(function: Callable[..., np.ndarray], *, reference: str = "control") -> MetricFunction:
    """The Evaluation-level form of `function(predicted, truth, mask=...)`, for responses against a reference.

    `reference` is "control" (responses as they are) or "perturbed" (the training perturbed mean is taken off both).
    """

    def score(evaluation: Evaluation, mask: np.ndarray) -> np.ndarray:
        def packed() -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
            predicted, truth = _against(evaluation, reference)
            dense, truth_dense = pack(predicted, mask), pack(truth, mask)
            if dense is None or truth_dense is None:
                return predicted, truth, mask
            return dense, truth_dense, None

        predicted, truth, rest = cached(evaluation, f"packed {reference}", mask, packed)
        return function(predicted, truth, mask=rest)

    return score


def _against(evaluation: Evaluation, reference: str) -> tuple[np.ndarray, np.ndarray]:
    """(query, gene) responses of prediction and truth against the reference; no copy where that is control."""
    predicted, truth = evaluation.predicted.response, evaluation.truth.response
    if reference == "control":
        return predicted, truth
    return evaluation.against_perturbed_mean
