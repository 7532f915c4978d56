"""Efron's empirical null and local false discovery rate: which deviations are too large to be noise (spec D-11).

The bulk of many values, most of them null, is fitted by a normal of free mean, spread and share (maximum likelihood on
the central values); the density of all values by Poisson regression of histogram counts on a natural spline. The local
false discovery rate is their ratio, and the thresholds are where it falls to `rate` on either side. Differs from the
locfdr package: the central 60 % (spec: 50 to 70 %) instead of a rule by sample size, and a histogram between the
0.1 % and 99.9 % quantiles, since a few far outliers would make its bins wider than the null. Spec: the share p0 is
sensitive to such choices (.83 to .99 on the Norman doubles), the thresholds less so.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import optimize, stats

from perturbcast.errors import BadOption, NoVariance, TooFewCells

CENTRAL = 0.6  # share of the values that the null is fitted to
N_BINS, DEGREES = 120, 7  # spec D-11
TRIMMED = 0.001  # of the histogram, each side
LEAST = 100  # values
Values = Float[ndarray, " value"]
OnBins = Float[ndarray, " bin"]


@dataclass(frozen=True)
class EmpiricalNull:
    """A normal null for most of some values, and where values stop being credible under it."""

    center: float
    spread: float
    share: float  # p0, of all values
    lower: float  # below it the local false discovery rate is under `rate`; -inf where it never is
    upper: float
    rate: float
    at: OnBins  # centers of the histogram's bins
    local_fdr: OnBins  # there, at most 1

    def significant(self, values: ndarray) -> ndarray:
        """Which values lie outside the thresholds."""
        return (values < self.lower) | (values > self.upper)


def empirical_null(values: ndarray, *, rate: float = 0.05, central: float = CENTRAL) -> EmpiricalNull:
    """The empirical null of some values of any shape.

    Raises BadOption for a rate or a central share outside (0, 1), TooFewCells for fewer than 100 values,
    NoVariance where the central values are all equal.
    """
    if not (0 < rate < 1 and 0 < central < 1):
        raise BadOption(f"rate {rate} and central {central} must lie between 0 and 1.")
    values = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if len(values) < LEAST:
        raise TooFewCells(f"{len(values)} values are too few for an empirical null; at least {LEAST} are needed.", "")
    center, spread, share = _fit_null(values, central=central)
    at, density = fitted_density(values)
    with np.errstate(under="ignore"):
        fdr = np.minimum(share * stats.norm.pdf(at, center, spread) / density, 1.0)
    lower, upper = _crossing(at, fdr, center, rate, side=-1), _crossing(at, fdr, center, rate, side=1)
    return EmpiricalNull(center, spread, share, lower, upper, rate, at, fdr)


def _fit_null(values: Values, *, central: float) -> tuple[float, float, float]:
    """Mean, standard deviation and share of a normal, by likelihood of the central values truncated to their range."""
    low, high = (float(np.quantile(values, (1 + side * central) / 2)) for side in (-1, 1))
    inside = values[(values >= low) & (values <= high)]
    if high <= low:
        raise NoVariance("the central values are all equal, so no null can be fitted to them.", "")
    start = np.array([np.median(inside), np.log((high - low) / (2 * stats.norm.ppf((1 + central) / 2)))])

    average, variance = float(inside.mean()), float(inside.var())

    def negative(theta: ndarray) -> float:
        center, spread = float(theta[0]), float(np.exp(theta[1]))
        covered = float(stats.norm.cdf((high - center) / spread) - stats.norm.cdf((low - center) / spread))
        squares = (variance + (average - center) ** 2) / spread**2
        return 0.5 * squares + float(theta[1]) + float(np.log(max(covered, 1e-300)))

    found = optimize.minimize(negative, start, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9})
    center, spread = float(found.x[0]), float(np.exp(found.x[1]))
    covered = float(stats.norm.cdf((high - center) / spread) - stats.norm.cdf((low - center) / spread))
    return center, spread, float(min(1.0, len(inside) / len(values) / max(covered, 1e-12)))


def fitted_density(values: Values, *, n_bins: int = N_BINS, degrees: int = DEGREES) -> tuple[OnBins, OnBins]:
    """Centers of histogram bins and a smooth density there: Poisson regression on a natural spline (Lindsey)."""
    low, high = (float(np.quantile(values, share)) for share in (TRIMMED, 1 - TRIMMED))
    counts, edges = np.histogram(values, bins=n_bins, range=(low, high))
    at = (edges[:-1] + edges[1:]) / 2
    fitted = poisson_regression(natural_spline(at, degrees=degrees), counts.astype(np.float64))
    return at, np.maximum(fitted / (len(values) * (edges[1] - edges[0])), 1e-300)


def natural_spline(at: Values, *, degrees: int) -> Float[ndarray, "value column"]:
    """A constant and a natural cubic spline basis of that many degrees of freedom, columns orthonormal.

    Knots at equally spaced quantiles of `at`; linear beyond the outermost.
    """
    unit = (at - at.min()) / (at.max() - at.min())
    knots = np.quantile(unit, np.linspace(0, 1, degrees + 1))
    cubes = np.maximum(unit[:, None] - knots, 0.0) ** 3
    slopes = (cubes[:, :-1] - cubes[:, -1:]) / (knots[-1] - knots[:-1])
    basis = np.column_stack([np.ones_like(unit), unit, slopes[:, :-1] - slopes[:, -1:]])
    return np.linalg.qr(basis)[0]


def poisson_regression(
    basis: Float[ndarray, "value column"], counts: Values, *, most: int = 100
) -> Float[ndarray, " value"]:
    """Fitted means of a Poisson regression with logarithmic link, by iteratively reweighted least squares."""
    linear = np.log(counts + 0.5)
    before = np.inf
    for _ in range(most):
        mean = np.exp(linear)
        working = linear + (counts - mean) / mean
        root = np.sqrt(mean)
        weight = np.linalg.lstsq(basis * root[:, None], working * root, rcond=None)[0]
        linear = np.clip(basis @ weight, -30.0, 30.0)
        deviance = float((np.exp(linear) - counts * linear).sum())
        if abs(before - deviance) < 1e-9 * (1 + abs(deviance)):
            break
        before = deviance
    return np.exp(linear)


def _crossing(at: OnBins, fdr: OnBins, center: float, rate: float, *, side: int) -> float:
    """Where the rate is first reached going outward from the centre, interpolated; infinite if it never is."""
    outward = np.flatnonzero(side * (at - center) > 0)[::side]
    under = np.flatnonzero(fdr[outward] <= rate)
    if len(under) == 0:
        return side * np.inf
    last, first = outward[max(under[0] - 1, 0)], outward[under[0]]
    if last == first or fdr[last] == fdr[first]:
        return float(at[first])
    part = (fdr[last] - rate) / (fdr[last] - fdr[first])
    return float(at[last] + part * (at[first] - at[last]))
