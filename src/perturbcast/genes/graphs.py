"""Gene graphs and gene sets as sparse matrices: from edge lists, shared sets and co-expression; unions and layers."""

import zlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import sparse

from perturbcast.errors import BadOption
from perturbcast.genes.graph_files import cached
from perturbcast.genes.knowledge import GeneGraph, GeneSets
from perturbcast.genes.similarity import idf_weights, overlap_similarity

BLOCK = 256  # rows of a similarity matrix that exist at one time
SPARSE_BLOCK = 64  # of a sparse one, which takes several times its size to make
ROWS_AT_ONCE = 1024  # cells that are dense at one time


def graph_of_edges(
    name: str,
    sources: Sequence[str] | np.ndarray,
    targets: Sequence[str] | np.ndarray,
    *,
    weights: np.ndarray | None = None,
    signs: np.ndarray | None = None,
    directed: bool = False,
    source: str = "",
) -> GeneGraph:
    """A graph of the genes that any edge names, sorted. Repeated edges keep their largest weight.

    `weights` (edge,) > 0, default 1; `signs` (edge,) in {-1, 0, 1}: repeated edges of opposite sign get sign 0. An
    undirected edge stands in both directions, and a gene's edge to itself is dropped; a directed one is kept.
    """
    genes, codes = np.unique(np.concatenate([sources, targets]).astype(str), return_inverse=True)
    rows, columns = codes[: len(sources)], codes[len(sources) :]
    values = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
    edges = pd.DataFrame({"row": rows, "column": columns, "weight": values})
    if signs is not None:
        edges["sign"] = np.asarray(signs, dtype=np.float64)
    if not directed:
        edges = edges[edges["row"] != edges["column"]]
        edges = pd.concat([edges, edges.rename(columns={"row": "column", "column": "row"})])
    merged = edges.groupby(["row", "column"], sort=True)
    weight = merged["weight"].max()
    sign_matrix = None
    if signs is not None:
        positive, negative = merged["sign"].max() > 0, merged["sign"].min() < 0
        sign_matrix = _csr(positive.astype(float) - negative.astype(float), len(genes))
        sign_matrix.eliminate_zeros()
    return GeneGraph(name, genes.astype(object), _csr(weight, len(genes)), directed, sign_matrix, source)


def _csr(values: pd.Series, n_genes: int) -> sparse.csr_matrix:
    """A series indexed by (row, column) as a square sparse matrix."""
    rows = values.index.get_level_values(0).to_numpy()
    columns = values.index.get_level_values(1).to_numpy()
    return sparse.csr_matrix((values.to_numpy(dtype=np.float64), (rows, columns)), shape=(n_genes, n_genes))


def gene_sets_of(name: str, sets: Iterable[tuple[str, Iterable[str]]], *, source: str = "") -> GeneSets:
    """Gene sets as a 0/1 matrix (gene, set); sets of one name are united, genes sorted, sets in the order given."""
    number: dict[str, int] = {}
    column: dict[str, int] = {}
    members, of_set = array("i"), array("i")
    for label, genes in sets:
        known = len(members)
        members.extend(number.setdefault(gene, len(number)) for gene in genes)
        of_set.extend(repeat(column.setdefault(label, len(column)), len(members) - known))
    names = sorted(number)
    place = np.empty(len(names), dtype=np.int32)
    place[[number[gene] for gene in names]] = np.arange(len(names))
    at = (place[np.asarray(members, dtype=np.int32)], np.asarray(of_set, dtype=np.int32))
    found = sparse.csr_matrix((np.ones(len(members), dtype=bool), at), shape=(len(names), len(column)))
    membership = sparse.csr_matrix((np.ones(found.nnz), found.indices, found.indptr), shape=found.shape)
    return GeneSets(name, np.array(names, dtype=object), tuple(column), membership, source)


def jaccard_graph(
    sets: GeneSets, *, genes: Iterable[str] | None = None, top: int | None = None, minimum: float = 0.0
) -> GeneGraph:
    """The graph of genes whose weight is the Jaccard index of their sets, by sparse products in blocks of rows.

    `genes`: only these (default all of the sets); `top`: keep the strongest edges of each gene, and their reverse,
    ties drawn by `lots`; `minimum`: keep weights above it. Undirected, without self-edges. Source: GEARS' GO graph
    (spec C.2).
    """
    return _similarity_graph(sets, "jaccard", genes=genes, top=top, minimum=minimum)


