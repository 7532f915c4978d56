"""Counts behind differences of log pseudobulks: responses lie on a lattice, from which they are read back exactly.

A response log(1 + s k / n) - level, of a gene counted k times among the n of a pseudobulk, takes the value -level
wherever the gene was not seen; above it, exp(response + level) - 1 is a whole multiple of what one count is worth.
Pseudobulks of one and the same depth cannot be told so: there every count repeats itself.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from perturbcast._types import ProfileByQuery

SAME = 2e-6  # responses this near are the same number: files hold single precision
WHOLE = 0.02  # counts this near a whole number are whole
HIGHEST = 3000  # counts that single precision can tell to be whole
FEWEST_ZEROS = 5  # queries without a count of a gene, by which its level is known at first
FEWEST_VALUES = 12  # of genes of known level, from which the worth of one count is told
FEWEST_CHECKS = 8  # queries whose counts must be whole for a level to be believed
CANDIDATES = 30  # values tried as the worth of one count
WIDEST = 40.0  # no two logarithms of counts lie further apart
BASES = (np.e, 2.0, 10.0)  # of the logarithm


@dataclass(frozen=True)
class Counts:
    """What was counted: counts = (exp(unit * response + level) - 1) / one."""

    one: Float[np.ndarray, " query"]  # what one count is worth before the logarithm, s / n
    level: Float[np.ndarray, " gene"]  # ln(1 + x) of control; NaN where it was not found
    unit: float  # of the response in natural logarithms

    def of(self, response: ProfileByQuery) -> ProfileByQuery:
        """(query, gene) whole numbers, NaN for genes without a level."""
        return np.maximum(np.round(np.expm1(self.unit * response + self.level) / self.one[:, None]), 0.0)

    def response(self, natural: ProfileByQuery) -> ProfileByQuery:
        """Responses of values of ln(1 + x), for genes with a level."""
        return (natural - self.level[np.isfinite(self.level)]) / self.unit


def counts_behind(response: ProfileByQuery) -> Counts | None:
    """The counts that responses were made of; None where they are no differences of log(1 + count), base e, 2 or 10."""
    if not response.size or not np.ptp(response) < WIDEST:
        return None
    lowest = response.min(axis=0)
    above = response - lowest
    at_zero = (above < SAME).sum(axis=0) >= FEWEST_ZEROS
    if at_zero.sum() < FEWEST_VALUES:
        return None
    for unit in np.log(BASES):
        one = _one_counts(unit * above[:, at_zero])
        if one is not None:
            whole = _whole(np.expm1(unit * above) / one[:, None]).all(axis=0)
            level = np.where(at_zero & whole, -unit * lowest, np.nan)
            for gene in np.flatnonzero(np.isnan(level)):
                level[gene] = _level(unit * response[:, gene], one)
            return Counts(one, level, float(unit))
    return None


def _one_counts(above: ProfileByQuery) -> Float[np.ndarray, " query"] | None:
    """What one count is worth in each query, by genes whose lowest value is no count; None where one does not tell."""
    one = np.empty(len(above))
    for row, own in enumerate(above):
        one[row] = _one_count(np.expm1(own))
        if np.isnan(one[row]):
            return None
    return one


def _whole(counts: np.ndarray) -> Bool[np.ndarray, "..."]:
    return (np.abs(counts - np.round(counts)) < WHOLE) | (counts > HIGHEST)


def _one_count(values: Float[np.ndarray, " value"]) -> float:
    """The largest of the commonest values of which the smaller half are whole multiples; NaN if none is."""
    values = np.sort(values[values > 1e-4])
    if len(values) < FEWEST_VALUES:
        return np.nan
    first = np.flatnonzero(np.r_[True, np.diff(values) >= 2 * SAME * np.maximum(values[1:], 1.0)])
    size = np.diff(np.r_[first, len(values)])
    common = values[first][np.argsort(-size, kind="stable")[:CANDIDATES]]
    small = values[values <= np.median(values)]
    multiples = small / common[:, None]
    whole = (np.abs(multiples - np.round(multiples)) < WHOLE) & (multiples > 0.5)
    fitting = common[whole.mean(axis=1) > 0.98]
    return float(fitting.max()) if len(fitting) else np.nan


def _level(response: Float[np.ndarray, " query"], one: Float[np.ndarray, " query"]) -> float:
    """The level of a gene, from the count in the query of fewest that makes all others whole; NaN if none does."""
    order = np.argsort(response - np.log(one))
    rarest, others = order[0], order[1:]
    levels = np.log1p(one[rarest] * np.arange(HIGHEST)) - response[rarest]
    for _ in range(len(others) // FEWEST_CHECKS):
        checked, others = others[:FEWEST_CHECKS], others[FEWEST_CHECKS:]
        counts = np.expm1(response[checked, None] + levels) / one[checked, None]
        fits = (counts > -WHOLE) & _whole(counts)
        levels = levels[fits.all(axis=0) & ((counts < HIGHEST).sum(axis=0) >= FEWEST_CHECKS // 2)]
        if len(levels) <= 1:
            break
    return float(levels[0]) if len(levels) == 1 else np.nan
