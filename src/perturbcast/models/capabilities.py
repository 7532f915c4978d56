"""What some models can do beyond predicting mean responses: asked with `isinstance`, never by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query
from perturbcast.errors import BadOption
from perturbcast.models.base import FittedModel, Model, TrainingData

if TYPE_CHECKING:
    from perturbcast.training.plan import RunOptions, TrainingPlan


@runtime_checkable
class TrainsByGradient(Protocol):
    """A model whose `fit` runs on the training engine, and so takes devices, precision, loggers and a folder."""

    def fit(
        self,
        training: TrainingData,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        options: "RunOptions | None" = None,
    ) -> FittedModel:
        """The fitted model; `options` change where and how fast it is trained, not what is learned."""

    def plan(self, *sizes: Any) -> "TrainingPlan":
        """How the engine trains."""


@runtime_checkable
class SamplesCells(Protocol):
    """A fitted model that can draw cells."""

    def sample_cells(self, query: Query | str, *, n_cells: int, seed: int = 0) -> Float[np.ndarray, "cell gene"]:
        """Cells of a query in the values of the training screen (counts or expression), genes in its order."""


@runtime_checkable
class BoundsEvidence(Protocol):
    """A fitted model that can say how likely observed cells are."""

    def evidence_bound(self, screen: Any, *, n_particles: int = 100, seed: int = 0) -> Float[np.ndarray, " cell"]:
        """Importance-weighted bound on ln p(cell), in nats; higher is better."""


@runtime_checkable
class HasMask(Protocol):
    """A fitted model that says which latent units each target moves."""

    def mask(self) -> Mapping[str, np.ndarray]:
        """Target -> (latent,) probability that the target moves the unit."""


@runtime_checkable
class CleansCells(Protocol):
    """A fitted model that can say what observed cells would be without their artefacts."""

    def clean(self, screen: Any, *, seed: int = 0) -> Any:
        """The screen with its failing cells replaced; see `models.cleaning.clean_cells`."""


@dataclass(frozen=True)
class GeneScores:
    """How much each gene counts for the answer to one query."""

    genes: tuple[str, ...]
    score: Float[np.ndarray, " gene"]  # not negative, sums to 1
    evenness: float  # entropy of the scores as the model has them over ln(genes): 1 where all count alike


@runtime_checkable
class Explains(Protocol):
    """A fitted model that can say which genes its answer to a query goes by, such as by attention."""

    def explain(self, query: Query | str) -> GeneScores:
        """Scores of genes; UnknownTarget where the model knows none of the targets."""


@runtime_checkable
class HasConditionStates(Protocol):
    """A fitted model with a learned state for every condition, in which conditions can be compared."""

    def condition_states(self, queries: Sequence[Query]) -> Float[np.ndarray, "query state"]:
        """The states; zeros for a query none of whose targets is known."""


def fit_on(
    model: Model,
    training: TrainingData,
    *,
    options: "RunOptions | None" = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> FittedModel:
    """The fitted model; `options` are for those that train by gradient and mean nothing to others."""
    if isinstance(model, TrainsByGradient):
        return model.fit(training, seed=seed, progress=progress, options=options)
    return model.fit(training, seed=seed, progress=progress)


def check_options(models: Sequence[Model], options: "RunOptions | None") -> None:
    """Nothing; BadOption where options of training are given and no model named is trained by gradient."""
    if options is None or any(isinstance(model, TrainsByGradient) for model in models):
        return
    named = ", ".join(repr(model.label) for model in models)
    raise BadOption(
        f"devices, checkpoints and the like are for models trained by gradient, which {named} is not.",
        "Leave these options out, or name one of the group `trained`: see `perturbcast models`.",
    )
