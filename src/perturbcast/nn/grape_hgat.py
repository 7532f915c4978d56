"""The heterogeneous graph attention of GRAPE (A-11), with perturbed genes masked, computed anew only where they reach.

A masked gene changes its own state and those of the genes that it sends messages to; all other states are those of the
unmasked graph. So the graph is run once, and each query recomputes what its targets reach: the same numbers as a whole
run per query.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATConv, GATv2Conv
from torch_geometric.utils import softmax

from perturbcast.nn.grape_dense import dense_received
from perturbcast.nn.grape_graph import N_RELATIONS, MessageGraph, Reach, reach_of

BLOCK = 1024  # rows per product when asked: always as many, so that a row's bits do not depend on the others


@dataclass(frozen=True)
class Masked:
    """States of some queries that differ from those of the unmasked graph, by number query · n + node, sorted."""

    key: Int[Tensor, " change"]
    state: Float[Tensor, "change state"]


class BiasedGATv2(GATv2Conv):
    """GATv2 whose logits take a bias per edge, so that the response loss trains the weights of edges (A.4)."""

    def __init__(self, n_in: int, n_out: int, *, n_heads: int, concat: bool, dropout: float) -> None:
        super().__init__(n_in, n_out, heads=n_heads, concat=concat, dropout=dropout, add_self_loops=False)

    def sent(self, states: Tensor) -> Tensor:
        """What nodes send, (node, head, channel)."""
        return torch.as_tensor(self.lin_l(states)).unflatten(1, (self.heads, -1))

    def asked(self, states: Tensor) -> Tensor:
        """What nodes ask with, (node, head, channel)."""
        return torch.as_tensor(self.lin_r(states)).unflatten(1, (self.heads, -1))

    def received(self, sent: Tensor, asked: Tensor, edges: Tensor, bias: Tensor | None) -> Tensor:
        """The attended messages of each destination; its bias alone where there are none."""
        logit = functional.leaky_relu(sent[edges[0]] + asked[edges[1]], self.negative_slope)
        logit = (logit * self.att).sum(dim=2)
        return _attended(self, logit if bias is None else logit + bias[:, None], sent, asked, edges)

    def pair_logits(self, sent: Tensor, asked: Tensor) -> Tensor:
        """Logits of all pairs, (destination, source, head)."""
        return (functional.leaky_relu(sent[None] + asked[:, None], self.negative_slope) * self.att).sum(dim=3)


class PlainGAT(GATConv):
    """The first GAT, as in the released code: logits are a sum of a term of the source and one of the destination."""

    def __init__(self, n_in: int, n_out: int, *, n_heads: int, concat: bool, dropout: float) -> None:
        super().__init__(n_in, n_out, heads=n_heads, concat=concat, dropout=dropout, add_self_loops=False)

    def sent(self, states: Tensor) -> Tensor:
        """What nodes send, (node, head, channel)."""
        return torch.as_tensor(self.lin(states)).unflatten(1, (self.heads, -1))

    asked = sent

    def received(self, sent: Tensor, asked: Tensor, edges: Tensor, bias: Tensor | None) -> Tensor:
        """The attended messages of each destination; its bias alone where there are none."""
        source, destination = (sent * self.att_src).sum(dim=2), (asked * self.att_dst).sum(dim=2)
        logit = functional.leaky_relu(source[edges[0]] + destination[edges[1]], self.negative_slope)
        return _attended(self, logit if bias is None else logit + bias[:, None], sent, asked, edges)

    def pair_logits(self, sent: Tensor, asked: Tensor) -> Tensor:
        """Logits of all pairs, (destination, source, head): sums of two terms, so that no channel is repeated."""
        source, destination = (sent * self.att_src).sum(dim=2), (asked * self.att_dst).sum(dim=2)
        return functional.leaky_relu(source[None] + destination[:, None], self.negative_slope)


def _attended(conv: Any, logit: Tensor, sent: Tensor, asked: Tensor, edges: Tensor) -> Tensor:
    """PyG's propagation of what is sent, weighed by the softmax of logits over the in-edges of each destination."""
    weight = softmax(logit, edges[1], num_nodes=len(asked))
    weight = functional.dropout(weight, conv.dropout, conv.training)
    found = conv.propagate(edges, x=(sent, asked), alpha=weight, size=(len(sent), len(asked)))
    return torch.as_tensor((found.flatten(1) if conv.concat else found.mean(dim=1)) + conv.bias)


