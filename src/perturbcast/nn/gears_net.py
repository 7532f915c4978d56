"""The network of GEARS as published (spec C.3, C.4), dense: one pass per distinct condition of a batch."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear

from perturbcast.nn.gears_decoder import decoded
from perturbcast.nn.gears_rows import GearsBatch
from perturbcast.nn.shared_norm import Affine, SharedMlp, SharedNorm

POSITION = 0.2  # weight of the co-expression state; C-4
DIRECTION = 0.1  # λ of C-8
NODES = 1024  # whose states are made at once for prediction; the ontology has many more
CONTROLS_ASKED = 300.0  # control cells of a published prediction; C.5


class Incoming(NamedTuple):
    """Edges into some nodes, grouped by destination: a weighted sum over sources each."""

    source: Int[Tensor, " edge"]
    offset: Int[Tensor, " node"]  # where the edges of each destination begin
    weight: Float[Tensor, " edge"]

    def spread(self, states: Float[Tensor, "source state"]) -> Float[Tensor, "node state"]:
        """Σ over incoming edges of weight times state; zeros without edges."""
        return embedding_bag(self.source, states, self.offset, mode="sum", per_sample_weights=self.weight)

    def parts(self, most: int) -> list["Incoming"]:
        """Edges into about as many nodes each, in order, `most` at the most."""
        bounds = [*self.offset.tolist(), len(self.source)]
        found, place = [], 0
        for offset in self.offset.tensor_split(-(-len(self.offset) // most)):
            first, last = bounds[place], bounds[place + len(offset)]
            found.append(Incoming(self.source[first:last], offset - first, self.weight[first:last]))
            place += len(offset)
        return found


class GearsNet(nn.Module):
    """From the targets of a condition to its response: gene states, target states, decoder (C-3 to C-7).

    `legacy` keeps the defect of the published batching (C.5): co-expression reaches only the first cell of a batch,
    and at prediction one control cell of 300; every other cell sees each gene's own state instead of its neighbours'.
    """

    def __init__(
        self, *, n_genes: int, n_reached: int, hidden: int, legacy: bool, positions: Incoming, targets: Incoming
    ) -> None:
        super().__init__()
        self.legacy = legacy
        self.genes = in_unit_ball(nn.Parameter(torch.randn(n_genes, hidden)))
        self.positions = in_unit_ball(nn.Parameter(torch.randn(n_genes, hidden)))
        self.targets = in_unit_ball(nn.Parameter(torch.randn(n_reached, hidden)))
        for name, edges in (("position", positions), ("target", targets)):
            for part, tensor in edges._asdict().items():
                self.register_buffer(f"given_{name}_{part}", tensor, persistent=False)
        self.gene_norm = SharedNorm(hidden)
        self.position_layer, self.target_layer = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.gene_mlp, self.target_mlp = (SharedMlp(hidden, hidden, hidden) for _ in range(2))
        self.condition_norm = SharedNorm(hidden)
        self.decoder = SharedMlp(hidden, 2 * hidden, hidden)
        self.readout = _normal(n_genes, hidden, variance=2 / (hidden + n_genes))  # A
        self.readout_bias = _normal(n_genes, variance=2 / (1 + n_genes))  # a
        self.cross = SharedMlp(n_genes, hidden, hidden)
        self.output = _normal(n_genes, hidden + 1, variance=2 / ((n_genes + 1) * (hidden + 1)))  # V
        self.output_bias = _normal(n_genes, variance=2 / (1 + n_genes))  # v

    def edges(self, name: str) -> Incoming:
        """The edges given for `position` (genes) or `target`."""
        return Incoming(*(self.get_buffer(f"given_{name}_{part}") for part in Incoming._fields))

    def gene_states(self, n_cells: float) -> Float[Tensor, "variant gene state"]:
        """u of C-4 for every gene; in `legacy` first that of the first cell, then that of all others."""
        states = in_unit_ball(self.genes) if self.training else clipped(self.genes)
        own = in_unit_ball(self.positions) if self.training else clipped(self.positions)
        n_genes = len(states)
        even = states.new_full((n_genes,), 1 / n_genes)
        base = self.gene_norm.rectified(states, even, n_cells * n_genes)
        variants = [self.edges("position").spread(own)] + ([own] if self.legacy else [])
        inputs = torch.cat([base + POSITION * self.position_layer(variant) for variant in variants])
        share = torch.cat([even / n_cells, even * (1 - 1 / n_cells)]) if self.legacy else even
        return self.gene_mlp(inputs, share, n_cells * n_genes).reshape(len(variants), n_genes, -1)

    def target_states(self, edges: Incoming) -> Float[Tensor, "target state"]:
        """r' of C-5 for some targets, given the edges into them; without gradient where nothing is trained."""
        if self.training:
            return self.target_layer(edges.spread(in_unit_ball(self.targets)))
        with torch.no_grad():
            table = clipped(self.targets)
            states = table.new_empty(len(edges.offset), table.shape[1])
            parts = edges.parts(NODES)
            for own, part in zip(states.tensor_split(len(parts)), parts, strict=True):
                own.copy_(self.target_layer(part.spread(table)))
        return states

    def shifts(
        self, states: Float[Tensor, "target state"], slots: Int[Tensor, "group slot"], count: Float[Tensor, " group"]
    ) -> Float[Tensor, "group state"]:
        """t of C-5 per group: 0 for control."""
        present = (slots >= 0).to(states.dtype)
        summed = (states[slots.clamp(min=0)] * present[..., None]).sum(dim=1)
        perturbed = present[:, 0] * count
        n_cells = float(perturbed.sum())
        if not n_cells:
            return torch.zeros_like(summed)
        return self.target_mlp(summed, perturbed / n_cells, n_cells) * present[:, :1]

    def decode(
        self,
        genes: Float[Tensor, "variant gene state"],
        shift: Float[Tensor, "group state"],
        *,
        variant: Int[Tensor, " group"],
        count: Float[Tensor, " group"],
    ) -> Float[Tensor, "group gene"]:
        """The response of each group (C-6, C-7); `count` are the cells that a group stands for."""
        n_genes, n_cells = genes.shape[1], float(count.sum())
        share = count / n_cells
        norm = self._condition_norm(genes, shift, variant, share, n_cells * n_genes)
        w = decoded(
            self.decoder,
            genes * norm.scale,
            norm(shift),
            variant=variant,
            share=share,
            n_rows=n_cells * n_genes,
            readout=self.readout,
            readout_bias=self.readout_bias,
        )
        cross = self.cross(w, share, n_cells)  # (group, gene) -> (group, state)
        return w * self.output[:, 0] + linear(cross, self.output[:, 1:], self.output_bias)

    def _condition_norm(self, genes: Tensor, shift: Tensor, variant: Tensor, share: Tensor, n_rows: float) -> Affine:
        """The first normalisation of C-6, from the moments of the two parts of its input, gene and condition."""
        centre, spread = genes.mean(dim=1)[variant] + shift, genes.var(dim=1, correction=0)[variant]
        mean = share @ centre
        variance = share @ (spread + (centre - mean) ** 2)
        return self.condition_norm.of_moments(mean, variance, n_rows)

    def respond(
        self, states: Float[Tensor, "target state"], slots: Int[Tensor, "row slot"]
    ) -> Float[Tensor, "row gene"]:
        """The response of conditions, given the states of their targets; for a trained network."""
        genes, shift = self.gene_states(CONTROLS_ASKED), self.shifts(states, slots, torch.ones(len(slots)))
        found = []
        for place in range(len(genes)):
            variant = torch.full((len(slots),), place, dtype=torch.int64)
            found.append(self.decode(genes, shift, variant=variant, count=torch.ones(len(slots))))
        if len(found) == 1:
            return found[0]
        return found[0] / CONTROLS_ASKED + found[1] * (1 - 1 / CONTROLS_ASKED)

    def terms(self, batch: GearsBatch, *, seed: int) -> dict[str, Float[Tensor, ""]]:
        """The two terms of C-8 in training; otherwise the squared error of each condition's DE genes."""
        states = self.target_states(self.edges("target"))
        if not self.training:
            response = self.respond(states, batch.slots)[batch.group]
            return {"top20": ((response - batch.change) ** 2 * batch.weight).sum() * batch.n_parts}
        shift = self.shifts(states, batch.slots, batch.count)
        variant = batch.later if self.legacy else torch.zeros_like(batch.later)
        genes = self.gene_states(float(batch.count.sum()))
        response = self.decode(genes, shift, variant=variant, count=batch.count)[batch.group]
        error, direction = autofocus(response, batch.change, batch.basal, batch.weight)
        return {"autofocus": error * batch.n_parts, "direction": direction * batch.n_parts}


