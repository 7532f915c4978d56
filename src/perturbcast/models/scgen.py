"""scGen: perturbations as shifts of latent cells (spec E.2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.errors import CannotPredict
from perturbcast.models.answer_shares import AnswerShares
from perturbcast.models.base import FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.fields import Range
from perturbcast.models.left_out import KnowsLeftOutErrors, for_answers_alone, left_out_errors
from perturbcast.models.pair_family import NET, pairs_source, some_controls
from perturbcast.models.target_inputs import TargetInputs
from perturbcast.models.trained_network import trained_network
from perturbcast.models.training_cells import held_out_cells

if TYPE_CHECKING:
    from perturbcast.nn.cell_pairs import CellPairs
    from perturbcast.training.plan import RunOptions, TrainingPlan

BELOW = "below."
AT_ONCE = 2048  # cells encoded together


class FittedScgen(KnowsLeftOutErrors):
    """Decoded control cells, shifted, minus the same without the shift."""

    @cached_property
    def shifts(self) -> dict[str, np.ndarray]:
        """Latent shift of every training condition."""
        return dict(zip(self._conditions, self._state["shifts"], strict=True))

    @property
    def _conditions(self) -> list[str]:
        return sorted({query.condition for query in self.trained_on})

    @property
    def _scgen(self) -> "Scgen":
        assert isinstance(self.model, Scgen)
        return self.model

    @cached_property
    def _below(self) -> FittedModel:
        """The model of the shifts of unseen targets; its genes are latent units."""
        model = self._scgen.below_model()
        state = self.arrays_under(BELOW)
        table = shift_table(self._conditions, self._state["shifts"])
        return type(model).fitted_class.restore(model, table, state)

    @cached_property
    def _decode(self) -> Any:
        """From latent cells to expression."""
        if self._scgen.space == "pca":
            axes, mean = (self._state[f"pca.{part}"].astype(np.float64) for part in ("axes", "mean"))
            return lambda z: z @ axes.T + mean
        import torch

        with torch.random.fork_rng(devices=[]):
            network = self._scgen.network(len(self.genes))
        arrays = self.arrays_under(NET)
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        network.eval()

        def decode(z: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return network.decoder(torch.from_numpy(z.astype(np.float32))).double().numpy()

        return decode

    def _shift(self, query: Query) -> tuple[np.ndarray, Support]:
        """The shift of a query, that of training where it has one, else the sum of those of its targets."""
        if query.condition in self.shifts:
            return self.shifts[query.condition], Support.SEEN if query in self.seen else Support.CONTEXT
        targets = targets_of(query.condition)
        n_seen = sum(target in self.shifts for target in targets)
        total, rests = np.zeros(self._state["shifts"].shape[1]), Support.SINGLES
        for target in targets:
            if target in self.shifts:
                total = total + self.shifts[target]
                continue
            found = self._below.predict([Query(target)])
            if found.reason[0]:
                raise CannotPredict(f"the shift of {target!r} is not known: {found.reason[0]}")
            total = total + found.response[0]
            rests = Support.PARTIAL if n_seen else found.support[0]
        return total, rests

    @cached_property
    def _unshifted(self) -> dict[str, np.ndarray]:
        return {context: self._decode(self._controls(context)).mean(axis=0) for context in self.contexts}

    def _controls(self, context: str) -> Float[np.ndarray, "cell latent"]:
        own = self._state["controls.context"] == self.contexts.index(context)
        return self._state["controls.latent"][own if own.any() else np.ones(len(own), dtype=bool)]

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        shift, rests = self._shift(query)
        moved = self._decode(self._controls(query.context) + shift).mean(axis=0) - self._unshifted[query.context]
        response = np.empty(len(self.genes))
        response[np.argsort(self.genes.astype(str), kind="stable")] = moved
        response = self._shares.answer(query, response)
        return response, self.left_out_sd(query, response), rests

    @cached_property
    def _shares(self) -> AnswerShares:
        return AnswerShares(self)


@dataclass(frozen=True)
class Scgen(Model):
    """δ_P = mean latent cell of P minus that of control; a prediction decodes control cells moved by δ_P.

    An unseen target gets δ from a model of like targets, `below`, combinations the sum of their targets' δ. `paper`
    takes δ from the nearest targets; `pca` replaces the autoencoder by 100 principal axes; `plus` regresses δ on what
    is known of targets, and what it says of unseen conditions is moved towards the mean response and no change as far
    as left-out conditions want it (`shrink`, with `folds`). Differs from the source: contexts count alike by averaging
    instead of by resampling cells, and answers are differences to decoded control cells, so that the autoencoder's bias
    cancels.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="scgen",
        title="scGen",
        summary="Moves cells in the latent space of an autoencoder by what a perturbation did to others.",
        source="Lotfollahi et al. 2019, doi:10.1038/s41592-019-0494-8; spec E.2",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        needs_cells=True,
        uses_knowledge=True,
        profiles={
            "paper": {
                "below": "nearest",
                "width": 800,
                "batch_size": 32,
                "max_epochs": 100,
                "max_steps": None,
                "patience": 25,
                "folds": 0,
                "shrink": False,
            },
            "pca": {"space": "pca"},
            "plus": {},
        },
        quick={"width": 16, "n_latent": 6, "max_epochs": 4, "batch_size": 128, "folds": 0},
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedScgen
    space: Literal["vae", "pca"] = "vae"
    below: str = "spectral-ridge"  # name of the model from targets to shifts
    n_latent: Annotated[int, Range(1)] = 100  # E.2
    width: Annotated[int, Range(1)] = 256  # of hidden layers; 800 in E.2
    dropout: Annotated[float, Range(0.0, 0.95)] = 0.2  # E.2
    lr: Annotated[float, Range(1e-9)] = 1e-3
    batch_size: Annotated[int, Range(2)] = 256  # cells
    max_epochs: Annotated[int, Range(1)] = 60
    max_steps: Annotated[int, Range(1)] | None = 300  # the lower of the two bounds counts
    patience: Annotated[int, Range(1)] | None = 8  # epochs
    validation: Annotated[float, Range(0.0, 0.9)] = 0.1  # share of training cells that decides when to stop
    folds: Annotated[int, Range(0)] = 3  # of conditions, without each of which it is fitted to calibrate sd; 0: no sd
    shrink: bool = True  # whether left-out conditions move answers of unseen ones towards the mean and no change

    def below_model(self) -> Model:
        """The model from targets to shifts; its standard deviations are not asked for."""
        from perturbcast.models.registry import get_model

        return for_answers_alone(get_model(self.below))

    def network(self, n_genes: int) -> Any:
        """The autoencoder."""
        from perturbcast.nn.scgen_net import ScgenNet

        return ScgenNet(n_genes=n_genes, width=self.width, n_latent=self.n_latent, dropout=self.dropout)

    def plan(self) -> "TrainingPlan":
        """How the engine trains."""
        from perturbcast.training.plan import TrainingPlan

        return TrainingPlan(
            max_epochs=self.max_epochs,
            max_steps=self.max_steps,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=0.0,
            patience=self.patience,
        )

    def fit(
        self,
        training: TrainingData,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        options: "RunOptions | None" = None,
    ) -> FittedScgen:
        """The fitted model. `options` say what to run on and where to keep checkpoints.

        Raises NeedsCells where only responses are known, NotEnoughTraining without cells of control and of a
        perturbation in one context, what `training.train` and the model of shifts raise.
        """
        own = training.responses.targets
        names = TargetInputs(own, len(own), np.zeros((len(own), 0), dtype=np.float16))
        source, _ = pairs_source(training, names, seed=seed, label=self.card.name)
        if self.space == "pca":
            state, latent = principal_cells(source, n_latent=self.n_latent)
        else:
            state, latent = self._autoencoded(source, seed=seed, progress=progress, options=options)
        shifts = condition_shifts(source, latent, sorted(set(training.responses.conditions)))
        table = shift_table(sorted(set(training.responses.conditions)), shifts)
        below = self.below_model().fit(TrainingData(table, knowledge=training.knowledge), seed=seed)
        state |= {BELOW + name: value for name, value in below.state().items()} | {"shifts": shifts}
        chosen, context = some_controls(source, n_contexts=len(training.responses.contexts))
        state |= {"controls.latent": latent[chosen], "controls.context": context}
        state |= left_out_errors(
            *(replace(self, folds=0), training),
            n_folds=self.folds,
            seed=seed,
            progress=progress,
            options=options,
            shrink=self.shrink,
        )
        return FittedScgen(self, training.responses, state, split_fingerprint=training.split_fingerprint)

    def _autoencoded(
        self, source: "CellPairs", *, seed: int, progress: Progress | None, options: "RunOptions | None"
    ) -> tuple[dict[str, np.ndarray], Float[np.ndarray, "cell latent"]]:
        """The trained autoencoder's weights, and the mean latent state of every cell."""
        import torch

        from perturbcast.training.seeds import derived_seed, seeded

        with seeded(derived_seed(seed, "first weights")):
            network = self.network(len(source.order))
        code = source.screen.query_code
        cells = held_out_cells(source.n_cells, share=self.validation, seed=seed, query_code=code)
        if len(cells[0]) % self.batch_size == 1:
            cells = cells[0][:-1], cells[1]  # a batch of one cell has no variance to normalise by
        trained = trained_network(
            *(network, source),
            cells=cells,
            plan=self.plan(),
            seed=seed,
            label=self.card.name,
            options=options,
            progress=progress,
        )
        starts = range(0, source.n_cells, AT_ONCE)
        parts = [np.arange(start, min(start + AT_ONCE, source.n_cells)) for start in starts]
        with torch.no_grad():
            latent = [network.encode(torch.from_numpy(source.expression(part))).mean.numpy() for part in parts]
        return {NET + name: tensor.numpy() for name, tensor in trained.weights.items()}, np.concatenate(latent)


