"""Response statistics: against numpy on the dense matrix, invariances, halves, errors, memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_screens import from_counts, make_screen

from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.scale import Scale
from perturbcast.data.statistics import random_halves, response_table
from perturbcast.errors import EmptyScreen, NoControl, TooFewCells, UnknownOption

SINGLES = ("A", "B", "C", "A+B")


@pytest.fixture(scope="module")
def screen():
    return make_screen(SINGLES, contexts=("K562", "RPE1"))


def test_means_and_variances_are_those_of_the_dense_matrix(screen):
    table = response_table(screen, block=37)
    dense = screen.expression(np.arange(screen.n_cells)).toarray().astype(np.float64)
    for row, query in enumerate(table.queries):
        cells = dense[screen.cells_of(query)]
        control = dense[screen.cells_of(Query(CONTROL, query.context))]
        np.testing.assert_allclose(table.response[row], cells.mean(axis=0) - control.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(table.variance[row], cells.var(axis=0, ddof=1), atol=1e-12)
        np.testing.assert_allclose(table.expression[row], cells.mean(axis=0), atol=1e-12)
        assert table.n_cells[row] == len(cells)
    assert table.scale is Scale.LOG1P_CP10K
    assert table.unit == "ln"


def test_control_statistics_are_per_context(screen):
    table = response_table(screen)
    dense = screen.expression(np.arange(screen.n_cells)).toarray().astype(np.float64)
    for row, context in enumerate(table.contexts):
        cells = dense[screen.cells_of(Query(CONTROL, context))]
        np.testing.assert_allclose(table.control[row], cells.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(table.control_variance[row], cells.var(axis=0, ddof=1), atol=1e-12)
        assert table.n_control[row] == len(cells)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 500))
def test_order_of_cells_and_block_size_change_no_mean(seed, block):
    screen = make_screen(SINGLES, n_per_query=6, n_control=9, n_genes=7)
    shuffled = screen.take(np.random.default_rng(seed).permutation(screen.n_cells))
    first, second = response_table(screen), response_table(shuffled, block=block)
    assert first.queries == second.queries
    np.testing.assert_allclose(first.response, second.response, atol=1e-12)
    np.testing.assert_allclose(first.variance, second.variance, atol=1e-10)


def test_the_two_halves_average_to_the_whole_when_halves_are_even(screen):
    table = response_table(screen)
    np.testing.assert_allclose(table.response_halves.mean(axis=0), table.response, atol=1e-12)


def test_halves_share_no_cell_control_included():
    screen = make_screen(("A",), n_per_query=8, n_control=8, n_genes=12)
    before = response_table(screen).response_halves
    counts = screen.matrix.matrix.toarray()
    half = random_halves(screen.query_code, seed=0)
    for side in (0, 1):
        changed = counts.copy()
        changed[half == side] += np.arange(12)
        after = response_table(
            from_counts(changed, conditions=screen.conditions, condition_code=screen.condition_code)
        ).response_halves
        np.testing.assert_array_equal(after[1 - side], before[1 - side])
        assert not np.allclose(after[side], before[side])


def test_noise_of_the_two_halves_is_independent_when_control_is_scarce():
    """With shared control the halves of a null condition would correlate at about one half (spec F-29)."""
    rng = np.random.default_rng(1)
    counts = rng.poisson(3.0, size=(40, 3000)).astype(np.float32)
    code = np.repeat(np.array([0, 1], dtype=np.int32), 20)
    halves = response_table(from_counts(counts, conditions=("A", CONTROL), condition_code=code)).response_halves[:, 0]
    assert abs(np.corrcoef(halves)[0, 1]) < 0.08


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 99))
def test_halves_are_balanced_within_every_group(group, seed):
    group = np.array(group)
    half = random_halves(group, seed=seed)
    for code in np.unique(group):
        n_first, n_second = np.bincount(half[group == code], minlength=2)
        assert 0 <= n_first - n_second <= 1
    np.testing.assert_array_equal(half, random_halves(group, seed=seed))


def test_another_seed_deals_other_halves_but_the_same_means(screen):
    first, second = response_table(screen, seed=0), response_table(screen, seed=1)
    np.testing.assert_array_equal(first.response, second.response)
    assert not np.allclose(first.response_halves, second.response_halves)


def test_a_query_of_one_cell_has_no_variance_and_one_half():
    screen = make_screen(("A", "B"), n_per_query=1)
    table = response_table(screen)
    assert np.isnan(table.variance).all()
    assert np.isfinite(table.response_halves[0]).all()
    assert np.isnan(table.response_halves[1]).all()


def test_a_constant_gene_has_variance_exactly_zero():
    values = np.full((30, 5), 0.1, dtype=np.float32)
    code = np.repeat(np.array([0, 1], dtype=np.int32), 15)
    screen = from_counts(values, conditions=("A", CONTROL), condition_code=code, scale=Scale.LOG1P_CP10K)
    table = response_table(screen)
    assert (table.variance == 0).all()
    assert (table.control_variance == 0).all()


def test_chosen_queries_have_the_same_response_as_in_the_whole_table(screen):
    whole = response_table(screen)
    some = response_table(screen, queries=[Query("B", "RPE1"), Query("A", "RPE1")])
    assert some.queries == (Query("A", "RPE1"), Query("B", "RPE1"))
    assert some.contexts == ("RPE1",)
    np.testing.assert_allclose(some.response, whole.response[whole.index(list(some.queries))], atol=1e-12)


def test_a_view_without_some_conditions_has_no_row_for_them(screen):
    keep = np.isin(screen.condition_code, [screen.conditions.index(name) for name in ("A", CONTROL)])
    table = response_table(screen.take(keep))
    assert {query.condition for query in table.queries} == {"A"}


def test_small_queries_are_left_out_on_request():
    screen = make_screen(("A", "B"), n_per_query=10)
    fewer = screen.take(np.setdiff1d(np.arange(screen.n_cells), screen.cells_of(Query("B"))[:6]))
    assert response_table(fewer, min_cells=5).conditions == ("A",)
    with pytest.raises(TooFewCells):
        response_table(fewer, min_cells=11)


def test_a_context_without_control_is_a_coded_error(screen):
    orphan = screen.take(~(screen.is_control & (screen.context_code == 1)))
    with pytest.raises(NoControl, match="RPE1"):
        response_table(orphan)


def test_an_unknown_query_is_refused_with_the_nearest(screen):
    with pytest.raises(UnknownOption, match="A in K562"):
        response_table(screen, queries=[Query("A", "K563")])


def test_a_view_without_cells_is_refused(screen):
    with pytest.raises(EmptyScreen):
        response_table(screen.take(np.zeros(0, dtype=np.int64)))


def test_memory_does_not_grow_with_the_number_of_cells():
    screen = make_screen(("A", "B"), n_per_query=4000, n_control=4000, n_genes=60, effect=0.1)
    tracemalloc.start()
    response_table(screen, block=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    dense = screen.n_cells * screen.n_genes * 8
    assert peak < dense / 3


def test_every_scale_but_counts_is_averaged_as_stored():
    values = np.array([[1.0, 0.0], [3.0, 2.0], [1.0, 1.0], [1.0, 1.0]], dtype=np.float32)
    code = np.array([0, 0, 1, 1], dtype=np.int32)
    screen = from_counts(values, conditions=("A", CONTROL), condition_code=code, scale=Scale.ZSCORE)
    table = response_table(screen)
    np.testing.assert_allclose(table.response, [[1.0, 0.0]])
    assert table.unit == "sd"
