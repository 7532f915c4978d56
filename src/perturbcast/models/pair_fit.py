"""Scaled sums of parts with a Gaussian process over combinations on top; see `pair_ridge`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from perturbcast.models.base import decode_text, encode_text
from perturbcast.models.kappa_additive import kappa
from perturbcast.models.leave_one_out import LeaveOneOut, best_weights, projected_precision
from perturbcast.models.pair_kernels import Combinations

N_AXES = 40  # leading principal axes of training responses
KEPT = (0.0, 1.0)  # share of parts kept outside the axes, of each fit whose mean is predicted
PREFIX = "pairs."

Parts = Sequence[Sequence[np.ndarray]]
Names = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Fit:
    """What was learned with a share of the parts kept outside the axes."""

    kept: float
    slope: Float[np.ndarray, " gene"]
    offset: Float[np.ndarray, " gene"]
    weights: Float[np.ndarray, " kernel"]  # per unit of kernel
    alpha: Float[np.ndarray, "train gene"]
    level: Float[np.ndarray, " gene"]

    @classmethod
    def of(
        cls,
        total: Float[np.ndarray, "train gene"],
        observed: Float[np.ndarray, "train gene"],
        kernels: Float[np.ndarray, "kernel train train"],
        *,
        kept: float,
    ) -> "Fit":
        """Learned from sums of parts, kernel weights by leave-one-out."""
        slope, offset = kappa(total, observed, per_gene=True, residual=True, shrinkage=None)
        rest = observed - offset - slope * total
        unit = np.maximum(np.trace(kernels, axis1=1, axis2=2) / len(total), np.finfo(float).tiny)
        stack, effects = kernels / unit[:, None, None], np.ones((len(total), 1))
        weights = best_weights(LeaveOneOut(rest @ rest.T, stack, effects))
        inverse, precision = projected_precision(np.tensordot(weights, stack, 1), effects)
        level = (inverse.sum(axis=0) @ rest) / inverse.sum()
        return cls(kept, slope, offset, weights / unit, precision @ rest, level)

    def predict(
        self, total: Float[np.ndarray, "combination gene"], kernels: Float[np.ndarray, "kernel combination train"]
    ) -> Float[np.ndarray, "combination gene"]:
        """Responses from sums of parts and likeness to training combinations."""
        beyond = np.tensordot(self.weights, kernels, 1) @ self.alpha  # (combination, train) @ (train, gene)
        return self.offset + self.slope * total + beyond + self.level

    def state(self) -> dict[str, np.ndarray]:
        """Arrays by the name of their field."""
        return {name: np.atleast_1d(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray]) -> "Fit":
        """The fit whose `state` this is."""
        return cls(float(state["kept"][0]), *(state[name] for name in list(cls.__dataclass_fields__)[1:]))


@dataclass(frozen=True)
class PairFit:
    """What was learned of combinations; `predict` answers for parts, whether observed or predicted."""

    centre: Float[np.ndarray, " gene"]  # mean single response
    axes: Float[np.ndarray, "axis gene"]
    training: Combinations
    fits: tuple[Fit, ...]

    @classmethod
    def of(
        cls, parts: Parts, targets: Names, observed: Float[np.ndarray, "train gene"], *, singles: np.ndarray
    ) -> "PairFit":
        """Learned from training combinations and the responses of all singles."""
        centre = singles.mean(axis=0)
        axes = leading_axes(np.concatenate([singles, observed]))
        training = Combinations.of(parts, targets, centre=centre)
        kernels = training.kernels(training)
        fits = tuple(Fit.of(shrunk(parts, centre, axes, kept), observed, kernels, kept=kept) for kept in KEPT)
        return cls(centre, axes, training, fits)

    def predict(self, parts: Parts, targets: Names) -> Float[np.ndarray, "combination gene"]:
        """Responses of combinations from those of their parts: the mean of the fits."""
        kernels = Combinations.of(parts, targets, centre=self.centre).kernels(self.training)
        found = [fit.predict(shrunk(parts, self.centre, self.axes, fit.kept), kernels) for fit in self.fits]
        return np.mean(found, axis=0)

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which `restored` makes it again."""
        arrays = {
            "centre": self.centre,
            "axes": self.axes,
            "profile": self.training.profile,
            "owner": self.training.owner,
            "target": encode_text(self.training.target),
        }
        for number, fit in enumerate(self.fits):
            arrays |= {f"{number}.{name}": array for name, array in fit.state().items()}
        return {PREFIX + name: array for name, array in arrays.items()}

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray]) -> "PairFit":
        """The fit whose `state` is among these arrays."""
        own = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
        training = Combinations(own["profile"], tuple(decode_text(own["target"])), own["owner"])
        fits = []
        for number in range(len(KEPT)):
            prefix = f"{number}."
            arrays = {key.removeprefix(prefix): value for key, value in own.items() if key.startswith(prefix)}
            fits.append(Fit.restored(arrays))
        return cls(own["centre"], own["axes"], training, tuple(fits))


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
