"""The linear model, embedding and ridge, and nearest neighbours: oracles D1 and D6, ties, choices, refusals."""

import numpy as np
import pytest
from model_worlds import featured, mean_l2, table_of
from scipy import sparse

from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Support
from perturbcast.errors import NeedsKnowledge
from perturbcast.genes.knowledge import EmbeddingTable, GeneGraph, GeneKnowledge
from perturbcast.models.base import TrainingData
from perturbcast.models.embeddings_of_targets import leading_axes, spectral_embedding
from perturbcast.models.linear import double_ridge, training_components
from perturbcast.models.nearest import left_out, nearest_rows
from perturbcast.models.registry import get_model

GENE = np.array([[1.0, 0], [0, 1], [1, 1], [2, 0]])
TARGET = np.array([[1.0, 0, 2, 0], [0, 1, 1, 0]])  # the last column is control
RESPONSE = np.array([[1.0, 2, 3, 0], [0, 1, 1, 0], [1, 3, 4, 0], [2, 4, 6, 0]])


@pytest.fixture(scope="module")
def world():
    return featured()


def test_double_ridge_agrees_with_oracle_d1():
    centre = RESPONSE.mean(axis=1, keepdims=True)
    weights = double_ridge(GENE, RESPONSE - centre, TARGET, ridge=0.1)
    np.testing.assert_allclose(weights, [[0.181778, 0.766357], [-0.132690, 0.586030]], atol=1e-6)
    found = GENE @ weights @ np.ones(2) + centre[:, 0]
    np.testing.assert_allclose(found, [2.448134, 0.953340, 3.401475, 4.896269], atol=1e-6)


def test_linear_model_with_given_tables_agrees_with_oracle_d1():
    genes = [f"G{number}" for number in range(4)]
    tables = {
        "by_gene": EmbeddingTable("by_gene", np.array(genes, dtype=object), GENE.astype(np.float32)),
        "by_target": EmbeddingTable(
            "by_target", np.array(["A", "B", "C"], dtype=object), TARGET.T[:3].astype(np.float32)
        ),
    }
    training = TrainingData(table_of(RESPONSE.T[:3], ["A", "B", "C"]), knowledge=GeneKnowledge(embeddings=tables))
    model = get_model("linear", gene_embedding="by_gene", perturbation_embedding="by_target")
    found = model.fit(training).predict(["A+B"]).response[0]
    np.testing.assert_allclose(found, [2.448134, 0.953340, 3.401475, 4.896269], atol=1e-6)


def test_spectral_embedding_agrees_with_oracle_d6():
    weights = sparse.csr_matrix(np.array([[0.0, 2, 0], [2, 0, 1], [0, 1, 0]]))
    graph = GeneGraph("path", np.array(["A", "B", "C"], dtype=object), weights)
    rows = spectral_embedding(graph, width=2).matrix
    np.testing.assert_allclose((rows**2).sum(axis=1), [1.788854, 2.236068, 0.447214], atol=1e-6)


def test_spectral_embedding_of_a_large_graph_agrees_with_the_dense_one():
    rng = np.random.default_rng(0)
    weights = sparse.random(260, 260, density=0.05, random_state=rng)
    weights = sparse.csr_matrix(weights + weights.T)
    graph = GeneGraph("random", np.array([f"A{n}" for n in range(260)], dtype=object), weights)
    found = spectral_embedding(graph, width=4).matrix
    values, vectors = np.linalg.eigh(weights.maximum(weights.T).toarray())
    leading = np.argsort(-np.abs(values))[:4]
    np.testing.assert_allclose(found @ found.T, (vectors[:, leading] * np.abs(values[leading])) @ vectors[:, leading].T)


def test_components_of_training_are_those_of_centred_conditions():
    rng = np.random.default_rng(0)
    table = table_of(rng.normal(size=(8, 30)), [f"T{n}" for n in range(8)], control=rng.normal(size=(1, 30)))
    rows = training_components(table, width=3).matrix
    means = np.vstack([table.expression, table.control]).T
    means = means - means.mean(axis=0)
    left, size, _ = np.linalg.svd(means, full_matrices=False)
    np.testing.assert_allclose(np.abs(rows), np.abs(left[:, :3] * size[:3]))


def test_linear_model_of_the_paper_refuses_a_target_that_is_not_measured():
    table = table_of(np.eye(6), [f"G{number}" for number in range(6)])
    found = get_model("linear:paper").fit(TrainingData(table)).predict(["UNMEASURED", "G0+UNMEASURED", "G0"])
    assert [reason[:4] for reason in found.reason] == ["E503", "E503", ""]


