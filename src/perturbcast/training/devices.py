"""What training is to run on: Lightning Fabric, or this process's CPU alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perturbcast.training.one_cpu import OneCpu
from perturbcast.training.plan import RunOptions

OWN = "ddp_spawn"  # one new process per device of this machine


def strategy_of(options: RunOptions) -> str:
    """The strategy of Lightning that `auto` stands for."""
    if options.strategy != "auto":
        return options.strategy
    if options.n_nodes > 1:
        return "ddp"  # started on every machine by torchrun or a cluster manager
    return OWN if options.devices > 1 else "auto"


def starts_processes(options: RunOptions) -> bool:
    """Whether training runs in processes that this one starts, and that hand over their result in files."""
    return strategy_of(options).endswith(("_spawn", "_fork", "_forkserver", "_notebook"))


def is_one_cpu(options: RunOptions) -> bool:
    """Whether training needs nothing of Lightning: one process on the CPU in full precision."""
    alone = (options.accelerator, options.devices, options.n_nodes) == ("cpu", 1, 1)
    return alone and (options.strategy, options.precision) == ("auto", "fp32")


def fabric_of(options: RunOptions) -> Any:
    """A Fabric, or what stands for it; NoDevice where accelerator, devices, strategy or precision are not at hand."""
    if is_one_cpu(options):
        return OneCpu()
    from perturbcast.training.own_fabric import own_fabric

    return own_fabric(options, strategy=strategy_of(options))


@contextmanager
def kept_environment() -> Iterator[None]:
    """Environment variables, where Lightning notes ports and ranks, are afterwards as they were."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
