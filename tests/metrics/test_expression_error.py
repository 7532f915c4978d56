"""The unbiased expression error is 0 for the true profile, 1 for control, and does not see sampling noise."""

import numpy as np
import pytest
from cells_world import cells_world, evaluation_of, with_response
from scipy import sparse

from perturbcast.metrics.base import get_metric
from perturbcast.metrics.expression_error import (
    error_terms,
    jackknife_by_gene,
    log_pseudobulk,
    predicted_pseudobulk,
    unbiased_expression_error,
)


def score(evaluation, mask=None) -> np.ndarray:
    everything = np.ones(evaluation.truth.response.shape, dtype=bool)
    return get_metric("expression_error").score(evaluation, everything if mask is None else mask)


@pytest.fixture(scope="module")
def evaluation():
    return evaluation_of(cells_world(n_cells=150))


def test_jackknife_is_that_of_explicit_deletion_in_blocks():
    counts = np.random.default_rng(0).poisson(1.5, (300, 6)).astype(np.float32)
    deleted = np.array([log_pseudobulk(np.delete(counts, cell, 0).sum(axis=0).astype(float)) for cell in range(300)])
    assert np.allclose(jackknife_by_gene(sparse.csr_matrix(counts)), 299 * deleted.var(axis=0))


def test_jackknife_estimates_the_variance_of_the_pseudobulk():
    rng = np.random.default_rng(1)
    draws = [rng.poisson([2.0, 5.0, 9.0], (100, 3)) for _ in range(600)]
    real = np.var([log_pseudobulk(draw.sum(axis=0).astype(float)) for draw in draws], axis=0)
    guess = np.mean([jackknife_by_gene(sparse.csr_matrix(draw.astype(np.float32))) for draw in draws], axis=0)
    assert np.allclose(guess, real, rtol=0.2)


def test_one_cell_or_no_molecules_has_no_noise_that_can_be_known():
    assert jackknife_by_gene(sparse.csr_matrix(np.array([[1.0, 2.0]], dtype=np.float32))).tolist() == [0, 0]
    assert jackknife_by_gene(sparse.csr_matrix(np.zeros((3, 2), dtype=np.float32))).tolist() == [0, 0]


def test_an_independent_draw_of_the_same_profile_scores_zero_on_average():
    rng = np.random.default_rng(2)
    mean, terms = rng.gamma(1.0, 2.0, 40), []
    changed = mean * np.exp(rng.normal(0, 0.5, 40))
    for _ in range(300):
        sides = [sparse.csr_matrix(rng.poisson(m, (60, 40)).astype(np.float32)) for m in (changed, changed, mean)]
        logs = [log_pseudobulk(np.asarray(side.sum(axis=0), dtype=float).ravel()) for side in sides]
        noise = [float(jackknife_by_gene(side).sum()) for side in sides]
        corrected = error_terms(*logs, predicted_noise=noise[0], noise=noise[1], control_noise=noise[2])
        terms.append([*corrected, *error_terms(*logs, noise=0.0, control_noise=0.0)])
    error, effect, plain_error, plain_effect = np.array(terms).T
    left = unbiased_expression_error(error, effect)  # a little above 0: the smaller of two noises is taken off
    assert abs(left) < 0.025
    assert unbiased_expression_error(plain_error, plain_effect) > 4 * left


def test_control_scores_one_and_the_right_response_near_zero(evaluation):
    unchanged = with_response(evaluation, np.zeros_like(evaluation.truth.response))
    assert score(unchanged).mean() == pytest.approx(1.0, abs=0.1)
    assert abs(score(evaluation).mean()) < 0.15
    assert score(with_response(evaluation, -evaluation.truth.response)).mean() > 2


def test_no_response_gives_the_pseudobulk_of_control(evaluation):
    unchanged = with_response(evaluation, np.zeros_like(evaluation.truth.response))
    control = evaluation.screen.stored(np.flatnonzero(evaluation.screen.is_control))
    expected = log_pseudobulk(np.asarray(control.sum(axis=0), dtype=float).ravel())
    assert np.allclose(predicted_pseudobulk(unchanged, 0), expected)


def test_only_the_genes_of_the_mask_count(evaluation):
    mask = np.zeros(evaluation.truth.response.shape, dtype=bool)
    mask[:, 100:] = True
    broken = evaluation.truth.response.copy()
    broken[:, :3] += 0.7
    assert abs(score(with_response(evaluation, broken), mask).mean()) < 0.3
    assert score(with_response(evaluation, broken)).mean() > score(evaluation).mean() + 0.02


def test_effects_below_noise_leave_the_score_undefined():
    assert np.isnan(unbiased_expression_error(np.array([1.0]), np.array([-0.1])))
