"""How GPO-VAE is fitted: genes of the network, targets of its alignment, labels, training, anchors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from perturbcast._progress import Progress
from perturbcast.data.conditions import CONTROL, targets_of
from perturbcast.data.de import differential_expression
from perturbcast.data.extended_genes import extended_genes
from perturbcast.data.matching import match_controls
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.errors import BadOption, NeedsKnowledge, NoOverlap, NotEnoughTraining, did_you_mean
from perturbcast.models.anchors import anchors, rest_variance
from perturbcast.models.base import TrainingData, encode_text
from perturbcast.models.gpo_unseen import Likeness, coupling, likeness_of, state_of_unseen
from perturbcast.models.trained_network import Cells
from perturbcast.models.training_cells import held_out_cells, training_cells
from perturbcast.networks.universe import LOSS, direction_of

if TYPE_CHECKING:
    from perturbcast.models.gpo_vae import GpoVae
    from perturbcast.training.plan import RunOptions


@dataclass(frozen=True)
class Genes:
    """The genes of the network: perturbed ones by name, then extended ones by name."""

    columns: tuple[str, ...]
    n_perturbed: int
    place: Int[np.ndarray, " column"]  # position among the measured genes, -1 for targets that are not measured

    @classmethod
    def of(cls, model: "GpoVae", training: TrainingData, screen: Screen) -> "Genes":
        """Targets of training and the genes that respond to any of them (spec 5.7)."""
        targets = training.responses.targets
        tested = differential_expression(screen, queries=[q for q in screen.queries() if q.condition != CONTROL])
        extended = extended_genes(tested, targets=targets, fold=model.extended_fold, most=model.max_extended)
        where = {str(gene): position for position, gene in enumerate(screen.genes)}
        columns = (*targets, *extended)
        return cls(columns, len(targets), np.array([where.get(name, -1) for name in columns], dtype=np.int64))

    @property
    def is_measured(self) -> Bool[np.ndarray, " column"]:
        """Whether a gene of the network is measured."""
        return self.place >= 0


@dataclass(frozen=True)
class Given:
    """What is known before the first step."""

    screen: Screen  # the cells of training
    likelihood: Literal["counts", "normal"]
    cells: Cells
    genes: Genes
    labels: Float[np.ndarray, "cell artefact"]
    targets: Any  # EffectTargets, or None where single cells are aligned
    prior: Float[np.ndarray, "source gene"] | None
    likeness: Likeness | None
    notes: list[str]

    @classmethod
    def of(cls, model: "GpoVae", training: TrainingData, *, seed: int) -> "Given":
        """All of it; raises what `GpoVae.fit` says."""
        screen = training_cells(training, label=model.card.name)
        likelihood = model.likelihood_for(screen)
        cells = held_out_cells(screen.n_cells, share=model.validation, seed=seed, query_code=screen.query_code)
        genes = Genes.of(model, training, screen)
        labels, notes = _labels(model, screen, train_cells=cells[0], seed=seed)
        prior, told = _prior(model, training, genes)
        targets = _targets(model, training, genes)
        likeness = likeness_of(model, training, seed=seed)
        return cls(screen, likelihood, cells, genes, labels, targets, prior, likeness, [*notes, *told])

    @property
    def n_contexts(self) -> int:
        """Contexts that have an embedding: all, or none where there is one."""
        return len(self.screen.contexts) if len(self.screen.contexts) > 1 else 0

    def coupling(self, model: "GpoVae") -> Float[np.ndarray, "source source"] | None:
        """What couples the rows of the network; None where they are free."""
        if self.likeness is None or model.alignment != "effects" or model.likeness == 0:
            return None
        return coupling(self.likeness, self.genes.columns[: self.genes.n_perturbed], share=model.likeness)

    def state(self) -> dict[str, np.ndarray]:
        """The arrays that say what the network is of."""
        return {
            "columns": encode_text(self.genes.columns),
            "likelihood": encode_text([self.likelihood]),
            "notes": encode_text(self.notes),
            "n_perturbed": np.array([self.genes.n_perturbed]),
            "n_artefacts": np.array([self.labels.shape[1]]),
        }


def fitted_state(
    model: "GpoVae",
    training: TrainingData,
    *,
    seed: int,
    progress: Progress | None,
    options: "RunOptions | None",
) -> dict[str, np.ndarray]:
    """All that the fitted model holds."""
    table = training.responses
    _check(model, table)
    given = Given.of(model, training, seed=seed)
    source = _source(model, given, table, seed=seed)
    network = _first_network(model, given, source.labelled.cells, seed=seed)
    state = given.state() | model.state_of(
        network, source, screen=given.screen, cells=given.cells, seed=seed, options=options, progress=progress
    )
    bare = dict(state)  # of the network alone, and without errors, which would be computed for every query
    state |= model.certainty_of(training, bare)
    if model.anchored:
        state |= _anchored(model, table, bare)
    if given.likeness is not None:
        place = given.genes.place
        state |= state_of_unseen(model, training, given.likeness, state, given.targets, place, seed=seed)
    return state


def _anchored(model: "GpoVae", table: ResponseTable, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What predictions of training queries are drawn by, and the variance of the network's error there."""
    from perturbcast.models.gpo_vae import FittedGpo

    bare = FittedGpo(model, table, state).predict(table.queries).response
    error = standard_errors(table)
    variance = rest_variance(table.response - bare, error)
    found = {"anchors": anchors(table.response, bare, error), "rest.query": variance.by_query}
    return {name: array.astype(np.float32) for name, array in (found | {"rest.gene": variance.by_gene}).items()}


