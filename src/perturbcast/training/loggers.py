"""Lightning's loggers by name; those of other packages only where the package is installed."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perturbcast.errors import NoDevice

CHATTY = ("lightning.fabric", "lightning.pytorch")
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def make_loggers(names: tuple[str, ...], folder: Path, *, first_step: int) -> list[Any]:
    """The loggers, writing below `folder`; NoDevice where the package of one is missing."""
    return [_make(name, folder, first_step) for name in names]


def _make(name: str, folder: Path, first_step: int) -> Any:
    try:
        if name == "csv":
            from lightning.fabric.loggers import CSVLogger

            part = folder / "csv" / f"from-step-{first_step}"
            shutil.rmtree(part, ignore_errors=True)  # of a run that was killed and began at the same step
            return CSVLogger(folder, name="csv", version=part.name)
        if name == "tensorboard":
            from lightning.fabric.loggers import TensorBoardLogger

            return TensorBoardLogger(folder, name="tensorboard", version=f"from-step-{first_step}")
        if name == "wandb":
            from lightning.pytorch.loggers import WandbLogger

            return WandbLogger(save_dir=folder, project="perturbcast")
        from lightning.pytorch.loggers import MLFlowLogger

        return MLFlowLogger(experiment_name="perturbcast", save_dir=str(folder / "mlflow"))
    except ModuleNotFoundError as error:
        package = PACKAGES.get(name, name)
        raise NoDevice(f"logger {name!r} needs the package {package}.", f"pip install {package}") from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning's notes on devices and processes are off inside; its warnings and errors stay."""
    import lightning.fabric  # noqa: F401 - its import sets the level of its loggers

    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
