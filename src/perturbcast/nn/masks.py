"""Masks of zeros and ones through which gradients flow (binary concrete, straight through; spec 2.4)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

EDGE = 1e-6  # the soft value is kept within (EDGE, 1 - EDGE)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        odds = logits + torch.logit(uniform, eps=EDGE)
        soft = odds.div_(temperature).sigmoid_().clamp_(EDGE, 1 - EDGE)
        ctx.save_for_backward(soft)
        ctx.temperature, ctx.shape = temperature, logits.shape
        return torch.round(soft)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (soft,) = ctx.saved_tensors
        slope = (1 - soft).mul_(soft).masked_fill_((soft <= EDGE) | (soft >= 1 - EDGE), 0.0)
        return (slope.mul_(gradient).div_(ctx.temperature)).sum_to_size(ctx.shape), None, None


def straight_through_mask(
    logits: Float[Tensor, "*#shape"], uniform: Float[Tensor, "*#shape"], *, temperature: float = 1.0
) -> Float[Tensor, "..."]:
    """m = round(s), s = σ((logits + ln u - ln(1 - u)) / τ), with ∂m/∂logits := ∂s/∂logits = s(1 - s)/τ, equation (3).

    `uniform` are numbers in (0, 1); shapes are broadcast. A value of exactly ½ rounds to 0.
    """
    hard: Tensor = _StraightThrough.apply(logits, uniform, temperature)
    return hard