def autofocus(
    response: Float[Tensor, "row gene"],
    change: Float[Tensor, "row gene"],
    basal: Float[Tensor, "row gene"],
    weight: Float[Tensor, "row gene"],
    *,
    direction: float = DIRECTION,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Fourth power of the error, and λ times the squared difference of directions, both weighted (C-8, γ = 2).

    `change` is a cell minus its control cell, `basal` that control cell minus the mean of controls. The second term
    has no gradient, as published: it is reported and teaches nothing.
    """
    error = ((response - change).pow(4) * weight).sum()
    with torch.no_grad():
        apart = torch.sign(basal + change) - torch.sign(basal + response)
        directions = direction * (apart**2 * weight).sum()
    return error, directions


def clipped(rows: Float[Tensor, "row state"]) -> Float[Tensor, "row state"]:
    """The rows, longer ones shortened to length 1; the shortening has no gradient."""
    with torch.no_grad():
        length = rows.norm(dim=1, keepdim=True)
        factor = torch.where(length > 1.0, 1.0 / (length + 1e-7), torch.ones_like(length))
    return rows * factor


def in_unit_ball(rows: nn.Parameter) -> nn.Parameter:
    """The parameter itself after its longer rows were shortened to length 1 in place (C-3, max-norm 1)."""
    with torch.no_grad():
        rows.copy_(clipped(rows))
    return rows


def _normal(*shape: int, variance: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * variance**0.5)
