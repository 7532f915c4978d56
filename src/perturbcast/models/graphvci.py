"""GraphVCI: counterfactual cells over a gene graph whose edges are learned (spec E.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Support
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.models.base import FittedModel, ModelCard, TrainingData
from perturbcast.models.fields import Range
from perturbcast.models.pair_family import PUBLISHED, FittedPairs, PairModel
from perturbcast.models.target_inputs import TargetInputs

if TYPE_CHECKING:
    from perturbcast.nn.cell_pairs import CellPairs
    from perturbcast.nn.graphvci_net import GivenGroups
    from perturbcast.training.plan import TrainingPlan

AT_ONCE = 1024  # cells whose residuals are computed together


def regulator_edges(genes: Sequence[str], knowledge: GeneKnowledge) -> np.ndarray:
    """(2, edge) source and destination among genes by number: all graphs of the knowledge, and each gene to itself."""
    pairs = [np.tile(np.arange(len(genes)), (2, 1))]
    for name in sorted(knowledge.graphs):
        weights, _ = knowledge.graphs[name].between(genes)
        pairs.append(np.stack(weights.tocoo().coords))
    return np.unique(np.concatenate(pairs, axis=1), axis=1).astype(np.int64)


class FittedGraphVci(FittedPairs):
    """A trained network; seen queries are corrected by the mean error on their own cells (E-5)."""

    def mean_expression(self, condition: str, context: str) -> Float[np.ndarray, " gene"]:
        """Mean over control cells of what they would be with the targets; genes in the order of the network."""
        import torch

        from perturbcast.nn.doses import Doses

        controls = self._controls(context)
        dose = Doses.alike(torch.from_numpy(self.inputs.dose(condition)), n_cells=len(controls))
        place = torch.full((len(controls),), self.contexts.index(context), dtype=torch.int64)
        with torch.no_grad():
            return self.network.expression(controls, dose, place).double().mean(dim=0).numpy()

    @cached_property
    def _row(self) -> dict[Query, int]:
        """Row of the residuals by query; those of control cells come last, one per context."""
        return {query: place for place, query in enumerate(sorted(self.trained_on))}

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        response, sd, support = super()._respond(query)
        if query in self._row:
            residual = self._state["residual"]
            control = residual[len(self._row) + self.contexts.index(query.context)]
            response[self._order] += residual[self._row[query]] - control
        return response, sd, support

    def attention(self) -> dict[tuple[str, str], float]:
        """(source gene, destination gene) -> learned weight; those into one gene sum to 1 (E-1)."""
        import torch

        names = sorted(str(gene) for gene in self.genes)
        source, destination = self._state["given.edges"]
        with torch.no_grad():
            weight = self.network.graph.attention().numpy()
        edges = zip(source, destination, weight, strict=True)
        return {(names[a], names[b]): float(value) for a, b, value in edges}


@dataclass(frozen=True)
class GraphVci(PairModel):
    """A cell is encoded with its treatment, and decoded with that treatment and with another.

    `paper` names targets one by one and refuses those never seen; `plus` also reads what is known of them. The graph
    is made of the graphs of the knowledge; without any, every gene has only itself. Differs from the source: the
    counterfactual pass uses the present encoder without gradient on its side instead of a copy refreshed every epoch,
    treatments start without effect, and answers are differences to what the network imagines without targets. In
    `plus` units are smooth and the decoder starts at the mean of control cells: with ReLUs and another start its units
    fall silent within 50 steps and no target has an effect. The likelihood weighs less, because it lets the latent
    cell carry what targets do, and control is among the treatments imagined. What is said of unseen conditions is moved
    towards the mean response and no change as far as left-out conditions want it (`shrink`, with `folds`).
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="graphvci",
        title="GraphVCI",
        summary="Imagines each cell under another perturbation, with a gene network whose edges are weighed anew.",
        source="Wu et al. 2023, ICLR, arXiv:2210.00116; spec E.1",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        needs_cells=True,
        uses_knowledge=True,
        profiles={
            "paper": {
                **PUBLISHED,
                "targets_by": "name",
                "folds": 0,
                "shrink": False,
                "lr": 3e-4,
                "weight_decay": 4e-7,
                "likelihood_weight": 1.0,
                "match_weight": 2.0,
                "match_control": 0.0,
                "activation": "relu",
                "from_control": False,
                "samples": 3,
                "batch_size": 64,
                "max_epochs": 1000,
                "lr_factor": 0.5,
            },
            "plus": {},
        },
        quick={"width": 8, "max_epochs": 3, "batch_size": 64, "folds": 0},
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedGraphVci
    shrink: bool = True  # whether left-out conditions move answers of unseen ones towards the mean and no change
    width: Annotated[int, Range(1)] = 128  # E-1, E-2
    activation: Literal["relu", "silu"] = "silu"  # of encoder and decoder; relu in E-2, E-3
    likelihood_weight: Annotated[float, Range(0.0)] = 0.1  # ω0; 1 in E-4
    match_weight: Annotated[float, Range(0.0)] = 50.0  # ω1; of the published run script
    divergence_weight: Annotated[float, Range(0.0)] = 0.1  # ω2
    match_control: Annotated[float, Range(0.0, 0.9)] = 0.3  # share of counterfactuals asked without targets
    from_control: bool = True  # whether predicted means start at the mean of control cells
    samples: Annotated[int, Range(1)] = 1  # of the latent cell in training; 3 in E-4
    lr_factor: Annotated[float, Range(0.0, 1.0)] = 1.0  # after every 45 epochs; E.1

    def given(self, training: TrainingData, source: "CellPairs") -> dict[str, np.ndarray]:
        """The edges among measured genes, and how many contexts there are."""
        genes = [str(training.responses.genes[place]) for place in source.order]
        contexts = np.array([len(training.responses.contexts)], dtype=np.int64)
        return {"edges": regulator_edges(genes, training.knowledge), "contexts": contexts} | super().given(
            training, source
        )

    def network(
        self, inputs: TargetInputs, *, positive: bool, given: Mapping[str, np.ndarray], rows: "CellPairs | None" = None
    ) -> Any:
        """The network over the given edges."""
        import torch

        from perturbcast.nn.graphvci_net import GraphVciNet

        source, destination = (torch.from_numpy(np.array(ends)) for ends in given["edges"])
        return GraphVciNet(
            edges=(source, destination),
            n_genes=len(given["control"]),
            n_own=inputs.n_own,
            n_inputs=inputs.width,
            n_contexts=int(given["contexts"][0]),
            width=self.width,
            n_samples=self.samples,
            weights=(self.likelihood_weight, self.match_weight, self.divergence_weight),
            smooth=self.activation == "silu",
            match_control=self.match_control,
            start=torch.from_numpy(np.array(given["control"])) if self.from_control else None,
            groups=None if rows is None else groups_of(rows, control=self.match_control > 0),
        )

    def plan(self, n_cells: int) -> "TrainingPlan":
        """How the engine trains: as its kin, and in steps of 45 epochs."""
        return replace(super().plan(n_cells), lr_factor=self.lr_factor, lr_epochs=45)

    def more_state(
        self, network: Any, source: "CellPairs", training: TrainingData, *, seed: int
    ) -> dict[str, np.ndarray]:
        """Mean error on the cells of each query, and then of control in each context (E-5)."""
        n_queries = training.responses.n_queries
        row = np.where(source.query >= 0, source.query, n_queries + source.context)
        total = np.zeros((n_queries + len(training.responses.contexts), len(source.order)))
        for start in range(0, source.n_cells, AT_ONCE):
            cells = np.arange(start, min(start + AT_ONCE, source.n_cells))
            np.add.at(total, row[cells], errors_of(network, source, cells))
        count = np.bincount(row, minlength=len(total))
        return {"residual": (total / np.maximum(count, 1)[:, None]).astype(np.float32)}


