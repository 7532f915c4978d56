"""Predictions of seen conditions drawn to their training means, as far as these are certain (empirical Bayes)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FEW = 5.0  # entries without noise that the overall variance stands for, where that of a gene is estimated


@dataclass(frozen=True)
class RestVariance:
    """Variance v_q v_g / v by which a model is off, estimated over genes and over queries."""

    by_query: Float[np.ndarray, " query"]
    by_gene: Float[np.ndarray, " gene"]  # v_g / v

    def of(self, row: int) -> Float[np.ndarray, " gene"]:
        """The variances of a query."""
        return np.asarray(self.by_query[row] * self.by_gene)


def rest_variance(rest: Float[np.ndarray, "query gene"], error: Float[np.ndarray, "query gene"]) -> RestVariance:
    """Of rest = observed - predicted, which has variance v + error²; noisy entries count for little."""
    excess, noise = rest**2 - error**2, error**2
    exact = 1 / (noise + 1e-3 * max(float((rest**2).mean()), 1e-12)) ** 2
    whole = max(float((exact * excess).sum() / exact.sum()), 1e-12)
    told = (whole / (noise + whole)) ** 2  # how much an entry says of v, 0 to 1

    def off(axis: int) -> np.ndarray:
        """v along an axis, with as much weight on the whole as on `FEW` entries without noise."""
        total = (told * excess).sum(axis=axis) + FEW * whole
        return np.asarray(np.maximum(total / (told.sum(axis=axis) + FEW), 0.0))

    return RestVariance(off(1), off(0) / whole)


def anchors(
    observed: Float[np.ndarray, "query gene"],
    predicted: Float[np.ndarray, "query gene"],
    error: Float[np.ndarray, "query gene"],
) -> Float[np.ndarray, "query gene"]:
    """What brings predictions to the best guess between them and the training means.

    The rest, observed - predicted, is shrunk by v / (v + error²) with v of `rest_variance`. Means of many cells are
    kept as they are; those of few cells are drawn to what the network makes of all cells.
    """
    rest, noise = observed - predicted, error**2
    found = rest_variance(rest, error)
    variance = found.by_query[:, None] * found.by_gene
    return np.asarray(rest * np.divide(variance, variance + noise, out=np.zeros_like(rest), where=variance > 0))


def posterior_variance(
    variance: Float[np.ndarray, " gene"], noise: Float[np.ndarray, " gene"], spread: Float[np.ndarray, " gene"]
) -> Float[np.ndarray, " gene"]:
    """What stays open of a response that was drawn to a mean measured with that noise: v w + (w spread)².

    w = noise / (v + noise) is the share that the prediction keeps of the model, whose own posterior leaves `spread`
    open; where neither errs nothing is kept open.
    """
    kept = np.divide(noise, variance + noise, out=np.zeros_like(noise), where=variance + noise > 0)
    return np.asarray(variance * kept + (kept * spread) ** 2)
