"""The graph that GRAPE passes messages over: which genes are neighbours, and what a perturbation can reach in it."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perturbcast.nn.grape_dense import share_of_pairs

N_RELATIONS = 3  # cc, cn, nn; A.1
CROWDED = 0.3  # share of pairs; measured by benchmarks/grape_attention.py


@dataclass(frozen=True)
class MessageGraph:
    """Edges with relation and bias. Those from `n_awake` on only count in queries with their source for a target."""

    source: Int[Tensor, " edge"]
    destination: Int[Tensor, " edge"]
    relation: Int[Tensor, " edge"]
    bias: Float[Tensor, " edge"] | None  # added to the logits of attention
    n_awake: int
    n_nodes: int
    n_core: int

    @cached_property
    def first_in(self) -> Int[Tensor, " bound"]:
        """Where the waking in-edges of each node start; edges are sorted by destination."""
        return starts(torch.bincount(self.destination[: self.n_awake], minlength=self.n_nodes))

    @cached_property
    def out_edges(self) -> tuple[Tensor, Tensor]:
        """The edges by which a node changes the core, its own loop and those to core genes; where each node's start."""
        number = torch.arange(len(self.source), device=self.source.device)
        felt = number[(self.destination < self.n_core) | (self.source == self.destination)]
        order = felt[torch.argsort(self.source[felt], stable=True)]
        return starts(torch.bincount(self.source[order], minlength=self.n_nodes)), order

    @cached_property
    def by_relation(self) -> list[Tensor]:
        """Numbers of the waking edges of each relation."""
        relation = self.relation[: self.n_awake]
        return [torch.nonzero(relation == number)[:, 0] for number in range(N_RELATIONS)]

    @cached_property
    def crowded(self) -> list[bool]:
        """Of each relation whether its waking edges are so many that attention goes over all pairs."""
        edges = torch.stack([self.source[: self.n_awake], self.destination[: self.n_awake]])
        return [share_of_pairs(edges[:, own], n_nodes=self.n_nodes) > CROWDED for own in self.by_relation]


def starts(count: Int[Tensor, " node"]) -> Int[Tensor, " bound"]:
    """0 and the running sums."""
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


def spread(start: Int[Tensor, " bound"], items: Int[Tensor, " item"]) -> tuple[Tensor, Tensor]:
    """For the ranges of some items: which item each entry belongs to, and its place."""
    first = start[items]
    count = start[items + 1] - first
    owner = torch.repeat_interleave(torch.arange(len(items), device=items.device), count)
    offset = torch.arange(len(owner), device=items.device) - (starts(count)[:-1])[owner]
    return owner, first[owner] + offset


@dataclass(frozen=True)
class Reach:
    """What changes in the states of some queries where the states of `changed` do: all in numbers query · n + node."""

    changed: Int[Tensor, " change"]  # sorted
    affected: Int[Tensor, " pair"]  # sorted; whose states have to be computed anew
    edge: Int[Tensor, " message"]  # number in the graph of every message to them
    source: Int[Tensor, " message"]  # row of its source: a node, or n + place among the changed
    destination: Int[Tensor, " message"]  # place of its destination among the affected


def reach_of(graph: MessageGraph, changed: Int[Tensor, " change"]) -> Reach:
    """The states that feel a change of the states `changed` (sorted, at least one), with all messages to them."""
    n = graph.n_nodes
    start, out = graph.out_edges
    owner, place = spread(start, changed % n)
    going, query = out[place], changed[owner] // n
    affected = torch.unique(torch.cat([query * n + graph.destination[going], changed]))
    asleep = going >= graph.n_awake
    query, going = query[asleep], going[asleep]
    owner, edge = spread(graph.first_in, affected % n)
    key = torch.cat([affected[owner] // n * n + graph.source[edge], query * n + graph.source[going]])
    woken = torch.searchsorted(affected, query * n + graph.destination[going])
    at = torch.searchsorted(changed, key).clamp(max=len(changed) - 1)
    source = torch.where(changed[at] == key, n + at, key % n)
    return Reach(changed, affected, torch.cat([edge, going]), source, torch.cat([owner, woken]))
