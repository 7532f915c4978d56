"""Gene graphs and gene sets as sparse matrices: from edge lists and GMT files, and graphs of shared sets."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from perturbcast.genes.knowledge import GeneGraph, GeneSets
from perturbcast.genes.similarity import idf_weights, overlap_similarity

BLOCK = 1024  # rows of a similarity matrix that exist at one time


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


def gene_sets_of(name: str, sets: Sequence[tuple[str, Iterable[str]]], *, source: str = "") -> GeneSets:
    """Gene sets as a 0/1 matrix (gene, set); sets of one name are united, genes sorted, sets in the order given."""
    members: dict[str, set[str]] = {}
    for label, genes in sets:
        members.setdefault(label, set()).update(genes)
    genes_by_set = [sorted(genes) for genes in members.values()]
    genes = np.array(sorted({gene for group in genes_by_set for gene in group}), dtype=object)
    rows = pd.Index(genes).get_indexer(pd.Index([gene for group in genes_by_set for gene in group], dtype=object))
    columns = np.repeat(np.arange(len(genes_by_set)), [len(group) for group in genes_by_set])
    membership = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(genes), len(genes_by_set)))
    return GeneSets(name, genes, tuple(members), membership, source)


def jaccard_graph(
    sets: GeneSets, *, genes: Iterable[str] | None = None, top: int | None = None, minimum: float = 0.0
) -> GeneGraph:
    """The graph of genes whose weight is the Jaccard index of their sets, by sparse products in blocks of rows.

    `genes`: only these (default all of the sets); `top`: keep the strongest edges of each gene, and their reverse;
    `minimum`: keep weights above it. Undirected, without self-edges. Source: GEARS' GO graph (spec C.2).
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
    blocks = []
    for start in range(0, len(names), BLOCK):
        block = overlap_similarity(membership[start : start + BLOCK], membership, set_weights=set_weights)
        block.data[block.data <= minimum] = 0.0
        rows = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
        block.data[rows == block.indices] = 0.0
        block.eliminate_zeros()
        blocks.append(block if top is None else strongest(block, top))
    similar = sparse.csr_matrix(sparse.vstack(blocks)) if blocks else sparse.csr_matrix((0, 0))
    weights = sparse.csr_matrix(similar.maximum(similar.T))
    return GeneGraph(f"{sets.name} ({measure})", names, weights, source=sets.source)


def strongest(matrix: sparse.csr_matrix, top: int) -> sparse.csr_matrix:
    """Only the `top` largest entries of each row; ties at the edge go to the first columns."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - matrix.indptr[rows[order]]
    kept = rank < top
    return sparse.csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)
