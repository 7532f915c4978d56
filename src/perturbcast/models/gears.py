"""GEARS: gene and target embeddings on two graphs, and a decoder per gene (spec C)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.errors import CannotPredict, did_you_mean
from perturbcast.models.base import Answers, FittedModel, ModelCard, TrainingData, decode_text
from perturbcast.models.fields import Range
from perturbcast.models.gears_fit import NET, PublishedFit, incoming_matrix, network_of
from perturbcast.models.response_family import TOGETHER, FittedResponse, ResponseModel
from perturbcast.nn.nodes import NodeTable

if TYPE_CHECKING:
    from perturbcast.nn.response_net import ResponseNet, Rows
    from perturbcast.training.plan import RunOptions, TrainingPlan


class FittedGears(FittedResponse):
    """One network as published, or the ensemble of the family (`plus`)."""

    @property
    def is_published(self) -> bool:
        """Whether there is one network, trained as published."""
        return "gears.names" in self._state

    @property
    def _gears(self) -> "Gears":
        assert isinstance(self.model, Gears)
        return self.model

    @cached_property
    def _number(self) -> dict[str, int]:
        """Row of the ontology's graph by gene."""
        return {name: place for place, name in enumerate(decode_text(self._state["gears.names"]))}

    @cached_property
    def network(self) -> Any:
        """The published network with its learned weights."""
        import torch

        targets = incoming_matrix(self._state, "gears.target.")
        with torch.random.fork_rng(devices=[]):
            network = network_of(self._gears, incoming_matrix(self._state, "gears.position."), targets)
        arrays = self.arrays_under(NET)
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        return network.eval()

    @cached_property
    def _target_states(self) -> Any:
        """State of every gene of the ontology; a tensor."""
        import torch

        with torch.no_grad():
            return self.network.target_states(self.network.edges("target"))

    def confidence(self, queries: Sequence[Query | str]) -> Float[np.ndarray, " query"]:
        """exp(-mean log variance of the error) by the network's own account (C.4); larger is more certain. `plus` only.

        In units of what the networks learn, mean over members. CannotPredict as published.
        """
        if self.is_published:
            raise CannotPredict("gears as published says nothing of its errors.", "Use gears:plus.")
        from perturbcast.nn.gears_plus_net import log_variances

        asked = [self._as_query(query) for query in queries]
        found = []
        for query in asked:
            slots = self.nodes.slots([targets_of(query.condition)], width=max(1, len(targets_of(query.condition))))
            members = self.members[self.question(query)]
            found.append(np.exp(-np.mean([log_variances(member, slots).mean() for member in members])))
        return np.array(found)

    def _respond_many(self, queries: Sequence[Query], *, dtype: type) -> Answers:
        if not self.is_published:
            return super()._respond_many(queries, dtype=dtype)
        reason = tuple(self._refusal(query) for query in queries)
        response: np.ndarray = np.full((len(queries), len(self.genes)), np.nan, dtype=dtype)
        rows = np.array([row for row, refused in enumerate(reason) if not refused], dtype=np.int64)
        for start in range(0, len(rows), TOGETHER):
            part = rows[start : start + TOGETHER]
            response[np.ix_(part, self._order)] = self._of_ontology([queries[row] for row in part])
        support = tuple(
            Support.NOTHING if refused else self._support(query) for query, refused in zip(queries, reason, strict=True)
        )
        return Answers(response, None, support, reason)

    def _of_ontology(self, queries: Sequence[Query]) -> Float[np.ndarray, "query gene"]:
        """Responses of at most `TOGETHER` queries, genes in the order of the network."""
        import torch

        targets = [targets_of(query.condition) for query in queries]
        slots = np.full((TOGETHER, max(map(len, targets))), -1, dtype=np.int64)
        for row, names in enumerate(targets):
            slots[row, : len(names)] = [self._number[name] for name in names]
        with torch.no_grad():
            found = self.network.respond(self._target_states, torch.from_numpy(slots))
        return found.numpy()[: len(queries)]

    def _refusal(self, query: Query) -> str:
        missing = [target for target in targets_of(query.condition) if target not in self._number]
        if not missing:
            return ""
        near = did_you_mean(missing[0], self._number)
        return str(
            CannotPredict(
                f"{', '.join(map(repr, missing))} is in none of the gene sets that the graph is made of (spec C.10). "
                f"{near} The profile plus answers through what else is known."
            )
        )

    def _support(self, query: Query) -> Support:
        if not self.is_published or query in self.seen or query.condition in self.seen_singly:
            return super()._support(query)
        targets = targets_of(query.condition)
        n_seen = sum(target in self.seen_singly for target in targets)
        if n_seen:
            return Support.SINGLES if n_seen == len(targets) else Support.PARTIAL
        edges = np.diff(self._state["gears.target.offset"])
        informed = any(edges[self._number[target]] for target in targets)
        return Support.NEIGHBOURS if informed else Support.MEAN


