"""How GEARS is fitted as published: pairs of cells, gene ontology and co-expression graphs, validation conditions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from scipy import sparse

from perturbcast._progress import Progress
from perturbcast.data.conditions import CONTROL, targets_of
from perturbcast.data.de_genes import t_scores, top_genes
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.split_rules import gears_groups
from perturbcast.errors import NeedsKnowledge, NotEnoughTraining, did_you_mean
from perturbcast.genes.graphs import coexpression_graph, jaccard_top_graph
from perturbcast.genes.knowledge import GeneKnowledge, GeneSets
from perturbcast.models.base import TrainingData, encode_text
from perturbcast.models.trained_network import trained_network
from perturbcast.models.training_cells import training_cells

if TYPE_CHECKING:
    from perturbcast.models.gears import Gears
    from perturbcast.nn.gears_net import GearsNet, Incoming
    from perturbcast.nn.gears_rows import GearsRows
    from perturbcast.training.plan import RunOptions

N_FOCUS = 20  # genes changed most, by which the best epoch is chosen; C.5
KEPT = 0.9  # share of targets and of pairs of training that train; the others validate; C.6
NET = "gears.net."


def ontology(knowledge: GeneKnowledge, name: str, *, label: str) -> GeneSets:
    """The gene sets of that name; without a name those called after gene ontology, else the first in order of name."""
    held = knowledge.gene_sets
    if not held or (name and name not in held):
        lacking = f"there are no gene sets {name!r}. {did_you_mean(name, held)}" if held else "there are no gene sets."
        raise NeedsKnowledge(f"{label} needs gene sets such as gene ontology: {lacking}")
    if name:
        return held[name]
    return held[min(held, key=lambda given: (not given.lower().startswith(("go", "gene2go")), given))]


def normalised_incoming(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """(destination, source) D^-1/2 (A + I) D^-1/2 of weights (source, destination), D the summed incoming weights.

    A gene with an edge to itself keeps its weight, another gets 1: the normalisation of SGConv (C-4, C-5).
    """
    loops = weights.diagonal()
    whole = sparse.csr_matrix(weights + sparse.diags_array(np.where(loops == 0, 1.0, 0.0)))
    degree = np.asarray(whole.sum(axis=0)).ravel()
    scale = sparse.diags_array(1.0 / np.sqrt(degree))
    return sparse.csr_matrix((scale @ whole @ scale).T)


def validation_conditions(conditions: Sequence[str], *, seed: int) -> list[str]:
    """Training conditions that choose the epoch: GEARS splits its training list once more (C.6); none of too few."""
    train, valid = gears_groups(sorted(conditions), seed=seed, gene_share=KEPT, pair_share=KEPT)
    return sorted(valid) if train else []


def pairs_of(screen: Screen, *, seed: int) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """Positions of cells, and of the control cell each is paired with: one at random of its context, fixed by seed.

    Control cells are paired with themselves (C.1). Cells of a context without control are left out.
    """
    rng = np.random.default_rng(seed)
    own, control = [], []
    for context in range(len(screen.contexts)):
        here = np.flatnonzero(screen.context_code == context)
        pool = here[screen.is_control[here]]
        if len(pool):
            drawn = pool[rng.integers(0, len(pool), len(here))]
            own.append(here)
            control.append(np.where(screen.is_control[here], here, drawn))
    return np.concatenate(own), np.concatenate(control)


@dataclass(frozen=True)
class PublishedFit:
    """Training data of the published procedure, conditions outside the ontology left out."""

    model: "Gears"
    training: TrainingData
    seed: int

    def state(self, *, progress: Progress, options: "RunOptions | None") -> dict[str, np.ndarray]:
        """All that the fitted model keeps: weights, and the graph from reached targets to all genes of the ontology."""
        names, incoming, into, rows, positions = self._prepared()
        network = self._trained(rows, into, positions, progress=progress, options=options)
        state = {NET + name: tensor.numpy() for name, tensor in network.state_dict().items()}
        state |= incoming_state("gears.target.", incoming) | incoming_state("gears.position.", positions)
        return state | {"gears.names": encode_text(names)}

    def _prepared(
        self,
    ) -> tuple[list[str], sparse.csr_matrix, sparse.csr_matrix, "GearsRows", sparse.csr_matrix]:
        """Genes of the ontology, edges into them from reached targets and into those of training, batches, positions.

        What these are made of is let go before training begins.
        """
        sets = ontology(self.training.knowledge, self.model.gene_sets, label=self.model.card.name)
        names = sorted(str(gene) for gene in sets.genes)
        table = self._known(set(names))
        valid = validation_conditions(sorted(set(table.conditions)), seed=self.seed)
        graph = jaccard_top_graph(sets, names, k=self.model.neighbours, least=self.model.least_jaccard)
        incoming = normalised_incoming(graph.weights)
        place = {name: number for number, name in enumerate(names)}
        trained = {t for c in table.conditions if c not in set(valid) for t in targets_of(c)}
        reached = np.unique(incoming[sorted(place[target] for target in trained)].indices)
        incoming = sparse.csr_matrix(incoming[:, reached], dtype=np.float32)
        into = sparse.csr_matrix(incoming[[place[target] for target in table.targets]])
        rows = self._rows(table, valid, table.targets)
        singles = [int(code) for code in np.unique(rows.condition) if (rows.slots[code] >= 0).sum() < 2]
        return names, incoming, into, rows, self._positions(rows, singles)

    def _known(self, names: set[str]) -> ResponseTable:
        """The training responses whose targets are all in the ontology, in order of query."""
        table = self.training.responses
        kept = [row for row, c in enumerate(table.conditions) if set(targets_of(c)) <= names]
        if len(kept) < 2:
            raise NotEnoughTraining(
                f"{len(kept)} of {table.n_queries} training conditions have all targets in the gene sets; 2 are needed."
            )
        return table.take(np.array(kept)).by_query()

    def _rows(self, table: ResponseTable, valid: Sequence[str], targets: Sequence[str]) -> "GearsRows":
        """Batches of pairs of cells, or of responses that stand for cells, and the validation conditions."""
        from perturbcast.nn.gears_rows import GearsRows

        conditions = [CONTROL, *sorted(set(table.conditions))]
        number = {target: place for place, target in enumerate(targets)}
        slots = np.full((len(conditions), max(len(targets_of(c)) for c in conditions)), -1, dtype=np.int64)
        for row, condition in enumerate(conditions):
            for place, target in enumerate(targets_of(condition)):
                slots[row, place] = number[target]
        order = np.argsort(table.genes.astype(str), kind="stable")
        asked = np.array([condition in set(valid) for condition in table.conditions])
        code = np.array([conditions.index(condition) for condition in table.conditions], dtype=np.int64)
        pairs = self._pairs_of_cells if self.training.screen is not None else self._pairs_of_responses
        return GearsRows(
            **pairs(table, conditions, ~asked, order),
            slots=slots,
            asked=code[asked],
            response=table.response[asked][:, order],
            focus=_most_changed(table)[asked][:, order],
            separate_first=self.model.legacy,
        )

    def _pairs_of_cells(
        self, table: ResponseTable, conditions: list[str], trains: np.ndarray, order: np.ndarray
    ) -> dict[str, np.ndarray | sparse.csr_matrix]:
        screen = training_cells(replace(self.training, responses=table.take(trains)), label=self.model.card.name)
        own, control = pairs_of(screen, seed=self.seed)
        if not len(own) or screen.is_control[own].all():
            raise NotEnoughTraining(f"{self.model.card.name} needs control cells in a context with perturbed cells.")
        cells = sparse.csr_matrix(screen.expression(np.arange(screen.n_cells))[:, order])
        code = np.array([conditions.index(c) if c in conditions else -1 for c in screen.conditions])
        condition = code[screen.condition_code]
        seen = np.zeros((len(conditions), cells.shape[1]), dtype=bool)
        for place in np.unique(condition):
            seen[place] = np.asarray(abs(cells[condition == place]).sum(axis=0)).ravel() > 0
        seen[conditions.index(CONTROL)] = True
        centre = np.zeros((len(screen.contexts), cells.shape[1]), dtype=np.float32)
        for place in range(len(screen.contexts)):
            control_cells = screen.is_control & (screen.context_code == place)
            if control_cells.any():
                centre[place] = np.asarray(cells[control_cells].mean(axis=0)).ravel()
        return {
            "cells": cells,
            "own": own,
            "control": control,
            "centre": centre,
            "context": screen.context_code[own].astype(np.int64),
            "condition": condition[own],
            "seen": seen,
        }

    def _pairs_of_responses(
        self, table: ResponseTable, conditions: list[str], trains: np.ndarray, order: np.ndarray
    ) -> dict[str, np.ndarray | sparse.csr_matrix]:
        """Each response as a cell whose control cell is at 0, and such a control cell, as often as makes an epoch."""
        responses = table.response[trains][:, order]
        code = [conditions.index(c) for c, inside in zip(table.conditions, trains, strict=True) if inside]
        cells = sparse.csr_matrix(np.vstack([np.zeros(table.n_genes), responses]).astype(np.float32))
        own = np.tile(np.arange(len(code) + 1), -(-self.model.pairs // (len(code) + 1)))
        return {
            "cells": cells,
            "own": own,
            "control": np.zeros_like(own),
            "centre": np.zeros((1, table.n_genes), dtype=np.float32),
            "context": np.zeros_like(own),
            "condition": np.array([conditions.index(CONTROL), *code], dtype=np.int64)[own],
            "seen": np.ones((len(conditions), table.n_genes), dtype=bool),
        }

    def _positions(self, rows: "GearsRows", conditions: Sequence[int]) -> sparse.csr_matrix:
        """Co-expression (C-2) in the cells of training singles and of control, made ready for message passing."""
        used = np.unique(rows.own[np.isin(rows.condition, conditions)])
        names = [str(place) for place in range(rows.cells.shape[1])]
        graph = coexpression_graph(rows.cells[used], names, k=self.model.neighbours, least=self.model.least_correlation)
        return sparse.csr_matrix(normalised_incoming(graph.weights), dtype=np.float32)

    def _trained(
        self,
        rows: "GearsRows",
        incoming: sparse.csr_matrix,
        positions: sparse.csr_matrix,
        *,
        progress: Progress,
        options: "RunOptions | None",
    ) -> "GearsNet":
        from perturbcast.training.seeds import derived_seed, seeded

        with seeded(derived_seed(self.seed, "first weights")):
            network = network_of(self.model, positions, incoming)
        n_pairs = len(rows.own)
        trained_network(
            *(network, rows),
            cells=(np.arange(n_pairs), np.arange(n_pairs, rows.n_cells)),
            plan=self.model.plan(n_pairs),
            seed=self.seed,
            label=self.model.label,
            options=options,
            progress=progress,
        )
        return network


def _most_changed(table: ResponseTable) -> np.ndarray:
    """(query, gene) bool: the genes with the largest |t|, or the largest responses where variances are unknown."""
    known = table.variance is not None and table.control_variance is not None and table.n_control is not None
    return top_genes(t_scores(table) if known else table.response, genes=table.genes, k=N_FOCUS)


def incoming_state(prefix: str, incoming: sparse.csr_matrix) -> dict[str, np.ndarray]:
    """Arrays from which `incoming_matrix` makes the matrix again."""
    return {
        f"{prefix}source": incoming.indices.astype(np.int32),
        f"{prefix}offset": incoming.indptr.astype(np.int64),
        f"{prefix}weight": incoming.data.astype(np.float32),
        f"{prefix}size": np.array([incoming.shape[1]], dtype=np.int64),
    }


def incoming_matrix(state: dict[str, np.ndarray], prefix: str) -> sparse.csr_matrix:
    """(destination, source) weights whose `incoming_state` is among these arrays."""
    parts = (state[f"{prefix}weight"], state[f"{prefix}source"], state[f"{prefix}offset"])
    return sparse.csr_matrix(parts, shape=(len(parts[2]) - 1, int(state[f"{prefix}size"][0])))


def network_of(model: "Gears", positions: sparse.csr_matrix, targets: sparse.csr_matrix) -> "GearsNet":
    """The network for some genes, and for targets reached over some edges."""
    from perturbcast.nn.gears_net import GearsNet

    return GearsNet(
        n_genes=positions.shape[0],
        n_reached=targets.shape[1],
        hidden=model.hidden,
        legacy=model.legacy,
        positions=_incoming(positions),
        targets=_incoming(targets),
    )


def _incoming(matrix: sparse.csr_matrix) -> "Incoming":
    import torch

    from perturbcast.nn.gears_net import Incoming

    return Incoming(
        torch.from_numpy(matrix.indices.astype(np.int64)),
        torch.from_numpy(matrix.indptr[:-1].astype(np.int64)),
        torch.from_numpy(np.asarray(matrix.data, dtype=np.float32)),
    )
