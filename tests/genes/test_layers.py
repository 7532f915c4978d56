"""Graphs over the same genes, kept apart, and cut by weight and number."""

import numpy as np
import pytest

from perturbcast.errors import BadOption, NeedsKnowledge
from perturbcast.genes.graphs import gene_sets_of, graph_of_edges
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.genes.layers import known_graphs, multiplex, thresholded
from perturbcast.genes.load import load_knowledge

SIGNED = graph_of_edges(
    "tf", list("AAB"), list("BCC"), weights=np.array([1.0, 3, 2]), signs=np.array([1, -1, 1]), directed=True
)
PLAIN = graph_of_edges("ppi", list("ABB"), list("BCD"), weights=np.array([400.0, 700, 900]))


def test_layers_share_their_genes_and_keep_their_own_edges():
    layers = multiplex({"tf": SIGNED, "ppi": PLAIN}, ["D", "C", "B", "?"])
    assert list(layers.genes) == ["D", "C", "B", "?"]
    assert layers.layers["tf"].weights.toarray().tolist() == [[0] * 4, [0] * 4, [0, 2, 0, 0], [0] * 4]
    assert layers.layers["tf"].signs.toarray()[2].tolist() == [0, 1, 0, 0]
    assert layers.layers["ppi"].weights.toarray()[2].tolist() == [900, 700, 0, 0]
    assert layers.coverage() == {"tf": 2, "ppi": 3}
    assert layers.union().weights.toarray()[2].tolist() == [1, 1, 0, 0]


def test_edges_are_kept_from_the_threshold_on():
    assert thresholded(PLAIN, least=700).weights.nnz == 4
    assert thresholded(PLAIN, least=700.5).weights.nnz == 2
    cut = thresholded(SIGNED, least=2)
    assert cut.weights.toarray().tolist() == [[0, 0, 3], [0, 0, 2], [0, 0, 0]]
    assert cut.signs.toarray().tolist() == [[0, 0, -1], [0, 0, 1], [0, 0, 0]]


def test_the_strongest_edges_to_each_gene_are_kept():
    assert thresholded(SIGNED, k=1).weights.toarray().tolist() == [[0, 1, 3], [0, 0, 0], [0, 0, 0]]
    kept = thresholded(PLAIN, k=1).weights.toarray()
    np.testing.assert_array_equal(kept, PLAIN.weights.toarray())  # each edge is the largest of one of its ends
    with pytest.raises(BadOption):
        thresholded(PLAIN, k=0)


def test_edges_that_tie_for_the_last_place_all_stay():
    star = graph_of_edges("x", list("AAAA"), list("BCDE"), weights=np.array([1.0, 1, 1, 2]), directed=True)
    into = graph_of_edges("x", list("BCDE"), list("AAAA"), weights=np.array([1.0, 1, 1, 2]), directed=True)
    assert thresholded(star, k=1).weights.nnz == 4
    assert thresholded(into, k=1).weights.nnz == 1
    assert thresholded(into, k=2).weights.nnz == 4


def test_all_graphs_of_the_knowledge_come_as_layers():
    sets = gene_sets_of("go", [("T1", ["A", "B"]), ("T2", ["B", "C"])])
    knowledge = GeneKnowledge(graphs={"tf": SIGNED, "ppi": PLAIN}, gene_sets={"go": sets})
    layers = known_graphs(knowledge, ["A", "B", "C"], least={"ppi": 700})
    assert list(layers.layers) == ["tf", "ppi", "go"]
    assert layers.coverage() == {"tf": 3, "ppi": 2, "go": 3}
    with pytest.raises(NeedsKnowledge, match="'ppi'"):
        known_graphs(knowledge, ["A"], least={"pip": 700})
    with pytest.raises(NeedsKnowledge):
        known_graphs(GeneKnowledge(), ["A"])


def test_the_real_graphs_cover_the_targets_of_a_real_screen(shared):
    networks = shared / "data" / "networks"
    files = [networks / name for name in ("string_human.csv", "go_biological_process.gmt", "reactome.gmt")]
    targets = ["GATA1", "KLF1", "RPL5", "RPS6", "MED1", "MED12", "nonsense"]
    layers = known_graphs(load_knowledge(files, targets=targets), targets)
    assert layers.layers["reactome"].weights[2, 3] > 0.5  # two ribosomal proteins
    assert all(not graph.weights[[6]].nnz for graph in layers.layers.values())
