"""What CRADLE-VAE and GPO-VAE share: fields and labels of cells of low quality, and cleaning (spec 4)."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from perturbcast._progress import Progress
from perturbcast.data.artefacts import PUBLISHED as PUBLISHED_RULE
from perturbcast.data.artefacts import ArtefactLabels, ArtefactRule, artefact_labels
from perturbcast.data.screen import Screen
from perturbcast.errors import NotEnoughTraining
from perturbcast.models.base import decode_text
from perturbcast.models.fields import Range
from perturbcast.models.latent_family import PUBLISHED, FittedLatent, LatentModel

PUBLISHED_ARTEFACTS = PUBLISHED | {
    "quality": "published",
    "artefact": "network",
    "reconstruction": "paper",
    "counterfactual_kl": "published",
    "counterfactual_draws": "separate",
    "max_epochs": 2000,
    "max_steps": None,
}


class FittedWithArtefacts(FittedLatent):
    """A trained network that knows artefacts; what it generates and predicts is of cells that pass."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be told or was left out, and why."""
        return tuple(decode_text(self._state["notes"]))

    @property
    @abstractmethod
    def n_artefacts(self) -> int:
        """Artefacts that the network knows; 0 where no training cell failed."""

    def label(self, screen: Screen) -> ArtefactLabels:
        """Quality of the cells of a screen by the rule of the model; limits are those of that screen."""
        assert isinstance(self.model, ArtefactModel)
        return self.model.labels_of(screen)

    def labelled(self, screen: Screen, failed: Bool[np.ndarray, " cell"]) -> Any:
        """Batches of a screen in which those cells fail."""
        from perturbcast.nn.counterfactual import LabelledBatches

        labels = np.zeros((screen.n_cells, self.n_artefacts), dtype=np.float32)
        labels[failed, :1] = 1.0
        return LabelledBatches(self._batches_of(screen), labels, np.arange(screen.n_cells))

    def _batches_of(self, screen: Screen) -> Any:
        """Batches of a screen without labels."""
        return super()._source_of(screen)

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


@dataclass(frozen=True)
class ArtefactModel(LatentModel):
    """The fields of models that tell artefacts of low-quality cells from effects of perturbations."""

    decoder_layers: Annotated[int, Range(1)] = 2  # spec 4.1, 6
    embedding_width: Annotated[int, Range(1)] = 400  # of q(E | M), and of the published q(a); spec 4.2, 6
    embedding_layers: Annotated[int, Range(1)] = 4  # spec 4.2, 6
    quality: Literal["rule", "published", "none"] = "rule"  # which cells fail (spec 4.3); none: all pass
    quality_threshold: Annotated[float, Range(1e-3)] = 3.0  # t of (14), in median absolute deviations
    quality_column: str = ""  # covariate with given labels, which replace the rule
    artefact: Literal["free", "network"] = "free"  # q(a); network: published (B17)
    reconstruction: Literal["balanced", "paper", "none"] = "balanced"  # weights of the two kinds of cells; (15), B9
    counterfactual: Annotated[float, Range(0.0)] = 0.1  # β; spec 4.5: .1 Adamson, .05 Replogle, .5 Norman
    counterfactual_kl: Literal["exact", "published"] = "exact"  # (7) or (17)
    counterfactual_draws: Literal["shared", "separate"] = "shared"  # masks of cell and reference

    def rule(self) -> ArtefactRule:
        """When a cell fails, where labels are not given."""
        rule = PUBLISHED_RULE if self.quality == "published" else ArtefactRule()
        return replace(rule, threshold=float(self.quality_threshold))

    def labels_of(self, screen: Screen, *, seed: int = 0) -> ArtefactLabels:
        """Which cells fail, by the fields of the model."""
        if self.quality_column:
            return artefact_labels(screen, given=self.quality_column)
        if self.quality == "none":
            return artefact_labels(screen, given=np.zeros(screen.n_cells, dtype=bool))
        return artefact_labels(screen, rule=self.rule(), seed=seed)

    def training_labels(
        self, screen: Screen, *, train_cells: Int[np.ndarray, " train"], seed: int
    ) -> tuple[Float[np.ndarray, "cell artefact"], tuple[str, ...]]:
        """Labels in one column, any flag, and what is to be said; NotEnoughTraining where every training cell fails."""
        found = self.labels_of(screen, seed=seed)
        if found.failed[train_cells].all():
            raise NotEnoughTraining(f"{self.card.name}: every training cell fails the limits of quality.")
        return found.failed[:, None].astype(np.float32), found.notes

    def cradle_shape(self, likelihood: str, **rest: Any) -> Any:
        """The shape of CRADLE-VAE's network by these fields and further ones of the model."""
        from perturbcast.nn.cradle_net import CradleShape

        names = ["embedding_width", "embedding_layers", "mask_prior", "artefact", "reconstruction", "counterfactual"]
        names += ["counterfactual_kl", "counterfactual_draws"]
        fields = {name: getattr(self, name) for name in names} | self.shape_fields(likelihood)
        return CradleShape(**(fields | rest))
