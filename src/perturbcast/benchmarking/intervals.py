"""Intervals of mean scores: a studentised bootstrap over conditions, in which conditions that share a gene go together.

A mean score is a ratio of sums over conditions, `sum(total) / sum(count)`, so that a condition scored under several
seeds or folds is one cluster. Genes are drawn with replacement; a condition weighs the product of the multiplicities
of its genes (spec F.13: keep the pairs whose both genes were drawn). With single perturbations only, this is the
usual bootstrap over conditions.

Differs from the spec: the percentiles of that bootstrap cover far more than 95 % when genes matter little (the weights
of pairs have three times the variance they should have) and less than 95 % for few, skewed scores. So each resample
is divided by its own standard error, robust to shared genes, and its quantiles scale the standard error of the data
(bootstrap-t); the quantiles are mixed with those of a bootstrap of whole conditions by the share of the standard error
that genes explain, and are never closer than Student's. benchmarks/interval_coverage.py measures the coverage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import sparse, stats

from perturbcast.data.conditions import targets_of

SMALLEST_SE = 0.4  # a resample's standard error is at least this share of the data's: copies of one score have none


@dataclass(frozen=True)
class Resamples:
    """Bootstrap weights of conditions, drawn once and used for every model, metric and difference."""

    conditions: tuple[str, ...]
    genes_of: sparse.csr_matrix  # (condition, gene) 0/1
    multiplicity: Float[ndarray, "gene resample"]
    weight: Float[ndarray, "condition resample"]  # product of the multiplicities of a condition's genes
    apart: "Resamples | None"  # the same with each condition drawn by itself, where conditions share genes

    @property
    def shares_genes(self) -> bool:
        """Whether some gene is in more than one condition."""
        return self.apart is not None


@dataclass(frozen=True)
class Interval:
    """Means and the ends of their intervals, one per column; NaN where there are fewer than two conditions."""

    mean: Float[ndarray, " column"]
    low: Float[ndarray, " column"]
    high: Float[ndarray, " column"]


def draw_resamples(conditions: Sequence[str], *, n_bootstrap: int = 1000, seed: int = 0) -> Resamples:
    """Weights of `n_bootstrap` resamples of the genes of these conditions (each condition once)."""
    genes = [targets_of(condition) or (condition,) for condition in conditions]
    generator = np.random.default_rng(seed)
    resamples = _drawn(conditions, genes, n_bootstrap, generator)
    if resamples.genes_of.shape[1] == resamples.genes_of.nnz:
        return resamples
    alone = [(condition,) for condition in conditions]
    return replace(resamples, apart=_drawn(conditions, alone, n_bootstrap, generator))


def _drawn(
    conditions: Sequence[str], genes: Sequence[tuple[str, ...]], n_bootstrap: int, generator: np.random.Generator
) -> Resamples:
    """Resamples in which each of the genes named is drawn with replacement."""
    known = sorted({gene for named in genes for gene in named})
    position = {gene: row for row, gene in enumerate(known)}
    columns = [position[gene] for named in genes for gene in named]
    starts = np.concatenate([[0], np.cumsum([len(named) for named in genes])])
    genes_of = sparse.csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(genes), len(known)))
    drawn = generator.integers(0, len(known), (n_bootstrap, len(known)))
    multiplicity = np.stack([np.bincount(row, minlength=len(known)) for row in drawn], axis=1).astype(float)
    weight = np.stack([multiplicity[[position[gene] for gene in named]].prod(axis=0) for named in genes])
    return Resamples(tuple(conditions), genes_of, multiplicity, weight, None)


def mean_interval(
    total: Float[ndarray, "condition column"],
    count: Float[ndarray, "condition column"],
    resamples: Resamples,
    *,
    level: float = 0.95,
) -> Interval:
    """Mean `sum(total) / sum(count)` of each column with its interval; `count` is 0 where a condition has no score."""
    sums = count.sum(axis=0)
    mean = np.divide(total.sum(axis=0), sums, out=np.full(total.shape[1], np.nan), where=sums > 0)
    enough = (count > 0).sum(axis=0) >= 2
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    if enough.any():
        ends = _ends(total[:, enough], count[:, enough], mean[enough], resamples, level)
        low[enough], high[enough] = ends
    return Interval(mean, low, high)


def _ends(
    total: np.ndarray, count: np.ndarray, mean: np.ndarray, resamples: Resamples, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends: the mean minus quantiles of the studentised deviation times the standard error."""
    apart = resamples.apart or resamples
    se_apart, se = (_standard_error(total, count, mean, kind) for kind in (apart, resamples))
    tails = [(1 + level) / 2, (1 - level) / 2]
    quantiles = np.quantile(_studentised(total, count, mean, se_apart, apart), tails, axis=0, method="weibull")
    if resamples.shares_genes:
        by_gene = np.quantile(_studentised(total, count, mean, se, resamples), tails, axis=0, method="weibull")
        ratio = np.divide(se_apart, se, out=np.ones_like(se), where=se > 0)
        share = np.sqrt(np.maximum(1 - ratio**2, 0.0))
        quantiles = share * by_gene + (1 - share) * quantiles
    student = stats.t.ppf(tails[0], (count > 0).sum(axis=0) - 1)
    return mean - np.maximum(quantiles[0], student) * se, mean - np.minimum(quantiles[1], -student) * se


