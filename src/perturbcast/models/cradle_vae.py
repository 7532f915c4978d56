"""CRADLE-VAE (spec 4): cells of low quality are modelled, so that predictions are of cells that pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int

from perturbcast.data.screen import Screen
from perturbcast.models.artefact_family import PUBLISHED_ARTEFACTS, ArtefactModel, FittedWithArtefacts
from perturbcast.models.base import FittedModel, ModelCard, encode_text
from perturbcast.models.fields import Range
from perturbcast.models.latent_family import QUICK

PAPER = PUBLISHED_ARTEFACTS | {"counterfactual_sum": True, "reference": "failed", "depth": "all", "patience": 50}


class FittedCradle(FittedWithArtefacts):
    """A trained network; `sample_cells` and responses are of cells that pass, `models.cleaning` cleans observed ones.

    `evidence_bound` labels the cells it is given by the rule of the model.
    """

    @property
    def share_failed(self) -> float:
        """Share of the training cells that fail."""
        return float(self._state["share_failed"][0])

    @property
    def n_artefacts(self) -> int:
        """One: any flag."""
        return 1

    def _source_of(self, screen: Screen) -> Any:
        return self.labelled(screen, self.label(screen).failed)


@dataclass(frozen=True)
class CradleVae(ArtefactModel):
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
    mask_prior: Annotated[float, Range(1e-6, 0.999999)] = 0.001  # π: .001 Adamson, Replogle; .01 Norman, Dixit
    counterfactual_sum: bool = False  # sum over the cells of the batch instead of batch_size times their mean
    reference: Literal["opposite", "failed"] = "opposite"  # status of the cells behind a reference
    reference_gradient: bool = True  # False moves the cell only, not its reference
    depth: Literal["passing", "all"] = "passing"  # training cells whose depth generated cells have

    def network(self, n_columns: int, standardise: Any, likelihood: str) -> Any:
        """The network for that many targets."""
        from perturbcast.nn.cradle_net import CradleNet

        shape = self.cradle_shape(
            likelihood,
            n_targets=n_columns,
            counterfactual_batch=None if self.counterfactual_sum else self.batch_size,
            reference_gradient=self.reference_gradient,
        )
        return CradleNet(shape, standardise)

    def source(
        self, screen: Screen, *, columns: Sequence[str], train_cells: Int[np.ndarray, " train"], seed: int
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Batches with labels and references; NotEnoughTraining where every training cell fails."""
        from perturbcast.nn.counterfactual import LabelledBatches, References
        from perturbcast.nn.predictive import depth_quantiles

        artefact, notes = self.training_labels(screen, train_cells=train_cells, seed=seed)
        plain, _ = super().source(screen, columns=columns, train_cells=train_cells, seed=seed)
        references = None
        if self.counterfactual:
            references = References.of(screen, artefact, train_cells=train_cells, partner=self.reference, seed=seed)
        failed = artefact[train_cells, 0] > 0
        told = {"notes": encode_text(notes), "share_failed": np.array([failed.mean()])}
        if self.depth == "passing":
            told["depths"] = depth_quantiles(plain.library[train_cells[~failed]])
        return LabelledBatches(plain, artefact, train_cells, references), told
