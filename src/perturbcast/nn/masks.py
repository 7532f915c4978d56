"""Masks of zeros and ones through which gradients flow (binary concrete, straight through; spec 2.4)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

EDGE = 1e-6  # the soft value is kept within (EDGE, 1 - EDGE)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, soft: Tensor) -> Tensor:
        return torch.round(soft)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def straight_through_mask(
    logits: Float[Tensor, "*#shape"], uniform: Float[Tensor, "*#shape"], *, temperature: float = 1.0
) -> Float[Tensor, "..."]:
    """m = round(s), s = σ((logits + ln u - ln(1 - u)) / τ), with ∂m/∂logits := ∂s/∂logits = s(1 - s)/τ, equation (3).

    `uniform` are numbers in (0, 1); shapes are broadcast. A value of exactly ½ rounds to 0.
    """
    uniform = uniform.clamp(EDGE, 1 - EDGE)
    soft = torch.sigmoid((logits + torch.log(uniform) - torch.log1p(-uniform)) / temperature)
    hard: Tensor = _StraightThrough.apply(soft.clamp(EDGE, 1 - EDGE))
    return hard
