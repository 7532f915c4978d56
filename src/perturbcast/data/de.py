"""Differential expression of every query against the control cells of its context, by rank-sum."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from perturbcast._progress import Progress
from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.data.statistics import add_by_group
from perturbcast.errors import BadOption, EmptyScreen, NoControl, UnknownOption, did_you_mean

PSEUDOCOUNT = 1e-9  # counts per 10,000 added to both means of a fold change (spec F-19)
CELLS_AT_ONCE = 4096  # rows read at a time
GENES_AT_ONCE = 256  # columns made dense at a time where values are negative
PER_10K = {Scale.LOG1P_CP10K: 1.0, Scale.LOG1P_CPM: 100.0}  # what expm1 is divided by to give counts per 10,000


@dataclass(frozen=True)
class DifferentialExpression:
    """Rank-sum results; all arrays (query, gene)."""

    queries: tuple[Query, ...]
    genes: np.ndarray  # (gene,)
    z: np.ndarray  # signed normal score, tie-corrected; > 0 = higher than control
    p: np.ndarray  # two-sided
    p_adjusted: np.ndarray  # Benjamini-Hochberg within query
    log2_fold_change: np.ndarray  # of mean counts per 10,000, pseudocount 1e-9

    def significant(self, *, alpha: float = 0.05) -> np.ndarray:
        """(query, gene) bool: adjusted p below alpha."""
        return self.p_adjusted < alpha


def differential_expression(
    screen: Screen,
    *,
    queries: Sequence[Query] | None = None,
    minimum_control: float | None = None,
    max_entries: int = 12_000_000,
    threads: int = 1,
    progress: Progress | None = None,
) -> DifferentialExpression:
    """Wilcoxon rank-sum of each query against the control of its context, every gene, as computed by illico.

    Normal approximation with tie correction and continuity correction, two-sided; a gene that is constant over both
    groups has z 0 and p 1. Benjamini-Hochberg within each query over the tested genes. Rows follow `queries`
    (default: all of the screen). Cells are streamed once for each block of genes that has about `max_entries` non-zero
    values (8 bytes each), so screens larger than memory can be tested.

    `minimum_control`: test only genes whose control mean, in counts per 10,000, is above it (spec F-19: 0.05);
    the others get z 0, p 1 and adjusted p 1. Fold changes are log2 ratios of mean counts per 10,000; where the unit of
    counts is unknown (other logarithms, z-scores), differences of means divided by ln 2.

    Raises NoControl for a context without control cells, UnknownOption for a query without cells, EmptyScreen if
    there is no query at all, BadOption for `minimum_control` on a scale that has no counts.
    """
    scale = screen.scale.of_expression
    if minimum_control is not None and scale not in PER_10K:
        raise BadOption(f"minimum_control is in counts per 10,000, and the scale is {scale}.", "Leave it out.")
    asked = _asked(screen, queries)
    shape = (len(asked), screen.n_genes)
    z, p, adjusted, fold = np.zeros(shape), np.ones(shape), np.ones(shape), np.zeros(shape)
    parts = _parts(screen, asked, max_entries=max_entries)
    for group, genes in (progress or Progress()).track(parts, label="rank-sum tests"):
        values, mean = _columns(screen, group, genes)
        here = np.ix_(group.rows, genes)
        fold[here] = _log2_fold_change(mean, scale=scale)
        z[here], p[here] = rank_sum(values, group.code, threads=threads)
        if minimum_control is not None:
            dropped = np.ix_(group.rows, genes[mean[0] <= minimum_control])
            z[dropped], p[dropped] = 0.0, np.nan
    for row in range(len(asked)):
        tested = ~np.isnan(p[row])
        adjusted[row, tested] = _benjamini_hochberg(p[row, tested])
    return DifferentialExpression(tuple(asked), screen.genes, z, np.nan_to_num(p, nan=1.0), adjusted, fold)


def rank_sum(values: sparse.csr_matrix, group: np.ndarray, *, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """z and two-sided p, (group - 1, gene) each, of groups 1, 2, ... of cells against group 0.

    `values` are cells x genes, `group` the group of each cell. A group without cells has z 0 and p 1.
    """
    n_groups = int(group.max()) + 1
    z, p = np.zeros((n_groups - 1, values.shape[1])), np.ones((n_groups - 1, values.shape[1]))
    present = np.unique(group)
    if len(present) < 2 or present[0] != 0:
        return z, p
    if values.nnz and values.data.min() < 0:  # the sparse kernel takes zeros for the smallest values
        by_column = values.tocsc()
        for start in range(0, values.shape[1], GENES_AT_ONCE):
            part = slice(start, start + GENES_AT_ONCE)
            dense = np.ascontiguousarray(by_column[:, part].toarray())
            z[present[1:] - 1, part], p[present[1:] - 1, part] = _illico(dense, group, threads=threads)
        return z, p
    values = values.sorted_indices()
    z[present[1:] - 1], p[present[1:] - 1] = _illico(values, group, threads=threads)
    return z, p


def _illico(values: sparse.csr_matrix | np.ndarray, group: np.ndarray, *, threads: int) -> tuple[np.ndarray, ...]:
    """z and p of the groups present but the first; illico 0.6 gives p just below 1 where U is exactly at its mean."""
    import pandas as pd
    from anndata import AnnData
    from illico import asymptotic_wilcoxon

    n_genes = values.shape[1]
    label = np.array([f"{code:09d}" for code in group])  # illico orders its groups by label
    cells = pd.DataFrame({"group": label}, index=pd.Index(np.arange(len(group)).astype(str)))
    with _quiet_illico():
        found = asymptotic_wilcoxon(
            AnnData(values, obs=cells, var=pd.DataFrame(index=pd.Index(np.arange(n_genes).astype(str)))),
            is_log1p=False,
            group_keys="group",
            reference=f"{0:09d}",
            n_threads=threads,
            use_continuity=True,
            tie_correct=True,
        )
    table = found[["z_score", "p_value", "statistic"]].to_numpy().reshape(-1, n_genes, 3)[1:]
    n_cells = np.unique(group, return_counts=True)[1]
    balanced = table[..., 2] == (n_cells[0] * n_cells[1:] / 2.0)[:, None]
    return np.where(balanced, 0.0, table[..., 0]), np.where(balanced, 1.0, table[..., 1])


@contextlib.contextmanager
def _quiet_illico() -> Iterator[None]:
    """illico reports to standard error through a logger and a bar; our own progress says the same."""
    from loguru import logger

    logger.disable("illico")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.enable("illico")


def _asked(screen: Screen, queries: Sequence[Query] | None) -> list[Query]:
    present = screen.queries()
    asked = present if queries is None else list(queries)
    missing = [query for query in asked if query not in set(present)]
    if missing:
        raise UnknownOption(f"No cell of {missing[0]}. {did_you_mean(str(missing[0]), map(str, present))}")
    if not asked:
        raise EmptyScreen("No query to test.")
    return asked


@dataclass(frozen=True)
class _Group:
    """The queries of one context and their control."""

    rows: np.ndarray  # (query,) rows of the result
    cells: np.ndarray  # (cell,) increasing positions in the screen
    code: np.ndarray  # (cell,) 0 control, else 1 + position in `rows`


def _parts(screen: Screen, asked: Sequence[Query], *, max_entries: int) -> list[tuple[_Group, np.ndarray]]:
    """Each context with each block of genes that fits into memory with all its cells."""
    parts = []
    for context in dict.fromkeys(query.context for query in asked):
        rows = [row for row, query in enumerate(asked) if query.context == context]
        members = [screen.cells_of(Query(CONTROL, context)), *(screen.cells_of(asked[row]) for row in rows)]
        if not len(members[0]):
            raise NoControl(f"No control cell{f' in {context}' if context else ''}.")
        cells = np.concatenate(members)
        code = np.repeat(np.arange(len(members)), [len(index) for index in members])
        order = np.argsort(cells, kind="stable")
        group = _Group(np.array(rows), cells[order], code[order])
        n_blocks = min(screen.n_genes, int(_entries(screen, group.cells) // max_entries) + 1)
        blocks = np.array_split(np.arange(screen.n_genes), n_blocks)
        parts += [(group, genes) for genes in blocks]
    return parts


def _entries(screen: Screen, cells: np.ndarray) -> float:
    """About how many non-zero values some cells have, from 16 runs of neighbours among them."""
    run = 128
    starts = np.unique(np.linspace(0, max(0, len(cells) - run), 16, dtype=np.int64))
    sample = np.unique(np.concatenate([cells[start : start + run] for start in starts]))
    return screen.stored(sample).nnz / len(sample) * len(cells)


def _columns(screen: Screen, group: _Group, genes: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Expression of some neighbouring genes in the cells of a group, and (group, gene) mean counts per 10,000.

    Means are of the values themselves where the unit of counts is unknown.
    """
    n_cells = np.bincount(group.code)
    total = np.zeros((len(n_cells), len(genes)))
    scale = screen.scale.of_expression
    blocks = []
    for start in range(0, len(group.cells), CELLS_AT_ONCE):
        part = slice(start, start + CELLS_AT_ONCE)
        values = screen.expression(group.cells[part])[:, genes[0] : genes[-1] + 1]
        blocks.append(values)
        counts = values.astype(np.float64)
        if scale in PER_10K:
            counts.data = np.expm1(counts.data) / PER_10K[scale]
        add_by_group(total, counts, group.code[part])
    return sparse.vstack(blocks, format="csr"), total / n_cells[:, None]


def _log2_fold_change(mean: np.ndarray, *, scale: Scale) -> np.ndarray:
    if scale in PER_10K:
        return np.log2((mean[1:] + PSEUDOCOUNT) / (mean[0] + PSEUDOCOUNT))
    return (mean[1:] - mean[0]) / np.log(2.0)


def _benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p of some tests."""
    order = np.argsort(p, kind="stable")
    stepped = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return adjusted
