"""Cells drawn from a mean prediction have the moments they should, on every way of drawing."""

from dataclasses import replace

import numpy as np
import pytest
from cells_world import cells_world, evaluation_of, with_response
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory
from perturbcast.errors import BadOption, MetricNeeds
from perturbcast.metrics.cells import (
    MOST_CELLS,
    WAYS,
    Cells,
    ControlCells,
    calibration_factor,
    cells_of,
    control_cells,
    coupled_cells,
    negative_binomial_cells,
    negative_binomial_dispersion,
    predicted_cells,
    predicted_linear,
    shift_cells,
)
from perturbcast.metrics.rank_sum import rank_sum, reference


@pytest.fixture(scope="module")
def world():
    return cells_world()


@pytest.fixture(scope="module")
def evaluation(world):
    return evaluation_of(world)


def dense(matrix) -> np.ndarray:
    return np.asarray(matrix.todense(), dtype=float)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 15), st.integers(0, 3))
def test_rank_sum_is_that_of_scipy_with_ties_zeros_and_silent_genes(seed, n, m, top):
    rng = np.random.default_rng(seed)
    group, control = rng.integers(0, top + 1, (n, 5)) * 0.5, rng.integers(0, top + 1, (m, 5)) * 0.5
    z, p = rank_sum(reference(sparse.csr_matrix(control)), sparse.csr_matrix(group))
    expected = stats.mannwhitneyu(group, control, axis=0, method="asymptotic")
    varies = np.ptp(np.vstack([group, control]), axis=0) > 0
    assert np.allclose(p[varies], expected.pvalue[varies], atol=1e-9)
    assert (p[~varies] == 1).all()
    assert (z[~varies] == 0).all()
    assert (np.sign(z) * np.sign(expected.statistic - n * m / 2) >= 0).all()


def test_no_response_keeps_the_mean_of_control(evaluation):
    control = control_cells(evaluation, "")
    unchanged = predicted_linear(control, np.zeros(len(control.linear)))
    assert np.allclose(unchanged, control.linear, rtol=1e-6)
    assert (coupled_cells(control.cells, control, unchanged, seed=0).counts != control.cells.counts).nnz <= 2


@pytest.mark.parametrize("way", WAYS)
def test_drawn_cells_follow_the_predicted_mean(evaluation, way):
    control = control_cells(evaluation, "")
    drawn = predicted_cells(evaluation, 0, n=2000, way=way)
    got = np.asarray(drawn.expression.mean(axis=0)).ravel() - control.expression
    wanted = evaluation.predicted.response[0]
    assert np.corrcoef(got, wanted)[0, 1] > 0.93
    assert np.sqrt(np.mean((got - wanted) ** 2)) < 0.5 * np.sqrt(np.mean(wanted**2))


def test_coupled_cells_have_the_mean_and_variance_of_the_negative_binomial():
    rng = np.random.default_rng(0)
    n, theta, base = 40_000, 2.0, np.array([3.0, 3.0, 0.5])
    counts = rng.poisson(rng.gamma(theta, base / theta, (n, 3)))
    cells = Cells(sparse.csr_matrix(counts.astype(np.float32)), np.ones(n))
    control = ControlCells(cells, np.log1p(counts).mean(axis=0), base, np.full(3, theta))
    wanted = np.array([1.2, 7.5, 2.0])
    drawn = dense(coupled_cells(cells, control, wanted, seed=1).counts)
    assert np.allclose(drawn.mean(axis=0), wanted, rtol=0.03)
    assert np.allclose(drawn.var(axis=0), wanted + wanted**2 / theta, rtol=0.06)


def test_coupled_cells_keep_the_correlation_of_genes_and_fresh_draws_do_not():
    rng = np.random.default_rng(1)
    n = 3000
    program = rng.gamma(2.0, 0.5, n)
    counts = rng.poisson(program[:, None] * np.array([8.0, 8.0]))
    cells = Cells(sparse.csr_matrix(counts.astype(np.float32)), np.ones(n))
    linear = counts.mean(axis=0)
    control = ControlCells(cells, np.log1p(counts).mean(axis=0), linear, negative_binomial_dispersion(cells))
    coupled = dense(coupled_cells(cells, control, linear * np.array([0.6, 1.5]), seed=0).counts)
    fresh = dense(negative_binomial_cells(linear, control.dispersion, unit=cells.unit, seed=0).counts)
    assert np.corrcoef(coupled.T)[0, 1] > 0.5
    assert abs(np.corrcoef(fresh.T)[0, 1]) < 0.1


