"""The network of GEARS `plus`: features and graphs of targets, a decoder per gene, real direction and uncertainty."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import softplus

from perturbcast.nn.condition_rows import RowBatch
from perturbcast.nn.nodes import NodeTable
from perturbcast.nn.response_net import ResponseNet, Rows, of_targets

START = 1e-2  # size of first output weights: no response until training finds one
POSITION = 0.2  # weight of the co-expression state; C-4
DIRECTION = 0.1  # λ of C-8
SMALLEST = 0.5  # rms of a response beyond which its direction counts in full; networks see responses of rms 1
UNCERTAINTY = 0.1  # weight of the likelihood of the error; C-9


class GearsPlusNet(ResponseNet):
    """Targets add up linearly (the additive part); what they do together, and nonlinearly, comes from the decoder.

    A target starts from what is known of it, and from a vector of its own where it is a training target or measured.
    Its state is smoothed over every graph, graphs weighed by how much they help.
    """

    def __init__(self, nodes: NodeTable, *, n_genes: int, hidden: int, rows: Rows | None = None) -> None:
        super().__init__({"features": nodes.features} | _edges(nodes), rows)
        from torch_geometric.nn import SGConv

        self.graphs = sorted(nodes.graphs)
        self.own = nn.Parameter(torch.randn(nodes.n_core, hidden) / hidden)
        self.known = nn.Linear(nodes.features.shape[1], hidden)
        self.layers = nn.ModuleList(SGConv(hidden, hidden, K=1) for _ in self.graphs)
        self.gates = nn.Parameter(torch.zeros(len(self.graphs)))
        self.genes = nn.Parameter(torch.randn(n_genes, hidden) / hidden**0.5)
        self.fuse = _mlp(hidden, hidden, hidden)
        self.gene_mlp = _mlp(hidden, hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.decoder = _mlp(hidden, 2 * hidden, hidden)
        self.readout = nn.Parameter(torch.randn(n_genes, hidden) * START)
        self.spread = _mlp(hidden, hidden, 1)
        self.cross = _mlp(n_genes, hidden, hidden)
        self.output = nn.Parameter(torch.randn(n_genes, hidden) * START)
        self.additive = nn.Linear(hidden, n_genes)
        for parameter in self.additive.parameters():
            nn.init.zeros_(parameter)
        self.states: Tensor | None = None  # of all nodes, kept while the network only answers

    def train(self, mode: bool = True) -> "GearsPlusNet":
        """Training forgets the states that answering kept."""
        self.states = None
        super().train(mode)
        return self

    def node_states(self) -> Float[Tensor, "node state"]:
        """State of every node; computed once while the network only answers."""
        if not self.training and not torch.is_grad_enabled() and self.states is not None:
            return self.states
        start = self.known(self.data("features"))
        own = torch.zeros_like(start)
        own[: len(self.own)] = self.own
        start = start + own
        gates = torch.sigmoid(self.gates)
        states = start
        for number, (name, layer) in enumerate(zip(self.graphs, self.layers, strict=True)):
            states = states + gates[number] * layer(start, self.data(f"edges_{name}"), self.data(f"weight_{name}"))
        if not self.training and not torch.is_grad_enabled():
            self.states = states
        return states

    def both(self, slots: Int[Tensor, "row slot"]) -> tuple[Float[Tensor, "row gene"], Float[Tensor, "row gene"]]:
        """Responses, and the log variance of their errors."""
        states = self.node_states()
        summed = of_targets(states, slots).sum(dim=1)
        genes = self.genes + self.gene_mlp(self.genes + POSITION * states[: len(self.genes)])
        entry = torch.relu(self.norm(genes + self.fuse(summed)[:, None]))  # (row, gene, state)
        decoded = torch.einsum("rgh,gh->rg", self.decoder(entry), self.readout)
        together = self.cross(decoded) @ self.output.T
        return self.additive(summed) + decoded + together, self.spread(entry)[..., 0]

    def respond(self, slots: Int[Tensor, "row slot"]) -> Float[Tensor, "row gene"]:
        """The response of each row of targets."""
        return self.both(slots)[0]

    def terms(self, batch: RowBatch, *, seed: int) -> dict[str, Tensor]:
        """Squared error, and in training a direction that teaches (C-8) and the likelihood of the error (C-9)."""
        rows = batch.rows
        predicted, log_variance = self.both(self.data("row_slots")[rows])
        target, weight = self.data("row_target")[rows], self.data("row_weight")[rows]
        found = {name: batch.mean(weight * error) for name, error in self.misfit(predicted, target).items()}
        if not self.training:
            return found
        apart = softplus(-predicted * target / SMALLEST**2).mean(dim=1)
        likelihood = gaussian_misfit(predicted.detach() - target, log_variance).mean(dim=1)
        found["direction"] = DIRECTION * batch.mean(weight * apart)
        found["likelihood"] = UNCERTAINTY * batch.mean(weight * likelihood)
        return found


def log_variances(network: GearsPlusNet, slots: Int[np.ndarray, "row slot"]) -> Float[np.ndarray, "row gene"]:
    """Log variances of the errors of some rows of targets, by a trained network's own account."""
    with torch.no_grad():
        return network.both(torch.from_numpy(slots))[1].numpy()


def gaussian_misfit(error: Float[Tensor, "..."], log_variance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """½ exp(-s) error² + ½ s, least where s is the log of the squared error (C-9 without its defect)."""
    bounded = log_variance.clamp(-10.0, 10.0)
    return 0.5 * (torch.exp(-bounded) * error**2 + bounded)


def _edges(nodes: NodeTable) -> dict[str, np.ndarray]:
    """Edges and weights of every graph, for SGConv; from nodes of training only, so that asking about more nodes
    leaves the states of these as they were."""
    found = {}
    for name, edges in nodes.graphs.items():
        kept = edges.source < nodes.n_core
        found[f"edges_{name}"] = np.stack([edges.source[kept], edges.destination[kept]])
        found[f"weight_{name}"] = edges.weight[kept]
    return found


def _mlp(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out))
