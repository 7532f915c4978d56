"""From shares of molecules to expression: the mean of ln(1 + CP10k) of counts, and counts themselves (spec 7).

Responses are differences of mean ln(1 + CP10k) of cells. For counts that mean is below ln(1 + CP10k) of the mean count,
the more so the shallower the cells, so libraries are drawn as deep as the training cells are.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

PER = 1e4  # counts per 10,000
DEPTHS = 16  # library sizes that stand for all, at equal steps of their distribution
LEAST, MOST, POINTS = math.log(1e-4), math.log(1e5), 1024  # grid of ln λ
SUMMED_BELOW = 200.0  # λ up to which the expectation is summed, beyond it expanded


def depth_quantiles(library: Float[np.ndarray, " cell"]) -> Float[np.ndarray, " depth"]:
    """Library sizes at `DEPTHS` equal steps of their distribution."""
    steps = (np.arange(DEPTHS) + 0.5) / DEPTHS
    return np.maximum(np.quantile(library, steps), 1.0).astype(np.float32)


class MeanLogExpression:
    """Mean of ln(1 + CP10k) over negative binomial counts, with common random numbers.

    A count is Poisson with rate λ = ℓ ρ w, w Gamma(θ, 1)/θ. Depths and w are drawn once and serve every query, so
    equal shares give equal means bit for bit; the mean over counts is not drawn but looked up (error below 10⁻³).
    `held` is the share of a cell's molecules that `depths` count, where the genes of the screen are a part of all.
    Differs from (26): ℓ from the training cells, not 10⁴; no noise of drawn counts; natural logarithm.
    """

    def __init__(
        self,
        depths: Float[np.ndarray, " depth"],
        dispersion: Float[np.ndarray, " gene"],
        *,
        n_particles: int,
        seed: int,
        held: float = 1.0,
    ) -> None:
        rng = np.random.default_rng(seed)
        theta = np.maximum(np.asarray(dispersion, dtype=np.float64), 1e-6)
        gamma = rng.standard_gamma(theta, size=(n_particles, len(theta))) / theta
        depth = np.arange(n_particles) % len(depths)
        self._table = torch.from_numpy(np.stack([poisson_log_table(float(d), held=held) for d in depths])).float()
        self._row = torch.from_numpy(depth)[:, None]
        rate = depths[depth][:, None] * np.maximum(gamma, 1e-30)
        self._log_rate = torch.from_numpy(np.log(rate).astype(np.float32))

    def __call__(self, log_share: Float[Tensor, "particle gene"]) -> Float[Tensor, " gene"]:
        """Mean over particles, whose number must be that given."""
        log_rate = log_share + self._log_rate.to(log_share.device)
        at = (log_rate.clamp(LEAST, MOST) - LEAST) * ((POINTS - 1) / (MOST - LEAST))
        left = at.long().clamp(max=POINTS - 2)
        part = at - left
        table, row = self._table.to(log_share.device), self._row.to(log_share.device)
        value = table[row, left] * (1 - part) + table[row, left + 1] * part
        value = value * torch.exp((log_rate - LEAST).clamp(max=0.0))  # proportional to λ below the grid
        return value.double().mean(dim=0)


def poisson_log_table(depth: float, *, held: float = 1.0) -> Float[np.ndarray, " point"]:
    """E ln(1 + x·10⁴·held/ℓ) for Poisson x, at the grid of ln λ; summed for small λ, of second order for large."""
    from scipy.special import gammaln

    per_count = PER * held / depth
    rate = np.exp(np.linspace(LEAST, MOST, POINTS))
    mean = rate * per_count
    expanded = np.log1p(mean) - per_count * mean / (2 * (1 + mean) ** 2)
    small = rate[rate < SUMMED_BELOW]
    counts = np.arange(int(SUMMED_BELOW + 12 * math.sqrt(SUMMED_BELOW)))
    log_mass = counts * np.log(small)[:, None] - small[:, None] - gammaln(counts + 1)
    expanded[: len(small)] = np.exp(log_mass) @ np.log1p(counts * per_count)
    return expanded


def drawn_counts(
    share: Float[np.ndarray, "cell gene"],
    library: Float[np.ndarray, " cell"],
    dispersion: Float[np.ndarray, " gene"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "cell gene"]:
    """Negative binomial counts of cells with those shares and library sizes."""
    theta = np.maximum(np.asarray(dispersion, dtype=np.float64), 1e-6)
    rate = library[:, None] * share * rng.standard_gamma(theta, size=share.shape) / theta
    return rng.poisson(rate).astype(np.float32)
