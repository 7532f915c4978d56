"""Spoilt gene graphs, to see how much of a prediction rests on the graph (spec B.4)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from scipy import sparse

from perturbcast.errors import BadOption, did_you_mean
from perturbcast.genes.knowledge import GeneGraph

How = Literal["remove", "add", "rewire", "permute"]
TRIES, AT_ONCE = 50, 8  # pairs of edges that are tried before the graph is said to allow no more swaps


def degraded(graph: GeneGraph, how: str, share: float | int, *, seed: int) -> GeneGraph:
    """The graph with a share of its edges or labels spoilt; nodes, loops and direction stay.

    An undirected edge counts once, and E edges are counted without loops; floor(share x E) of them are spoilt.
    `remove`: so many edges go, drawn uniformly. `add`: so many pairs without an edge, drawn uniformly, get one, with
    weight and sign of an edge drawn at random. `rewire`: so many edges (one fewer where odd) change their ends in
    double-edge swaps, which keep every gene's number of edges (in and out), and none of them is an edge of `graph`.
    `permute`: floor(share x genes) genes swap their names at random; the graph stays, only who is who is lost.

    `share` is in [0, 1]. The same seed gives the same graph. BadOption for another share or way, and where the graph
    has no room: too few free pairs, or no swap left, as in a star. Source: spec B.4 a to d.
    """
    if how not in get_args(How):
        raise BadOption(f"there is no way of degrading called {how!r}. {did_you_mean(how, get_args(How))}")
    if not 0 <= share <= 1:
        raise BadOption(f"the share to degrade is {share}; it must be in [0, 1].")
    rng = np.random.default_rng(seed)
    name = f"{graph.name} ({how} {share:g})"
    if how == "permute":
        return replace(_permuted(graph, int(share * len(graph.genes) + 1e-9), rng), name=name)
    ways: dict[str, Callable[[_Edges, int, np.random.Generator], _Edges]] = {
        "remove": _fewer,
        "add": _more,
        "rewire": _swapped,
    }
    edges = _Edges.of(graph)
    spoilt = ways[how](edges, int(share * len(edges.source) + 1e-9), rng)
    return replace(spoilt.in_place_of(graph), name=name)


@dataclass(frozen=True)
class _Edges:
    """Edges without loops, an undirected one once, as places of nodes."""

    n_nodes: int
    directed: bool
    source: np.ndarray  # (edge,) int64
    target: np.ndarray  # (edge,) int64
    weight: np.ndarray  # (edge,) float64
    sign: np.ndarray  # (edge,) float64, zeros where the graph has none

    @classmethod
    def of(cls, graph: GeneGraph) -> "_Edges":
        kept = sparse.coo_matrix(graph.weights) if graph.directed else sparse.triu(graph.weights, k=1, format="coo")
        source, target = kept.row.astype(np.int64), kept.col.astype(np.int64)
        proper = (source != target) & (kept.data != 0)
        source, target = source[proper], target[proper]
        sign = np.zeros(len(source))
        if graph.signs is not None and len(source):
            sign = np.asarray(graph.signs[source, target], dtype=np.float64).ravel()
        return cls(len(graph.genes), graph.directed, source, target, kept.data[proper].astype(np.float64), sign)

    def codes(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """One number per pair of nodes, the same both ways round where the graph is undirected."""
        if not self.directed:
            source, target = np.minimum(source, target), np.maximum(source, target)
        return source * self.n_nodes + target

    def taken(self, rows: np.ndarray) -> "_Edges":
        """Some of the edges."""
        columns = (self.source[rows], self.target[rows], self.weight[rows], self.sign[rows])
        return _Edges(self.n_nodes, self.directed, *columns)

    def in_place_of(self, graph: GeneGraph) -> GeneGraph:
        """The graph with these edges, and its own loops."""
        loops = sparse.diags_array(graph.weights.diagonal(), dtype=np.float64)
        weights = sparse.csr_matrix(self._matrix(self.weight) + loops)
        weights.eliminate_zeros()
        signs = None
        if graph.signs is not None:
            signs = sparse.csr_matrix(self._matrix(self.sign) + sparse.diags_array(graph.signs.diagonal()))
            signs.eliminate_zeros()
        return replace(graph, weights=weights, signs=signs)

    def _matrix(self, values: np.ndarray) -> sparse.csr_matrix:
        shape = (self.n_nodes, self.n_nodes)
        matrix = sparse.csr_matrix((values, (self.source, self.target)), shape=shape)
        return matrix if self.directed else sparse.csr_matrix(matrix + matrix.T)


def _fewer(edges: _Edges, n_spoilt: int, rng: np.random.Generator) -> _Edges:
    order = rng.permutation(len(edges.source))
    return edges.taken(np.sort(order[n_spoilt:]))


def _more(edges: _Edges, n_spoilt: int, rng: np.random.Generator) -> _Edges:
    """With so many pairs more, drawn again until enough are free and different."""
    n_pairs = edges.n_nodes * (edges.n_nodes - 1) // (1 if edges.directed else 2)
    n_free = n_pairs - len(edges.source)
    if n_spoilt > n_free:
        raise BadOption(f"{n_spoilt:,} edges are to be added, and only {n_free:,} pairs have none.")
    if n_spoilt == 0:
        return edges
    present = edges.codes(edges.source, edges.target)
    fresh = _free_pairs(edges, present, n_spoilt, rng) if n_spoilt < n_free // 2 else _listed(edges, present)
    fresh = rng.permutation(fresh)[:n_spoilt]
    model = rng.integers(len(edges.source), size=n_spoilt)
    return _Edges(
        edges.n_nodes,
        edges.directed,
        np.concatenate([edges.source, fresh // edges.n_nodes]),
        np.concatenate([edges.target, fresh % edges.n_nodes]),
        np.concatenate([edges.weight, edges.weight[model]]),
        np.concatenate([edges.sign, edges.sign[model]]),
    )


def _free_pairs(edges: _Edges, present: np.ndarray, n_wanted: int, rng: np.random.Generator) -> np.ndarray:
    """At least so many different pairs without an edge, each as likely as any other."""
    found = np.zeros(0, dtype=np.int64)
    while len(found) < n_wanted:
        source, target = rng.integers(edges.n_nodes, size=(2, 2 * n_wanted + 8))
        drawn = edges.codes(source, target)[source != target]
        found = np.unique(np.concatenate([found, drawn[~np.isin(drawn, present)]]))
    return found


def _listed(edges: _Edges, present: np.ndarray) -> np.ndarray:
    """Every pair without an edge; for graphs that are nearly full."""
    source, target = (ends.ravel() for ends in np.indices((edges.n_nodes, edges.n_nodes)))
    proper = source != target if edges.directed else source < target
    return np.setdiff1d((source * edges.n_nodes + target)[proper], present)


def _swapped(edges: _Edges, n_spoilt: int, rng: np.random.Generator) -> _Edges:
    """a-b and c-d become a-d and c-b, until so many edges are none of the graph's; weights go with a and with c."""
    source, target = edges.source.copy(), edges.target.copy()
    if not edges.directed:
        turned = rng.random(len(source)) < 0.5
        source[turned], target[turned] = target[turned], source[turned]
    taken = set(edges.codes(source, target).tolist())  # every edge that is there or was there
    order = rng.permutation(len(source))  # the first `n_swapped` of them are no edges of the graph any more
    wanted, n_swapped = n_spoilt - n_spoilt % 2, 0
    while n_swapped < wanted:
        found = _a_swap(edges.codes, source, target, taken, order, n_swapped, wanted - n_swapped, rng)
        if found is None:
            fact = f"{wanted:,} edges are to be rewired, and swaps end at {n_swapped:,}."
            raise BadOption(fact, "Choose a lower share.")
        first, second = order[list(found)]
        target[first], target[second] = target[second], target[first]
        taken.update(edges.codes(source[[first, second]], target[[first, second]]).tolist())
        for place in sorted(place for place in found if place >= n_swapped):
            order[place], order[n_swapped] = order[n_swapped], order[place]
            n_swapped += 1
    return replace(edges, source=source, target=target)


