"""Likelihoods of cells: negative binomial counts with library size (spec 2.3), and normal expression."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from perturbcast.nn.trunk import at_least_single, in_single

EPSILON = 1e-4  # added to the mean, equation (2)
LEAST_RATE = 1e-6  # of the Gamma rate θ / μ
BLOCK = 2**18  # values worked on at a time, 1 MiB in single precision


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
    """Σ_g of the part of (2) that depends on the mean, softmax and its linear map included, with its derivatives.

    With a = ln((μ + ε)/θ), kept below ln(1/LEAST_RATE): -(θ + x) ln(1 + eᵃ) + x a. Most of a training step is spent
    here, and most of that on moving (particle, cell, gene) values through memory, so they are worked on in blocks of
    cells that stay in the cache, and only μ is kept for the way back. By autograd the same numbers take three times as
    long.
    """

    @staticmethod
    def forward(
        ctx: Any, units: Tensor, weight: Tensor, bias: Tensor, log_dispersion: Tensor, counts: Tensor, library: Tensor
    ) -> Tensor:
        """(particle, cell, unit), (gene, unit), (gene,), (gene,), (cell, gene), (cell,) -> (particle, cell)."""
        inverse, total = torch.exp(-log_dispersion), torch.exp(log_dispersion) + counts
        keep = any(ctx.needs_input_grad)
        means: list[Tensor] = []
        found = counts.new_empty(units.shape[:2])
        for particle, own in enumerate(units):
            mean = at_least_single(own @ weight.T)  # (cell, unit) @ (unit, gene) -> (cell, gene)
            for cells in _blocks(counts):
                part = mean[cells].add_(bias)
                part -= torch.logsumexp(part, dim=-1, keepdim=True)
                part.exp_().mul_(library[cells].unsqueeze(-1))
                ratio = ((part + EPSILON).mul_(inverse)).clamp_(max=1 / LEAST_RATE)
                seen = torch.linalg.vecdot(counts[cells], torch.log(ratio))
                found[particle, cells] = seen - torch.linalg.vecdot(total[cells], ratio.log1p_())
            if keep:
                means.append(mean)
        ctx.save_for_backward(units, weight, log_dispersion, counts, library, *means)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        units, weight, log_dispersion, counts, library, *means = ctx.saved_tensors
        inverse, dispersion = torch.exp(-log_dispersion), torch.exp(log_dispersion)
        total = dispersion + counts
        by_units, by_weight = torch.empty_like(units), torch.empty_like(weight)
        by_bias, by_dispersion = torch.zeros_like(log_dispersion), torch.zeros_like(log_dispersion)
        by_logits = torch.empty_like(counts)
        for particle, mean in enumerate(means):
            for cells in _blocks(counts):
                own, scale = mean[cells], gradient[particle, cells]
                ratio = (own + EPSILON).mul_(inverse)
                by_ratio = counts[cells] - total[cells] * (ratio / (1 + ratio))
                by_ratio.masked_fill_(ratio >= 1 / LEAST_RATE, 0.0)
                direct = ratio.clamp_(max=1 / LEAST_RATE).log1p_().mul_(dispersion).add_(by_ratio)
                by_dispersion -= scale @ direct
                by_ratio.mul_(own / (own + EPSILON))
                share = by_ratio.sum(-1, keepdim=True) / library[cells].unsqueeze(-1)
                torch.mul(by_ratio.sub_(own * share), scale.unsqueeze(-1), out=by_logits[cells])
            by_bias += by_logits.sum(0)
            short = by_logits.to(weight.dtype)
            by_units[particle] = short @ weight  # (cell, gene) @ (gene, unit) -> (cell, unit)
            by_weight.addmm_(short.T, units[particle], beta=int(particle > 0))
        return by_units, by_weight, by_bias.to(weight.dtype), by_dispersion, None, None


def _blocks(counts: Tensor) -> Iterator[slice]:
    """Cells in blocks of about `BLOCK` values."""
    size = max(1, BLOCK // max(counts.shape[1], 1))
    return (slice(start, start + size) for start in range(0, len(counts), size))


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
        flat = units.reshape(-1, *units.shape[-2:])
        given: tuple[Tensor, ...] = (flat, self.share.weight, self.share.bias)
        if torch.is_autocast_enabled(units.device.type):
            short = torch.get_autocast_dtype(units.device.type)
            given = (flat.to(short), self.share.weight.to(short), self.share.bias.to(short))
        with in_single(units):  # sums over genes nearly cancel: of short products they are 4 % off
            part: Tensor = _MeanPart.apply(*given, self.log_dispersion, values, library.clamp(min=1e-8))
        return part.reshape(units.shape[:-1]) + _ways(values, torch.exp(self.log_dispersion))


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
