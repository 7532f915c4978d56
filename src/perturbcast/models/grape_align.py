"""The training before the training of GRAPE: texts and sequences of genes are drawn together (spec A-1, A.5)."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from perturbcast.nn.grape_net import GrapeNet

FEWEST = 4  # genes with both, before anything is aligned
PARTS = ("text", "sequence")
RATE = 1e-3  # Adam; A.5


def align(network: "GrapeNet", *, epochs: int, batch_size: int, symmetric: bool) -> None:
    """Trains the encoders of texts and sequences, in place, on the genes of which both are known; if there are some.

    Its seed is drawn from torch's global generator, which the fit has seeded.
    """
    import torch

    from perturbcast.nn.condition_rows import RowSource
    from perturbcast.nn.grape_align import Alignment
    from perturbcast.training.engine import train
    from perturbcast.training.plan import TrainingPlan

    if any(part not in network.encoders for part in PARTS):
        return
    features = [network.data(f"features_{part}") for part in PARTS]
    both = np.flatnonzero((features[0].any(dim=1) & features[1].any(dim=1)).numpy())
    if len(both) < FEWEST:
        return
    seed = int(torch.randint(2**31, ()).item())
    encoders = [network.encoders[part] for part in PARTS]
    task = Alignment(encoders[0], encoders[1], features[0], features[1], width=network.shape.width, symmetric=symmetric)
    plan = TrainingPlan(max_epochs=epochs, batch_size=batch_size, lr=RATE, patience=None)
    trained = train(task, RowSource(len(features[0])), train_cells=both, plan=plan, seed=seed, label="alignment")
    task.load_state_dict(trained.weights)
