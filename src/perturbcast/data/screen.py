"""The screen: cells x genes, what was done to each cell, and how the numbers are to be read."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy import sparse

from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.scale import Scale


@runtime_checkable
class CellMatrix(Protocol):
    """Cells x genes, in memory or on disk; only blocks of rows are ever taken out, always sparse."""

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""

    def rows(self, index: Int[np.ndarray, " cell"]) -> sparse.csr_matrix:
        """Those rows in that order, float32 CSR, as stored (no change of scale)."""


@dataclass(frozen=True)
class InMemory:
    """A CSR matrix held in memory."""

    matrix: sparse.csr_matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self.matrix.shape

    def rows(self, index: Int[np.ndarray, " cell"]) -> sparse.csr_matrix:
        """Those rows in that order."""
        return self.matrix[index]


@dataclass(frozen=True)
class Decision:
    """One thing the reader decided: what, the value, the evidence, and the flag that overrides it."""

    what: str
    value: str
    evidence: str
    flag: str = ""


@dataclass(frozen=True)
class Screen:
    """A Perturb-seq experiment. Built by `perturbcast.read`; `take` gives a view of some cells.

    `row` maps the cells of this view to rows of `matrix`; every per-cell array follows `row`.
    """

    name: str
    matrix: CellMatrix
    scale: Scale
    genes: np.ndarray  # (gene,) unique names, object dtype of str
    conditions: tuple[str, ...]  # canonical, sorted, `ctrl` among them
    contexts: tuple[str, ...]  # ("",) where there is only one, unnamed
    condition_code: np.ndarray  # (cell,) int32 into `conditions`
    context_code: np.ndarray  # (cell,) int32 into `contexts`
    row: np.ndarray  # (cell,) int64 into `matrix`
    library: np.ndarray | None = None  # (cell,) total molecules, counts only
    cells: np.ndarray | None = None  # (cell,) barcodes
    covariates: pd.DataFrame = field(default_factory=pd.DataFrame)  # one row per cell: guide, batch, replicate, quality
    gene_ids: np.ndarray | None = None  # (gene,) Ensembl ids where known
    decisions: tuple[Decision, ...] = ()
    uns: dict[str, Any] = field(default_factory=dict)  # source, perturbation type

    @property
    def n_cells(self) -> int:
        """How many cells this view has."""
        return len(self.row)

    @property
    def n_genes(self) -> int:
        """How many genes are measured."""
        return len(self.genes)

    @property
    def is_control(self) -> np.ndarray:
        """(cell,) bool: nothing was perturbed."""
        return self.condition_code == self.conditions.index(CONTROL)

    @property
    def query_code(self) -> np.ndarray:
        """(cell,) int64: condition and context of each cell in one number, context-major."""
        return self.context_code.astype(np.int64) * len(self.conditions) + self.condition_code

    def queries(self) -> list[Query]:
        """The queries that have cells in this view, control excluded, contexts outermost."""
        codes = np.unique(self.query_code)
        named = [divmod(int(code), len(self.conditions)) for code in codes]
        found = [Query(self.conditions[condition], self.contexts[context]) for context, condition in named]
        return [query for query in found if query.condition != CONTROL]

    def cells_of(self, query: Query) -> np.ndarray:
        """(cell,) int64 positions in this view of the cells of a query (or of `Query("ctrl", context)`)."""
        if query.condition not in self.conditions or query.context not in self.contexts:
            return np.zeros(0, dtype=np.int64)
        code = self.contexts.index(query.context) * len(self.conditions) + self.conditions.index(query.condition)
        return np.flatnonzero(self.query_code == code)

    def take(self, cells: np.ndarray) -> "Screen":
        """A view of some cells, by position or mask; no matrix is copied."""
        cells = np.flatnonzero(cells) if np.asarray(cells).dtype == bool else np.asarray(cells, dtype=np.int64)
        return replace(
            self,
            condition_code=self.condition_code[cells],
            context_code=self.context_code[cells],
            row=self.row[cells],
            library=None if self.library is None else self.library[cells],
            cells=None if self.cells is None else self.cells[cells],
            covariates=self.covariates.iloc[cells] if len(self.covariates) else self.covariates,
        )

    def stored(self, cells: np.ndarray) -> sparse.csr_matrix:
        """Values of some cells as stored, CSR."""
        return self.matrix.rows(self.row[cells])

    def expression(self, cells: np.ndarray) -> sparse.csr_matrix:
        """Expression of some cells, CSR: ln(1 + CP10k) if counts are stored, the stored values otherwise."""
        values = self.stored(cells).astype(np.float32)
        if self.scale is not Scale.COUNTS:
            return values
        library = values.sum(axis=1).A1 if self.library is None else self.library[cells]
        per_cell = np.divide(1e4, library, out=np.zeros(len(library)), where=library > 0)
        scaled = values.copy()
        scaled.data = np.log1p(scaled.data * np.repeat(per_cell, np.diff(values.indptr))).astype(np.float32)
        return scaled

    def blocks(self, *, size: int = 4096) -> Iterator[np.ndarray]:
        """Positions of the cells in blocks of `size`, in order, to stream over a matrix larger than memory."""
        for start in range(0, self.n_cells, size):
            yield np.arange(start, min(start + size, self.n_cells))
