"""Where a screen comes from: the tables and matrices of an .h5ad file or an AnnData object, opened but not yet read."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbcast.data.h5ad_elements import read_element
from perturbcast.data.matrix import BackedCsr, BackedDense, check_numbers, csr_from_dense, damage_named, to_csr
from perturbcast.data.screen import CellMatrix
from perturbcast.errors import (
    CannotStream,
    MissingFile,
    NotAFile,
    NotAnnData,
    NotHDF5,
    TruncatedFile,
    UnreadableFile,
)

if TYPE_CHECKING:
    from anndata import AnnData

_UNS_KEYS = ("kind", "unit", "perturbation", "source", "log1p")


@dataclass(frozen=True)
class StoredMatrix:
    """One matrix of a source: how it is stored, and how to get at it."""

    key: str  # X, raw, or the name of a layer
    shape: tuple[int, int]
    n_stored: int
    load: Callable[[], sparse.csr_matrix]
    var: pd.DataFrame
    stream: Callable[[], CellMatrix] | None = None  # None where rows cannot be streamed


@dataclass(frozen=True)
class Source:
    """Tables and matrices of one file or object."""

    name: str
    obs: pd.DataFrame
    var: pd.DataFrame
    uns: Mapping[str, Any]
    matrices: Mapping[str, StoredMatrix] = field(default_factory=dict)
    in_file: bool = False


# ---------------------------------------------------------------------------------------------------------- in memory
def open_anndata(adata: "AnnData", *, name: str) -> Source:
    """A source over an AnnData object or a view of one; nothing of it is changed."""
    if adata.isbacked and not adata.is_view:
        return replace(open_file(Path(adata.filename), name=name), obs=adata.obs, uns=_told(adata.uns))
    if adata.isbacked:
        adata = adata.to_memory()
    matrices = {}
    if adata.X is not None:
        matrices["X"] = _held("X", adata.X, adata.var)
    for key in adata.layers:
        if sparse.issparse(adata.layers[key]) or isinstance(adata.layers[key], np.ndarray):
            matrices[str(key)] = _held(str(key), adata.layers[key], adata.var)
    if adata.raw is not None:
        matrices.setdefault("raw", _held("raw", adata.raw.X, adata.raw.var))
    return Source(name, adata.obs, adata.var, _told(adata.uns), matrices)


def _told(uns: Mapping[str, Any]) -> dict[str, Any]:
    return {key: uns[key] for key in _UNS_KEYS if key in uns}


def _held(key: str, matrix: Any, var: pd.DataFrame) -> StoredMatrix:
    n_stored = int(getattr(matrix, "nnz", np.prod(matrix.shape)))
    return StoredMatrix(key, (matrix.shape[0], matrix.shape[1]), n_stored, lambda: to_csr(matrix), var)


# ------------------------------------------------------------------------------------------------------------ on disk
def open_file(path: Path, *, name: str) -> Source:
    """A source over an .h5ad file. Raises the errors of E2 for a path that holds no readable AnnData."""
    import h5py

    check_path(path)
    with damage_named(path), h5py.File(path, "r") as file:
        if not {"obs", "var"} <= set(file):
            raise NotAnnData(f"{path.name} has no obs and var; it holds {', '.join(sorted(file))[:80] or 'nothing'}.")
        if not isinstance(file["obs"], h5py.Group) or "encoding-type" not in file["obs"].attrs:
            return _open_old(path, name=name)
        obs, var = _table(file, "obs", path), _table(file, "var", path)
        uns = {key: _uns(file["uns"][key]) for key in _UNS_KEYS if key in file.get("uns", {})}
        matrices = _stored_matrices(file, path, obs=obs, var=var)
    return Source(name, obs, var, uns, matrices, in_file=True)


def check_path(path: Path) -> None:
    """Raises MissingFile, NotAFile, UnreadableFile or NotHDF5."""
    import h5py

    if path.is_dir():
        raise NotAFile(f"{path.name or path} is a folder.", _folder_advice(path))
    if path.is_symlink() and not path.exists():
        raise MissingFile(f"{path.name} is a link to a file that is not there.")
    if not path.exists():
        beside = [p.name for p in path.parent.glob("*.h5ad")] if path.parent.is_dir() else []
        listed = f" In that folder: {', '.join(sorted(beside)[:5])}." if beside else ""
        raise MissingFile(f"There is no file {path.name!r}.{listed}")
    if not os.access(path, os.R_OK):
        raise UnreadableFile(f"{path.name} may not be read by this user.")
    if not h5py.is_hdf5(path):
        advice = "Unpack it first (gunzip)." if path.suffix == ".gz" else None
        size = path.stat().st_size
        raise NotHDF5(f"{path.name} ({size:,} bytes) does not begin like an HDF5 file.", advice)


def _folder_advice(path: Path) -> str | None:
    zarr = path.suffix == ".zarr" or (path / ".zgroup").exists()
    return "Write it as one file: anndata.read_zarr(...).write_h5ad(...)." if zarr else None


def _open_old(path: Path, *, name: str) -> Source:
    """Files of anndata before 0.7 are read whole, by anndata."""
    import warnings

    import anndata

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Warning, module=r"anndata.*")  # its advice is for who wrote the file
        try:
            adata = anndata.io.read_h5ad(path)
        except Exception as error:  # anndata raises errors of many types for a file that is none of its own
            raise NotAnnData(f"obs of {path.name} cannot be read: {str(error)[:120]}.") from error
    return open_anndata(adata, name=name)


def _table(file: Any, key: str, path: Path) -> pd.DataFrame:
    """obs or var. Whatever is said of a table that cannot be read becomes NotAnnData."""
    try:
        table = read_element(file[key])
    except Exception as error:  # h5py, pandas and anndata have errors of many types for damaged elements
        first = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise NotAnnData(f"{key} of {path.name} cannot be read: {first}.") from error
    if not isinstance(table, pd.DataFrame):
        raise NotAnnData(f"{key} of {path.name} is no table, but {type(table).__name__}.")
    return table


def _uns(element: Any) -> Any:
    """A scalar or a dictionary of uns; None where it is of a kind that says nothing here."""
    import h5py

    if isinstance(element, h5py.Dataset) and element.shape not in ((), (1,)):
        return None
    value = read_element(element)
    return value.item() if isinstance(value, np.generic) else value


def _stored_matrices(file: Any, path: Path, *, obs: pd.DataFrame, var: pd.DataFrame) -> dict[str, StoredMatrix]:
    keys = {"X": "X"} | {str(name): f"layers/{name}" for name in file.get("layers", {})}
    found = {}
    for name, key in keys.items():
        if key in file:
            stored = _stored(file[key], path, name=name, key=key, n_cells=len(obs), var=var)
            found.update({name: stored} if stored is not None else {})
    if "raw" in file and "X" in file["raw"] and "var" in file["raw"] and "raw" not in found:
        raw_var = _table(file["raw"], "var", path)
        stored = _stored(file["raw/X"], path, name="raw", key="raw/X", n_cells=len(obs), var=raw_var)
        found.update({"raw": stored} if stored is not None else {})
    return found


def _stored(element: Any, path: Path, *, name: str, key: str, n_cells: int, var: pd.DataFrame) -> StoredMatrix | None:
    """How a matrix is stored; None if it is stored as nothing. Raises TruncatedFile if its parts do not fit."""
    import h5py

    encoding = element.attrs.get("encoding-type", "array")
    if encoding == "null":
        return None
    if isinstance(element, h5py.Dataset):
        shape, n_stored = tuple(int(n) for n in element.shape), int(np.prod(element.shape))
    elif encoding in ("csr_matrix", "csc_matrix"):
        shape = tuple(int(n) for n in element.attrs["shape"])
        n_stored = _check_sparse(element, path, shape=shape, by_rows=encoding == "csr_matrix", key=key)
    else:
        raise NotAnnData(f"{key} of {path.name} is stored as {encoding!r}, which is no matrix.")
    if len(shape) != 2 or shape != (n_cells, len(var)):
        raise TruncatedFile(f"{key} of {path.name} is {shape}, but obs and var say {(n_cells, len(var))}.")
    if isinstance(element, h5py.Dataset):
        check_numbers(element.dtype)
        backed = BackedDense(path, key, (shape[0], shape[1]))
        return StoredMatrix(name, backed.shape, n_stored, lambda: _load_dense(path, key), var, lambda: backed)
    check_numbers(element["data"].dtype)
    stream = (lambda: _backed_csr(path, key)) if encoding == "csr_matrix" else None
    return StoredMatrix(name, (shape[0], shape[1]), n_stored, lambda: _load_sparse(path, key), var, stream)


def _check_sparse(group: Any, path: Path, *, shape: tuple[int, ...], by_rows: bool, key: str) -> int:
    """The number of stored entries, once the three arrays are of lengths that fit."""
    lengths = {part: len(group[part]) for part in ("data", "indices", "indptr")}
    if lengths["data"] != lengths["indices"] or lengths["indptr"] != shape[0 if by_rows else 1] + 1:
        raise TruncatedFile(f"{key} of {path.name} is damaged: its arrays have lengths {lengths}.")
    return lengths["data"]


def _load_dense(path: Path, key: str) -> sparse.csr_matrix:
    import h5py

    with damage_named(path), h5py.File(path, "r") as file:
        dataset = file[key]
        return csr_from_dense(lambda start, stop: dataset[start:stop], shape=dataset.shape)


def _load_sparse(path: Path, key: str) -> sparse.csr_matrix:
    """The whole of a sparse group, CSR; a matrix stored by columns is converted."""
    import h5py

    with damage_named(path), h5py.File(path, "r") as file:
        group = file[key]
        shape = (int(group.attrs["shape"][0]), int(group.attrs["shape"][1]))
        kind = sparse.csr_matrix if group.attrs["encoding-type"] == "csr_matrix" else sparse.csc_matrix
        data = group["data"].astype(np.float32)[()]
        try:
            matrix = kind((data, group["indices"][()], group["indptr"][()]), shape=shape)
            matrix.check_format(full_check=True)
        except ValueError as error:
            raise TruncatedFile(f"{key} of {path.name} is damaged: {str(error)[:120]}.") from error
    return to_csr(matrix)


def _backed_csr(path: Path, key: str) -> CellMatrix:
    import h5py

    with damage_named(path), h5py.File(path, "r") as file:
        group = file[key]
        indptr = group["indptr"][()].astype(np.int64)
        if indptr[0] != 0 or (np.diff(indptr) < 0).any() or indptr[-1] != len(group["data"]):
            raise TruncatedFile(f"{key} of {path.name} is damaged: its row pointers do not rise to the end.")
        shape = tuple(int(n) for n in group.attrs["shape"])
    return BackedCsr(path, key, (shape[0], shape[1]), indptr)


def cannot_stream(stored: StoredMatrix, source: Source) -> CannotStream:
    """The error for a matrix whose rows cannot be streamed."""
    if not source.in_file:
        return CannotStream(
            f"{stored.key} of an object in memory has no file to stream from.", "Pass the path instead."
        )
    return CannotStream(f"{stored.key} is stored by columns (CSC).")
