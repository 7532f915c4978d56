"""Standardisation of what the encoders read (spec 2.5)."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST_SD = 1e-6  # genes that vary less keep their unit


class Standardise(nn.Module):
    """x̃ = (ln(1 + x) - m) / s for counts, (x - m) / s for expression, equation (4).

    m and s (n - 1) are of the training cells, zeros included. Differs from the published code: a gene with s below
    10⁻⁶ has s = 1, so x̃ = ln(1 + x) - m, where that code gives NaN or 10⁶ (B20).
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, mean: Float[np.ndarray, " gene"], sd: Float[np.ndarray, " gene"], *, logarithm: bool) -> None:
        super().__init__()
        safe = np.where(sd < LEAST_SD, 1.0, sd)
        self.logarithm = logarithm
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("sd", torch.as_tensor(safe, dtype=torch.float32))

    def forward(self, values: Float[Tensor, "*cell gene"]) -> Float[Tensor, "*cell gene"]:
        """Standardised values; `values` are counts, or expression, as stored."""
        if self.logarithm:
            return torch.log1p(values).sub_(self.mean).div_(self.sd)  # three passes, one of them to new memory
        return (values - self.mean) / self.sd
