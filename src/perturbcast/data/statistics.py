"""Response statistics of a screen in one streaming pass over its cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from perturbcast._progress import Progress
from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.errors import EmptyScreen, NoControl, TooFewCells, UnknownOption, did_you_mean

ROUNDING = 1e-12  # a variance below this share of the mean square is rounding of the two sums, so 0
UNITS = {Scale.LOG_OTHER: "log", Scale.ZSCORE: "sd"}  # natural log otherwise


def response_table(
    screen: Screen,
    *,
    seed: int = 0,
    queries: Sequence[Query] | None = None,
    min_cells: int = 1,
    block: int = 4096,
    progress: Progress | None = None,
) -> ResponseTable:
    """Means, variances and half means of every query against the control cells of its context.

    The cells are read once, `block` at a time, always sparse: memory grows with queries x genes + one block.
    Half means (spec F.6): the cells of each query, and of each context's control, are dealt at random into two halves
    whose sizes differ by one at most, so the two half responses share no cell at all, control included.

    `queries` restricts the table (default: all); queries with fewer than `min_cells` cells are left out.
    Raises EmptyScreen without cells, NoControl if a context of a query has no control cells, TooFewCells if no query
    is left, UnknownOption for a query that has no cells.
    """
    groups = _Groups.of(screen, queries=queries, min_cells=min_cells)
    half = random_halves(groups.code, seed=seed)
    sums, squares = _stream(screen, groups, half, block=block, progress=progress or Progress())
    n_halves = np.bincount(groups.code * 2 + half, minlength=groups.n * 2).reshape(groups.n, 2)
    return _assemble(screen, groups, sums.reshape(groups.n, 2, -1), squares, n_halves)


@dataclass(frozen=True)
class _Groups:
    """The cells that count, and the group of each: first the controls of the contexts, then the queries."""

    cells: np.ndarray  # (cell,) int64 positions in the screen, increasing
    code: np.ndarray  # (cell,) int64 group
    contexts: tuple[str, ...]
    queries: tuple[Query, ...]

    @property
    def n(self) -> int:
        return len(self.contexts) + len(self.queries)

    @staticmethod
    def of(screen: Screen, *, queries: Sequence[Query] | None, min_cells: int) -> "_Groups":
        if screen.n_cells == 0 or screen.n_genes == 0:
            raise EmptyScreen(f"{screen.name or 'The screen'} has {screen.n_cells} cells and {screen.n_genes} genes.")
        chosen = _chosen(screen, queries=queries, min_cells=min_cells)
        used = {query.context for query in chosen}
        with_control = {screen.contexts[code] for code in np.unique(screen.context_code[screen.is_control])}
        missing = sorted(used - with_control)
        if missing:
            where = f" in {len(missing)} of {len(used)} contexts: {missing[:5]}" if any(missing) else ""
            raise NoControl(f"No control cell{where}.", "Leave these contexts out, or add their control cells.")
        contexts = tuple(context for context in screen.contexts if context in used)
        members = [Query(CONTROL, context) for context in contexts] + chosen
        group_of = np.full(len(screen.contexts) * len(screen.conditions), -1, dtype=np.int64)
        for group, (condition, context) in enumerate(members):
            code = screen.contexts.index(context) * len(screen.conditions) + screen.conditions.index(condition)
            group_of[code] = group
        group = group_of[screen.query_code]
        cells = np.flatnonzero(group >= 0)
        return _Groups(cells=cells, code=group[cells], contexts=contexts, queries=tuple(chosen))


def _chosen(screen: Screen, *, queries: Sequence[Query] | None, min_cells: int) -> list[Query]:
    present = screen.queries()
    if queries is not None:
        unknown = [query for query in queries if query not in set(present)]
        if unknown:
            known = {str(query) for query in present}
            raise UnknownOption(f"No cell of {unknown[0]}. {did_you_mean(str(unknown[0]), known)}")
        present = [query for query in present if query in set(queries)]
    counts = np.bincount(screen.query_code, minlength=len(screen.contexts) * len(screen.conditions))
    table = counts.reshape(len(screen.contexts), len(screen.conditions))
    row = {context: code for code, context in enumerate(screen.contexts)}
    column = {condition: code for code, condition in enumerate(screen.conditions)}
    chosen = [query for query in present if table[row[query.context], column[query.condition]] >= min_cells]
    if not chosen:
        raise TooFewCells(f"None of {len(present)} perturbed queries has {min_cells} cells or more.")
    return chosen


def random_halves(group: Int[np.ndarray, " cell"], *, seed: int) -> Int[np.ndarray, " cell"]:
    """Half, 0 or 1, of each cell: at random within its group, half 0 having one cell more where a group is odd."""
    order = np.lexsort((np.random.default_rng(seed).random(len(group)), group))
    first = np.searchsorted(group[order], group[order], side="left")
    half = np.empty(len(group), dtype=np.int64)
    half[order] = (np.arange(len(group)) - first) % 2
    return half


def _stream(
    screen: Screen, groups: _Groups, half: np.ndarray, *, block: int, progress: Progress
) -> tuple[Float[np.ndarray, "half gene"], Float[np.ndarray, "group gene"]]:
    """Sums per group and half, sums of squares per group; float64."""
    sums = np.zeros((groups.n * 2, screen.n_genes))
    squares = np.zeros((groups.n, screen.n_genes))
    starts = range(0, len(groups.cells), block)
    for start in progress.track(starts, label="response statistics", total=len(starts)):
        part = slice(start, start + block)
        values = screen.expression(groups.cells[part]).astype(np.float64)
        add_by_group(sums, values, groups.code[part] * 2 + half[part])
        values.data **= 2
        add_by_group(squares, values, groups.code[part])
    return sums, squares


def add_by_group(total: np.ndarray, values: sparse.csr_matrix, group: np.ndarray) -> None:
    """Add the rows of `values` to the rows of `total` that `group` names; only stored entries are touched."""
    present, local = np.unique(group, return_inverse=True)
    cells = np.arange(len(group))
    indicator = sparse.csr_matrix((np.ones(len(group)), (local, cells)), shape=(len(present), len(group)))
    summed = (indicator @ values).tocoo()
    total[present[summed.row], summed.col] += summed.data


def _assemble(
    screen: Screen, groups: _Groups, sums: np.ndarray, squares: np.ndarray, n_halves: np.ndarray
) -> ResponseTable:
    count = n_halves.sum(axis=1)
    mean = sums.sum(axis=1) / count[:, None]
    variance = _variance(squares, mean, count)
    half_mean = sums / np.where(n_halves > 0, n_halves, np.nan)[:, :, None]  # (group, half, gene)
    n_contexts = len(groups.contexts)
    context = np.array([groups.contexts.index(query.context) for query in groups.queries], dtype=np.int64)
    halves = half_mean[n_contexts:] - half_mean[context]
    scale = screen.scale.of_expression
    return ResponseTable(
        name=screen.name,
        scale=scale,
        genes=screen.genes,
        queries=groups.queries,
        response=mean[n_contexts:] - mean[context],
        contexts=groups.contexts,
        control=mean[:n_contexts],
        n_cells=count[n_contexts:].astype(np.int64),
        variance=variance[n_contexts:],
        n_control=count[:n_contexts].astype(np.int64),
        control_variance=variance[:n_contexts],
        response_halves=np.ascontiguousarray(halves.transpose(1, 0, 2)),
        unit=UNITS.get(scale, "ln"),
    )


def _variance(squares: np.ndarray, mean: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Between cells, n - 1; NaN for groups of one cell."""
    n = count[:, None].astype(np.float64)
    spread = squares / n - mean**2
    spread[spread < ROUNDING * squares / n] = 0.0
    return spread * n / np.where(n > 1, n - 1, np.nan)
