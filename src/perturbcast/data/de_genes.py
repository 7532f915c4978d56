"""Lists of differential genes: which order, which genes may enter, and how ties are broken.

Ties are broken by gene name, never by the order of a sort (spec 0.5). Genes without a score come last.
"""

import numpy as np
from jaxtyping import Int

from perturbcast._types import MaskByQuery, ProfileByQuery
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import MetricNeeds


def gene_order(score: ProfileByQuery, *, genes: np.ndarray) -> Int[np.ndarray, "query gene"]:
    """Gene indices by falling abs(score), equal ones by name; NaN last."""
    by_name = np.argsort(genes.astype(str), kind="stable")
    size = np.where(np.isnan(score), -1.0, np.abs(score))[:, by_name]
    return by_name[np.argsort(-size, axis=1, kind="stable")]


def mid_ranks(score: ProfileByQuery) -> ProfileByQuery:
    """Rank of each gene by falling abs(score), 1 the largest; equal ones share the mean of their ranks (spec 0.5)."""
    from scipy.stats import rankdata

    return rankdata(-np.abs(score), axis=1, method="average")


def top_genes(score: ProfileByQuery, *, genes: np.ndarray, k: int, eligible: MaskByQuery | None = None) -> MaskByQuery:
    """(query, gene) bool: the `k` genes of largest abs(score) of each query, among `eligible` ones (default: all).

    Fewer where fewer are eligible; a NaN score is never in. With `score` the response itself this is the list of spec
    F-3, with `t_scores` that of GEARS (C.1).
    """
    order = gene_order(score, genes=genes)
    allowed = ~np.isnan(score) if eligible is None else eligible & ~np.isnan(score)
    ordered = np.take_along_axis(allowed, order, axis=1)
    within = ordered & (np.cumsum(ordered, axis=1) <= k)
    top = np.zeros_like(within)
    np.put_along_axis(top, order, within, axis=1)
    return top


def t_scores(table: ResponseTable, *, overestimate_variance: bool = False) -> ProfileByQuery:
    """Welch t of each query against its control, from the moments in the table; 0 where nothing varies.

    The score by which GEARS orders genes (spec C.1: scanpy's `t-test`); `overestimate_variance` gives control as few
    cells as the query has (scanpy's `t-test_overestim_var`). Queries of one cell have NaN. Raises MetricNeeds if the
    table has no variances, as one read from a file of responses.
    """
    if table.variance is None or table.control_variance is None or table.n_cells is None or table.n_control is None:
        raise MetricNeeds("t scores need the variance between cells, and this table has only responses.")
    n_control = table.n_cells if overestimate_variance else table.n_control[table.context_code]
    noise = table.variance / table.n_cells[:, None] + table.control_variance[table.context_code] / n_control[:, None]
    scale = np.sqrt(noise)
    return np.divide(table.response, scale, out=np.where(np.isnan(scale), np.nan, 0.0), where=scale > 0)


def non_zero_genes(table: ResponseTable) -> MaskByQuery:
    """Genes seen in at least one cell of the query (GEARS `non_zeros_gene_idx`, spec C.1)."""
    return ~_is_zero(_expression(table), table)


def non_dropout_genes(table: ResponseTable) -> MaskByQuery:
    """Genes seen in the query, or in neither it nor control (GEARS `non_dropout_gene_idx`, spec C.1)."""
    unseen = _is_zero(_expression(table), table)
    return ~unseen | (table.control_by_query == 0)


def gears_top_genes(table: ResponseTable, *, k: int = 20, drop: str = "dropout") -> MaskByQuery:
    """The `k` genes of largest abs(t) among the non-dropout (`drop="dropout"`) or non-zero (`"zero"`) ones (spec C.1).

    Differs from the code: equal scores are ordered by gene name instead of by the sort.
    """
    eligible = {"dropout": non_dropout_genes, "zero": non_zero_genes}[drop](table)
    return top_genes(t_scores(table), genes=table.genes, k=k, eligible=eligible)


def _expression(table: ResponseTable) -> np.ndarray:
    if not table.has_control:
        raise MetricNeeds("Which genes are seen at all is known from expression, and this table has only responses.")
    return table.expression


def _is_zero(expression: np.ndarray, table: ResponseTable) -> np.ndarray:
    """Control plus response of an unseen gene is 0 up to rounding of the subtraction."""
    return np.abs(expression) <= 1e-12 * np.maximum(np.abs(table.control_by_query), 1e-3)
