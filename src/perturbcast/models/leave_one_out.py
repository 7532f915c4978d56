"""Exact leave-one-out error of a Gaussian process with fixed effects, and its best kernel weights.

With C = (Σ β_m K_m + Λ)⁻¹ and Q = C - C B (Bᵀ C B)⁻¹ Bᵀ C, B the fixed effects (ones for a mean), left-out residuals
are α_i / Q_ii with α = Q Y, for any diagonal Λ and with the fixed effects estimated anew each time
(spec D-17 and oracle D7, extended to unequal noise and an unknown mean).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from perturbcast.errors import Diverged

LEAST, MOST = -9.0, 3.0  # bounds of ln β
FIRST = 0.1  # β to start from, for every kernel
ITERATIONS = 60
LEAST_SHARE = 1e-3  # of the summed β, below which a kernel is left out
FACTORS = (0.6, 1.0, 1.7)  # factors on all β, tried on all queries after a search on some


@dataclass(frozen=True)
class LeaveOneOut:
    """Left-out errors of responses (query, gene), seen only through their products, for kernels (kernel, query, query).

    `effects` (query, effect) are the fixed effects; noise is the unit matrix, so β is in units of noise.
    """

    products: Float[np.ndarray, "query query"]
    kernels: Float[np.ndarray, "kernel query query"]
    effects: Float[np.ndarray, "query effect"]

    def precision(self, weights: Float[np.ndarray, " kernel"]) -> Float[np.ndarray, "query query"]:
        """Q, the inverse covariance after the fixed effects are taken out."""
        return projected_precision(np.tensordot(weights, self.kernels, 1), self.effects)[1]

    @cached_property
    def free(self) -> Bool[np.ndarray, " query"]:
        """Queries that can be left out; see `free_queries`."""
        return free_queries(self.effects)

    def residual(self, weights: Float[np.ndarray, " kernel"]) -> Float[np.ndarray, " free"]:
        """L2 of each left-out residual."""
        precision = self.precision(weights)
        squares = np.einsum("ij,ij->i", precision @ self.products, precision)
        return np.sqrt(np.maximum(squares, 0.0))[self.free] / np.diag(precision)[self.free]

    def slope(self, log_weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean left-out L2 and its derivative by ln β."""
        weights = np.exp(log_weights)
        precision = self.precision(weights)
        own = np.where(self.free, np.diag(precision), 1.0)
        spread = precision @ self.products @ precision
        size = np.sqrt(np.maximum(np.diag(spread), 1e-300))
        n_queries = self.free.sum()
        by_square = self.free / (2 * size * own * n_queries)
        by_own = self.free * size / (own**2 * n_queries)
        first = (spread * by_square) @ precision
        gradient = (precision * by_own) @ precision - first - first.T
        return float((size / own)[self.free].mean()), np.tensordot(self.kernels, gradient, 2) * weights


def free_queries(effects: Float[np.ndarray, "query effect"]) -> Bool[np.ndarray, " query"]:
    """Queries that the fixed effects do not reproduce whatever they are, as they do the one query of a context."""
    leverage = np.einsum("ij,ji->i", effects, np.linalg.pinv(effects))
    return leverage < 1 - 1e-9


def projected_precision(
    covariance: Float[np.ndarray, "query query"], effects: Float[np.ndarray, "query effect"]
) -> tuple[Float[np.ndarray, "query query"], Float[np.ndarray, "query query"]]:
    """(C, Q): inverse of covariance plus unit noise, and the same with the fixed effects taken out."""
    inverse = inverse_of_positive(covariance + np.eye(len(covariance)))
    if not effects.shape[1]:
        return inverse, inverse
    through = inverse @ effects
    return inverse, inverse - through @ np.linalg.solve(effects.T @ through, through.T)


def inverse_of_positive(matrix: Float[np.ndarray, "query query"]) -> Float[np.ndarray, "query query"]:
    """The inverse of a symmetric positive definite matrix, by Cholesky: half the cost of a general inverse."""
    from scipy.linalg.lapack import dpotrf, dpotri

    factor, failed = dpotrf(matrix, lower=True)
    if failed:
        raise Diverged("the kernel matrix is not positive definite.")
    lower, _ = dpotri(factor, lower=True)
    lower = np.tril(lower)
    return lower + np.tril(lower, -1).T


def best_weights(task: LeaveOneOut) -> Float[np.ndarray, " kernel"]:
    """β with the least mean left-out L2, found by its exact derivative (L-BFGS) from equal weights; tiny ones are 0."""
    from scipy.optimize import minimize

    n_kernels = len(task.kernels)
    if not n_kernels or not task.free.any():
        return np.zeros(n_kernels)
    bounds = [(LEAST, MOST)] * n_kernels
    start = np.full(n_kernels, np.log(FIRST))
    found = minimize(task.slope, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": ITERATIONS})
    weights = np.exp(found.x)
    return np.where(weights < LEAST_SHARE * weights.sum(), 0.0, weights)


def best_factor(task: LeaveOneOut, weights: Float[np.ndarray, " kernel"]) -> float:
    """The one factor of `FACTORS` on all β with the least mean left-out L2."""
    errors = [task.residual(factor * weights).sum() for factor in FACTORS]
    return FACTORS[int(np.argmin(errors))]
