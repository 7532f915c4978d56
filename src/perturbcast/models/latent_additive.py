"""PerturBench's latent additive model: a latent control cell plus latent targets, decoded (spec E.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from perturbcast.models.base import ModelCard
from perturbcast.models.fields import Range
from perturbcast.models.pair_family import PUBLISHED, PairModel
from perturbcast.models.target_inputs import TargetInputs


@dataclass(frozen=True)
class LatentAdditive(PairModel):
    """ŷ = softplus(Dec(Enc(control cell) + Enc_P(targets))), trained on random pairs of a cell and a control cell.

    `paper` names targets one by one and refuses those never seen; `plus` adds what is known of them.
    Differs from the source: answers are differences to what the network predicts without targets, so that its bias
    cancels; where expression is negative anywhere there is no softplus. In `plus` the output starts from the mean of
    control cells: from another start hundreds of steps go into that mean, and unseen targets are answered with what is
    left of it.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="latent-additive",
        title="Latent additive",
        summary="A neural network that adds targets to a control cell in a latent space.",
        source="PerturBench, Wu et al. 2024, arXiv:2408.10609; spec E.4",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        needs_cells=True,
        uses_knowledge=True,
        profiles={
            "paper": {
                **PUBLISHED,
                "targets_by": "name",
                "folds": 0,
                "from_control": False,
                "width": 5376,
                "lr": 6.8e-5,
                "weight_decay": 1e-8,
                "batch_size": 4000,
                "max_epochs": 500,
            },
            "plus": {},
        },
        quick={"width": 16, "n_latent": 8, "max_epochs": 4, "batch_size": 64, "folds": 0},
    )
    width: Annotated[int, Range(1)] = 256  # of the hidden layer; 5,376 in E.4
    n_latent: Annotated[int, Range(1)] = 64  # E.4
    dropout: Annotated[float, Range(0.0, 0.95)] = 0.1  # E.4
    from_control: bool = True  # whether the bias of the output starts at the level of the mean of control cells

    def network(
        self, inputs: TargetInputs, *, positive: bool, given: Mapping[str, np.ndarray], rows: Any = None
    ) -> Any:
        """The network for these inputs."""
        import torch

        from perturbcast.nn.perturbench_net import LatentAdditiveNet

        return LatentAdditiveNet(
            n_genes=len(given["control"]),
            n_own=inputs.n_own,
            n_inputs=inputs.width,
            positive=positive,
            width=self.width,
            n_latent=self.n_latent,
            dropout=self.dropout,
            control=torch.from_numpy(np.array(given["control"])) if self.from_control else None,
        )