def _a_swap(
    codes: Callable[[np.ndarray, np.ndarray], np.ndarray],
    source: np.ndarray,
    target: np.ndarray,
    taken: set[int],
    order: np.ndarray,
    n_swapped: int,
    n_left: int,
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Places in `order` of two edges whose swap gives two new ones: both of the graph, else one swapped before."""
    pools = [(n_swapped, len(order))] if n_left > 1 else []
    for start, stop in [pool for pool in [*pools, (0, n_swapped)] for _ in range(TRIES) if pool[0] < pool[1]]:
        firsts, seconds = rng.integers(n_swapped, len(order), AT_ONCE), rng.integers(start, stop, AT_ONCE)
        a, b = order[firsts], order[seconds]
        one, two = codes(source[a], target[b]), codes(source[b], target[a])
        proper = (source[a] != target[b]) & (source[b] != target[a]) & (one != two) & (a != b)
        for attempt in np.flatnonzero(proper):
            if int(one[attempt]) not in taken and int(two[attempt]) not in taken:
                return int(firsts[attempt]), int(seconds[attempt])
    return None


def _permuted(graph: GeneGraph, n_spoilt: int, rng: np.random.Generator) -> GeneGraph:
    """So many genes at random take one another's place in the graph."""
    chosen = np.sort(rng.choice(len(graph.genes), n_spoilt, replace=False)) if n_spoilt else np.zeros(0, dtype=int)
    place = np.arange(len(graph.genes))
    place[chosen] = rng.permutation(chosen)
    signs = None if graph.signs is None else sparse.csr_matrix(graph.signs[place][:, place])
    return replace(graph, weights=sparse.csr_matrix(graph.weights[place][:, place]), signs=signs)
