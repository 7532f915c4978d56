"""sha256 of values: equal for equal contents, whatever file or object they came from."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen

STATISTICS = ("response", "control", "n_cells", "variance", "n_control", "control_variance", "response_halves")


def fingerprint(value: Any) -> str:
    """Hex sha256 of numbers, text, arrays, tables, mappings, sequences and dataclasses of these; the order counts."""
    digest = hashlib.sha256()
    for piece in _pieces(value):
        digest.update(len(piece).to_bytes(8, "little"))
        digest.update(piece)
    return digest.hexdigest()


def data_fingerprint(screen: Screen | None, responses: ResponseTable) -> str:
    """Hex sha256 of what a data set says: names, the condition and context of every cell, and all statistics.

    The statistics depend on every value of the matrix, and on which cells are in which half, so cells need not be read
    once more. They are rounded to 32 bits, beyond which machines may differ.
    """
    cells = None if screen is None else (screen.condition_code, screen.context_code, screen.conditions, screen.contexts)
    rounded = [getattr(responses, name) for name in STATISTICS]
    rounded = [None if array is None else array.astype(np.float32) for array in rounded]
    names = (responses.genes, [tuple(query) for query in responses.queries], responses.contexts)
    return fingerprint((cells, names, str(responses.scale), rounded))


def _pieces(value: Any) -> list[bytes]:
    """The value as a flat list of bytes, each kind marked by its first piece."""
    if value is None or isinstance(value, str | bool | int | float | np.generic):
        return [json.dumps(value.item() if isinstance(value, np.generic) else value).encode()]
    if isinstance(value, np.ndarray):
        return _array_pieces(value)
    if sparse.issparse(value):
        rows: Any = value.tocsr()
        return [
            b"csr",
            *_pieces([list(rows.shape), rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.data]),
        ]
    if isinstance(value, pd.DataFrame):
        return [b"frame", *_pieces([(str(name), value[name].astype(str).to_numpy(dtype=object)) for name in value])]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
        return [type(value).__name__.encode(), *_pieces(named)]
    if isinstance(value, Mapping):
        return [b"mapping", *_pieces([(str(key), value[key]) for key in sorted(value, key=str)])]
    assert isinstance(value, Sequence), f"no fingerprint of {type(value).__name__}"
    return [f"sequence {len(value)}".encode(), *(piece for entry in value for piece in _pieces(entry))]


def _array_pieces(array: np.ndarray) -> list[bytes]:
    shape = f"array {array.shape} {array.dtype.kind}".encode()
    if array.dtype.kind in "OUS":
        return [shape, json.dumps([str(entry) for entry in array.ravel()]).encode()]
    return [shape, array.dtype.str.encode(), np.ascontiguousarray(array).tobytes()]
