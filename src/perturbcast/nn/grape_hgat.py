"""The heterogeneous graph attention of GRAPE (A-11), with perturbed genes masked, computed anew only where they reach.

A masked gene changes its own state and those of the genes that it sends messages to; all other states are those of the
unmasked graph. So the graph is run once, and each query recomputes what its targets reach: the same numbers as a whole
run per query. Where genes have many neighbours, only messages that change are exchanged. Dropout of attention is drawn
once a step for what no mask changes, and anew for every other message.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from perturbcast.nn.grape_dense import dense_received
from perturbcast.nn.grape_gat import BiasedGATv2, Exchange, Heard, PlainGAT, exchanged, finished, heard_over
from perturbcast.nn.grape_graph import N_RELATIONS, MessageGraph, Reach, reach_of, rows_of
from perturbcast.nn.grape_messages import edge_sums

BLOCK = 1024  # rows per product when asked: always as many, so that a row's bits do not depend on the others


@dataclass(frozen=True)
class Masked:
    """States of some queries that differ from those of the unmasked graph, by number query · n + node, sorted."""

    key: Int[Tensor, " change"]
    state: Float[Tensor, "change state"]


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
        outs, kept = [], []
        for number in range(N_RELATIONS):
            if graph.exchanges:
                kept.append(self._kept(number, sent[number], asked[number], graph))
                heard, sums = kept[-1]
                outs.append(finished(self.attention[number], sums / heard.mass.clamp(min=1.0)[:, :, None]))
            else:
                outs.append(self._received(number, sent[number], asked[number], graph))
        return Unmasked(states, sent, asked, self._joined(outs, states), kept)

    def masked(
        self, unmasked: "Unmasked", graph: MessageGraph, changed: Masked, *, n_wanted: int | None = None
    ) -> Masked:
        """The next states that differ, of queries in which some states do; where messages are exchanged, of the first
        `n_wanted` nodes.
        """
        share = unmasked.share(graph)
        reach = reach_of(graph, changed.key, share=share, n_wanted=None if share is None else n_wanted)
        n = graph.n_nodes
        wanted = [reach.source, rows_of(reach.affected, changed.key, n_nodes=n), graph.source[reach.gone]]
        rows, place = torch.unique(torch.cat(wanted), return_inverse=True)
        old, new = rows[rows < n], rows[rows >= n] - n

        def table(before: Tensor, after: Tensor) -> Tensor:
            """Only the rows that take part."""
            return torch.cat([before[old], after[new]])

        parts = self._parts(changed.state)
        sent = [table(x, self._whole(c.sent, y)) for x, (c, y) in zip(unmasked.sent, parts, strict=True)]
        asked = [table(x, self._whole(c.asked, y)) for x, (c, y) in zip(unmasked.asked, parts, strict=True)]
        source, own, gone = place.split([len(part) for part in wanted])
        outs = []
        for number in range(N_RELATIONS):
            given = sent[number], asked[number]
            outs.append(self._heard_anew(number, unmasked, given, graph, reach, (source, own, gone)))
        return Masked(reach.affected, self._joined(outs, table(unmasked.before, changed.state)[own]))

    def _heard_anew(
        self,
        number: int,
        unmasked: "Unmasked",
        given: tuple[Tensor, Tensor],
        graph: MessageGraph,
        reach: Reach,
        rows: tuple[Tensor, Tensor, Tensor],
    ) -> Tensor:
        """What affected states hear over one relation; `rows` of the tables: sources, states, gone sources."""
        (sent, asked), (source, own, gone) = given, rows
        conv: Any = self.attention[number]
        chosen = torch.nonzero(graph.relation[reach.edge] == number)[:, 0]
        edges = torch.stack([source[chosen], reach.destination[chosen]])
        bias = self._bias(number, graph, reach.edge[chosen])
        if not unmasked.kept:
            return torch.as_tensor(conv.received(sent, asked[own], edges, bias))
        lost = torch.nonzero(graph.relation[reach.gone] == number)[:, 0]
        exchange = Exchange(
            reach.affected % graph.n_nodes,
            reach.whole,
            own,
            edges,
            torch.stack([gone[lost], reach.gone_from[lost]]),
            graph.place[reach.gone[lost]],
        )
        return exchanged(conv, unmasked.kept[number], sent, asked, exchange, bias)

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

    def _bias(self, number: int, graph: MessageGraph, edges: Tensor) -> Tensor | None:
        """What is added to the logits of some edges of a relation."""
        if graph.bias is None or self.strength is None:
            return None
        return torch.as_tensor(self.strength[number] * graph.bias[edges])

    def _received(self, number: int, sent: Tensor, asked: Tensor, graph: MessageGraph) -> Tensor:
        """The messages of one relation without masks; of the first GAT over all pairs where edges are many (A.9 ii)."""
        conv: Any = self.attention[number]
        bias = self._bias(number, graph, graph.by_relation[number])
        if isinstance(conv, PlainGAT) and graph.crowded[number]:
            return dense_received(conv, sent, asked, graph.edges_of(number), bias)
        return torch.as_tensor(conv.received(sent, asked, graph.edges_of(number), bias))

    def _kept(self, number: int, sent: Tensor, asked: Tensor, graph: MessageGraph) -> tuple[Heard, Tensor]:
        """The same before the division of the softmax, with the sums of messages."""
        conv: Any = self.attention[number]
        edges = graph.edges_of(number)
        heard = heard_over(conv, sent, asked, edges, self._bias(number, graph, graph.by_relation[number]))
        return heard, edge_sums(heard.spoken, sent, edges, n_nodes=len(asked))

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
    kept: list[tuple[Heard, Tensor]]  # by relation, where messages are exchanged: what is heard, and sums of messages

    def share(self, graph: MessageGraph) -> Tensor | None:
        """(edge, head) what each waking edge has of the attention of its destination; None where none is exchanged."""
        if not self.kept:
            return None
        found = self.kept[0][0].weight.new_empty(graph.n_awake, self.kept[0][0].weight.shape[1])
        for number, (heard, _) in enumerate(self.kept):
            found[graph.by_relation[number]] = (heard.weight / heard.mass[graph.edges_of(number)[1]]).detach()
        return found
