"""A batch of cells as tensors, and where it stands among the cells of all processes."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perturbcast.nn.noise import Noise
from perturbcast.nn.plates import per_cell_share


@dataclass(frozen=True)
class Batch:
    """Cells of one process. Terms per cell are brought together by `mean`, which makes processes add up exactly."""

    values: Float[Tensor, "cell gene"]  # counts or expression, as stored
    library: Float[Tensor, " cell"]  # molecules per cell
    present: Int[Tensor, " row"]  # perturbations that any cell of the whole batch received
    dosage: Float[Tensor, "cell row"]  # columns are those of `present`
    n_trained: Float[Tensor, " row"]  # training cells that received each of `present`
    n_everywhere: int  # cells of the whole batch, all processes together
    cells: slice = field(default_factory=lambda: slice(None))  # of this process, in the whole batch
    n_parts: int = 1  # processes
    extra: dict[str, Tensor] = field(default_factory=dict)  # further values per cell, such as quality labels

    def mean(self, per_cell: Float[Tensor, "*particle cell"]) -> Float[Tensor, ""]:
        """The mean over particles and all cells of the batch: averaged over processes it is exactly that."""
        by_cell = per_cell if per_cell.dim() == 1 else per_cell.mean(dim=0)
        return by_cell.sum() * (self.n_parts / self.n_everywhere)

    @property
    def share(self) -> Float[Tensor, "cell row"]:
        """What each cell bears of the global terms of each of `present`, equation (5)."""
        return per_cell_share(self.dosage, self.n_trained)

    def whole_dosage(self, n_columns: int) -> Float[Tensor, "cell column"]:
        """Dosage in all columns, also those that no cell of the batch received."""
        whole = torch.zeros(len(self.values), n_columns, device=self.values.device)
        whole[:, self.present] = self.dosage
        return whole

    def noise(self, seed: int) -> Noise:
        """Random numbers for a step with this batch."""
        return Noise(seed, n_everywhere=self.n_everywhere, cells=self.cells, device=self.values.device)

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("values", "library", "present", "dosage")}
        extra = {name: tensor.to(device) for name, tensor in self.extra.items()}
        return replace(self, **moved, n_trained=self.n_trained.to(device), extra=extra)
