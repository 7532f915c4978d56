"""Scaled additive combinations: a double is κ times the sum of its singles (spec D-5, D-6)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from perturbcast._progress import Progress
from perturbcast.models.additive import FittedAdditive, additive_state, doubles_of, residual_sd
from perturbcast.models.base import FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.fields import Range

FEWEST_DOUBLES = 4  # below this only the global κ is fitted
SHRINKAGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # candidates, in units of a gene's mean sum of squares


class FittedKappaAdditive(FittedAdditive):
    """offset + κ * (sum of single responses)."""


@dataclass(frozen=True)
class KappaAdditive(Model):
    """κ per gene, shrunk to the global κ, plus the mean residual of training doubles.

    κ_g = argmin Σ (y - o_g - κ_g s)² + τ (κ_g - κ)², s the sum of singles and κ the slope over all genes. τ is chosen
    by closed-form leave-one-out over training doubles (κ held). Profile `global` is D-5: one κ, no offset.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="kappa-additive",
        title="Scaled additive",
        summary="Adds the effects of two perturbations and scales the sum, because effects saturate.",
        source="spec D-5 and D-6; Ahlmann-Eltze et al. 2025, doi:10.1038/s41592-025-02772-6",
        predicts=frozenset({"unseen_double", "unseen_context"}),
        baseline=True,
        profiles={
            "global": {"per_gene": False, "residual": False},
            "per-gene": {"per_gene": True, "residual": False},
        },
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedKappaAdditive
    per_gene: bool = True  # a κ for each gene, shrunk to the global one
    residual: bool = True  # add the mean residual of training doubles, D-6
    shrinkage: Annotated[float, Range(0.0)] | None = None  # τ, in mean sums of squares; none: leave-one-out
    fallback: bool = True  # mean single response for an unseen target

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedKappaAdditive:
        """The fitted model; κ is 1 where no training double has both singles."""
        table = training.responses
        state = additive_state(table)
        total, observed = doubles_of(table, state)
        state["slope"], state["offset"] = kappa(
            total, observed, per_gene=self.per_gene, residual=self.residual, shrinkage=self.shrinkage
        )
        state |= residual_sd(observed - state["offset"] - state["slope"] * total)
        return FittedKappaAdditive(self, table, state, split_fingerprint=training.split_fingerprint)


def kappa(
    total: np.ndarray, observed: np.ndarray, *, per_gene: bool, residual: bool, shrinkage: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """(slope, offset), each (gene,), of observed (double, gene) on the sum of singles (double, gene)."""
    n_doubles, n_genes = total.shape
    enough = n_doubles >= FEWEST_DOUBLES
    centre = total.mean(axis=0) if residual and enough else np.zeros(n_genes)
    level = observed.mean(axis=0) if residual and enough else np.zeros(n_genes)
    x, y = total - centre, observed - level
    squares = (x**2).sum(axis=0)
    common = float((x * y).sum() / squares.sum()) if squares.sum() > 0 else 1.0
    slope = np.full(n_genes, common)
    if per_gene and enough:
        rest = y - common * x
        if shrinkage is None:
            shrinkage = _best_shrinkage(x, rest, intercept=residual)
        slope += _gain(x, rest, shrinkage=shrinkage)
    return slope, level - slope * centre


def _gain(x: np.ndarray, rest: np.ndarray, *, shrinkage: float) -> np.ndarray:
    """(gene,) ridge slope of `rest` on `x` gene by gene; a gene that never changes keeps slope 0."""
    squares = (x**2).sum(axis=0)
    denominator = squares + shrinkage * squares.mean()
    return (x * rest).sum(axis=0) / np.where(denominator > 0, denominator, 1.0)


def _best_shrinkage(x: np.ndarray, rest: np.ndarray, *, intercept: bool) -> float:
    """The candidate with the least mean leave-one-out L2 over doubles."""
    squares = (x**2).sum(axis=0)
    errors = []
    for candidate in SHRINKAGES:
        denominator = squares + candidate * squares.mean()
        leverage = x**2 / np.where(denominator > 0, denominator, 1.0) + (1 / len(x) if intercept else 0.0)
        residual = (rest - _gain(x, rest, shrinkage=candidate) * x) / (1 - leverage)
        errors.append(np.linalg.norm(residual, axis=1).mean())
    return SHRINKAGES[int(np.argmin(errors))]