@dataclass(frozen=True)
class Gears(ResponseModel):
    """Response = decoder(gene state + state of the condition), states smoothed over co-expression and gene ontology.

    `paper` and `legacy` train one network on pairs of a perturbed and a control cell, and choose the epoch by the
    genes changed most in validation conditions. Where only mean responses are known, these take the place of cells,
    repeated to make `pairs` of them an epoch. `legacy` keeps the published batching, in which co-expression reaches
    only the first cell of a batch. `plus` learns mean responses as the other models of this family do.

    Differs from the code (`paper`): cells of one condition in a batch are computed once, which changes no number; the
    last, smaller batch of an epoch is kept; targets that no training condition reaches over the graph have embedding
    0, to which weight decay brings them within the first epochs; predictions start from the mean of control cells
    instead of 300 drawn ones.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="gears",
        title="GEARS",
        summary="Graph neural networks over gene ontology and co-expression predict unseen targets and combinations.",
        source="Roohani, Huang and Leskovec 2024, doi:10.1038/s41587-023-01905-6; spec C",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        uses_knowledge=True,
        profiles={
            "paper": {
                "learn_from": "cells",
                "hidden": 64,
                "batch_size": 32,
                "weight_decay": 5e-4,
                "base": "none",
                "on_target": False,
                "calibrate": False,
            },
            "legacy": {
                "learn_from": "cells",
                "legacy": True,
                "hidden": 64,
                "batch_size": 32,
                "weight_decay": 5e-4,
                "base": "none",
                "on_target": False,
                "calibrate": False,
            },
            "plus": {},
        },
        quick={"max_steps": 12, "folds": 2, "hidden": 8, "max_epochs": 2, "pairs": 768},
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedGears
    learn_from: Literal["cells", "responses"] = "responses"  # cells: as published
    hidden: Annotated[int, Range(1)] = 16  # 64 in C.3
    batch_size: Annotated[int, Range(1)] = 64  # conditions; 32 pairs of cells in C.5
    max_steps: Annotated[int, Range(1)] = 200  # with responses
    patience: Annotated[int, Range(1)] | None = 10  # epochs without a better error on what is left out, with responses
    max_epochs: Annotated[int, Range(1)] = 20  # of pairs of cells; C.5
    pairs: Annotated[int, Range(1)] = 2048  # at least, in an epoch, where only responses are known
    lr_factor: Annotated[float, Range(0.0, 1.0)] = 0.5  # after every epoch of pairs; C.5
    clip_value: Annotated[float, Range(0.0)] = 1.0  # of each gradient, with pairs; C.5
    legacy: bool = False  # keep the published batching
    gene_sets: str = ""  # that the graph of targets is made of; empty: gene ontology
    neighbours: Annotated[int, Range(1)] = 20  # k of C-1 and C-2
    least_jaccard: Annotated[float, Range(0.0, 0.99)] = 0.1  # C-1
    least_correlation: Annotated[float, Range(0.0, 0.99)] = 0.4  # C-2

    def network(self, nodes: NodeTable, *, n_genes: int, rows: "Rows | None" = None) -> "ResponseNet":
        """The network of `plus` over some nodes."""
        from perturbcast.nn.gears_plus_net import GearsPlusNet

        return GearsPlusNet(nodes, n_genes=n_genes, hidden=self.hidden, rows=rows)

    def plan(self, n_rows: int) -> "TrainingPlan":
        """How the engine trains, on pairs as published or on responses."""
        if self.learn_from == "responses":
            return super().plan(n_rows)
        from perturbcast.training.plan import TrainingPlan

        return TrainingPlan(
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            lr_factor=self.lr_factor,
            weight_decay=self.weight_decay,
            clip_norm=None,
            clip_value=self.clip_value,
            patience=None,
        )

    def fit(
        self,
        training: TrainingData,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        options: "RunOptions | None" = None,
    ) -> FittedResponse:
        """The fitted model. `options` say what to run on and where to keep checkpoints.

        As published it raises NeedsKnowledge without gene sets, NotEnoughTraining with fewer than two training
        conditions inside them, TrainingDiverged where values are so large that their fourth power overflows.
        """
        if self.learn_from == "responses":
            return super().fit(training, seed=seed, progress=progress, options=options)
        state = PublishedFit(self, training, seed).state(progress=progress or Progress(), options=options)
        return FittedGears(self, training.responses, state, split_fingerprint=training.split_fingerprint)
