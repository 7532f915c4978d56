"""What the engine asks of a network and of a source of cells; it knows nothing else of either."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn


class Sealed:
    """Something that Lightning passes on as it is, without looking for tensors in it."""

    def __init__(self, content: Any) -> None:
        self.content = content


class Objective(nn.Module):
    """A network as Lightning sees it.

    The network has a method `terms(batch, seed=...)` that gives named scalars, each already weighted, whose sum is
    minimised. Terms must be means over the whole batch: `Batch.mean` sees to it that several processes add up to the
    terms of one. All random numbers come from `seed`, or from torch's global generator, which the engine seeds with it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sealed: Sealed, seed: int) -> dict[str, Tensor]:
        """The terms."""
        terms: dict[str, Tensor] = self.network.terms(sealed.content, seed=seed)  # type: ignore[operator]
        return terms


@runtime_checkable
class JudgesItself(Protocol):
    """A network that is stopped by something else than its loss."""

    def validation_score(self, cells: Int[np.ndarray, " cell"]) -> float | None:
        """How far it errs on the validation cells, the lower the better; None: let the loss decide."""


@runtime_checkable
class MovableBatch(Protocol):
    """Anything that can be brought to a device."""

    def to(self, device: torch.device) -> Any:
        """The same on that device."""


@runtime_checkable
class Source(Protocol):
    """Where batches come from."""

    @property
    def n_cells(self) -> int:
        """How many cells there are."""

    def batch(self, cells: Int[np.ndarray, " cell"], *, rank: int, n_parts: int) -> MovableBatch:
        """The share of one process in a batch of cells."""
