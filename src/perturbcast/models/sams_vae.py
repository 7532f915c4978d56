"""SAMS-VAE (spec 3): every target adds a sparse offset, mask times embedding, to a cell's latent state."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from perturbcast.models.base import ModelCard
from perturbcast.models.fields import Range
from perturbcast.models.latent_family import PUBLISHED, QUICK, LatentModel


@dataclass(frozen=True)
class SamsVae(LatentModel):
    """z ~ 𝒩(0, I), h = z + Σ_p dose · (E ⊙ M)_p, counts ~ NB(ℓ·softmax dec(h), θ); equations (8) to (12).

    Combinations add up in latent space. Targets without training cells are refused: their rows are untrained (5.9).
    Where a screen has several contexts, each has an offset of its own, as if it were a target, and responses may differ
    between them; the published model knows none.
    `paper`: KLs by samples, predictions by (26), starts from the prior, 30,000 steps at 3e-4 without early stopping.
    `plus` (default): exact KLs, common random numbers, starts from the posteriors of control cells, libraries as deep
    as the training cells, a learning rate of 3e-3 and a tenth of the steps.
    Differs from the paper in both: genes silent in training stay finite (B20); validation charges global terms by
    training counts (B19); predictions are means of ln(1 + CP10k), the scale of responses; a screen of expression
    instead of counts is modelled as normal.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="sams-vae",
        title="SAMS-VAE",
        summary="A latent variable model of cells in which every target shifts a few latent units.",
        source="Bereket and Karaletsos 2023 (SAMS-VAE); spec 3",
        predicts=frozenset({"unseen_double"}),
        needs_cells=True,
        profiles={"paper": PUBLISHED, "plus": {}, "mean-field": {"guide": "mean-field"}},
        quick=QUICK | {"embedding_width": 8, "embedding_layers": 2},
    )
    guide: Literal["correlated", "mean-field"] = "correlated"  # q(E | M), equations (10) and (9)
    mask_prior: Annotated[float, Range(1e-6, 0.999999)] = 0.01  # π; spec 3.1
    embedding_width: Annotated[int, Range(1)] = 400  # of the correlated guide; spec 6
    embedding_layers: Annotated[int, Range(1)] = 4  # spec 6

    def network(self, n_columns: int, standardise: Any, likelihood: str) -> Any:
        """The network for that many targets."""
        from perturbcast.nn.sams_net import SamsNet, SamsShape

        shape = SamsShape(
            n_targets=n_columns,
            embedding_width=self.embedding_width,
            embedding_layers=self.embedding_layers,
            guide=self.guide,
            mask_prior=self.mask_prior,
            **self.shape_fields(likelihood),
        )
        return SamsNet(shape, standardise)
