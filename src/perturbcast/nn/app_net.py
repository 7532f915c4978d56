"""The network of APP: gene states by messages, attention of the perturbation over genes, a decoder (spec B.2, B.7)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from perturbcast.nn.app_attention import Attention
from perturbcast.nn.app_shape import AppShape
from perturbcast.nn.gnn import GraphLayers, edge_arrays, graph_edges
from perturbcast.nn.nodes import NodeTable
from perturbcast.nn.response_axes import response_axes
from perturbcast.nn.response_net import ResponseNet, Rows, of_targets

DECODER_WIDTH, DECODER_DROPOUT = 256, 0.2  # of the MLP decoder; B.3


@dataclass(frozen=True)
class GeneStates:
    """What does not depend on the query: the state of every node, and keys and values of those attended to."""

    states: Float[Tensor, "node state"]
    keys: Float[Tensor, "core head part"]
    values: Float[Tensor, "core state"]


class AppNet(ResponseNet):
    """Δ̂_P = κ Σ_p U h_p + D(s_P), s_P the attended state of genes; with `interaction` D is linear in s_P less s_∅.

    Genes attended to are the first `n_core` nodes: the measured genes and the training targets. For combinations the
    interaction is W_1 Σ_p (s_p - s_∅) + W_2 (s_P - Σ_p s_p + (|P| - 1) s_∅), so that W_1 = W_2 is the first line of
    B-8, and U = W_1 = 0 its last. Nothing perturbed gives 0.
    """

    def __init__(self, nodes: NodeTable, *, n_genes: int, shape: AppShape, rows: Rows | None = None) -> None:
        graphs = graph_edges(nodes, use="none" if shape.embedding != "features" else shape.graph)
        features = _features(nodes, shape)
        given = edge_arrays(graphs) | ({} if features is None else {"features": features})
        super().__init__(given, rows)
        self.shape, self.n_nodes, self.n_core, self.n_graphs = shape, len(nodes.names), nodes.n_core, len(graphs)
        self._kept: GeneStates | None = None
        d = shape.n_state
        self._embed(features)
        self.layers = GraphLayers(
            n_graphs=len(graphs),
            n_state=d,
            n_layers=shape.n_layers if shape.embedding == "features" else 0,
            aggregate=shape.aggregate,
        )
        self.dropout = nn.Dropout(shape.dropout)
        self.attends = shape.attention in ("additive", "dot")
        if self.attends:
            self.attention = Attention(
                d,
                n_attention=shape.n_attention,
                n_heads=shape.n_heads,
                dot=shape.attention == "dot",
                temperature=shape.temperature,
                learned=shape.learn_temperature,
            )
        self._decode(n_genes)
        if shape.rank:
            self.loading = nn.Linear(d, shape.rank, bias=False)
            nn.init.zeros_(self.loading.weight)
            self.basis = nn.Parameter(response_axes(rows, rank=shape.rank, n_genes=n_genes))
            self.kappa = nn.Parameter(torch.ones(()))
        if shape.rank and shape.ridge is not None and rows is not None:
            self._start_core(rows, ridge=shape.ridge)

    def _embed(self, features: np.ndarray | None) -> None:
        d, kind = self.shape.n_state, self.shape.embedding
        if kind == "features":
            assert features is not None
            self.embedding = nn.Linear(features.shape[1], d)  # B-1
        elif kind != "random":
            self.table = nn.Parameter(torch.randn(self.n_core, d) / d**0.25)
        if kind == "identity":  # one-hot states: W_q, W_k and W_d each have a column for every gene, here of rank d
            self.key_table = nn.Parameter(torch.randn(self.n_core, d) / d**0.25)
            self.context_table = nn.Parameter(torch.randn(self.n_core, d) / d**0.25)

    def _decode(self, n_genes: int) -> None:
        d, shape = self.shape.n_state, self.shape
        if shape.interaction:
            self.null = nn.Parameter(torch.zeros(d))
            self.alone = nn.Linear(d, n_genes, bias=False)
            self.together = nn.Linear(d, n_genes, bias=False)
            nn.init.zeros_(self.alone.weight)
            nn.init.zeros_(self.together.weight)
        elif shape.decoder == "mlp":
            hidden = [nn.Linear(d, DECODER_WIDTH), nn.ReLU(), nn.Dropout(DECODER_DROPOUT)]
            self.decoder: nn.Module = nn.Sequential(*hidden, nn.Linear(DECODER_WIDTH, n_genes))
        elif shape.decoder == "linear":
            self.decoder = nn.Linear(d, n_genes)  # B-7

    @torch.no_grad()
    def _start_core(self, rows: Rows, *, ridge: float) -> None:
        """U such that the core is the weighted ridge of the training responses on the first states (oracle B3)."""
        train = np.arange(len(rows.slots)) if rows.train is None else rows.train
        states = of_targets(self._gene_states().states, self.data("row_slots")[train]).sum(dim=1).double().numpy()
        axes = self.basis.double().numpy()  # rows of length √gene
        wanted = rows.target[train] @ axes.T / axes.shape[1]
        weights, _ = weighted_ridge(states, wanted, rows.weight[train], ridge=ridge * len(train))
        self.loading.weight.copy_(torch.from_numpy(weights.T))

    # ------------------------------------------------------------------------------------------------ states of genes
    def train(self, mode: bool = True) -> "AppNet":
        """Between training and asking, what was kept of gene states no longer holds."""
        self._kept = None
        return super().train(mode)

    def gene_states(self) -> GeneStates:
        """States, keys and values; computed once while the network is only asked."""
        if self.training or torch.is_grad_enabled():
            return self._gene_states()
        if self._kept is None:
            self._kept = self._gene_states()
        return self._kept

    def _gene_states(self) -> GeneStates:
        kind = self.shape.embedding
        if kind == "features":
            edges = [self.data(f"edges_{place}") for place in range(self.n_graphs)]
            states = self.dropout(self.layers(self.embedding(self.data("features")), edges))
        elif kind == "random":
            states = self.data("features")
        else:
            table = self.table if kind == "random-trained" else self.context_table
            states = nn.functional.pad(table, (0, 0, 0, self.n_nodes - self.n_core))
        core = states[: self.n_core]
        values = self.table if kind == "identity" else core
        of_keys = self.key_table if kind == "identity" else core
        keys = self.attention.keys(of_keys) if self.attends else core[:, None]
        return GeneStates(states, keys, values)

    # -------------------------------------------------------------------------------------------- states of queries
    def weights_of(self, slots: Int[Tensor, "row slot"]) -> Float[Tensor, "row head core"]:
        """α of each row over genes (B-5), by head; without attention equal over all genes (i) or the targets (ii)."""
        if self.attends:
            return self.attention(self.contexts(slots), self.gene_states().keys, top=self.shape.top)
        if self.shape.attention == "mean":
            return torch.full((len(slots), 1, self.n_core), 1 / self.n_core)
        found = torch.zeros(len(slots), self.n_core + 1)
        column = torch.where((slots >= 0) & (slots < self.n_core), slots, self.n_core)
        found.scatter_add_(1, column, (slots >= 0).to(found.dtype))
        return (found / found.sum(dim=1, keepdim=True))[:, None, : self.n_core]

    def contexts(self, slots: Int[Tensor, "row slot"]) -> Float[Tensor, "row state"]:
        """z_P, the mean state of the targets (B-3); zero where there is none."""
        found = of_targets(self.gene_states().states, slots)
        return found.sum(dim=1) / (slots >= 0).sum(dim=1).clamp(min=1)[:, None]

    def attended(self, context: Float[Tensor, "row state"], genes: GeneStates) -> Float[Tensor, "row state"]:
        """s_P (B-6): heads side by side, each over its own part of the states."""
        if self.shape.attention == "mean":
            return genes.values.mean(dim=0).expand(len(context), -1)
        if self.shape.attention == "context":
            return context
        alpha = self.attention(context, genes.keys, top=self.shape.top)
        values = genes.values.unflatten(1, (alpha.shape[1], -1))
        return torch.einsum("rhn,nhk->rhk", alpha, values).flatten(1)

    def respond(self, slots: Int[Tensor, "row slot"]) -> Float[Tensor, "row gene"]:
        """The response of each row of targets."""
        genes = self.gene_states()
        targets = of_targets(genes.states, slots)  # (row, slot, state)
        present = (slots >= 0).to(targets.dtype)
        number = present.sum(dim=1, keepdim=True)
        context = targets.sum(dim=1) / number.clamp(min=1)
        found = self._interacting(genes, targets, present, context) if self.shape.interaction else None
        if self.shape.rank:
            core = self.loading(targets.sum(dim=1)) @ self.basis  # (row, rank) @ (rank, gene) -> (row, gene)
            core = torch.where(number > 1, self.kappa, 1.0) * core
            found = core if found is None else found + core
        if hasattr(self, "decoder"):
            decoded = self.decoder(self.attended(context, genes))
            found = decoded if found is None else found + decoded
        assert found is not None
        return found

    def _interacting(self, genes: GeneStates, targets: Tensor, present: Tensor, context: Tensor) -> Tensor:
        """W_1 Σ_p (s_p - s_∅) + W_2 (s_P - Σ_p s_p + (|P| - 1) s_∅)."""
        null = self.attended(self.null[None], genes)
        apart = [
            present[:, slot, None] * (self.attended(targets[:, slot], genes) - null) for slot in range(targets.shape[1])
        ]
        alone = torch.stack(apart).sum(dim=0)
        found = self.alone(alone)
        several = present.sum(dim=1) > 1
        if bool(several.any()):
            joint = self.attended(context, genes) - null - alone
            found = found + self.together(joint * several[:, None])
        return found


def _features(nodes: NodeTable, shape: AppShape) -> np.ndarray | None:
    """What states start from: features of nodes, or for `random` fixed numbers, the same for a node in any table."""
    if shape.embedding == "features":
        return nodes.features
    if shape.embedding == "random":
        drawn = np.random.default_rng(0).normal(size=(len(nodes.names), shape.n_state))
        return (drawn / shape.n_state**0.25).astype(np.float32)  # variance 1/√d
    return None


def weighted_ridge(
    states: Float[np.ndarray, "row state"],
    target: Float[np.ndarray, "row output"],
    weight: Float[np.ndarray, " row"],
    *,
    ridge: float,
) -> tuple[Float[np.ndarray, "state output"], Float[np.ndarray, " output"]]:
    """(W, b) with the least Σ_p w_p ‖target_p - W s_p - b‖² + ridge ‖W‖² (B-9 for fixed states; oracle B3)."""
    mean_state, mean_target = (weight @ states) / weight.sum(), (weight @ target) / weight.sum()
    centred, wanted = states - mean_state, target - mean_target
    weighed = centred * weight[:, None]
    weights = np.linalg.solve(weighed.T @ centred + ridge * np.eye(centred.shape[1]), weighed.T @ wanted)
    return weights, mean_target - mean_state @ weights
