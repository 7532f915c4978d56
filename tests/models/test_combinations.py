"""Additive, scaled and low-rank combinations: planted truths, identities and what an answer rests on."""

import numpy as np
import pytest
from model_worlds import combined, mean_l2, table_of

from perturbcast.data.conditions import Query, is_double
from perturbcast.data.prediction import Support
from perturbcast.models.base import TrainingData
from perturbcast.models.kappa_additive import kappa
from perturbcast.models.registry import get_model


@pytest.mark.parametrize("name", ["kappa-additive", "kappa-additive:global", "kappa-additive:per-gene"])
def test_planted_kappa_is_found_exactly(name):
    training, test = combined(kappa=0.7)
    assert mean_l2(get_model(name).fit(training), test) < 1e-8


def test_planted_offset_is_found_by_the_residual_mean_and_not_without():
    training, test = combined(kappa=1.0, offset=0.5)
    assert mean_l2(get_model("additive:residual-mean").fit(training), test) < 1e-8
    np.testing.assert_allclose(mean_l2(get_model("additive").fit(training), test), 0.5 * np.sqrt(30))


def test_global_kappa_is_the_least_squares_slope_through_zero():
    rng = np.random.default_rng(0)
    total, observed = rng.normal(size=(9, 20)), rng.normal(size=(9, 20))
    slope, offset = kappa(total, observed, per_gene=False, residual=False, shrinkage=None)
    np.testing.assert_allclose(slope, np.linalg.lstsq(total.reshape(-1, 1), observed.ravel())[0][0])
    assert not offset.any()


def test_per_gene_kappa_without_shrinkage_is_an_ordinary_regression_per_gene():
    rng = np.random.default_rng(1)
    total = rng.normal(size=(9, 20))
    observed = 0.6 * total + rng.normal(size=(9, 20)) * 0.1
    slope, offset = kappa(total, observed, per_gene=True, residual=True, shrinkage=0.0)
    for gene in range(20):
        np.testing.assert_allclose([slope[gene], offset[gene]], np.polyfit(total[:, gene], observed[:, gene], 1))


def test_per_gene_kappa_under_strong_shrinkage_is_the_global_one():
    rng = np.random.default_rng(2)
    total, observed = rng.normal(size=(9, 20)), rng.normal(size=(9, 20))
    shrunk, _ = kappa(total, observed, per_gene=True, residual=False, shrinkage=1e9)
    common, _ = kappa(total, observed, per_gene=False, residual=False, shrinkage=None)
    np.testing.assert_allclose(shrunk, common, rtol=1e-6)


def test_kappa_is_one_without_training_doubles():
    table = table_of([[1.0, 2], [3, 4]], ["A", "B"])
    np.testing.assert_allclose(get_model("kappa-additive").fit(TrainingData(table)).predict(["A+B"]).response, [[4, 6]])


def test_low_rank_interaction_beats_scaling_where_there_is_one_and_is_left_out_where_there_is_none():
    rng = np.random.default_rng(3)
    training, test = combined(kappa=0.7, n_targets=10, n_genes=60, noise=0.05)
    read, write = rng.normal(size=(2, 60)) / np.sqrt(60)

    def bent(table):
        doubles = np.array([is_double(query.condition) for query in table.queries])
        response = table.response.copy()
        response[doubles] += 3.0 * np.outer(response[doubles] @ read, write)
        return table_of(response, table.conditions)

    interacting = TrainingData(bent(training.responses))
    scaled = mean_l2(get_model("kappa-additive").fit(interacting), bent(test))
    assert mean_l2(get_model("lowrank-additive").fit(interacting), bent(test)) < 0.9 * scaled
    plain = get_model("lowrank-additive").fit(training)
    np.testing.assert_allclose(
        mean_l2(plain, test), mean_l2(get_model("kappa-additive").fit(training), test), rtol=0.05
    )


@pytest.mark.parametrize("name", ["additive", "kappa-additive", "lowrank-additive"])
def test_seen_single_is_answered_with_its_observed_response(name):
    training, _ = combined()
    found = get_model(name).fit(training).predict(["T03"])
    np.testing.assert_array_equal(found.response[0], training.responses.response[3])
    assert found.support == (Support.SEEN,)


def test_support_says_how_much_of_a_combination_was_seen():
    training, test = combined()
    found = get_model("additive").fit(training).predict([test.queries[0], Query("T00+Z"), Query("Y+Z"), Query("Z")])
    assert found.support == (Support.SINGLES, Support.PARTIAL, Support.MEAN, Support.MEAN)


def test_mean_single_response_stands_in_for_an_unseen_target():
    found = get_model("additive").fit(TrainingData(table_of([[1.0], [3.0]], ["A", "B"]))).predict(["A+Z"])
    np.testing.assert_allclose(found.response, [[1.0 + 2.0]])


def test_strict_additive_refuses_an_unseen_target_and_names_it():
    found = get_model("additive:strict").fit(TrainingData(table_of([[1.0], [3.0]], ["AB", "B"]))).predict(["ABC+B"])
    assert found.reason[0].startswith("E503 CannotPredict: no single perturbation of 'ABC'")
    assert "Nearest: 'AB'" in found.reason[0]


def test_single_seen_in_another_context_only_is_used_there():
    table = table_of([[1.0], [3], [10], [20]], ["A", "B"], contexts=("K562", "RPE1")).take(np.array([0, 1, 3]))
    found = get_model("additive").fit(TrainingData(table)).predict([Query("A+B", "RPE1")])
    np.testing.assert_allclose(found.response, [[21.0]])
    assert found.support == (Support.CONTEXT,)


def test_sd_of_doubles_covers_the_noise_that_was_planted():
    training, test = combined(noise=0.3, n_genes=400)
    found = get_model("kappa-additive").fit(training).predict(test.queries)
    inside = np.abs(found.response - test.response) < 1.96 * found.sd
    assert 0.85 < inside.mean() < 0.98
