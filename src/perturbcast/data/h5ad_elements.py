"""Elements of .h5ad files read by h5py alone: tables, columns, texts and numbers as anndata writes them today.

Importing anndata takes half a second and 15 MB, for zarr and what that needs. So it is asked only for what is written
otherwise: by old versions, by other programs, and in kinds that screens seldom hold.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd


def read_element(element: Any) -> Any:
    """What a group or dataset of an open .h5ad file holds: the same as `anndata.io.read_elem`.

    Errors are those of h5py, pandas or anndata, of many types.
    """
    kind, version = (element.attrs.get(f"encoding-{part}") for part in ("type", "version"))
    reader = _READERS.get(f"{kind} {version}")
    if reader is not None and _is_plain(element):
        return reader(element)
    from anndata.io import read_elem

    return read_elem(element)


def _is_plain(element: Any) -> bool:
    """Whether attributes are texts of free length; other programs write bytes of fixed length."""
    columns = element.attrs.get("column-order", ())
    return all(isinstance(column, str) for column in columns) and isinstance(element.attrs.get("_index", ""), str)


def _table(group: Any) -> pd.DataFrame:
    columns, index = list(group.attrs["column-order"]), group.attrs["_index"]
    held = {column: read_element(group[column]) for column in columns}
    table = pd.DataFrame(held, index=read_element(group[index]), columns=columns or None)
    if index != "_index":
        table.index.name = index
    return table


def _categories(group: Any) -> pd.Categorical:
    codes, names = read_element(group["codes"]), read_element(group["categories"])
    return pd.Categorical.from_codes(codes, categories=names, ordered=bool(group.attrs["ordered"]))


def _values(dataset: Any) -> np.ndarray:
    values: np.ndarray = dataset[()]
    return values


def _texts(dataset: Any) -> Any:
    return dataset.asstr()[()]


def _number(dataset: Any) -> Any:
    return dataset[()].item()


def _dictionary(group: Any) -> dict[str, Any]:
    return {str(name): read_element(part) for name, part in group.items()}


_READERS: dict[str, Callable[[Any], Any]] = {
    "dataframe 0.2.0": _table,
    "categorical 0.2.0": _categories,
    "array 0.2.0": _values,
    "string-array 0.2.0": _texts,
    "string 0.2.0": _texts,
    "numeric-scalar 0.2.0": _number,
    "dict 0.1.0": _dictionary,
    "null 0.1.0": lambda _: None,
}
