"""Messages over gene graphs: layers that join a gene's state with those of its neighbours (spec B-2)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from perturbcast.nn.nodes import Edges, NodeTable

SLOPE = 0.2  # of LeakyReLU
UNION, EACH, NONE = "union", "each", "none"


def graph_edges(nodes: NodeTable, *, use: str) -> dict[str, Edges]:
    """The graphs to pass messages over: all in one, each apart, none, or the one named where it is there.

    Messages start at the first `n_core` nodes alone. Nodes that are added later, to be asked about, hear from the
    nodes of training and leave those as they were.
    """
    if use == NONE:
        return {}
    found = {name: _from_core(nodes.graphs[name], nodes.n_core) for name in sorted(nodes.graphs)}
    if use == EACH:
        return found
    if use == UNION:
        return {UNION: _united(list(found.values()))} if found else {}
    return {name: edges for name, edges in found.items() if name == use}


def _from_core(edges: Edges, n_core: int) -> Edges:
    kept = edges.source < n_core
    return Edges(edges.source[kept], edges.destination[kept], edges.weight[kept])


def _united(graphs: Sequence[Edges]) -> Edges:
    """Every edge of any graph once, of weight 1, in order of source and destination."""
    pairs = np.concatenate([np.stack([edges.source, edges.destination]) for edges in graphs], axis=1)
    source, destination = np.unique(pairs, axis=1)
    return Edges(source, destination, np.ones(len(source), dtype=np.float32))


def edge_arrays(graphs: Mapping[str, Edges]) -> dict[str, Int[np.ndarray, "2 _"]]:
    """(2, edge) source and destination of each graph, under the names by which `GraphLayers` is given them."""
    return {f"edges_{place}": np.stack([e.source, e.destination]) for place, e in enumerate(graphs.values())}


class GraphLayers(nn.Module):
    """h ← σ(W [h ‖ a] + b) several times, a the aggregate of the neighbours' states, 0 where there are none (B-2).

    The weight on [h ‖ a] is a `SAGEConv` of PyTorch Geometric. With several graphs each has its own half on a, and a
    softmax over graphs, learned, says how much each counts.
    """

    def __init__(self, *, n_graphs: int, n_state: int, n_layers: int, aggregate: str) -> None:
        super().__init__()
        from torch_geometric.nn import SAGEConv

        self.own = nn.ModuleList(nn.Linear(n_state, n_state) for _ in range(n_layers))
        self.of_neighbours = nn.ModuleList(  # layer by layer, a graph at a time
            SAGEConv(n_state, n_state, aggr=aggregate, root_weight=False, bias=False)
            for _ in range(n_layers * n_graphs)
        )
        self.share = nn.Parameter(torch.zeros(n_layers, n_graphs)) if n_graphs > 1 else None

    def forward(
        self, states: Float[Tensor, "node state"], edges: Sequence[Int[Tensor, "2 _"]]
    ) -> Float[Tensor, "node state"]:
        """States after all layers."""
        for layer, own in enumerate(self.own):
            total = own(states)
            share = None if self.share is None else len(edges) * self.share[layer].softmax(dim=0)
            for place, pairs in enumerate(edges):
                message = self.of_neighbours[layer * len(edges) + place](states, pairs)
                total = total + (message if share is None else share[place] * message)
            states = nn.functional.leaky_relu(total, SLOPE)
        return states
