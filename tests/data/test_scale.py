"""The scale of a matrix: decided by several signs that are stated, whatever part of the genes is there."""

import numpy as np
import pytest
from h5ad_files import counts, log1p_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from perturbcast.data.scale import Scale
from perturbcast.data.scale_detection import check_scale, detect_scale
from perturbcast.data.scan import scan
from perturbcast.data.screen import InMemory
from perturbcast.errors import UndecidedScale, WrongScale


def scanned(matrix: sparse.csr_matrix | np.ndarray, *, block: int = 4096):
    """The scan of a matrix held in memory."""
    return scan(InMemory(sparse.csr_matrix(matrix).astype(np.float32)), block=block)


def deep_counts(n_cells: int = 80, n_genes: int = 300, seed: int = 0) -> sparse.csr_matrix:
    """Counts as of a real screen: library sizes differ tenfold, most values are 0 or 1."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.3, 1.0, size=n_genes) * rng.uniform(1, 10, size=(n_cells, 1))
    return sparse.csr_matrix(rng.poisson(rates).astype(np.float32))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), total=st.sampled_from([1e4, 1e6, 5e3, 123_456.0]))
def test_total_before_the_logarithm_is_told_from_the_sums_of_whole_cells(seed: int, total: float) -> None:
    expected = {1e4: Scale.LOG1P_CP10K, 1e6: Scale.LOG1P_CPM}.get(total, Scale.LOG_OTHER)
    assert detect_scale(scanned(log1p_of(deep_counts(seed=seed), total))).scale is expected


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), total=st.sampled_from([1e4, 1e6, 1e3]), recorded=st.booleans())
@example(seed=78, total=1e3, recorded=False)
def test_total_before_the_logarithm_is_told_from_a_part_of_the_genes(seed: int, total: float, recorded: bool) -> None:
    whole = deep_counts(n_genes=1200, seed=seed)  # about 2,000 molecules: 1e6 / unit is whole for a total of 1e3 too
    part = log1p_of(whole, total)[:, :150]
    reading = detect_scale(scanned(part), log1p={} if recorded else None)
    assert reading.scale is {1e4: Scale.LOG1P_CP10K, 1e6: Scale.LOG1P_CPM, 1e3: Scale.LOG_OTHER}[total]
    assert any("whole multiples" in sign for sign in reading.signs)
    assert any("uns['log1p']" in sign for sign in reading.signs) == recorded


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_counts_are_counts_in_any_order_of_cells_and_block_size(seed: int) -> None:
    matrix = deep_counts(seed=seed)
    order = np.random.default_rng(seed).permutation(matrix.shape[0])
    first, second = scanned(matrix), scanned(matrix[order], block=7)
    assert detect_scale(first).scale is detect_scale(second).scale is Scale.COUNTS
    np.testing.assert_allclose(first.row_sum[order], second.row_sum)
    np.testing.assert_allclose(first.gene_square, second.gene_square)
    np.testing.assert_array_equal(first.gene_detected, second.gene_detected)


def test_scan_agrees_with_numpy() -> None:
    matrix = log1p_of(deep_counts())
    found, dense = scanned(matrix, block=13), matrix.toarray().astype(np.float64)
    np.testing.assert_allclose(found.gene_variance, dense.var(axis=0), atol=1e-9)
    np.testing.assert_allclose(found.row_sum, dense.sum(axis=1))
    np.testing.assert_array_equal(found.gene_detected, (dense > 0).sum(axis=0))
    assert (found.low, found.high, found.n_stored) == (0.0, dense.max(), matrix.nnz)
    assert found.n_empty_cells == 0


def test_library_column_and_record_are_stated_as_signs() -> None:
    whole = deep_counts(n_genes=1200)
    library = {"ncounts": np.asarray(whole.sum(axis=1)).ravel() * 1.005}
    reading = detect_scale(scanned(log1p_of(whole)[:, :150]), libraries=library, log1p={})
    assert reading.scale is Scale.LOG1P_CP10K
    assert any("ncounts" in sign for sign in reading.signs)
    reading = detect_scale(scanned(whole[:, :150]), libraries=library, log1p={})
    assert reading.scale is Scale.COUNTS
    assert any("ncounts" in sign for sign in reading.signs)
    assert any(sign.startswith("against it") for sign in reading.signs)


def test_library_column_tells_the_total_where_molecules_do_not() -> None:
    whole = deep_counts(n_genes=1200)
    part = log1p_of(whole, 8_423.5)[:, :150]
    library = {"ncounts": np.asarray(whole.sum(axis=1)).ravel()}
    reading = detect_scale(scanned(part), libraries=library)
    assert reading.scale is Scale.LOG_OTHER
    assert any("8,424" in sign for sign in reading.signs)
    assert detect_scale(scanned(part)).scale is Scale.LOG_OTHER


@pytest.mark.parametrize("base", [2.0, 10.0])
def test_logarithm_of_another_base_is_another_log(base: float) -> None:
    matrix = log1p_of(deep_counts())
    matrix.data = (matrix.data / np.log(base)).astype(np.float32)
    reading = detect_scale(scanned(matrix))
    assert reading.scale is Scale.LOG_OTHER
    assert any(f"base {base:.0f}" in sign for sign in reading.signs)


def test_standardised_genes_are_z_scores() -> None:
    dense = log1p_of(deep_counts()).toarray()
    dense = dense[:, dense.std(axis=0) > 0]
    reading = detect_scale(scanned((dense - dense.mean(axis=0)) / dense.std(axis=0)))
    assert reading.scale is Scale.ZSCORE
    assert any("mean 0" in sign for sign in reading.signs)


def test_corrected_values_need_the_record_of_a_logarithm_to_be_taken_for_one() -> None:
    matrix = log1p_of(deep_counts())
    matrix.data = (matrix.data * np.random.default_rng(0).uniform(0.7, 1.3, matrix.nnz)).astype(np.float32)
    with pytest.raises(UndecidedScale, match="--scale"):
        detect_scale(scanned(matrix))
    assert detect_scale(scanned(matrix), log1p={"base": None}).scale is Scale.LOG_OTHER


@pytest.mark.parametrize("where", [0, 41, 79])
def test_one_cell_of_another_scale_is_seen_wherever_it_stands(where: int) -> None:
    raw, logged = deep_counts(), log1p_of(deep_counts())
    parts = [logged[:where], raw[where : where + 1], logged[where + 1 :]]
    with pytest.raises(UndecidedScale, match="mixes scales: 1 cells"):
        detect_scale(scanned(sparse.vstack(parts)))


def test_mixture_is_seen_in_a_thin_band_of_a_large_matrix() -> None:
    raw = deep_counts(n_cells=6000, n_genes=40)
    logged = log1p_of(deep_counts(n_cells=6000, n_genes=40))
    other = log1p_of(deep_counts(n_cells=6000, n_genes=40), 1e6)
    with pytest.raises(UndecidedScale):
        detect_scale(scanned(sparse.vstack([raw[:4000], logged[4000:4060], raw[4060:]])))
    with pytest.raises(UndecidedScale):
        detect_scale(scanned(sparse.vstack([logged[:4000], other[4000:4060], logged[4060:]])))


@pytest.mark.parametrize("scale", list(Scale))
def test_scale_that_is_given_is_taken_only_if_the_numbers_allow_it(scale: Scale) -> None:
    allowed = {Scale.COUNTS}
    if scale in allowed:
        assert check_scale(scale, scanned(counts(40))).scale is scale
    else:
        with pytest.raises(WrongScale):
            check_scale(scale, scanned(counts(40)))
    logged = {Scale.LOG1P_CP10K, Scale.LOG1P_CPM, Scale.LOG_OTHER}
    if scale in logged:
        assert check_scale(scale, scanned(log1p_of(deep_counts()))).scale is scale
    else:
        with pytest.raises(WrongScale):
            check_scale(scale, scanned(log1p_of(deep_counts())))


def test_corrected_counts_may_be_called_counts() -> None:
    matrix = deep_counts() * 1.37
    with pytest.raises(UndecidedScale, match="corrected"):
        detect_scale(scanned(matrix))
    assert check_scale(Scale.COUNTS, scanned(matrix)).signs == ("given",)
