"""Cell matrices: CSR in memory whatever the source, and rows streamed from disk without holding the whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from perturbcast.data.screen import CellMatrix
from perturbcast.errors import NotNumbers, TruncatedFile, UnreadableFile

_DENSE_BLOCK = 4_000_000  # entries of a dense matrix that are in memory at a time
_WINDOW = 2_000_000  # stored entries that one read from disk may bring in


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns the errors of damaged HDF5 contents into TruncatedFile."""
    try:
        yield
    except BlockingIOError as error:
        raise UnreadableFile(
            f"{path.name} is being written by another program.", "Wait until it has finished."
        ) from error
    except (OSError, KeyError, RuntimeError) as error:
        raise TruncatedFile(f"{path.name} cannot be read to its end: {str(error)[:160]}.") from error


def to_csr(matrix: Any) -> sparse.csr_matrix:
    """float32 CSR without explicit zeros, indices sorted, int32 where they fit; the input is never changed."""
    check_numbers(matrix.dtype)
    if not sparse.issparse(matrix):
        shape = (int(matrix.shape[0]), int(matrix.shape[1]))
        return csr_from_dense(lambda start, stop: np.asarray(matrix[start:stop]), shape=shape)
    given: Any = matrix
    csr = sparse.csr_matrix(given)
    if csr.dtype != np.float32:
        csr = sparse.csr_matrix((float32(csr.data), csr.indices, csr.indptr), shape=csr.shape)
    if not csr.has_canonical_format or (csr.data == 0).any():
        csr = csr.copy()
        csr.sum_duplicates()
        csr.eliminate_zeros()
    return _with_small_indices(csr)


def csr_from_dense(read: Callable[[int, int], np.ndarray], *, shape: tuple[int, int]) -> sparse.csr_matrix:
    """float32 CSR of a dense matrix that `read(start, stop)` gives in blocks of rows."""
    step = max(1, _DENSE_BLOCK // max(1, shape[1]))
    blocks = []
    for start in range(0, shape[0], step):
        rows = read(start, min(start + step, shape[0]))
        blocks.append(sparse.csr_matrix(float32(rows)))
    if not blocks:
        return empty_csr(shape)
    return _with_small_indices(sparse.vstack(blocks, format="csr", dtype=np.float32))


def empty_csr(shape: tuple[int, int]) -> sparse.csr_matrix:
    """float32 CSR of that shape without any value."""
    parts = (np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(shape[0] + 1, np.int32))
    return sparse.csr_matrix(parts, shape=shape)


def _with_small_indices(csr: sparse.csr_matrix) -> sparse.csr_matrix:
    if csr.indices.dtype == np.int32 or max(csr.shape[1], csr.nnz) >= 2**31 - 1:
        return csr
    parts = (csr.data, csr.indices.astype(np.int32), csr.indptr.astype(np.int32))
    return sparse.csr_matrix(parts, shape=csr.shape)


def float32(values: np.ndarray) -> np.ndarray:
    """The values as float32; those too large for it become infinite, which the scan then reports."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32, copy=False)


def check_numbers(dtype: np.dtype) -> None:
    """Raises NotNumbers unless values of this type are real numbers."""
    if dtype.kind not in "fiub":
        raise NotNumbers(f"The matrix holds values of type {dtype}.")


@dataclass(frozen=True)
class BackedCsr:
    """A CSR group of an HDF5 file; rows are read in ranges. Only `indptr` is held in memory (8 bytes a cell)."""

    path: Path
    key: str
    shape: tuple[int, int]
    indptr: np.ndarray  # (cell + 1,) int64

    def rows(self, index: np.ndarray) -> sparse.csr_matrix:
        """Those rows in that order, float32 CSR."""
        index = np.asarray(index, dtype=np.int64)
        wanted, place = np.unique(index, return_inverse=True)
        with damage_named(self.path):
            read = self._read(wanted)
        return read if len(wanted) == len(index) and bool((wanted == index).all()) else read[place.ravel()]

    def _read(self, wanted: np.ndarray) -> sparse.csr_matrix:
        """Sorted rows: neighbours, and rows with small gaps between them, come in one read."""
        import h5py

        if len(wanted) == 0:
            return empty_csr((0, self.shape[1]))
        blocks = []
        with h5py.File(self.path, "r") as file:
            group = file[self.key]
            for rows in _windows(wanted, self.indptr):
                first, last = int(rows[0]), int(rows[-1]) + 1
                begin, end = int(self.indptr[first]), int(self.indptr[last])
                indices = group["indices"][begin:end].astype(np.int32)
                if end - begin != len(indices) or (
                    len(indices) and not 0 <= indices.min() <= indices.max() < self.shape[1]
                ):
                    raise KeyError(f"rows {first} to {last} of {self.key} hold indices that are no genes")
                parts = (float32(group["data"][begin:end]), indices, self.indptr[first : last + 1] - begin)
                block = sparse.csr_matrix(parts, shape=(last - first, self.shape[1]))
                blocks.append(block if len(rows) == last - first else block[rows - first])
        return to_csr(blocks[0] if len(blocks) == 1 else sparse.vstack(blocks, format="csr"))


def _windows(wanted: np.ndarray, indptr: np.ndarray) -> Iterator[np.ndarray]:
    """Sorted rows in groups that are worth one read: dense enough, and of at most `_WINDOW` entries."""
    start = 0
    gap_before = np.flatnonzero(np.diff(wanted) > 16) + 1
    for stop in [*gap_before.tolist(), len(wanted)]:
        while start < stop:
            limit = indptr[wanted[start]] + _WINDOW
            reach = int(np.searchsorted(indptr[wanted[start:stop] + 1], limit, side="right"))
            end = start + max(1, reach)
            yield wanted[start:end]
            start = end


@dataclass(frozen=True)
class BackedDense:
    """A dense dataset of an HDF5 file; blocks of rows are read and made sparse."""

    path: Path
    key: str
    shape: tuple[int, int]

    def rows(self, index: np.ndarray) -> sparse.csr_matrix:
        """Those rows in that order, float32 CSR."""
        import h5py

        index = np.asarray(index, dtype=np.int64)
        wanted, place = np.unique(index, return_inverse=True)
        with damage_named(self.path), h5py.File(self.path, "r") as file:
            dataset = file[self.key]
            read = csr_from_dense(
                lambda start, stop: _dense_rows(dataset, wanted[start:stop]), shape=(len(wanted), self.shape[1])
            )
        return read[place.ravel()]


def _dense_rows(dataset: Any, rows: np.ndarray) -> np.ndarray:
    """Sorted rows of a dataset; a range where they are neighbours, which HDF5 reads much faster than a list."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    if last - first <= 4 * len(rows):
        return np.asarray(dataset[first:last])[rows - first]
    return np.asarray(dataset[rows])


@dataclass(frozen=True)
class GeneMapped:
    """A cell matrix whose columns are chosen or summed by a sparse (stored gene, gene) matrix of ones."""

    matrix: CellMatrix
    mapping: sparse.csr_matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self.matrix.shape[0], self.mapping.shape[1]

    def rows(self, index: np.ndarray) -> sparse.csr_matrix:
        """Those rows in that order, float32 CSR."""
        mapped = sparse.csr_matrix(self.matrix.rows(index) @ self.mapping)
        mapped.sort_indices()
        return mapped
