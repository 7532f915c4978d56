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

    keys: Float[ndarray, " nonzero"]  # gene * SPAN + value, ascending
    start: ndarray  # (gene + 1,) where each gene begins in `keys`
    ties: Profile  # sum of t^3 - t over groups of equal non-zero values
    n_cells: int

    @property
    def zeros(self) -> Profile:
        """(gene,) cells of the reference in which the gene is silent."""
        return self.n_cells - np.diff(self.start).astype(np.float64)


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


def _by_gene(keys: ndarray, weights: ndarray, n_genes: int) -> Profile:
    """Weights summed over the keys of each gene."""
    return np.bincount((keys // SPAN).astype(np.int64), weights=weights, minlength=n_genes).astype(np.float64)


def reference(values: sparse.csr_matrix) -> Reference:
    """The reference group of some cells; values are log expression, none negative, below `SPAN`."""
    n_genes = values.shape[1]
    keys = _sorted_keys(values)
    distinct, times = _runs(keys)
    counts = np.bincount((keys // SPAN).astype(np.int64), minlength=n_genes)
    return Reference(
        keys=keys,
        start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        ties=_by_gene(distinct, times**3 - times, n_genes),
        n_cells=values.shape[0],
    )


def rank_sum(against: Reference, values: sparse.csr_matrix) -> tuple[Profile, Profile]:
    """Signed normal score and two-sided p per gene of some cells against the reference.

    Mid-ranks for ties, tie-corrected variance, continuity correction of one half. A gene without variance has z 0, p 1.
    """
    n, m, n_genes = values.shape[0], against.n_cells, values.shape[1]
    keys, times = _runs(_sorted_keys(values))
    gene = (keys // SPAN).astype(np.int64)
    below = np.searchsorted(against.keys, keys, side="left")
    equal = (np.searchsorted(against.keys, keys, side="right") - below).astype(np.float64)
    silent_reference = against.zeros
    silent = n - _by_gene(keys, times, n_genes)
    wins = times * (silent_reference[gene] + (below - against.start[gene]) + equal / 2)
    u = _by_gene(keys, wins, n_genes) + silent * silent_reference / 2
    joined, both_silent = equal + times, silent + silent_reference
    ties = (
        against.ties + _by_gene(keys, (joined**3 - joined) - (equal**3 - equal), n_genes) + both_silent**3 - both_silent
    )
    total = float(n + m)
    variance = np.maximum(n * m / 12 * (total + 1 - ties / max(total * (total - 1), 1.0)), 0.0)
    excess = u - n * m / 2
    corrected = np.sign(excess) * np.maximum(np.abs(excess) - 0.5, 0.0)
    z = np.divide(corrected, np.sqrt(variance), out=np.zeros(n_genes), where=variance > 1e-9)
    return z, np.minimum(2 * ndtr(-np.abs(z)), 1.0)
