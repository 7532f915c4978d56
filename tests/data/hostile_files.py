"""Hostile files: what is wrong with the file itself. Each builder returns the path and the arguments of `read`."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5ad_files import GENES, counts, operated, repeat_first_name, replace_dataset, screen_adata, written
from scipy import sparse

from perturbcast.errors import (
    CannotStream,
    DuplicatedCells,
    DuplicatedColumns,
    DuplicatedGenes,
    MissingFile,
    NoMatrix,
    NotAFile,
    NotAnnData,
    NotHDF5,
    NotNumbers,
    PerturbcastError,
    TruncatedFile,
)

Built = tuple[Path, dict[str, Any]]
Case = tuple[Callable[[Path], Built], type[PerturbcastError]]


def _bytes(content: bytes, name: str = "screen.h5ad") -> Callable[[Path], Built]:
    def build(folder: Path) -> Built:
        (folder / name).write_bytes(content)
        return folder / name, {}

    return build


def _folder(name: str) -> Callable[[Path], Built]:
    def build(folder: Path) -> Built:
        (folder / name).mkdir()
        return folder / name, {}

    return build


def _dangling(folder: Path) -> Built:
    (folder / "link.h5ad").symlink_to(folder / "nothing.h5ad")
    return folder / "link.h5ad", {}


def _gzipped(folder: Path) -> Built:
    content = gzip.compress(written(folder, screen_adata()).read_bytes())
    (folder / "screen.h5ad.gz").write_bytes(content)
    return folder / "screen.h5ad.gz", {}


def _cut(share: float) -> Callable[[Path], Built]:
    def build(folder: Path) -> Built:
        path = written(folder, screen_adata())
        os.truncate(path, int(path.stat().st_size * share))
        return path, {}

    return build


def _damaged_chunk(folder: Path) -> Built:
    path = written(folder, screen_adata(), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["X/data"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    return path, {}


def _hdf5(*groups: str) -> Callable[[Path], Built]:
    def build(folder: Path) -> Built:
        path = folder / "screen.h5ad"
        with h5py.File(path, "w") as file:
            for group in groups:
                file.create_group(group)
        return path, {}

    return build


def _surgery(change: Callable[[h5py.File], None], **arguments: Any) -> Callable[[Path], Built]:
    return lambda folder: (operated(folder, screen_adata(), change), arguments)


def _delete(key: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[key]

    return change


def _put(key: str, values: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        group, _, name = key.rpartition("/")
        replace_dataset(file[group or "/"], name, values)

    return change


def _dense_x(values: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file["X"]
        file["X"] = values
        file["X"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

    return change


def _no_index(file: h5py.File) -> None:
    del file["obs"].attrs["_index"]


def _falling_pointers(file: h5py.File) -> None:
    pointers = file["X/indptr"][()]
    pointers[3], pointers[4] = pointers[4], pointers[3]
    file["X/indptr"][...] = pointers


def _other_genes(file: h5py.File) -> None:
    indices = file["X/indices"][()]
    indices[7] = 4000
    file["X/indices"][...] = indices


def _other_shape(file: h5py.File) -> None:
    file["X"].attrs["shape"] = np.array([10**12, len(GENES)])


def _other_encoding(file: h5py.File) -> None:
    file["X"].attrs["encoding-type"] = "bsr_matrix"


def _columns_repeated(file: h5py.File) -> None:
    file["obs"].attrs["column-order"] = np.array(["perturbation", "perturbation"], dtype=h5py.string_dtype())


def _by_columns(folder: Path) -> Built:
    return written(folder, screen_adata(X=sparse.csc_matrix(counts(60)))), {"backed": True}


def _only_layers(folder: Path) -> Built:
    adata = screen_adata(layers={"one": counts(60), "two": counts(60)})
    return operated(folder, adata, _delete("X")), {}


FILE_CASES: dict[str, Case] = {
    "missing file": (lambda folder: (folder / "nothing.h5ad", {}), MissingFile),
    "missing folder": (lambda folder: (folder / "no" / "nothing.h5ad", {}), MissingFile),
    "dangling link": (_dangling, MissingFile),
    "folder": (_folder("screen.h5ad"), NotAFile),
    "zarr folder": (_folder("screen.zarr"), NotAFile),
    "empty file": (_bytes(b""), NotHDF5),
    "text": (_bytes(b"cell,STAT1\ncell0,3\n"), NotHDF5),
    "noise": (_bytes(bytes(range(256)) * 40), NotHDF5),
    "gzipped": (_gzipped, NotHDF5),
    "cut in half": (_cut(0.5), TruncatedFile),
    "cut at the end": (_cut(0.98), TruncatedFile),
    "signature alone": (_bytes(b"\x89HDF\r\n\x1a\n"), TruncatedFile),
    "damaged chunk": (_damaged_chunk, TruncatedFile),
    "empty HDF5": (_hdf5(), NotAnnData),
    "10x output": (_hdf5("matrix/features"), NotAnnData),
    "mudata": (_hdf5("mod/rna/obs", "mod/rna/var"), NotAnnData),
    "obs and var of nothing": (_hdf5("obs", "var", "X"), NotAnnData),
    "obs without index": (_surgery(_no_index), NotAnnData),
    "obs without its column": (_surgery(_delete("obs/perturbation")), NotAnnData),
    "var missing": (_surgery(_delete("var")), NotAnnData),
    "X of unknown encoding": (_surgery(_other_encoding), NotAnnData),
    "X larger than obs": (_surgery(_other_shape), TruncatedFile),
    "X of one axis": (_surgery(_dense_x(np.ones(60))), TruncatedFile),
    "X of three axes": (_surgery(_dense_x(np.ones((60, 20, 2)))), TruncatedFile),
    "X of fewer cells": (_surgery(_dense_x(np.ones((59, 20)))), TruncatedFile),
    "pointers too short": (_surgery(_put("X/indptr", np.zeros(5, dtype=np.int32))), TruncatedFile),
    "pointers falling": (_surgery(_falling_pointers), TruncatedFile),
    "pointers falling, streamed": (_surgery(_falling_pointers, backed=True), TruncatedFile),
    "fewer values than indices": (_surgery(_put("X/data", np.ones(9, dtype=np.float32))), TruncatedFile),
    "indices of no gene": (_surgery(_other_genes), TruncatedFile),
    "indices of no gene, streamed": (_surgery(_other_genes, backed=True), TruncatedFile),
    "indices missing": (_surgery(_delete("X/indices")), TruncatedFile),
    "X of text": (_surgery(_dense_x(np.full((60, 20), b"3"))), NotNumbers),
    "X of complex numbers": (_surgery(_dense_x(np.full((60, 20), 1j))), NotNumbers),
    "stored by columns, streamed": (_by_columns, CannotStream),
    "no X": (_surgery(_delete("X")), NoMatrix),
    "no X and two unnamed layers": (_only_layers, NoMatrix),
    "unknown layer": (_surgery(lambda file: None, layer="cuonts"), NoMatrix),
    "raw that is not there": (_surgery(lambda file: None, layer="raw"), NoMatrix),
    "duplicated barcodes": (_surgery(lambda file: repeat_first_name(file["obs"], 1)), DuplicatedCells),
    "duplicated genes": (_surgery(lambda file: repeat_first_name(file["var"], 1)), DuplicatedGenes),
    "duplicated columns": (_surgery(_columns_repeated), DuplicatedColumns),
}
