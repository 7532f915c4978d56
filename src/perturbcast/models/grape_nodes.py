"""What GRAPE makes of the genes that it is given: the features that it uses, and its controls."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from perturbcast.nn.grape_edges import CandidateEdges, candidate_edges
from perturbcast.nn.nodes import Edges, NodeTable

KINDS = {"all": (), "published": ("text", "sequence"), "text": ("text",), "sequence": ("sequence",)}  # of features
SHUFFLE = 0  # seed of the controls


def prepared(nodes: NodeTable, *, sources: str, biotypes: str, random_features: bool, graphs: str) -> NodeTable:
    """The nodes with the features that the model uses; genes beyond the core of which these know nothing are left out.

    Controls keep the core's rows the same however many nodes follow: biotypes are shuffled within the core.
    """
    kinds = KINDS[sources]
    blocks = {name: block for name, block in nodes.blocks.items() if not kinds or name.split(":")[0] in kinds}
    n_core, n_nodes = nodes.n_core, len(nodes.names)
    if random_features:
        blocks = {name: _random(block.shape, place) for place, (name, block) in enumerate(sorted(blocks.items()))}
    informed = np.zeros(n_nodes, dtype=bool)
    informed[:n_core] = True
    for block in blocks.values():
        informed |= np.asarray(block).any(axis=1)
    linked = _prior_graphs(nodes, graphs)
    for edges in linked.values():
        informed[edges.destination[edges.source < n_core]] = True
    marked = nodes.non_coding
    if biotypes == "shuffled" and len(marked):
        marked = marked.copy()
        marked[:n_core] = np.random.default_rng(SHUFFLE).permutation(marked[:n_core])
    return replace(
        nodes,
        names=tuple(name for name, known in zip(nodes.names, informed, strict=True) if known),
        blocks={name: block[informed] for name, block in blocks.items()},
        graphs=_renumbered(linked, informed),
        non_coding=marked[informed] if len(marked) else marked,
    )


def _prior_graphs(nodes: NodeTable, use: str) -> dict[str, Edges]:
    """No graphs; the `real` ones; or `random`: sources of edges from the core among themselves, degrees kept."""
    if use == "none":
        return {}
    if use == "real":
        return dict(nodes.graphs)
    found = {}
    for place, (name, edges) in enumerate(sorted(nodes.graphs.items())):
        inside = np.flatnonzero((edges.source < nodes.n_core) & (edges.destination < nodes.n_core))
        source = edges.source.copy()
        source[inside] = np.random.default_rng([SHUFFLE, place]).permutation(source[inside])
        found[name] = replace(edges, source=source)
    return found


def _renumbered(graphs: dict[str, Edges], kept: Bool[np.ndarray, " node"]) -> dict[str, Edges]:
    """The edges among the nodes that are kept, by their new numbers."""
    number = np.cumsum(kept) - 1
    found = {}
    for name, edges in graphs.items():
        inside = kept[edges.source] & kept[edges.destination]
        if inside.any():
            found[name] = Edges(number[edges.source[inside]], number[edges.destination[inside]], edges.weight[inside])
    return found


def _random(shape: tuple[int, int], place: int) -> np.ndarray:
    """Rows of unit length in random directions; the first rows do not depend on how many follow."""
    drawn = np.random.default_rng([SHUFFLE, place]).normal(size=shape)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float16)


def candidates_of(nodes: NodeTable, *, top: int, random_graph: bool) -> CandidateEdges:
    """The candidate edges of some nodes, found once for all members and kept with them, like a cached property."""
    held = nodes.__dict__.setdefault("_candidates", {})
    key = (top, random_graph)
    if key not in held:
        held[key] = candidate_edges(nodes, top=top, shuffle=SHUFFLE if random_graph else None)
    found: CandidateEdges = held[key]
    return found
