"""Sums and products over the edges of a graph, piece by piece: no array of edges times channels is ever kept.

An array with a row of all channels for every edge does not fit a processor's cache, and not memory where edges are
millions. Here pieces of edges are gathered, used and let go, and computed anew for the gradient. The numbers are those
of the plain form up to rounding.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 1 << 18  # numbers (edge, head, channel) at once: 1 MB, which caches hold; bounds memory, not results


def edge_products(
    left: Float[Tensor, "from head channel"], right: Float[Tensor, "to head channel"], edges: Int[Tensor, "2 edge"]
) -> Float[Tensor, "edge head"]:
    """The inner product of both ends of each edge, by head."""
    found: Tensor = _Products.apply(left, right, *edges)
    return found


def edge_sums(
    weight: Float[Tensor, "edge head"],
    sent: Float[Tensor, "from head channel"],
    edges: Int[Tensor, "2 edge"],
    *,
    n_nodes: int,
    merged: bool = False,
) -> Float[Tensor, "to part channel"]:
    """What each node is sent, times the weights of edges; by head, or summed over heads (`merged`, one part)."""
    found: Tensor = _Sums.apply(weight, sent, *edges, n_nodes, merged)
    return found


def edge_logits(
    sent: Float[Tensor, "from head channel"],
    asked: Float[Tensor, "to head channel"],
    score: Float[Tensor, "1 head channel"],
    edges: Int[Tensor, "2 edge"],
    *,
    slope: float,
) -> Float[Tensor, "edge head"]:
    """aᵀ LeakyReLU(what is sent + what is asked with) of each edge: logits of GATv2 (A-11)."""
    found: Tensor = _Logits.apply(sent, asked, score, *edges, slope)
    return found


def _pieces(width: int, *arrays: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The arrays over edges in pieces."""
    size = max(PIECE // max(width, 1), 1)
    return zip(*(array.split(size) for array in arrays), strict=True)


def _products(left: Tensor, right: Tensor, source: Tensor, destination: Tensor) -> Tensor:
    """(edge, head); one of both sides may have a single head, which then meets all of the other."""
    n_heads = max(left.shape[1], right.shape[1])
    found = left.new_empty(len(source), n_heads)
    for out, start, end in _pieces(n_heads * left.shape[2], found, source, destination):
        torch.sum(left.index_select(0, start) * right.index_select(0, end), dim=2, out=out)
    return found


def _sums(weight: Tensor, sent: Tensor, source: Tensor, destination: Tensor, n_nodes: int, merged: bool) -> Tensor:
    """(node, head, channel), or (node, 1, channel) summed over heads."""
    n_parts, n_channels = 1 if merged else weight.shape[1], sent.shape[2]
    found = sent.new_zeros(n_nodes, n_parts * n_channels)
    for share, start, end in _pieces(weight.shape[1] * n_channels, weight, source, destination):
        message = sent.index_select(0, start) * share[:, :, None]
        found.index_add_(0, end, message.sum(dim=1) if merged else message.flatten(1))
    return found.unflatten(1, (n_parts, n_channels))


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, source: Tensor, destination: Tensor) -> Tensor:
        ctx.save_for_backward(left, right, source, destination)
        return _products(left, right, source, destination)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        left, right, source, destination = ctx.saved_tensors
        by_left = _sums(gradient, right, destination, source, len(left), False)
        return by_left, _sums(gradient, left, source, destination, len(right), False), None, None


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, sent: Tensor, source: Tensor, destination: Tensor, n_nodes: int, merged: bool
    ) -> Tensor:
        ctx.save_for_backward(weight, sent, source, destination)
        return _sums(weight, sent, source, destination, n_nodes, merged)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        weight, sent, source, destination = ctx.saved_tensors
        by_weight = _products(sent, gradient, source, destination)
        return by_weight, _sums(weight, gradient, destination, source, len(sent), False), None, None, None, None


class _Logits(torch.autograd.Function):
    """With z = sent + asked and f(z) = slope(z) z, one sum over edges of gradient · slope(z) gives all gradients."""

    @staticmethod
    def forward(
        ctx: Any, sent: Tensor, asked: Tensor, score: Tensor, source: Tensor, destination: Tensor, slope: float
    ) -> Tensor:
        ctx.save_for_backward(sent, asked, score, source, destination)
        ctx.slope = slope
        found = sent.new_empty(len(source), sent.shape[1])
        for out, start, end in _pieces(score.numel(), found, source, destination):
            both = sent.index_select(0, start).add_(asked.index_select(0, end))
            torch.sum(torch.nn.functional.leaky_relu_(both, slope).mul_(score), dim=2, out=out)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        sent, asked, score, source, destination = ctx.saved_tensors
        by_sent, by_asked = torch.zeros_like(sent).flatten(1), torch.zeros_like(asked).flatten(1)
        for own, start, end in _pieces(score.numel(), gradient, source, destination):
            both = sent.index_select(0, start).add_(asked.index_select(0, end))
            part = both.gt_(0.0).mul_(1.0 - ctx.slope).add_(ctx.slope).mul_(own[:, :, None]).flatten(1)
            by_sent.index_add_(0, start, part)
            by_asked.index_add_(0, end, part)
        by_sent, by_asked = by_sent.view_as(sent), by_asked.view_as(asked)
        by_score = ((sent * by_sent).sum(dim=0) + (asked * by_asked).sum(dim=0))[None]
        return by_sent * score, by_asked * score, by_score, None, None, None
