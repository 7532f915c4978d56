"""Row-wise sums, means and ranks over the genes of a mask; no mask means every gene."""

import numpy as np
from scipy import stats

from perturbcast._types import MaskByQuery, ProfileByQuery, ScoreByQuery

FLAT = 1e-20  # squared spread below this share of the squared values is rounding: the profile is constant


def row_sum(values: ProfileByQuery, mask: MaskByQuery | None) -> ScoreByQuery:
    """(query,) sum over the mask; 0 where it is empty."""
    return values.sum(axis=1) if mask is None else np.where(mask, values, 0.0).sum(axis=1)


def row_count(values: ProfileByQuery, mask: MaskByQuery | None) -> ScoreByQuery:
    """(query,) how many genes, as floats."""
    return np.full(len(values), float(values.shape[1])) if mask is None else mask.sum(axis=1).astype(float)


def ratio(above: ScoreByQuery, below: ScoreByQuery) -> ScoreByQuery:
    """(query,) above / below; NaN where below is 0."""
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def row_mean(values: ProfileByQuery, mask: MaskByQuery | None) -> ScoreByQuery:
    """(query,) mean over the mask; NaN where it is empty."""
    return ratio(row_sum(values, mask), row_count(values, mask))


def row_ranks(values: ProfileByQuery, mask: MaskByQuery | None) -> ProfileByQuery:
    """(query, gene) mid-ranks within each row over the mask, from 1; 0 outside it."""
    if mask is None:
        return np.asarray(stats.rankdata(values, axis=1), dtype=float)
    last = np.where(mask, values, np.inf)  # genes outside the mask take the ranks after all others
    return np.where(mask, stats.rankdata(last, axis=1), 0.0)
