"""Reading: real files without a flag, every legal form of a file, and invariance to how it is written."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from h5ad_files import (
    GENES,
    LABELS,
    counts,
    log1p_of,
    operated,
    repeat_first_name,
    response_adata,
    screen_adata,
    written,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.matrix import BackedCsr, BackedDense
from perturbcast.data.readers import from_anndata, read
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.errors import DuplicatedColumns, DuplicatedGenes, NoPerturbationColumn


def decided(data: Screen | ResponseTable, what: str) -> str:
    """The value of a decision."""
    return next(decision.value for decision in data.decisions if decision.what == what)


def table(screen: Screen | ResponseTable) -> pd.DataFrame:
    """Mean expression per condition and context, genes by name: what must not depend on how a file is written."""
    assert isinstance(screen, Screen)
    rows = {}
    for query in [*screen.queries(), *(Query(CONTROL, context) for context in screen.contexts)]:
        mean = screen.expression(screen.cells_of(query)).mean(axis=0)
        rows[query] = np.asarray(mean).ravel()
    frame = pd.DataFrame(rows, index=list(screen.genes)).T
    return frame.sort_index(axis=0).sort_index(axis=1)


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Equal up to float32."""
    pd.testing.assert_frame_equal(one, other, rtol=1e-5, atol=1e-6)


# --------------------------------------------------------------------------------------------------------- real files
def test_papalexi_is_read_without_a_flag_and_keeps_the_clear_cells(shared: Path) -> None:
    screen = read(shared / "data/screens/papalexi2021_thp1_eccite.h5ad")
    assert isinstance(screen, Screen)
    assert (screen.n_cells, screen.n_genes, len(screen.conditions)) == (16_093, 299, 26)
    assert (screen.scale, screen.contexts) == (Scale.COUNTS, ("",))
    assert decided(screen, "perturbation column") == "target"
    assert decided(screen, "control") == "non-targeting"
    assert list(screen.covariates["guide"][:2]) == ["STAT2g2", "CAV1g4"]
    assert set(screen.covariates["replicate"]) == {"rep_1", "rep_2", "rep_3"}
    assert len(np.unique(screen.query_code)) == 26
    all_cells = read(shared / "data/screens/papalexi2021_thp1_eccite.h5ad", guide_quality=False)
    assert isinstance(all_cells, Screen)
    assert all_cells.n_cells == 20_729


def test_guide_column_of_papalexi_gives_the_same_conditions_as_its_targets(shared: Path) -> None:
    path = shared / "data/screens/papalexi2021_thp1_eccite.h5ad"
    one, other = read(path), read(path, perturbation="grna")
    assert isinstance(one, Screen)
    assert isinstance(other, Screen)
    assert one.conditions == other.conditions
    np.testing.assert_array_equal(one.condition_code, other.condition_code)
    assert decided(other, "guide names") == "letter"


def test_adamson_is_read_without_a_flag_with_guides_stripped_and_the_whole_library(shared: Path) -> None:
    screen = read(shared / "data/screens/adamson2016_k562_pilot.h5ad")
    assert isinstance(screen, Screen)
    assert screen.conditions == ("BHLHE40", "EP300", "SNAI1", "SPI1", "ZNF326", CONTROL)
    assert (screen.n_cells, screen.contexts, screen.scale) == (360, ("K562",), Scale.COUNTS)
    assert screen.library is not None
    assert screen.library[0] == 11_378
    assert screen.gene_ids is not None
    assert screen.gene_ids[list(screen.genes).index("SPI1")] == "ENSG00000066336"
    assert "SPI1_pDS255" in set(screen.covariates["guide"])


def test_norman_cells_are_read_without_a_flag_as_log1p_cp10k(shared: Path) -> None:
    screen = read(shared / "data/screens/norman2019_k562_crispra_cells.h5ad")
    assert isinstance(screen, Screen)
    assert (screen.scale, screen.library) == (Scale.LOG1P_CP10K, None)
    assert sum("+" in condition for condition in screen.conditions) == 15
    assert len(screen.conditions) == 1 + 18 + 15
    assert screen.uns["perturbation"] == "CRISPRa"


