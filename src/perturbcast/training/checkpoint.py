"""Checkpoints: one safetensors file with a JSON header, written atomically. Nothing is pickled."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perturbcast._files import written_whole
from perturbcast.errors import BadCheckpoint, OtherTraining

FORMAT = 1
LAST, BEST = "last.safetensors", "best.safetensors"
WEIGHTS, OPTIMISER, RANDOM = "weights.", "optimiser.", "random.torch"


@dataclass
class Position:
    """How far a training is. Order of cells and noise are functions of seed and step, so this is all there is."""

    step: int = 0  # steps done
    first_loss: float | None = None
    best_loss: float | None = None
    best_epoch: int = -1
    waited: int = 0  # validations since the best
    stopped: str = ""  # why training ended, "" while it goes on
    sums: dict[str, float] = field(default_factory=dict)  # of terms over the steps of this epoch
    history: list[dict[str, float]] = field(default_factory=list)  # one row per epoch


def write(path: Path, position: Position, tensors: Mapping[str, Tensor], *, identity: str) -> None:
    """Writes a checkpoint in one atomic step; NotWritable if the disk refuses."""
    from safetensors.torch import save

    header = {"perturbcast": json.dumps({"format": FORMAT, "identity": identity, "position": asdict(position)})}
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata=header)
    with written_whole(path) as draft:
        draft.write_bytes(content)


def read(path: Path, *, identity: str) -> tuple[Position, dict[str, Tensor]]:
    """Position and tensors; BadCheckpoint if damaged, OtherTraining if it belongs to another training."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["perturbcast"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            position = Position(**header["position"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise BadCheckpoint(f"{str(path)!r} cannot be read: {type(error).__name__} {error}.") from error
    if header.get("format") != FORMAT:
        raise BadCheckpoint(f"{str(path)!r} has format {header.get('format')}, not {FORMAT}.")
    if header["identity"] != identity:
        raise OtherTraining(f"{str(path.parent)!r} holds a training with other data, settings or seed.")
    return position, tensors


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimiser by number of parameter and name."""
    state = optimiser.state_dict()["state"]
    return {
        f"{OPTIMISER}{number}.{name}": torch.as_tensor(value)
        for number, entries in state.items()
        for name, value in entries.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts the state back; learning rate and the like stay those of the plan."""
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        if key.startswith(OPTIMISER):
            number, name = key.removeprefix(OPTIMISER).split(".", 1)
            state.setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights among the tensors of a checkpoint."""
    return {key.removeprefix(WEIGHTS): tensor for key, tensor in tensors.items() if key.startswith(WEIGHTS)}
