"""Several gene graphs over the same genes, kept apart by name, and graphs cut by weight and number."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import sparse

from perturbcast.errors import BadOption, NeedsKnowledge, did_you_mean
from perturbcast.genes.graphs import jaccard_top_graph, strongest, union_graph
from perturbcast.genes.knowledge import GeneGraph, GeneKnowledge


@dataclass(frozen=True)
class Multiplex:
    """Named graphs over the same genes in the same order; their edges are not mixed."""

    genes: np.ndarray  # (target,) object dtype of str
    layers: Mapping[str, GeneGraph]

    def union(self) -> GeneGraph:
        """One graph with the edges of all layers; see `union_graph`."""
        return union_graph(list(self.layers.values()))

    def coverage(self) -> dict[str, int]:
        """How many of the genes have an edge to another gene, by layer."""
        return {name: int(_has_edge(graph).sum()) for name, graph in self.layers.items()}


def _has_edge(graph: GeneGraph) -> np.ndarray:
    apart = graph.weights - sparse.diags_array(graph.weights.diagonal())
    both = abs(apart) + abs(apart).T
    return np.asarray(both.sum(axis=1)).ravel() > 0


def multiplex(graphs: Mapping[str, GeneGraph], genes: Iterable[str]) -> Multiplex:
    """The graphs brought to the same genes; a gene that a graph does not know has no edges in its layer."""
    names = np.array(list(dict.fromkeys(genes)), dtype=object)
    return Multiplex(names, {name: on_genes(graph, names) for name, graph in graphs.items()})


def on_genes(graph: GeneGraph, genes: np.ndarray) -> GeneGraph:
    """The graph over exactly these genes, in this order: edges to others are left out."""
    weights, _ = graph.between(genes)
    signs = None
    if graph.signs is not None:
        signs, _ = replace(graph, weights=graph.signs).between(genes)
    return replace(graph, genes=genes, weights=weights, signs=signs)


def thresholded(graph: GeneGraph, *, least: float | int = 0.0, k: int | None = None) -> GeneGraph:
    """The edges of weight `least` or more, and of these the k largest to each gene; in the unit of the graph's file.

    All edges that tie with the k-th stay, so that a graph without weights is not cut by the names of its genes. An
    undirected edge stays if it is among the k largest of either end. STRING's combined score runs to 1,000: 700 is its
    usual cut (spec B.1).
    """
    if k is not None and k < 1:
        raise BadOption(f"k is {k}; at least 1 edge per gene must stay.")
    weights = graph.weights.copy()
    weights.data[weights.data < least] = 0.0
    weights.eliminate_zeros()
    if k is not None:
        incoming = sparse.csr_matrix(weights.T)
        kept = strongest(incoming, k)
        last = np.full(kept.shape[0], np.inf)  # the k-th largest of each gene, or its smallest
        np.minimum.at(last, np.repeat(np.arange(len(last)), np.diff(kept.indptr)), kept.data)
        incoming.data[incoming.data < np.repeat(last, np.diff(incoming.indptr))] = 0.0
        incoming.eliminate_zeros()
        weights = sparse.csr_matrix(incoming.T)
        weights = weights if graph.directed else sparse.csr_matrix(weights.maximum(weights.T))
    signs = None if graph.signs is None else sparse.csr_matrix(graph.signs.multiply(weights != 0))
    return replace(graph, weights=weights, signs=signs)


def known_graphs(
    knowledge: GeneKnowledge,
    genes: Iterable[str],
    *,
    least: Mapping[str, float | int] | None = None,
    k: int = 20,
    cache: Path | None = None,
) -> Multiplex:
    """Every graph that the knowledge gives over these genes: its graphs, and a Jaccard graph of each of its gene sets.

    `least`: smallest weight by name of graph or gene sets (default 0.1 for gene sets, none for graphs); `k`: edges to
    each gene. NeedsKnowledge where a name in `least` is none of them, or there is neither graph nor gene set.
    """
    least, named = dict(least or {}), [*knowledge.graphs, *knowledge.gene_sets]
    if not named:
        raise NeedsKnowledge("no gene graph and no gene sets were given.")
    for name in least:
        if name not in named:
            raise NeedsKnowledge(f"there is no graph {name!r}. {did_you_mean(name, named)}")
    asked = list(dict.fromkeys(genes))
    graphs = {name: thresholded(graph, least=least.get(name, 0.0), k=k) for name, graph in knowledge.graphs.items()}
    for name, sets in knowledge.gene_sets.items():
        graphs[name] = jaccard_top_graph(sets, asked, k=k, least=least.get(name, 0.1), cache=cache)
    return multiplex(graphs, asked)