def test_response_files_are_read_without_a_flag_as_tables_without_control(shared: Path) -> None:
    norman = read(shared / "data/responses/norman2019_k562_crispra.h5ad")
    replogle = read(shared / "data/responses/replogle2022_k562_crispri_censored.h5ad")
    assert isinstance(norman, ResponseTable)
    assert isinstance(replogle, ResponseTable)
    assert (norman.n_queries, norman.n_genes, norman.scale) == (234, 2000, Scale.RESPONSE)
    assert (replogle.n_queries, replogle.n_genes, replogle.scale) == (791, 1381, Scale.ZSCORE)
    for data in (norman, replogle):
        assert not data.has_control
        assert data.n_cells is None
        assert data.contexts == ("K562",)
        assert data.unit.startswith(("difference of log1p(CPM)", "z-score"))
    stored = anndata.read_h5ad(shared / "data/responses/norman2019_k562_crispra.h5ad")
    row = norman.index([Query("AHR+FEV", "K562")])[0]
    np.testing.assert_allclose(norman.response[row], stored["AHR+FEV"].X.ravel())


# ---------------------------------------------------------------------------------------------- invariance (property)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), layout=st.sampled_from(["csr", "csc", "dense", "coo64"]))
def test_order_of_cells_and_genes_and_layout_do_not_change_the_table(seed: int, layout: str) -> None:
    adata = screen_adata()
    rng = np.random.default_rng(seed)
    shuffled = adata[rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)].copy()
    shuffled.X = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": lambda x: x.toarray()}.get(
        layout, _with_wide_indices
    )(shuffled.X)
    assert_same(table(from_anndata(adata)), table(from_anndata(shuffled)))


def _with_wide_indices(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    wide = sparse.csr_matrix(matrix)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    return wide


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_spelling_of_labels_does_not_change_the_table(data: st.DataObject) -> None:
    control = data.draw(st.sampled_from(["ctrl", "NT", "non-targeting", "NegCtrl0", "safe-targeting", "scrambled"]))
    joint = data.draw(st.sampled_from(["{a}+{b}", "{b}+{a}", "{a}|{b}", "{b};{a}", "{a},{b}", "{a}_{b}", "{b} + {a}"]))
    single = data.draw(st.sampled_from(["{a}", "{a}+{c}", "{c}+{a}"]))
    column = data.draw(st.sampled_from(["condition", "Perturbation", "target_gene", "gene", "guide_identity", "pert"]))
    spelled = {"STAT1+JAK2": joint.format(a="STAT1", b="JAK2"), "control": control}
    labels = [spelled.get(label, single.format(a=label, c=control)) for label in LABELS]
    assert_same(table(from_anndata(screen_adata(labels, column=column))), table(from_anndata(screen_adata())))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 80))
