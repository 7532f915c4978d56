"""Networks written to files and read back: parquet, TSV, GraphML, SIF, CX2, AnnData (varp), and networkx in memory."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perturbcast._files import written_whole
from perturbcast.errors import BadNetwork, MissingFile, UnknownFormat
from perturbcast.networks.cx2 import INTERACTION, SIGN_OF, from_cx2, to_cx2
from perturbcast.networks.graphml import from_graphml, to_graphml
from perturbcast.networks.network import COLUMNS, FLAGS, Network

if TYPE_CHECKING:
    from anndata import AnnData

ENDINGS = (".parquet", ".tsv", ".graphml", ".sif", ".cx2", ".h5ad")
KEY = "network"  # of varp, and of the metadata of parquet
FORMAT = 1  # of our own metadata


def write_network(network: Network, path: str | Path) -> Path:
    """Writes the network in the format of the ending (ENDINGS) and returns the path; nothing half-written stays behind.

    .parquet, .graphml, .cx2 and .h5ad keep everything. .tsv keeps the edge table, but no gene without an edge.
    .sif keeps genes and signs only: `A activates B`, `A represses B`, `A regulates B`.
    Raises UnknownFormat, MissingFile for the folder, NotWritable.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise UnknownFormat(f"cannot write a network as {path.name!r}.", f"Use {', '.join(ENDINGS)}.")
    if not path.parent.is_dir():
        raise MissingFile(f"the folder {str(path.parent)!r} for the network does not exist.")
    writers: dict[str, Callable[[Network, Path], object]] = {
        ".parquet": _write_parquet,
        ".tsv": _write_tsv,
        ".graphml": lambda network, path: path.write_text(to_graphml(network), encoding="utf-8"),
        ".sif": _write_sif,
        ".cx2": lambda network, path: path.write_text(json.dumps(to_cx2(network), allow_nan=False), encoding="utf-8"),
        ".h5ad": lambda network, path: to_anndata(network).write_h5ad(path),
    }
    with written_whole(path) as draft:
        writers[path.suffix](network, draft)
    return path


