"""`train`: the one loop that every gradient-trained model runs through."""

import hashlib
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor, nn

from perturbcast._progress import Progress
from perturbcast.errors import NotEnoughTraining, PerturbcastError
from perturbcast.training import checkpoint
from perturbcast.training.devices import fabric_of, is_one_cpu, kept_environment, starts_processes
from perturbcast.training.loggers import quiet_lightning
from perturbcast.training.loop import Loop
from perturbcast.training.memory import give_back_freed_memory, keep_freed_memory
from perturbcast.training.objective import Sealed, Source
from perturbcast.training.plan import RunOptions, TrainingPlan
from perturbcast.training.seeds import derived_seed, seeded


@dataclass(frozen=True)
class Trained:
    """What training gave: the weights with the lowest validation loss, and how it went."""

    weights: Mapping[str, Tensor]  # on the CPU
    history: tuple[dict[str, float], ...]  # a row per epoch: epoch, step, train/TERM, valid/TERM, train/loss, ...
    best_epoch: int
    best_loss: float
    n_steps: int
    stopped: str  # patience, epochs or steps


@dataclass(frozen=True)
class Task:
    """All that a process needs to train; sent whole to each."""

    network: nn.Module  # with a method `terms`; see Objective
    source: Source
    train_cells: np.ndarray
    valid_cells: np.ndarray
    plan: TrainingPlan
    seed: int
    options: RunOptions
    progress: Progress
    label: str
    identity: str = field(default="")


def train(
    network: nn.Module,
    source: Source,
    *,
    train_cells: Int[np.ndarray, " train"],
    valid_cells: Int[np.ndarray, " valid"] | None = None,
    plan: TrainingPlan | None = None,
    seed: int = 0,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    label: str = "training",
) -> Trained:
    """The trained weights. On CPU they depend on network, source, cells, plan and seed alone, bit for bit.

    Early stopping and the best weights go by the validation loss, with the same noise each time; by the training loss
    where `valid_cells` is empty. The network itself is left on the CPU with the weights of the last step, or, where
    processes were started, as it was. torch's global generator is left as it was.

    Raises TrainingDiverged, which names term and step, OtherTraining and BadCheckpoint for what is in the folder,
    NoDevice, NotEnoughTraining without training cells.
    """
    if not len(train_cells):
        raise NotEnoughTraining("there are no cells to train on.")
    task = Task(
        network=network,
        source=source,
        train_cells=np.asarray(train_cells, dtype=np.int64),
        valid_cells=np.zeros(0, np.int64) if valid_cells is None else np.asarray(valid_cells, dtype=np.int64),
        plan=plan or TrainingPlan(),
        seed=seed,
        options=options or RunOptions(),
        progress=progress or Progress(),
        label=label,
    )
    task = replace(task, identity=_identity(task))
    quiet = nullcontext() if is_one_cpu(task.options) else quiet_lightning()
    with quiet, kept_environment(), seeded(derived_seed(seed, "train")):
        return _in_processes(task) if starts_processes(task.options) else _here(task)


def _here(task: Task) -> Trained:
    fabric = fabric_of(task.options)
    loop: Loop = fabric.launch(_looped, task)
    task.network.to("cpu")
    return _trained(loop.position, loop.best)


def _looped(fabric: Any, task: Task) -> Loop:
    give_back_freed_memory()
    keep_freed_memory()
    loop = Loop(fabric, task)
    loop.run()
    give_back_freed_memory()
    return loop


def _in_processes(task: Task) -> Trained:
    """Trains in processes of their own, which leave the result in the folder of checkpoints, or a temporary one."""
    with tempfile.TemporaryDirectory() as place:
        folder = task.options.folder or Path(place)
        loggers = task.options.loggers if task.options.folder else ()
        given = replace(task, options=replace(task.options, folder=folder, loggers=loggers))
        error = fabric_of(given.options).launch(_attempted, Sealed(given))
        if error is not None:
            raise error
        position, _ = checkpoint.read(folder / checkpoint.LAST, identity=task.identity)
        _, tensors = checkpoint.read(folder / checkpoint.BEST, identity=task.identity)
        return _trained(position, checkpoint.weights_of(tensors))


def _attempted(fabric: Any, sealed: Sealed) -> PerturbcastError | None:
    """None, or the coded error, which every process comes to at the same step."""
    task: Task = sealed.content
    own = replace(task, network=deepcopy(task.network))  # weights arrive in memory that the processes share
    try:
        with quiet_lightning():
            _looped(fabric, own)
    except PerturbcastError as error:
        return error
    return None


def _trained(position: checkpoint.Position, weights: Mapping[str, Tensor]) -> Trained:
    assert position.best_loss is not None
    return Trained(
        weights=weights,
        history=tuple(position.history),
        best_epoch=position.best_epoch,
        best_loss=position.best_loss,
        n_steps=position.step,
        stopped=position.stopped,
    )


def _identity(task: Task) -> str:
    """A digest of what decides the result; the first weights stand for network and seed, the buffers for the data."""
    digest = hashlib.sha256(repr((asdict(task.plan), task.seed, task.options.precision)).encode())
    digest.update(task.train_cells.tobytes() + b"/" + task.valid_cells.tobytes())
    for name, tensor in task.network.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
