"""Elements of files read by h5py alone, against anndata; and what reading a screen imports."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import read_elem
from h5ad_files import operated, screen_adata, written

from perturbcast.data.h5ad_elements import read_element
from perturbcast.data.readers import read

MANY = ["a", "b", "é", ""]
COLUMNS = {
    "text": np.array(MANY, dtype=object),
    "number": np.array([1.5, np.nan, -2.0, 0.0], dtype=np.float32),
    "whole": np.arange(4),
    "truth": np.array([True, False, True, True]),
    "kind": pd.Categorical(["x", "y", None, "x"]),
    "rank": pd.Categorical([3, 1, 2, 1], categories=[3, 2, 1], ordered=True),
    "whole or missing": pd.array([1, None, 3, 4], dtype="Int64"),
    "truth or missing": pd.array([True, None, False, True], dtype="boolean"),
}
TOLD = {"text": "é", "number": 2, "share": 0.5, "truth": True, "dict": {"base": None, "inner": {"text": "a"}}, "no": {}}


def both(path: Path, key: str) -> tuple[object, object]:
    """What anndata and we read."""
    with h5py.File(path) as file:
        return read_elem(file[key]), read_element(file[key])


@pytest.mark.parametrize("columns", [[], *([name] for name in COLUMNS), list(COLUMNS)], ids=str)
def test_a_table_is_what_anndata_reads(tmp_path, columns):
    adata = screen_adata(["control"], n_each=4, obs={name: COLUMNS[name] for name in columns})
    adata.obs.index.name = "barcode" if len(columns) == 1 else None
    theirs, ours = both(written(tmp_path, adata), "obs")
    pd.testing.assert_frame_equal(ours, theirs)


def test_what_is_told_beside_the_tables_is_what_anndata_reads(tmp_path):
    theirs, ours = both(written(tmp_path, screen_adata(uns=TOLD)), "uns")
    assert ours == theirs == TOLD


def test_a_table_of_another_program_with_texts_of_fixed_length_is_read(tmp_path):
    def fixed(file: h5py.File) -> None:
        obs = file["obs"].attrs
        obs["_index"], obs["column-order"] = np.bytes_(obs["_index"]), np.array(obs["column-order"], dtype="S20")

    path = operated(tmp_path, screen_adata(obs={"kind": pd.Categorical(["a", "b"] * 30)}), fixed)
    theirs, ours = both(path, "obs")
    pd.testing.assert_frame_equal(ours, theirs)
    assert list(ours.columns) == ["perturbation", "kind"]


def test_reading_a_screen_does_not_import_anndata(tmp_path):
    path = written(tmp_path, screen_adata(obs={"batch": pd.Categorical(["a", "b"] * 30)}))
    code = f"import sys; from perturbcast.data.readers import read; print(read({str(path)!r}).n_cells, *sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n_cells, *modules = ran.stdout.split()
    assert int(n_cells) == read(path).n_cells == 60
    assert "h5py" in modules
    assert "anndata" not in modules