def errors_of(network: Any, source: "CellPairs", cells: np.ndarray) -> Float[np.ndarray, "cell gene"]:
    """Expression of some cells minus what the network makes of them with their own targets."""
    import torch

    batch = source.batch(cells)
    with torch.no_grad():
        found = network.counterfactual(batch.values, batch.dose, batch.dose, batch.context)
    return (batch.values - found).numpy()


def groups_of(source: "CellPairs", *, control: bool) -> "GivenGroups":
    """Mean and biased variance of the cells of each training query that has any, its inputs and its context.

    With `control` also of the control cells of each context, whose inputs are 0.
    """
    import torch

    from perturbcast.nn.graphvci_net import GivenGroups

    is_control = source.screen.is_control
    found = [np.flatnonzero(source.query == number) for number in np.unique(source.query[source.query >= 0])]
    if control:
        found += [
            np.flatnonzero(is_control & (source.context == place)) for place in np.unique(source.context[is_control])
        ]
    values = (source.expression(cells) for cells in found)
    mean, variance = zip(*((own.mean(axis=0), own.var(axis=0)) for own in values), strict=True)
    first = np.array([cells[0] for cells in found])
    dose, context = source.dose[source.screen.condition_code[first]], source.context[first].astype(np.int64)
    arrays = (np.array(mean), np.array(variance), dose, context, is_control[first])
    return GivenGroups(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
