"""Matching of perturbed cells with controls: oracle O21, identities, and rows in any order (B4)."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from perturbcast.data import matching
from perturbcast.data.matching import match_controls, matched, transport_plan
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.errors import UnknownTarget


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def published_plan(cells, controls):
    return transport_plan(np.abs(cells - controls.T) / 100, regularisation=1.0)


def test_o21_published_plan_is_nearly_uniform():
    plan = published_plan(column(0, 1), column(0, 1))
    near = 0.5 / (1 + np.exp(-0.01))
    np.testing.assert_allclose(plan, [[near, 0.5 - near], [0.5 - near, near]], atol=1e-9)
    assert near == pytest.approx(0.25125, abs=1e-5)
    assert matched(column(0, 1), column(0, 1), method="published").tolist() == [0, 1]


def test_o21_published_plan_of_three_cells():
    cells, controls = column(0, 0.1, 9), column(0, 10)
    expected = [[0.17171773, 0.16161561], [0.17155121, 0.16178213], [0.15673107, 0.17660227]]
    np.testing.assert_allclose(published_plan(cells, controls), expected, atol=1e-7)
    assert matched(cells, controls, method="published").tolist() == [0, 0, 1]


@pytest.mark.parametrize("method", ["transport", "hungarian"])
def test_a_shuffled_copy_finds_itself(method):
    values = np.random.default_rng(0).normal(size=(30, 5))
    order = np.random.default_rng(1).permutation(30)
    assert matched(values[order], values, method=method).tolist() == order.tolist()


@pytest.mark.parametrize("method", ["transport", "hungarian", "published"])
@pytest.mark.parametrize(("n_cells", "n_controls"), [(12, 31), (31, 12), (20, 20)])
def test_matches_do_not_depend_on_the_order_of_either_side(method, n_cells, n_controls):
    rng = np.random.default_rng(2)
    cells, controls = rng.normal(size=(n_cells, 4)), rng.normal(size=(n_controls, 4))
    found = controls[matched(cells, controls, method=method)]
    rows, columns = rng.permutation(n_cells), rng.permutation(n_controls)
    again = controls[columns][matched(cells[rows], controls[columns], method=method)]
    np.testing.assert_array_equal(again, found[rows])


def test_hungarian_leaves_no_cell_without_a_control_and_uses_each_as_often_as_needed():
    rng = np.random.default_rng(3)
    found = matched(rng.normal(size=(25, 3)), rng.normal(size=(10, 3)), method="hungarian")
    counts = np.bincount(found, minlength=10)
    assert counts.sum() == 25
    assert counts.max() == 3


def test_transport_is_of_least_cost():
    rng = np.random.default_rng(4)
    cells, controls = rng.normal(size=(60, 3)) + 1.0, rng.normal(size=(60, 3))
    cost = np.linalg.norm(cells[:, None] - controls, axis=2)
    found = [
        cost[np.arange(60), matched(cells, controls, method=method)].mean() for method in ("transport", "hungarian")
    ]
    assert found[0] == pytest.approx(found[1])
    entropic = transport_plan(cost, regularisation=matching.RELATIVE * np.median(cost))
    np.testing.assert_allclose(entropic.sum(axis=0), 1 / 60, atol=1e-4)
    assert found[0] <= (entropic * cost).sum() < 1.1 * found[0] < 0.9 * cost.mean()


def test_many_cells_are_matched_alike_whatever_the_unit(monkeypatch):
    rng = np.random.default_rng(4)
    cells, controls = rng.normal(size=(60, 3)) + 1.0, rng.normal(size=(60, 3))
    exact = matched(cells, controls)
    monkeypatch.setattr(matching, "EXACT", 10)
    entropic = matched(cells, controls)
    assert (entropic != exact).any()
    np.testing.assert_array_equal(matched(1000 * cells, 1000 * controls), entropic)


def screen_of(counts, code, context):
    return Screen(
        name="m",
        matrix=InMemory(sparse.csr_matrix(counts.astype(np.float32))),
        scale=Scale.COUNTS,
        genes=np.array([f"G{number}" for number in range(counts.shape[1])], dtype=object),
        conditions=("A", "B", "ctrl"),
        contexts=("x", "y"),
        condition_code=code.astype(np.int32),
        context_code=context.astype(np.int32),
        row=np.arange(len(code), dtype=np.int64),
    )


@pytest.fixture(scope="module")
def screen():
    rng = np.random.default_rng(5)
    return screen_of(rng.poisson(4.0, size=(80, 6)), rng.integers(0, 3, 80), rng.integers(0, 2, 80))


@pytest.mark.parametrize("method", ["transport", "hungarian", "published", "group"])
def test_shuffled_rows_have_the_same_differences(screen, method):
    """What B4 breaks: matches are written back in another order than that of the cells."""
    order = np.random.default_rng(6).permutation(80)
    cells = np.arange(80)
    whole = match_controls(screen, method=method).differences(cells)
    shuffled = match_controls(screen.take(order), method=method).differences(cells)
    np.testing.assert_allclose(shuffled, whole[order], atol=1e-6)
    assert np.abs(whole).max() > 0.1


@pytest.mark.parametrize("method", ["transport", "hungarian", "published"])
def test_controls_are_controls_of_the_same_context(screen, method):
    found = match_controls(screen, method=method)
    assert screen.is_control[found.control].all()
    np.testing.assert_array_equal(screen.context_code[found.control], screen.context_code)
    own = np.flatnonzero(screen.is_control)
    np.testing.assert_array_equal(found.control[own], own)
    assert np.abs(found.differences(own)).max() == 0.0


def test_group_differences_average_to_the_difference_of_means(screen):
    found = match_controls(screen, method="group", genes=["G4", "G1"])
    cells = np.flatnonzero((screen.condition_code == 0) & (screen.context_code == 1))
    control = np.flatnonzero(screen.is_control & (screen.context_code == 1))
    expression = screen.expression(np.arange(80)).toarray()[:, [4, 1]]
    expected = expression[cells].mean(axis=0) - expression[control].mean(axis=0)
    np.testing.assert_allclose(found.differences(cells).mean(axis=0), expected, atol=1e-5)


def test_genes_that_are_not_measured_are_named(screen):
    with pytest.raises(UnknownTarget, match="'G9'"):
        match_controls(screen, genes=["G1", "G9"])


def test_pool_of_controls_is_the_same_in_any_order_of_rows(screen, monkeypatch):
    monkeypatch.setattr(matching, "MOST_CONTROLS", 7)
    order = np.random.default_rng(8).permutation(80)
    whole = match_controls(screen, seed=3).differences(np.arange(80))
    shuffled = match_controls(screen.take(order), seed=3).differences(np.arange(80))
    np.testing.assert_allclose(shuffled, whole[order], atol=1e-6)


def test_transport_neither_imports_torch_nor_leaves_the_environment_changed():
    code = (
        "import os, sys; before = dict(os.environ); import numpy as np;"
        "from perturbcast.data.matching import matched;"
        "matched(np.ones((3, 2)), np.eye(2));"
        "assert 'ot' in sys.modules and 'torch' not in sys.modules, 'torch';"
        "assert dict(os.environ) == before, 'environment'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
