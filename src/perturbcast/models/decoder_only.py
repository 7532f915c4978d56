"""PerturBench's decoder-only model: from targets to a cell, without a look at control cells (spec E.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from perturbcast.models.base import ModelCard
from perturbcast.models.fields import Range
from perturbcast.models.pair_family import PUBLISHED, PairModel
from perturbcast.models.target_inputs import TargetInputs


@dataclass(frozen=True)
class DecoderOnly(PairModel):
    """ŷ = softplus(Dec(targets)): how far a model comes that ignores the cell; profiles as those of latent-additive.

    Differs from the source: the output starts from the mean of control cells, so that fewer epochs are needed.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="decoder-only",
        title="Decoder only",
        summary="A neural network from the targets alone to expression: what the state of the cell adds is missing.",
        source="PerturBench, Wu et al. 2024, arXiv:2408.10609; spec E.4",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        needs_cells=True,
        uses_knowledge=True,
        profiles={
            "paper": {
                **PUBLISHED,
                "targets_by": "name",
                "batch_size": 256,
                "max_epochs": 100,
            },
            "plus": {},
        },
        quick={"width": 16, "max_epochs": 8, "batch_size": 64, "lr": 3e-3, "folds": 0},
    )
    width: Annotated[int, Range(1)] = 256  # of the hidden layer
    dropout: Annotated[float, Range(0.0, 0.95)] = 0.1

    def network(
        self, inputs: TargetInputs, *, positive: bool, given: Mapping[str, np.ndarray], rows: Any = None
    ) -> Any:
        """The network for these inputs."""
        import torch

        from perturbcast.nn.perturbench_net import DecoderOnlyNet

        return DecoderOnlyNet(
            n_genes=len(given["control"]),
            n_own=inputs.n_own,
            n_inputs=inputs.width,
            positive=positive,
            width=self.width,
            dropout=self.dropout,
            control=torch.from_numpy(np.array(given["control"])),
        )
