"""Correlations between genes over cells, in one streaming pass, and the expression of a few genes as dense columns."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from perturbcast._progress import Progress
from perturbcast.data.screen import Screen
from perturbcast.errors import NoControl, TooFewCells

Cells = Literal["all", "control"]


@dataclass(frozen=True)
class Correlations:
    """Pearson correlations of some genes (rows) with all genes; 0 where one of the two does not vary."""

    matrix: np.ndarray  # (row, gene) float64
    varies: np.ndarray  # (gene,) bool
    n_cells: int


def chosen_cells(screen: Screen, cells: Cells) -> Int[np.ndarray, " cell"]:
    """All cells, or those of control; NoControl, TooFewCells under three."""
    index = np.arange(screen.n_cells) if cells == "all" else np.flatnonzero(screen.is_control)
    if cells == "control" and not len(index):
        raise NoControl("No control cell.", "Infer from all cells.")
    if len(index) < 3:
        raise TooFewCells(f"{len(index)} cells are too few for correlations.")
    return index


def correlations(
    screen: Screen, *, rows: Int[np.ndarray, " row"], cells: Cells = "all", progress: Progress | None = None
) -> Correlations:
    """Pearson correlation of the genes at positions `rows` with every gene; memory grows with rows x genes."""
    index = chosen_cells(screen, cells)
    cross = np.zeros((len(rows), screen.n_genes))
    total, square = np.zeros(screen.n_genes), np.zeros(screen.n_genes)
    starts = range(0, len(index), 4096)
    for start in (progress or Progress()).track(starts, label="correlations", total=len(starts)):
        values = screen.expression(index[start : start + 4096]).astype(np.float64)
        cross += (values[:, rows].T @ values).toarray()  # (row, cell) @ (cell, gene) -> (row, gene)
        total += np.asarray(values.sum(axis=0)).ravel()
        values.data **= 2
        square += np.asarray(values.sum(axis=0)).ravel()
    mean = total / len(index)
    variance = square / len(index) - mean**2
    varies = variance > 1e-12 * np.maximum(square / len(index), 1e-300)
    sd = np.sqrt(np.where(varies, variance, 1.0))
    matrix = (cross / len(index) - mean[rows, None] * mean[None, :]) / (sd[rows, None] * sd[None, :])
    matrix[:, ~varies] = 0.0
    matrix[~varies[rows]] = 0.0
    return Correlations(np.clip(matrix, -1.0, 1.0), varies, len(index))


def dense_columns(
    screen: Screen, *, genes: Int[np.ndarray, " column"], cells: Int[np.ndarray, " cell"]
) -> Float[np.ndarray, "cell column"]:
    """Expression of a few genes in some cells, float32."""
    values = np.empty((len(cells), len(genes)), dtype=np.float32)
    for start in range(0, len(cells), 4096):
        values[start : start + 4096] = screen.expression(cells[start : start + 4096])[:, genes].toarray()
    return values
