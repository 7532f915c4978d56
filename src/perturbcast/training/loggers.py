"""Loggers by name, all of which write to files; those of other packages only where the package is installed."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from perturbcast.errors import NoDevice

CHATTY = ("lightning.fabric", "lightning.pytorch")
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
PROJECT = "perturbcast"
TO_FILES = {  # while a training runs; see `training.devices.kept_environment`
    "WANDB_ERROR_REPORTING": "false",  # it would report crashes to its makers
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # refused by default from version 3 on
}


def make_loggers(names: tuple[str, ...], folder: Path, *, first_step: int) -> list[Any]:
    """The loggers, writing below `folder` and to no server; NoDevice where the package of one is missing.

    Sets environment variables of their packages. What a run that was killed logged from the same step on is removed,
    other than in MLflow's store, which keeps every run.
    """
    os.environ.update(TO_FILES)
    return [_make(name, folder, f"from-step-{first_step}") for name in names]


def _make(name: str, folder: Path, part: str) -> Any:
    shutil.rmtree(folder / name / part, ignore_errors=True)
    try:
        if name == "csv":
            from lightning.fabric.loggers import CSVLogger

            return CSVLogger(folder, name=name, version=part)
        if name == "tensorboard":
            from lightning.fabric.loggers import TensorBoardLogger

            return TensorBoardLogger(folder, name=name, version=part)
        if name == "wandb":
            return OfflineWandb(folder / name / part)
        from lightning.pytorch.loggers import MLFlowLogger

        store = (folder / name).resolve().as_uri()
        return MLFlowLogger(experiment_name=PROJECT, run_name=part, tracking_uri=store)
    except ModuleNotFoundError as error:
        package = PACKAGES.get(name, name)
        raise NoDevice(f"logger {name!r} needs the package {package}.", f"pip install {package}") from error


class OfflineWandb:
    """A run of Weights & Biases that is written to files only; `wandb sync` sends it, if that is wanted.

    Lightning's logger logs in to a server first, and warns.
    """

    def __init__(self, folder: Path) -> None:
        wandb: Any = import_module("wandb")
        folder.mkdir(parents=True)
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True)
        self._run = wandb.init(project=PROJECT, name=folder.name, dir=str(folder), mode="offline", settings=quiet)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Notes some numbers at a step."""
        self._run.log(metrics, step=step)

    def finalize(self, status: str) -> None:
        """Ends the run."""
        self._run.finish(exit_code=0 if status == "success" else 1)


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
