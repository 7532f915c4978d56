"""Rank-sum tests of many small groups of cells against one fixed reference, in bounded memory.

The reference is sorted once; a group then costs one sort of its own non-zero values and one search in the reference.
Nothing is stacked or made dense, so drawn cells of one query at a time can be tested as they come. The statistic is
that of `scipy.stats.mannwhitneyu(method="asymptotic")`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import sparse
from scipy.special import ndtr

from perturbcast._types import Profile

SPAN = 64.0  # wider than any logarithm of expression, so that gene * SPAN + value sorts by gene, then by value


@dataclass(frozen=True)
class Reference:
    """A reference group: its non-zero values sorted within genes, and what the test needs of them."""

    keys: Float[ndarray, " value"]  # distinct gene * SPAN + value, ascending
    times: Float[ndarray, " value"]  # how often each occurs
    before: ndarray  # (value + 1,) non-zero values up to each distinct one, over all genes
    zeros: Profile  # cells of the reference in which the gene is silent
    ties: Profile  # sum of t^3 - t over groups of equal non-zero values
    n_cells: int


def _sorted_keys(values: sparse.csr_matrix) -> ndarray:
    """gene * SPAN + value of every positive entry, ascending."""
    positive = values.data > 0
    keys = values.indices[positive] * SPAN + values.data[positive].astype(np.float64)
    keys.sort()
    return keys


def _runs(keys: ndarray) -> tuple[ndarray, ndarray]:
    """Distinct keys and how often each occurs, of ascending keys."""
    if len(keys) == 0:
        return keys, np.zeros(0)
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.diff(np.append(first, len(keys))).astype(np.float64)


def _by_gene(gene: ndarray, weights: ndarray, n_genes: int) -> Profile:
    """Weights summed within each gene."""
    return np.bincount(gene, weights=weights, minlength=n_genes).astype(np.float64)


def reference(values: sparse.csr_matrix) -> Reference:
    """The reference group of some cells; values are log expression, none negative, below `SPAN`."""
    n_cells, n_genes = values.shape
    keys, times = _runs(_sorted_keys(values))
    gene = (keys // SPAN).astype(np.int64)
    return Reference(
        keys=keys,
        times=times,
        before=np.concatenate([[0.0], np.cumsum(times)]),
        zeros=n_cells - _by_gene(gene, times, n_genes),
        ties=_by_gene(gene, times**3 - times, n_genes),
        n_cells=n_cells,
    )


def rank_sum(against: Reference, values: sparse.csr_matrix) -> tuple[Profile, Profile]:
    """Signed normal score and two-sided p per gene of some cells against the reference.

    Mid-ranks for ties, tie-corrected variance, continuity correction of one half. A gene without variance has z 0, p 1.
    """
    n, m, n_genes = values.shape[0], against.n_cells, values.shape[1]
    keys, times = _runs(_sorted_keys(values))
    gene = (keys // SPAN).astype(np.int64)
    place = np.searchsorted(against.keys, keys)
    found = np.minimum(place, max(len(against.keys) - 1, 0))
    equal = np.zeros(len(keys))
    if len(against.keys):
        equal = np.where(against.keys[found] == keys, against.times[found], 0.0)
    in_gene = np.cumsum(against.n_cells - against.zeros)
    below = against.before[place] - np.concatenate([[0.0], in_gene])[gene]
    silent = n - _by_gene(gene, times, n_genes)
    wins = times * (against.zeros[gene] + below + equal / 2)
    u = _by_gene(gene, wins, n_genes) + silent * against.zeros / 2
    joined, both_silent = equal + times, silent + against.zeros
    ties = (
        against.ties + _by_gene(gene, (joined**3 - joined) - (equal**3 - equal), n_genes) + both_silent**3 - both_silent
    )
    total = float(n + m)
    variance = np.maximum(n * m / 12 * (total + 1 - ties / max(total * (total - 1), 1.0)), 0.0)
    excess = u - n * m / 2
    corrected = np.sign(excess) * np.maximum(np.abs(excess) - 0.5, 0.0)
    z = np.divide(corrected, np.sqrt(variance), out=np.zeros(n_genes), where=variance > 1e-9)
    return z, np.minimum(2 * ndtr(-np.abs(z)), 1.0)
