"""How the ensembles of the response family are fitted: what is left out, the model below, members, gains, errors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.models.base import Model, TrainingData
from perturbcast.models.calibrated import group_errors, groups_left_out
from perturbcast.models.holdouts import COMBINATIONS, TARGETS, Holdout, holdouts
from perturbcast.models.node_table import node_table, nodes_state
from perturbcast.models.on_target import OnTarget
from perturbcast.models.response_family import BASES, GIVEN, ResponseModel, responses_of
from perturbcast.nn.nodes import NodeTable

if TYPE_CHECKING:
    from perturbcast.nn.response_net import ResponseNet, Rows
    from perturbcast.training.plan import RunOptions


@dataclass(frozen=True)
class Left:
    """A question, what is left out to ask it, and what the model below says of what it has not seen."""

    kind: str
    folds: list[Holdout]
    out: list[Float[np.ndarray, "_ gene"]]  # by fold: what the model below says of the rows left out
    below: Float[np.ndarray, "query gene"]  # their mean over folds; of rows never left out, what it was trained on


def fitted_state(
    model: ResponseModel,
    training: TrainingData,
    *,
    seed: int,
    progress: Progress,
    options: "RunOptions | None",
) -> dict[str, np.ndarray]:
    """All that a fitted model of the family keeps; see `FittedResponse`."""
    given, own = _own_gene_aside(model, training)
    nodes = node_table(given.responses, given.knowledge)
    state = nodes_state(nodes) | {"own": own}
    for kind, folds in _questions(given, n_folds=model.folds, seed=seed).items():
        base = model.base_model(kind)
        if kind == TARGETS or model.base_of_combinations:
            below, kept = _fitted(base, given, seed=seed)
            state |= {BASES[kind] + name: value for name, value in kept.items()}
        out = _out_of_fold(base, given, folds, seed=seed, progress=progress)
        left = Left(kind, folds, out, _mean_over_folds(folds, out, below))
        fit = _Fit(model, given.responses, nodes, left, seed=seed, progress=progress, options=options)
        state |= fit.members()
    return state


def _own_gene_aside(model: ResponseModel, training: TrainingData) -> tuple[TrainingData, np.ndarray]:
    """Responses in order of query, own genes set aside where the model wants that; and the on-target effect."""
    table = training.responses.by_query()
    if not model.on_target:
        return replace(training, screen=None, responses=table), np.zeros(table.n_genes)
    response, own = OnTarget.set_aside(table)
    return replace(training, screen=None, responses=replace(table, response=response)), own


def _questions(given: TrainingData, *, n_folds: int, seed: int) -> dict[str, list[Holdout]]:
    """The questions that training can ask, `targets` first, with what is left out to ask them."""
    folds = holdouts(given.responses.queries, n_folds=n_folds, seed=seed)
    if not folds:
        everything = np.arange(given.responses.n_queries)
        return {TARGETS: [Holdout(TARGETS, everything, everything[:0])]}
    by_kind = {kind: [fold for fold in folds if fold.kind == kind] for kind in (TARGETS, COMBINATIONS)}
    return {kind: own for kind, own in by_kind.items() if own}


def _fitted(base: Model | None, given: TrainingData, *, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(query, gene) what the model below says of what it was trained on, and its arrays."""
    if base is None:
        return np.zeros_like(given.responses.response), {}
    fitted = base.fit(given, seed=seed)
    return fitted.predict(list(given.responses.queries)).response, fitted.state()


def _out_of_fold(
    base: Model | None, given: TrainingData, folds: Sequence[Holdout], *, seed: int, progress: Progress
) -> list[np.ndarray]:
    """What the model below says of the rows that each fold leaves out, fitted without them; 0 where there is none."""
    found = []
    label = "nothing below" if base is None else f"{base.card.name} without each fold"
    for fold in progress.track(folds, label=label):
        if base is None or not len(fold.valid):
            found.append(np.zeros((len(fold.valid), given.responses.n_genes)))
            continue
        part = replace(given, responses=given.responses.take(fold.train))
        asked = [given.responses.queries[row] for row in fold.valid]
        found.append(base.fit(part, seed=seed).predict(asked).response)
    return found


def _mean_over_folds(folds: Sequence[Holdout], out: Sequence[np.ndarray], below: np.ndarray) -> np.ndarray:
    """(query, gene) the mean of what is said of a row by the folds that leave it out; `below` for rows never out."""
    total, count = np.zeros_like(below), np.zeros(len(below))
    for fold, found in zip(folds, out, strict=True):
        total[fold.valid] += found
        count[fold.valid] += 1
    return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], below)


