"""The network of GRAPE: encoded genes, a learned graph over them, masked messages, a head per gene (spec A)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from perturbcast.nn.condition_rows import RowBatch
from perturbcast.nn.grape_edges import CandidateEdges
from perturbcast.nn.grape_graph import MessageGraph
from perturbcast.nn.grape_hgat import Masked, RelationLayer, Unmasked
from perturbcast.nn.grape_parts import FeatureEncoder, error_and_ranks, fusion, relation_of, tanh_huber
from perturbcast.nn.grape_send import HEARD, Sending, heard_edges
from perturbcast.nn.grape_structure import Structure
from perturbcast.nn.nodes import NodeTable
from perturbcast.nn.response_net import ResponseNet, Rows

AT_ONCE = 128  # rows left out that are asked together
FAINTEST = 1e-6  # added to edge weights before their logarithm; A.4
PARTS = ("text", "sequence")  # modalities of the paper; all other features are a third, `other`


@dataclass(frozen=True)
class GrapeShape:
    """What the network is made of; see the fields of the model for units and sources."""

    width: int
    n_heads: int
    n_layers: int
    n_hops: int
    version: Literal["v1", "v2"]
    combine: Literal["mean", "sum", "residual"]
    mask: Literal["zero", "negate", "token"]
    reach: Literal["all", "last"]
    squash: bool
    batch_norm: bool
    least_likeness: float  # negative: no threshold
    least_edge: float  # 0: every candidate is an edge
    learn_structure: bool
    attention: bool
    broadcast: bool
    send_width: int
    send_dropout: float
    rank: int
    trunk: bool
    fused_only: bool
    biotypes: bool
    dropout: float
    direction: float
    direction_scale: float  # 0: without tanh
    anchor: float
    anchor_norm: bool
    stop_by: Literal["loss", "ranks", "last"]


@dataclass(frozen=True)
class States:
    """What does not depend on the query."""

    encoded: Float[Tensor, "node state"]  # Z_fus
    agreed: Float[Tensor, " edge"]  # G_agg
    learned: Float[Tensor, " edge"]  # the graph of A-8
    graph: MessageGraph
    before: Float[Tensor, "node state"]  # what masks act on
    runs: list[Unmasked]  # of the layers that masks act on
    after: Float[Tensor, "node state"]  # p of A-12 without a mask
    known: Float[Tensor, "node part"] | None  # features as they are sent


def modalities(nodes: NodeTable) -> dict[str, np.ndarray]:
    """(node, feature) float32 of mean square about 1 by modality: text, sequence, and other where there are any."""
    parts: dict[str, list[np.ndarray]] = {}
    for name in sorted(nodes.blocks):
        kind = name.split(":")[0]
        block = np.asarray(nodes.blocks[name], dtype=np.float32)
        parts.setdefault(kind if kind in PARTS else "other", []).append(block * np.float32(np.sqrt(block.shape[1])))
    return {name: np.concatenate(blocks, axis=1) for name, blocks in sorted(parts.items())}


class GrapeNet(ResponseNet):
    """Responses of all genes to masked genes; nodes beyond the core hang on the core and leave it as it is."""

    def __init__(
        self, nodes: NodeTable, edges: CandidateEdges, *, n_genes: int, shape: GrapeShape, rows: Rows | None = None
    ) -> None:
        features = modalities(nodes)
        marked = nodes.non_coding if len(nodes.non_coding) and shape.biotypes else np.zeros(len(nodes.names), bool)
        given = {f"features_{name}": array for name, array in features.items()}
        given |= {"source": edges.source, "destination": edges.destination, "non_coding": marked.astype(np.int64)}
        if shape.broadcast and nodes.graphs:
            given |= heard_edges(nodes.graphs, n_core=nodes.n_core, n_nodes=len(nodes.names))
        super().__init__(given, rows)
        self.shape, self.n_genes, self.n_core, self.n_awake = shape, n_genes, nodes.n_core, edges.n_awake
        self.unit = 1.0 if rows is None else rows.unit
        width = shape.width
        self.encoders = nn.ModuleDict(
            {
                name: FeatureEncoder(array.shape[1], width, squash=shape.squash, normalise=not shape.batch_norm)
                for name, array in features.items()
            }
        )
        self.fuse = fusion(len(features) * width, width, batch_norm=shape.batch_norm) if len(features) > 1 else None
        seen = ["fused"] if self.fuse is None or shape.fused_only else [*features, "fused"]
        self.structure = Structure(seen, shape.width, n_heads=shape.n_heads, n_hops=self._n_hops, least=self._least)
        self.layers = nn.ModuleList(self._layers() if shape.attention else [])
        self.token = nn.Parameter(torch.randn(width) * 0.1) if shape.mask == "token" and shape.attention else None
        self.send = self._sending(nodes, features, rows) if shape.broadcast else None
        self.trunk = _trunk(width) if shape.trunk else None
        self.head = nn.Parameter(torch.zeros(n_genes, width))
        if self.send is None:
            nn.init.xavier_normal_(self.head)
        self.offset = nn.Parameter(torch.zeros(n_genes))
        self._held: States | None = None

    def _sending(self, nodes: NodeTable, features: dict[str, np.ndarray], rows: Rows | None) -> Sending:
        """What targets send to all genes."""
        return Sending(
            {name: array.shape[1] for name, array in features.items()},
            n_graphs=len(nodes.graphs),
            n_core=nodes.n_core,
            n_state=self.shape.width,
            width=self.shape.send_width,
            rank=self.shape.rank,
            dropout=self.shape.send_dropout,
            n_genes=self.n_genes,
            rows=rows,
        )

    @property
    def _n_hops(self) -> int:
        return self.shape.n_hops if self.shape.learn_structure else 0

    @property
    def _least(self) -> tuple[float, float]:
        return self.shape.least_likeness, self.shape.least_edge

    def _layers(self) -> list[RelationLayer]:
        """Attention layers; side by side up to the last sum in the code, averaged over relations otherwise."""
        shape, found = self.shape, []
        apart = shape.combine == "sum"
        for number in range(shape.n_layers):
            concat = shape.combine == "residual" or (apart and number + 1 < shape.n_layers)
            n_out = shape.width // shape.n_heads if shape.combine == "residual" else shape.width
            n_in = shape.width * (shape.n_heads if apart and number else 1)
            found.append(
                RelationLayer(
                    n_in,
                    n_out,
                    n_heads=shape.n_heads,
                    version=shape.version,
                    concat=concat,
                    dropout=shape.dropout,
                    apart=apart,
                    reads_apart=apart and number > 0,
                    residual=shape.combine == "residual",
                    biased=shape.least_edge == 0,
                )
            )
        return found

    def train(self, mode: bool = True) -> "GrapeNet":
        """Changes the mode; what was held for the old weights is let go."""
        self._held = None
        super().train(mode)
        return self

    def terms(self, batch: RowBatch, *, seed: int) -> dict[str, Tensor]:
        """The terms of the loss; the graph is run once for all rows of the batch."""
        if self.training:
            self._held = None
        found = super().terms(batch, seed=seed)
        if self.training:
            self._held = None
        return found

    def states(self) -> States:
        """What does not depend on the query, computed once per step, and once per trained network."""
        if self._held is None:
            self._held = self._computed()
        return self._held

    def encoded(self) -> dict[str, Float[Tensor, "node state"]]:
        """Encoded genes by modality, and `fused`, which is Z_fus (A-2)."""
        found = {name: encoder(self.data(f"features_{name}")) for name, encoder in self.encoders.items()}
        if self.fuse is None:
            return {"fused": next(iter(found.values()))}
        found["fused"] = self.fuse(torch.cat([functional.relu(found[name]) for name in self.encoders], dim=1))
        return found

    def _computed(self) -> States:
        encoded = self.encoded()
        fused = functional.dropout(encoded["fused"], self.shape.dropout, self.training)
        source, destination = self.data("source"), self.data("destination")
        agreed, learned = self.structure(encoded, source, destination, n_core=self.n_core, n_awake=self.n_awake)
        graph = self._graph(source, destination, learned)
        runs, state = [], fused
        for layer in self.layers:
            runs.append(layer(state, graph))
            state = runs[-1].after
        masked = runs if self.shape.reach == "all" else runs[-1:]
        before = masked[0].before if masked else fused
        known = (
            None
            if self.send is None
            else self.send.known({name: self.data(f"features_{name}") for name in self.encoders})
        )
        return States(encoded["fused"], agreed, learned, graph, before, masked, self._summed(state), known)

    def _graph(self, source: Tensor, destination: Tensor, learned: Tensor) -> MessageGraph:
        """The graph of messages: all candidates with ln weight as bias, or those above the threshold (A-9)."""
        n_nodes, n_awake = len(self.data("non_coding")), self.n_awake
        bias = torch.log(learned.clamp(min=0.0) + FAINTEST)
        relation = relation_of(self.data("non_coding"), source, destination)
        if self.shape.least_edge == 0:
            return MessageGraph(source, destination, relation, bias, n_awake, n_nodes, self.n_core)
        kept = self._kept(source, destination, learned.detach())
        n_awake = int(kept[:n_awake].sum())
        return MessageGraph(source[kept], destination[kept], relation[kept], None, n_awake, n_nodes, self.n_core)

    def _kept(self, source: Tensor, destination: Tensor, learned: Tensor) -> Tensor:
        """Edges that reach the threshold in either direction, and loops; every edge has its reverse."""
        n_nodes = len(self.data("non_coding"))
        order = torch.argsort(source * n_nodes + destination)
        reverse = order[torch.searchsorted((source * n_nodes + destination)[order], destination * n_nodes + source)]
        strong = learned >= self.shape.least_edge
        return strong | strong[reverse] | (source == destination)

    def _summed(self, state: Tensor) -> Tensor:
        """Relations that ran apart are added up at the end (A-11 as in the code)."""
        return state.unflatten(1, (-1, self.shape.width)).sum(dim=1) if self.layers else state

    def respond(self, slots: Int[Tensor, "row slot"]) -> Float[Tensor, "row gene"]:
        """The response of each row of targets: heads on masked states, and what its targets send to every gene."""
        states = self.states()
        changed = self._changed(states, slots)
        own = states.after[: self.n_genes]
        if self.trunk is not None:
            found = self._through_trunk(own, changed, len(slots))
        else:
            rest = (own * self.head).sum(dim=1) + self.offset
            found = rest.expand(len(slots), -1)
            if changed is not None:
                node = changed.key % self.n_genes
                found = found.flatten().index_put(
                    (changed.key,), (changed.state * self.head[node]).sum(dim=1) + self.offset[node]
                )
                found = found.unflatten(0, (len(slots), -1))
        if self.send is None or states.known is None:
            return found
        heard = [self.data(name) for name in HEARD] if self.send.free is not None else []
        return found + self.send(slots, states.known, states.before, heard)

    def _changed(self, states: States, slots: Tensor) -> Masked | None:
        """Final states of measured genes that a row's masks change, by number row · genes + gene; None if none do."""
        row, slot = torch.nonzero(slots >= 0, as_tuple=True)
        if not len(row) or not states.runs:
            return None
        n_nodes = states.graph.n_nodes
        key, order = torch.sort(row * n_nodes + slots[row, slot])
        changed = Masked(key, self._masked(states.before[slots[row, slot][order]]))
        masked_layers = list(self.layers)[-len(states.runs) :]
        for layer, run in zip(masked_layers, states.runs, strict=True):
            assert isinstance(layer, RelationLayer)
            last = layer is self.layers[-1]
            changed = layer.masked(run, states.graph, changed, n_wanted=self.n_genes if last else None)
            if not len(changed.key):
                return None
        kept = changed.key % n_nodes < self.n_genes
        place = changed.key[kept]
        return Masked(place // n_nodes * self.n_genes + place % n_nodes, self._summed(changed.state[kept]))

    def _masked(self, state: Tensor) -> Tensor:
        """The masked states: zeros; a learned token; or, as the code has it, zeros and in prediction the negative."""
        if self.token is not None:
            return self.token.expand(len(state), -1)
        return -state if self.shape.mask == "negate" and not self.training else torch.zeros_like(state)

    def _through_trunk(self, own: Tensor, changed: Masked | None, n_rows: int) -> Tensor:
        """Heads after the trunk of the released code."""
        assert self.trunk is not None
        state = own.expand(n_rows, -1, -1).flatten(0, 1)
        if changed is not None:
            state = state.index_put((changed.key,), changed.state)
        return (self.trunk(state).unflatten(0, (n_rows, -1)) * self.head).sum(dim=2) + self.offset

    def misfit(
        self, predicted: Float[Tensor, "row gene"], target: Float[Tensor, "row gene"]
    ) -> dict[str, Float[Tensor, " row"]]:
        """Squared error (A-14) and direction (A-15) in one unit; both are divided by the mean square of the target."""
        found = super().misfit(predicted, target)
        if self.shape.direction:
            squashed = self.shape.direction_scale > 0
            factor = self.unit / (self.shape.direction_scale or 1.0)
            loss = tanh_huber(target * factor, predicted * factor, squashed=squashed).mean(dim=1)
            found["direction"] = self.shape.direction * loss / self.unit**2
        return found

    def validation_score(self, cells: Int[np.ndarray, " row"]) -> float | None:
        """Error and discrimination of rows left out together, where that is what stops training (A.13)."""
        if self.shape.stop_by != "ranks":
            return None
        rows = torch.from_numpy(cells).to(self.head.device)
        parts = [self.respond(self.data("row_slots")[part]) for part in rows.split(AT_ONCE)]
        return error_and_ranks(torch.cat(parts), self.data("row_target")[rows])

    def penalties(self) -> dict[str, Float[Tensor, ""]]:
        """L_reg: the learned graph stays near what the features say (A-10)."""
        if not self.shape.learn_structure or not self.shape.anchor:
            return {}
        states = self.states()
        square = (states.learned - states.agreed.detach()) ** 2
        size = torch.sqrt(square.sum() + FAINTEST) if self.shape.anchor_norm else square.mean()
        return {"structure": self.shape.anchor * size / self.unit**2}


def _trunk(width: int) -> nn.Sequential:
    """BN, ReLU, and an MLP of twice the width, as in the released code (A.3, trunk head)."""
    layers = [nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2 * width), nn.BatchNorm1d(2 * width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(2 * width, width), nn.BatchNorm1d(width))
