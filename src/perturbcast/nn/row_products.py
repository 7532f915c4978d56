"""Products of very many short rows with a small matrix, by the kernels of convolution.

On a CPU that is not Intel's, torch hands matrix products to a library that leaves half of the machine unused: rows of
64 numbers times 64 x 128 ran at 80 billion operations a second, the same as a convolution with a kernel of one point
at 200. The numbers are the same up to rounding. Elsewhere than on a CPU the plain product is used.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, linear

IMAGES = 16  # from so many on, convolution takes the fast kernels
MOST_SPLIT = 64  # pieces that a group of rows is cut into for that

Rows = Float[Tensor, "group row channel"]


def times(
    x: Rows, matrix: Float[Tensor, "out channel"], bias: Float[Tensor, " out"] | None = None
) -> Float[Tensor, "group row out"]:
    """x matrixᵀ + bias; with matrixᵀ in the place of `matrix` the gradient for x of such a product."""
    if x.device.type != "cpu":
        return linear(x, matrix, bias)
    return _rows(conv2d(_images(x), matrix[:, :, None, None], bias), x)


def outer_sum(left: Float[Tensor, "group row out"], right: Rows) -> Float[Tensor, "out channel"]:
    """Σ over rows of left ⊗ right: the gradient for the matrix of `times`."""
    if left.device.type != "cpu":
        return left.flatten(0, 1).T @ right.flatten(0, 1)
    shape: tuple[object, ...] = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    empty, wanted = left.new_empty(left.shape[-1], right.shape[-1], 1, 1), [False, True, False]
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        _images(left), _images(right), empty, *shape, wanted
    )
    return found[1][:, :, 0, 0]


def _images(x: Tensor) -> Tensor:
    """Rows as points of at least `IMAGES` pictures where they can be divided so, without moving them."""
    n_groups, n_rows, n_channels = x.shape
    least = -(-IMAGES // n_groups)
    pieces = next((number for number in range(least, MOST_SPLIT + 1) if n_rows % number == 0), 1)
    return x.reshape(n_groups * pieces, 1, n_rows // pieces, n_channels).permute(0, 3, 1, 2)


def _rows(images: Tensor, like: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).reshape(*like.shape[:2], images.shape[1])
