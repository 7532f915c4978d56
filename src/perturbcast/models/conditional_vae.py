"""Conditional VAE (spec 3.4): encoder and decoder are told which targets were perturbed."""

from dataclasses import dataclass
from typing import Any, ClassVar

from perturbcast.models.base import ModelCard
from perturbcast.models.latent_family import PUBLISHED, QUICK, LatentModel


@dataclass(frozen=True)
class ConditionalVae(LatentModel):
    """Decoder input [z; d], encoder input [x̃; d], d the dosage; the plainest model of the family.

    Profiles and departures as those of sams-vae.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="conditional-vae",
        title="Conditional VAE",
        summary="A variational auto-encoder of cells that is told which targets were perturbed.",
        source="Sohn et al. 2015; as in Bereket and Karaletsos 2023; spec 3.4",
        predicts=frozenset({"unseen_double"}),
        needs_cells=True,
        profiles={"paper": PUBLISHED, "plus": {}},
        quick=QUICK,
    )

    def network(self, n_columns: int, standardise: Any, likelihood: str) -> Any:
        """The network for that many targets."""
        from perturbcast.nn.conditional_net import ConditionalNet, ConditionalShape

        shape = ConditionalShape(n_columns=n_columns, **self.shape_fields(likelihood))
        return ConditionalNet(shape, standardise)
