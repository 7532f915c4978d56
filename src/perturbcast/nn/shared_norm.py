"""Batch normalisation over rows that stand for several cells each: the numbers of nn.BatchNorm1d, each row once."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import relu

MOMENTUM, EPSILON = 0.1, 1e-5  # as in torch


class Affine(NamedTuple):
    """x times scale plus shift, per channel: a normalisation whose moments are known."""

    scale: Float[Tensor, " channel"]
    shift: Float[Tensor, " channel"]

    def __call__(self, x: Float[Tensor, "... channel"]) -> Float[Tensor, "... channel"]:
        return torch.addcmul(self.shift, x, self.scale)


class _Moments(Function):
    """Mean and variance of weighted rows; two passes forward and two back instead of the seven of plain operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = moments(x, share)
        ctx.save_for_backward(x, share, mean)
        return mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_mean: Tensor, of_variance: Tensor) -> tuple[Tensor, None]:
        x, share, mean = ctx.saved_tensors
        slope = 2 * of_variance
        return torch.addcmul(of_mean - slope * mean, x, slope).mul_(share[:, None]), None


class _NormRelu(Function):
    """ReLU of the normalised rows, and their moments, which are only passed on to the running ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = moments(x, share)
        inverse = torch.rsqrt(variance + EPSILON)
        scale = weight * inverse
        y = torch.addcmul(bias - mean * scale, x, scale).relu_()
        ctx.save_for_backward(x, y, share, mean, inverse, scale)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor, *_: Any) -> tuple[Tensor, None, Tensor, Tensor]:
        x, y, share, mean, inverse, scale = ctx.saved_tensors
        g = torch.ops.aten.threshold_backward(of_y, y, 0.0)
        even = g.new_ones(len(g))
        of_bias = torch.mv(g.T, even)
        of_weight = inverse * (torch.mv((g * x).T, even) - mean * of_bias)
        slope = scale * inverse * of_weight
        common = torch.addcmul(scale * of_bias - slope * mean, x, slope)
        return g.mul_(scale).addcmul_(common, share[:, None], value=-1.0), None, of_weight, of_bias


def moments(
    x: Float[Tensor, "row channel"], share: Float[Tensor, " row"]
) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    """Mean and biased variance of rows whose shares sum to 1."""
    mean = torch.mv(x.T, share)
    return mean, (torch.mv((x * x).T, share) - mean * mean).clamp(min=0.0)


class SharedNorm(nn.Module):
    """A normalisation of weighted rows, with running moments for prediction."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.bias = nn.Parameter(torch.zeros(n_channels))
        self.register_buffer("mean", torch.zeros(n_channels))
        self.register_buffer("variance", torch.ones(n_channels))

    def of_moments(self, mean: Float[Tensor, " channel"], variance: Float[Tensor, " channel"], n_rows: float) -> Affine:
        """The normalisation by moments of a batch in training, by the running ones otherwise."""
        if not self.training:
            return self.running()
        self.note(mean, variance, n_rows)
        return self._affine(mean, variance)

    def running(self) -> Affine:
        """The normalisation by the running moments."""
        return self._affine(self.get_buffer("mean"), self.get_buffer("variance"))

    def _affine(self, mean: Tensor, variance: Tensor) -> Affine:
        scale = self.weight * torch.rsqrt(variance + EPSILON)
        return Affine(scale, self.bias - mean * scale)

    def of_rows(self, x: Float[Tensor, "row channel"], share: Float[Tensor, " row"], n_rows: float) -> Affine:
        """The normalisation for rows of which each is a `share` of the batch; the shares sum to 1."""
        if not self.training:
            return self.running()
        mean, variance = _Moments.apply(x, share)
        return self.of_moments(mean, variance, n_rows)

    def rectified(
        self, x: Float[Tensor, "row channel"], share: Float[Tensor, " row"], n_rows: float
    ) -> Float[Tensor, "row channel"]:
        """ReLU of the normalised rows."""
        if not self.training:
            return relu(self.of_rows(x, share, n_rows)(x))
        y, mean, variance = _NormRelu.apply(x, share, self.weight, self.bias)
        self.note(mean, variance, n_rows)
        return y

    @torch.no_grad()
    def note(self, mean: Float[Tensor, " channel"], variance: Float[Tensor, " channel"], n_rows: float) -> None:
        """Running moments move on; the variance as that of a sample."""
        self.get_buffer("mean").lerp_(mean, MOMENTUM)
        self.get_buffer("variance").lerp_(variance * (n_rows / max(n_rows - 1.0, 1.0)), MOMENTUM)


class SharedMlp(nn.Module):
    """Linear, normalise, ReLU, linear, normalise (spec C.3; no ReLU at the end)."""

    def __init__(self, n_in: int, n_hidden: int, n_out: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Linear(n_in, n_hidden), SharedNorm(n_hidden)
        self.second, self.second_norm = nn.Linear(n_hidden, n_out), SharedNorm(n_out)

    def forward(
        self, x: Float[Tensor, "row channel"], share: Float[Tensor, " row"], n_rows: float
    ) -> Float[Tensor, "row out"]:
        """The output for rows of which each is a share of the batch."""
        z = self.second(self.first_norm.rectified(self.first(x), share, n_rows))
        return self.second_norm.of_rows(z, share, n_rows)(z)
