"""Views of genes: kernels against direct computation, positive semi-definiteness, unknown genes, round trips."""

import numpy as np
import pytest
from model_worlds import table_of
from scipy import sparse
from scipy.linalg import expm

from perturbcast.data.conditions import Query
from perturbcast.genes.knowledge import EmbeddingTable, GeneGraph, GeneKnowledge, GeneSets
from perturbcast.models import gene_views
from perturbcast.models.condition_kernels import ConditionKernel, Conditions, gene_kernel
from perturbcast.models.gene_views import GeneView, diffused, largest_per_row, normalised, restored_view
from perturbcast.models.knowledge_views import principal_axes, response_view, views_of

GENES = np.array([f"A{number}" for number in range(12)], dtype=object)
MEMBERSHIP = sparse.csr_matrix((np.random.default_rng(0).random((12, 20)) < 0.3).astype(np.float32))


def some_knowledge() -> GeneKnowledge:
    rng = np.random.default_rng(1)
    edges = sparse.csr_matrix(np.triu(rng.random((12, 12)) < 0.3, 1).astype(float))
    return GeneKnowledge(
        embeddings={"table": EmbeddingTable("table", GENES, rng.normal(size=(12, 5)).astype(np.float32))},
        graphs={"edges": GeneGraph("edges", GENES, edges, directed=True), "links": GeneGraph("links", GENES, edges)},
        gene_sets={"sets": GeneSets("sets", GENES, tuple(f"S{n}" for n in range(20)), MEMBERSHIP)},
        texts={str(gene): f"kinase number{place % 3} of pathway{place % 4}" for place, gene in enumerate(GENES)},
        sequences={str(gene): "".join(rng.choice(list("ACGTN"), 60)) for gene in GENES},
    )


VIEWS = views_of(some_knowledge())


def test_jaccard_kernel_is_the_jaccard_index():
    view = GeneView("sets", GENES, MEMBERSHIP, form="jaccard")
    found = gene_kernel(view, list(GENES[:4]), list(GENES))
    dense = MEMBERSHIP.toarray() > 0
    for first in range(4):
        for second in range(12):
            union = (dense[first] | dense[second]).sum()
            assert found[first, second] == pytest.approx((dense[first] & dense[second]).sum() / union)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_kernel_is_symmetric_positive_semidefinite_and_one_for_a_known_gene_with_itself(view):
    kernel = gene_kernel(view, list(GENES), list(GENES))
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-6)
    assert np.linalg.eigvalsh(kernel).min() > -1e-5
    known = view.knows(GENES)
    np.testing.assert_allclose(np.diag(kernel)[known], 1.0, atol=1e-5)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_gene_that_is_not_known_is_unlike_all(view):
    assert not gene_kernel(view, ["NOBODY"], list(GENES)).any()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_view_comes_back_from_its_arrays(view):
    again = restored_view(view.state())
    assert (again.name, again.form, again.heat) == (view.name, view.form, view.heat)
    np.testing.assert_array_equal(
        gene_kernel(again, list(GENES), list(GENES)), gene_kernel(view, list(GENES), list(GENES))
    )


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_rows_do_not_depend_on_what_is_asked_beside_them(view):
    whole = gene_kernel(view, list(GENES), list(GENES))
    np.testing.assert_allclose(gene_kernel(view, [GENES[3]], list(GENES))[0], whole[3], atol=1e-6)


def test_diffusion_is_the_heat_kernel_of_the_normalised_laplacian():
    adjacency = normalised(some_knowledge().graphs["edges"].weights)
    exact = expm(-0.5 * (np.eye(12) - adjacency.toarray()))
    np.testing.assert_allclose(diffused(adjacency, np.arange(12), time=0.5).toarray(), exact, atol=1e-4)


def test_diffusion_keeps_only_the_largest_entries(monkeypatch):
    monkeypatch.setattr(gene_views, "HEAT_KEPT", 3)
    adjacency = normalised(some_knowledge().graphs["edges"].weights)
    assert np.diff(diffused(adjacency, np.arange(12), time=1.0).indptr).max() == 3


def test_largest_entries_of_each_row_are_kept():
    matrix = sparse.csr_matrix(np.array([[1.0, 5, 3, 0], [0, 0, 2, 0], [4, 1, 2, 3]]))
    np.testing.assert_array_equal(largest_per_row(matrix, keep=2).toarray(), [[0, 5, 3, 0], [0, 0, 2, 0], [4, 0, 0, 3]])