def test_backed_rows_are_the_rows_in_any_order_with_repeats(
    seed: int, n: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("backed")
    matrix = counts(60, seed=seed)
    index = np.random.default_rng(seed).integers(0, 60, size=n)
    for stored, kind in ((matrix, BackedCsr), (matrix.toarray(), BackedDense)):
        screen = read(written(folder, screen_adata(X=stored)), backed=True)
        assert isinstance(screen, Screen)
        assert isinstance(screen.matrix, kind)
        np.testing.assert_array_equal(screen.matrix.rows(index).toarray(), matrix[index].toarray())


# -------------------------------------------------------------------------------------------------------- legal forms
@pytest.mark.parametrize("backed", [False, True, None])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_file_in_memory_streamed_and_object_give_the_same_screen(
    backed: bool | None, compression: str | None, tmp_path: Path
) -> None:
    adata = screen_adata(obs={"cell_line": ["K562", "RPE1"] * 30})
    screen = read(written(tmp_path, adata, compression=compression), backed=backed)
    assert isinstance(screen, Screen)
    assert isinstance(screen.matrix, BackedCsr if backed else InMemory)
    assert screen.contexts == ("K562", "RPE1")
    assert_same(table(screen), table(from_anndata(adata)))


def test_stored_by_columns_is_read_in_memory(tmp_path: Path) -> None:
    path = written(tmp_path, screen_adata(X=sparse.csc_matrix(counts(60))))
    assert_same(table(read(path)), table(from_anndata(screen_adata())))


def test_view_is_read_as_its_copy_and_nothing_is_changed() -> None:
    adata = screen_adata()
    adata.X[0, 0] = 0  # stored as a zero
    adata.X.data[adata.X.indptr[3]] = 0
    before = adata.copy()
    view = adata[10:, :15]
    assert_same(table(from_anndata(view)), table(from_anndata(view.copy())))
    assert view.is_view
    np.testing.assert_array_equal(adata.X.data, before.X.data)
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_object_opened_on_disk_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, screen_adata())
    backed = anndata.read_h5ad(path, backed="r")
    try:
        assert_same(table(from_anndata(backed)), table(read(path)))
        assert_same(table(from_anndata(backed[6:])), table(from_anndata(backed[6:].to_memory())))
    finally:
        backed.file.close()


def test_unused_categories_are_no_conditions() -> None:
    adata = screen_adata()
    adata.obs["perturbation"] = pd.Categorical(adata.obs["perturbation"], [*LABELS, "MYC", "NT"])
    screen = from_anndata(adata)
    assert isinstance(screen, Screen)
    assert screen.conditions == tuple(sorted(["JAK2", "JAK2+STAT1", "SPI1", "STAT1", CONTROL]))


@pytest.mark.parametrize("dtype", ["string", "object", "category", "string[pyarrow]"])
def test_labels_of_any_string_type_are_read(dtype: str) -> None:
    adata = screen_adata()
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(dtype)
    assert_same(table(from_anndata(adata)), table(from_anndata(screen_adata())))


def test_cells_without_a_label_are_left_out_and_told() -> None:
    adata = screen_adata()
    adata.obs.iloc[[0, 13, 14], 0] = [None, "unassigned", "multiplet"]
    screen = from_anndata(adata)
    assert isinstance(screen, Screen)
    assert screen.n_cells == 57
    assert decided(screen, "cells without label") == "left out"
    assert screen.cells is not None
    np.testing.assert_array_equal(screen.stored(np.arange(57)).toarray(), adata.X[screen.row].toarray())


def test_raw_is_read_where_x_is_absent_or_standardised(tmp_path: Path) -> None:
    adata = screen_adata()
    adata.raw = adata.copy()
    expected = table(from_anndata(screen_adata()))
    dense = adata.X.toarray()
    standardised = adata.copy()
    standardised.X = ((dense - dense.mean(axis=0)) / dense.std(axis=0)).astype(np.float32)
    assert_same(table(from_anndata(standardised)), expected)
    assert decided(from_anndata(standardised), "matrix") == "raw"
    assert decided(from_anndata(standardised, layer="X"), "scale") == "zscore"
    path = operated(tmp_path, adata, lambda file: file.__delitem__("X"))
    assert_same(table(read(path)), expected)
    assert_same(table(read(path, backed=True)), expected)


def test_layer_of_counts_is_preferred_to_logs_but_not_to_counts() -> None:
    adata = screen_adata(X=log1p_of(counts(60)), layers={"counts": counts(60), "scaled": counts(60)})
    assert decided(from_anndata(adata), "matrix") == "counts"
    assert_same(table(from_anndata(adata)), table(from_anndata(screen_adata())))
    assert decided(from_anndata(adata, layer="X"), "scale") == "log1p_cp10k"
    assert decided(from_anndata(adata, scale="log1p_cp10k"), "matrix") == "X"
    adata = screen_adata(layers={"counts": log1p_of(counts(60))})
    assert decided(from_anndata(adata), "matrix") == "X"
    adata = screen_adata(X=log1p_of(counts(60)), layers={"counts": log1p_of(counts(60))})
    assert decided(from_anndata(adata), "matrix") == "X"


