"""Saved models: a folder with model.json and weights.safetensors, written atomically. No pickle, ever."""

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from perturbcast._files import flush
from perturbcast.data.conditions import Query
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.errors import (
    BadArtefact,
    MissingFile,
    NotAFile,
    NotWritable,
    OutputExists,
    PerturbcastError,
    UnknownModel,
    did_you_mean,
)
from perturbcast.models.base import FittedModel, Model

KIND = "perturbcast model"
FORMAT = 1  # raised when an older reader could not read what we write
CONTROL_KEY = "table.control"
PACKAGES = ("perturbcast", "numpy", "scipy", "safetensors")


def check_free(folder: Path) -> None:
    """Nothing; OutputExists if the name is taken. To be asked before a fit that takes long, too."""
    if folder.exists():
        raise OutputExists(f"{str(folder)!r} is there already.")


def save(fitted: FittedModel, folder: Path) -> Path:
    """The folder, holding the model. OutputExists if the name is taken, NotWritable if it cannot be written."""
    folder = Path(folder)
    check_free(folder)
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in fitted.state().items()}
    arrays[CONTROL_KEY] = np.ascontiguousarray(fitted.control)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise NotWritable(f"{str(folder)!r} cannot be written: {error.strerror}.") from error
    try:
        save_file(arrays, draft / "weights.safetensors")
        (draft / "model.json").write_text(json.dumps(_description(fitted, draft), indent=1), encoding="utf-8")
        for written in (*draft.iterdir(), draft):
            flush(written)
        draft.chmod(0o755)
        draft.rename(folder)
    except OSError as error:
        raise NotWritable(f"{str(folder)!r} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def load(folder: Path | str, *, kind: type[Model] | None = None) -> FittedModel:
    """The fitted model of a folder; it answers with the same bits as the one that was saved.

    `kind` is the class of a model that is neither in this package nor registered by another. BadArtefact where
    anything is missing, damaged, of another kind or of a later format.
    """
    folder = Path(folder)
    if not folder.exists():
        raise MissingFile(f"there is no folder {str(folder)!r}.")
    if not folder.is_dir():
        raise NotAFile(
            f"{str(folder)!r} is a file; a model is a folder.", "Pass the --out folder of `perturbcast fit`."
        )
    description = _read_description(folder)
    arrays = _read_arrays(folder, digest=description["weights_sha256"])
    try:
        fitted = _rebuilt(description, arrays, kind=kind or _kind(description))
    except PerturbcastError as error:
        raise BadArtefact(f"{str(folder)!r} cannot be restored: {error}") from error
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise BadArtefact(f"{str(folder)!r} cannot be restored: {type(error).__name__} {error}.") from error
    return fitted


def _description(fitted: FittedModel, draft: Path) -> dict[str, Any]:
    genes = [str(gene) for gene in fitted.genes]
    return {
        "kind": KIND,
        "format": FORMAT,
        "model": fitted.model.card.name,
        "label": fitted.model.label,
        "fields": dataclasses.asdict(fitted.model),
        "scale": str(fitted.scale),
        "unit": fitted.unit,
        "genes_sha256": hashlib.sha256("\n".join(genes).encode()).hexdigest(),
        "weights_sha256": _digest(draft / "weights.safetensors"),
        "split_fingerprint": fitted.split_fingerprint,
        "packages": {name: version(name) for name in PACKAGES},
        "contexts": list(fitted.contexts),
        "training_queries": [list(query) for query in fitted.trained_on],
        "genes": genes,
    }


def _kind(description: Mapping[str, Any]) -> type[Model]:
    from perturbcast.models.registry import all_models

    if description["model"] not in all_models():
        raise UnknownModel(
            f"no model is called {description['model']!r}. {did_you_mean(description['model'], all_models())}"
        )
    return all_models()[description["model"]]


def _rebuilt(description: Mapping[str, Any], arrays: dict[str, np.ndarray], *, kind: type[Model]) -> FittedModel:
    if kind.card.name != description["model"]:
        raise ValueError(f"the model is a {description['model']!r}, not a {kind.card.name!r}")
    as_tuple = {name: tuple(value) for name, value in description["fields"].items() if isinstance(value, list)}
    model = kind.make(None, **(description["fields"] | as_tuple))
    genes = np.array(description["genes"], dtype=object)
    if hashlib.sha256("\n".join(description["genes"]).encode()).hexdigest() != description["genes_sha256"]:
        raise ValueError("the genes are not those that were saved")
    queries = tuple(Query(*pair) for pair in description["training_queries"])
    training = ResponseTable(
        name="restored",
        scale=Scale(description["scale"]),
        genes=genes,
        queries=queries,
        response=np.broadcast_to(
            np.float64(0.0), (len(queries), len(genes))
        ),  # never read: `state` holds what was learned
        contexts=tuple(description["contexts"]),
        control=arrays.pop(CONTROL_KEY),
        unit=description["unit"],
    )
    fitted = kind.fitted_class.restore(model, training, arrays)
    fitted.split_fingerprint = description["split_fingerprint"]
    return fitted


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadArtefact(f"{str(folder)!r} holds no model.json, so no model.") from error
    except (OSError, ValueError) as error:
        raise BadArtefact(f"model.json in {str(folder)!r} cannot be read: {error}.") from error
    if not isinstance(description, dict) or description.get("kind") != KIND:
        raise BadArtefact(f"{str(folder)!r} holds something else than a model.")
    if not isinstance(description.get("format"), int) or description["format"] > FORMAT:
        wrote = description.get("packages", {}).get("perturbcast", "a later version")
        raise BadArtefact(f"{str(folder)!r} has format {description.get('format')}, written by perturbcast {wrote}.")
    missing = {"model", "fields", "genes", "scale", "weights_sha256", "training_queries"} - set(description)
    if missing:
        raise BadArtefact(f"model.json in {str(folder)!r} lacks {sorted(missing)}.")
    return description


def _read_arrays(folder: Path, *, digest: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / "weights.safetensors"
    if not path.is_file():
        raise BadArtefact(f"{str(folder)!r} holds no weights.safetensors.")
    if _digest(path) != digest:
        raise BadArtefact(f"weights.safetensors in {str(folder)!r} is damaged: its checksum is not the one noted.")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise BadArtefact(f"weights.safetensors in {str(folder)!r} cannot be read: {error}.") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
