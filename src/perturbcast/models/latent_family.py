"""What the models that decode a latent cell share: their fields, training on cells, and prediction (spec 2, 6, 7)."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from perturbcast._progress import Progress
from perturbcast.data.conditions import CONTROL, Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.errors import CannotPredict, NotCounts, did_you_mean
from perturbcast.models.base import FittedModel, Model, TrainingData, decode_text, encode_text
from perturbcast.models.fields import Range
from perturbcast.models.latent_starts import starts
from perturbcast.models.residuals import SamplingNoise, residual_of
from perturbcast.models.trained_network import Cells, losses, trained_network
from perturbcast.models.training_cells import held_out_cells, share_held, training_cells
from perturbcast.nn.contexts import context_columns

if TYPE_CHECKING:
    from perturbcast.nn.average import Averages
    from perturbcast.training.plan import RunOptions, TrainingPlan

PUBLISHED = {
    "kl": "mc",
    "average": "independent",
    "basal": "prior",
    "n_averaged": 2500,
    "validation": 0.2,
    "lr": 3e-4,  # spec 6
    "max_steps": 30_000,  # of Norman's screen; Replogle's had 150,000; spec 3.4
    "max_epochs": 1_000_000,  # steps decide
    "patience": None,
}
QUICK = {  # of the cards: 0.1 to 0.3 s for 400 cells of 48 genes
    "n_latent": 4,
    "encoder_width": 16,
    "decoder_width": 16,
    "n_particles": 2,
    "n_averaged": 1024,
    "max_epochs": 4,
    "batch_size": 128,
    "lr": 3e-4,  # four epochs at the default are enough to fit noise, not enough to fit anything else
}
NET = "net."  # prefix of the network's arrays in the state
BOUND_BATCH = 64  # cells bounded at a time; memory is particles x cells x genes
UNSEEN = (
    "the network has one input per perturbation of training, and none for {targets}: its row of the mask and of the "
    "embedding was never trained (spec 5.9)."
)


class FittedLatent(FittedModel):
    """A trained network; answers are averages of what it decodes, condition minus control."""

    @cached_property
    def columns(self) -> dict[str, int]:
        """Dosage column of each target, or of each condition."""
        return {name: place for place, name in enumerate(decode_text(self._state["columns"]))}

    @property
    def inputs(self) -> Mapping[str, int]:
        """Those of the columns that a condition can have."""
        return self.columns

    @property
    def likelihood(self) -> str:
        """`counts` or `normal`, as was decided when fitting."""
        return decode_text(self._state["likelihood"])[0]

    @cached_property
    def network(self) -> Any:
        """The network with its learned weights."""
        import torch

        from perturbcast.nn.standardise import Standardise

        n_genes = len(self.genes)
        standardise = Standardise(np.zeros(n_genes), np.ones(n_genes), logarithm=self.likelihood == "counts")
        arrays = self.arrays_under(NET)
        with torch.random.fork_rng(devices=[]):  # weights are drawn before they are replaced
            network = self._first_network(standardise, arrays)
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        return network.eval()

    def _first_network(self, standardise: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        """A network for arrays of those names and shapes, whatever its weights."""
        return self._latent.network(len(self.columns), standardise, self.likelihood)

    @property
    def _latent(self) -> "LatentModel":
        assert isinstance(self.model, LatentModel)
        return self.model

    @cached_property
    def _averages(self) -> "Averages":
        import torch

        from perturbcast.nn.average import Averages
        from perturbcast.nn.trunk import Gaussian

        model, basal = self._latent, None
        if model.basal == "cells":
            mean, variance = (torch.from_numpy(np.array(self._state[f"basal.{part}"])) for part in ("mean", "variance"))
            basal = Gaussian(mean, variance)
        return Averages(
            network=self.network,
            n_latent=model.n_latent,
            depths=self._state["depths"],
            n_particles=model.n_averaged,
            basal=basal,
            held=float(self._state["held"][0]) if "held" in self._state else 1.0,
        )

    @cached_property
    def _order(self) -> Int[np.ndarray, " gene"]:
        """Gene of the table for each gene of the network, which has them in order of name."""
        return np.argsort(self.genes.astype(str), kind="stable")

    def _in_table_order(self, values: np.ndarray) -> np.ndarray:
        placed = np.empty_like(values)
        placed[..., self._order] = values
        return placed

    @cached_property
    def _control_mean(self) -> np.ndarray:
        return self._mean_of(CONTROL)

    def _mean_of(self, condition: str, context: str | None = None) -> np.ndarray:
        """(gene,) average expression of a condition, genes as in the network; in the first context unless told."""
        dosage = self.dosage_of(Query(condition, self.contexts[0] if context is None else context))
        if self._latent.average == "common":
            return self._averages.mean(dosage)
        name = f"{condition}|{context}" if context else condition
        key = int.from_bytes(name.encode()[-8:], "big")  # independent draws for every condition
        return self._averages.published(dosage, key=key)

    @cached_property
    def _controls(self) -> dict[str, np.ndarray]:
        """(gene,) average expression of control per context."""
        return {context: self._mean_of(CONTROL, context) for context in self.contexts}

    def dosage_of(self, query: Query) -> Float[np.ndarray, " column"]:
        """Dosage of a query: that of its condition, and 1 for its context where the network is told contexts."""
        row = self.dosage(query.condition)
        for name in context_columns((query.context,)):
            if name in self.columns:
                row[self.columns[name]] = 1.0
        return row

    def dosage(self, condition: str) -> Float[np.ndarray, " column"]:
        """1 in the condition's own column if it has one, else in those of its targets; CannotPredict if none."""
        row = np.zeros(len(self.columns), dtype=np.float32)
        inputs = self.inputs
        own = (condition,) if condition in inputs else targets_of(condition)
        missing = [name for name in own if name not in inputs]
        if missing:
            named = ", ".join(map(repr, missing))
            raise CannotPredict(f"{UNSEEN.format(targets=named)} {did_you_mean(missing[0], inputs)}")
        row[[inputs[name] for name in own]] = 1.0
        return row

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        response = self._mean_of(query.condition, query.context) - self._controls[query.context]
        support = self._support(query)
        return self._in_table_order(response), self._sd_of(query, support), support

    def _sd_of(self, query: Query, support: Support) -> Float[np.ndarray, " gene"] | None:
        """Standard deviation of a new observed response around the predicted; None where it was not learned.

        That of the error and of the noise of as many cells as the query had in training, or the median query.
        """
        if "residual" not in self._state:
            return None
        noise = self._noise.variance(self._row_of.get(query), self.contexts.index(query.context))
        return np.asarray(np.sqrt(self.error_variance(query, support) + noise))

    def error_variance(self, query: Query, support: Support) -> Float[np.ndarray, " gene"]:
        """Variance of the exact response around the predicted.

        What the posterior of masks and embeddings leaves open, and, per gene, what else responses of training lie from
        the predicted; the latter once for every target of a combination never seen.
        """
        times = 1 if support in (Support.SEEN, Support.CONTEXT) else len(targets_of(query.condition))
        return np.asarray(self.spread(query) ** 2 + times * self._state["residual"].astype(np.float64) ** 2)

    @cached_property
    def _noise(self) -> SamplingNoise:
        return SamplingNoise.restored(self._state)

    @cached_property
    def _row_of(self) -> dict[Query, int]:
        return {query: row for row, query in enumerate(self.trained_on)}

    def spread(self, query: Query) -> Float[np.ndarray, " gene"]:
        """Standard deviation of the predicted response over draws of masks and embeddings; 0 without them."""
        reference = self.dosage_of(Query(CONTROL, query.context))
        return self._in_table_order(self._averages.spread(self.dosage_of(query), reference))

    def _support(self, query: Query) -> Support:
        if query in self.seen:
            return Support.SEEN
        if any(query.condition == seen.condition for seen in self.seen):
            return Support.CONTEXT
        singly = {seen.condition for seen in self.seen}
        return Support.SINGLES if set(targets_of(query.condition)) <= singly else Support.PARTIAL

    def sample_cells(self, query: Query | str, *, n_cells: int, seed: int = 0) -> Float[np.ndarray, "cell gene"]:
        """Posterior-predictive cells of a query (spec 7.2): counts where counts were trained on, else expression.

        As deep as the training cells. CannotPredict for targets without a column.
        """
        dosage = self.dosage_of(self._as_query(query))
        return self._in_table_order(self._averages.cells(dosage, n_cells=n_cells, seed=seed))

    def evidence_bound(self, screen: Screen, *, n_particles: int = 100, seed: int = 0) -> Float[np.ndarray, " cell"]:
        """Importance-weighted bound on ln p of each cell, in nats (equation (27)); global variables are not scored.

        `screen` has the genes of training, in any order, and its scale. CannotPredict for targets without a column.
        """
        import torch

        for code in np.unique(screen.condition_code):
            self.dosage(screen.conditions[code])
        cells = np.arange(screen.n_cells)
        source, found = self._source_of(screen), []
        with torch.no_grad():
            for number, start in enumerate(range(0, len(cells), BOUND_BATCH)):
                batch = source.batch(cells[start : start + BOUND_BATCH])
                found.append(self.network.bound(batch, seed=seed + number, n_particles=n_particles).numpy())
        return np.concatenate(found).astype(np.float64)

    def _source_of(self, screen: Screen) -> Any:
        """Batches of a screen as the network reads them."""
        from perturbcast.nn.cells import CellBatches

        return CellBatches.of(screen, columns=list(self.columns), train_cells=np.arange(screen.n_cells))

    def mask(self) -> dict[str, np.ndarray]:
        """Target (or condition) -> (latent,) probability that it moves the unit; empty for models without masks."""
        name = next((name for name in (NET + "guide.logits", NET + "logits") if name in self._state), None)
        if name is None:
            return {}
        logits = self._state[name].astype(np.float64)
        contexts = set(context_columns(self.contexts))
        probability = dict(zip(list(self.columns)[: len(logits)], 1 / (1 + np.exp(-logits)), strict=True))
        return {name: probability[name] for name in self.inputs if name not in contexts}

    @property
    def losses(self) -> Float[np.ndarray, "epoch 2"]:
        """Training and validation loss of each epoch; NaN-free, validation repeats training where there is none."""
        return self._state["losses"]


