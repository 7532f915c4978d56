"""Jaccard and co-expression graphs with a number of edges per gene, unions, and what is kept on disk."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from perturbcast.errors import BadOption, UnknownFormat
from perturbcast.genes.graph_files import fingerprint, write_edges
from perturbcast.genes.graphs import coexpression_graph, gene_sets_of, graph_of_edges, jaccard_top_graph, union_graph
from perturbcast.genes.load import load_knowledge

GENES = [f"G{number}" for number in range(8)]
SETS = st.lists(st.lists(st.sampled_from(GENES), min_size=1, max_size=6), min_size=1, max_size=10)
RUNS = settings(max_examples=40, deadline=None)


def plain_top(similar, *, k, least):
    """Weights (source, destination) by loops: per destination itself and the k most similar others, above `least`."""
    n_genes = len(similar)
    weights = np.zeros_like(similar)
    for target in range(n_genes):
        others = sorted((n for n in range(n_genes) if n != target), key=lambda n: (-similar[n, target], n))[:k]
        for source in [target, *others]:
            weights[source, target] = similar[source, target] if similar[source, target] > least else 0.0
    return weights


def test_the_oracle_of_gears_go_graph():
    """Oracle C2: sets {1, 2, 3}, {2, 3, 4} and {9} of a, b and c give J(a, b) = 1/2 and J(a, c) = 0."""
    of_gene = {"a": {1, 2, 3}, "b": {2, 3, 4}, "c": {9}}
    sets = [(str(term), [gene for gene, terms in of_gene.items() if term in terms]) for term in (1, 2, 3, 4, 9)]
    graph = jaccard_top_graph(gene_sets_of("go", sets), ["a", "b", "c"])
    np.testing.assert_allclose(graph.weights.toarray(), [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]], atol=1e-15)


@RUNS
@given(SETS, st.integers(1, 4), st.sampled_from([0.0, 0.1, 0.5]))
def test_a_jaccard_graph_keeps_itself_and_the_most_similar(drawn, k, least):
    sets = gene_sets_of("x", [(str(number), genes) for number, genes in enumerate(drawn)])
    own = [{number for number, genes in enumerate(drawn) if gene in genes} for gene in GENES]
    similar = np.zeros((len(GENES), len(GENES)))
    for (i, a), (j, b) in itertools.product(enumerate(own), repeat=2):
        similar[i, j] = len(a & b) / len(a | b) if a | b else 0.0
    graph = jaccard_top_graph(sets, GENES, k=k, least=least)
    assert graph.directed
    np.testing.assert_allclose(graph.weights.toarray(), plain_top(similar, k=k, least=least), atol=1e-12)


@RUNS
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([0.0, 0.4]), st.booleans())
def test_a_coexpression_graph_is_cut_absolute_correlation(seed, k, least, as_sparse):
    rng = np.random.default_rng(seed)
    profiles = rng.normal(size=(12, 7)) @ rng.normal(size=(7, 7)) * 3 + 100 * as_sparse
    profiles[:, 3] = 2.5
    with np.errstate(invalid="ignore"):
        similar = np.nan_to_num(np.abs(np.corrcoef(profiles.T)))
    given_as = sparse.csr_matrix(profiles) if as_sparse else profiles
    graph = coexpression_graph(given_as, GENES[:7], k=k, least=least)
    np.testing.assert_allclose(graph.weights.toarray(), plain_top(similar, k=k, least=least), atol=1e-5)
    assert graph.weights[[3]].nnz == graph.weights[:, [3]].nnz == 0


def test_blocks_of_genes_and_cells_do_not_change_a_graph(monkeypatch):
    profiles = np.random.default_rng(0).gamma(1.0, size=(50, 8))
    sets = gene_sets_of("x", [("A", GENES[:5]), ("B", GENES[3:]), ("C", GENES[::2])])
    whole = coexpression_graph(profiles, GENES, k=2).weights.toarray(), jaccard_top_graph(sets, GENES, k=2).weights
    monkeypatch.setattr("perturbcast.genes.graphs.BLOCK", 3)
    monkeypatch.setattr("perturbcast.genes.graphs.ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(coexpression_graph(profiles, GENES, k=2).weights.toarray(), whole[0], atol=1e-6)
    np.testing.assert_array_equal(jaccard_top_graph(sets, GENES, k=2).weights.toarray(), whole[1].toarray())


def test_correlation_does_not_depend_on_the_level_of_expression():
    profiles = np.random.default_rng(0).normal(size=(60, 5))
    near = coexpression_graph(profiles, GENES[:5], least=0.0).weights.toarray()
    far = coexpression_graph(profiles + 1e4, GENES[:5], least=0.0).weights.toarray()
    np.testing.assert_allclose(far, near, atol=1e-5)


def test_genes_without_a_set_are_nodes_without_edges():
    sets = gene_sets_of("x", [("A", ["G1", "G2"])])
    graph = jaccard_top_graph(sets, ["G2", "lone", "G1", "G2"])
    assert list(graph.genes) == ["G2", "lone", "G1"]
    assert graph.weights.toarray().tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]


def test_a_union_keeps_the_largest_scaled_weight():
    first = graph_of_edges("a", ["A", "B"], ["B", "C"], weights=np.array([500.0, 1000.0]))
    second = graph_of_edges("b", ["B", "D"], ["A", "B"], weights=np.array([0.2, 0.4]))
    both = union_graph([first, second])
    assert list(both.genes) == ["A", "B", "C", "D"]
    assert both.weights.toarray().tolist() == [[0, 0.5, 0, 0], [0.5, 0, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]
    assert union_graph([first, second], scaled=False).weights.max() == 1000
    assert not both.directed
    with pytest.raises(BadOption):
        union_graph([])


def test_a_kept_graph_is_used_again_only_for_the_same_input(tmp_path, monkeypatch):
    profiles = np.random.default_rng(0).normal(size=(9, 4))
    cache = tmp_path / "graphs"
    first = coexpression_graph(profiles, GENES[:4], least=0.0, cache=cache)
    monkeypatch.setattr("perturbcast.genes.graphs._similar_to_each", lambda *args, **kwargs: 1 / 0)
    again = coexpression_graph(profiles, GENES[:4], least=0.0, cache=cache)
    np.testing.assert_array_equal(again.weights.toarray(), first.weights.toarray())
    for changed in ({"k": 3}, {"least": 0.1}, {"profiles": profiles * 2}, {"genes": GENES[1:5]}):
        with pytest.raises(ZeroDivisionError):
            coexpression_graph(**{"profiles": profiles, "genes": GENES[:4], "least": 0.0, "cache": cache} | changed)


def test_a_damaged_kept_graph_is_made_again(tmp_path):
    sets = gene_sets_of("x", [("A", ["G1", "G2"])])
    whole = jaccard_top_graph(sets, ["G1", "G2"], cache=tmp_path).weights.toarray()
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:40])
    np.testing.assert_array_equal(jaccard_top_graph(sets, ["G1", "G2"], cache=tmp_path).weights.toarray(), whole)
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]


def test_fingerprints_tell_contents_apart():
    matrix = sparse.csr_matrix(np.array([[0.0, 1.0], [2.0, 0.0]]))
    prints = {
        fingerprint("a", 1.0),
        fingerprint("a", 1.5),
        fingerprint("b", 1.0),
        fingerprint(matrix),
        fingerprint(matrix.T.tocsr()),
        fingerprint(matrix.toarray()),
        fingerprint(np.array(["A", "BC"], dtype=object)),
        fingerprint(np.array(["AB", "C"], dtype=object)),
    }
    assert len(prints) == 8
    assert fingerprint(matrix) == fingerprint(matrix.copy())


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_written_edges_are_read_as_the_same_graph(tmp_path, ending):
    rng = np.random.default_rng(0)
    ends = rng.choice([f"GENE{number}" for number in range(20)], (2, 60))
    for directed, signs in ((True, rng.choice([-1.0, 1.0], 60)), (False, None)):
        graph = graph_of_edges("x", *ends, weights=rng.random(60) + 0.1, signs=signs, directed=directed)
        write_edges(graph, tmp_path / f"edges{ending}")
        (read,) = load_knowledge([tmp_path / f"edges{ending}"]).graphs.values()
        assert read.directed == directed
        assert list(read.genes) == list(graph.genes)
        np.testing.assert_allclose(read.weights.toarray(), graph.weights.toarray())
        if signs is not None:
            np.testing.assert_array_equal(read.signs.toarray(), graph.signs.toarray())


def test_an_edge_file_of_another_ending_is_refused(tmp_path):
    with pytest.raises(UnknownFormat):
        write_edges(graph_of_edges("x", ["A"], ["B"]), tmp_path / "edges.xlsx")


@pytest.mark.parametrize("cut", [{"k": 0}, {"least": 1.0}, {"least": -0.1}])
def test_cuts_without_sense_are_refused(cut):
    with pytest.raises(BadOption):
        coexpression_graph(np.eye(3), GENES[:3], **cut)
    with pytest.raises(BadOption):
        jaccard_top_graph(gene_sets_of("x", [("A", ["G1"])]), GENES, **cut)


def test_profiles_must_have_a_column_for_each_gene():
    with pytest.raises(BadOption):
        coexpression_graph(np.eye(3), ["A", "B"])
