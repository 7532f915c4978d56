"""Distances between distributions of cells: identities, tests with known answers, and the small screen."""

from dataclasses import replace

import numpy as np
import pytest
from cells_world import cells_world, evaluation_of, with_response
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from perturbcast.errors import MetricNeeds
from perturbcast.metrics.base import get_metric
from perturbcast.metrics.distribution import (
    coordinates,
    energy_distance,
    energy_test,
    fit_projection,
    gammas_of,
    holm,
    mmd_squared,
    training_projection,
)

NAMES = ("edistance", "edistance_squared", "edistance_squared_unbiased", "mmd", "mmd_unbiased", "energy_truth_pca")


@pytest.fixture(scope="module")
def evaluation():
    return evaluation_of(cells_world(n_queries=10, n_genes=120))


def score(evaluation, name) -> np.ndarray:
    return get_metric(name).score(evaluation, np.ones(evaluation.truth.response.shape, dtype=bool))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(2, 9))
def test_squared_energy_distance_sees_only_centroids(seed, n, m):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 3)), rng.normal(1, 2, size=(m, 3))
    centroids = 2 * ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    assert np.isclose(energy_distance(x, y, squared=True), centroids)
    spread = 2 * (x.var(axis=0, ddof=1).sum() / n + y.var(axis=0, ddof=1).sum() / m)
    assert np.isclose(energy_distance(x, y, squared=True, unbiased=True), centroids - spread)


def test_euclidean_energy_distance_sees_a_difference_in_spread_alone():
    rng = np.random.default_rng(0)
    narrow, wide = rng.normal(0, 1, (300, 4)), rng.normal(0, 3, (300, 4))
    same = energy_distance(narrow, rng.normal(0, 1, (300, 4)))
    assert energy_distance(narrow, wide) > 20 * same


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_group_is_at_no_distance_from_itself(seed):
    x = np.random.default_rng(seed).normal(size=(7, 3))
    assert abs(energy_distance(x, x)) < 1e-12
    assert abs(mmd_squared(x, x)) < 1e-12


def test_mmd_is_symmetric_with_fixed_bandwidths_and_unbiased_over_draws():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(30, 2))
    assert mmd_squared(x, y, gammas=[0.5]) == pytest.approx(mmd_squared(y, x, gammas=[0.5]))
    draws = [mmd_squared(*rng.normal(size=(2, 15, 2)), gammas=[0.5], unbiased=True) for _ in range(400)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / 20
    assert np.mean([mmd_squared(*rng.normal(size=(2, 15, 2)), gammas=[0.5]) for _ in range(50)]) > 0.02


def test_bandwidths_follow_the_reference_and_survive_identical_cells():
    reference = np.array([[0.0], [2.0]])
    assert gammas_of(reference) == pytest.approx([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
    assert mmd_squared(reference, np.zeros((3, 1))) > 0


def test_unbiased_forms_of_one_cell_are_undefined():
    one, two = np.zeros((1, 2)), np.zeros((2, 2))
    assert np.isnan(energy_distance(one, two, unbiased=True))
    assert np.isnan(mmd_squared(two, one, unbiased=True))


def test_energy_test_is_uniform_without_effect_and_small_with_one():
    rng = np.random.default_rng(2)
    null = np.array([energy_test(*rng.normal(size=(2, 12, 3)), n_permutations=99, seed=i) for i in range(200)])
    assert 0.4 < null.mean() < 0.6
    assert (null <= 0.05).mean() < 0.11
    assert energy_test(rng.normal(size=(12, 3)), rng.normal(2, 1, size=(12, 3)), n_permutations=99) == 0.01


def test_holm_is_that_of_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.array([0.01, 0.04, 0.03, 0.005, 0.9])
    assert np.allclose(holm(p), multipletests(p, method="holm")[1])


def test_components_are_those_of_an_exact_decomposition():
    from sklearn.decomposition import PCA

    cells = sparse.random(40, 30, density=0.4, random_state=0, format="csr", dtype=np.float32)
    ours = fit_projection(cells, n_components=5)
    exact = PCA(5, svd_solver="full").fit(cells.toarray())
    assert np.allclose(np.abs((ours.components * exact.components_.T).sum(axis=0)), 1, atol=1e-5)
    coordinates_of = ours(cells, np.ones(30, dtype=bool))
    assert np.allclose(np.abs(coordinates_of), np.abs(exact.transform(cells.toarray())), atol=1e-4)


def test_components_do_not_see_the_cells_that_are_scored(evaluation):
    screen = evaluation.screen
    altered = screen.matrix.matrix.toarray()
    for query in evaluation.truth.queries:
        altered[screen.cells_of(query)] = 0
    altered = sparse.csr_matrix(altered)
    blind = replace(evaluation, screen=replace(screen, matrix=type(screen.matrix)(altered)), cache={})
    assert np.array_equal(training_projection(blind).components, training_projection(evaluation).components)


def test_both_sides_have_as_many_cells(evaluation):
    pairs = coordinates(evaluation, np.ones(evaluation.truth.response.shape, dtype=bool))
    assert all(guess.shape == real.shape == (80, 50) for guess, real in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_the_right_mean_is_nearer_than_control_and_than_another_query(evaluation, name):
    right = score(evaluation, name).mean()
    for wrong in (np.zeros_like(evaluation.truth.response), np.roll(evaluation.truth.response, 1, axis=0)):
        assert right < 0.7 * score(with_response(evaluation, wrong), name).mean()


def test_effect_sizes_correlate_for_the_right_mean_and_not_for_one_mean_for_all(evaluation):
    strength = np.linspace(0.1, 2, evaluation.truth.n_queries)[:, None]
    scaled = evaluation_of(cells_world(n_queries=10, n_genes=120))
    assert score(evaluation, "edistance_correlation")[0] > 0.5
    backwards = with_response(scaled, scaled.truth.response * (2.1 - strength) * strength[::-1])
    assert score(backwards, "edistance_correlation")[0] < score(evaluation, "edistance_correlation")[0]


def test_a_mask_restricts_the_distance_to_its_genes(evaluation):
    mask = np.zeros(evaluation.truth.response.shape, dtype=bool)
    mask[:, 60:] = True
    broken = evaluation.truth.response.copy()
    broken[:, :60] += 3.0
    metric = get_metric("edistance_squared")
    inside = metric.score(with_response(evaluation, broken), mask).mean()
    assert inside < 2 * metric.score(evaluation, mask).mean()
    assert score(with_response(evaluation, broken), "edistance_squared").mean() > 5 * inside


def test_responses_without_cells_give_a_reason(evaluation):
    with pytest.raises(MetricNeeds):
        score(replace(evaluation, screen=None, cache={}), "edistance")