class RelationLayer(nn.Module):
    """One attention per relation; their mean, or one state per relation side by side (`apart`, as in the code)."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_heads: int,
        version: str,
        concat: bool,
        dropout: float,
        apart: bool,
        reads_apart: bool,
        residual: bool,
        biased: bool,
    ) -> None:
        super().__init__()
        kind = BiasedGATv2 if version == "v2" else PlainGAT
        self.attention = nn.ModuleList(
            kind(n_in, n_out, n_heads=n_heads, concat=concat, dropout=dropout) for _ in range(N_RELATIONS)
        )
        self.apart, self.reads_apart = apart, reads_apart
        self.norm = nn.LayerNorm(n_out * n_heads) if residual else None
        self.strength = nn.Parameter(torch.ones(N_RELATIONS)) if biased else None  # kappa_r; A.4
        self.dropout = dropout

    def forward(self, states: Float[Tensor, "node state"], graph: MessageGraph) -> "Unmasked":
        """The next states without any mask, and what is needed to mask some."""
        sent = [conv.sent(part) for conv, part in self._parts(states)]
        asked = [conv.asked(part) for conv, part in self._parts(states)]
        edges = torch.stack([graph.source[: graph.n_awake], graph.destination[: graph.n_awake]])
        outs = []
        for number, chosen in enumerate(graph.by_relation):
            outs.append(
                self._received(number, sent, asked, edges[:, chosen], graph, chosen, dense=graph.crowded[number])
            )
        return Unmasked(states, sent, asked, self._joined(outs, states))

    def masked(self, unmasked: "Unmasked", graph: MessageGraph, changed: Masked) -> Masked:
        """The next states that differ, of queries in which some states do."""
        reach = reach_of(graph, changed.key)
        n, n_messages = graph.n_nodes, len(reach.source)
        rows, place = torch.unique(torch.cat([reach.source, _rows(reach, n)]), return_inverse=True)
        old, new = rows[rows < n], rows[rows >= n] - n

        def table(before: Tensor, after: Tensor) -> Tensor:
            """Only the rows that take part."""
            return torch.cat([before[old], after[new]])

        parts = self._parts(changed.state)
        sent = [table(x, self._whole(c.sent, y)) for x, (c, y) in zip(unmasked.sent, parts, strict=True)]
        asked = [table(x, self._whole(c.asked, y)) for x, (c, y) in zip(unmasked.asked, parts, strict=True)]
        source, own = place[:n_messages], place[n_messages:]
        relation = graph.relation[reach.edge]
        outs = []
        for number in range(N_RELATIONS):
            chosen = torch.nonzero(relation == number)[:, 0]
            edges = torch.stack([source[chosen], reach.destination[chosen]])
            outs.append(self._received(number, sent, [x[own] for x in asked], edges, graph, reach.edge[chosen]))
        return Masked(reach.affected, self._joined(outs, table(unmasked.before, changed.state)[own]))

    def _parts(self, states: Tensor) -> list[tuple[Any, Tensor]]:
        """Each relation's attention with the states that it reads."""
        parts = states.chunk(N_RELATIONS, dim=1) if self.reads_apart else [states] * N_RELATIONS
        return list(zip(self.attention, parts, strict=True))

    def _whole(self, project: Any, states: Tensor) -> Tensor:
        """The projected states, in blocks of equal size when asked."""
        if self.training:
            return torch.as_tensor(project(states))
        blocks = functional.pad(states, (0, 0, 0, -len(states) % BLOCK)).split(BLOCK)
        return torch.cat([project(block) for block in blocks])[: len(states)]

    def _received(
        self,
        number: int,
        sent: list[Tensor],
        asked: list[Tensor],
        edges: Tensor,
        graph: MessageGraph,
        chosen: Tensor,
        *,
        dense: bool = False,
    ) -> Tensor:
        bias = None
        if graph.bias is not None and self.strength is not None:
            bias = self.strength[number] * graph.bias[chosen]
        conv: Any = self.attention[number]
        if dense:
            return dense_received(conv, sent[number], asked[number], edges, bias)
        return torch.as_tensor(conv.received(sent[number], asked[number], edges, bias))

    def _joined(self, outs: list[Tensor], before: Tensor) -> Tensor:
        if self.norm is not None:
            mean = torch.stack(outs).mean(dim=0)  # A-11, oracle A8
            return torch.as_tensor(self.norm(before + functional.dropout(mean, self.dropout, self.training)))
        active = [functional.relu(out) for out in outs]
        return torch.cat(active, dim=1) if self.apart else torch.stack(active).mean(dim=0)


@dataclass(frozen=True)
class Unmasked:
    """A layer's run without masks: states before it, what nodes send and ask by relation, and states after it."""

    before: Tensor
    sent: list[Tensor]
    asked: list[Tensor]
    after: Tensor


def _rows(reach: Reach, n_nodes: int) -> Tensor:
    """Row of each affected state before the layer: its node, or n + its place among the changed."""
    at = torch.searchsorted(reach.changed, reach.affected).clamp(max=len(reach.changed) - 1)
    return torch.where(reach.changed[at] == reach.affected, n_nodes + at, reach.affected % n_nodes)
