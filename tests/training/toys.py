"""A small objective with noise and a source of arrays, to test the engine apart from any model."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from perturbcast.training.seeds import seeded


@dataclass
class ToyBatch:
    """Rows of an array, and where they stand in the whole batch."""

    values: torch.Tensor
    cells: slice
    n_everywhere: int
    n_parts: int

    def to(self, device):
        """Nothing to move."""
        return self


@dataclass
class ToySource:
    """Batches of an array; `largest` notes the largest batch that was ever made."""

    values: np.ndarray
    largest: int = 0

    @property
    def n_cells(self):
        """Rows."""
        return len(self.values)

    def batch(self, cells, *, rank, n_parts):
        """The share of a process."""
        self.largest = max(self.largest, len(cells))
        bounds = np.linspace(0, len(cells), n_parts + 1).astype(int)
        mine = slice(int(bounds[rank]), int(bounds[rank + 1]))
        return ToyBatch(torch.from_numpy(self.values[cells[mine]]), mine, len(cells), n_parts)


class Toy(nn.Module):
    """A small auto-encoder with noise per cell and a penalty."""

    def __init__(self, width=6, poison_at=None):
        super().__init__()
        self.encode, self.decode = nn.Linear(width, 3), nn.Linear(3, width)
        self.drop = nn.Dropout(0.0)
        self.poison_at, self.calls = poison_at, 0

    def terms(self, batch, *, seed):
        """Two terms; the first turns NaN at call `poison_at`."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(batch.n_everywhere, 3, generator=generator)[batch.cells]
        hidden = self.drop(torch.tanh(self.encode(batch.values))) + 0.1 * noise
        error = ((self.decode(hidden) - batch.values) ** 2).sum(1)
        self.calls += self.training
        if self.poison_at is not None and self.calls > self.poison_at:
            error = error * float("nan")
        mean = error.sum() * (batch.n_parts / batch.n_everywhere)
        return {"error": mean, "penalty": 1e-3 * self.decode.weight.square().sum()}


def toy(seed=0, **options):
    """A toy with first weights from a seed."""
    with seeded(seed):
        return Toy(**options)


def toy_source(n_cells=200, width=6, seed=0):
    """Cells on a plane, with noise."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_cells, 2)) @ rng.normal(size=(2, width)) + 0.1 * rng.normal(size=(n_cells, width))
    return ToySource(values.astype(np.float32))