def principal_cells(
    source: "CellPairs", *, n_latent: int
) -> tuple[dict[str, np.ndarray], Float[np.ndarray, "cell latent"]]:
    """Principal axes of the training cells, and every cell in them."""
    n_genes = len(source.order)
    total, square = np.zeros(n_genes), np.zeros((n_genes, n_genes))
    starts = range(0, source.n_cells, AT_ONCE)
    parts = [np.arange(start, min(start + AT_ONCE, source.n_cells)) for start in starts]
    for part in parts:
        values = source.expression(part).astype(np.float64)
        total += values.sum(axis=0)
        square += values.T @ values
    mean = total / source.n_cells
    size, axes = np.linalg.eigh(square / source.n_cells - np.outer(mean, mean))
    axes = axes[:, np.argsort(-size, kind="stable")[:n_latent]].astype(np.float32)
    latent = [(source.expression(part) - mean.astype(np.float32)) @ axes for part in parts]
    return {"pca.axes": axes, "pca.mean": mean.astype(np.float32)}, np.concatenate(latent)


def condition_shifts(
    source: "CellPairs", latent: Float[np.ndarray, "cell latent"], conditions: Sequence[str]
) -> Float[np.ndarray, "condition latent"]:
    """Mean latent cell of each condition minus that of control, in the mean over the contexts that have it."""
    control = source.screen.is_control
    code = {name: place for place, name in enumerate(source.screen.conditions)}
    found = np.zeros((len(conditions), latent.shape[1]))
    for row, condition in enumerate(conditions):
        own = source.screen.condition_code == code.get(condition, -1)
        each = [
            latent[own & (source.context == context)].mean(axis=0, dtype=np.float64)
            - latent[control & (source.context == context)].mean(axis=0, dtype=np.float64)
            for context in np.unique(source.context[own])
        ]
        found[row] = np.mean(each, axis=0) if each else 0.0
    return found


def shift_table(conditions: Sequence[str], shifts: Float[np.ndarray, "condition latent"]) -> ResponseTable:
    """Shifts as responses, latent units as genes."""
    n_latent = shifts.shape[1]
    return ResponseTable(
        name="latent shifts",
        scale=Scale.RESPONSE,
        genes=np.array([f"latent unit {number}" for number in range(n_latent)], dtype=object),
        queries=tuple(Query(condition) for condition in conditions),
        response=shifts,
        contexts=("",),
        control=np.full((1, n_latent), np.nan),
        unit="latent",
    )
