"""A network trained on the engine, with its best weights: what every model that trains by gradient begins with."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from perturbcast._progress import Progress

if TYPE_CHECKING:
    from perturbcast.training.engine import Trained
    from perturbcast.training.plan import RunOptions, TrainingPlan

Cells = tuple[Int[np.ndarray, " train"], Int[np.ndarray, " valid"]]  # to train on, and to stop by


def trained_network(
    network: Any,
    source: Any,
    *,
    cells: Cells,
    plan: "TrainingPlan",
    seed: int,
    label: str,
    options: "RunOptions | None" = None,
    progress: Progress | None = None,
) -> "Trained":
    """What training gave. The network itself then has the weights of the lowest validation loss, and is set to answer.

    Raises what `training.engine.train` raises.
    """
    from perturbcast.training.engine import train

    train_cells, valid_cells = cells
    trained = train(
        network,
        source,
        train_cells=train_cells,
        valid_cells=valid_cells,
        plan=plan,
        seed=seed,
        options=options,
        progress=progress,
        label=f"training {label}",
    )
    network.load_state_dict(trained.weights)
    network.eval()
    return trained


def losses(history: tuple[dict[str, float], ...]) -> np.ndarray:
    """(epoch, 2) float32 loss of training and of validation, which repeats the first where nothing was held out."""
    rows = [(row["train/loss"], row.get("valid/loss", row["train/loss"])) for row in history]
    return np.array(rows, dtype=np.float32).reshape(-1, 2)
