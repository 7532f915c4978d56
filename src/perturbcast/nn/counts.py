"""Likelihoods of cells: negative binomial counts with library size (spec 2.3), and normal expression."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perturbcast.nn.trunk import at_least_single

EPSILON = 1e-4  # added to the mean, equation (2)
LEAST_RATE = 1e-6  # of the Gamma rate θ / μ


def negative_binomial_log_prob(
    counts: Float[Tensor, "..."],
    mean: Float[Tensor, "..."],
    dispersion: Float[Tensor, "..."],
    *,
    epsilon: float = EPSILON,
) -> Float[Tensor, "..."]:
    """ln NB(counts; μ, θ) per entry, equation (2): variance μ + μ²/θ. Shapes are broadcast."""
    rate = (dispersion / (mean + epsilon)).clamp(min=LEAST_RATE)
    ways = torch.lgamma(counts + dispersion) - torch.lgamma(dispersion) - torch.lgamma(counts + 1)
    return ways - dispersion * torch.log1p(1 / rate) - counts * torch.log1p(rate)


class _MeanPart(torch.autograd.Function):
    """Σ_g of the part of (2) that depends on the mean, with its derivatives, in few passes over (particle, cell, gene).

    With a = ln((μ + ε)/θ), kept below ln(1/LEAST_RATE): -(θ + x) ln(1 + eᵃ) + x a. The same numbers by autograd need
    four times the memory and time, and this is most of the cost of a training step.
    """

    @staticmethod
    def forward(ctx: Any, log_mean: Tensor, log_dispersion: Tensor, counts: Tensor) -> Tensor:
        ratio = torch.exp(log_mean).add_(EPSILON).mul_(torch.exp(-log_dispersion)).clamp_(max=1 / LEAST_RATE)
        ctx.save_for_backward(ratio, log_dispersion, counts)
        total = torch.exp(log_dispersion) + counts
        return (counts * torch.log(ratio)).sum(-1) - (total * torch.log1p(ratio)).sum(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        ratio, log_dispersion, counts = ctx.saved_tensors
        dispersion = torch.exp(log_dispersion)
        by_ratio = (counts - (dispersion + counts) * (ratio / (1 + ratio))) * gradient.unsqueeze(-1)
        by_ratio = torch.where(ratio < 1 / LEAST_RATE, by_ratio, torch.zeros_like(by_ratio))
        by_mean = by_ratio * (1 - EPSILON / (ratio * dispersion).clamp(min=EPSILON))
        direct = -(torch.log1p(ratio) * gradient.unsqueeze(-1)) * dispersion
        by_dispersion = (direct - by_ratio).reshape(-1, ratio.shape[-1]).sum(0)
        return by_mean, by_dispersion, None


def _ways(counts: Tensor, dispersion: Tensor) -> Tensor:
    """Σ_g of the part of (2) without the mean: only counts above 0 contribute, so only they are computed."""
    cell, gene = counts.nonzero(as_tuple=True)
    stored, theta = counts[cell, gene], dispersion[gene]
    ways = torch.lgamma(stored + theta) - torch.lgamma(theta) - torch.lgamma(stored + 1)
    return torch.zeros(counts.shape[0], dtype=ways.dtype, device=ways.device).index_add(0, cell, ways)


class CountHead(nn.Module):
    """Negative binomial with mean ℓ·softmax(W u + b) and one dispersion θ_g = exp(c_g) per gene, c = 0 at first."""

    def __init__(self, width: int, n_genes: int) -> None:
        super().__init__()
        self.share = nn.Linear(width, n_genes)
        self.log_dispersion = nn.Parameter(torch.zeros(n_genes))

    def log_share(self, units: Float[Tensor, "... unit"]) -> Float[Tensor, "... gene"]:
        """ln ρ, the log of each gene's share of the molecules."""
        return torch.log_softmax(at_least_single(self.share(units)), dim=-1)

    def log_prob(
        self,
        units: Float[Tensor, "... cell unit"],
        values: Float[Tensor, "cell gene"],
        library: Float[Tensor, " cell"],
    ) -> Float[Tensor, "... cell"]:
        """ln p of the counts of each cell, summed over genes."""
        log_mean = self.log_share(units) + torch.log(library.clamp(min=1e-8)).unsqueeze(-1)
        part: Tensor = _MeanPart.apply(log_mean, self.log_dispersion, values)
        return part + _ways(values, torch.exp(self.log_dispersion))


class ExpressionHead(nn.Module):
    """Normal expression with mean W u + b and one standard deviation exp(c_g) per gene; no library size."""

    def __init__(self, width: int, n_genes: int) -> None:
        super().__init__()
        self.mean = nn.Linear(width, n_genes)
        self.log_sd = nn.Parameter(torch.zeros(n_genes))

    def log_prob(
        self,
        units: Float[Tensor, "... cell unit"],
        values: Float[Tensor, "cell gene"],
        library: Float[Tensor, " cell"],
    ) -> Float[Tensor, "... cell"]:
        """ln p of the expression of each cell, summed over genes; `library` plays no part."""
        scaled = (values - at_least_single(self.mean(units))) * torch.exp(-self.log_sd)
        constant = self.log_sd.sum() + 0.5 * values.shape[-1] * 1.8378770664093453  # ln 2π
        return -0.5 * (scaled**2).sum(-1) - constant
