"""Global variables, one draw of which serves many cells, and what each cell bears of their terms (spec 2.6)."""

import torch
from jaxtyping import Float
from torch import Tensor

from perturbcast.nn.trunk import in_single


def per_cell_share(received: Float[Tensor, "cell row"], n_trained: Float[Tensor, " row"]) -> Float[Tensor, "cell row"]:
    """1 / n_p for every cell that received p and every p that n_p > 0 *training* cells received, else 0; equation (5).

    Multiplied with the terms t_p and summed over p it is what each cell is charged, so that the mean over a random
    batch estimates Σ_p t_p / N. Differs from the published code: validation uses training counts too (B19).
    """
    share = torch.where(n_trained > 0, 1.0 / n_trained.clamp(min=1.0), torch.zeros_like(n_trained))
    return (received != 0).to(share.dtype) * share


def charged(share: Float[Tensor, "cell row"], term: Float[Tensor, "particle row"]) -> Float[Tensor, "particle cell"]:
    """What each cell is charged of the terms of global variables: Σ_p share · t_p."""
    with in_single(term):
        return term @ share.T