def test_symbols_of_a_column_replace_ensembl_ids_and_repeated_ones_stay_apart() -> None:
    ids = [f"ENSG{number:011}" for number in range(20)]
    symbols = ["STAT1", "JAK2", "SPI1", "TBCE", "TBCE", *(f"GENE{number}" for number in range(15))]
    screen = from_anndata(screen_adata(genes=[f"{i}.2" for i in ids], var={"gene_name": symbols}))
    assert isinstance(screen, Screen)
    assert list(screen.genes[:5]) == ["STAT1", "JAK2", "SPI1", "TBCE", ids[4]]
    assert list(screen.gene_ids) == ids
    kept = from_anndata(screen_adata(genes=ids, var={"gene_name": symbols}), genes="index")
    assert list(kept.genes) == ids


@pytest.mark.parametrize(("how", "backed"), [("sum", False), ("sum", True), ("first", False), ("first", True)])
def test_repeated_genes_are_summed_or_the_first_is_taken(how: str, backed: bool, tmp_path: Path) -> None:
    path = operated(tmp_path, screen_adata(), lambda file: repeat_first_name(file["var"], 5))
    with pytest.raises(DuplicatedGenes, match="'STAT1'"):
        read(path)
    screen = read(path, duplicates=how, backed=backed)
    assert isinstance(screen, Screen)
    assert list(screen.genes) == [gene for gene in GENES if gene != "GENE1"]
    dense = counts(60).toarray()
    expected = dense[:, 0] + dense[:, 5] if how == "sum" else dense[:, 0]
    np.testing.assert_array_equal(screen.stored(np.arange(60)).toarray()[:, 0], expected)
    assert screen.library is not None
    np.testing.assert_array_equal(screen.library, dense.sum(axis=1))


def test_library_column_is_used_only_if_no_cell_has_more_molecules() -> None:
    sums = np.asarray(counts(60).sum(axis=1)).ravel()
    screen = from_anndata(screen_adata(obs={"total_counts": sums * 3}))
    assert isinstance(screen, Screen)
    np.testing.assert_allclose(np.expm1(screen.expression(np.arange(60)).toarray()).sum(axis=1), 1e4 / 3, rtol=1e-4)
    screen = from_anndata(screen_adata(obs={"total_counts": sums - 1}))
    assert isinstance(screen, Screen)
    assert decided(screen, "library size") == "row sums"


def test_cell_types_found_by_clustering_are_no_context_unless_each_has_control() -> None:
    types = ["early"] * 40 + ["late"] * 20
    assert from_anndata(screen_adata(obs={"cell_type": types})).contexts == ("",)
    assert from_anndata(screen_adata(obs={"cell_type": ["early", "late"] * 30})).contexts == ("early", "late")
    assert from_anndata(screen_adata(obs={"cell_line": ["a", "b"] * 30}), context="none").contexts == ("",)
    assert from_anndata(screen_adata(obs={"batch": ["a", "b"] * 30})).contexts == ("",)
    assert from_anndata(screen_adata(obs={"batch": ["a", "b"] * 30}), context="batch").contexts == ("a", "b")


def test_column_that_holds_treatments_does_not_hide_the_guides() -> None:
    labels = [label for label in LABELS for _ in range(12)]
    adata = screen_adata(["ctrl", "stim"], n_each=30, column="condition", obs={"guide_identity": labels})
    assert decided(from_anndata(adata), "perturbation column") == "guide_identity"


def test_columns_that_agree_but_for_an_alias_are_no_conflict() -> None:
    old = [{"SPI1": "PU1"}.get(label, label) for label in LABELS for _ in range(12)]
    screen = from_anndata(screen_adata(obs={"condition": old}))
    assert decided(screen, "perturbation column") == "perturbation"
    with pytest.raises(NoPerturbationColumn, match="disagree"):
        from_anndata(screen_adata(obs={"condition": sorted(old)}))


