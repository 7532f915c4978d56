"""PerturBench's linear additive model: a control cell plus an effect per target (spec E.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from perturbcast.models.base import ModelCard
from perturbcast.models.fields import Range
from perturbcast.models.pair_family import PUBLISHED, PairModel
from perturbcast.models.target_inputs import TargetInputs


@dataclass(frozen=True)
class LinearAdditive(PairModel):
    """ŷ = softplus(softplus⁻¹(control cell) + A · targets), A from 0; profiles as those of latent-additive.

    Differs from the source, softplus(control cell + A · targets), in which a gene that is silent has 0.69 without any
    target: all effects then learn to take that away, and only control cells keep it.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="linear-additive",
        title="Linear additive on cells",
        summary="Adds one effect per target to control cells, learned from cells by gradient.",
        source="PerturBench, Wu et al. 2024, arXiv:2408.10609; spec E.4",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        needs_cells=True,
        uses_knowledge=True,
        profiles={
            "paper": {
                **PUBLISHED,
                "targets_by": "name",
                "folds": 0,
                "lr": 4.7e-3,
                "weight_decay": 1.8e-8,
                "batch_size": 256,
                "max_epochs": 500,
            },
            "plus": {},
        },
        quick={"max_epochs": 5, "batch_size": 64, "lr": 2e-3, "folds": 0},
    )

    batch_size: Annotated[int, Range(1)] = 256  # cells
    epoch_steps: Annotated[int, Range(1)] | None = None  # an epoch is a pass over all cells
    max_steps: Annotated[int, Range(1)] | None = None
    annealed: bool = False
    patience: Annotated[int, Range(1)] | None = 15  # epochs
    validation: Annotated[float, Range(0.0, 0.9)] = 0.1  # effects of names alone take hundreds of steps

    def network(
        self, inputs: TargetInputs, *, positive: bool, given: Mapping[str, np.ndarray], rows: Any = None
    ) -> Any:
        """The network for these inputs."""
        from perturbcast.nn.perturbench_net import LinearAdditiveNet

        return LinearAdditiveNet(
            n_genes=len(given["control"]), n_own=inputs.n_own, n_inputs=inputs.width, positive=positive
        )
