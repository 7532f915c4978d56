"""Building the genes that a graph model reasons over: measured genes, targets, and what else knowledge names."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool
from scipy import sparse

from perturbcast.data.responses import ResponseTable
from perturbcast.genes.graphs import jaccard_graph, lots, strongest
from perturbcast.genes.knowledge import GeneGraph, GeneKnowledge, GeneSets, GeneTable
from perturbcast.models.base import decode_text, encode_text
from perturbcast.models.embeddings_of_targets import WIDTH, TargetFeatures, leading_axes, response_tables, tables_of
from perturbcast.models.knowledge_views import response_view
from perturbcast.nn.nodes import Edges, NodeTable

EDGES_EACH = 20  # strongest edges kept per gene and graph; spec C-1
LEAST_JACCARD = 0.1  # spec C-1
LEAST_CORRELATION = 0.4  # spec C-2
LARGEST_SET = 500  # genes; sharing a larger set says little, and makes the graph dense
CODING = "protein_coding"  # biotype of Ensembl
CONTROL = "control"  # name of the block of expression in control cells
RESPONSES = "responses"  # name of the graph of co-responding measured genes


def nodes_state(nodes: NodeTable) -> dict[str, np.ndarray]:
    """Arrays from which `restored_nodes` makes the table again."""
    arrays = {
        "nodes.names": encode_text(nodes.names),
        "nodes.sizes": np.array([nodes.n_measured, nodes.n_core], dtype=np.int64),
        "nodes.non_coding": nodes.non_coding,
    }
    for name, block in nodes.blocks.items():
        arrays[f"nodes.block.{name}"] = block
    for name, edges in nodes.graphs.items():
        arrays[f"nodes.edges.{name}"] = np.stack([edges.source, edges.destination]).astype(np.int32)
        arrays[f"nodes.weight.{name}"] = edges.weight.astype(np.float32)
    return arrays


def restored_nodes(state: Mapping[str, np.ndarray]) -> NodeTable:
    """The table whose `state` is among these arrays."""
    n_measured, n_core = (int(size) for size in state["nodes.sizes"])
    blocks = {key.removeprefix("nodes.block."): value for key, value in state.items() if key.startswith("nodes.block.")}
    graphs = {}
    for key, value in state.items():
        if key.startswith("nodes.edges."):
            name = key.removeprefix("nodes.edges.")
            source, destination = np.asarray(value, dtype=np.int64)
            graphs[name] = Edges(source, destination, np.asarray(state[f"nodes.weight.{name}"]))
    names = tuple(decode_text(state["nodes.names"]))
    return NodeTable(names, n_measured, n_core, blocks, graphs, np.array(state["nodes.non_coding"], dtype=bool))


def node_table(responses: ResponseTable, knowledge: GeneKnowledge, *, reach: bool = True) -> NodeTable:
    """Nodes, features and graphs from knowledge and from the training responses; nothing of the test side.

    With `reach` every gene that knowledge names is a node, so that any of them can be asked for later.
    """
    measured = sorted(str(gene) for gene in responses.genes)
    core = [*measured, *sorted(set(responses.targets) - set(measured))]
    more = sorted(knowledge.known_genes() - set(core)) if reach else []
    names = tuple(core + more)
    tables = knowledge.derived(known_tables) | response_tables(responses)
    blocks = {name: _block(table, names) for name, table in tables.items()}
    blocks |= {CONTROL: control_block(responses, names)}
    graphs = {graph.name: _edges(graph, names) for graph in _graphs(responses, knowledge)}
    return NodeTable(
        names,
        len(measured),
        len(core),
        {name: block for name, block in blocks.items() if block.any()},
        {name: edges for name, edges in graphs.items() if len(edges.source)},
        non_coding_of(names, knowledge.table),
    )


def non_coding_of(names: Sequence[str], table: GeneTable | None) -> Bool[np.ndarray, " node"] | Bool[np.ndarray, "0"]:
    """Which genes no row of the table calls protein-coding though some row tells their biotype (spec A.1)."""
    if table is None or "biotype" not in table.frame:
        return np.zeros(0, dtype=bool)
    frame = table.frame[table.frame["biotype"].fillna("") != ""]
    coding: dict[str, bool] = {}
    for column in ("symbol", "ensembl_id"):
        for name, biotype in zip(frame[column], frame["biotype"], strict=True):
            coding[str(name)] = coding.get(str(name), False) or biotype == CODING
    return np.array([not coding.get(name, True) for name in names], dtype=bool)


def known_tables(knowledge: GeneKnowledge) -> dict[str, TargetFeatures]:
    """What each source of the knowledge says of genes, in at most 64 axes."""
    return {name: narrowed(table) for name, table in knowledge.derived(tables_of).items()}


def narrowed(table: TargetFeatures) -> TargetFeatures:
    """The table in at most 64 leading axes."""
    if table.matrix.shape[1] <= WIDTH:
        return table
    axes = leading_axes(sparse.csr_matrix(table.matrix), width=WIDTH)
    return TargetFeatures.of(table.name, list(table.row), axes)


def _block(table: TargetFeatures, names: Sequence[str]) -> np.ndarray:
    """(node, feature) in half precision: a saved model holds features of tens of thousands of genes."""
    found = np.zeros((len(names), table.matrix.shape[1]), dtype=np.float16)
    rows = [(place, table.row[name]) for place, name in enumerate(names) if name in table.row]
    if rows:
        places, at = (np.array(index) for index in zip(*rows, strict=True))
        found[places] = table.matrix[at]
    return found


def control_block(responses: ResponseTable, names: Sequence[str]) -> np.ndarray:
    """(node, 1 or 2) mean and, where it is known, sd of expression in control cells, z-scored (spec B.1).

    Zero for genes that are not measured, and where control is unknown or the same for all.

    Differs from the specification: no detection rate, which a table of responses does not hold.
    """
    told = [np.nanmean(responses.control, axis=0)] if responses.has_control else []
    if told and responses.control_variance is not None:
        told.append(np.sqrt(np.nanmean(responses.control_variance, axis=0)))
    scored = [(column - column.mean()) / sd for column in told if (sd := column.std()) > 0]
    found = np.zeros((len(names), max(1, len(scored))), dtype=np.float16)
    if scored:
        place = {str(gene): row for row, gene in enumerate(responses.genes)}
        rows = [(row, place[name]) for row, name in enumerate(names) if name in place]
        to, at = (np.array(index) for index in zip(*rows, strict=True))
        found[to] = np.stack(scored, axis=1)[at] / np.sqrt(len(scored))
    return found


def _graphs(responses: ResponseTable, knowledge: GeneKnowledge) -> list[GeneGraph]:
    """The graphs given, those of shared sets (C-1), and that of measured genes that respond alike."""
    given = [knowledge.graphs[name] for name in sorted(knowledge.graphs)]
    return [*given, *knowledge.derived(graphs_of_sets), *co_response_graph(responses)]


def graphs_of_sets(knowledge: GeneKnowledge) -> list[GeneGraph]:
    """Genes that share sets, large sets left out (C-1)."""
    sets = [without_large_sets(knowledge.gene_sets[name]) for name in sorted(knowledge.gene_sets)]
    return [jaccard_graph(own, top=EDGES_EACH, minimum=LEAST_JACCARD) for own in sets]


def without_large_sets(sets: GeneSets) -> GeneSets:
    """The sets of at most 500 genes, and the genes that are in any of them."""
    small = np.flatnonzero(np.asarray(sets.membership.sum(axis=0)).ravel() <= LARGEST_SET)
    membership = sparse.csr_matrix(sets.membership[:, small])
    kept = np.flatnonzero(np.diff(membership.indptr))
    names = tuple(sets.sets[place] for place in small)
    return GeneSets(sets.name, sets.genes[kept], names, sparse.csr_matrix(membership[kept]), sets.source)


def co_response_graph(responses: ResponseTable) -> list[GeneGraph]:
    """|cosine| of measured genes in the leading axes of the training responses, the strongest of each gene above .4."""
    found = []
    for view in response_view(responses):
        length = np.linalg.norm(view.matrix, axis=1, keepdims=True)
        unit = view.matrix / np.where(length > 0, length, 1.0)
        alike = np.abs(unit @ unit.T)
        np.fill_diagonal(alike, 0.0)
        alike[alike < LEAST_CORRELATION] = 0.0
        kept = strongest(sparse.csr_matrix(alike), EDGES_EACH, ties=(lots(view.genes),) * 2)
        found.append(GeneGraph(RESPONSES, view.genes, sparse.csr_matrix(kept.maximum(kept.T))))
    return found


def _edges(graph: GeneGraph, names: Sequence[str]) -> Edges:
    """The strongest edges of each node, ties drawn, both ways, in order of source and destination."""
    weights, _ = graph.between(names)
    symmetric = sparse.csr_matrix(weights.maximum(weights.T))
    symmetric.setdiag(0.0)
    symmetric.eliminate_zeros()
    kept = strongest(symmetric, EDGES_EACH, ties=(lots(names),) * 2)
    both = sparse.coo_matrix(kept.maximum(kept.T))
    order = np.lexsort((both.col, both.row))
    return Edges(
        both.row[order].astype(np.int64), both.col[order].astype(np.int64), both.data[order].astype(np.float32)
    )
