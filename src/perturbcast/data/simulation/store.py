"""Writes a simulated world as the files that readers expect: cells chunk by chunk, the folder in one step."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perturbcast._progress import Progress
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import NotWritable, OutputExists

if TYPE_CHECKING:
    from perturbcast.data.simulation.world import World

WORLD_FILE = "world.json"
VALUES_PER_CHUNK = 1 << 18  # of the HDF5 datasets
UNIT = "difference of mean ln(1 + CP10k) to control, exact expectation over all cells"


def write_world(world: "World", folder: Path, *, chunk: int, progress: Progress) -> Path:
    """Writes everything into a temporary sibling and renames it; see `World.write`."""
    folder = Path(folder)
    if _is_there(world, folder):
        return folder
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        for part in ("genes", "networks", "truth"):
            (partial / part).mkdir(parents=True)
        write_screen(world, partial / "screen.h5ad", chunk=chunk, progress=progress)
        _write_knowledge(world, partial)
        _write_truth(world, partial / "truth")
        (partial / WORLD_FILE).write_text(json.dumps(_identity(world), indent=2) + "\n")
        _flush(partial)
        if folder.is_dir():
            folder.rmdir()  # an empty folder: `_is_there` refused any other
        partial.rename(folder)
    except OSError as failure:
        raise NotWritable(f"{folder} cannot be written: {failure.strerror or failure}.") from failure
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _identity(world: "World") -> dict[str, Any]:
    return {"kind": "perturbcast simulated world", "format": 1, "settings": asdict(world.settings)}


def _is_there(world: "World", folder: Path) -> bool:
    """Whether the folder holds this very world; OutputExists if it holds anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / WORLD_FILE).read_text())
    except (OSError, ValueError):
        found = None
    if found != _identity(world):
        raise OutputExists(f"{folder} is there already and holds {'another world' if found else 'something else'}.")
    return True


def _flush(folder: Path) -> None:
    for path in [file for file in folder.rglob("*") if file.is_file()]:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def write_screen(world: "World", path: Path, *, chunk: int, progress: Progress) -> None:
    """The screen as .h5ad: counts int32 CSR appended in chunks of cells, obs, var and uns by anndata's own writer."""
    import h5py

    var = pd.DataFrame(
        {
            "gene_id": world.gene_table["ensembl_id"].to_numpy(dtype=object)[: len(world.genes)],
            "biotype": world.gene_table["biotype"].to_numpy(dtype=object)[: len(world.genes)],
        },
        index=pd.Index(world.genes, name="gene_symbol"),
    )
    _empty(world, var).write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["X"]
        _append_counts(world, file, chunk=chunk, progress=progress)


def _empty(world: "World", var: pd.DataFrame) -> Any:
    """An AnnData with everything but the counts, which are none."""
    from anndata import AnnData
    from scipy import sparse

    nothing = sparse.csr_matrix((len(world.observed), len(var)), dtype=np.int32)
    uns = {"source": world.source, "perturbation": world.settings.perturbation, "seed": world.settings.seed}
    return AnnData(X=nothing, obs=world.observed, var=var, uns=uns)


def _append_counts(world: "World", file: Any, *, chunk: int, progress: Progress) -> None:
    """X as a CSR group of the anndata on-disk format (encoding csr_matrix 0.1.0)."""
    group = file.create_group("X")
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
    group.attrs["shape"] = np.array([world.settings.n_cells, world.settings.n_genes], dtype=np.int64)
    how = {"shape": (0,), "maxshape": (None,), "chunks": (VALUES_PER_CHUNK,), "compression": "gzip"}
    data = group.create_dataset("data", dtype=np.int32, compression_opts=1, shuffle=True, **how)
    indices = group.create_dataset("indices", dtype=np.int32, compression_opts=1, shuffle=True, **how)
    indptr = [np.zeros(1, dtype=np.int64)]
    stored = 0
    n_chunks = -(-world.settings.n_cells // chunk)
    for _, counts in progress.track(world.sampler.chunks(size=chunk), label="cells", total=n_chunks):
        for dataset, values in ((data, counts.data), (indices, counts.indices)):
            dataset.resize((stored + counts.nnz,))
            dataset[stored:] = values
        indptr.append(stored + counts.indptr[1:].astype(np.int64))
        stored += counts.nnz
    group.create_dataset("indptr", data=np.concatenate(indptr))


def _write_knowledge(world: "World", folder: Path) -> None:
    world.gene_table.to_parquet(folder / "genes" / "gene_table.parquet", index=False)
    (folder / "genes" / "gene_summaries.json").write_text(json.dumps(dict(world.texts), indent=0) + "\n")
    sequences = {"symbol": list(world.sequences), "sequence": list(world.sequences.values())}
    pd.DataFrame(sequences).to_parquet(folder / "genes" / "promoters.parquet", index=False)
    world.embedding.to_csv(folder / "genes" / "embedding.csv", index_label="")
    world.prior_graph.to_csv(folder / "networks" / "prior_graph.csv", index=False)
    lines = ["\t".join([name, "simulated", *members]) for name, members in world.gene_sets.items()]
    (folder / "networks" / "gene_sets.gmt").write_text("\n".join(lines) + "\n")


def _write_truth(world: "World", folder: Path) -> None:
    network = world.network
    network.edges().to_csv(folder / "network.tsv", sep="\t", index=False)
    nodes = {
        "symbol": network.genes,
        "module": network.module,
        "role": network.role,
        "measured": np.arange(len(network.genes)) < network.n_measured,
        "target": np.isin(np.arange(len(network.genes)), world.design.targets),
    }
    pd.DataFrame(nodes).to_csv(folder / "genes.csv", index=False)
    world.interactions.to_csv(folder / "interactions.csv", index=False)
    world.truth.to_parquet(folder / "cells.parquet")
    _write_responses(world, world.responses, folder / "responses.h5ad", unit=UNIT)
    steady = world.steady_state(world.design.queries)
    _write_responses(world, steady, folder / "steady_state.h5ad", unit="ln fold change of abundance at steady state")


def _write_responses(world: "World", table: ResponseTable, path: Path, *, unit: str) -> None:
    """A file of responses like those of real screens: uns["kind"] = "response", one row per condition and context."""
    from anndata import AnnData

    obs = pd.DataFrame({"condition": list(table.conditions)})
    obs["n_targets"] = [condition.count("+") + 1 for condition in table.conditions]
    obs.index = pd.Index([str(query) for query in table.queries], name="query")
    if len(table.contexts) > 1:
        obs["cell_line"] = [query.context for query in table.queries]
    uns = {"kind": "response", "unit": unit, "source": world.source, "perturbation": world.settings.perturbation}
    var = pd.DataFrame(index=pd.Index(table.genes, name="gene_symbol"))
    AnnData(X=table.response, obs=obs, var=var, uns=uns).write_h5ad(path)