@pytest.mark.parametrize(("n_bases", "read"), [(160, True), (60, False), (6000, False)])
def test_sites_that_promoters_share_make_genes_alike_but_not_in_core_promoters(n_bases, read):
    rng = np.random.default_rng(0)
    sequences = {f"G{number}": "".join(rng.choice(list("ACGT"), n_bases)) for number in range(40)}
    for number in range(0, 40, 4):
        sequences[f"G{number}"] = "GATTACAGCC" + sequences[f"G{number}"][10:]
    views = {view.name: view for view in views_of(GeneKnowledge(sequences=sequences))}
    assert list(views) == ["sequence:sites" if read else "sequence:words"]
    if read:
        sites = views["sequence:sites"]
        rows = sites.rows(["G0", "G4", "G1"])
        assert np.allclose(sites.kernel(rows, rows)[0], [1, 1, 0], atol=0.2)


def test_promoters_without_a_shared_site_and_other_sequences_are_read_in_words_of_four():
    rng = np.random.default_rng(0)
    sequences = {f"G{number}": "".join(rng.choice(list("ACGT"), 160)) for number in range(20)}
    assert [view.name for view in views_of(GeneKnowledge(sequences=sequences))] == ["sequence:words"]
    shared = {gene: "GATTACAGCC" + dna for gene, dna in list(sequences.items())[:5]}
    mixed = {**sequences, **shared, "short": "ACGT" * 10, "shorter": "CCGA" * 10}
    views = {view.name: view for view in views_of(GeneKnowledge(sequences=mixed))}
    assert list(views["sequence:sites"].genes) == sorted(shared)
    assert list(views["sequence:words"].genes) == ["short", "shorter"]


def test_rare_sets_count_more_than_common_ones():
    membership = sparse.csr_matrix(np.array([[1.0, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 0]]))
    sets = GeneSets("sets", GENES[:4], ("common", "rare", "own"), membership)
    (shared, _) = views_of(GeneKnowledge(gene_sets={"sets": sets}))
    kernel = gene_kernel(shared, list(GENES[:4]), list(GENES[:4]))
    assert kernel[0, 1] > kernel[0, 2]


def test_wide_tables_keep_their_distances_in_principal_axes():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(20, 4)) @ rng.normal(size=(4, 50))
    reduced = principal_axes(matrix, most=6)
    assert reduced.shape == (20, 6)
    np.testing.assert_allclose(reduced @ reduced.T, matrix @ matrix.T, atol=1e-8)


def test_coexpressed_genes_are_alike():
    rng = np.random.default_rng(0)
    response = rng.normal(size=(40, 6))
    response[:, 1] = response[:, 0] + 0.05 * rng.normal(size=40)
    (view,) = response_view(table_of(response, [f"T{n}" for n in range(40)]))
    kernel = gene_kernel(view, ["G0"], ["G1", "G2"])[0]
    assert kernel[0] > 0.99
    assert abs(kernel[1]) < 0.6


def test_kernel_of_conditions_sums_over_pairs_of_targets():
    kernel = ConditionKernel(VIEWS[0])
    left, right = Conditions.of([Query("A0+A1")]), Conditions.of([Query("A2+A3"), Query("A2")])
    single = gene_kernel(VIEWS[0], ["A0", "A1"], ["A2", "A3"])
    found = left.between([kernel], np.array([2.0]), right)[0]
    np.testing.assert_allclose(found, [2 * single.sum(), 2 * single[:, 0].sum()])


def test_local_kernel_does_not_reach_across_contexts():
    queries = [Query("A0", "K562"), Query("A0", "RPE1")]
    conditions = Conditions.of(queries)
    found = conditions.between([ConditionKernel(None, local=True)], np.ones(1), conditions)
    np.testing.assert_array_equal(found, np.eye(2))


def test_diffused_rows_are_the_same_whatever_was_asked_before():
    asked = [list(GENES[2:8]), list(GENES[4:6]), list(GENES[:3]), ["A9"], ["A10"], ["A11"], list(GENES[3:7])]
    warm = next(view for view in views_of(some_knowledge()) if view.heat)
    for targets in asked:
        cold = next(view for view in views_of(some_knowledge()) if view.heat)
        assert (warm.rows(targets) != cold.rows(targets)).nnz == 0
    assert len(warm._remembered) == gene_views.REMEMBERED


def test_fits_on_the_same_knowledge_share_what_is_derived_of_it():
    knowledge = some_knowledge()
    first, again = knowledge.derived(views_of), knowledge.derived(views_of)
    assert first is again
    assert [view.name for view in first] == [view.name for view in VIEWS]
