"""SVAE+ (spec 3.4): every condition shifts the prior of a few latent units."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from perturbcast.data.conditions import Query
from perturbcast.models.base import ModelCard
from perturbcast.models.fields import Range
from perturbcast.models.latent_family import PUBLISHED, QUICK, LatentModel


@dataclass(frozen=True)
class SvaePlus(LatentModel):
    """z ~ 𝒩(m_p ⊙ ε_p, I), m_pj ~ Bern(b_pj), b_pj ~ Beta(1, K); a combination is a condition of its own.

    Differs from the paper, which cannot: a combination never seen is the sum of its targets' shifts, where all of
    them were seen singly. Profiles and other departures as those of sams-vae.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="svae-plus",
        title="SVAE+",
        summary="A latent variable model of cells in which every condition shifts the prior of a few latent units.",
        source="Lopez et al. 2023; as in Bereket and Karaletsos 2023; spec 3.4",
        predicts=frozenset({"unseen_double"}),
        needs_cells=True,
        profiles={"paper": PUBLISHED, "plus": {}},
        quick=QUICK,
    )
    sparsity: Annotated[float, Range(1.0)] = 5.0  # K of Beta(1, K); published 2, 5, 10

    def columns(self, queries: tuple[Query, ...]) -> tuple[str, ...]:
        """One column per condition."""
        return tuple(sorted({query.condition for query in queries}))

    def network(self, n_columns: int, standardise: Any, likelihood: str) -> Any:
        """The network for that many conditions."""
        from perturbcast.nn.svae_net import SvaeNet, SvaeShape

        shape = SvaeShape(n_columns=n_columns, sparsity=self.sparsity, **self.shape_fields(likelihood))
        return SvaeNet(shape, standardise)
