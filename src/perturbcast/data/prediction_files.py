"""Predictions written as .h5ad, .parquet or .csv, block by block, so that all pairs of a screen fit in memory."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbcast._files import written_whole
from perturbcast.data.prediction import Prediction
from perturbcast.errors import MissingFile, UnknownFormat

LAYERS = ("response", "expression", "sd")
ENDINGS = (".h5ad", ".parquet", ".csv")


def check_output(path: Path) -> None:
    """Raises UnknownFormat or MissingFile before any work is done, if `path` cannot become a prediction file."""
    if path.suffix not in ENDINGS:
        raise UnknownFormat(f"cannot write predictions as {path.name!r}.")
    if not path.parent.is_dir():
        raise MissingFile(f"the folder {str(path.parent)!r} for the predictions does not exist.")


def write_predictions(blocks: Iterable[Prediction], path: str | Path) -> Path:
    """Writes blocks of predictions one after another and returns the path; nothing half-written stays behind.

    .h5ad: one row per query, obs condition, context, support, reason; layers response, expression, sd; X is response.
    .parquet and .csv: one row per query, the same columns, then one column per gene with its response.
    """
    path = Path(path)
    check_output(path)
    writers = {".h5ad": _write_h5ad, ".parquet": _write_parquet, ".csv": _write_csv}
    with written_whole(path) as draft:
        writers[path.suffix](blocks, str(draft))
    return path


def _about(block: Prediction) -> pd.DataFrame:
    """(query, 4) condition, context, support and reason of a block."""
    return pd.DataFrame(
        {
            "condition": [query.condition for query in block.queries],
            "context": [query.context for query in block.queries],
            "support": [str(support) for support in block.support],
            "reason": list(block.reason),
        },
        dtype=object,
    )


def _wide(block: Prediction) -> pd.DataFrame:
    responses = pd.DataFrame(block.response.astype(np.float32), columns=pd.Index(block.genes.astype(str)))
    return pd.concat([_about(block), responses], axis=1)


def _write_csv(blocks: Iterable[Prediction], path: str) -> None:
    for position, block in enumerate(blocks):
        _wide(block).to_csv(path, mode="a", header=position == 0, index=False)


def _write_parquet(blocks: Iterable[Prediction], path: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: Any = None
    for block in blocks:
        table = pa.Table.from_pandas(_wide(block), preserve_index=False)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _write_h5ad(blocks: Iterable[Prediction], path: str) -> None:
    import h5py
    from anndata.io import write_elem

    about: list[pd.DataFrame] = []
    last: Prediction | None = None
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        layers = file.create_group("layers")
        layers.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        for block in blocks:
            _append_layers(layers, block)
            about.append(_about(block))
            last = block
        if last is None:
            raise UnknownFormat("there is no prediction to write.", "Ask for at least one condition.")
        obs = pd.concat(about, ignore_index=True)
        obs.index = obs.index.astype(str)
        write_elem(file, "obs", obs)
        write_elem(file, "var", pd.DataFrame(index=pd.Index(last.genes.astype(str))))
        write_elem(file, "uns", {"kind": "response", "scale": str(last.scale), "model": last.model})
        file["X"] = file["layers/response"]  # one copy on disk under two names


def _append_layers(layers: Any, block: Prediction) -> None:
    """Appends the rows of a block to the three growing layers."""
    sd = np.full_like(block.response, np.nan) if block.sd is None else block.sd
    for name, values in zip(LAYERS, (block.response, block.expression, sd), strict=True):
        n_rows, n_genes = values.shape
        if name not in layers:
            rows_per_chunk = max(1, min(max(n_rows, 1), 2**20 // max(4 * n_genes, 1)))
            layers.create_dataset(
                name, shape=(0, n_genes), maxshape=(None, n_genes), dtype="f4", chunks=(rows_per_chunk, n_genes)
            )
            layers[name].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        written = layers[name].shape[0]
        layers[name].resize(written + n_rows, axis=0)
        layers[name][written:] = values.astype(np.float32, copy=False)