def shared_sets_graph(
    sets: GeneSets, *, genes: Iterable[str] | None = None, top: int | None = None, minimum: float = 0.0
) -> GeneGraph:
    """As `jaccard_graph`, with the cosine of memberships weighted by log(genes / size of the set) instead."""
    return _similarity_graph(sets, "idf cosine", genes=genes, top=top, minimum=minimum)


def _similarity_graph(
    sets: GeneSets, measure: str, *, genes: Iterable[str] | None, top: int | None, minimum: float
) -> GeneGraph:
    asked = sets.genes if genes is None else np.array(list(dict.fromkeys(genes)), dtype=object)
    membership, known = sets.rows(asked)
    membership, names = membership[known], asked[known]
    set_weights = idf_weights(sets.membership) if measure == "idf cosine" else None
    own_lots = lots(names)
    blocks = []
    for start in range(0, len(names), BLOCK):
        block = overlap_similarity(membership[start : start + BLOCK], membership, set_weights=set_weights)
        block.data[block.data <= minimum] = 0.0
        rows = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
        block.data[rows == block.indices] = 0.0
        block.eliminate_zeros()
        ties = (own_lots[start : start + BLOCK], own_lots)
        blocks.append(block if top is None else strongest(block, top, ties=ties))
    similar = sparse.csr_matrix(sparse.vstack(blocks)) if blocks else sparse.csr_matrix((0, 0))
    weights = sparse.csr_matrix(similar.maximum(similar.T))
    return GeneGraph(f"{sets.name} ({measure})", names, weights, source=sets.source)


def strongest(
    matrix: sparse.csr_matrix,
    top: int,
    *,
    ties: tuple[Int[np.ndarray, " row"], Int[np.ndarray, " column"]] | None = None,
) -> sparse.csr_matrix:
    """Only the `top` largest entries of each row; ties at the edge go to the first columns.

    With `ties`, the `lots` of rows and columns, they are drawn instead: by what the lots of both ends give together,
    so that no gene wins ties everywhere, and two genes draw alike from either end.
    """
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    drawn = matrix.indices if ties is None else _mixed(ties[0][rows], ties[1][matrix.indices])
    order = np.lexsort((matrix.indices, drawn, -matrix.data, rows))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - matrix.indptr[rows[order]]
    kept = rank < top
    return sparse.csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)


def lots(genes: Iterable[str]) -> Int[np.ndarray, " gene"]:
    """A number for each gene that hangs on its name alone and follows no alphabet, to settle ties."""
    return np.array([zlib.crc32(str(gene).encode()) for gene in genes], dtype=np.int64)


