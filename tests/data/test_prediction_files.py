import anndata
import numpy as np
import pandas as pd
import pytest

from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Prediction, Support
from perturbcast.data.prediction_files import write_predictions
from perturbcast.data.scale import Scale
from perturbcast.errors import MissingFile, UnknownFormat


def prediction(n_queries: int, *, seed: int) -> Prediction:
    rng = np.random.default_rng(seed)
    response = rng.normal(size=(n_queries, 3))
    response[-1] = np.nan
    return Prediction(
        queries=tuple(Query(f"G{seed}{row}", "K562") for row in range(n_queries)),
        genes=np.array(["A", "B", "C"], dtype=object),
        response=response,
        control=np.ones((n_queries, 3)),
        support=(Support.SEEN,) * (n_queries - 1) + (Support.NOTHING,),
        reason=("",) * (n_queries - 1) + ("E503 CannotPredict: why",),
        scale=Scale.LOG1P_CP10K,
        model="mean",
    )


def test_blocks_written_to_h5ad_read_back_as_one_table_in_order(tmp_path):
    blocks = [prediction(2, seed=1), prediction(3, seed=2)]
    table = anndata.read_h5ad(write_predictions(iter(blocks), tmp_path / "p.h5ad"))
    response = np.vstack([block.response for block in blocks])
    np.testing.assert_allclose(table.layers["response"], response, rtol=1e-6)
    np.testing.assert_allclose(table.layers["expression"], response + 1, rtol=1e-6)
    np.testing.assert_allclose(table.X, response, rtol=1e-6)
    assert np.isnan(table.layers["sd"]).all()
    assert list(table.obs.condition) == ["G10", "G11", "G20", "G21", "G22"]
    assert list(table.obs.reason) == ["", "E503 CannotPredict: why"] * 1 + ["", "", "E503 CannotPredict: why"]
    assert list(table.var_names) == ["A", "B", "C"]
    assert table.uns["kind"] == "response"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_flat_files_have_a_row_per_query_and_a_column_per_gene(tmp_path, ending):
    blocks = [prediction(2, seed=1), prediction(3, seed=2)]
    path = write_predictions(iter(blocks), tmp_path / f"p.{ending}")
    table = pd.read_csv(path, keep_default_na=True) if ending == "csv" else pd.read_parquet(path)
    assert list(table.columns) == ["condition", "context", "support", "reason", "A", "B", "C"]
    np.testing.assert_allclose(table[["A", "B", "C"]], np.vstack([b.response for b in blocks]), rtol=1e-5)


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path):
    def broken():
        yield prediction(2, seed=1)
        raise RuntimeError("killed")

    for ending in ("h5ad", "csv", "parquet"):
        with pytest.raises(RuntimeError):
            write_predictions(broken(), tmp_path / f"p.{ending}")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_ending_and_a_missing_folder_are_coded_errors(tmp_path):
    with pytest.raises(UnknownFormat):
        write_predictions([prediction(2, seed=1)], tmp_path / "p.xlsx")
    with pytest.raises(MissingFile):
        write_predictions([prediction(2, seed=1)], tmp_path / "nowhere" / "p.csv")
