"""Wilcoxon's signed-rank test of many columns at once, and Benjamini-Hochberg's adjustment."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats


def signed_rank_p(differences: Float[ndarray, "condition column"]) -> Float[ndarray, " column"]:
    """Two-sided p of no difference, by the normal approximation without continuity correction; NaN without data.

    Zeros and NaN take no part. The variance is that of random signs on the ranks at hand, so ties are corrected for.
    """
    usable = np.isfinite(differences) & (differences != 0)
    if not usable.any():
        return np.full(differences.shape[1], np.nan)
    ranks = stats.rankdata(np.where(usable, np.abs(differences), np.inf), axis=0)  # unusable ones rank last
    ranks = np.where(usable, ranks, 0.0)
    excess = (ranks * np.sign(np.where(usable, differences, 0.0))).sum(axis=0)
    spread = np.sqrt((ranks**2).sum(axis=0))
    z = np.divide(excess, spread, out=np.full(len(spread), np.nan), where=spread > 0)
    return 2 * stats.norm.sf(np.abs(z))


def adjust(p: Float[ndarray, " column"]) -> Float[ndarray, " column"]:
    """Benjamini-Hochberg adjusted p; NaN stay NaN and do not count."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    if len(known):
        adjusted[known] = stats.false_discovery_control(p[known])
    return adjusted
