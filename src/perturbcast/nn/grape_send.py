"""What targets of GRAPE send to all genes: codes from their features and neighbours, read out in few axes."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from perturbcast.nn.grape_graph import spread
from perturbcast.nn.nodes import Edges
from perturbcast.nn.response_axes import response_axes
from perturbcast.nn.response_net import Rows

SLOPE = 0.2  # of LeakyReLU
QUICKER = 20.0  # on the logits of graphs, which otherwise hardly move in the hundred steps that a training takes
HEARD = ("heard_source", "heard_weight", "heard_first")
FIRST_STATE = 1.0  # sd of the free states of genes at the start, relative to the root of the width


def heard_edges(graphs: Mapping[str, Edges], *, n_core: int, n_nodes: int) -> dict[str, np.ndarray]:
    """Edges of all graphs from other core genes, by graph and destination, weights of a destination adding to 1.

    `heard_first` says where those of node i in graph g begin, at place g · nodes + i.
    """
    sources, weights, counts = [], [], [np.zeros(1, dtype=np.int64)]
    for name in sorted(graphs):
        edges = graphs[name]
        kept = np.flatnonzero((edges.source < n_core) & (edges.source != edges.destination))
        kept = kept[np.lexsort((edges.source[kept], edges.destination[kept]))]
        destination, weight = edges.destination[kept], edges.weight[kept].astype(np.float64)
        total = np.bincount(destination, weights=np.abs(weight), minlength=n_nodes)
        sources.append(edges.source[kept])
        weights.append((weight / total[destination]).astype(np.float32))
        counts.append(np.bincount(destination, minlength=n_nodes))
    return dict(
        zip(HEARD, [np.concatenate(sources), np.concatenate(weights), np.cumsum(np.concatenate(counts))], strict=True)
    )


class Sending(nn.Module):
    """Δ = κ · (Σ_p code_p) B, code_p = LeakyReLU(W x_p + Σ_g s_g V_g mean_{j ∈ N_g(p)} (W x_j + v_j) + U h_p) L.

    x are given features, v_j a free state of every core gene, N_g(p) neighbours in a prior graph, never p itself: as
    with a mask, a target is known by its neighbours. s is a softmax over graphs. h_p is the target's state in the
    learned graph. B is near the leading axes of training responses, L starts at 0. κ counts for combinations alone.
    """

    def __init__(
        self,
        n_features: Mapping[str, int],
        *,
        n_graphs: int,
        n_core: int,
        n_state: int,
        width: int,
        rank: int,
        dropout: float,
        n_genes: int,
        rows: Rows | None,
    ) -> None:
        super().__init__()
        self.width, self.dropout = width, dropout
        self.project = nn.ModuleDict({name: nn.Linear(size, width) for name, size in n_features.items()})
        self.of_state = nn.Linear(n_state, width, bias=False)
        self.free = nn.Parameter(torch.randn(n_core, width) * (FIRST_STATE / width**0.5)) if n_graphs else None
        self.through = nn.Parameter(torch.randn(n_graphs, width, width) / width**0.5) if n_graphs else None
        self.share = nn.Parameter(torch.zeros(n_graphs)) if n_graphs else None
        self.code = nn.Linear(width, rank, bias=False)
        nn.init.zeros_(self.code.weight)
        self.register_buffer("first_axes", response_axes(rows, rank=rank, n_genes=n_genes))
        self.turn = nn.Parameter(torch.zeros(rank, n_genes))  # weight decay draws the read-out to the first axes
        self.over_additive = nn.Parameter(torch.zeros(()))  # kappa - 1: weight decay draws it to additivity

    def known(self, features: Mapping[str, Float[Tensor, "node feature"]]) -> Float[Tensor, "node part"]:
        """W x of every node."""
        return torch.stack([project(features[name]) for name, project in self.project.items()]).sum(dim=0)

    def forward(
        self,
        slots: Int[Tensor, "row slot"],
        known: Float[Tensor, "node part"],
        states: Float[Tensor, "node state"],
        heard: Sequence[Tensor],
    ) -> Float[Tensor, "row gene"]:
        """The response of all genes to what the targets of each row send; `heard` as `heard_edges` gives it."""
        present = (slots >= 0).to(known.dtype)
        total = known.new_zeros(len(slots), self.width)
        for slot in range(slots.shape[1]):  # apart, so that a product has as many rows whatever was asked beside it
            nodes = slots[:, slot].clamp(min=0)
            code = known[nodes] + self.of_state(states[nodes])
            if self.free is not None:
                code = code + self._heard(nodes, known[: len(self.free)] + self.free, heard, n_nodes=len(known))
            total = total + functional.leaky_relu(code, SLOPE) * present[:, slot, None]
        total = functional.dropout(total, self.dropout, self.training)
        several = present.sum(dim=1, keepdim=True) > 1
        return torch.where(several, 1.0 + self.over_additive, 1.0) * (
            self.code(total) @ (self.get_buffer("first_axes") + self.turn)
        )

    def _heard(self, nodes: Tensor, core: Tensor, heard: Sequence[Tensor], *, n_nodes: int) -> Tensor:
        """What nodes hear from their neighbours in all graphs."""
        assert self.through is not None
        assert self.share is not None
        source, weight, first = heard
        n_graphs = len(self.share)
        places = (torch.arange(n_graphs, device=nodes.device)[:, None] * n_nodes + nodes).flatten()
        owner, edge = spread(first, places)
        message = core[source[edge]] * weight[edge, None]
        mean = message.new_zeros(len(places), self.width).index_add(0, owner, message)
        share = n_graphs * torch.softmax(QUICKER * self.share, dim=0)
        return torch.bmm(mean.unflatten(0, (n_graphs, -1)) * share[:, None, None], self.through).sum(dim=0)
