"""Parts of a long computation kept in a folder, so that the same call goes on where it was stopped."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perturbcast._files import written_whole
from perturbcast.data.screen import Screen
from perturbcast.errors import OutputExists, TruncatedFile

INDEX = "parts.json"


@dataclass(frozen=True)
class Parts:
    """A folder of arrays, one file per part, that belong to one computation."""

    folder: Path

    @classmethod
    def open(cls, folder: Path, *, identity: Mapping[str, Any]) -> "Parts":
        """The folder, made if absent. OutputExists if it holds parts of another computation than `identity` says."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dict(identity), sort_keys=True)
        index = folder / INDEX
        if index.exists():
            if index.read_text(encoding="utf-8") != text:
                raise OutputExists(f"{str(folder)!r} holds parts of another inference.", "Choose another folder.")
        elif any(folder.iterdir()):
            raise OutputExists(f"{str(folder)!r} is not empty and holds no parts.", "Choose another folder.")
        else:
            index.write_text(text, encoding="utf-8")
        return cls(folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.npy"

    def load(self, number: int) -> np.ndarray | None:
        """A part, or None if it is still to be computed; TruncatedFile if its file is damaged."""
        path = self._path(number)
        if not path.exists():
            return None
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise TruncatedFile(f"{str(path)!r} is damaged.", "Remove it; the same call computes it again.") from error

    def save(self, number: int, values: np.ndarray) -> None:
        """Keeps a part: written beside its place, then moved there, so that a part is whole or absent."""
        with written_whole(self._path(number)) as draft, draft.open("wb") as file:
            np.save(file, values, allow_pickle=False)


def identity_of(screen: Screen, cells: np.ndarray, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one computation from another: settings, genes, conditions of the cells, a sample of their values."""
    digest = hashlib.sha256()
    digest.update("\n".join(map(str, screen.genes)).encode())
    digest.update(np.ascontiguousarray(screen.condition_code[cells]).tobytes())
    digest.update("\n".join(screen.conditions).encode())
    sampled = cells[np.linspace(0, len(cells) - 1, min(len(cells), 256), dtype=np.int64)]
    values = screen.stored(sampled)
    digest.update(values.indices.tobytes() + values.data.tobytes())
    return {"data": digest.hexdigest(), "settings": dict(settings)}
