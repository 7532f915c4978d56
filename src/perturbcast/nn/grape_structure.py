"""Graph structure learning of GRAPE (A-3 to A-9): from similarities of encoded genes to weights of candidate edges."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from perturbcast.nn.grape_messages import edge_sums
from perturbcast.nn.grape_parts import SimilarityHeads, divided

FAINT = 0.04  # edges of the aggregated graph below this take no part in the hops; A-6
START = 0.1  # first channel weights; A-8


class Structure(nn.Module):
    """Weights of candidate edges: the mean of modality graphs, hops of a GCN over it, and a softmax over hops.

    `least` are the thresholds of A-3 and A-9. Below the first a similarity is 0; a negative one means that similarities
    are (1 + cosine) / 2 and none is cut. Without hops the weights are those of the aggregated graph.
    """

    def __init__(
        self, seen: Sequence[str], width: int, *, n_heads: int, n_hops: int, least: tuple[float, float]
    ) -> None:
        super().__init__()
        part = max(width // n_heads, 1)
        self.least_likeness, self.least_edge = least
        self.by_modality = nn.ModuleDict({name: SimilarityHeads(width, n_heads=n_heads, width=part) for name in seen})
        self.hops = nn.ModuleList(GCNConv(width, width, add_self_loops=False) for _ in range(n_hops))
        self.by_hop = nn.ModuleList(SimilarityHeads(width, n_heads=n_heads, width=part) for _ in range(n_hops))
        self.channels = nn.Parameter(torch.full((n_hops,), START)) if n_hops else None

    def forward(
        self,
        encoded: Mapping[str, Float[Tensor, "node state"]],
        source: Int[Tensor, " edge"],
        destination: Int[Tensor, " edge"],
        *,
        n_core: int,
        n_awake: int,
    ) -> tuple[Float[Tensor, " edge"], Float[Tensor, " edge"]]:
        """(the aggregated graph, the learned graph): a weight for every edge, rows of length 1 by source."""
        ends = Ends(source, destination, n_nodes=len(encoded["fused"]), n_core=n_core)
        alike = [self._cut(heads(encoded[name], source, destination)) for name, heads in self.by_modality.items()]
        agreed = ends.by_row(torch.stack(alike).mean(dim=0))
        if self.least_edge:
            agreed = torch.where(agreed >= self.least_edge, agreed, torch.zeros_like(agreed))
        if self.channels is None:
            return agreed, agreed
        hops = self._hops(encoded["fused"], agreed, source, destination, n_awake=n_awake)
        return agreed, ends.by_row(channel_attention([ends.by_column(hop) for hop in hops], self.channels))

    def _hops(
        self, state: Tensor, agreed: Tensor, source: Tensor, destination: Tensor, *, n_awake: int
    ) -> list[Tensor]:
        """Similarities after each hop over the binary aggregated graph (A-6, A-7)."""
        edges = torch.stack([source[:n_awake], destination[:n_awake]])
        present = (agreed[:n_awake] >= FAINT).to(state.dtype) if self.least_edge else None
        _, weight = gcn_norm(edges, present, len(state), add_self_loops=False, dtype=state.dtype)
        found = []
        for hop, heads in zip(self.hops, self.by_hop, strict=True):
            state = functional.relu(smoothed(hop, state, edges, weight))
            cosine = heads(state, source, destination)
            found.append((1 + cosine) / 2 if self.least_likeness < 0 else cosine)
        return found

    def _cut(self, cosine: Tensor) -> Tensor:
        if self.least_likeness < 0:
            return (1 + cosine) / 2
        return torch.where(cosine >= self.least_likeness, cosine, torch.zeros_like(cosine))


def smoothed(
    hop: GCNConv, state: Float[Tensor, "node state"], edges: Int[Tensor, "2 edge"], weight: Float[Tensor, " edge"]
) -> Float[Tensor, "node state"]:
    """What the layer gives over edges whose normalised weights are known: all hops of A-6 share them."""
    found = edge_sums(weight[:, None], hop.lin(state)[:, None], edges, n_nodes=len(state))
    return torch.as_tensor(found[:, 0] + hop.bias)


class Ends:
    """Normalisation of weights over edges that share an end. Nodes beyond the core count in their own norms only."""

    def __init__(self, source: Tensor, destination: Tensor, *, n_nodes: int, n_core: int) -> None:
        self.source, self.destination, self.n_nodes = source, destination, n_nodes
        inside = (source < n_core) & (destination < n_core)
        self.in_row = (inside | (source >= n_core)).float()
        self.in_column = (inside | (destination >= n_core)).float()

    def by_row(self, values: Float[Tensor, " edge"]) -> Float[Tensor, " edge"]:
        """Every row (edges of one source) of Euclidean length 1; A-5, A-8."""
        return divided(values, self.source, order=2, counted=self.in_row, n_nodes=self.n_nodes)

    def by_column(self, values: Float[Tensor, " edge"]) -> Float[Tensor, " edge"]:
        """Every column (edges of one destination) of absolute sum 1; A-8."""
        return divided(values, self.destination, order=1, counted=self.in_column, n_nodes=self.n_nodes)


def channel_attention(
    hops: Sequence[Float[Tensor, " edge"]], channels: Float[Tensor, " hop"]
) -> Float[Tensor, " edge"]:
    """The softmax-weighted sum of the hops' graphs, columns already normalised (A-8). Oracle A4."""
    weight = torch.softmax(channels, dim=0)
    return (torch.stack(list(hops)) * weight[:, None]).sum(dim=0)
