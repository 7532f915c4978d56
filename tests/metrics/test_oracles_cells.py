"""The specification's oracles of these modules: C5, D4, D8, F5, F6, F9 and F12 to F15."""

import numpy as np
import pytest
from scipy import sparse

from perturbcast.metrics.cells import Cells, ControlCells, coupled_cells, negative_binomial_cells
from perturbcast.metrics.de_metrics import (
    direction_fidelity,
    log_fold_error,
    precision_reach,
    set_jaccard,
    significance_overlap,
)
from perturbcast.metrics.distribution import energy_distance, mmd_squared
from perturbcast.metrics.expression_error import jackknife_variance
from perturbcast.metrics.interactions import interaction_fit, interaction_labels

X = np.array([[0.0, 0], [2, 0], [1, 3]])
Y = np.array([[1.0, 1], [3, 3]])


def test_c5_magnitude_and_dominance_of_an_exact_combination():
    a, b = np.array([1.0, 0, 2]), np.array([0.0, 1, 1])
    fit = interaction_fit(a, b, 1.5 * a + 0.5 * b)
    assert (fit.first, fit.second) == pytest.approx((1.5, 0.5))
    assert fit.magnitude == pytest.approx(np.sqrt(2.5))
    assert fit.dominance == pytest.approx(np.log10(3))
    assert fit.fit == pytest.approx(1.0)


def test_d4_labels():
    rows = np.array([[1.2, 1.4, 1.3], [2.0, 1.4, 1.3], [1.6, 1.4, 1.3], [0.6, 0.9, 1.2], [0.2, 0.8, 0.7]]) - 1.0
    labels = interaction_labels(rows[:, 1], rows[:, 2], rows[:, 0], lower=-0.205, upper=0.195)
    assert labels.tolist() == ["buffering", "synergy", "additive", "other", "synergy"]


def test_d8_moments_of_the_negative_binomial():
    n, mean, theta = 400_000, 3.0, 2.0
    drawn = negative_binomial_cells(np.array([mean]), np.array([theta]), unit=np.ones(n), seed=11).counts.toarray()
    assert drawn.mean() == pytest.approx(3, abs=0.03)
    assert drawn.var() == pytest.approx(3 + 9 / 2, abs=0.15)
    cells = Cells(sparse.csr_matrix(drawn.astype(np.float32)), np.ones(n))
    control = ControlCells(cells, np.log1p(drawn).mean(axis=0), np.array([mean]), np.array([theta]))
    more = coupled_cells(cells, control, np.array([6.0]), seed=1).counts.toarray()
    assert more.mean() == pytest.approx(6, abs=0.05)
    assert more.var() == pytest.approx(6 + 36 / 2, rel=0.03)


def test_f5_energy_distances():
    assert energy_distance(X, Y, squared=True) == pytest.approx(4.0)
    assert energy_distance(X, Y, squared=True) == pytest.approx(2 * ((X.mean(0) - Y.mean(0)) ** 2).sum())
    assert energy_distance(X, Y, squared=True, unbiased=True) == pytest.approx(-2.666667, abs=1e-6)
    assert energy_distance(X, Y) == pytest.approx(1.480334, abs=1e-6)


def test_f6_maximum_mean_discrepancy():
    assert mmd_squared(X, Y, gammas=[0.1]) == pytest.approx(0.200033, abs=1e-6)
    assert mmd_squared(X, Y, gammas=[0.1], unbiased=True) == pytest.approx(-0.252405, abs=1e-6)


def test_f9_differential_expression_score():
    names = np.array(["x", "a", "b", "c"], dtype=object)
    called, significant = np.ones(4, dtype=bool), names != "x"
    assert significance_overlap(called, significant, np.array([5.0, -4, 3, 1]), names=names) == pytest.approx(2 / 3)


def test_f12_jackknife():
    cells = sparse.csr_matrix(np.array([[3.0, 1, 0], [2, 2, 1], [5, 0, 1]], dtype=np.float32))
    assert jackknife_variance(cells, total=50.0) == pytest.approx(0.534755, abs=1e-6)
    assert jackknife_variance(cells[:1], total=50.0) == 0.0


def test_f13_direction_fidelity():
    called, significant = np.arange(8) < 4, np.arange(8) < 5
    predicted, observed = np.array([1.0, 1, 1, -1, 0, 0, 0, 0]), np.ones(8)
    assert direction_fidelity(called, significant, predicted, observed) == pytest.approx(0.6)


def test_f14_direction_reach():
    assert precision_reach(np.array([0] + [1] * 9, dtype=bool)) == 1.0
    assert precision_reach(np.array([1, 1, 1, 0, 1, 1], dtype=bool)) == 0.5


def test_f15_jaccard_of_nothing_and_fold_change_error():
    nothing, gate, observed = np.zeros(3, dtype=bool), np.ones(3, dtype=bool), np.array([1.0, -2.0, 0.5])
    assert set_jaccard(nothing, nothing) == 1.0
    assert log_fold_error(np.zeros(3), observed, gate=gate, least=1) == pytest.approx(1.0)
    assert log_fold_error(np.array([0.5, -1.5, 0.0]), observed, gate=gate, least=1) == pytest.approx(0.428571, abs=1e-6)
