"""Likeness of cells and of responses: copies that no experiment would make."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from perturbcast._progress import Progress
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.statistics import response_table
from perturbcast.errors import EmptyScreen, NoControl, TooFewCells

FEWEST_GENES_SEEN = 8  # rows with fewer non-zero values may be equal by chance; no two cells of the real screens are
FEWEST_GENES = 10  # correlations over fewer genes say nothing
ALIKE = 0.9  # correlation from which two responses are looked at more closely
EQUAL = (
    0.999  # correlation that counts as equal where noise is unknown; highest in real data .93 (Replogle), .89 (Norman)
)
LEAST_NOISE = 0.1  # share of the expected noise below which two measurements are not independent; real data: .86 up


@dataclass(frozen=True)
class Evidence:
    """What the audit reads from data, gathered once for many splits."""

    screen: Screen | None = None
    table: ResponseTable | None = None
    copies: np.ndarray | None = None  # (cell,) int64: cells of equal rows share a number; -1 where a row is unique


def gather_evidence(
    data: Screen | ResponseTable | None, *, profiles: bool = True, progress: Progress | None = None
) -> Evidence:
    """Two streaming passes over a screen: response statistics and copies of cells. None gives none.

    A screen without usable control has no responses to compare; its cells are compared all the same.
    """
    if data is None:
        return Evidence()
    if isinstance(data, ResponseTable):
        return Evidence(table=data)
    table = None
    if profiles:
        with contextlib.suppress(NoControl, EmptyScreen, TooFewCells):
            table = response_table(data, progress=progress)
    return Evidence(screen=data, table=table, copies=find_copies(data, progress=progress))


# --------------------------------------------------------------------------------------------------------------- cells
def find_copies(screen: Screen, *, block: int = 4096, progress: Progress | None = None) -> Int[np.ndarray, " cell"]:
    """A number shared by cells whose stored values are equal, -1 for cells like no other.

    Rows are compared by two random projections, which differ for different rows practically always. Rows of fewer than
    8 non-zero values, and the same row of the matrix taken twice, are no copies.
    """
    weights = np.random.default_rng(0).normal(size=(screen.n_genes, 2))
    keys = np.full((screen.n_cells, 2), np.nan)
    blocks = list(screen.blocks(size=block))
    for cells in (progress or Progress()).track(blocks, label="looking for copied cells"):
        values = screen.stored(cells).astype(np.float64)
        values.eliminate_zeros()
        values.sort_indices()
        enough = np.diff(values.indptr) >= FEWEST_GENES_SEEN
        keys[cells[enough]] = (values @ weights)[enough]
    compared = np.flatnonzero(np.isfinite(keys[:, 0]))
    _, number = np.unique(keys[compared], axis=0, return_inverse=True)
    number = number.reshape(-1)
    n_rows = np.bincount(np.unique(np.stack([number, screen.row[compared]]), axis=1)[0], minlength=len(number))
    copies = np.full(screen.n_cells, -1, dtype=np.int64)
    copies[compared] = np.where(n_rows[number] > 1, number, -1)
    return copies


def copied_cells(
    copies: Int[np.ndarray, " cell"], screen: Screen, known: np.ndarray, hidden: np.ndarray
) -> Iterator[tuple[object, object]]:
    """(known, hidden) names of cells with equal rows; the same row of the matrix on both sides is no copy."""
    names = np.arange(screen.n_cells) if screen.cells is None else screen.cells
    first = {int(copies[cell]): cell for cell in known[copies[known] >= 0]}
    for cell in hidden[copies[hidden] >= 0]:
        match = first.get(int(copies[cell]))
        if match is not None and screen.row[match] != screen.row[cell]:
            yield names[match], names[cell]


# ------------------------------------------------------------------------------------------------------------ profiles
def near_duplicates(
    table: ResponseTable, known: Int[np.ndarray, " train"], hidden: Int[np.ndarray, " test"]
) -> list[tuple[int, int]]:
    """(known, hidden) rows whose responses are nearer than two independent measurements of one response would be.

    With the variance between cells: correlation above 0.9, and after the best scaling a mean squared difference, in
    units of its expected noise v/n + s^2 v'/n', below 0.1 where independent cells of one and the same true response
    give about 1. Two perturbations of equal effect are so no alarm. Without variances: correlation above 0.999.
    """
    if table.n_genes < FEWEST_GENES or not len(known) or not len(hidden):
        return []
    alike = _unit(table.response[hidden]) @ _unit(table.response[known]).T > ALIKE  # (test, train)
    pairs = [(int(known[column]), int(hidden[row])) for row, column in np.argwhere(alike)]
    return [pair for pair in pairs if pair[0] != pair[1] and _too_like(table, *pair)]


def _unit(response: np.ndarray) -> np.ndarray:
    """Rows centred and scaled to length 1; rows without variance become 0, which resembles nothing."""
    centred = response - response.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)


def _too_like(table: ResponseTable, known: int, hidden: int) -> bool:
    first, second = table.response[known], table.response[hidden]
    noise = _noise(table, known), _noise(table, hidden)
    if noise[0] is None or noise[1] is None:
        unit = _unit(np.stack([first, second]))
        return bool(unit[0] @ unit[1] > EQUAL)
    scale = float(first @ second / (first @ first))
    expected = noise[1] + scale**2 * noise[0]
    varies = expected > 0
    difference = (second - scale * first)[varies] ** 2 / expected[varies]
    return bool(varies.any() and difference.mean() < LEAST_NOISE)


def _noise(table: ResponseTable, row: int) -> np.ndarray | None:
    """(gene,) squared standard error of the mean of a query, None where it is unknown."""
    if table.variance is None or table.n_cells is None or table.n_cells[row] < 2:
        return None
    return table.variance[row] / table.n_cells[row]