def _check(model: "GpoVae", table: ResponseTable) -> None:
    """BadOption for fields that do not go together; NotEnoughTraining for one condition, which has no network."""
    if len(set(table.conditions)) == 1:
        alone = f"{table.conditions[0]!r} is alone"
        raise NotEnoughTraining(f"{model.card.name} learns a network from what perturbations do apart, and {alone}.")
    if model.unseen == "rows" and model.alignment != "effects":
        raise BadOption("unseen rows needs alignment effects, whose hops turn a row into a response.")
    if model.alignment == "effects" and (model.guide != "mean-field" or not model.closed):
        raise BadOption("alignment effects needs guide mean-field and closed extended genes, whose strengths it fits.")


def _first_network(model: "GpoVae", given: Given, cells: Any, *, seed: int) -> Any:
    """The network as training on cells starts from it."""
    from perturbcast.nn.latent import standardiser
    from perturbcast.training.seeds import derived_seed, seeded

    mean, sd = cells.moments(given.cells[0], logarithm=given.likelihood == "counts")
    with seeded(derived_seed(seed, "first weights")):
        network = model.neural(
            n_perturbed=given.genes.n_perturbed,
            n_columns=len(given.genes.columns),
            standardise=standardiser(mean, sd, given.likelihood),
            likelihood=given.likelihood,
            n_artefacts=given.labels.shape[1],
            n_contexts=given.n_contexts,
            prior=given.prior,
            targets=given.targets,
            coupling=given.coupling(model),
        )
    _start_network(model, network, given.prior, seed=seed)
    return network


# ------------------------------------------------------------------------------------------------- quality of cells
def _labels(
    model: "GpoVae", screen: Screen, *, train_cells: Int[np.ndarray, " train"], seed: int
) -> tuple[Float[np.ndarray, "cell artefact"], list[str]]:
    """Labels of low quality as one column, or none where no cell fails; and what is to be said."""
    off = np.zeros((screen.n_cells, 0), dtype=np.float32)
    if model.quality == "none" and not model.quality_column:
        return off, ["quality of cells: not asked for, so the artefact path is off."]
    labels, notes = model.training_labels(screen, train_cells=train_cells, seed=seed)
    if not labels.any():
        return off, [*notes, "quality of cells: none fails, so the artefact path is off."]
    return labels, list(notes)


