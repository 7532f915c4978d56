"""Cells of a screen as batches: rows are cut out of the sparse matrix, in memory or on disk, one batch at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int

from perturbcast.data.conditions import targets_of
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.errors import NotCounts
from perturbcast.nn.batch import Batch
from perturbcast.nn.contexts import context_rows

BLOCK = 2048  # cells that a pass over all of them holds at a time


@dataclass(frozen=True)
class CellBatches:
    """Where the training engine takes its batches from. Memory is that of the screen plus one dense batch.

    `dosage` has a row per condition of the screen; a cell has the row of its condition. `order` puts genes in the
    order in which the network has them. `n_trained` are training cells per dosage column. Columns that begin with
    `CONTEXT` are contexts: a cell has 1 in that of its own.
    """

    screen: Screen
    order: Int[np.ndarray, " gene"]
    columns: tuple[str, ...]  # of the dosage: targets, or conditions
    dosage: Float[np.ndarray, "condition row"]
    library: Float[np.ndarray, " cell"]
    n_trained: Float[np.ndarray, " row"]
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)  # (cell, ...) values, such as quality labels
    of_context: Float[np.ndarray, "context row"] | None = None  # added to the dosage; None without such columns

    @classmethod
    def of(
        cls,
        screen: Screen,
        *,
        columns: Sequence[str],
        train_cells: Int[np.ndarray, " train"],
        extra: Mapping[str, np.ndarray] | None = None,
    ) -> "CellBatches":
        """Batches of a screen; dosage by `dosage_rows`. Genes are put in order of name.

        Order of name makes what is learned independent of the order of genes in the file.
        """
        dosage = dosage_rows(screen.conditions, columns)
        of_context = context_rows(screen.contexts, columns)
        n_trained = np.bincount(screen.condition_code[train_cells], minlength=len(dosage)) @ (dosage != 0)
        if of_context is not None:
            n_trained = (
                n_trained + np.bincount(screen.context_code[train_cells], minlength=len(of_context)) @ of_context
            )
        return cls(
            screen=screen,
            order=np.argsort(screen.genes.astype(str), kind="stable"),
            columns=tuple(columns),
            dosage=dosage,
            library=library_sizes(screen),
            n_trained=n_trained.astype(np.float32),
            extra={} if extra is None else dict(extra),
            of_context=of_context,
        )

    @property
    def n_cells(self) -> int:
        """How many cells there are to choose from."""
        return self.screen.n_cells

    def batch(self, cells: Int[np.ndarray, " chosen"], *, rank: int = 0, n_parts: int = 1) -> Batch:
        """The share of process `rank` in a batch of cells; all of it where there is one process."""
        bounds = np.linspace(0, len(cells), n_parts + 1).astype(np.int64)
        mine = slice(int(bounds[rank]), int(bounds[rank + 1]))
        doses = self.dosage[self.screen.condition_code[cells]]
        if self.of_context is not None:
            doses = doses + self.of_context[self.screen.context_code[cells]]
        present = np.flatnonzero(doses.any(axis=0))
        own = cells[mine]
        values = self.screen.stored(own).toarray()[:, self.order]
        return Batch(
            values=torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)),
            library=torch.from_numpy(self.library[own]),
            present=torch.from_numpy(present),
            dosage=torch.from_numpy(doses[mine][:, present]),
            n_trained=torch.from_numpy(self.n_trained[present]),
            n_everywhere=len(cells),
            cells=mine,
            n_parts=n_parts,
            extra={name: torch.from_numpy(np.asarray(values[own])) for name, values in self.extra.items()},
        )

    def moments(
        self, cells: Int[np.ndarray, " chosen"], *, logarithm: bool
    ) -> tuple[Float[np.ndarray, " gene"], Float[np.ndarray, " gene"]]:
        """Mean and standard deviation (n - 1) over cells of ln(1 + x), or of x, genes in the order of the network.

        One pass over stored values; memory is one block.
        """
        total = np.zeros(self.screen.n_genes)
        squares = np.zeros(self.screen.n_genes)
        for start in range(0, len(cells), BLOCK):
            values = self.screen.stored(cells[start : start + BLOCK]).astype(np.float64)
            values.data = np.log1p(values.data) if logarithm else values.data
            total += np.asarray(values.sum(axis=0)).ravel()
            squares += np.asarray(values.multiply(values).sum(axis=0)).ravel()
        n_cells = max(len(cells), 1)
        mean = total / n_cells
        variance = np.maximum(squares - n_cells * mean**2, 0.0) / max(n_cells - 1, 1)
        return mean[self.order], np.sqrt(variance)[self.order]


def dosage_rows(conditions: Sequence[str], columns: Sequence[str]) -> Float[np.ndarray, "condition row"]:
    """1 in a condition's own column where it has one, else in those of its targets; control is a row of zeros."""
    column = {name: place for place, name in enumerate(columns)}
    rows = np.zeros((len(conditions), len(columns)), dtype=np.float32)
    for place, condition in enumerate(conditions):
        own = (condition,) if condition in column else targets_of(condition)
        known = [column[target] for target in own if target in column]
        rows[place, known] = 1.0
    return rows


def library_sizes(screen: Screen) -> Float[np.ndarray, " cell"]:
    """Molecules per cell over the genes of the screen; of a screen of expression, 1 for every cell.

    Raises NotCounts where counts are not whole numbers or are negative.
    """
    if screen.scale is not Scale.COUNTS:
        return np.ones(screen.n_cells, dtype=np.float32)
    sizes = np.zeros(screen.n_cells, dtype=np.float32)
    for cells in screen.blocks(size=BLOCK):
        values = screen.stored(cells)
        if (values.data != np.round(values.data)).any() or (values.data < 0).any():
            raise NotCounts(f"{screen.name or 'the screen'} is said to hold counts, but not all are whole numbers.")
        sizes[cells] = np.asarray(values.sum(axis=1)).ravel()
    return sizes
