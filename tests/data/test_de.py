"""Rank-sum tests against scipy, fold changes, BH; lists of differential genes and their tie rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import false_discovery_control, mannwhitneyu, ttest_ind_from_stats
from small_screens import from_counts, make_screen

from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.de import differential_expression, rank_sum
from perturbcast.data.de_genes import (
    gears_top_genes,
    gene_order,
    mid_ranks,
    non_dropout_genes,
    non_zero_genes,
    t_scores,
    top_genes,
)
from perturbcast.data.scale import Scale
from perturbcast.data.statistics import response_table
from perturbcast.errors import BadOption, MetricNeeds, NoControl, UnknownOption


@pytest.fixture(scope="module")
def screen():
    return make_screen(("A", "B", "A+B"), contexts=("K562", "RPE1"), n_genes=30)


@pytest.fixture(scope="module")
def result(screen):
    return differential_expression(screen, max_entries=500)


def test_p_values_are_those_of_scipy_with_ties_and_continuity(screen, result):
    dense = screen.expression(np.arange(screen.n_cells)).toarray()
    for row, query in enumerate(result.queries):
        cells, control = dense[screen.cells_of(query)], dense[screen.cells_of(Query(CONTROL, query.context))]
        expected = mannwhitneyu(cells.astype(float), control.astype(float), method="asymptotic", use_continuity=True)
        np.testing.assert_allclose(result.p[row], expected.pvalue, rtol=1e-6)
        above = expected.statistic - len(cells) * len(control) / 2
        assert (np.sign(result.z[row]) == np.sign(above))[np.abs(above) > 0.5].all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 5.0]))
def test_rank_sum_agrees_with_scipy_on_any_sparsity_and_sign(seed, rate):
    rng = np.random.default_rng(seed)
    values = rng.poisson(rate, size=(24, 5)) - rng.integers(0, 2) * (rng.random((24, 5)) < 0.4)
    group = np.repeat([0, 1, 2], [10, 6, 8])
    z, p = rank_sum(sparse.csr_matrix(values.astype(np.float32)), group)
    for code in (1, 2):
        constant = np.ptp(values[(group == 0) | (group == code)], axis=0) == 0
        found = mannwhitneyu(
            values[group == code][:, ~constant].astype(float),
            values[group == 0][:, ~constant].astype(float),
            method="asymptotic",
        )
        np.testing.assert_allclose(p[code - 1][~constant], found.pvalue, rtol=1e-5)
        assert (p[code - 1][constant] == 1).all()
        assert (z[code - 1][constant] == 0).all()


def test_benjamini_hochberg_is_within_each_query(result):
    np.testing.assert_allclose(result.p_adjusted, false_discovery_control(result.p, axis=1), rtol=1e-12)
    assert (result.significant(alpha=0.05) == (result.p_adjusted < 0.05)).all()
    assert result.significant().any()


def test_fold_change_is_of_mean_counts_per_ten_thousand(screen, result):
    counts = screen.matrix.matrix.toarray().astype(np.float64)
    shares = 1e4 * counts / counts.sum(axis=1, keepdims=True)
    row = result.queries.index(Query("A", "RPE1"))
    ratio = shares[screen.cells_of(Query("A", "RPE1"))].mean(axis=0) + 1e-9
    ratio /= shares[screen.cells_of(Query(CONTROL, "RPE1"))].mean(axis=0) + 1e-9
    np.testing.assert_allclose(result.log2_fold_change[row], np.log2(ratio), atol=1e-5)


def test_reading_gene_block_by_gene_block_changes_nothing(screen, result):
    whole = differential_expression(screen)
    np.testing.assert_array_equal(whole.p, result.p)
    np.testing.assert_array_equal(whole.z, result.z)


def test_rows_follow_the_queries_asked_for(screen, result):
    asked = [Query("B", "RPE1"), Query("A", "K562")]
    some = differential_expression(screen, queries=asked)
    assert some.queries == tuple(asked)
    np.testing.assert_array_equal(some.p, result.p[[result.queries.index(query) for query in asked]])


def test_genes_below_the_control_floor_are_not_tested_and_do_not_count_in_bh(screen, result):
    control = np.expm1(screen.expression(screen.cells_of(Query(CONTROL, "K562"))).toarray()).mean(axis=0)
    floor = float(np.median(control))
    some = differential_expression(screen, queries=[Query("A", "K562")], minimum_control=floor)
    tested = control > floor
    assert (some.p[0][~tested] == 1).all()
    row = result.queries.index(Query("A", "K562"))
    np.testing.assert_array_equal(some.p[0][tested], result.p[row][tested])
    np.testing.assert_allclose(some.p_adjusted[0][tested], false_discovery_control(some.p[0][tested]))


def test_illico_is_silent(screen, capfd):
    differential_expression(screen, queries=[Query("A", "K562")])
    shown = capfd.readouterr()
    assert shown.err == ""
    assert shown.out == ""


def test_z_scores_have_differences_for_fold_changes_and_no_control_floor():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 6)).astype(np.float32)
    code = np.repeat(np.array([0, 1], dtype=np.int32), 20)
    screen = from_counts(values, conditions=("A", CONTROL), condition_code=code, scale=Scale.ZSCORE)
    result = differential_expression(screen)
    expected = mannwhitneyu(values[:20].astype(float), values[20:].astype(float), method="asymptotic").pvalue
    np.testing.assert_allclose(result.p[0], expected, rtol=1e-6)
    difference = (values[:20].mean(axis=0) - values[20:].mean(axis=0)) / np.log(2)
    np.testing.assert_allclose(result.log2_fold_change[0], difference, atol=1e-6)
    with pytest.raises(BadOption):
        differential_expression(screen, minimum_control=0.05)


def test_missing_control_and_unknown_queries_are_coded_errors(screen):
    with pytest.raises(NoControl, match="RPE1"):
        differential_expression(screen.take(~(screen.is_control & (screen.context_code == 1))))
    with pytest.raises(UnknownOption, match="A in K562"):
        differential_expression(screen, queries=[Query("A", "K56")])


# ---------------------------------------------------------------------------------------------------- lists of genes
NAMES = np.array(["d", "b", "a", "c"], dtype=object)


def test_equal_scores_are_ordered_by_gene_name_whatever_their_sign():
    score = np.array([[1.0, -2.0, 2.0, np.nan], [0.0, 0.0, 0.0, 0.0]])
    assert NAMES[gene_order(score, genes=NAMES)].tolist() == [["a", "b", "d", "c"], ["a", "b", "c", "d"]]


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_order_of_genes_in_the_table_does_not_change_the_top(seed, k):
    rng = np.random.default_rng(seed)
    score = rng.integers(-2, 3, size=(3, 8)).astype(float)
    names = np.array([f"g{gene}" for gene in range(8)], dtype=object)
    shuffle = rng.permutation(8)
    top = top_genes(score, genes=names, k=k)
    np.testing.assert_array_equal(top[:, shuffle], top_genes(score[:, shuffle], genes=names[shuffle], k=k))
    assert (top.sum(axis=1) == k).all()


def test_top_genes_never_hold_ineligible_or_undefined_ones():
    score = np.array([[3.0, 2.0, np.nan, 1.0]])
    eligible = np.array([[False, True, True, True]])
    assert NAMES[top_genes(score, genes=NAMES, k=3, eligible=eligible)[0]].tolist() == ["b", "c"]


def test_mid_ranks_share_the_rank_of_a_tied_block():
    np.testing.assert_array_equal(mid_ranks(np.array([[3.0, -1.0, 1.0, 0.0]])), [[1.0, 2.5, 2.5, 4.0]])


@pytest.mark.parametrize("overestimate", [False, True])
def test_t_scores_are_those_of_scipy(screen, overestimate):
    table = response_table(screen)
    score = t_scores(table, overestimate_variance=overestimate)
    for row, context in enumerate(table.context_code):
        n = table.n_cells[row]
        expected = ttest_ind_from_stats(
            table.expression[row], np.sqrt(table.variance[row]), n,
            table.control[context], np.sqrt(table.control_variance[context]),
            n if overestimate else table.n_control[context], equal_var=False,
        )  # fmt: skip
        np.testing.assert_allclose(score[row], expected.statistic, rtol=1e-9)


def test_gears_lists_leave_out_dropouts_but_may_keep_genes_seen_nowhere():
    counts = np.array([[5, 0, 0, 2], [6, 0, 0, 2], [1, 4, 0, 2], [2, 4, 0, 1]], dtype=np.float32)
    code = np.array([0, 0, 1, 1], dtype=np.int32)
    table = response_table(from_counts(counts, conditions=("A", CONTROL), condition_code=code))
    assert non_zero_genes(table).tolist() == [[True, False, False, True]]
    assert non_dropout_genes(table).tolist() == [[True, False, True, True]]
    assert gears_top_genes(table, k=3).tolist() == [[True, False, True, True]]
    assert gears_top_genes(table, k=3, drop="zero").tolist() == [[True, False, False, True]]


def test_t_scores_of_a_file_of_responses_are_refused(screen):
    from dataclasses import replace

    table = replace(response_table(screen), variance=None)
    with pytest.raises(MetricNeeds):
        t_scores(table)
