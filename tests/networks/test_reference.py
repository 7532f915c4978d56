"""The reference networks are read with their directions and signs."""

import numpy as np
import pandas as pd
import pytest

from perturbcast.errors import UnknownKnowledge
from perturbcast.networks.reference import read_network


def weight(graph, source, target):
    place = {gene: number for number, gene in enumerate(graph.genes)}
    return graph.weights[place[source], place[target]]


def sign(graph, source, target):
    place = {gene: number for number, gene in enumerate(graph.genes)}
    return graph.signs[place[source], place[target]]


def test_trrust_is_directed_and_signed(shared):
    graph = read_network(shared / "data/networks/trrust_human.tsv")
    assert graph.directed
    assert (graph.weights.nnz, len(graph.genes)) == (8427, 2862)
    assert sign(graph, "AATF", "BAX") == -1
    assert sign(graph, "AATF", "MYC") == 1
    assert sign(graph, "AATF", "TP53") == 0
    assert sign(graph, "ABL1", "JUN") == 0  # both modes are reported
    assert weight(graph, "BAX", "AATF") == 0


def test_collectri_keeps_every_edge_and_sign(shared):
    path = shared / "data/networks/collectri_human.csv"
    graph, frame = read_network(path), pd.read_csv(path, keep_default_na=False)
    assert graph.weights.nnz == len(frame)
    assert (graph.signs.data < 0).sum() == (frame["weight"] < 0).sum()
    assert set(np.unique(graph.weights.data)) == {1.0}
    assert sign(graph, "TP53", "RB1") == -1


def test_dorothea_weighs_confidence(shared):
    graph = read_network(shared / "data/networks/dorothea_abc_human.tsv.gz")
    np.testing.assert_allclose(np.unique(graph.weights.data), [1 / 3, 1 / 2, 1])
    assert graph.weights.nnz == 13223
    assert (graph.signs.data < 0).sum() == 2050


def test_the_footprint_uses_symbols_and_not_entrez_ids(shared):
    graph = read_network(shared / "data/networks/k562_dnase_footprint.tsv.gz")
    assert graph.directed
    assert graph.signs is None
    assert "GTF2I" in graph.genes
    assert not any(gene.isdigit() for gene in graph.genes)
    assert set(np.unique(graph.weights.data)) == {1.0}


def test_string_is_symmetric_with_its_repeats_merged(shared):
    path = shared / "data/networks/string_human.csv"
    graph, frame = read_network(path), pd.read_csv(path)
    assert not graph.directed
    assert abs(graph.weights - graph.weights.T).nnz == 0
    pairs = {frozenset(pair) for pair in zip(frame["Gene1"], frame["Gene2"], strict=True) if pair[0] != pair[1]}
    assert graph.weights.nnz == 2 * len(pairs)


def test_a_gene_table_brings_current_symbols(shared):
    path = shared / "data/networks/string_human.csv"
    graph = read_network(path, gene_table=shared / "data/genes/ensembl_genes.parquet")
    assert {"AARS1", "ADSS2"} <= set(graph.genes)
    assert not {"AARS", "ADSS"} & set(graph.genes)
    assert {"AARS", "ADSS"} <= set(read_network(path).genes)


def test_gene_sets_are_no_network(shared):
    with pytest.raises(UnknownKnowledge, match="a file of gene sets"):
        read_network(shared / "data/networks/reactome.gmt")
