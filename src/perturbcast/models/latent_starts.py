"""What predictions of the models that decode a latent cell start from."""

from typing import Any

import numpy as np
from jaxtyping import Int

MOST_BASAL = 512  # control cells whose posteriors are kept


def starts(network: Any, source: Any, control: Int[np.ndarray, " control"]) -> dict[str, np.ndarray]:
    """Library sizes, and posteriors of some control cells, which predictions start from."""
    import torch

    from perturbcast.nn.predictive import depth_quantiles

    step = max(1, -(-len(control) // MOST_BASAL))
    with torch.no_grad():
        posterior = network.control_posterior(source.batch(control[::step]))
    return {
        "depths": depth_quantiles(source.library),
        "basal.mean": posterior.mean.numpy(),
        "basal.variance": posterior.variance.numpy(),
    }