# ----------------------------------------------------------------------------------------- what the network is held to
def _targets(model: "GpoVae", training: TrainingData, genes: Genes) -> Any:
    """Mean responses in the genes of the network, a row per condition; None where single cells are aligned."""
    from perturbcast.nn.grn import EffectTargets

    if model.alignment in ("cells", "none"):
        return None
    table = training.responses
    conditions = sorted(set(table.conditions))
    change, error = mean_effects(table, conditions)
    padded = [np.hstack([values, np.zeros((len(values), 1))])[:, genes.place] for values in (change, error)]
    column = {name: place for place, name in enumerate(genes.columns)}
    acted = np.zeros((len(conditions), genes.n_perturbed), dtype=bool)
    for row, condition in enumerate(conditions):
        acted[row, [column[target] for target in targets_of(condition)]] = True
    return EffectTargets.of(
        padded[0],
        padded[1],
        acted,
        place=np.arange(genes.n_perturbed),
        is_measured=genes.is_measured,
        least=model.least_amplitude,
        direction=_direction(training, genes, padded[0], acted),
        diagonal=model.diagonal,
    )


def mean_effects(
    table: ResponseTable, conditions: list[str]
) -> tuple[Float[np.ndarray, "condition gene"], Float[np.ndarray, "condition gene"]]:
    """Mean response of each condition over contexts, by cells, and its standard error; error 0 where unknown."""
    change = np.zeros((len(conditions), table.n_genes))
    variance = np.zeros_like(change)
    weight = np.ones(table.n_queries) if table.n_cells is None else table.n_cells.astype(np.float64)
    own = standard_errors(table) ** 2
    names = np.array(table.conditions, dtype=object)
    for row, condition in enumerate(conditions):
        rows = np.flatnonzero(names == condition)
        share = weight[rows] / weight[rows].sum()
        change[row] = share @ table.response[rows]
        variance[row] = share**2 @ own[rows]
    return change, np.sqrt(variance)


def standard_errors(table: ResponseTable) -> Float[np.ndarray, "query gene"]:
    """Of mean responses, cells and control; a query of one cell has the variance of control; 0 where unknown."""
    if table.variance is None or table.n_cells is None or table.control_variance is None or table.n_control is None:
        return np.zeros_like(table.response)
    control = np.nan_to_num(table.control_variance)[table.context_code]
    own = np.where(np.isnan(table.variance), control, table.variance)
    n_control = np.maximum(table.n_control[table.context_code], 1)
    return np.asarray(np.sqrt(own / np.maximum(table.n_cells, 1)[:, None] + control / n_control[:, None]))


def _direction(training: TrainingData, genes: Genes, change: np.ndarray, acted: np.ndarray) -> float:
    """-1 where perturbations take function away, 1 where they add to it."""
    assert training.screen is not None
    singles = np.flatnonzero(acted.sum(axis=1) == 1)
    sources = acted[singles].argmax(axis=1)
    seen = genes.is_measured[sources]
    own = {
        genes.columns[source]: float(change[row, source])
        for row, source in zip(singles[seen], sources[seen], strict=True)
    }
    return -1.0 if direction_of(training.screen, own_effects=own) == LOSS else 1.0


def _prior(model: "GpoVae", training: TrainingData, genes: Genes) -> tuple[np.ndarray | None, list[str]]:
    """(source, gene) probabilities from a graph of the knowledge, None without one; and what is to be said.

    NoOverlap where none of its edges joins genes of the network.
    """
    from perturbcast.nn.grn import prior_probabilities

    if not model.prior_graph:
        return None, []
    graphs = training.knowledge.graphs
    if model.prior_graph not in graphs:
        known = did_you_mean(model.prior_graph, graphs) if graphs else "No graph was given."
        raise NeedsKnowledge(f"there is no gene graph {model.prior_graph!r}. {known}")
    graph = graphs[model.prior_graph]
    listed = sparse.coo_matrix(graph.weights)
    edges = [
        (str(graph.genes[source]), str(graph.genes[target]), float(weight))
        for source, target, weight in zip(listed.row, listed.col, listed.data, strict=True)
    ]
    sources = genes.columns[: genes.n_perturbed] if model.closed else genes.columns
    from_these, to_these = set(sources), set(genes.columns)
    used = sum(source in from_these and target in to_these for source, target, _ in edges)
    if not used:
        raise NoOverlap(f"none of the {len(edges)} edges of {model.prior_graph!r} joins genes of the network.")
    unknown = from_these - set(map(str, graph.genes))
    note = f"prior graph {model.prior_graph}: {used} of its {len(edges)} edges are used"
    note += f"; it does not know {len(unknown)} of {len(sources)} regulators" if unknown else ""
    return prior_probabilities(list(sources), list(genes.columns), edges, background=model.mask_prior), [note + "."]


