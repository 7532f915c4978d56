"""Effects that reach a gene over several edges: K-hop accumulation of a network (spec 5.2)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from perturbcast.nn.trunk import in_single

ROUND = 1e-12  # rows and columns that sum or spread to less are left alone


def hops(
    rows: Float[Tensor, "cell row"], weights: Float[Tensor, "row row"], *, n_hops: int
) -> Float[Tensor, "cell row"]:
    """rows · Σ_{k=1}^{K+1} Wᵏ / n^{k-1}, equation (20), by Horner on vectors: never a power of the whole matrix.

    `n_hops` K = 0 gives rows · W. For the whole T̂_K pass the unit matrix; for a batch, its distinct dosage rows, whose
    zeros cost nothing. Differentiable once, in the weights.
    """
    with in_single(weights):  # a sum of powers is not for short numbers
        total: Tensor = _Hops.apply(rows, weights, n_hops)
    return total


class _Hops(torch.autograd.Function):
    """T_0 = rows · W, T_{k+1} = T_0 + T_k · W / n, with all that the weights get from the hops in one product."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, n_hops: int) -> Tensor:
        cell, row = rows.nonzero(as_tuple=True)
        dose = rows[cell, row].unsqueeze(-1)
        first = weights.new_zeros(rows.shape).index_add_(0, cell, weights[row] * dose)
        totals = [first]
        for _ in range(n_hops):
            totals.append(torch.addmm(first, totals[-1], weights, alpha=1 / len(weights)))
        ctx.save_for_backward(cell, row, dose, weights, *totals[:-1])
        return totals[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        cell, row, dose, weights, *totals = ctx.saved_tensors
        back, each = gradient, []
        by_first = gradient
        for _ in totals:
            each.append(back)
            back = back @ weights.T / len(weights)
            by_first = by_first + back
        by_weights = torch.zeros_like(weights).index_add_(0, row, by_first[cell] * dose)
        if totals:
            by_weights.addmm_(torch.cat(totals[::-1]).T, torch.cat(each), alpha=1 / len(weights))
        return None, by_weights, None


def probability_hops(
    rows: Float[Tensor, "cell row"], probability: Float[Tensor, "row row"], *, n_hops: int
) -> Float[Tensor, "cell row"]:
    """rows · S after every column of S = Σ_{k=1}^{K+1} Aᵏ is scaled to [0, 1], A row-normalised; equation (21).

    The scaling needs every row of S, so this costs K products of whole matrices.
    """
    sums = probability.sum(dim=1, keepdim=True)
    normalised = probability / torch.where(sums > ROUND, sums, torch.ones_like(sums))
    total = normalised
    for _ in range(n_hops):
        total = normalised + total @ normalised
    low, high = total.amin(dim=0), total.amax(dim=0)
    spread = torch.where(high - low > ROUND, high - low, torch.ones_like(high))
    return rows @ ((total - low) / spread)


def reach(
    rows: Float[Tensor, "cell row"], probability: Float[Tensor, "row row"], *, n_hops: int, decay: float = 1.0
) -> Float[Tensor, "cell row"]:
    """1 - Π_{k≤K+1}(1 - γ^{k-1} P_k): probability of being reached, with P_k = rows · Aᵏ and A of row sums at most 1.

    Self-loops are left out. The recommended form (B6): no product of two absent edges counts as an edge. For one-hot
    rows; K = 0 gives the probability of the edge itself where the row sums to at most 1.
    """
    edges = probability * (1 - torch.eye(probability.shape[0], dtype=probability.dtype, device=probability.device))
    chain = edges / edges.sum(dim=1, keepdim=True).clamp(min=1.0)
    step = rows @ edges
    missed = 1 - step.clamp(max=1.0)
    for hop in range(1, n_hops + 1):
        step = step @ chain
        missed = missed * (1 - decay**hop * step.clamp(max=1.0))
    return 1 - missed
