"""Additive combinations with a low-rank interaction: ridge on the pair sum in the span of training responses."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from perturbcast._progress import Progress
from perturbcast.models.additive import FittedAdditive, additive_state, doubles_of, residual_sd
from perturbcast.models.base import FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.fields import Range
from perturbcast.models.kappa_additive import FEWEST_DOUBLES, kappa

RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # candidates, in units of the mean squared norm of pair sums


class FittedLowRankAdditive(FittedAdditive):
    """offset + κ * s + interaction(s), with s the sum of single responses."""

    def _combine(self, total: np.ndarray) -> np.ndarray:
        likeness = self._state["pairs"] @ (total - self._state["centre"])  # (double, gene) @ (gene,) -> (double,)
        return super()._combine(total) + likeness @ self._state["dual"]


@dataclass(frozen=True)
class LowRankAdditive(Model):
    """Scaled additive plus a linear interaction of the pair sum, of rank at most the number of training doubles.

    The residuals of the scaled additive model are regressed on the centred pair sums S (double, gene) by ridge in the
    dual: interaction(s) = (s - s̄) Sᵀ (S Sᵀ + λI)⁻¹ R. λ is chosen by closed-form leave-one-out, no interaction being
    one of the candidates.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="lowrank-additive",
        title="Additive with low-rank interaction",
        summary="Adds and scales two effects, then corrects the sum by what training doubles with similar sums did.",
        source="ours, after spec D-5, D-6 and B.7 (APP+ with a linear interaction)",
        predicts=frozenset({"unseen_double", "unseen_context"}),
        baseline=True,
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedLowRankAdditive
    ridge: Annotated[float, Range(1e-6)] | None = None  # λ, in mean squared norms of pair sums; none: leave-one-out
    fallback: bool = True  # mean single response for an unseen target

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedLowRankAdditive:
        """The fitted model; the scaled additive one where there are fewer than four usable training doubles."""
        table = training.responses
        state = additive_state(table)
        total, observed = doubles_of(table, state)
        state["slope"], state["offset"] = kappa(total, observed, per_gene=True, residual=True, shrinkage=None)
        rest = observed - state["offset"] - state["slope"] * total
        state["centre"] = total.mean(axis=0) if len(total) else np.zeros(table.n_genes)
        state["pairs"] = total - state["centre"]
        state["dual"], leave_out = _interaction(state["pairs"], rest, ridge=self.ridge)
        state |= residual_sd(leave_out)
        return FittedLowRankAdditive(self, table, state, split_fingerprint=training.split_fingerprint)


def _interaction(pairs: np.ndarray, rest: np.ndarray, *, ridge: float | None) -> tuple[np.ndarray, np.ndarray]:
    """(dual weights, leave-one-out residuals), both (double, gene), of ridge of `rest` on centred `pairs`."""
    nothing = np.zeros_like(rest)
    if len(pairs) < FEWEST_DOUBLES or not pairs.any():
        return nothing, rest
    gram = pairs @ pairs.T  # (double, gene) @ (gene, double) -> (double, double)
    unit = np.trace(gram) / len(gram)
    best = (nothing, rest * len(rest) / (len(rest) - 1))
    for candidate in RIDGES if ridge is None else (ridge,):
        dual = np.linalg.solve(gram + candidate * unit * np.eye(len(gram)), rest)
        hat = gram @ np.linalg.inv(gram + candidate * unit * np.eye(len(gram)))
        left_out = (rest - gram @ dual) / (1 - np.diag(hat) - 1 / len(gram))[:, None]
        if ridge is not None or _error(left_out) < _error(best[1]):
            best = (dual, left_out)
    return best


def _error(residual: np.ndarray) -> float:
    """Mean L2 over doubles."""
    return float(np.linalg.norm(residual, axis=1).mean())
