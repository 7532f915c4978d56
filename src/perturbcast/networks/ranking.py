"""Ranking scores of pairs of genes: areas under curves with ties counted fairly, in numpy."""

import numpy as np
from jaxtyping import Bool, Float


def average_precision(score: Float[np.ndarray, " pair"], is_true: Bool[np.ndarray, " pair"]) -> float:
    """Area under the precision-recall curve as average precision; tied pairs enter together; NaN without a true pair.

    A perfect ranking has 1, a constant score the share of true pairs.
    """
    if not is_true.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    ends = _last_of_ties(score[order])
    hits = np.cumsum(is_true[order])[ends]
    precision = hits / (ends + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / hits[-1])


def area_under_roc(score: Float[np.ndarray, " pair"], is_true: Bool[np.ndarray, " pair"]) -> float:
    """Chance that a true pair scores above a false one, ties half; NaN where one of the two kinds is missing."""
    n_true, n_false = int(is_true.sum()), int((~is_true).sum())
    if not n_true or not n_false:
        return float("nan")
    from scipy.stats import rankdata

    wins = rankdata(score)[is_true].sum() - n_true * (n_true + 1) / 2
    return float(wins / (n_true * n_false))


def expected_hits(score: Float[np.ndarray, " pair"], value: Float[np.ndarray, " pair"], k: int) -> float:
    """Sum of `value` over the k best pairs, expected over random orders within ties."""
    k = min(k, len(score))
    if k == 0:
        return 0.0
    cut = np.partition(score, len(score) - k)[len(score) - k]
    above, tied = score > cut, score == cut
    return float(value[above].sum() + value[tied].mean() * (k - above.sum()))


def _last_of_ties(ordered: Float[np.ndarray, " pair"]) -> np.ndarray:
    """Positions at which a run of equal scores ends."""
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