def _standard_error(total: np.ndarray, count: np.ndarray, mean: np.ndarray, resamples: Resamples) -> np.ndarray:
    """(column,) standard error of a mean: the larger of the one for independent conditions and the one for genes."""
    residual, n_scored = total - mean * count, (count > 0).sum(axis=0)
    variance = (residual**2).sum(axis=0) * n_scored / (n_scored - 1)
    if resamples.shares_genes:
        by_gene = ((resamples.genes_of.T @ residual) ** 2).sum(axis=0)
        variance = np.maximum(variance, by_gene - _counted_twice(residual**2, resamples))
    return np.sqrt(variance) / count.sum(axis=0)


def _counted_twice(square: np.ndarray, resamples: Resamples) -> np.ndarray:
    """(column,) squares that a sum over genes counts once too often: a condition of k genes is in k of its terms."""
    extra = np.asarray(resamples.genes_of.sum(axis=1)).ravel() - 1
    return extra @ square


def _studentised(
    total: np.ndarray, count: np.ndarray, mean: np.ndarray, se: np.ndarray, resamples: Resamples
) -> np.ndarray:
    """(resample, column) deviation of each resample's mean from the mean, over that resample's standard error."""
    weight, n_scored = resamples.weight.T, (count > 0).sum(axis=0)  # (resample, condition), (column,)
    sums, counts = weight @ total, weight @ count
    drawn = counts > 0
    safe = np.where(drawn, counts, 1.0)
    resampled = sums / safe
    square = weight @ total**2 - 2 * resampled * (weight @ (total * count)) + resampled**2 * (weight @ count**2)
    square = np.maximum(square, 0.0)  # rounding
    variance = square * n_scored / (n_scored - 1)
    if resamples.shares_genes:
        variance = np.maximum(variance, _gene_variance(total, count, resampled, resamples))
    own_se = np.maximum(np.sqrt(variance) / safe, SMALLEST_SE * se)
    return np.divide(resampled - mean, own_se, out=np.zeros_like(resampled), where=drawn & (own_se > 0))


def _gene_variance(total: np.ndarray, count: np.ndarray, resampled: np.ndarray, resamples: Resamples) -> np.ndarray:
    """(resample, column) variance of a resample's sum when conditions that share a drawn copy of a gene covary."""
    weight, multiplicity = resamples.weight, resamples.multiplicity
    per_copy = np.divide(1.0, multiplicity, out=np.zeros_like(multiplicity), where=multiplicity > 0)
    extra = np.asarray(resamples.genes_of.sum(axis=1)).ravel() - 1
    genes_by_condition = resamples.genes_of.T.tocsr()
    variance = np.empty_like(resampled)
    for column in range(total.shape[1]):
        scored = np.flatnonzero(count[:, column])
        kept = weight[scored]
        residual = total[scored, column, None] - resampled[:, column] * count[scored, column, None]
        weighted = kept * residual  # (condition, resample)
        by_gene = genes_by_condition[:, scored] @ weighted  # (gene, resample)
        twice = np.einsum("c,cr,cr->r", extra[scored], weighted, residual)
        variance[:, column] = np.einsum("gr,gr,gr->r", by_gene, by_gene, per_copy) - twice
    return variance
