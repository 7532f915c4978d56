"""The genes that a graph model reasons over, as plain arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Edges:
    """Weighted edges from source nodes to destination nodes, by number."""

    source: Int[np.ndarray, " edge"]
    destination: Int[np.ndarray, " edge"]
    weight: Float[np.ndarray, " edge"]

    def among_first(self, n_nodes: int) -> "Edges":
        """Only the edges between the first `n_nodes` nodes."""
        kept = (self.source < n_nodes) & (self.destination < n_nodes)
        return Edges(self.source[kept], self.destination[kept], self.weight[kept])


@dataclass(frozen=True)
class NodeTable:
    """Nodes by name, with features and graphs. The first `n_core` are the measured genes and then other targets.

    Measured genes come first, in order of name, so node i is `genes_sorted[i]`. `blocks` are features by source, each
    (node, feature), rows of unit length (`control`: columns of equal variance), or zero where the source does not know
    the gene. `non_coding` marks genes that a gene table calls anything but protein-coding; empty where no table says.
    """

    names: tuple[str, ...]
    n_measured: int
    n_core: int
    blocks: Mapping[str, Float[np.ndarray, "node feature"]]
    graphs: Mapping[str, Edges]
    non_coding: Bool[np.ndarray, " node"] | Bool[np.ndarray, "0"] = field(default_factory=lambda: np.zeros(0, bool))

    @cached_property
    def number(self) -> dict[str, int]:
        """Node by name."""
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def features(self) -> Float[np.ndarray, "node feature"]:
        """All blocks side by side, of mean square 1, and per block whether it knows the gene; float32."""
        blocks = [np.asarray(self.blocks[name], dtype=np.float32) for name in sorted(self.blocks)]
        parts = [block * np.sqrt(block.shape[1], dtype=np.float32) for block in blocks]
        known = [np.asarray(part.any(axis=1), dtype=np.float32)[:, None] for part in parts]
        measured = np.zeros((len(self.names), 1), dtype=np.float32)
        measured[: self.n_measured] = 1.0
        return np.concatenate([*parts, *known, measured], axis=1)

    @cached_property
    def informed(self) -> np.ndarray:
        """(node,) bool: some block has features, or some graph an edge, for it."""
        found = np.zeros(len(self.names), dtype=bool)
        for block in self.blocks.values():
            found |= np.asarray(block).any(axis=1)
        for edges in self.graphs.values():
            found[edges.source] = True
            found[edges.destination] = True
        return found

    def core(self) -> "NodeTable":
        """The measured genes and the training targets alone, as networks are trained on."""
        blocks = {name: block[: self.n_core] for name, block in self.blocks.items()}
        graphs = {name: edges.among_first(self.n_core) for name, edges in self.graphs.items()}
        known = self.non_coding[: self.n_core]
        return NodeTable(self.names[: self.n_core], self.n_measured, self.n_core, blocks, graphs, known)

    def slots(self, targets: Sequence[Sequence[str]], *, width: int) -> Int[np.ndarray, "query slot"]:
        """Nodes of the targets of each query, -1 where a slot is free or the target is no node."""
        found = np.full((len(targets), width), -1, dtype=np.int64)
        for row, names in enumerate(targets):
            for place, name in enumerate(names):
                found[row, place] = self.number.get(name, -1)
        return found
