"""Lightning Fabric for what training is to run on."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException

from perturbcast.errors import NoDevice
from perturbcast.training.loggers import CHATTY
from perturbcast.training.plan import RunOptions

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}
OWN = "ddp_spawn"  # one new process per device of this machine


class OwnFabric(Fabric):
    """Fabric that also keeps its notes to itself in the processes that it starts, to which it is sent."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.__dict__.update(state)


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


def fabric_of(options: RunOptions) -> Any:
    """A Fabric; NoDevice where accelerator, devices, strategy or precision are not at hand."""
    try:
        return OwnFabric(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.n_nodes,
            strategy=strategy_of(options),
            precision=PRECISION[options.precision],  # type: ignore[arg-type]
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise NoDevice(f"{options.devices} device(s) of kind {options.accelerator!r}: {error}") from error


@contextmanager
def kept_environment() -> Iterator[None]:
    """Environment variables, where Lightning notes ports and ranks, are afterwards as they were."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