def test_object_with_two_columns_of_one_name_is_refused() -> None:
    adata = screen_adata()
    adata.obs = pd.concat([adata.obs, adata.obs], axis=1)
    with pytest.raises(DuplicatedColumns):
        from_anndata(adata)


def test_small_conditions_are_left_out_on_request() -> None:
    adata = screen_adata()[[*range(40), 48]].copy()
    screen = from_anndata(adata, min_cells=5)
    assert isinstance(screen, Screen)
    assert screen.conditions == ("JAK2", "STAT1", CONTROL)
    assert decided(screen, "conditions left out") == "2"
    assert screen.n_cells == 36


def test_name_is_the_stem_of_the_file_unless_given(tmp_path: Path) -> None:
    path = written(tmp_path, screen_adata(), name="my.screen.h5ad")
    assert read(path).name == "my.screen"
    assert read(str(path), name="other").name == "other"


# ----------------------------------------------------------------------------------------------------------- responses
def test_rows_of_one_query_are_averaged_and_the_control_row_is_left_out() -> None:
    values = np.random.default_rng(0).normal(size=(4, 20)).astype(np.float32)
    values[3] = 0
    read_table = from_anndata(response_adata(["STAT1+JAK2", "MYC", "JAK2+STAT1", "ctrl"], X=values))
    assert isinstance(read_table, ResponseTable)
    assert read_table.queries == (Query("JAK2+STAT1"), Query("MYC"))
    np.testing.assert_allclose(read_table.response[0], (values[0] + values[2]) / 2, rtol=1e-6)
    assert decided(read_table, "repeated rows") == "averaged"
    assert decided(read_table, "rows left out") == "1"


def test_responses_by_flag_sparse_and_dense_are_one_table(tmp_path: Path) -> None:
    dense = response_adata(kind=None)
    by_flag = read(written(tmp_path, dense), kind="response")
    thin = response_adata(X=sparse.csc_matrix(dense.X), uns={"unit": "Z-scores of pseudobulks"})
    by_uns = from_anndata(thin)
    assert isinstance(by_flag, ResponseTable)
    assert isinstance(by_uns, ResponseTable)
    np.testing.assert_allclose(by_flag.response, by_uns.response, rtol=1e-6)
    assert (by_flag.unit, by_flag.scale) == ("unstated", Scale.RESPONSE)
    assert by_uns.scale is Scale.ZSCORE


def test_response_file_of_several_cell_lines_has_several_contexts() -> None:
    adata = response_adata(["STAT1", "JAK2", "STAT1", "JAK2"])
    adata.obs["cell_line"] = ["K562", "K562", "RPE1", "RPE1"]
    found = from_anndata(adata)
    assert isinstance(found, ResponseTable)
    assert found.contexts == ("K562", "RPE1")
    assert found.queries[2] == Query("STAT1", "RPE1")
    assert found.control.shape == (2, 20)


def test_raw_counts_of_more_genes_do_not_replace_logs_that_the_author_chose() -> None:
    adata = screen_adata()
    adata.raw = adata.copy()
    chosen = adata[:, :12].copy()
    chosen.X = log1p_of(counts(60))[:, :12]
    screen = from_anndata(chosen)
    assert (screen.n_genes, decided(screen, "matrix"), decided(screen, "scale")) == (12, "X", "log1p_cp10k")
    assert from_anndata(chosen, layer="raw").n_genes == 20


def test_guide_column_is_taken_by_its_name_even_if_targets_look_like_no_genes() -> None:
    screen = from_anndata(screen_adata(["nt", "first guide", "second guide"], column="sgRNA_ID"))
    assert isinstance(screen, Screen)
    assert screen.conditions == (CONTROL, "first guide", "second guide")
    with pytest.raises(NoPerturbationColumn):
        from_anndata(screen_adata(["nt", "first guide", "second guide"], column="remark"))
    assert from_anndata(screen_adata(["NT", "STAT1", "JAK2"], column="remark")).n_genes == 20
