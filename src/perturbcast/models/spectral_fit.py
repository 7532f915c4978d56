"""Ridge per principal axis of the responses, and exact errors of groups of conditions left out together.

Conditions are scaled to like size before, so that the strong ones do not speak for all; see `spectral_ridge`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from perturbcast.models.leave_one_out import free_queries, projected_precision

STRENGTHS = (0.03, 0.06, 0.1, 0.2, 0.35, 0.6, 1.0, 1.7, 3.0, 5.0, 9.0, 15.0)  # factors on the shared kernel


@dataclass(frozen=True)
class Solved:
    """The axes of one strength: dual weights, fixed effects and precision matrix."""

    axes: Int[np.ndarray, " axis"]
    strength: float  # 0: only the fixed effects
    alpha: Float[np.ndarray, "query axis"]
    effects: Float[np.ndarray, "effect axis"]
    precision: Float[np.ndarray, "query query"]

    def left_out(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row axis"]:
        """Residuals of rows that are left out together, kernels and strengths held: Q_GG⁻¹ (Q A)_G.

        Where nothing else tells a fixed effect of theirs, the least residuals are given.
        """
        return np.linalg.lstsq(self.precision[np.ix_(rows, rows)], self.alpha[rows], rcond=1e-10)[0]


def solved(
    coordinates: Float[np.ndarray, "query axis"],
    kernel: Float[np.ndarray, "query query"],
    effects: Float[np.ndarray, "query effect"],
) -> list[Solved]:
    """Every axis with the strength of least mean square leave-one-out error; no kernel at all is a candidate."""
    candidates = [_solution(coordinates, strength * kernel, effects) for strength in (0.0, *STRENGTHS)]
    free = free_queries(effects)
    errors = [((alpha[free] / np.diag(precision)[free, None]) ** 2).sum(axis=0) for alpha, _, precision in candidates]
    best = np.argmin(errors, axis=0)
    found = []
    for place, strength in enumerate((0.0, *STRENGTHS)):
        axes = np.flatnonzero(best == place)
        if len(axes):
            alpha, level, precision = candidates[place]
            found.append(Solved(axes, strength, alpha[:, axes], level[:, axes], precision))
    return found


def _solution(
    coordinates: np.ndarray, covariance: np.ndarray, effects: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Q A, fixed effects, Q) of a Gaussian process with unit noise."""
    inverse, precision = projected_precision(covariance, effects)
    level = np.linalg.lstsq(effects.T @ inverse @ effects, effects.T @ inverse @ coordinates, rcond=None)[0]
    return precision @ coordinates, level, precision


@dataclass(frozen=True)
class Axes:
    """Principal axes of rows of responses: coordinates (query, axis) times `back` (axis, gene) are the rows."""

    coordinates: Float[np.ndarray, "query axis"]
    back: Float[np.ndarray, "axis gene"]

    @classmethod
    def of(cls, rows: Float[np.ndarray, "query gene"]) -> "Axes":
        """The axes of some rows, from their products."""
        values, vectors = np.linalg.eigh(rows @ rows.T)
        kept = values > 1e-9 * max(float(values[-1]), np.finfo(float).tiny)
        length = np.sqrt(values[kept])
        back = (vectors[:, kept] / length).T @ rows  # (axis, query) @ (query, gene) -> (axis, gene)
        return cls(vectors[:, kept] * length, back)


def left_out_of(
    parts: Sequence[Solved], coordinates: np.ndarray, rows: Int[np.ndarray, " row"]
) -> Float[np.ndarray, "row axis"]:
    """What the solved axes predict of rows that they do not see."""
    found = np.array(coordinates[rows])
    for part in parts:
        found[:, part.axes] -= part.left_out(rows)
    return found


def combined(parts: Sequence[Solved], n_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """(dual weights (query, axis) of the plain kernel, fixed effects (effect, axis)), all axes in order."""
    alpha = np.zeros((len(parts[0].precision), n_axes))
    effects = np.zeros((parts[0].effects.shape[0], n_axes))
    for part in parts:
        alpha[:, part.axes] = part.strength * part.alpha
        effects[:, part.axes] = part.effects
    return alpha, effects