@dataclass(frozen=True)
class LatentModel(Model):
    """The fields and the fit of every model that decodes a latent cell; sub-classes say what the network is."""

    fitted_class: ClassVar[type[FittedModel]] = FittedLatent
    n_latent: Annotated[int, Range(1)] = 100  # L; spec 6
    encoder_width: Annotated[int, Range(1)] = 400  # spec 6
    encoder_layers: Annotated[int, Range(1)] = 1  # spec 6
    decoder_width: Annotated[int, Range(1)] = 400  # spec 6
    decoder_layers: Annotated[int, Range(1)] = 1  # spec 6
    likelihood: Literal["auto", "counts", "normal"] = "auto"  # auto: counts for a screen of counts
    kl: Literal["analytic", "mc"] = "analytic"  # mc: published, spec 2.7
    n_particles: Annotated[int, Range(1)] = 5  # S in training; spec 6
    lr: Annotated[float, Range(1e-9)] = 3e-3  # Adam; published 3e-4, at which 50 epochs are not enough (TRAINING.md)
    weight_decay: Annotated[float, Range(0.0)] = 1e-6  # spec 6
    batch_size: Annotated[int, Range(1)] = 512  # spec 6
    max_epochs: Annotated[int, Range(1)] = 100  # validation loss is flat by then on 6,000 to 16,000 cells
    max_steps: Annotated[int, Range(1)] | None = 3000  # the lower bound counts: some minutes on 2 cores
    patience: Annotated[int, Range(1)] | None = 15  # epochs; published 30 and 50 at a tenth of the learning rate
    clip_norm: Annotated[float, Range(0.0)] | None = 100.0  # spec 6
    validation: Annotated[float, Range(0.0, 0.9)] = 0.1  # share of training cells that decides when to stop
    average: Literal["common", "independent"] = "common"  # random numbers of predictions; independent: equation (26)
    basal: Literal["cells", "prior"] = "cells"  # where predictions start: posteriors of control cells, or 𝒩(0, I)
    n_averaged: Annotated[int, Range(1)] = 512  # particles per prediction

    @abstractmethod
    def network(self, n_columns: int, standardise: Any, likelihood: str) -> Any:
        """The network, a torch module with `terms`, for that many dosage columns."""

    def columns(self, queries: tuple[Query, ...]) -> tuple[str, ...]:
        """Dosage columns: the targets of training, in order of name."""
        return tuple(sorted({target for query in queries for target in targets_of(query.condition)}))

    def shape_fields(self, likelihood: str) -> dict[str, Any]:
        """The fields that the shapes of all networks have in common."""
        names = ("n_latent", "encoder_width", "encoder_layers", "decoder_width", "decoder_layers", "n_particles")
        common = {name: getattr(self, name) for name in names}
        return common | {"likelihood": likelihood, "analytic_kl": self.kl == "analytic"}

    def plan(self) -> "TrainingPlan":
        """How the engine trains."""
        from perturbcast.training.plan import TrainingPlan

        return TrainingPlan(
            max_epochs=self.max_epochs,
            max_steps=self.max_steps,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            patience=self.patience,
        )

    def fit(
        self,
        training: TrainingData,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        options: "RunOptions | None" = None,
    ) -> FittedLatent:
        """The trained model. `options` say what to run on and where to keep checkpoints.

        Raises NeedsCells where only responses are known, NotCounts where counts are asked for and the screen has none,
        NotEnoughTraining without perturbed cells or where a query has none, and what `training.train` raises.
        """
        from perturbcast.nn.latent import standardiser
        from perturbcast.training.seeds import derived_seed, seeded

        screen = training_cells(training, label=self.card.name)
        likelihood = self.likelihood_for(screen)
        cells = held_out_cells(screen.n_cells, share=self.validation, seed=seed, query_code=screen.query_code)
        columns = self.columns(training.responses.queries)
        if len(screen.contexts) > 1:
            columns = (*columns, *context_columns(screen.contexts))
        source, told = self.source(screen, columns=columns, train_cells=cells[0], seed=seed)
        mean, sd = source.moments(cells[0], logarithm=likelihood == "counts")
        with seeded(derived_seed(seed, "first weights")):
            network = self.network(len(columns), standardiser(mean, sd, likelihood), likelihood)
        state = self.state_of(
            network, source, screen=screen, cells=cells, seed=seed, options=options, progress=progress
        )
        state |= {"columns": encode_text(columns), "likelihood": encode_text([likelihood])} | told
        state |= self.certainty_of(training, state)
        fitted = self.fitted_class(self, training.responses, state, split_fingerprint=training.split_fingerprint)
        assert isinstance(fitted, FittedLatent)
        return fitted

    def certainty_of(self, training: TrainingData, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays that standard deviations need; none where predictions are drawn as published."""
        if self.average != "common":
            return {}
        bare = self.fitted_class(self, training.responses, state)
        assert isinstance(bare, FittedLatent)
        noise = SamplingNoise.of(training.responses)
        residual = residual_of(bare, training.responses, spread=bare.spread, noise=noise)
        return {"residual": residual} | noise.state()

    def source(
        self, screen: Screen, *, columns: Sequence[str], train_cells: Int[np.ndarray, " train"], seed: int
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Where batches come from, and what else the fitted model keeps; other models read more of a cell."""
        from perturbcast.nn.cells import CellBatches

        return CellBatches.of(screen, columns=columns, train_cells=train_cells), {}

    def state_of(
        self,
        network: Any,
        source: Any,
        *,
        screen: Screen,
        cells: Cells,
        seed: int,
        options: "RunOptions | None",
        progress: Progress | None,
    ) -> dict[str, np.ndarray]:
        """Arrays of the network once it is trained, how training went, and what predictions start from."""
        trained = trained_network(
            network,
            source,
            cells=cells,
            plan=self.plan(),
            seed=seed,
            label=self.card.name,
            options=options,
            progress=progress,
        )
        state = {NET + name: tensor.numpy() for name, tensor in trained.weights.items()}
        state |= {"losses": losses(trained.history), "held": np.array([share_held(screen)], dtype=np.float32)}
        return state | starts(network, source, cells[0][screen.is_control[cells[0]]])

    def likelihood_for(self, screen: Screen) -> Literal["counts", "normal"]:
        """The likelihood that `likelihood` stands for; NotCounts where counts are asked for and there are none."""
        has_counts = screen.scale is Scale.COUNTS
        if self.likelihood == "counts" and not has_counts:
            raise NotCounts(f"{self.card.name} with likelihood counts was given {screen.scale}.")
        if self.likelihood == "auto":
            return "counts" if has_counts else "normal"
        return self.likelihood
