"""Leave-one-out in closed form: oracle D7, refits by brute force, and the exact derivative."""

import numpy as np
import pytest

from perturbcast.models.leave_one_out import LeaveOneOut, best_weights, inverse_of_positive, projected_precision


def problem(*, seed=5, n_queries=9, n_kernels=3, n_effects=1):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_kernels, n_queries, 3))
    kernels = factors @ factors.transpose(0, 2, 1)
    effects = np.column_stack([np.ones(n_queries), rng.integers(0, 2, n_queries)])[:, :n_effects]
    return rng.normal(size=(n_queries, 4)), kernels, effects.astype(float)


def test_left_out_residuals_agree_with_oracle_d7():
    rng = np.random.default_rng(5)
    features, response, ridge = rng.normal(size=(6, 3)), rng.normal(size=(6, 4)), 0.3
    kernel = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))
    task = LeaveOneOut(response @ response.T, kernel[None], np.zeros((6, 0)))
    hat = kernel @ np.linalg.inv(kernel + ridge * np.eye(6))
    expected = (response - hat @ response) / (1 - np.diag(hat))[:, None]
    np.testing.assert_allclose(task.residual(np.array([1 / ridge])), np.linalg.norm(expected, axis=1))


@pytest.mark.parametrize("n_effects", [0, 1, 2])
def test_left_out_residuals_agree_with_refits_under_unequal_noise_and_unknown_mean(n_effects):
    response, kernels, effects = problem(n_effects=n_effects)
    noise = np.diag(np.linspace(0.2, 3.0, len(response)))
    kernels = np.concatenate([kernels, noise[None]])
    weights = np.array([0.5, 1.2, 0.3, 0.7])
    found = LeaveOneOut(response @ response.T, kernels, effects).residual(weights)
    covariance = np.tensordot(weights[:3], kernels[:3], 1)
    full = covariance + 0.7 * noise + np.eye(len(response))
    for left in range(len(response)):
        rest = np.arange(len(response)) != left
        inverse = np.linalg.inv(full[np.ix_(rest, rest)])
        level = np.zeros((n_effects, 4))
        if n_effects:
            inside = effects[rest]
            level = np.linalg.solve(inside.T @ inverse @ inside, inside.T @ inverse @ response[rest])
        around = response[rest] - effects[rest] @ level
        predicted = effects[left] @ level + covariance[left, rest] @ inverse @ around
        np.testing.assert_allclose(found[left], np.linalg.norm(response[left] - predicted))


def test_derivative_agrees_with_finite_differences():
    response, kernels, effects = problem()
    task = LeaveOneOut(response @ response.T, kernels, effects)
    at = np.log([0.4, 1.1, 0.2])
    _, slope = task.slope(at)
    step = 1e-6
    for kernel in range(3):
        move = step * np.eye(3)[kernel]
        numeric = (task.slope(at + move)[0] - task.slope(at - move)[0]) / (2 * step)
        np.testing.assert_allclose(slope[kernel], numeric, rtol=1e-5)


def test_value_of_the_slope_is_the_mean_residual():
    response, kernels, effects = problem()
    task = LeaveOneOut(response @ response.T, kernels, effects)
    weights = np.array([0.4, 1.1, 0.2])
    np.testing.assert_allclose(task.slope(np.log(weights))[0], task.residual(weights).mean())


def test_kernel_that_made_the_responses_gets_the_weight():
    rng = np.random.default_rng(0)
    true, noise = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    response = true @ rng.normal(size=(3, 50)) + 0.2 * rng.normal(size=(40, 50))
    kernels = np.stack([noise @ noise.T, true @ true.T])
    weights = best_weights(LeaveOneOut(response @ response.T, kernels, np.ones((40, 1))))
    assert weights[1] > 50 * weights[0]


def test_no_kernels_have_no_weights():
    assert len(best_weights(LeaveOneOut(np.eye(4), np.zeros((0, 4, 4)), np.ones((4, 1))))) == 0


def test_precision_is_blind_to_the_fixed_effects():
    _, kernels, effects = problem(n_effects=2)
    _, precision = projected_precision(kernels.sum(axis=0), effects)
    np.testing.assert_allclose(precision @ effects, 0, atol=1e-10)


def test_inverse_by_cholesky_is_the_inverse():
    _, kernels, _ = problem()
    matrix = kernels[0] + np.eye(9)
    np.testing.assert_allclose(inverse_of_positive(matrix) @ matrix, np.eye(9), atol=1e-10)