def load_network(path: str | Path) -> Network:
    """The network of a file that `write_network` wrote, or of any edge list that `read_network` knows.

    MissingFile, UnknownFormat, BadNetwork where it is damaged, and the errors of `read_network`.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFile(f"there is no file {str(path)!r}.")
    readers: dict[str, Callable[[Path], Network]] = {
        ".parquet": _read_parquet,
        ".graphml": lambda path: from_graphml(path.read_bytes()),
        ".sif": _read_sif,
        ".cx2": _read_cx2,
        ".h5ad": _read_h5ad,
    }
    if path.suffix in readers:
        return readers[path.suffix](path)
    if path.suffix == ".tsv" and _is_own_table(path):
        text = {"source": str, "target": str}
        exact: Any = {"keep_default_na": False, "na_values": [""]}
        if pd.__version__.startswith("2."):  # later versions read floats exactly, and warn when asked to
            exact["float_precision"] = "round_trip"
        return _of_table(pd.read_csv(path, sep="\t", dtype=text, **exact))
    from perturbcast.networks.reference import read_network

    return Network.from_graph(read_network(path))


# -------------------------------------------------------------------------------------------------------------- tables
def _write_parquet(network: Network, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(network.edges(), preserve_index=False)
    about = {"format": FORMAT, "method": network.method, "source": network.source, "genes": network.genes.tolist()}
    about |= {flag: getattr(network, flag).tolist() for flag in FLAGS}
    metadata = {**(table.schema.metadata or {}), f"perturbcast.{KEY}".encode(): json.dumps(about).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def _read_parquet(path: Path) -> Network:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadNetwork(f"{path} is no parquet file.", "Write it again.") from error
    found = (table.schema.metadata or {}).get(f"perturbcast.{KEY}".encode())
    about = json.loads(found) if found else {}
    if about.get("format", FORMAT) > FORMAT:
        raise BadNetwork(f"{path} is of format {about['format']}.", "Install a later version of perturbcast.")
    return _of_table(table.to_pandas(), about)


def _write_tsv(network: Network, path: Path) -> None:
    network.edges().to_csv(path, sep="\t", index=False)


def _is_own_table(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\r\n").split("\t")[:4] == ["source", "target", "weight", "sign"]


def _of_table(frame: pd.DataFrame, about: dict[str, Any] | None = None) -> Network:
    """The network of an edge table; genes without an edge are only known from `about`."""
    about = about or {}
    missing = [name for name in ("source", "target", "weight") if name not in frame]
    if missing:
        raise BadNetwork(f"The edge table has no column {missing[0]!r}.", "Give it source, target and weight.")
    starts, ends = frame["source"].astype(str).to_numpy(), frame["target"].astype(str).to_numpy()
    genes = about.get("genes") or sorted({*starts, *ends})
    place = {gene: number for number, gene in enumerate(genes)}
    if not {*starts, *ends} <= set(place):
        raise BadNetwork("An edge names a gene that is not in the file's list of genes.", "Write it again.")
    try:
        weight = frame["weight"].to_numpy(dtype=np.float64)
        sign = frame["sign"].to_numpy(dtype=np.float64) if "sign" in frame else None
    except ValueError as error:
        raise BadNetwork(f"A weight or sign is no number ({error}).") from error
    flags = {flag: np.array(about[flag], dtype=bool) for flag in FLAGS if flag in about}
    if not about and "extended" in frame:
        flags = _flags_of_table(frame, place, starts, ends)
    return Network.of_edges(
        genes,
        np.array([place[gene] for gene in starts], dtype=np.int64),
        np.array([place[gene] for gene in ends], dtype=np.int64),
        weight,
        sign=sign,
        columns={name: frame[name].to_numpy(dtype=np.float64) for name in COLUMNS if name in frame},
        **flags,
        method=str(about.get("method", "")),
        source=str(about.get("source", "")),
    )


def _flags_of_table(
    frame: pd.DataFrame, place: dict[str, int], starts: np.ndarray, ends: np.ndarray
) -> dict[str, np.ndarray]:
    """Which genes are extended: the fewest that explain the edges so marked, that is the ends never seen unmarked."""
    marked = frame["extended"].astype(str).str.lower().to_numpy() == "true"
    plain = {*starts[~marked], *ends[~marked]}
    extended = np.zeros(len(place), dtype=bool)
    for gene in {*starts[marked], *ends[marked]} - plain:
        extended[place[gene]] = True
    return {"is_extended": extended}


def _write_sif(network: Network, path: Path) -> None:
    starts, ends = network.genes[network.source_code], network.genes[network.target_code]
    lines = [f"{a}\t{INTERACTION[int(sign)]}\t{b}" for a, sign, b in zip(starts, network.sign, ends, strict=True)]
    alone = np.setdiff1d(np.arange(network.n_genes), np.union1d(network.source_code, network.target_code))
    path.write_text("\n".join([*lines, *map(str, network.genes[alone]), ""]), encoding="utf-8")


def _read_sif(path: Path) -> Network:
    """Edges of a SIF file, weight 1: `A type B C ...` by tabs, or by blanks where a line has no tab."""
    edges: list[tuple[str, str, int]] = []
    genes: dict[str, None] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        parts = [part.strip() for part in (line.split("\t") if "\t" in line else line.split())]
        if len(parts) == 2:
            raise BadNetwork(f"Line {number} of {path.name} names a gene and a relation, but no target.", "Mend it.")
        for name in parts[:1] + parts[2:]:
            genes[name] = None
        edges += [(parts[0], end, SIGN_OF.get(parts[1], 0)) for end in parts[2:]]
    place = {gene: number for number, gene in enumerate(sorted(genes))}
    return Network.of_edges(
        list(place),
        np.array([place[start] for start, _, _ in edges], dtype=np.int64),
        np.array([place[end] for _, end, _ in edges], dtype=np.int64),
        np.ones(len(edges)),
        sign=np.array([sign for _, _, sign in edges], dtype=np.float64),
    )


def _read_cx2(path: Path) -> Network:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadNetwork(f"{path.name} is no JSON ({error}).", "Export it again.") from error
    return from_cx2(document)


# ------------------------------------------------------------------------------------------------- AnnData and networkx
def to_anndata(network: Network, adata: "AnnData | None" = None) -> "AnnData":
    """The network in `varp["network"]` (weights), `varp["network_<column>"]` and flags in var, of a copy of `adata`.

    Without `adata`, an object with no cells. BadNetwork or UnknownGenes where its genes lack one of the network.
    """
    from anndata import AnnData

    if adata is None:
        adata = AnnData(var=pd.DataFrame(index=pd.Index(network.genes.astype(str))))
    else:
        adata, network = adata.copy(), network.among(adata.var_names)
    adata.varp[KEY] = network.weights
    adata.varp[f"{KEY}_sign"] = network._matrix(network.sign)
    for name in network.columns:
        adata.varp[f"{KEY}_{name}"] = network._matrix(network.column(name))
    for flag in FLAGS:
        adata.var[flag] = getattr(network, flag)
    adata.uns[KEY] = {"method": network.method, "source": network.source, "format": FORMAT}
    return adata


def from_anndata(adata: "AnnData") -> Network:
    """The network that `to_anndata` put into an object; BadNetwork where there is none."""
    if KEY not in adata.varp:
        raise BadNetwork(f"The object has no varp[{KEY!r}].", "Write the network into it first.")
    weights = adata.varp[KEY].tocoo()
    rows, cols = weights.row.astype(np.int64), weights.col.astype(np.int64)
    held = {name: adata.varp[f"{KEY}_{name}"].tocsr() for name in ("sign", *COLUMNS) if f"{KEY}_{name}" in adata.varp}
    values = {name: np.asarray(matrix[rows, cols]).ravel() for name, matrix in held.items()}
    about = adata.uns.get(KEY, {})
    return Network.of_edges(
        adata.var_names,
        rows,
        cols,
        weights.data,
        sign=values.pop("sign", None),
        columns=values,
        **{flag: adata.var[flag].to_numpy(dtype=bool) for flag in FLAGS if flag in adata.var},
        method=str(about.get("method", "")),
        source=str(about.get("source", "")),
    )


def _read_h5ad(path: Path) -> Network:
    from anndata import read_h5ad

    try:
        return from_anndata(read_h5ad(path))
    except OSError as error:
        raise BadNetwork(f"{path.name} is no AnnData file.", "Write it again.") from error


def to_networkx(network: Network) -> Any:
    """The network as a networkx.DiGraph: genes are nodes with their flags, edges carry weight, sign and columns."""
    graph = import_module("networkx").DiGraph(name=network.method, source=network.source)
    for number, gene in enumerate(network.genes):
        graph.add_node(str(gene), **{flag: bool(getattr(network, flag)[number]) for flag in FLAGS})
    for number in range(network.n_edges):
        start, end = network.genes[network.source_code[number]], network.genes[network.target_code[number]]
        known = {name: float(of[number]) for name, of in network.columns.items() if np.isfinite(of[number])}
        graph.add_edge(
            str(start), str(end), weight=float(network.weight[number]), sign=int(network.sign[number]), **known
        )
    return graph
