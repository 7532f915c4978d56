"""Residual layers with heads: the only kind of network that the family uses."""

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear

SLOPE = 0.01  # of the leaky ReLU
FLOOR = 1e-4  # added to variances, equation (1)
LOG_BOUND = 10.0  # log variances are kept within ± this, so that no variance overflows


class Gaussian(NamedTuple):
    """Independent normal distributions."""

    mean: Float[Tensor, "..."]
    variance: Float[Tensor, "..."]

    def draw(self, noise: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """A draw per standard normal number of `noise`, differentiable in mean and variance."""
        return self.mean + self.variance.sqrt() * noise


class Dosed(NamedTuple):
    """A part of an input that is `dosage @ values`: Σ over rows of what each row adds, times how much of it is given.

    A layer multiplies it as dosage @ (values @ W), once per row and not once per cell.
    """

    dosage: Float[Tensor, "*way cell row"]
    values: Float[Tensor, "*particle row width"]

    @property
    def width(self) -> int:
        """Size of the last axis."""
        return self.values.shape[-1]

    def times(self, weight: Float[Tensor, "unit width"]) -> Float[Tensor, "... cell unit"]:
        """(dosage @ values) @ weightᵀ."""
        return self.dosage @ linear(self.values, weight)


Part = Tensor | Dosed  # of what a layer reads


def at_least_single(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The values in float32 if they are shorter, so that what follows is exact under mixed precision."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def in_single(like: Tensor) -> AbstractContextManager[Any]:
    """Mixed precision is off inside, on the device of a tensor: for sums of a loss, whose products torch shortens."""
    return torch.autocast(like.device.type, enabled=False)


class Trunk(nn.Module):
    """u₁ = φ(W₁x + b₁), then u_t = φ(W_t u_{t-1} + b_t) + u_{t-1}, with φ = LeakyReLU(0.01) (spec 2.1).

    No normalisation layer and no dropout; initial weights are those of torch. The input is given in parts that are
    joined along the last axis *by the sum of their products*, so a part shared by all particles is multiplied once, and
    a `Dosed` part once per row.
    """

    def __init__(self, n_in: int, *, width: int, n_layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, width)
        self.rest = nn.ModuleList(nn.Linear(width, width) for _ in range(n_layers - 1))

    def forward(self, *parts: Part, one_hot: Int[Tensor, " row"] | None = None) -> Float[Tensor, "... unit"]:
        """Units for an input whose last axis is the parts one after another, then, if given, a one-hot of `one_hot`.

        Leading axes are broadcast: (cell, gene) and (particle, cell, latent) give (particle, cell, unit).
        """
        start = 0
        pre: Tensor = self.first.bias
        for part in parts:
            stop = start + (part.width if isinstance(part, Dosed) else part.shape[-1])
            weight = self.first.weight[:, start:stop]
            pre = pre + (part.times(weight) if isinstance(part, Dosed) else linear(part, weight))
            start = stop
        if one_hot is not None:
            pre = pre + self.first.weight[:, start + one_hot].T  # a one-hot picks a column of the weights
        units = leaky_relu(pre, SLOPE)
        for layer in self.rest:
            units = leaky_relu(layer(units), SLOPE) + units
        return units


class GaussianHead(nn.Module):
    """Mean and variance exp(W_v u + b_v) + 10⁻⁴ of normal distributions, equation (1).

    Differs from the published code: log variances are kept within ±10 instead of NaN and infinity being replaced.
    """

    def __init__(self, width: int, n_out: int) -> None:
        super().__init__()
        self.mean = nn.Linear(width, n_out)
        self.log_variance = nn.Linear(width, n_out)

    def forward(self, units: Float[Tensor, "... unit"]) -> Gaussian:
        """The distributions for units of a trunk."""
        log_variance = at_least_single(self.log_variance(units)).clamp(-LOG_BOUND, LOG_BOUND)
        return Gaussian(at_least_single(self.mean(units)), torch.exp(log_variance) + FLOOR)
