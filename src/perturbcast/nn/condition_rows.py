"""Batches of conditions: what the training engine feeds to networks that learn from mean responses."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class RowBatch:
    """Some training conditions by row; all processes together have `n_everywhere` of them."""

    rows: Int[Tensor, " row"]
    n_everywhere: int
    n_parts: int

    def mean(self, values: Float[Tensor, " row"]) -> Float[Tensor, ""]:
        """This process's part of the mean over the whole batch; the parts average to it."""
        return values.sum() * (self.n_parts / self.n_everywhere)

    def to(self, device: torch.device) -> "RowBatch":
        """The batch on another device."""
        return RowBatch(self.rows.to(device), self.n_everywhere, self.n_parts)


@dataclass(frozen=True)
class RowSource:
    """Rows 0 to n - 1: the network holds what belongs to them."""

    n_rows: int

    @property
    def n_cells(self) -> int:
        """How many rows there are; the engine's word for it."""
        return self.n_rows

    def batch(self, cells: Int[np.ndarray, " row"], *, rank: int = 0, n_parts: int = 1) -> RowBatch:
        """The share of one process in a batch of rows."""
        bounds = np.linspace(0, len(cells), n_parts + 1).astype(np.int64)
        own = cells[int(bounds[rank]) : int(bounds[rank + 1])]
        return RowBatch(torch.from_numpy(np.ascontiguousarray(own)), len(cells), n_parts)
