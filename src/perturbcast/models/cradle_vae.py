"""CRADLE-VAE (spec 4): cells of low quality are modelled, so that predictions are of cells that pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from perturbcast._progress import Progress
from perturbcast.data.artefacts import PUBLISHED as PUBLISHED_RULE
from perturbcast.data.artefacts import ArtefactLabels, ArtefactRule, artefact_labels
from perturbcast.data.screen import Screen
from perturbcast.errors import NotEnoughTraining
from perturbcast.models.base import FittedModel, ModelCard, decode_text, encode_text
from perturbcast.models.fields import Range
from perturbcast.models.latent_family import PUBLISHED, QUICK, FittedLatent, LatentModel

PAPER = PUBLISHED | {
    "quality": "published",
    "artefact": "network",
    "reconstruction": "paper",
    "counterfactual_kl": "published",
    "counterfactual_draws": "separate",
    "counterfactual_sum": True,
    "reference": "failed",
    "depth": "all",
    "patience": 50,
    "max_epochs": 2000,
    "max_steps": None,
}


class FittedCradle(FittedLatent):
    """A trained network; `sample_cells` and responses are of cells that pass, `models.cleaning` cleans observed ones.

    `evidence_bound` labels the cells it is given by the rule of the model.
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be told of the quality of the training cells, and why."""
        return tuple(decode_text(self._state["notes"]))

    @property
    def share_failed(self) -> float:
        """Share of the training cells that fail."""
        return float(self._state["share_failed"][0])

    def label(self, screen: Screen) -> ArtefactLabels:
        """Quality of the cells of a screen by the rule of the model; limits are those of that screen."""
        assert isinstance(self.model, CradleVae)
        return self.model.labels_of(screen)

    def clean(
        self,
        screen: Screen,
        *,
        failed: np.ndarray | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        **choices: Any,
    ) -> Screen:
        """The screen with its failing cells as they would be without artefacts; by the rule of the model, or as given.

        `choices` are those of `models.cleaning.clean_cells`, which also says what is raised.
        """
        from perturbcast.models.cleaning import clean_cells

        failed = self.label(screen).failed if failed is None else failed
        return clean_cells(self, screen, failed=failed, seed=seed, progress=progress, **choices)

    def _source_of(self, screen: Screen) -> Any:
        return self.labelled(screen, self.label(screen).failed)

    def labelled(self, screen: Screen, failed: np.ndarray) -> Any:
        """Batches of a screen in which those cells fail."""
        from perturbcast.nn.counterfactual import LabelledBatches

        return LabelledBatches(super()._source_of(screen), _column(failed), np.arange(screen.n_cells))


@dataclass(frozen=True)
class CradleVae(LatentModel):
    """h = [z ; δ ; a], δ = Σ_p dose · (E ⊙ M)_p as in SAMS-VAE, a the embedding of the artefacts of a cell, 0 without.

    A counterfactual term makes the basal state of a cell whose artefacts are switched that of a reference cell of the
    other quality and the same perturbation, (16). Predictions and generated cells have no artefacts, and are as deep
    as passing cells; combinations add up; targets without training cells are refused (5.9).
    `paper`: all flags with raw limits over the whole screen (14), likelihood weighted by (15), references from failing
    cells only, formula (17) summed over the batch with two draws of masks, q(a) a network of ones, KLs by samples,
    predictions by (26). `plus` (default): flags for molecules, genes and mitochondrial share per batch, both kinds of
    cells weighted to a mean of 1 (B9), references of the opposite status (B2), exact KL (B3) with one draw, free q(a)
    (B17), exact KLs, common random numbers.
    Differs from the paper in both: references are of the cell's own perturbation (B1), drawn without replacement, by
    seed, from training cells, also for validation; medians over training cells only; departures of sams-vae.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="cradle-vae",
        title="CRADLE-VAE",
        summary="A latent variable model of cells that tells artefacts of low-quality cells from effects of "
        "perturbations, predicts cells that pass, and cleans observed ones.",
        source="Baek et al. 2024 (CRADLE-VAE); spec 4",
        predicts=frozenset({"unseen_double"}),
        needs_cells=True,
        profiles={"paper": PAPER, "plus": {}},
        quick=QUICK | {"embedding_width": 8, "embedding_layers": 2},
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedCradle
    decoder_layers: Annotated[int, Range(1)] = 2  # spec 4.1
    embedding_width: Annotated[int, Range(1)] = 400  # of q(E | M), and of the published q(a); spec 4.2
    embedding_layers: Annotated[int, Range(1)] = 4  # spec 4.2
    mask_prior: Annotated[float, Range(1e-6, 0.999999)] = 0.001  # π: .001 Adamson, Replogle; .01 Norman, Dixit
    quality: Literal["rule", "published", "none"] = "rule"  # which cells fail; none: all pass
    quality_threshold: Annotated[float, Range(1e-3)] = 3.0  # t of (14), in median absolute deviations
    quality_column: str = ""  # covariate with given labels, which replace the rule
    artefact: Literal["free", "network"] = "free"  # q(a)
    reconstruction: Literal["balanced", "paper", "none"] = "balanced"  # weights of the two kinds of cells
    counterfactual: Annotated[float, Range(0.0)] = 0.1  # β; spec 4.5: .1 Adamson, .05 Replogle, .5 Norman
    counterfactual_kl: Literal["exact", "published"] = "exact"  # (7) or (17)
    counterfactual_draws: Literal["shared", "separate"] = "shared"  # masks of cell and reference
    counterfactual_sum: bool = False  # sum over the cells of the batch instead of batch_size times their mean
    reference: Literal["opposite", "failed"] = "opposite"  # status of the cells behind a reference
    reference_gradient: bool = True  # False moves the cell only, not its reference
    depth: Literal["passing", "all"] = "passing"  # training cells whose depth generated cells have

    def network(self, n_columns: int, standardise: Any, likelihood: str) -> Any:
        """The network for that many targets."""
        from perturbcast.nn.cradle_net import CradleNet, CradleShape

        names = ["embedding_width", "embedding_layers", "mask_prior", "artefact", "reconstruction", "counterfactual"]
        names += ["counterfactual_kl", "counterfactual_draws", "reference_gradient"]
        shape = CradleShape(
            n_targets=n_columns,
            counterfactual_batch=None if self.counterfactual_sum else self.batch_size,
            **{name: getattr(self, name) for name in names},
            **self.shape_fields(likelihood),
        )
        return CradleNet(shape, standardise)

    def labels_of(self, screen: Screen, *, seed: int = 0) -> ArtefactLabels:
        """Which cells fail, by the fields of the model."""
        if self.quality_column:
            return artefact_labels(screen, given=self.quality_column)
        if self.quality == "none":
            return artefact_labels(screen, given=np.zeros(screen.n_cells, dtype=bool))
        rule = PUBLISHED_RULE if self.quality == "published" else ArtefactRule()
        return artefact_labels(screen, rule=replace(rule, threshold=float(self.quality_threshold)), seed=seed)

    def source(
        self, screen: Screen, *, columns: Sequence[str], train_cells: Int[np.ndarray, " train"], seed: int
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Batches with labels and references; NotEnoughTraining where every training cell fails."""
        from perturbcast.nn.counterfactual import LabelledBatches, References
        from perturbcast.nn.predictive import depth_quantiles

        found = self.labels_of(screen, seed=seed)
        passing = train_cells[~found.failed[train_cells]]
        if not len(passing):
            raise NotEnoughTraining(f"{self.card.name}: every training cell fails the limits of quality.")
        artefact = _column(found.failed)
        plain, _ = super().source(screen, columns=columns, train_cells=train_cells, seed=seed)
        references = None
        if self.counterfactual:
            references = References.of(screen, artefact, train_cells=train_cells, partner=self.reference, seed=seed)
        share = float(found.failed[train_cells].mean())
        told = {"notes": encode_text(found.notes), "share_failed": np.array([share])}
        if self.depth == "passing":
            told["depths"] = depth_quantiles(plain.library[passing])
        return LabelledBatches(plain, artefact, train_cells, references), told


def _column(failed: np.ndarray) -> Float[np.ndarray, "cell artefact"]:
    """One artefact: any flag."""
    return failed[:, None].astype(np.float32)