def test_linear_model_gives_the_mean_with_control_for_a_target_without_embedding():
    table = table_of(np.eye(6) * 7, [f"G{number}" for number in range(6)])
    found = get_model("linear").fit(TrainingData(table)).predict(["UNMEASURED"])
    np.testing.assert_allclose(found.response[0], 1.0)
    assert found.support == (Support.MEAN,)


@pytest.mark.parametrize("name", ["linear", "embedding-ridge"])
def test_telling_table_beats_the_mean_by_far(name, world):
    training, test = world
    fields = {"perturbation_embedding": "telling", "gene_embedding": "training"} if name == "linear" else {}
    fitted = get_model(name, **fields).fit(training)
    assert mean_l2(fitted, test) < 0.6 * mean_l2(get_model("mean").fit(training), test)


def test_embedding_ridge_chooses_the_telling_table(world):
    assert get_model("embedding-ridge").fit(world[0]).chosen.name == "telling:cosine"


def test_embedding_that_is_not_there_is_refused_with_the_nearest_name(world):
    for model in (get_model("linear", perturbation_embedding="teling"), get_model("embedding-ridge", table="teling")):
        with pytest.raises(NeedsKnowledge, match="Nearest: 'telling"):
            model.fit(world[0])


def test_all_tables_side_by_side_can_be_asked_for(world):
    fitted = get_model("embedding-ridge", table="all tables").fit(world[0])
    assert fitted.chosen.rows([Query("T0")]).shape[1] == 3 + 5 + 8  # telling, useless, co-expression
    assert mean_l2(fitted, world[1]) < 0.8 * mean_l2(get_model("mean").fit(world[0]), world[1])


def test_leading_axes_of_a_sparse_matrix_are_its_singular_directions():
    matrix = sparse.random(80, 50, density=0.2, random_state=np.random.default_rng(0), format="csr")
    matrix = matrix @ sparse.diags_array(0.8 ** np.arange(50))
    rows = leading_axes(sparse.csr_matrix(matrix), width=5)
    left, size, _ = np.linalg.svd(matrix.toarray(), full_matrices=False)
    np.testing.assert_allclose(rows @ rows.T, (left[:, :5] * size[:5] ** 2) @ left[:, :5].T, atol=1e-4)


def test_all_that_tie_for_the_last_place_are_neighbours():
    likeness = np.array([0.9, 0.5, 0.2, 0.5, 0.0, -0.3])
    assert nearest_rows(likeness, k=1).tolist() == [0]
    assert nearest_rows(likeness, k=2).tolist() == [0, 1, 3]
    assert nearest_rows(likeness, k=20).tolist() == [0, 1, 2, 3]
    assert nearest_rows(np.zeros(3), k=2).tolist() == []


def test_left_out_error_of_neighbours_agrees_with_refits():
    rng = np.random.default_rng(0)
    features, response = rng.normal(size=(9, 2)), rng.normal(size=(9, 5))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    likeness = features @ features.T
    deviation = response - response.mean(axis=0)
    expected = []
    for row in range(9):
        others = np.delete(np.arange(9), row)
        mean = response[others].mean(axis=0)
        chosen = others[nearest_rows(likeness[row, others], k=2)]
        near = (response[chosen] - mean).mean(axis=0) if len(chosen) else 0.0
        expected.append(np.linalg.norm(response[row] - mean - 0.5 * near))
    (found,) = left_out(likeness, deviation, k=2, shares=(0.5,))
    np.testing.assert_allclose(found, np.mean(expected))


def test_nearest_neighbours_beat_the_mean_where_features_tell(world):
    training, test = world
    assert mean_l2(get_model("nearest").fit(training), test) < 0.9 * mean_l2(get_model("mean").fit(training), test)


def test_share_zero_is_the_mean(world):
    training, test = world
    fitted = get_model("nearest", share="0").fit(training)
    np.testing.assert_allclose(mean_l2(fitted, test), mean_l2(get_model("mean").fit(training), test))


def test_seen_target_is_its_own_nearest_neighbour(world):
    training, _ = world
    found = get_model("nearest").fit(training).predict(["T3", "T3+T4"])
    table = training.responses.response
    np.testing.assert_allclose(found.response, [table[3], table[3] + table[4]])
    assert found.support == (Support.SEEN, Support.SINGLES)
