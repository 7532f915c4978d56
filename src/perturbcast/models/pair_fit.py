"""Shrunk sums of parts with a Gaussian process over combinations on top; see `pair_ridge`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from perturbcast.models.base import decode_text, encode_text
from perturbcast.models.kappa_additive import kappa
from perturbcast.models.leave_one_out import LeaveOneOut, best_weights, projected_precision
from perturbcast.models.pair_kernels import Combinations

N_AXES = 40  # leading principal axes of training responses that are not shrunk
KEPT = (0.25, 0.5, 0.75, 1.0)  # candidates for what is kept of the rest
PREFIX = "pairs."

Parts = Sequence[Sequence[np.ndarray]]
Names = Sequence[Sequence[str]]


@dataclass(frozen=True)
class PairFit:
    """What was learned of combinations; `predict` answers for parts, whether observed or predicted."""

    centre: Float[np.ndarray, " gene"]  # mean single response
    axes: Float[np.ndarray, "axis gene"]
    kept: float  # share of a part outside the axes
    slope: Float[np.ndarray, " gene"]
    offset: Float[np.ndarray, " gene"]
    training: Combinations
    weights: Float[np.ndarray, " kernel"]  # per unit of kernel
    alpha: Float[np.ndarray, "train gene"]
    level: Float[np.ndarray, " gene"]

    @classmethod
    def of(
        cls, parts: Parts, targets: Names, observed: Float[np.ndarray, "train gene"], *, singles: np.ndarray
    ) -> "PairFit":
        """Learned from training combinations and the responses of all singles."""
        centre = singles.mean(axis=0)
        axes = leading_axes(np.concatenate([singles, observed]))
        kernels = Combinations.of(parts, targets, centre=centre)
        stack = kernels.kernels(kernels)
        unit = np.maximum(np.trace(stack, axis1=1, axis2=2) / len(parts), np.finfo(float).tiny)
        stack /= unit[:, None, None]
        found = [cls._with(parts, observed, stack, centre, axes, kept) for kept in KEPT]
        _, kept, slope, offset, weights = min(found, key=lambda entry: entry[0])
        rest = observed - offset - slope * shrunk(parts, centre, axes, kept)
        effects = np.ones((len(parts), 1))
        inverse, precision = projected_precision(np.tensordot(weights, stack, 1), effects)
        level = (inverse.sum(axis=0) @ rest) / inverse.sum()
        return cls(centre, axes, kept, slope, offset, kernels, weights / unit, precision @ rest, level)

    @staticmethod
    def _with(
        parts: Parts, observed: np.ndarray, stack: np.ndarray, centre: np.ndarray, axes: np.ndarray, kept: float
    ) -> tuple[float, float, np.ndarray, np.ndarray, np.ndarray]:
        """(mean leave-one-out L2, kept, slope, offset, kernel weights) with a share of the rest kept."""
        total = shrunk(parts, centre, axes, kept)
        slope, offset = kappa(total, observed, per_gene=True, residual=True, shrinkage=None)
        rest = observed - offset - slope * total
        task = LeaveOneOut(rest @ rest.T, stack, np.ones((len(parts), 1)))
        weights = best_weights(task)
        return float(task.residual(weights).mean()), kept, slope, offset, weights

    def predict(self, parts: Parts, targets: Names) -> Float[np.ndarray, "combination gene"]:
        """Responses of combinations from those of their parts."""
        kernels = Combinations.of(parts, targets, centre=self.centre).kernels(self.training)
        beyond = np.tensordot(self.weights, kernels, 1) @ self.alpha  # (combination, train) @ (train, gene)
        return self.offset + self.slope * shrunk(parts, self.centre, self.axes, self.kept) + beyond + self.level

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which `restored` makes it again."""
        arrays = {
            "centre": self.centre,
            "axes": self.axes,
            "kept": np.array([self.kept]),
            "slope": self.slope,
            "offset": self.offset,
            "profile": self.training.profile,
            "owner": self.training.owner,
            "target": encode_text(self.training.target),
            "weights": self.weights,
            "alpha": self.alpha,
            "level": self.level,
        }
        return {PREFIX + name: array for name, array in arrays.items()}

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray]) -> "PairFit":
        """The fit whose `state` is among these arrays."""
        own = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
        training = Combinations(own["profile"], tuple(decode_text(own["target"])), own["owner"])
        kept = float(own["kept"][0])
        return cls(
            own["centre"], own["axes"], kept, own["slope"], own["offset"], training, own["weights"], own["alpha"],
            own["level"],
        )  # fmt: skip


def leading_axes(rows: Float[np.ndarray, "row gene"]) -> Float[np.ndarray, "axis gene"]:
    """At most 40 leading principal axes of some responses, orthonormal."""
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    keep = values[-N_AXES:] > 1e-9 * max(float(values[-1]), np.finfo(float).tiny)
    leading = vectors[:, -N_AXES:][:, keep] / np.sqrt(values[-N_AXES:][keep])
    return leading.T @ centred


def shrunk(
    parts: Parts, centre: Float[np.ndarray, " gene"], axes: Float[np.ndarray, "axis gene"], kept: float
) -> Float[np.ndarray, "combination gene"]:
    """Sums of parts, of each only a share kept outside the axes."""
    total = np.array([np.sum(own, axis=0) for own in parts]).reshape(len(parts), len(centre))
    if kept == 1.0:
        return total
    n_parts = np.array([len(own) for own in parts])[:, None]
    rest = total - n_parts * centre
    inside = (rest @ axes.T) @ axes  # (combination, axis) @ (axis, gene)
    return n_parts * centre + inside + kept * (rest - inside)
