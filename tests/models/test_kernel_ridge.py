"""Multi-kernel ridge: planted structure, additivity, posterior variance, the own gene of a target, and size."""

import dataclasses

import numpy as np
import pytest
from model_worlds import featured, mean_l2, table_of

from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Support
from perturbcast.errors import NotEnoughTraining
from perturbcast.models.artefact import load
from perturbcast.models.base import TrainingData
from perturbcast.models.registry import get_model


@pytest.fixture(scope="module")
def world():
    return featured()


@pytest.fixture(scope="module")
def fitted(world):
    return get_model("kernel-ridge").fit(world[0])


def test_unseen_targets_with_telling_features_are_predicted_far_better_than_by_the_mean(world, fitted):
    training, test = world
    assert mean_l2(fitted, test) < 0.5 * mean_l2(get_model("mean").fit(training), test)


def test_the_telling_table_gets_the_weight(fitted):
    weights = fitted.kernel_weights
    telling = sum(weight for name, weight in weights.items() if name.startswith("telling"))
    assert telling > 0.95 * sum(weights.values())


def test_only_views_asked_for_are_used(world):
    weights = get_model("kernel-ridge", views="useless").fit(world[0]).kernel_weights
    assert weights
    assert all(name.startswith("useless") for name in weights)


def test_answers_to_doubles_add_up_over_their_targets(fitted, world):
    first, second = world[1].conditions[:2]
    found = fitted.predict([first, second, f"{first}+{second}"]).response
    np.testing.assert_allclose(found[2], found[0] + found[1])


def test_target_without_any_knowledge_gets_the_level_of_all_and_says_so(fitted, world):
    found = fitted.predict(["NOBODY"])
    assert found.support == (Support.MEAN,)
    np.testing.assert_allclose(found.response[0], world[0].responses.perturbed_mean(), atol=0.5)


def test_sd_is_larger_for_unseen_than_for_seen_targets(world):
    training, test = world
    fitted = get_model("kernel-ridge", views="telling:rbf").fit(training)
    sd = fitted.predict([*test.queries, *training.responses.queries]).sd.mean(axis=1)
    assert sd[: test.n_queries].mean() > 1.02 * sd[test.n_queries :].mean()


def test_sd_covers_unseen_targets():
    training, test = featured(n_train=60, n_test=40, noise=0.4)
    found = get_model("kernel-ridge").fit(training).predict(test.queries)
    inside = np.abs(found.response - test.response) < 1.96 * found.sd
    assert abs(inside.mean() - 0.95) < 0.06


def test_posterior_variance_agrees_with_the_dense_formula(world):
    training, test = world
    fitted = get_model("kernel-ridge", views="telling:rbf").fit(training)
    (weight,) = fitted.kernel_weights.values()
    table = training.knowledge.embeddings["telling"].matrix.astype(float)
    unit = table - table.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    kernel = weight * np.exp((unit @ unit.T - 1) / 0.5)
    n_train = training.responses.n_queries
    inverse = np.linalg.inv(kernel[:n_train, :n_train] + np.eye(n_train))
    across, ones = kernel[n_train:, :n_train], np.ones(n_train)
    variance = weight - np.einsum("ij,jk,ik->i", across, inverse, across)
    variance += (1 - across @ inverse @ ones) ** 2 / (ones @ inverse @ ones) + 1
    found = fitted.predict(test.queries).sd
    np.testing.assert_allclose(found[:, 0] / found[0, 0], np.sqrt(variance / variance[0]), rtol=1e-3)


def test_own_gene_of_an_unseen_target_gets_the_mean_on_target_effect():
    rng = np.random.default_rng(0)
    targets = [f"G{number}" for number in range(30)]
    response = 0.1 * rng.normal(size=(20, 30))
    response[np.arange(20), np.arange(20)] -= 2.0
    training = TrainingData(table_of(response, targets[:20]))
    found = get_model("kernel-ridge").fit(training).predict(["G25"]).response[0]
    assert -2.3 < found[25] < -1.6
    assert np.abs(np.delete(found, 25)).max() < 0.3
    plain = get_model("kernel-ridge", on_target="no").fit(training).predict(["G25"]).response[0]
    assert abs(plain[25]) < 0.5


def test_conditions_of_few_cells_count_less_where_noise_follows_cells():
    rng = np.random.default_rng(1)
    n_cells = np.where(rng.random(60) < 0.5, 5, 500)
    training, test = featured(n_train=60, noise=0.1, seed=1, n_cells=n_cells)
    table = training.responses
    response = table.response + rng.normal(size=table.response.shape) * (8 / np.sqrt(n_cells))[:, None]
    noisy = dataclasses.replace(training, responses=dataclasses.replace(table, response=response))
    weighted = get_model("kernel-ridge", views="telling:cosine").fit(noisy)
    equal = get_model("kernel-ridge", views="telling:cosine", noise_by_cells=False).fit(noisy)
    assert weighted.kernel_weights["cells"] > 0.5
    assert mean_l2(weighted, test) < 0.9 * mean_l2(equal, test)


def test_search_on_part_of_the_queries_does_nearly_as_well_as_on_all(world):
    training, test = featured(n_train=80)
    whole = mean_l2(get_model("kernel-ridge").fit(training), test)
    assert mean_l2(get_model("kernel-ridge", search_limit=40).fit(training), test) < 1.1 * whole


def test_responses_of_the_same_target_in_another_context_help():
    rng = np.random.default_rng(2)
    effect = rng.normal(size=(24, 30))
    response = np.vstack([effect, 0.9 * effect]) + 0.1 * rng.normal(size=(48, 30))
    targets = [f"T{number}" for number in range(24)]
    table = table_of(response, targets, contexts=("K562", "RPE1"))
    test = table.take(np.arange(44, 48))
    fitted = get_model("kernel-ridge").fit(TrainingData(table.take(np.arange(44))))
    assert mean_l2(fitted, test) < 0.6 * mean_l2(get_model("mean").fit(TrainingData(table.take(np.arange(44)))), test)
    assert fitted.predict(test.queries).support == (Support.CONTEXT,) * 4


def test_saved_model_answers_for_genes_that_were_never_asked_before_it_was_saved(world, tmp_path):
    training, test = world
    folder = get_model("kernel-ridge").fit(training).save(tmp_path / "model")
    assert mean_l2(load(folder), test) < 0.5 * mean_l2(get_model("mean").fit(training), test)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1e6


def test_large_requests_are_answered_in_blocks_with_the_same_numbers(fitted):
    queries = [Query(f"T{first}+T{second}") for first in range(45) for second in range(first + 1, 45)] * 2
    assert len(queries) > 1024
    found = fitted.predict(queries).response
    np.testing.assert_allclose(found[1500], fitted.predict([queries[1500]]).response[0], atol=1e-9)


def test_three_training_conditions_are_too_few(world):
    table = world[0].responses.take(np.arange(3))
    with pytest.raises(NotEnoughTraining, match="needs 4"):
        get_model("kernel-ridge").fit(TrainingData(table))


def test_combination_alone_among_singles_can_be_fitted_though_it_cannot_be_left_out(world):
    training, test = world
    table = training.responses
    pair = Query("+".join(sorted(table.conditions[:2])))
    both = dataclasses.replace(
        table, queries=(*table.queries, pair), response=np.vstack([table.response, table.response[:2].sum(axis=0)])
    )
    fitted = get_model("kernel-ridge").fit(dataclasses.replace(training, responses=both))
    found = fitted.predict(test.queries)
    assert np.isfinite(found.sd).all()
    assert mean_l2(fitted, test) < 0.5 * mean_l2(get_model("mean").fit(training), test)
