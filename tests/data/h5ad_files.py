"""Small .h5ad files with a known content, and surgery on them, for the tests of the readers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

GENES = ["STAT1", "JAK2", "SPI1", "MYC", *(f"GENE{number}" for number in range(16))]
LABELS = ["control", "STAT1", "JAK2", "STAT1+JAK2", "SPI1"]


def counts(n_cells: int, *, n_genes: int = len(GENES), seed: int = 0) -> sparse.csr_matrix:
    """Poisson counts around 3, so that some entries are zero and none is binary."""
    values = np.random.default_rng(seed).poisson(3.0, size=(n_cells, n_genes))
    return sparse.csr_matrix(values.astype(np.float32))


def log1p_of(matrix: sparse.csr_matrix, total: float = 1e4) -> sparse.csr_matrix:
    """ln(1 + counts brought to a total per cell)."""
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    scaled = sparse.csr_matrix(sparse.diags(total / sums) @ matrix)
    scaled.data = np.log1p(scaled.data)
    return scaled.astype(np.float32)


def screen_adata(
    labels: list[str] | None = None, *, n_each: int = 12, column: str = "perturbation", **parts: Any
) -> anndata.AnnData:
    """A screen of counts with `n_each` cells per label; `parts` replace X or add obs columns, layers, uns."""
    labels = LABELS if labels is None else labels
    column_values = [label for label in labels for _ in range(n_each)]
    n_cells = len(column_values)
    obs = pd.DataFrame({column: column_values}, index=[f"cell{number}" for number in range(n_cells)])
    for name, values in parts.get("obs", {}).items():
        obs[name] = values
    matrix = parts.get("X", counts(n_cells))
    genes = parts.get("genes", GENES)
    var = pd.DataFrame(parts.get("var", {}), index=genes)
    adata = anndata.AnnData(matrix, obs=obs, var=var, layers=parts.get("layers", {}))
    adata.uns.update(parts.get("uns", {}))
    return adata


def response_adata(labels: list[str] | None = None, *, kind: str | None = "response", **parts: Any) -> anndata.AnnData:
    """A table of responses: one row per label, standard normal values."""
    labels = ["STAT1", "JAK2", "SPI1", "MYC"] if labels is None else labels
    values = np.random.default_rng(1).normal(size=(len(labels), len(GENES))).astype(np.float32)
    obs = pd.DataFrame({"condition": labels}, index=[f"row{number}" for number in range(len(labels))])
    adata = anndata.AnnData(parts.get("X", values), obs=obs, var=pd.DataFrame(index=GENES))
    adata.uns.update({} if kind is None else {"kind": kind})
    adata.uns.update(parts.get("uns", {}))
    return adata


def written(folder: Path, adata: anndata.AnnData, *, name: str = "screen.h5ad", **options: Any) -> Path:
    """The path of the object written to a folder."""
    path = folder / name
    adata.write_h5ad(path, **options)
    return path


def operated(folder: Path, adata: anndata.AnnData, surgery: Callable[[h5py.File], None]) -> Path:
    """The path of the written object after a change inside the file."""
    path = written(folder, adata)
    with h5py.File(path, "r+") as file:
        surgery(file)
    return path


def repeat_first_name(table: h5py.Group, position: int) -> None:
    """Gives another row of obs or var the name of its first; newer anndata keeps names as values and a mask."""
    names = table["_index"]
    stored = names["values"] if isinstance(names, h5py.Group) else names
    values = stored[()]
    values[position] = values[0]
    stored[...] = values


def replace_dataset(group: h5py.Group, key: str, values: Any) -> None:
    """Puts other values in the place of a dataset, its attributes kept."""
    attributes = dict(group[key].attrs)
    del group[key]
    group[key] = values
    group[key].attrs.update(attributes)
