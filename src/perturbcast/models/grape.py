"""GRAPE: a gene graph learned from texts and sequences, over which masked genes send their effects (spec A)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import BadOption, NeedsKnowledge
from perturbcast.models.base import FittedModel, ModelCard, TrainingData
from perturbcast.models.fields import Range
from perturbcast.models.grape_nodes import KINDS, candidates_of, prepared
from perturbcast.models.response_family import FittedResponse, ResponseModel
from perturbcast.networks.network import Network
from perturbcast.nn.nodes import NodeTable

if TYPE_CHECKING:
    from perturbcast.nn.response_net import ResponseNet, Rows
    from perturbcast.training.plan import RunOptions, TrainingPlan

VALIDATE_EVERY = 5  # passes over the conditions, each a step or a few
MOST_ALIGNED = 10  # passes over the genes before training; A.5
PUBLISHED: dict[str, Any] = {
    "base": "none",
    "folds": 2,
    "cells_prior": 1e4,
    "batch_size": 16,
    "max_steps": 100,
    "lr": 1e-3,
    "weight_decay": 1e-2,
    "patience": None,
    "stop_by": "last",
    "on_target": False,
    "calibrate": False,
    "sources": "published",
    "top": 50,
    "width": 64,
    "n_hops": 3,
    "combine": "mean",
    "mask": "zero",
    "reach": "all",
    "broadcast": False,
    "prior_graphs": False,
    "batch_norm": True,
    "least_likeness": 0.6,
    "least_edge": 0.015,
    "direction": 1.0,
    "direction_scale": 1.0,
    "anchor": 1.0,
    "anchor_norm": True,
    "align_epochs": MOST_ALIGNED,
    "align_batch": 32,
    "dropout": 0.0,
}
CODE: dict[str, Any] = {
    "weight_decay": 1e-4,
    "version": "v1",
    "combine": "sum",
    "mask": "negate",
    "squash": True,
    "trunk": True,
    "direction_scale": 0.0,
    "anchor_norm": False,
    "dropout": 0.4,
}


class FittedGrape(FittedResponse):
    """The trained networks; `network_of_genes` reads the learned graph out."""

    @cached_property
    def nodes(self) -> NodeTable:
        """The genes reasoned over, with the features that the model uses."""
        return self._grape.used(super().nodes)

    @property
    def _grape(self) -> "Grape":
        assert isinstance(self.model, Grape)
        return self.model

    @cached_property
    def learned_graph(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(source, destination, weight) of edges of the core: the mean over members of their learned graphs."""
        import torch

        members = [network for _, networks in sorted(self.members.items()) for network in networks]
        with torch.no_grad():
            total = sum(network.states().learned.double() for network in members) / len(members)
        source, destination = (members[0].data(name).numpy() for name in ("source", "destination"))
        core = (source < self.nodes.n_core) & (destination < self.nodes.n_core) & (source != destination)
        weight = np.where(total.numpy() >= self._grape.least_edge, total.numpy(), 0.0)
        return source[core], destination[core], weight[core]

    def network_of_genes(self) -> Network:
        """The learned graph (A-8) without loops: how much each gene listens to which. It has no sign.

        Weights are on the model's own scale (rows of length 1 before the mean over members); below the threshold of A-9
        there is no edge. Genes are the measured ones and the training targets.
        """
        source, destination, weight = self.learned_graph
        names = np.array(self.nodes.names[: self.nodes.n_core], dtype=object)
        return Network.of_edges(
            names,
            source,
            destination,
            weight,
            is_perturbed=np.isin(names, self.training_targets),
            is_measured=np.arange(len(names)) < self.nodes.n_measured,
            method=self.model.label,
        )

    def isolated_share(self, queries: Sequence[Query | str]) -> float:
        """Share of queries none of whose targets has a neighbour: their masks can tell no other gene (A.12)."""
        (network, *_) = next(iter(self.members.values()))
        source, destination = (network.data(name).numpy() for name in ("source", "destination"))
        joined = set(source[source != destination].tolist())
        asked = [self._as_query(query) for query in queries]
        alone = [not any(self.nodes.number.get(t) in joined for t in targets_of(query.condition)) for query in asked]
        return float(np.mean(alone)) if alone else float("nan")

    def variance_ratio(self, truth: ResponseTable) -> float:
        """Var over conditions of predictions over that of measured responses, both summed over genes (A.12).

        0 is a model that says the same of every condition, however well that correlates. 1 is not reached by an honest
        one: measured responses have noise.
        """
        predicted = self.predict(truth.queries).response
        measured = float(truth.response.var(axis=0).sum())
        return float(predicted.var(axis=0).sum() / measured) if measured > 0 else float("nan")

    def gene_states(self) -> dict[str, Float[np.ndarray, "gene feature"]]:
        """Measured genes as given (by modality) and as learned (last states, members side by side); Fig. 3 of A.7."""
        import torch

        from perturbcast.nn.grape_net import modalities

        with torch.no_grad():
            learned = [network.states().after.numpy() for network in self.members[min(self.members)]]
        n_genes = self.nodes.n_measured
        found = {f"given: {name}": rows[:n_genes] for name, rows in modalities(self.nodes.core()).items()}
        return found | {"learned": np.concatenate(learned, axis=1)[:n_genes].astype(np.float64)}


