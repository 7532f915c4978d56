"""The decoder of GEARS (C-6) for all conditions and genes of a batch, with a gradient of its own.

For condition p and gene i, x = ReLU(gene state + condition's shift), y = ReLU(norm(W₁ x)), z = norm(W₂ y) and
w = ⟨z, A_i⟩ + a_i, where both normalisations go by the moments of the batch. What autograd would keep and pass over is
saved, and no number changes:
- the moments of W₁ x follow from the mean and covariance of x, so the first normalisation is folded into W₁;
- the second is folded into the readout A, and its gradient into that of W₂ y;
- biases before a normalisation cancel.
With running moments nothing stands between W₂ and A, and their product is taken once per gene.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from perturbcast.nn.row_products import outer_sum, times
from perturbcast.nn.shared_norm import EPSILON, SharedMlp

ROWS = 4096  # computed at once: what they take stays in the caches, and is small beside the rest
BLOCKS = 6  # at least so many in a step: only what one block takes is alive at a time
ANSWERED = 2048  # of a trained network, where smaller blocks cost nothing
mask_ = torch.ops.aten.threshold_backward.grad_input


class Weights(NamedTuple):
    """What the decoder learns: two linear maps, the scale and shift of the normalisation after each, the readout."""

    first: Float[Tensor, "wide state"]
    first_bias: Float[Tensor, " wide"]
    first_scale: Float[Tensor, " wide"]
    first_shift: Float[Tensor, " wide"]
    second: Float[Tensor, "state wide"]
    second_bias: Float[Tensor, " state"]
    second_scale: Float[Tensor, " state"]
    second_shift: Float[Tensor, " state"]
    readout: Float[Tensor, "gene state"]
    readout_bias: Float[Tensor, " gene"]


class _Moments(NamedTuple):
    """What the gradient needs of the way forward beside the blocks."""

    mean: Tensor  # of x
    covariance: Tensor
    inverse: Tensor  # 1 / standard deviation of W₁ x
    level: Tensor  # mean of W₂ y
    last_inverse: Tensor


class _Part(NamedTuple):
    """Some of the groups, and what their x is made of: again where it is needed, instead of being kept."""

    shift: Tensor  # (group, state)
    variant: Tensor  # (group,)
    share: Tensor  # of each row of a group, (group, 1, 1)
    room: Tensor  # (group, gene, state), shared by all parts: what is computed in it overwrites the last

    def inputs(self, genes: Tensor) -> Tensor:
        """x, (group, gene, state)."""
        shift = self.shift[:, None]
        if len(genes) == 1:
            return torch.add(genes, shift, out=self.room).relu_()
        return torch.index_select(genes, 0, self.variant, out=self.room).add_(shift).relu_()


def _parts(genes: Tensor, shift: Tensor, variant: Tensor, share: Tensor, *, n_rows: int) -> list[_Part]:
    _, n_genes, n_states = genes.shape
    together = max(1, n_rows // n_genes)
    room = genes.new_empty(min(together, len(shift)), n_genes, n_states)
    given = (shift, variant, (share / n_genes)[:, None, None])
    return [
        _Part(own, kinds, shares, room[: len(own)])
        for own, kinds, shares in zip(*(tensor.split(together) for tensor in given), strict=True)
    ]


class _Block(NamedTuple):
    """What is kept of a part for the way back."""

    y: Tensor  # (group, gene, wide)
    z: Tensor  # (group, gene, state)


def decoded(
    mlp: SharedMlp,
    genes: Float[Tensor, "variant gene state"],
    shift: Float[Tensor, "group state"],
    *,
    variant: Int[Tensor, " group"],
    share: Float[Tensor, " group"],
    n_rows: float,
    readout: Float[Tensor, "gene state"],
    readout_bias: Float[Tensor, " gene"],
) -> Float[Tensor, "group gene"]:
    """w for states and shifts that are normalised already; in training the running moments of `mlp` move on.

    Otherwise it has no gradient, and is asked for without.
    """
    first, second = mlp.first_norm, mlp.second_norm
    weights = Weights(
        *(mlp.first.weight, mlp.first.bias, first.weight, first.bias),
        *(mlp.second.weight, mlp.second.bias, second.weight, second.bias),
        *(readout, readout_bias),
    )
    with torch.autocast(genes.device.type, enabled=False):
        genes, shift = genes.float(), shift.float()
        if not mlp.training:
            return _by_running_moments(mlp, weights, genes, shift, variant, share)
        w, mean, variance, last_mean, last_variance = _Decoder.apply(genes, shift, variant, share, *weights)
    first.note(mean, variance, n_rows)
    second.note(last_mean, last_variance, n_rows)
    return w


def _by_running_moments(
    mlp: SharedMlp, weights: Weights, genes: Tensor, shift: Tensor, variant: Tensor, share: Tensor
) -> Tensor:
    first, last = mlp.first_norm.running(), mlp.second_norm.running()
    folded, bias = weights.first * first.scale[:, None], first(weights.first_bias)
    readout = (weights.readout * last.scale) @ weights.second
    level = weights.readout @ last(weights.second_bias) + weights.readout_bias
    parts = _parts(genes, shift, variant, share, n_rows=ANSWERED)
    found = [times(part.inputs(genes), folded, bias).relu_().mul_(readout).sum(dim=-1) for part in parts]
    return torch.cat(found) + level


class _Decoder(Function):
    """w, and mean and variance of W₁ x + b₁ and of W₂ y + b₂, which are only passed on to the running ones."""

    @staticmethod
    def forward(ctx: Any, genes: Tensor, shift: Tensor, variant: Tensor, share: Tensor, *given: Tensor) -> Any:
        own, parts = Weights(*given), _parts(genes, shift, variant, share, n_rows=_at_once(genes, shift))
        mean, covariance = _moments_of_inputs(genes, parts)
        variance = ((own.first @ covariance) * own.first).sum(dim=1).clamp_(min=0.0)
        inverse = torch.rsqrt(variance + EPSILON)
        folded = (own.first_scale * inverse)[:, None] * own.first
        shifted = own.first_shift - folded @ mean
        blocks = [_block(part.inputs(genes), own, folded, shifted) for part in parts]
        level, last_variance = _moments_of_outputs(blocks, parts)
        last_inverse = torch.rsqrt(last_variance + EPSILON)
        scale = own.second_scale * last_inverse
        scaled = own.readout * scale
        w = torch.cat([_times(block.z, scaled, part).sum(dim=-1) for block, part in zip(blocks, parts, strict=True)])
        w += own.readout @ (own.second_shift - scale * level) + own.readout_bias
        ctx.save_for_backward(genes, shift, variant, share, *own, mean, covariance, inverse, level, last_inverse)
        ctx.blocks = blocks  # not saved but held, so that the way back can let go of one after the other
        moments = (own.first @ mean + own.first_bias, variance, level + own.second_bias, last_variance)
        ctx.mark_non_differentiable(*moments)
        return w, *moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_w: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        genes, shift, variant, share, *kept = ctx.saved_tensors
        own, moments = Weights(*kept[: len(Weights._fields)]), _Moments(*kept[len(Weights._fields) :])
        parts, blocks = _parts(genes, shift, variant, share, n_rows=_at_once(genes, shift)), ctx.blocks
        of_each = of_w.split(len(blocks[0].z))
        of_level, of_variance, last = _through_readout(of_each, blocks, parts, own, moments)
        scaled = own.readout * own.second_scale * moments.last_inverse
        found = _Sums.zeros(own)
        of_inputs = []
        for part, of_part in zip(parts, of_each, strict=True):
            _into_gradient(blocks[0].z, part, of_part, of_level, of_variance, scaled)
            of_inputs.append(found.through(part.inputs(genes), blocks, own, moments))
        of_mean, of_covariance, first = _through_first(found, own, moments)
        of_genes = torch.zeros_like(genes)
        for part, of_x in zip(parts, of_inputs, strict=True):
            x = part.inputs(genes)
            of_x.addcmul_(times(x, 2 * of_covariance, of_mean), part.share)
            mask_(of_x, x, 0.0, grad_input=of_x)
            of_genes += of_x.sum(dim=0) if len(genes) == 1 else _by_variant(of_x, part.variant, len(genes))
        of_shift = torch.cat([of_x.sum(dim=1) for of_x in of_inputs])
        return of_genes, of_shift, None, None, *first, found.of_second, *last


def _at_once(genes: Tensor, shift: Tensor) -> int:
    """Rows of a block in training."""
    return min(ROWS, len(shift) * genes.shape[1] // BLOCKS)


def _moments_of_inputs(genes: Tensor, parts: Sequence[_Part]) -> tuple[Tensor, Tensor]:
    """Mean and covariance of rows whose shares sum to 1."""
    n_states = genes.shape[-1]
    mean, square = genes.new_zeros(n_states), genes.new_zeros(n_states, n_states)
    for part in parts:
        x = part.inputs(genes)
        shared = x * part.share
        mean += shared.sum(dim=(0, 1))
        square += outer_sum(shared, x)
    return mean, square - torch.outer(mean, mean)


def _block(x: Tensor, own: Weights, folded: Tensor, shift: Tensor) -> _Block:
    y = times(x, folded, shift).relu_()
    return _Block(y, times(y, own.second))


def _times(z: Tensor, factor: Tensor, part: _Part) -> Tensor:
    """The product, in the room of the part."""
    return torch.mul(z, factor, out=part.room)


def _moments_of_outputs(blocks: Sequence[_Block], parts: Sequence[_Part]) -> tuple[Tensor, Tensor]:
    """Mean and variance of rows whose shares sum to 1."""
    mean, square = (blocks[0].z.new_zeros(blocks[0].z.shape[-1]) for _ in range(2))
    for block, part in zip(blocks, parts, strict=True):
        shared = _times(block.z, part.share, part)
        mean += shared.sum(dim=(0, 1))
        square += shared.mul_(block.z).sum(dim=(0, 1))
    return mean, (square - mean * mean).clamp_(min=0.0)


def _through_readout(
    of_each: Sequence[Tensor], blocks: Sequence[_Block], parts: Sequence[_Part], own: Weights, moments: _Moments
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Gradients for mean and variance of W₂ y, and for b₂, the last normalisation and the readout."""
    of_scaled, of_bias = torch.zeros_like(own.readout), torch.zeros_like(own.readout_bias)
    for block, part, of_w in zip(blocks, parts, of_each, strict=True):
        of_scaled += _times(block.z, of_w[..., None], part).sum(dim=0)
        of_bias += of_w.sum(dim=0)
    scale = own.second_scale * moments.last_inverse
    of_shift = own.readout.T @ of_bias
    of_readout = torch.outer(of_bias, own.second_shift - scale * moments.level) + of_scaled * scale
    of_scale = (of_scaled * own.readout).sum(dim=0) - moments.level * of_shift
    of_variance = -0.5 * of_scale * own.second_scale * moments.last_inverse**3
    of_level = -scale * of_shift - 2 * moments.level * of_variance
    of_last = (torch.zeros_like(of_shift), of_scale * moments.last_inverse, of_shift, of_readout, of_bias)
    return of_level, of_variance, of_last


