"""A CSR matrix of an .h5ad file, written block after block, so that the whole never is in memory."""

from typing import Any

import numpy as np
from scipy import sparse

CHUNK = 2**16  # values per chunk of the file


class GrowingCsr:
    """A group of an open HDF5 file, as anndata lays out CSR; `close` writes what is only known at the end."""

    def __init__(self, file: Any, key: str, *, n_columns: int) -> None:
        self.group = file.create_group(key)
        self.n_columns = n_columns
        self.ends = [np.zeros(1, dtype=np.int64)]  # of rows, so far
        for name, kind in (("data", np.float32), ("indices", np.int32)):
            self.group.create_dataset(name, shape=(0,), maxshape=(None,), dtype=kind, chunks=(CHUNK,))

    def append(self, block: sparse.csr_matrix) -> None:
        """Adds rows below those there are."""
        block.sort_indices()
        before = int(self.ends[-1][-1])
        for name in ("data", "indices"):
            self.group[name].resize(before + block.nnz, axis=0)
            self.group[name][before:] = getattr(block, name)
        self.ends.append(block.indptr[1:].astype(np.int64) + before)

    def close(self) -> None:
        """Writes the ends of rows and the shape."""
        ends = np.concatenate(self.ends)
        self.group.create_dataset("indptr", data=ends)
        self.group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        self.group.attrs["shape"] = np.array([len(ends) - 1, self.n_columns], dtype=np.int64)
