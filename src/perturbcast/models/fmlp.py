"""fMLP: from features of targets to the response by two small networks (spec D-16)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from perturbcast.models.base import ModelCard
from perturbcast.models.fields import Range
from perturbcast.models.response_family import ResponseModel
from perturbcast.nn.nodes import NodeTable

if TYPE_CHECKING:
    from perturbcast.nn.response_net import ResponseNet, Rows


@dataclass(frozen=True)
class Fmlp(ResponseModel):
    """An MLP per target, latents summed, and an MLP to all genes.

    Differs from the source: it learns mean responses weighed by cells instead of the expression of each cell, which
    for a squared error in one context is the same optimum; and the responses below which `base` lies.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="fmlp",
        title="Feature MLP",
        summary="Two small neural networks from what is known of the targets to the response; a neural baseline.",
        source="Shift Bioscience 2025, doi:10.1101/2025.10.20.683304; spec D-16",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        uses_knowledge=True,
        profiles={
            "paper": {
                "base": "none",
                "weight_decay": 0.0,
                "dropout": 0.0,
                "width": 512,
                "on_target": False,
                "calibrate": False,
                "cells_prior": 1e9,
            },
            "plus": {},
        },
        quick={"max_steps": 30, "folds": 2, "width": 16, "n_latent": 8},
    )
    width: Annotated[int, Range(1)] = 128  # of hidden layers; 512 in D-16
    n_latent: Annotated[int, Range(1)] = 128  # D-16
    dropout: Annotated[float, Range(0.0, 0.95)] = 0.2

    def network(self, nodes: NodeTable, *, n_genes: int, rows: "Rows | None" = None) -> "ResponseNet":
        """The network over the features of some nodes."""
        from perturbcast.nn.fmlp_net import FmlpNet

        return FmlpNet(
            nodes, n_genes=n_genes, width=self.width, n_latent=self.n_latent, dropout=self.dropout, rows=rows
        )
