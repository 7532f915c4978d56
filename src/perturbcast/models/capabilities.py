"""What some models can do beyond predicting mean responses: asked with `isinstance`, never by name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query
from perturbcast.models.base import FittedModel, TrainingData

if TYPE_CHECKING:
    from perturbcast.training.plan import RunOptions


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

    def network(self, n_columns: int, standardise: Any, likelihood: str) -> Any:
        """The network to train."""


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
