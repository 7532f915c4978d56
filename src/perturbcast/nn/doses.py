"""What networks of cells are told of targets, by condition, so that their widest layer sees each condition once."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear


@dataclass(frozen=True)
class Doses:
    """Inputs of each distinct condition, and the condition of each cell.

    The first `n_own` inputs name training targets, the others hold what is known of them; where `named` is 0 the names
    are withheld from a cell.
    """

    rows: Float[Tensor, "condition input"]
    of_cell: Int[Tensor, " cell"]
    n_own: int = 0
    named: Float[Tensor, "cell 1"] | None = None

    @classmethod
    def alike(cls, row: Float[Tensor, " input"], *, n_cells: int) -> "Doses":
        """The same inputs for some cells."""
        return cls(row[None], torch.zeros(n_cells, dtype=torch.int64, device=row.device))

    @classmethod
    def each(cls, rows: Float[Tensor, "cell input"]) -> "Doses":
        """Inputs of their own for some cells."""
        return cls(rows, torch.arange(len(rows), device=rows.device))

    def none(self) -> "Doses":
        """The same cells without targets."""
        return Doses.alike(torch.zeros_like(self.rows[0]), n_cells=len(self.of_cell))

    def half_named(self, n_own: int) -> "Doses":
        """Names withheld from half of the cells, at random, where there is anything else to go by."""
        if n_own == self.rows.shape[1]:
            return self
        kept = (torch.rand(len(self.of_cell), 1, device=self.rows.device) < 0.5).to(self.rows.dtype)
        return replace(self, n_own=n_own, named=kept)

    def through(
        self, weight: Float[Tensor, "unit input"], bias: Float[Tensor, " unit"] | None = None
    ) -> Float[Tensor, "cell unit"]:
        """The inputs of each cell through a linear map, which is applied once per condition."""
        if self.named is None:
            return linear(self.rows, weight, bias)[self.of_cell]
        n_own = self.n_own
        names = linear(self.rows[:, :n_own], weight[:, :n_own])
        known = linear(self.rows[:, n_own:], weight[:, n_own:], bias)
        return known[self.of_cell] + self.named * names[self.of_cell]

    def to(self, device: torch.device) -> "Doses":
        """The same on another device."""
        named = None if self.named is None else self.named.to(device)
        return Doses(self.rows.to(device), self.of_cell.to(device), self.n_own, named)
