"""Batches for GEARS: pairs of a cell and a control cell, or mean responses, grouped by condition."""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor


@dataclass(frozen=True)
class GearsBatch:
    """Rows of a batch, and the groups of rows that a network answers alike: those of one condition."""

    change: Float[Tensor, "row gene"]  # a cell minus its control cell
    basal: Float[Tensor, "row gene"]  # that control cell minus the mean of controls
    weight: Float[Tensor, "row gene"]  # of each entry in the loss
    group: Int[Tensor, " row"]
    slots: Int[Tensor, "group slot"]  # number of each target, -1 where free; all -1 for control
    later: Int[Tensor, " group"]  # 0 for the group of the first row alone, 1 for all others
    count: Float[Tensor, " group"]  # rows of each group
    n_parts: int = 1  # processes

    def to(self, device: torch.device) -> "GearsBatch":
        """The batch on another device."""
        moved = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "n_parts"}
        return replace(self, **{name: tensor.to(device) for name, tensor in moved.items()})


@dataclass(frozen=True)
class GearsRows:
    """Where the training engine takes batches from: first the pairs, then one row per validation condition.

    Condition codes go into `slots`. Pairs are weighted so that every condition of a batch counts alike, by its genes
    seen at all (C-8); validation rows by their `focus`, the genes changed most.
    """

    cells: sparse.csr_matrix  # (expressed row, gene) expression; all that pairs need
    own: Int[np.ndarray, " pair"]  # row of `cells` of each cell
    control: Int[np.ndarray, " pair"]  # and of its control cell
    centre: Float[np.ndarray, "pair_or_one gene"]  # mean of controls that `basal` is relative to, of each context
    context: Int[np.ndarray, " pair"]  # row of `centre`
    condition: Int[np.ndarray, " pair"]
    slots: Int[np.ndarray, "condition slot"]
    seen: Bool[np.ndarray, "condition gene"]  # genes of which some cell of the condition has any
    asked: Int[np.ndarray, " valid"]  # condition of each validation row
    response: Float[np.ndarray, "valid gene"]
    focus: Bool[np.ndarray, "valid gene"]
    separate_first: bool = False  # the first row is a group of its own: needed by the published batching

    @property
    def n_cells(self) -> int:
        """Rows to choose from."""
        return len(self.own) + len(self.asked)

    def batch(self, cells: Int[np.ndarray, " chosen"], *, rank: int = 0, n_parts: int = 1) -> GearsBatch:
        """The share of one process in a batch of pairs, or of validation rows; never of both."""
        bounds = np.linspace(0, len(cells), n_parts + 1).astype(np.int64)
        part = slice(int(bounds[rank]), int(bounds[rank + 1]))
        return self._asked(cells, part, n_parts) if cells[0] >= len(self.own) else self._pairs(cells, part, n_parts)

    def _pairs(self, cells: np.ndarray, part: slice, n_parts: int) -> GearsBatch:
        own = cells[part]
        basal = self.cells[self.control[own]].toarray()
        change = self.cells[self.own[own]].toarray() - basal
        basal -= self.centre[self.context[own]]
        condition = self.condition[cells]
        present, inverse, count = np.unique(condition, return_inverse=True, return_counts=True)
        seen = self.seen[condition[part]]
        weight = seen / (len(present) * count[inverse[part]] * np.maximum(seen.sum(axis=1), 1))[:, None]
        return self._grouped(change, basal, weight, condition[part], n_parts)

    def _asked(self, cells: np.ndarray, part: slice, n_parts: int) -> GearsBatch:
        own = cells[part] - len(self.own)
        focus = self.focus[own]
        weight = focus / (len(cells) * np.maximum(focus.sum(axis=1), 1))[:, None]
        response = self.response[own]
        return self._grouped(response, np.zeros_like(response), weight, self.asked[own], n_parts)

    def _grouped(
        self, change: np.ndarray, basal: np.ndarray, weight: np.ndarray, condition: np.ndarray, n_parts: int
    ) -> GearsBatch:
        label = condition + 1
        if self.separate_first and len(label):
            label[0] = 0
        _, first, group, count = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
        later = np.minimum(first, 1) if self.separate_first else np.ones(len(first), dtype=np.int64)
        return GearsBatch(
            change=torch.from_numpy(np.ascontiguousarray(change, dtype=np.float32)),
            basal=torch.from_numpy(np.ascontiguousarray(basal, dtype=np.float32)),
            weight=torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32)),
            group=torch.from_numpy(group.reshape(-1).astype(np.int64)),
            slots=torch.from_numpy(self.slots[condition[first]]),
            later=torch.from_numpy(later.astype(np.int64)),
            count=torch.from_numpy(count.astype(np.float32)),
            n_parts=n_parts,
        )