def test_dispersion_is_found_at_uneven_depth():
    rng = np.random.default_rng(2)
    depth = rng.lognormal(8, 0.5, 20_000)
    counts = rng.poisson(rng.gamma(3.0, depth[:, None] * np.array([1e-3, 5e-3]) / 3.0))
    theta = negative_binomial_dispersion(Cells(sparse.csr_matrix(counts.astype(np.float32)), 1 / depth))
    assert np.allclose(theta, 3.0, rtol=0.15)


def test_shift_raises_genes_that_are_silent_in_control_and_keeps_depth():
    counts = sparse.csr_matrix(np.tile(np.array([[0.0, 4.0, 6.0]], dtype=np.float32), (4000, 1)))
    cells = Cells(counts, np.full(4000, 1e4 / 10))
    raised = shift_cells(cells, np.array([np.log1p(200.0), 0.0, 0.0]), seed=0)
    assert dense(raised.counts)[:, 0].mean() == pytest.approx(0.2, rel=0.15)  # 200 per 10,000 at depth 10
    assert np.allclose(dense(raised.counts)[:, 1:], [4.0, 6.0], atol=1.01)
    assert np.array_equal(raised.unit, cells.unit)


def test_shift_never_gives_less_than_nothing(evaluation):
    lowered = with_response(evaluation, np.full_like(evaluation.truth.response, -50.0))
    assert predicted_cells(lowered, 0, way="shift").counts.nnz == 0


def test_shift_misses_genes_that_go_down_in_sparse_cells_and_coupled_finds_them():
    sparse_world = evaluation_of(cells_world(depth_per_gene=0.5, n_genes=400, n_cells=120, seed=3))
    control = control_cells(sparse_world, "")
    against = reference(control.cells.expression)
    found = {}
    for way in ("coupled", "shift"):
        z = [rank_sum(against, predicted_cells(sparse_world, row, way=way).expression)[0] for row in range(6)]
        found[way] = (np.array(z) < -3).sum()
    assert found["shift"] < 0.7 * found["coupled"]


def test_draws_repeat_and_do_not_depend_on_the_other_queries(evaluation):
    again = with_response(evaluation, evaluation.predicted.response)
    alone = replace(
        again,
        truth=again.truth.take(np.array([2])),
        predicted=again.predicted.take([2]),
        de=None,
        cache={},
    )
    first = predicted_cells(evaluation, 2).counts
    assert (first != predicted_cells(again, 2).counts).nnz == 0
    assert (first != predicted_cells(alone, 0).counts).nnz == 0
    assert (first != predicted_cells(replace(again, seed=1, cache={}), 2).counts).nnz > 0


def test_as_many_cells_are_drawn_as_the_query_has_up_to_the_limit(world):
    evaluation = evaluation_of(world)
    many = replace(evaluation, truth=replace(evaluation.truth, n_cells=np.array([5, 5000, 80, 80, 80, 80])), cache={})
    assert predicted_cells(many, 0).counts.shape[0] == 5
    assert predicted_cells(many, 1).counts.shape[0] == MOST_CELLS
    assert predicted_cells(many, 1, n=700).counts.shape[0] == 700


def test_molecules_are_recovered_from_a_logarithm(world):
    screen = world.screen()
    logged = replace(screen, matrix=InMemory(screen.expression(np.arange(50))), scale=Scale.LOG1P_CP10K, library=None)
    cells = cells_of(replace(logged, row=np.arange(50)), np.arange(50))
    assert (cells.counts != world.counts[:50]).nnz == 0
    assert np.allclose(cells.unit, 1e4 / screen.library[:50], rtol=1e-4)


def test_cells_without_molecules_and_data_without_cells_give_a_reason(evaluation):
    standardised = replace(evaluation, screen=replace(evaluation.screen, scale=Scale.ZSCORE), cache={})
    for broken in (standardised, replace(evaluation, screen=None, cache={})):
        with pytest.raises(MetricNeeds):
            predicted_cells(broken, 0)
    with pytest.raises(BadOption, match="coupled"):
        predicted_cells(evaluation, 0, way="other")


def test_calibration_finds_the_factor_that_makes_sets_equal_in_size():
    assert calibration_factor(lambda c: np.array([c / 2.5, c / 2.5, np.nan])) == pytest.approx(2.5, rel=0.02)
    assert calibration_factor(lambda c: np.array([c * 100])) == 0.25
    assert calibration_factor(lambda c: np.array([c / 100])) == 8.0
