"""Wasserstein distance and rank-sum test of many groups of cells against control: gene by gene, all groups at once.

The control of a gene is sorted once and every group's cells are looked up in it. With F the distribution of control and
c the constant level of a group's distribution between two of its neighbouring cells l and r, the integral of |c - F|
over [l, r] is closed in S(x), the integral of F up to x, and q, the c-quantile of control, where the sign turns.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr


@dataclass(frozen=True)
class TwoSample:
    """Results of one gene, (group,) each; NaN for groups without cells."""

    wasserstein: np.ndarray  # W1, in the unit of the values
    p: np.ndarray  # two-sided Mann-Whitney, normal approximation with ties and continuity, as scipy's
    u: np.ndarray  # Mann-Whitney U of the group: wins over control, ties half
    variance: np.ndarray  # of U where nothing was changed, ties counted; 0 where all values are equal


@dataclass(frozen=True)
class Groups:
    """The cells of the groups in order, group by group; made once for all genes."""

    order: np.ndarray  # (member,) positions of cells, group-major
    group: np.ndarray  # (member,) int64, ascending
    size: np.ndarray  # (group,)
    control: np.ndarray  # (control cell,)

    @classmethod
    def of(cls, code: Int[np.ndarray, " cell"], *, n_groups: int) -> "Groups":
        """Groups of cells by code: -1 is control, others below -1 take no part."""
        order = np.argsort(code, kind="stable")
        order = order[code[order] >= 0]
        group = code[order].astype(np.int64)
        return cls(order, group, np.bincount(group, minlength=n_groups), np.flatnonzero(code == -1))


def compare(values: Float[np.ndarray, " cell"], groups: Groups) -> TwoSample:
    """Wasserstein distance, rank-sum p and U of every group against control, for one gene."""
    control = np.sort(values[groups.control].astype(np.float64))
    members = values[groups.order].astype(np.float64)
    members = members[np.lexsort((members, groups.group))]  # ascending within each group
    below, upto = np.searchsorted(control, members, side="left"), np.searchsorted(control, members, side="right")
    distance = _wasserstein(control, members, upto, groups)
    u, variance = _rank_sum(control, members, below, upto, groups)
    p = stratified_p((u - groups.size * len(control) / 2)[None], variance[None], np.ones((1, len(u))))
    empty = groups.size == 0
    told = [np.where(empty, np.nan, found) for found in (distance, p, u, variance)]
    return TwoSample(*told)


def stratified_p(
    excess: Float[np.ndarray, "stratum group"],
    variance: Float[np.ndarray, "stratum group"],
    weight: Float[np.ndarray, "stratum group"],
) -> Float[np.ndarray, " group"]:
    """Two-sided p of Σ weight · excess, where excess is U - nm / 2 of each stratum and variance that of U.

    Normal approximation with continuity, of the largest weight; with one stratum the rank-sum test. With the weights
    1 / (n + m + 1) it is the test of van Elteren (1960).
    """
    total = (weight * excess).sum(axis=0)
    spread = np.sqrt(np.maximum((weight**2 * variance).sum(axis=0), 0.0))
    beyond = np.maximum(np.abs(total) - 0.5 * weight.max(axis=0), 0.0)
    z = np.divide(beyond, spread, out=np.zeros_like(total), where=spread > 3e-5 * weight.max(axis=0))
    return np.minimum(2 * ndtr(-z), 1.0)


def _wasserstein(
    control: Float[np.ndarray, " control"], members: Float[np.ndarray, " member"], upto: np.ndarray, groups: Groups
) -> Float[np.ndarray, " group"]:
    n_control, size = len(control), groups.size
    filled = np.flatnonzero(size)
    total = np.concatenate([[0.0], np.cumsum(control)])

    def area(x: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Integral of the control's distribution up to x, `count` of whose values are at most x."""
        return np.asarray((count * x - total[count]) / n_control)

    # Each group's cells with a sentinel at either end: level i/n holds between its cells i and i + 1
    lowest = min(control[0], members.min()) if len(members) else control[0]
    highest = max(control[-1], members.max()) if len(members) else control[-1]
    ends = np.cumsum(size[filled])
    starts = ends - size[filled]
    left = np.insert(members, starts, lowest)
    right = np.insert(members, ends, highest)
    left_count = np.insert(upto, starts, np.searchsorted(control, lowest, side="right"))
    right_count = np.insert(upto, ends, n_control)
    span = size[filled] + 1
    group = np.repeat(filled, span)
    level = np.arange(len(left)) - np.repeat(np.cumsum(span) - span, span)  # 0 ... n of the group
    c = level / size[group]
    at = -(-level * n_control // size[group]) - 1  # last control value below the c-quantile's step; -1 for c = 0
    quantile = np.where(at >= 0, control[np.maximum(at, 0)], lowest)
    turn = np.clip(quantile, left, right)
    turn_area = np.where(
        quantile <= left,
        area(left, left_count),
        np.where(quantile >= right, area(right, right_count), area(quantile, np.maximum(at + 1, 0))),
    )
    above = c * (turn - left) - (turn_area - area(left, left_count))
    under = (area(right, right_count) - turn_area) - c * (right - turn)
    return np.bincount(group, weights=above + under, minlength=len(size)).astype(np.float64)  # int64 without cells


def _rank_sum(
    control: Float[np.ndarray, " control"],
    members: Float[np.ndarray, " member"],
    below: np.ndarray,
    upto: np.ndarray,
    groups: Groups,
) -> tuple[np.ndarray, np.ndarray]:
    n, m, n_groups = groups.size.astype(np.float64), float(len(control)), len(groups.size)
    equal = (upto - below).astype(np.float64)
    u = np.bincount(groups.group, weights=below + equal / 2, minlength=n_groups)
    runs = np.diff(np.flatnonzero(np.concatenate([[True], control[1:] != control[:-1], [True]]))).astype(np.float64)
    ties = np.full(n_groups, (runs**3 - runs).sum())
    if len(members):
        new = np.concatenate([[True], (members[1:] != members[:-1]) | (groups.group[1:] != groups.group[:-1])])
        first = np.flatnonzero(new)
        times = np.diff(np.append(first, len(members))).astype(np.float64)
        shared = equal[first]
        joined = shared + times
        more = (joined**3 - joined) - (shared**3 - shared)
        ties += np.bincount(groups.group[first], weights=more, minlength=n_groups)
    total = n + m
    variance = n * m / 12 * (total + 1 - ties / np.maximum(total * (total - 1), 1))
    return u, np.where(variance > 1e-9, variance, 0.0)
