"""Kullback-Leibler divergences, exact and by samples, and bounds on the evidence (spec 2.7, 3.3, 7.4)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from perturbcast.nn.trunk import Gaussian

LOG_TWO_PI = math.log(2 * math.pi)


def bernoulli_kl(logits: Float[Tensor, "..."], prior: float | Tensor) -> Float[Tensor, "..."]:
    """KL(Bern(σ(logits)) ‖ Bern(prior)) per entry, equation (6); finite for any finite logits."""
    prior = torch.as_tensor(prior, dtype=logits.dtype, device=logits.device)
    probability = torch.sigmoid(logits)
    on = logsigmoid(logits) - torch.log(prior)
    off = logsigmoid(-logits) - torch.log1p(-prior)
    return probability * on + (1 - probability) * off


def bernoulli_log_ratio(
    mask: Float[Tensor, "..."], logits: Float[Tensor, "..."], prior: float | Tensor
) -> Float[Tensor, "..."]:
    """ln q(mask) - ln p(mask) per entry at a drawn mask: the Monte-Carlo form of (6)."""
    prior = torch.as_tensor(prior, dtype=logits.dtype, device=logits.device)
    on = logsigmoid(logits) - torch.log(prior)
    off = logsigmoid(-logits) - torch.log1p(-prior)
    return mask * on + (1 - mask) * off


def normal_kl(one: Gaussian, other: Gaussian) -> Float[Tensor, "..."]:
    """KL(one ‖ other) per entry, equation (7)."""
    ratio = one.variance / other.variance
    return 0.5 * (ratio + (one.mean - other.mean) ** 2 / other.variance - 1 - torch.log(ratio))


def standard_normal_kl(one: Gaussian, *, scale: float = 1.0) -> Float[Tensor, "..."]:
    """KL(one ‖ 𝒩(0, scale²)) per entry."""
    ratio = one.variance / scale**2
    return 0.5 * (ratio + one.mean**2 / scale**2 - 1 - torch.log(ratio))


def normal_log_prob(value: Float[Tensor, "..."], distribution: Gaussian) -> Float[Tensor, "..."]:
    """Log density per entry."""
    square = (value - distribution.mean) ** 2 / distribution.variance
    return -0.5 * (square + torch.log(distribution.variance) + LOG_TWO_PI)


def standard_normal_log_ratio(
    value: Float[Tensor, "..."], one: Gaussian, *, scale: float = 1.0
) -> Float[Tensor, "..."]:
    """ln q(value) - ln 𝒩(value; 0, scale²) per entry: the Monte-Carlo form of the divergence."""
    prior = -0.5 * (value**2 / scale**2 + 2 * math.log(scale) + LOG_TWO_PI)
    return normal_log_prob(value, one) - prior


def drawn_log_ratio(
    value: Float[Tensor, "..."], one: Gaussian, noise: Float[Tensor, "..."], *, scale: float = 1.0
) -> Float[Tensor, "..."]:
    """`standard_normal_log_ratio` at value = `one.draw(noise)`, by fewer passes: its quadratic term is noise²."""
    half = 0.5 * (value**2 / scale**2 if scale != 1.0 else value**2)
    return half - 0.5 * torch.log(one.variance) + (math.log(scale) - 0.5 * noise**2)


def importance_weighted_bound(log_weight: Float[Tensor, "particle cell"]) -> Float[Tensor, " cell"]:
    """ln of the mean weight over particles, equation (27); never below the mean of the log weights (the ELBO)."""
    return torch.logsumexp(log_weight, dim=0) - math.log(log_weight.shape[0])
