"""The exact mean of ln(1 + CP10k) of a gene, over depth, negative binomial noise and the noise of the library size."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline, RectBivariateSpline

PER = 1e4  # counts per 10,000
SHARE_NODES = 48  # grid of ln share, interpolated by cubic splines
DISPERSION_NODES = 8
DEPTH_NODES = 9  # Gauss-Hermite nodes over ln depth
STEP = 0.4  # of the trapezoid rule in ln t: the integrand is analytic and decays doubly exponentially


def mean_log1p(
    share: Float[np.ndarray, "*grid"],
    dispersion: Float[np.ndarray, "*grid"],
    *,
    depth: float,
    depth_spread: float,
    library_cv2: float,
) -> Float[np.ndarray, "*grid"]:
    """E[ln(1 + 1e4 c / T)], T = c + R, for a gene that has `share` of the molecules; 0 where T is 0.

    Per cell: ln depth is normal (median `depth`, sd `depth_spread`), c negative binomial with mean depth * share and
    the `dispersion` (variance = mean + dispersion * mean^2), R the other genes: gamma with their mean and variance.
    `library_cv2`: sum of dispersion * share^2 over all genes, the squared coefficient of variation of T beyond Poisson.

    From ln x - ln y = integral over t of (e^-ty - e^-tx) / t and the Laplace transform of the negative binomial,
    M(t) = (1 + dispersion * mean * (1 - e^-t))^(-1/dispersion):
    E[ln(R + 10001 c) - ln(R + c)] = integral over v = ln t of E[e^-tR] (M(t) - M(10001 t)).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(DEPTH_NODES)
    # The others' part of the noise; a floor where a share on the grid is larger than any gene of the world has.
    others = np.maximum(library_cv2 - dispersion * share**2, 0.02 * library_cv2) / (1 - share) ** 2
    total = np.zeros(np.broadcast(share, dispersion).shape)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        deep = depth * float(np.exp(depth_spread * node))
        total += weight * _given_depth(share, dispersion, deep, others + 1 / (deep * (1 - share)))
    return total


def _given_depth(
    share: Float[np.ndarray, "*grid"],
    dispersion: Float[np.ndarray, "*grid"],
    depth: float,
    rest_cv2: Float[np.ndarray, "*grid"],
) -> Float[np.ndarray, "*grid"]:
    mean = depth * share
    result = np.zeros(np.broadcast(share, dispersion).shape)
    for shift in np.arange(-34.0, 6.0, STEP):
        t = np.exp(shift) / depth
        rest = np.exp(-np.log1p(rest_cv2 * t * depth * (1 - share)) / rest_cv2)
        result += rest * (_laplace(mean, dispersion, t) - _laplace(mean, dispersion, (1 + PER) * t))
    return STEP * result


def _laplace(mean: np.ndarray, dispersion: np.ndarray, t: float) -> np.ndarray:
    return np.exp(-np.log1p(dispersion * mean * -np.expm1(-t)) / dispersion)


@dataclass(frozen=True, eq=False)
class ExpectedExpression:
    """`mean_log1p` per gene as a cubic spline of ln share, for one distribution of depth."""

    lowest: float
    step: float
    coefficients: np.ndarray  # (4, interval, gene), highest power first

    def __call__(self, log_share: Float[np.ndarray, "*state gene"]) -> Float[np.ndarray, "*state gene"]:
        """Mean expression of each gene at each ln share; the spline adds an error of about 1e-4."""
        place = (log_share - self.lowest) / self.step
        interval = np.clip(place.astype(np.int64), 0, self.coefficients.shape[1] - 1)
        offset = (place - interval) * self.step
        gene = np.broadcast_to(np.arange(log_share.shape[-1]), log_share.shape)
        result = self.coefficients[0][interval, gene]
        for power in (1, 2, 3):
            result = result * offset + self.coefficients[power][interval, gene]
        return result


def expected_expression(
    log_share: Float[np.ndarray, " gene"],
    dispersion: Float[np.ndarray, " gene"],
    *,
    depth: float,
    depth_spread: float,
) -> ExpectedExpression:
    """The spline for genes of these dispersions; `log_share` of control gives the noise of the library size."""
    share = np.exp(log_share)
    grid = np.linspace(np.log(1e-9), np.log(0.98), SHARE_NODES)
    low, high = np.log(dispersion.min()) - 0.1, np.log(dispersion.max()) + 0.1
    noise = np.linspace(low, high, DISPERSION_NODES)
    table = mean_log1p(
        np.exp(grid)[:, None] * np.ones_like(noise),
        np.exp(noise) * np.ones_like(grid)[:, None],
        depth=depth,
        depth_spread=depth_spread,
        library_cv2=float((dispersion * share**2).sum()),
    )
    surface = RectBivariateSpline(grid, noise, table)
    per_gene = surface(grid, np.sort(np.log(dispersion)))
    per_gene[:, np.argsort(dispersion, kind="stable")] = per_gene.copy()
    spline = CubicSpline(grid, per_gene, axis=0)
    return ExpectedExpression(lowest=float(grid[0]), step=float(grid[1] - grid[0]), coefficients=spline.c)
