"""What models share that learn from cells beside control cells: inputs, training, and answers as differences."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from perturbcast._progress import Progress
from perturbcast.data.conditions import CONTROL, Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.screen import Screen
from perturbcast.errors import NotEnoughTraining
from perturbcast.models.answer_shares import AnswerShares
from perturbcast.models.base import FittedModel, Model, TrainingData
from perturbcast.models.fields import Range
from perturbcast.models.gears_fit import pairs_of
from perturbcast.models.left_out import KnowsLeftOutErrors, left_out_errors
from perturbcast.models.target_inputs import TargetInputs, target_inputs
from perturbcast.models.trained_network import Cells, trained_network
from perturbcast.models.training_cells import held_out_cells, training_cells

if TYPE_CHECKING:
    from perturbcast.nn.cell_pairs import CellPairs
    from perturbcast.training.plan import RunOptions, TrainingPlan

NET, GIVEN = "net.", "given."
FEWEST_CONDITIONS = 5  # before some of them are left out to stop by
PUBLISHED = {"epoch_steps": None, "max_steps": None, "annealed": False, "patience": 15, "validation": 0.1}  # profiles
MOST_CONTROLS = 128  # control cells of a context that predictions start from


class FittedPairs(KnowsLeftOutErrors):
    """A trained network; an answer is the mean over control cells of what it predicts with the targets and without."""

    @cached_property
    def inputs(self) -> TargetInputs:
        """What the network is told of targets."""
        return TargetInputs.restored(self._state)

    @cached_property
    def given(self) -> dict[str, np.ndarray]:
        """Arrays that the network is made with."""
        return self.arrays_under(GIVEN)

    @cached_property
    def network(self) -> Any:
        """The network with its learned weights."""
        import torch

        with torch.random.fork_rng(devices=[]):
            network = self._pairs.network(self.inputs, positive=bool(self._state["positive"][0]), given=self.given)
        arrays = self.arrays_under(NET)
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        network.load_state_dict(tensors)
        return network.eval()

    @property
    def _pairs(self) -> "PairModel":
        assert isinstance(self.model, PairModel)
        return self.model

    @cached_property
    def _order(self) -> Int[np.ndarray, " gene"]:
        return np.argsort(self.genes.astype(str), kind="stable")

    def _controls(self, context: str) -> Any:
        """(cell, gene) control cells of a context, those of all contexts where it has none; a tensor."""
        import torch

        own = self._state["controls.context"] == self.contexts.index(context)
        chosen = own if own.any() else np.ones(len(own), dtype=bool)
        return torch.from_numpy(np.array(self._state["controls.expression"][chosen]))

    def mean_expression(self, condition: str, context: str) -> Float[np.ndarray, " gene"]:
        """Mean over control cells of what the network predicts; genes in its order."""
        import torch

        from perturbcast.nn.doses import Doses

        controls = self._controls(context)
        dose = Doses.alike(torch.from_numpy(self.inputs.dose(condition)), n_cells=len(controls))
        with torch.no_grad():
            return self.network.expression(controls, dose).double().mean(dim=0).numpy()

    @cached_property
    def _without(self) -> dict[str, np.ndarray]:
        """What the network predicts without targets, by context."""
        return {context: self.mean_expression(CONTROL, context) for context in self.contexts}

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        response = np.empty(len(self.genes))
        found = self.mean_expression(query.condition, query.context) - self._without[query.context]
        response[self._order] = found
        response = self._shares.answer(query, response)
        return response, self.left_out_sd(query, response), self._support(query)

    @cached_property
    def _shares(self) -> AnswerShares:
        return AnswerShares(self)

    def _support(self, query: Query) -> Support:
        if query in self.seen:
            return Support.SEEN
        if query.condition in self.seen_singly:
            return Support.CONTEXT
        targets = targets_of(query.condition)
        n_seen = sum(target in self.seen_singly for target in targets)
        if n_seen:
            return Support.SINGLES if n_seen == len(targets) else Support.PARTIAL
        return Support.NEIGHBOURS


@dataclass(frozen=True)
class PairModel(Model):
    """The fields and the fit of these models; sub-classes say what the network is.

    Few steps, the learning rate falling to 0, and nothing held out: a share of a few dozen conditions is one or two of
    them, which says nothing of when to stop.
    """

    fitted_class: ClassVar[type[FittedModel]] = FittedPairs
    targets_by: Literal["knowledge", "name"] = "knowledge"  # name: a target never seen is refused, as published
    lr: Annotated[float, Range(1e-9)] = 1e-3
    weight_decay: Annotated[float, Range(0.0)] = 1e-6
    batch_size: Annotated[int, Range(1)] = 128  # cells
    epoch_steps: Annotated[int, Range(1)] | None = 25  # at most, before it is judged anew; none: a pass over all cells
    max_epochs: Annotated[int, Range(1)] = 100
    max_steps: Annotated[int, Range(1)] | None = 200  # the lower of the two bounds counts
    annealed: bool = True  # whether the learning rate falls to 0 by the last epoch
    patience: Annotated[int, Range(1)] | None = None  # epochs
    validation: Annotated[float, Range(0.0, 0.9)] = 0.0  # share that decides when to stop: of conditions, or of cells
    folds: Annotated[int, Range(0)] = 3  # of conditions, without each of which it is fitted to calibrate sd; 0: no sd
    shrink: bool = False  # whether left-out conditions move answers of unseen ones towards the mean and no change

    @abstractmethod
    def network(
        self, inputs: TargetInputs, *, positive: bool, given: Mapping[str, np.ndarray], rows: "CellPairs | None" = None
    ) -> Any:
        """The network, a torch module with `terms` and `expression`; `rows` are there for training only."""

    def given(self, training: TrainingData, source: "CellPairs") -> dict[str, np.ndarray]:
        """Arrays that the network is made with, kept with the model: the mean of control cells, genes by name."""
        return {"control": source.expression(source.controls()).mean(axis=0)}

    def plan(self, n_cells: int) -> "TrainingPlan":
        """How the engine trains on so many cells."""
        from perturbcast.training.plan import TrainingPlan

        plan = TrainingPlan(
            max_epochs=self.max_epochs,
            max_steps=self.max_steps,
            epoch_steps=self.epoch_steps,
            batch_size=self.batch_size,
            lr=self.lr,
            annealed=self.annealed,
            weight_decay=self.weight_decay,
            patience=self.patience,
            keep_best=self.validation > 0,
        )
        return replace(plan, max_epochs=-(-plan.n_steps(n_cells) // plan.steps_per_epoch(n_cells)))

    def fit(
        self,
        training: TrainingData,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        options: "RunOptions | None" = None,
    ) -> FittedPairs:
        """The trained model. `options` say what to run on and where to keep checkpoints.

        Raises NeedsCells where only responses are known, NotEnoughTraining without cells of control and of a
        perturbation in one context, and what `training.train` raises.
        """
        inputs = target_inputs(training, knowledge=self.targets_by == "knowledge")
        source, positive = pairs_source(training, inputs, seed=seed, label=self.card.name)
        given = self.given(training, source)
        network = self._started(inputs, positive=positive, given=given, rows=source, seed=seed)
        self._train(network, source, seed=seed, progress=progress, options=options)
        state = {NET + name: tensor.numpy() for name, tensor in network.state_dict().items()}
        state |= {GIVEN + name: array for name, array in given.items()}
        chosen, context = some_controls(source, n_contexts=len(training.responses.contexts))
        state |= inputs.state() | {"controls.expression": source.expression(chosen), "controls.context": context}
        state |= {"positive": np.array([int(positive)])}
        state |= self.more_state(network, source, training, seed=seed)
        state |= left_out_errors(
            *(replace(self, folds=0), training),
            n_folds=self.folds,
            seed=seed,
            progress=progress,
            options=options,
            shrink=self.shrink,
        )
        fitted = self.fitted_class(self, training.responses, state, split_fingerprint=training.split_fingerprint)
        assert isinstance(fitted, FittedPairs)
        return fitted

    def _started(
        self, inputs: TargetInputs, *, positive: bool, given: Mapping[str, np.ndarray], rows: "CellPairs", seed: int
    ) -> Any:
        """The network with its first weights."""
        from perturbcast.training.seeds import derived_seed, seeded

        with seeded(derived_seed(seed, "first weights")):
            return self.network(inputs, positive=positive, given=given, rows=rows)

    def _train(
        self,
        network: Any,
        source: "CellPairs",
        *,
        seed: int,
        progress: Progress | None,
        options: "RunOptions | None",
    ) -> None:
        cells = self._cells(source, seed=seed)
        trained_network(
            *(network, source),
            cells=cells,
            plan=self.plan(len(cells[0])),
            seed=seed,
            label=self.card.name,
            options=options,
            progress=progress,
        )

    def more_state(
        self, network: Any, source: "CellPairs", training: TrainingData, *, seed: int
    ) -> dict[str, np.ndarray]:
        """What else a fitted model keeps."""
        return {}

    def _cells(self, source: "CellPairs", *, seed: int) -> Cells:
        """Cells to train on, and to stop by: those of whole conditions where unseen targets can be answered."""
        if self.targets_by == "knowledge":
            split = held_out_conditions(source.screen, share=self.validation, seed=seed)
            if split is not None:
                return split
        code = source.screen.query_code
        return held_out_cells(source.n_cells, share=self.validation, seed=seed, query_code=code)


def held_out_conditions(
    screen: Screen, *, share: float, seed: int
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " valid"]] | None:
    """Cells to train on, and those of some conditions to stop by: new targets are asked. None of too few conditions."""
    names = sorted({screen.conditions[code] for code in np.unique(screen.condition_code)} - {CONTROL})
    n_valid = max(1, round(share * len(names))) if share else 0
    if len(names) < FEWEST_CONDITIONS or not n_valid:
        return None
    drawn = np.random.default_rng(seed).permutation(len(names))[:n_valid]
    codes = [screen.conditions.index(names[place]) for place in drawn]
    out = np.isin(screen.condition_code, codes)
    return np.flatnonzero(~out), np.flatnonzero(out)


def pairs_source(training: TrainingData, inputs: TargetInputs, *, seed: int, label: str) -> tuple["CellPairs", bool]:
    """Batches of training cells beside control cells of their context, and whether no expression is negative."""
    from perturbcast.nn.cell_pairs import CellPairs

    screen = training_cells(training, label=label)
    own, control = pairs_of(screen, seed=seed)
    if not len(own) or screen.is_control[own].all():
        raise NotEnoughTraining(f"{label} needs cells of control and of a perturbation in one context.")
    beside = np.full(screen.n_cells, -1, dtype=np.int64)
    beside[own] = control
    kept = np.flatnonzero(beside >= 0)
    new = np.full(screen.n_cells, -1, dtype=np.int64)
    new[kept] = np.arange(len(kept))
    screen, beside = screen.take(kept), new[beside[kept]]
    present = set(np.unique(screen.condition_code).tolist())
    dose = np.zeros((len(screen.conditions), inputs.width), dtype=np.float32)
    for code in present:
        dose[code] = inputs.dose(screen.conditions[code])
    contexts = [*training.responses.contexts, *sorted(set(screen.contexts) - set(training.responses.contexts))]
    source = CellPairs(
        screen=screen,
        control=beside,
        dose=dose,
        query=query_numbers(screen, training.responses.queries),
        context=np.array([contexts.index(name) for name in screen.contexts])[screen.context_code],
        order=np.argsort(screen.genes.astype(str), kind="stable"),
    )
    return source, bool(sparse.csr_matrix(screen.expression(np.arange(screen.n_cells))).min() >= 0)


def query_numbers(screen: Screen, queries: Sequence[Query]) -> Int[np.ndarray, " cell"]:
    """Number of each cell's query in order of query; -1 for control."""
    number = {query: place for place, query in enumerate(sorted(queries))}
    pairs = zip(screen.condition_code, screen.context_code, strict=True)
    named = (Query(screen.conditions[condition], screen.contexts[context]) for condition, context in pairs)
    return np.array([number.get(query, -1) for query in named], dtype=np.int64)


def some_controls(source: "CellPairs", *, n_contexts: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of some control cells of each context, evenly from the file's order; and their contexts."""
    chosen = []
    for place in range(n_contexts):
        cells = np.flatnonzero(source.screen.is_control & (source.context == place))
        chosen.append(cells[:: max(1, -(-len(cells) // MOST_CONTROLS))])
    context = np.repeat(np.arange(n_contexts), [len(cells) for cells in chosen])
    return np.concatenate(chosen), context