@dataclass(frozen=True)
class _Fit:
    """One question: its members are trained, and its gain and errors learned from what they left out."""

    model: ResponseModel
    table: ResponseTable
    nodes: NodeTable
    left: Left
    seed: int
    progress: Progress
    options: "RunOptions | None"

    def members(self) -> dict[str, np.ndarray]:
        """Weights of every member, the gain, and the calibrated errors."""
        kind = self.left.kind
        state: dict[str, np.ndarray] = {}
        order = np.argsort(self.table.genes.astype(str), kind="stable")
        corrections = []
        for number, fold in enumerate(self.left.folds):
            network = self._trained(number, fold, order)
            prefix = f"member.{kind}-{number}."
            kept = {k: v for k, v in network.state_dict().items() if not k.startswith(GIVEN)}
            state |= {prefix + name: tensor.cpu().numpy() for name, tensor in kept.items()}
            found = np.zeros((len(fold.valid), self.table.n_genes))
            if len(fold.valid):
                asked = [self.table.queries[row] for row in fold.valid]
                found[:, order] = responses_of(network, self._core, asked)
            corrections.append(found)
        rows = np.concatenate([fold.valid for fold in self.left.folds])
        correction, below = self._unit * np.concatenate(corrections), np.concatenate(self.left.out)
        gain = best_gain(self.table.response[rows] - below, correction) if self.model.calibrate else 1.0
        predicted = below + gain * correction
        scales = {f"gain.{kind}": np.array([gain]), f"scale.{kind}": np.array([gain * self._unit])}
        groups = groups_left_out(self.table.queries, self.left.folds)
        return state | scales | group_errors(groups, kind, self.table.response[rows] - predicted, predicted)

    @cached_property
    def _unit(self) -> float:
        """Root mean square of what is left to learn: networks see it as 1."""
        return float(np.sqrt(((self.table.response - self.left.below) ** 2).mean())) or 1.0

    @cached_property
    def _core(self) -> NodeTable:
        return self.model.training_nodes(self.nodes)

    def _trained(self, number: int, fold: Holdout, order: np.ndarray) -> "ResponseNet":
        from perturbcast.nn.condition_rows import RowSource
        from perturbcast.training.engine import train
        from perturbcast.training.seeds import derived_seed, seeded

        own_seed = derived_seed(self.seed, self.left.kind, number)
        with seeded(derived_seed(own_seed, "first weights")):
            network = self.model.network(self._core, n_genes=self.table.n_genes, rows=self._rows(order, fold))
        trained = train(
            network,
            RowSource(self.table.n_queries),
            train_cells=fold.train,
            valid_cells=fold.valid,
            plan=self.model.plan(len(fold.train)),
            seed=own_seed,
            options=self._options(number),
            progress=self.progress,
            label=f"{self.model.card.name}, {self.left.kind} {number + 1} of {len(self.left.folds)}",
        )
        network.load_state_dict(trained.weights)
        return network.eval()

    def _options(self, number: int) -> "RunOptions | None":
        if self.options is None or self.options.folder is None:
            return self.options
        return replace(self.options, folder=self.options.folder / f"{self.left.kind}-{number}")

    def _rows(self, order: np.ndarray, fold: Holdout) -> "Rows":
        from perturbcast.nn.response_net import Rows

        targets = [targets_of(query.condition) for query in self.table.queries]
        return Rows(
            slots=self._core.slots(targets, width=max(map(len, targets))),
            target=(self.table.response - self.left.below)[:, order] / self._unit,
            weight=row_weights(self.table, prior=self.model.cells_prior),
            gene_weight=np.ones(self.table.n_genes),
            unit=self._unit,
            train=fold.train,
        )


def row_weights(table: ResponseTable, *, prior: float) -> Float[np.ndarray, " query"]:
    """n / (n + n_0), so that conditions of few cells count less (B-9); 1 where cell numbers are unknown."""
    if table.n_cells is None:
        return np.ones(table.n_queries)
    return table.n_cells / (table.n_cells + prior)


def best_gain(error: Float[np.ndarray, "query gene"], correction: Float[np.ndarray, "query gene"]) -> float:
    """Least squares factor in [0, 1] on a correction of left-out conditions; 0 where it explains nothing."""
    size = float((correction**2).sum())
    return float(np.clip((error * correction).sum() / size, 0.0, 1.0)) if size > 0 else 0.0
