"""What a metric is: a pure function with a card, and the one value it reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from perturbcast.data.prediction import Prediction
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.errors import ShapesDiffer, UnknownMetric, WrongScale, did_you_mean

if TYPE_CHECKING:
    from perturbcast.data.de import DifferentialExpression


@dataclass(frozen=True)
class MetricCard:
    """What a metric reads and how to read it."""

    name: str  # lower case, stable: the name in scores.parquet
    title: str
    formula: str  # plain text
    source: str  # paper or specification number
    reads: frozenset[str]  # of: response, expression, halves, de, cells, training
    higher_is_better: bool
    perfect: float
    chance: float  # expected score of a prediction without information; NaN where it depends on the data
    gene_sets: tuple[str, ...]  # gene sets it is scored on by default, e.g. ("all", "top1000", "de20")
    gameable_by: tuple[str, ...] = ()  # attacks that are known to win; see docs/METRICS.md
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """Everything a metric may read. Truth and prediction have the same queries and genes, in the same order.

    Only queries with a prediction belong here. `training` is the training side: its perturbed mean is the reference
    of the perturbed-reference metrics. `screen` holds control and test cells; `predicted_cells` draws cells lazily.
    """

    truth: ResponseTable
    predicted: Prediction
    training: ResponseTable
    de: "DifferentialExpression | None" = None  # of the truth's queries against control
    screen: Screen | None = None
    seed: int = 0
    cache: dict[str, object] = field(default_factory=dict)  # shared intermediate results, keyed by name

    def __post_init__(self) -> None:
        same = self.truth.queries == self.predicted.queries and np.array_equal(self.truth.genes, self.predicted.genes)
        if not same:
            raise ShapesDiffer("truth and prediction differ in queries or genes.")
        if self.truth.scale != self.predicted.scale:
            raise WrongScale(f"the prediction is {self.predicted.scale}, the truth {self.truth.scale}.")

    @cached_property
    def perturbed_mean(self) -> np.ndarray:
        """(gene,) mean training response, one vote per query: the reference Δ̄."""
        return self.training.perturbed_mean()


@dataclass(frozen=True)
class Metric:
    """A card and its function: (Evaluation, (query, gene) bool mask) -> (query,) scores, NaN where undefined."""

    card: MetricCard
    score: Callable[[Evaluation, np.ndarray], np.ndarray]


_REGISTRY: dict[str, Metric] = {}


def register(card: MetricCard) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Decorator that lists a function as a metric; the function itself stays as it is."""

    def listed(score: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
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