def _into_gradient(z: Tensor, part: _Part, of_w: Tensor, of_level: Tensor, of_variance: Tensor, scaled: Tensor) -> None:
    """Puts the gradient for z = W₂ y, through the readout and through its moments, in the place of z."""
    torch.addcmul(part.share * of_level, z, part.share * (2 * of_variance), out=z)
    z.addcmul_(of_w[..., None], scaled)


class _Sums(NamedTuple):
    """Gradients that are sums over all rows: for W₂, for W₁ and the shift with the normalisation folded in."""

    of_second: Tensor
    of_folded: Tensor
    of_shift: Tensor

    @classmethod
    def zeros(cls, own: Weights) -> "_Sums":
        """Nothing added yet."""
        return cls(torch.zeros_like(own.second), torch.zeros_like(own.first), torch.zeros_like(own.first_shift))

    def through(self, x: Tensor, blocks: list[_Block], own: Weights, moments: _Moments) -> Tensor:
        """Adds the share of the first block, whose z is a gradient by now, and takes it from the list.

        Returns the gradient for its x, but for that through the moments of x.
        """
        y, of_z = blocks.pop(0)
        self.of_second.add_(outer_sum(of_z, y))
        of_y = times(of_z, own.second.T)
        mask_(of_y, y, 0.0, grad_input=of_y)
        del y, of_z
        self.of_shift.add_(of_y.sum(dim=(0, 1)))
        self.of_folded.add_(outer_sum(of_y, x))
        return times(of_y, ((own.first_scale * moments.inverse)[:, None] * own.first).T)


def _through_first(found: _Sums, own: Weights, moments: _Moments) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Gradients for mean and covariance of x, and for W₁, b₁ and the normalisation after them."""
    scale = own.first_scale * moments.inverse
    of_folded = found.of_folded - torch.outer(found.of_shift, moments.mean)
    of_scale = (of_folded * own.first).sum(dim=1)
    of_variance = -0.5 * of_scale * own.first_scale * moments.inverse**3
    of_covariance = own.first.T @ (of_variance[:, None] * own.first)
    of_first = scale[:, None] * of_folded + 2 * of_variance[:, None] * (own.first @ moments.covariance)
    of_mean = -own.first.T @ (scale * found.of_shift) - 2 * (of_covariance @ moments.mean)
    of_norm = (torch.zeros_like(of_scale), of_scale * moments.inverse, found.of_shift)
    return of_mean, of_covariance, (of_first, *of_norm)


def _by_variant(of_x: Tensor, variant: Tensor, n_variants: int) -> Tensor:
    return of_x.new_zeros(n_variants, *of_x.shape[1:]).index_add_(0, variant, of_x)
