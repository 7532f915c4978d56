"""One pass over every stored value of a cell matrix: what is needed to check it and to tell its scale."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from perturbcast.data.screen import CellMatrix
from perturbcast.errors import EmptyScreen, NotFinite, NoVariance

SAMPLE = 2048  # cells that the costlier signs of a scale are read from, spread evenly over the whole matrix


@dataclass(frozen=True)
class Scan:
    """Counts, extremes and sums of a matrix, and an evenly spread sample of its rows."""

    shape: tuple[int, int]
    n_stored: int
    n_not_finite: int
    n_negative: int
    low: float  # over all entries, zeros included
    high: float
    row_stored: np.ndarray  # (cell,) int64 entries that are not zero
    row_sum: np.ndarray  # (cell,) float64
    row_integer: np.ndarray  # (cell,) bool: every value of the cell is an integer
    gene_sum: np.ndarray  # (gene,) float64
    gene_square: np.ndarray  # (gene,) float64 sum of squares
    gene_detected: np.ndarray  # (gene,) int64 cells that are not zero
    sample: sparse.csr_matrix  # spread rows, as stored

    @property
    def n_empty_cells(self) -> int:
        """Cells without any value but zero."""
        return int((self.row_stored == 0).sum())

    @property
    def gene_variance(self) -> np.ndarray:
        """(gene,) float64 over all cells, divided by n."""
        n_cells = max(1, self.shape[0])
        return np.maximum(self.gene_square / n_cells - (self.gene_sum / n_cells) ** 2, 0)


def scan(matrix: CellMatrix, *, block: int = 4096) -> Scan:
    """Streams once over all rows. Raises EmptyScreen without cells or genes."""
    n_cells, n_genes = (int(n) for n in matrix.shape)
    if n_cells == 0 or n_genes == 0:
        raise EmptyScreen(f"The matrix has {n_cells:,} cells and {n_genes:,} genes.")
    sampled = np.unique(np.linspace(0, n_cells - 1, min(n_cells, SAMPLE)).astype(np.int64))
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    sample: list[sparse.csr_matrix] = []
    genes = np.zeros((3, n_genes))
    totals = np.zeros(3, dtype=np.int64)  # stored, not finite, negative
    extremes = [np.inf, -np.inf]
    for start in range(0, n_cells, block):
        index = np.arange(start, min(start + block, n_cells))
        part = matrix.rows(index)
        values, n_part = _finite(part)
        totals += n_part
        rows.append(_row_facts(part, values))
        genes += _gene_facts(part, values, n_genes)
        if len(values):
            extremes = [min(extremes[0], float(values.min())), max(extremes[1], float(values.max()))]
        taken = sampled[(sampled >= start) & (sampled <= index[-1])] - start
        sample.append(part[taken])
    row_stored, row_sum, row_integer = (np.concatenate(facts) for facts in zip(*rows, strict=True))
    has_zeros = totals[0] < n_cells * n_genes
    return Scan(
        shape=(n_cells, n_genes),
        n_stored=int(totals[0]),
        n_not_finite=int(totals[1]),
        n_negative=int(totals[2]),
        low=min(extremes[0], 0.0) if has_zeros else extremes[0],
        high=max(extremes[1], 0.0) if has_zeros else extremes[1],
        row_stored=row_stored,
        row_sum=row_sum,
        row_integer=row_integer,
        gene_sum=genes[0],
        gene_square=genes[1],
        gene_detected=genes[2].astype(np.int64),
        sample=sparse.vstack(sample, format="csr"),
    )


def _finite(part: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """float64 values with 0 for those not finite, and how many are stored, not finite, negative."""
    finite = np.isfinite(part.data)
    numbers = np.array([part.nnz, part.nnz - int(finite.sum()), int((part.data < 0).sum())])
    return np.where(finite, part.data, 0).astype(np.float64), numbers


def _row_facts(part: sparse.csr_matrix, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
    total = np.bincount(row, weights=values, minlength=part.shape[0])
    n_broken = np.bincount(row, weights=values != np.rint(values), minlength=part.shape[0])
    return np.diff(part.indptr).astype(np.int64), total, n_broken == 0


def _gene_facts(part: sparse.csr_matrix, values: np.ndarray, n_genes: int) -> np.ndarray:
    facts = [np.bincount(part.indices, weights=weights, minlength=n_genes) for weights in (values, values**2)]
    return np.stack([*facts, np.bincount(part.indices, minlength=n_genes).astype(np.float64)])


def check_values(found: Scan, *, genes: np.ndarray) -> None:
    """Raises NotFinite, EmptyScreen or NoVariance for a matrix that no statistic can use."""
    if found.n_not_finite:
        raise NotFinite(f"{found.n_not_finite:,} of {found.n_stored:,} stored values are NaN or infinite.")
    if found.n_stored == 0 or found.low == found.high == 0:
        raise EmptyScreen(f"All {found.shape[0]:,} x {found.shape[1]:,} values are zero.")
    if found.low == found.high:
        raise NoVariance(f"Every value of the {found.shape[0]:,} cells and {len(genes):,} genes is {found.low:g}.")
