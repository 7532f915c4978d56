"""The first graph attention where most pairs of genes are edges: whole rows of pairs instead of edge by edge.

The second version has a term for every pair and channel; over edges, piece by piece, it is quicker at any density.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

LARGEST_BLOCK = 1 << 22  # numbers (pair, head, channel) at once: bounds memory, not results


def share_of_pairs(edges: Int[Tensor, "2 edge"], *, n_nodes: int) -> float:
    """Edges as a share of all pairs of a node that sends and one that hears; 0 without edges. Edges are distinct."""
    if not edges.shape[1]:
        return 0.0
    n_sending, n_hearing = (int((torch.bincount(ends, minlength=n_nodes) > 0).sum()) for ends in edges)
    return edges.shape[1] / (n_sending * n_hearing)


def dense_received(
    conv: Any,
    sent: Float[Tensor, "node head channel"],
    asked: Float[Tensor, "node head channel"],
    edges: Int[Tensor, "2 edge"],
    bias: Float[Tensor, " edge"] | None,
) -> Float[Tensor, "node state"]:
    """What `conv.received` gives, by masked softmax over all pairs (A.9 ii); edges are distinct.

    Blocks of destinations bound the memory; in training they are computed anew for the gradient.
    """
    source, column = _renumbered(edges[0], n_nodes=len(sent))
    destination, row = _renumbered(edges[1], n_nodes=len(asked))
    logit = sent.new_full((len(destination), len(source)), -torch.inf)
    logit = logit.index_put((row, column), sent.new_zeros(len(row)) if bias is None else bias)
    values = sent[source]
    per_row = max(LARGEST_BLOCK // max(values.numel(), 1), 1)
    parts = []
    for block, own in zip(asked[destination].split(per_row), logit.split(per_row), strict=True):
        if torch.is_grad_enabled():
            parts.append(checkpoint(_rows, conv, values, block, own, use_reentrant=False))
        else:
            parts.append(_rows(conv, values, block, own))
    found = torch.cat([torch.as_tensor(part) for part in parts])
    whole = found.new_zeros(len(asked), *found.shape[1:]).index_copy(0, destination, found)
    return torch.as_tensor((whole.flatten(1) if conv.concat else whole.mean(dim=1)) + conv.bias)


def _renumbered(ends: Tensor, *, n_nodes: int) -> tuple[Tensor, Tensor]:
    """The nodes that occur, and the place of each end among them."""
    occurs = torch.bincount(ends, minlength=n_nodes) > 0
    return torch.nonzero(occurs)[:, 0], (occurs.cumsum(0) - 1)[ends]


def _rows(conv: Any, values: Tensor, block: Tensor, logit: Tensor) -> Tensor:
    """(destination, head, channel) what some destinations hear; `logit` is -inf where there is no edge."""
    weight = torch.softmax(conv.pair_logits(values, block) + logit[..., None], dim=1)
    weight = functional.dropout(weight, conv.dropout, conv.training)
    return torch.einsum("dsh,shc->dhc", weight, values)
