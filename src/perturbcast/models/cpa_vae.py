"""CPA-VAE (spec 3.4): SAMS-VAE without masks."""

from dataclasses import dataclass
from typing import Any, ClassVar

from perturbcast.models.base import ModelCard
from perturbcast.models.latent_family import PUBLISHED, QUICK, LatentModel


@dataclass(frozen=True)
class CpaVae(LatentModel):
    """h = z + Σ_p dose · e_p: equation (8) with every mask at 1, and without the adversary of CPA.

    Profiles and departures as those of sams-vae.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="cpa-vae",
        title="CPA-VAE",
        summary="A latent variable model of cells in which every target adds a vector to the latent state.",
        source="Bereket and Karaletsos 2023, after Lotfollahi et al. 2023 (CPA); spec 3.4",
        predicts=frozenset({"unseen_double"}),
        needs_cells=True,
        profiles={"paper": PUBLISHED, "plus": {}},
        quick=QUICK,
    )

    def network(self, n_columns: int, standardise: Any, likelihood: str) -> Any:
        """The network for that many targets."""
        from perturbcast.nn.sams_net import SamsNet, SamsShape

        shape = SamsShape(n_targets=n_columns, guide="unmasked", **self.shape_fields(likelihood))
        return SamsNet(shape, standardise)
