"""What the training loop asks of Lightning Fabric, for one process on the CPU, without importing Lightning."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class OneCpu:
    """Stands for a Fabric of one CPU in full precision: the same methods, the same numbers."""

    device = torch.device("cpu")
    world_size, global_rank, is_global_zero = 1, 0, True

    def launch(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns, called with this object first."""
        return function(self, *arguments)

    def setup(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Both as they are."""
        self._parameters = list(module.parameters())
        return module, optimiser

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss."""
        loss.backward()

    def all_reduce(self, values: Tensor, *, reduce_op: str) -> Tensor:
        """The values."""
        return values

    def clip_gradients(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        *,
        max_norm: float | None = None,
        clip_val: float | None = None,
        error_if_nonfinite: bool = True,
    ) -> Tensor | None:
        """Clips by norm, whose value before is returned, or by value."""
        if clip_val is not None:
            nn.utils.clip_grad_value_(self._parameters, clip_val)
        if max_norm is None:
            return None
        return nn.utils.clip_grad_norm_(self._parameters, max_norm, error_if_nonfinite=error_if_nonfinite)

    def barrier(self) -> None:
        """Waits for nobody."""
