"""The edges whose weights GRAPE learns: the most similar genes of each gene by given features. No torch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from perturbcast.nn.nodes import NodeTable

ROWS_AT_ONCE = 2048  # genes compared with the core together: bounds memory, not results


@dataclass(frozen=True)
class CandidateEdges:
    """Edges whose weight is learned, as plain arrays: in-edges of every node, then edges that wake when asked for.

    The core (measured genes and training targets) is joined both ways. Any other gene has edges from the core, which
    let it be placed, and edges to the core, which only count in queries that have it for a target.
    """

    source: Int[np.ndarray, " edge"]
    destination: Int[np.ndarray, " edge"]  # sorted among the first `n_awake`
    n_awake: int


def candidate_edges(nodes: NodeTable, *, top: int, shuffle: int | None = None) -> CandidateEdges:
    """The `top` most similar core genes of each gene by given features, both ways in the core, and every gene itself.

    Similarity is the mean cosine over the blocks of features. A gene without features has itself alone. `shuffle` is a
    seed that joins the core anew at random, each gene keeping its number of neighbours but for loops and doubles.
    """
    nearest, near = _most_similar(nodes, top=top)
    n_core = nodes.n_core
    inside = near & (np.arange(len(nearest)) < n_core)[:, None]
    node, place = np.nonzero(inside)
    pairs = np.stack([node, nearest[node, place]])
    pairs = np.unique(np.sort(pairs, axis=0), axis=1)  # undirected, each once
    if shuffle is not None:
        pairs = _repaired(pairs, np.random.default_rng(shuffle))
    outer, place = np.nonzero(near & ~inside)
    partner = nearest[outer, place]
    own = np.arange(len(nodes.names))
    source = np.concatenate([pairs[0], pairs[1], own, partner])
    destination = np.concatenate([pairs[1], pairs[0], own, outer])
    order = np.lexsort((source, destination))
    return CandidateEdges(
        np.concatenate([source[order], outer]).astype(np.int64),
        np.concatenate([destination[order], partner]).astype(np.int64),
        len(order),
    )


def _most_similar(nodes: NodeTable, *, top: int) -> tuple[np.ndarray, np.ndarray]:
    """(node, place) the most similar other core genes of each node, and whether the similarity is above 0."""
    blocks = [np.asarray(nodes.blocks[name], dtype=np.float32) for name in sorted(nodes.blocks)]
    n_core, n_nodes = nodes.n_core, len(nodes.names)
    kept = min(top, n_core - 1)
    nearest = np.zeros((n_nodes, kept), dtype=np.int64)
    near = np.zeros((n_nodes, kept), dtype=bool)
    if not blocks or not kept:
        return nearest, near
    unit = np.concatenate(blocks, axis=1)  # rows of a block have length 1, so products add up cosines
    core = np.ascontiguousarray(unit[:n_core].T)
    for start in range(0, n_nodes, ROWS_AT_ONCE):
        alike = _filled(unit[start : start + ROWS_AT_ONCE]) @ core
        rows = np.arange(start, min(start + ROWS_AT_ONCE, n_nodes))
        alike = alike[: len(rows)]
        loops = rows[rows < n_core]
        alike[loops - start, loops] = -np.inf
        best = np.argpartition(-alike, kept - 1, axis=1)[:, :kept]
        nearest[rows], near[rows] = best, np.take_along_axis(alike, best, axis=1) > 0
    return nearest, near


def _filled(rows: np.ndarray) -> np.ndarray:
    """Always as many rows, so that a gene's neighbours do not depend on how many genes there are."""
    return np.pad(rows, ((0, ROWS_AT_ONCE - len(rows)), (0, 0)))


def _repaired(pairs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ends of undirected edges joined anew at random; loops and doubles are dropped."""
    ends = rng.permutation(pairs.ravel()).reshape(2, -1)
    ends = np.sort(ends[:, ends[0] != ends[1]], axis=0)
    return np.unique(ends, axis=1)
