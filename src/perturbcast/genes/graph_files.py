"""Gene graphs on disk: edge weights kept under the fingerprint of what they were made from, and edge files."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbcast._files import written_whole
from perturbcast.errors import NotWritable, UnknownFormat
from perturbcast.genes.knowledge import GeneGraph

ENDING = ".graph.npz"
EDGE_ENDINGS = (".csv", ".tsv", ".parquet")


def fingerprint(*parts: np.ndarray | sparse.csr_matrix | str | int | float) -> str:
    """sha256 over the content of arrays, matrices, texts and numbers, in order, with their shapes and types."""
    digest = hashlib.sha256()
    for part in parts:
        if sparse.issparse(part):
            csr = sparse.csr_matrix(part, copy=True)
            csr.sum_duplicates()
            arrays = [np.array(csr.shape), csr.indptr.astype(np.int64), csr.indices.astype(np.int64), csr.data]
        elif isinstance(part, np.ndarray):
            arrays = [np.array(part.shape), part]
        else:
            arrays = [np.array([repr(part)], dtype=object)]
        for array in arrays:
            _update(digest, array)
    return digest.hexdigest()


def _update(digest: Any, array: np.ndarray) -> None:
    digest.update(f"{array.dtype.str} {array.shape};".encode())
    if array.dtype == object:
        digest.update("\0".join(str(value) for value in array.ravel()).encode("utf-8", "surrogatepass"))
    else:
        digest.update(np.ascontiguousarray(array).data)


def cached(
    folder: Path | None,
    made_from: Sequence[np.ndarray | sparse.csr_matrix | str | int | float],
    build: Callable[[], sparse.csr_matrix],
) -> sparse.csr_matrix:
    """What `build` makes; with a folder, read where it was kept under the fingerprint of what it is made from.

    A kept file that cannot be read is made again. NotWritable where the folder refuses.
    """
    if folder is None:
        return build()
    path = folder / f"{fingerprint(*made_from)}{ENDING}"
    try:
        return sparse.csr_matrix(sparse.load_npz(io.BytesIO(path.read_bytes())))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        path.unlink(missing_ok=True)
    weights = build()
    _keep(path, weights)
    return weights


def _keep(path: Path, weights: sparse.csr_matrix) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise NotWritable(f"{path.parent} cannot be written: {failure.strerror or failure}.") from failure
    packed = io.BytesIO()
    sparse.save_npz(packed, weights)
    with written_whole(path) as draft:
        draft.write_bytes(packed.getvalue())


def write_edges(graph: GeneGraph, path: Path) -> None:
    """Writes the edges as a file that `--networks` reads: .csv, .tsv or .parquet by the ending.

    Columns `source`, `target`, `weight` of a directed graph, `gene1`, `gene2`, `weight` of an undirected one, which
    stands once per edge; `sign` where the graph has signs. Genes without edges are not in the file.
    """
    if path.suffix not in EDGE_ENDINGS:
        raise UnknownFormat(f"{path.name!r} ends in {path.suffix!r}.", f"Use {', '.join(EDGE_ENDINGS)}.")
    frame = edge_frame(graph)
    with written_whole(path) as draft:
        if path.suffix == ".parquet":
            frame.to_parquet(draft, index=False)
        else:
            frame.to_csv(draft, index=False, sep="," if path.suffix == ".csv" else "\t")


def edge_frame(graph: GeneGraph) -> pd.DataFrame:
    """One row per edge, sorted by node, with the columns that `write_edges` writes."""
    edges = sparse.coo_matrix(graph.weights if graph.directed else sparse.triu(graph.weights, k=1))
    ends = ("source", "target") if graph.directed else ("gene1", "gene2")
    frame = pd.DataFrame({ends[0]: graph.genes[edges.row], ends[1]: graph.genes[edges.col], "weight": edges.data})
    if graph.signs is not None:
        frame["sign"] = np.asarray(graph.signs[edges.row, edges.col]).ravel().astype(int)
    return frame
