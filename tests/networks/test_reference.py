"""The reference networks are read with their directions and signs."""

import numpy as np
import pandas as pd
import pytest

from perturbcast.errors import MissingFile, UnknownKnowledge
from perturbcast.networks.reference import read_network, read_reference


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


def test_a_reference_says_where_it_comes_from_and_which_version(shared, tmp_path):
    reference = read_reference(shared / "data/networks/trrust_human.tsv")
    assert reference.directed
    assert reference.source == "trrust_human.tsv"
    assert reference.network.edges().set_index(["source", "target"]).loc[("AATF", "BAX"), "sign"] == -1
    assert not read_reference(shared / "data/networks/string_human.csv").directed
    (tmp_path / "own.tsv").write_text("source\ttarget\tweight\nSTAT1\tIRF1\t1\n")
    one = read_reference(tmp_path / "own.tsv").version
    assert len(one) == 12
    (tmp_path / "own.tsv").write_text("source\ttarget\tweight\nSTAT1\tIRF1\t2\n")
    assert read_reference(tmp_path / "own.tsv").version != one


def test_gene_sets_become_complexes_or_regulons(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text("STAT1 ENCODE\t\tIRF1\tJAK2\tGBP1\nMYC CHEA\t\tNCL\tIRF1\tJAK2\n")
    joined = read_reference(path)
    assert not joined.directed
    edges = set(map(tuple, joined.network.edges()[["source", "target"]].to_numpy()))
    assert ("GBP1", "IRF1") in edges
    assert ("IRF1", "GBP1") in edges
    assert ("NCL", "GBP1") not in edges
    regulons = read_reference(path, sets="regulator")
    assert regulons.directed
    edges = set(map(tuple, regulons.network.edges()[["source", "target"]].to_numpy()))
    assert edges == {
        ("STAT1", "IRF1"),
        ("STAT1", "JAK2"),
        ("STAT1", "GBP1"),
        ("MYC", "NCL"),
        ("MYC", "IRF1"),
        ("MYC", "JAK2"),
    }


def test_a_reference_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(MissingFile):
        read_reference(tmp_path / "absent.tsv")
