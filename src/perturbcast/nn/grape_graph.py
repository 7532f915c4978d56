"""The graph that GRAPE passes messages over: which genes are neighbours, and what a perturbation can reach in it."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from perturbcast.nn.grape_dense import share_of_pairs

N_RELATIONS = 3  # cc, cn, nn; A.1
CROWDED = 0.6  # share of pairs; measured by benchmarks/grape_attention.py
MANY = 32  # in-edges a node; from there on only messages that change are exchanged; see docs/GRAPE.md
MOST_GONE = 0.9  # of a node's attention; where masks take more, all its messages are heard anew, for accuracy


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
    def exchanges(self) -> bool:
        """Whether in-edges are so many that masks exchange the messages that change, and keep the sum of the others."""
        return self.n_awake > MANY * self.n_nodes

    @cached_property
    def by_relation(self) -> list[Tensor]:
        """Numbers of the waking edges of each relation."""
        relation = self.relation[: self.n_awake]
        return [torch.nonzero(relation == number)[:, 0] for number in range(N_RELATIONS)]

    def edges_of(self, relation: int) -> Int[Tensor, "2 edge"]:
        """The waking edges of a relation."""
        own = self.by_relation[relation]
        return torch.stack([self.source[own], self.destination[own]])

    @cached_property
    def place(self) -> Int[Tensor, " edge"]:
        """The number of each waking edge among those of its relation."""
        found = torch.empty_like(self.relation[: self.n_awake])
        for own in self.by_relation:
            found[own] = torch.arange(len(own), device=own.device)
        return found

    @cached_property
    def crowded(self) -> list[bool]:
        """Of each relation whether its waking edges are so many that attention goes over all pairs."""
        return [share_of_pairs(self.edges_of(own), n_nodes=self.n_nodes) > CROWDED for own in range(N_RELATIONS)]


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
    """What changes in the states of some queries where the states of `changed` do: all in numbers query · n + node.

    Of an affected state either all messages are heard anew (`whole`), or those that change are exchanged: `gone` ones
    are taken from what its node hears without masks.
    """

    changed: Int[Tensor, " change"]  # sorted
    affected: Int[Tensor, " pair"]  # sorted; whose states have to be computed anew
    whole: Bool[Tensor, " pair"]
    edge: Int[Tensor, " message"]  # number in the graph of every message heard anew
    source: Int[Tensor, " message"]  # row of its source: a node, or n + place among the changed
    destination: Int[Tensor, " message"]  # place of its destination among the affected
    gone: Int[Tensor, " gone"]  # number in the graph of every message taken away
    gone_from: Int[Tensor, " gone"]  # place of its destination among the affected


def reach_of(
    graph: MessageGraph,
    changed: Int[Tensor, " change"],
    *,
    share: Float[Tensor, "edge head"] | None = None,
    n_wanted: int | None = None,
) -> Reach:
    """The states that feel a change of the states `changed` (sorted, at least one), and the messages to them.

    `share` is what each waking edge has of its destination's attention without masks; without it all messages are heard
    anew. States of nodes from `n_wanted` on are left out.
    """
    n = graph.n_nodes
    start, out = graph.out_edges
    owner, place = spread(start, changed % n)
    going, query = out[place], changed[owner] // n
    own = changed
    if n_wanted is not None:
        heard = graph.destination[going] < n_wanted
        going, query, own = going[heard], query[heard], changed[changed % n < n_wanted]
    to = query * n + graph.destination[going]
    affected = torch.unique(torch.cat([to, own]))
    pair, asleep = torch.searchsorted(affected, to), going >= graph.n_awake
    whole = torch.ones_like(affected, dtype=torch.bool)
    if share is not None:
        whole = is_among(affected, changed) | _emptied(pair[~asleep], share[going[~asleep]], n_pairs=len(affected))
    anew = torch.nonzero(whole)[:, 0]
    owner, edge = spread(graph.first_in, affected[anew] % n)
    more, less = asleep | ~whole[pair], ~asleep & ~whole[pair]
    edge, destination = torch.cat([edge, going[more]]), torch.cat([anew[owner], pair[more]])
    source = rows_of(affected[destination] // n * n + graph.source[edge], changed, n_nodes=n)
    return Reach(changed, affected, whole, edge, source, destination, going[less], pair[less])


def is_among(keys: Int[Tensor, " key"], listed: Int[Tensor, " item"]) -> Bool[Tensor, " key"]:
    """Which keys are among a sorted list, which is not empty."""
    return listed[torch.searchsorted(listed, keys).clamp(max=len(listed) - 1)] == keys


def rows_of(keys: Int[Tensor, " key"], changed: Int[Tensor, " change"], *, n_nodes: int) -> Int[Tensor, " key"]:
    """The row of each state before the layer: its node, or n + its place among the changed."""
    at = torch.searchsorted(changed, keys).clamp(max=len(changed) - 1)
    return torch.where(changed[at] == keys, n_nodes + at, keys % n_nodes)


def _emptied(pair: Tensor, share: Tensor, *, n_pairs: int) -> Tensor:
    """(pair,) bool: so much of what it hears goes that the rest would not be known well."""
    return (share.new_zeros(n_pairs, share.shape[1]).index_add(0, pair, share) > MOST_GONE).any(dim=1)