def _mixed(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """One number of two, the same whichever comes first; no order of `right` shines through."""
    both = (left ^ right).astype(np.uint64)
    both ^= both >> np.uint64(15)
    both *= np.uint64(0x2C1B3C6D)  # an odd constant: the product scatters the bits
    return (both ^ (both >> np.uint64(12))) & np.uint64(0xFFFFFFFF)


def jaccard_top_graph(
    sets: GeneSets, genes: Iterable[str], *, k: int = 20, least: float | int = 0.1, cache: Path | None = None
) -> GeneGraph:
    """The directed graph of GEARS over `genes`: to each gene from the k genes whose sets are most like its own.

    Weights are Jaccard indices above `least`; each gene's edge to itself (weight 1) stays. Ties go to the first genes.
    Every gene asked for is a node, without edges where it is in no set. `cache`: a folder where the graph is kept
    under the fingerprint of its input. Source: spec C-1.
    """
    _check_cut(k, least)
    names = _unique(genes)
    membership, _ = sets.rows(names)
    block_of = partial(_jaccard_block, membership)
    build = partial(_similar_to_each, block_of, len(names), k=k, least=least, size=SPARSE_BLOCK)
    name = f"{sets.name} (jaccard, top {k})"
    weights = cached(cache, ("jaccard", names, membership, k, least), build)
    return GeneGraph(name, names, weights, directed=True, source=sets.source)


def coexpression_graph(
    profiles: Float[np.ndarray, "row gene"] | sparse.csr_matrix,
    genes: Iterable[str],
    *,
    k: int = 20,
    least: float | int = 0.4,
    cache: Path | None = None,
) -> GeneGraph:
    """The directed graph over `genes`: to each gene from the k genes whose profiles correlate most with its own.

    `profiles` (row, gene): expression of cells, or responses, of the *training* side only, else the graph leaks.
    Weights are absolute Pearson correlations above `least`; each gene's edge to itself stays, except for a gene that
    never varies, which has none at all. `cache` as in `jaccard_top_graph`. Source: spec C-2.
    """
    _check_cut(k, least)
    names = np.array(list(genes), dtype=object)
    if profiles.shape[1] != len(names) or len(set(names)) < len(names):
        raise BadOption(f"profiles have {profiles.shape[1]} columns for {len(set(names))} different genes.")
    build = partial(_similar_to_each, _correlation_block(profiles), len(names), k=k, least=least)
    weights = cached(cache, ("pearson", names, profiles, k, least), build)
    return GeneGraph(f"co-expression (top {k})", names, weights, directed=True, source="training")


def _check_cut(k: int, least: float | int) -> None:
    if k < 1 or not 0 <= least < 1:
        raise BadOption(f"k is {k}, least {least}; k is at least 1 and least in [0, 1).")


def _unique(genes: Iterable[str]) -> np.ndarray:
    return np.array(list(dict.fromkeys(genes)), dtype=object)


def _jaccard_block(membership: sparse.csr_matrix, start: int, stop: int) -> sparse.csr_matrix:
    return overlap_similarity(membership[start:stop], membership)


def _correlation_block(profiles: np.ndarray | sparse.csr_matrix) -> Callable[[int, int], np.ndarray]:
    """|Pearson| of some genes to all, computed in float32 from rows that are dense a thousand at a time."""
    n_rows = profiles.shape[0]
    mean = np.asarray(profiles.mean(axis=0), dtype=np.float64).ravel()
    square = sum((np.asarray(_dense(profiles, at) - mean) ** 2).sum(axis=0) for at in range(0, n_rows, ROWS_AT_ONCE))
    size = np.sqrt(np.broadcast_to(np.asarray(square, dtype=np.float64), mean.shape))
    varies = size > 1e-9 * np.maximum(np.abs(mean) * np.sqrt(max(n_rows, 1)), 1e-12)
    scale = np.where(varies, 1.0 / np.where(varies, size, 1.0), 0.0)

    def block(start: int, stop: int) -> np.ndarray:
        total = np.zeros((min(stop, len(mean)) - start, len(mean)), dtype=np.float32)
        for at in range(0, n_rows, ROWS_AT_ONCE):
            unit = ((_dense(profiles, at) - mean) * scale).astype(np.float32)
            total += unit[:, start:stop].T @ unit  # (block, row) @ (row, gene) -> (block, gene)
        return np.minimum(np.abs(total), 1.0)

    return block


def _dense(profiles: np.ndarray | sparse.csr_matrix, at: int) -> np.ndarray:
    rows = profiles[at : at + ROWS_AT_ONCE]
    return np.asarray(rows if isinstance(rows, np.ndarray) else rows.toarray(), dtype=np.float64)


def _similar_to_each(
    block_of: Callable[[int, int], sparse.csr_matrix | np.ndarray],
    n_genes: int,
    *,
    k: int,
    least: float,
    size: int = BLOCK,
) -> sparse.csr_matrix:
    """Weights (source, destination): to each gene from itself and the k most similar others, above `least`."""
    blocks = [sparse.csr_matrix((0, n_genes))]
    for start in range(0, n_genes, size):
        block = block_of(start, start + size)
        if isinstance(block, np.ndarray):
            block = np.where(block > least, block, 0.0)
        block = sparse.csr_matrix(block, dtype=np.float64)
        block.sort_indices()
        own = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr)) == block.indices
        block.data[block.data <= least] = 0.0
        block.data[own & (block.data > 0)] = 2.0  # the edge to itself takes its slot before any tie
        block.eliminate_zeros()
        block = strongest(block, k + 1)
        block.data[block.data > 1.0] = 1.0
        blocks.append(block)
    similar = sparse.vstack(blocks, format="csr")
    blocks.clear()
    weights = sparse.csr_matrix(similar.T)
    weights.sort_indices()
    return weights


def union_graph(graphs: Sequence[GeneGraph], *, name: str = "union", scaled: bool = True) -> GeneGraph:
    """One graph with every edge of several: nodes in order of first appearance, the largest weight of an edge kept.

    `scaled` divides the weights of each graph by its largest, since STRING scores and Jaccard indices have no common
    unit. Directed where any is; signs are dropped. BadOption without any graph.
    """
    if not graphs:
        raise BadOption("a union needs at least one graph.")
    names = _unique(gene for graph in graphs for gene in graph.genes)
    total = sparse.csr_matrix((len(names), len(names)))
    for graph in graphs:
        weights, _ = graph.between(names)
        largest = weights.data.max() if scaled and weights.nnz else 1.0
        total = sparse.csr_matrix(total.maximum(weights / largest))
    directed = any(graph.directed for graph in graphs)
    return GeneGraph(name, names, total, directed=directed, source=" + ".join(graph.name for graph in graphs))
