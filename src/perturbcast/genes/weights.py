"""Tensors of model files, read without running anything that a file may hold. Imported only where it is used."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perturbcast.errors import BadKnowledge, MissingFile

NAMES = ("model.safetensors", "pytorch_model.bin", "best_model.pt")
SHARDS = "model.safetensors.index.json"


def weights_in(folder: Path) -> Path:
    """The file of weights of a folder; MissingFile where there is none."""
    for name in (*NAMES[:1], SHARDS, *NAMES[1:]):
        if (folder / name).is_file():
            return folder / name
    raise MissingFile(f"{folder} holds none of {', '.join(NAMES)}.")


def load_weights(path: Path) -> dict[str, Any]:
    """Name -> tensor of a .safetensors file (or the index of several) or a file of torch, a `state_dict` inside it too.

    Files of torch are opened with `weights_only`, so that nothing in them can run. BadKnowledge where one holds more
    than tensors, or is damaged.
    """
    if path.name == SHARDS:
        shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        return {name: value for shard in shards for name, value in load_weights(path.parent / shard).items()}
    content = load_torch(path) if path.suffix != ".safetensors" else _safe(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise BadKnowledge(f"{path.name} holds no named tensors.")
    return {str(name).removeprefix("module."): value for name, value in content.items() if hasattr(value, "shape")}


def load_torch(path: Path) -> Any:
    """What a file of torch holds: tensors, numbers, texts and containers of them, nothing that could run."""
    import torch

    if not path.is_file():
        raise MissingFile(f"there is no file {path}.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as failure:
        raise BadKnowledge(
            f"{path.name} holds more than tensors, or is no file of torch.",
            "Save its state_dict alone with safetensors where you trust it, and pass that.",
        ) from failure
    except (RuntimeError, EOFError, OSError, ValueError) as failure:
        first = (str(failure).splitlines() or [type(failure).__name__])[0][:160]
        raise BadKnowledge(f"{path.name} is damaged: {first}.", "Copy or fetch it again.") from failure


def _safe(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingFile(f"there is no file {path}.")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as failure:
        raise BadKnowledge(f"{path.name} is damaged: {failure}.", "Copy or fetch it again.") from failure
