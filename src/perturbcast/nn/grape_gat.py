"""Graph attention of both versions on the weights of PyG's layers, edge by edge, and sums that can be changed.

A softmax over in-edges is kept as its sums before the division. Where single messages change, they are exchanged in
those sums: the same numbers as all messages anew, at the cost of those that change.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from torch_geometric.nn import GATConv, GATv2Conv

from perturbcast.nn.grape_messages import edge_logits, edge_sums

LEAST_MASS = 1e-12  # of a node that hears nothing


@dataclass(frozen=True)
class Heard:
    """What nodes hear over some edges, before the division of the softmax."""

    top: Float[Tensor, "node head"]  # largest logit, -inf without in-edges; a constant, which the division cancels
    weight: Float[Tensor, "edge head"]  # exp(logit - top)
    spoken: Float[Tensor, "edge head"]  # the same after dropout
    mass: Float[Tensor, "node head"]  # sums of weights

    def shares(self, destination: Int[Tensor, " edge"]) -> Float[Tensor, "edge head"]:
        """The attention of each edge."""
        return self.spoken / self.mass[destination]


class _Attention:
    """What both versions have in common."""

    def received(self: Any, sent: Tensor, asked: Tensor, edges: Tensor, bias: Tensor | None) -> Tensor:
        """The attended messages of each destination; its bias alone where there are none."""
        shares = heard_over(self, sent, asked, edges, bias).shares(edges[1])
        return finished(self, edge_sums(shares, sent, edges, n_nodes=len(asked), merged=not self.concat))


class BiasedGATv2(_Attention, GATv2Conv):
    """GATv2 whose logits take a bias per edge, so that the response loss trains the weights of edges (A.4)."""

    def __init__(self, n_in: int, n_out: int, *, n_heads: int, concat: bool, dropout: float) -> None:
        super().__init__(n_in, n_out, heads=n_heads, concat=concat, dropout=dropout, add_self_loops=False)

    def sent(self, states: Tensor) -> Tensor:
        """What nodes send, (node, head, channel)."""
        return torch.as_tensor(self.lin_l(states)).unflatten(1, (self.heads, -1))

    def asked(self, states: Tensor) -> Tensor:
        """What nodes ask with, (node, head, channel)."""
        return torch.as_tensor(self.lin_r(states)).unflatten(1, (self.heads, -1))

    def logits(self, sent: Tensor, asked: Tensor, edges: Tensor) -> Tensor:
        """Logits of edges, (edge, head)."""
        return edge_logits(sent, asked, self.att, edges, slope=self.negative_slope)


class PlainGAT(_Attention, GATConv):
    """The first GAT, as in the released code: logits are a sum of a term of the source and one of the destination."""

    def __init__(self, n_in: int, n_out: int, *, n_heads: int, concat: bool, dropout: float) -> None:
        super().__init__(n_in, n_out, heads=n_heads, concat=concat, dropout=dropout, add_self_loops=False)

    def sent(self, states: Tensor) -> Tensor:
        """What nodes send, (node, head, channel)."""
        return torch.as_tensor(self.lin(states)).unflatten(1, (self.heads, -1))

    asked = sent

    def logits(self, sent: Tensor, asked: Tensor, edges: Tensor) -> Tensor:
        """Logits of edges, (edge, head)."""
        source, destination = (sent * self.att_src).sum(dim=2), (asked * self.att_dst).sum(dim=2)
        return functional.leaky_relu(source[edges[0]] + destination[edges[1]], self.negative_slope)

    def pair_logits(self, sent: Tensor, asked: Tensor) -> Tensor:
        """Logits of all pairs, (destination, source, head): sums of two terms, so that no channel is repeated."""
        source, destination = (sent * self.att_src).sum(dim=2), (asked * self.att_dst).sum(dim=2)
        return functional.leaky_relu(source[None] + destination[:, None], self.negative_slope)


def heard_over(conv: Any, sent: Tensor, asked: Tensor, edges: Tensor, bias: Tensor | None) -> Heard:
    """What the nodes that ask hear over some edges."""
    logit = _biased(conv.logits(sent, asked, edges), bias)
    top = _highest(logit.new_full((len(asked), logit.shape[1]), -torch.inf), logit, edges[1])
    weight = torch.exp(logit - top[edges[1]])
    mass = torch.zeros_like(top).index_add(0, edges[1], weight)
    return Heard(top, weight, functional.dropout(weight, conv.dropout, conv.training), mass)


def finished(conv: Any, sums: Float[Tensor, "node part channel"]) -> Float[Tensor, "node state"]:
    """Attended messages as the layer gives them: heads side by side, or their mean, and its bias."""
    return torch.as_tensor((sums.flatten(1) if conv.concat else sums.sum(dim=1) / conv.heads) + conv.bias)


@dataclass(frozen=True)
class Exchange:
    """Messages that nodes hear anew or no longer, in numbers of the pairs (query, node) whose states are asked for."""

    node: Int[Tensor, " pair"]
    whole: Bool[Tensor, " pair"]  # nothing is kept of what the node hears without masks
    own: Int[Tensor, " pair"]  # row in the table of what nodes ask with
    new: Int[Tensor, "2 message"]  # row in the table of what nodes send; pair
    gone: Int[Tensor, "2 gone"]  # the same
    place: Int[Tensor, " gone"]  # number among the edges heard without masks


def exchanged(
    conv: Any,
    kept: tuple[Heard, Float[Tensor, "node head channel"]],
    sent: Float[Tensor, "row head channel"],
    asked: Float[Tensor, "row head channel"],
    exchange: Exchange,
    bias: Float[Tensor, " message"] | None,
) -> Float[Tensor, "pair state"]:
    """What pairs hear: of what is kept of the run without masks (and its sums of messages), less and more messages."""
    (heard, sums), (source, pair), gone_pair = kept, exchange.new, exchange.gone[1]
    n_pairs, merged = len(exchange.node), not conv.concat
    logit = _biased(conv.logits(sent, asked, torch.stack([source, exchange.own[pair]])), bias)
    before = heard.top[exchange.node].masked_fill(exchange.whole[:, None], -torch.inf)
    top = _highest(before, logit, pair)
    top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))  # a node that hears nothing
    rest, weight = torch.exp(before - top), torch.exp(logit - top[pair])
    gone = heard.weight[exchange.place] * rest[gone_pair]
    mass = (rest * heard.mass[exchange.node]).index_add(0, pair, weight).index_add(0, gone_pair, -gone)
    mass = mass.clamp(min=LEAST_MASS)
    spoken = functional.dropout(weight, conv.dropout, conv.training)
    gone = heard.spoken[exchange.place] * rest[gone_pair]
    share = torch.cat([spoken / mass[pair], -gone / mass[gone_pair]])
    keeps = torch.nonzero(rest.any(dim=1))[:, 0]
    by_kept = torch.stack([exchange.node[keeps], keeps])
    found = edge_sums((rest / mass)[keeps], sums, by_kept, n_nodes=n_pairs, merged=merged)
    messages = torch.cat([exchange.new, exchange.gone], dim=1)
    return finished(conv, found + edge_sums(share, sent, messages, n_nodes=n_pairs, merged=merged))


def _biased(logit: Tensor, bias: Tensor | None) -> Tensor:
    return logit if bias is None else logit + bias[:, None]


def _highest(start: Tensor, logit: Tensor, to: Tensor) -> Tensor:
    """(node, head) the largest logit of each node, no less than it starts from; a constant."""
    index = to[:, None].expand_as(logit)
    return start.detach().scatter_reduce(0, index, logit.detach(), "amax")
