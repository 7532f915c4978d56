"""Lightning Fabric as the engine uses it. Importing it takes seconds and 160 MB."""

import logging
from typing import Any

from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException

from perturbcast.errors import NoDevice
from perturbcast.training.loggers import CHATTY
from perturbcast.training.plan import RunOptions

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}


class OwnFabric(Fabric):
    """Fabric that also keeps its notes to itself in the processes that it starts, to which it is sent."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.__dict__.update(state)


def own_fabric(options: RunOptions, *, strategy: str) -> OwnFabric:
    """A Fabric; NoDevice where accelerator, devices, strategy or precision are not at hand."""
    try:
        return OwnFabric(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.n_nodes,
            strategy=strategy,
            precision=PRECISION[options.precision],  # type: ignore[arg-type]
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise NoDevice(f"{options.devices} device(s) of kind {options.accelerator!r}: {error}") from error
