"""torch's Adam and AdamW without torch's compiler, which their methods import at the first call (70 MB, 2 seconds)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from perturbcast.training.plan import TrainingPlan

GUARDED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")  # from the compiler, by a decorator


def _bare(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method below its decorator, or the method itself where this torch has none."""
    bare: Callable[..., Any] = getattr(method, "__wrapped__", method)
    return bare


def _light(kind: type[torch.optim.Adam]) -> type[torch.optim.Adam]:
    methods = {name: _bare(getattr(kind, name)) for name in GUARDED}
    return type(f"Light{kind.__name__}", (kind,), {**methods, "step": torch.no_grad()(_bare(kind.step))})


LightAdam, LightAdamW = _light(torch.optim.Adam), _light(torch.optim.AdamW)


def optimiser_of(plan: TrainingPlan, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a plan, fused."""
    kind = LightAdamW if plan.decoupled else LightAdam
    return kind(parameters, lr=plan.lr, weight_decay=plan.weight_decay, fused=True)
