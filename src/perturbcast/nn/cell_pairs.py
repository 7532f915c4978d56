"""Batches of cells as expression, each beside a control cell, with what its targets are as a vector of inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from perturbcast.data.screen import Screen
from perturbcast.nn.doses import Doses

MOST_AT_HAND = 2**25  # entries of expression kept dense: 128 MiB


@dataclass(frozen=True)
class PairBatch:
    """Cells of one process; all processes together have `n_everywhere`."""

    values: Float[Tensor, "cell gene"]  # expression
    basal: Float[Tensor, "cell gene"]  # of the control cell beside each
    dose: Doses
    query: Int[Tensor, " cell"]  # number among the conditions in contexts of the source; -1 for control
    context: Int[Tensor, " cell"]
    n_everywhere: int
    n_parts: int = 1

    def mean(self, per_cell: Float[Tensor, " cell"]) -> Float[Tensor, ""]:
        """This process's part of the mean over the whole batch; the parts average to it."""
        return per_cell.sum() * (self.n_parts / self.n_everywhere)

    def to(self, device: torch.device) -> "PairBatch":
        """The batch on another device."""
        names = [entry.name for entry in fields(self) if not entry.name.startswith("n_")]
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class CellPairs:
    """Where the training engine takes its batches from. Genes are in order of name."""

    screen: Screen
    control: Int[np.ndarray, " cell"]  # position of the control cell beside each cell
    dose: Float[np.ndarray, "condition input"]  # by condition of the screen
    query: Int[np.ndarray, " cell"]
    context: Int[np.ndarray, " cell"]  # into the contexts of training
    order: Int[np.ndarray, " gene"]

    @property
    def n_cells(self) -> int:
        """How many cells there are to choose from."""
        return self.screen.n_cells

    def controls(self) -> Int[np.ndarray, " control"]:
        """Control cells."""
        return np.flatnonzero(self.screen.is_control)

    def expression(self, cells: Int[np.ndarray, " chosen"]) -> Float[np.ndarray, "chosen gene"]:
        """Expression of some cells, dense, genes in order of name."""
        if self.n_cells * self.screen.n_genes > MOST_AT_HAND:
            return self._read(cells)
        return self._all[cells]

    @cached_property
    def _all(self) -> Float[np.ndarray, "cell gene"]:
        return self._read(np.arange(self.n_cells))

    def _read(self, cells: Int[np.ndarray, " chosen"]) -> Float[np.ndarray, "chosen gene"]:
        return np.ascontiguousarray(self.screen.expression(cells).toarray()[:, self.order], dtype=np.float32)

    def batch(self, cells: Int[np.ndarray, " chosen"], *, rank: int = 0, n_parts: int = 1) -> PairBatch:
        """The share of one process in a batch of cells."""
        bounds = np.linspace(0, len(cells), n_parts + 1).astype(np.int64)
        own = cells[int(bounds[rank]) : int(bounds[rank + 1])]
        present, of_cell = np.unique(self.screen.condition_code[own], return_inverse=True)
        return PairBatch(
            values=torch.from_numpy(self.expression(own)),
            basal=torch.from_numpy(self.expression(self.control[own])),
            dose=Doses(torch.from_numpy(self.dose[present]), torch.from_numpy(of_cell.reshape(-1).astype(np.int64))),
            query=torch.from_numpy(self.query[own]),
            context=torch.from_numpy(self.context[own].astype(np.int64)),
            n_everywhere=len(cells),
            n_parts=n_parts,
        )


def dense_layers(sizes: Sequence[int], *, dropout: float = 0.0, norm: bool = False) -> torch.nn.Sequential:
    """Linear layers with leaky ReLUs between them, and normalisation and dropout where asked."""
    layers: list[torch.nn.Module] = []
    for number, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers.append(torch.nn.Linear(n_in, n_out))
        if number < len(sizes) - 2:
            layers += [torch.nn.LayerNorm(n_out)] if norm else []
            layers += [torch.nn.LeakyReLU()]
            layers += [torch.nn.Dropout(dropout)] if dropout else []
    return torch.nn.Sequential(*layers)
