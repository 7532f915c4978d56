"""Where low-rank read-outs of responses start: the leading axes of the training responses."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from perturbcast.nn.response_net import Rows

FAINTEST = 1e-6  # of the largest singular value


def response_axes(rows: Rows | None, *, rank: int, n_genes: int) -> Float[Tensor, "axis gene"]:
    """Leading right singular vectors of the training responses, rows of length √genes; zeros where there are fewer.

    Axes along which responses hardly vary have no direction of their own but that of rounding; they count as missing.
    """
    found = np.zeros((rank, n_genes), dtype=np.float32)
    if rows is not None:
        train = slice(None) if rows.train is None else rows.train
        weighed = rows.target[train] * np.sqrt(rows.weight[train])[:, None]
        _, size, axes = np.linalg.svd(weighed, full_matrices=False)
        axes = axes[size > FAINTEST * size.max()][:rank]
        signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
        found[: len(axes)] = axes * signs[:, None]
    return torch.from_numpy(found * np.sqrt(n_genes, dtype=np.float32))