@dataclass(frozen=True)
class Grape(ResponseModel):
    """Texts and sequences are encoded, aligned and fused; a graph is learned from them; targets are masked in it.

    `plus` (default) corrects the mean of training (A.13). It takes any features and prior graphs; a token stands for
    masked genes; the response loss trains the weights of edges through a bias on attention (A.4). To what masks change
    it adds what targets send to all genes: their features past all layers, what their neighbours in prior graphs hold,
    and their states in the learned graph, read out in few axes of responses; weight decay is strong (docs/GRAPE.md).
    Attention runs unmasked but for its last layer: a mask reaches neighbours, not their neighbours, which is what `gene
    graph once per step` costs. Targets of a combination are all masked, and what they send adds up (A.11).
    Differs from the paper in all profiles: it learns mean responses weighed by cells, for the squared error the same
    optimum (A.5); edges are chosen among the `top` most similar genes by given features (A.9), found once, not among
    all pairs; widths are 64 for 256; features are those at hand (TF-IDF, 4-mers, or any table) for BERT and HyenaDNA.
    `code` differs from `paper` where the released code does: GAT for GATv2, relations summed after two layers of their
    own, squashed features, a trunk, Huber without tanh, masks of -1 at test.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="grape",
        title="GRAPE",
        summary="A graph over genes is learned from what is known of them, and perturbed genes are masked in it.",
        source="Chi et al., IJCAI 2025, arXiv 2505.03853; spec A",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        uses_knowledge=True,
        learns_network=True,
        profiles={"paper": PUBLISHED, "code": PUBLISHED | CODE, "plus": {}},
        quick={
            "max_steps": 3,
            "folds": 2,
            "width": 8,
            "n_heads": 2,
            "top": 5,
            "align_epochs": 0,
            "sources": "all",
            "batch_size": 512,
        },
        ablations={
            "sequence only": {"sources": "sequence"},
            "text only": {"sources": "text"},
            "fusion only": {"fused_only": True},
            "no structure learning": {"learn_structure": False},
            "no biotypes": {"biotypes": "none"},
            "shuffled biotypes": {"biotypes": "shuffled"},
            "random features": {"random_features": True},
            "random graph": {"random_graph": True},
            "no attention": {"attention": False, "broadcast": True},
            "no prior graphs": {"prior_graphs": False},
            "nothing sent": {"broadcast": False},
        },
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedGrape
    folds: Annotated[int, Range(2)] = 4  # members; a fifth would take 20,000 targets past half a minute
    lr: Annotated[float, Range(1e-9)] = 2e-3  # 1e-3 in A.5
    weight_decay: Annotated[float, Range(0.0)] = 10.0  # AdamW: 2 % a step at this lr; see docs/GRAPE.md
    max_steps: Annotated[int, Range(1)] = 120
    patience: Annotated[int, Range(1)] | None = 8  # validations, of which there is one in every fifth pass
    stop_by: Literal["loss", "ranks", "last"] = "loss"  # ranks: L2 and discrimination, A.13; last: no validation, A.5
    sources: Literal["all", "published", "text", "sequence"] = "all"  # features; published: text and sequence
    width: Annotated[int, Range(2)] = 32  # of all states; 256 in A.3
    n_heads: Annotated[int, Range(1)] = 4  # of attention and of similarity
    n_layers: Annotated[int, Range(1)] = 2  # of attention; A-11
    n_hops: Annotated[int, Range(1)] = 2  # of structure learning; 3 in A-6
    top: Annotated[int, Range(1)] = 8  # candidate neighbours of a gene; 50 in A.13, at many times the cost
    version: Literal["v1", "v2"] = "v2"  # of graph attention
    combine: Literal["mean", "sum", "residual"] = "residual"  # of relations: A-11, as in the code, or with a residual
    mask: Literal["zero", "negate", "token"] = "token"  # negate: 0 in training, -1 in prediction; A-F2
    reach: Literal["all", "last"] = "last"  # attention layers in which targets are masked
    squash: bool = False  # Gaussian squashing of features; A.3
    batch_norm: bool = False  # in the fusion, over genes; else layer norm
    least_likeness: Annotated[float, Range(-1.0, 1.0)] = -1.0  # A-3; negative: (1 + cosine) / 2 without threshold
    least_edge: Annotated[float, Range(0.0, 1.0)] = 0.0  # A-9; 0: weights bias attention and none is cut
    learn_structure: bool = True
    attention: bool = True
    broadcast: bool = True  # what targets send to all genes; A.13
    prior_graphs: bool = True  # targets are also known by their neighbours in given graphs, if all sources are used
    send_width: Annotated[int, Range(1)] = 64  # of what is sent
    send_dropout: Annotated[float, Range(0.0, 0.95)] = 0.5  # of the same
    rank: Annotated[int, Range(1)] = 64  # axes of responses that it is read out in
    trunk: bool = False
    fused_only: bool = False  # no modality graphs
    biotypes: Literal["real", "shuffled", "none"] = "real"  # none: one relation
    random_features: bool = False  # normal features of equal width
    random_graph: bool = False  # candidate edges at random, genes keeping their number
    dropout: Annotated[float, Range(0.0, 0.95)] = 0.2
    direction: Annotated[float, Range(0.0)] = 0.1  # weight of the direction loss; A.13
    direction_scale: Annotated[float, Range(0.0)] = 10.0  # on responses inside tanh, per ln unit; 0: without tanh
    anchor: Annotated[float, Range(0.0)] = 0.1  # weight of L_reg; A-10
    anchor_norm: bool = False  # its Frobenius norm, as printed; else the mean square, as in the code
    align_epochs: Annotated[int, Range(0)] = 5
    align_batch: Annotated[int, Range(2)] = 512  # genes

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.n_heads:
            raise BadOption(f"grape: width={self.width} is no multiple of n_heads={self.n_heads}.")

    @property
    def _graphs(self) -> Literal["real", "random", "none"]:
        """The prior graphs that targets hear over."""
        if not (self.broadcast and self.prior_graphs and self.sources == "all"):
            return "none"
        return "random" if self.random_graph else "real"

    def plan(self, n_rows: int) -> "TrainingPlan":
        """How the engine trains; without a criterion to stop by, all steps are made and the last weights kept."""
        found = super().plan(n_rows)
        return replace(found, validate_every=VALIDATE_EVERY, keep_best=self.stop_by != "last")

    def training_nodes(self, nodes: NodeTable) -> NodeTable:
        """Measured genes and training targets, with the features that the model uses."""
        return self.used(nodes).core()

    def used(self, nodes: NodeTable) -> NodeTable:
        """The nodes with the features that the model uses; NeedsKnowledge where there are none of a kind it names."""
        found = prepared(
            nodes,
            sources=self.sources,
            biotypes=self.biotypes,
            random_features=self.random_features,
            graphs=self._graphs,
        )
        missing = set(KINDS[self.sources]) - {name.split(":")[0] for name in found.blocks}
        if missing or not found.blocks:
            named = " and ".join(sorted(missing)) or "features"
            raise NeedsKnowledge(
                f"{self.label} needs {named} of genes, and what was given tells no genes apart by it.",
                "Pass --genes with texts and sequences, or set sources to text, sequence or all.",
            )
        return found

    def network(self, nodes: NodeTable, *, n_genes: int, rows: "Rows | None" = None) -> "ResponseNet":
        """The network over some nodes; for training, with texts and sequences aligned."""
        from perturbcast.models.grape_align import align
        from perturbcast.nn.grape_net import GrapeNet, GrapeShape

        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        own |= {"biotypes": self.biotypes != "none"}
        shape = GrapeShape(**{entry.name: own[entry.name] for entry in fields(GrapeShape)})
        edges = candidates_of(nodes, top=self.top, random_graph=self.random_graph)
        network = GrapeNet(nodes, edges, n_genes=n_genes, shape=shape, rows=rows)
        if rows is not None and self.align_epochs:
            align(network, epochs=self.align_epochs, batch_size=self.align_batch, symmetric=not self.batch_norm)
        return network

    def fit(
        self,
        training: TrainingData,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        options: "RunOptions | None" = None,
    ) -> FittedResponse:
        """The fitted ensemble. NeedsKnowledge where there are no features of a kind that `sources` names."""
        if training.knowledge.is_empty:
            raise NeedsKnowledge(f"{self.label} needs features of genes and none were given.")
        return super().fit(training, seed=seed, progress=progress, options=options)