def _start_network(model: "GpoVae", network: Any, prior: np.ndarray | None, *, seed: int) -> None:
    """First Ŵ: 0, or the logits of the knowledge; then, with `effects`, the network that explains mean responses."""
    import torch

    from perturbcast.nn.grn import aligned, logit

    guide = network.guide
    with torch.no_grad():
        if prior is not None:
            listed = torch.as_tensor(prior) != model.mask_prior
            guide.logits.copy_(torch.where(listed, logit(prior), torch.zeros_like(guide.logits)))
        if model.alignment == "effects" and model.align_steps:
            found = aligned(
                network.targets,
                n_hops=model.n_hops,
                penalties=network.penalties,
                first_logits=guide.logits.detach(),
                n_steps=model.align_steps,
                seed=seed,
            )
            guide.logits.copy_(found.logits)
            guide.location.copy_(found.strength)
            network.shared.copy_(found.shared)


# -------------------------------------------------------------------------------------------------------------- cells
def _source(model: "GpoVae", given: Given, table: ResponseTable, *, seed: int) -> Any:
    from perturbcast.nn.cells import CellBatches
    from perturbcast.nn.contexts import context_labels
    from perturbcast.nn.counterfactual import LabelledBatches, References
    from perturbcast.nn.gpo_net import NetworkBatches

    screen, labels, train_cells = given.screen, given.labels, given.cells[0]
    contexts = screen.contexts if given.n_contexts else ()
    told = context_labels(screen.contexts, screen.context_code, contexts, train_cells=train_cells)
    plain = CellBatches.of(screen, columns=given.genes.columns, train_cells=train_cells, extra=told)
    references = None
    if labels.shape[1] and model.counterfactual > 0:
        references = References.of(screen, labels, train_cells=train_cells, seed=seed)
    row = {condition: place for place, condition in enumerate(sorted(set(table.conditions)))}
    rows = np.array([row.get(condition, -1) for condition in screen.conditions], dtype=np.int64)
    changes = _changes(screen, given.genes, seed=seed) if model.alignment == "cells" else None
    return NetworkBatches(LabelledBatches(plain, labels, train_cells, references), rows, changes)


def _changes(screen: Screen, genes: Genes, *, seed: int) -> Any:
    """ΔX against controls matched on the perturbed genes (22a), expression per median library as published."""
    from perturbcast.nn.gpo_net import CellChanges

    measured = genes.place[: genes.n_perturbed]
    names = [str(screen.genes[place]) for place in measured if place >= 0]
    matching = match_controls(screen, method="published", genes=names or None, seed=seed)
    blocks = [_per_median_library(screen, cells)[:, np.maximum(genes.place, 0)] for cells in screen.blocks()]
    values = sparse.csr_matrix(sparse.vstack(blocks, format="csr"))
    return CellChanges(values, matching.control, genes.is_measured)


def _per_median_library(screen: Screen, cells: np.ndarray) -> sparse.csr_matrix:
    """ln(1 + counts per median library), or the values of a screen of expression."""
    values = screen.stored(cells).astype(np.float32)
    if screen.scale is not Scale.COUNTS:
        return sparse.csr_matrix(values)
    library = np.asarray(values.sum(axis=1)).ravel() if screen.library is None else screen.library[cells]
    median = float(np.median(library if screen.library is None else screen.library))
    per_cell = np.divide(median, library, out=np.zeros(len(library)), where=library > 0)
    values.data = np.log1p(values.data * np.repeat(per_cell, np.diff(values.indptr))).astype(np.float32)
    return sparse.csr_matrix(values)
