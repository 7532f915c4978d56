"""`perturbcast clean`: files of cells without their artefacts, through Python and the command line."""

import re
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import perturbcast
from perturbcast.cli import run
from perturbcast.data.readers import read
from perturbcast.data.screen import CellMatrix
from perturbcast.models.base import TrainingData
from perturbcast.models.clean_file import THRESHOLDS, clean
from perturbcast.models.cleaning import BLOCK, MOST_ROWS, clean_cells, cleaned_blocks
from perturbcast.models.cradle_vae import CradleVae

ROOT = Path(__file__).resolve().parents[2]
N_CELLS, N_GENES, N_BAD = 600, 40, 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of cells, 90 of them shallow and rich in mitochondrial molecules, and a model trained on it."""
    where = tmp_path_factory.mktemp("cleaning")
    rng = np.random.default_rng(0)
    target = rng.choice(["non-targeting", "KLF1", "GATA1", "SPI1"], N_CELLS, p=[0.4, 0.2, 0.2, 0.2])
    rate = np.tile(rng.lognormal(1.0, 1.0, N_GENES), (N_CELLS, 1))
    rate[target == "KLF1", 10:14] *= 4
    bad = np.zeros(N_CELLS, dtype=bool)
    bad[rng.choice(N_CELLS, N_BAD, replace=False)] = True
    rate[bad] *= 0.3
    rate[bad, :4] *= 12
    genes = [*(f"MT-{number}" for number in range(4)), *(f"GENE{number}" for number in range(N_GENES - 4))]
    obs = pd.DataFrame({"target": target, "lane": "a", "broken": bad}, index=[f"cell{n}" for n in range(N_CELLS)])
    obs.loc[obs.index[:5], "target"] = "unassigned"
    data = anndata.AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)), obs=obs)
    data.var_names = genes
    data.var["chromosome"] = ["M"] * 4 + ["1"] * (N_GENES - 4)
    data.obsm["X_pca"] = np.zeros((N_CELLS, 2))
    data.write_h5ad(where / "cells.h5ad")
    fields = {"n_latent": 4, "encoder_width": 24, "decoder_width": 24, "n_particles": 1, "n_averaged": 20}
    fields |= {
        "max_epochs": 40,
        "batch_size": 128,
        "embedding_width": 8,
        "embedding_layers": 2,
        "lr": 1e-2,
        "mask_prior": 0.1,
    }
    CradleVae(**fields).fit(TrainingData.of(read(where / "cells.h5ad"))).save(where / "model")
    perturbcast.get_model("mean").fit(TrainingData.of(read(where / "cells.h5ad"))).save(where / "mean")
    return where


@pytest.fixture(scope="module")
def cleaned(folder):
    """What was said of the copy, and the copy."""
    done = clean(folder / "model", folder / "cells.h5ad", out=folder / "cleaned.h5ad", seed=1)
    return done, anndata.read_h5ad(done.path)


def test_copy_keeps_obs_and_var_and_marks_the_cells_that_failed(folder, cleaned):
    done, copy = cleaned
    given = anndata.read_h5ad(folder / "cells.h5ad")[copy.obs_names]
    assert copy.n_obs == N_CELLS - 5 == done.n_cells
    for name in given.obs:
        assert copy.obs[name].astype(str).tolist() == given.obs[name].astype(str).tolist(), name
    assert copy.var_names.tolist() == given.var_names.tolist()
    assert copy.var["chromosome"].tolist() == given.var["chromosome"].tolist()
    assert int(copy.obs["was_artefact"].sum()) == done.n_failed
    assert copy.obs.loc[copy.obs["broken"], "was_artefact"].mean() > 0.9
    assert copy.uns["cleaned"]["model"] == "cradle-vae"


def test_only_failing_cells_change_and_the_layer_holds_them_as_they_were(folder, cleaned):
    _, copy = cleaned
    given = anndata.read_h5ad(folder / "cells.h5ad")[copy.obs_names]
    assert (copy.layers["observed"] != given.X).nnz == 0
    changed = np.asarray((copy.X != given.X).sum(axis=1)).ravel() > 0
    assert not changed[~copy.obs["was_artefact"]].any()
    assert changed[copy.obs["was_artefact"]].mean() > 0.95


def test_more_cells_pass_after_cleaning_and_the_rates_are_those_of_the_file(cleaned):
    done, copy = cleaned
    assert list(done.pass_rates["threshold"]) == list(THRESHOLDS)
    assert (done.pass_rates["after"] > done.pass_rates["before"] + 0.05).all()
    share = np.asarray(copy.X[:, :4].sum(axis=1)).ravel() / np.asarray(copy.X.sum(axis=1)).ravel()
    was = (
        np.asarray(copy.layers["observed"][:, :4].sum(axis=1)).ravel()
        / np.asarray(copy.layers["observed"].sum(axis=1)).ravel()
    )
    bad = copy.obs["was_artefact"].to_numpy()
    assert share[bad].mean() < 0.6 * was[bad].mean()


def test_what_is_left_out_is_said(cleaned):
    done, _ = cleaned
    said = " ".join(done.lines())
    assert "5 cells of the file were not read" in said
    assert "obsm left out of the copy" in said
    assert f"{done.n_failed:,} of {done.n_cells:,} cells fail (" in said


def test_copy_can_be_read_and_cleaned_cells_are_those_of_the_api(folder, cleaned):
    _, copy = cleaned
    screen = read(folder / "cells.h5ad")
    fitted = perturbcast.load_model(folder / "model")
    whole = clean_cells(fitted, screen, failed=copy.obs["was_artefact"].to_numpy(), seed=1)
    again = read(folder / "cleaned.h5ad")
    cells = np.arange(screen.n_cells)
    assert (again.stored(cells) != whole.stored(cells)).nnz == 0
    assert again.conditions == screen.conditions


class Watched:
    """A matrix that remembers how many rows were asked for at once."""

    def __init__(self, matrix: CellMatrix) -> None:
        self.matrix, self.most = matrix, 0

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    def rows(self, index: np.ndarray) -> sparse.csr_matrix:
        self.most = max(self.most, len(index))
        return self.matrix.rows(index)


def test_no_more_than_a_block_of_cells_is_asked_for_at_once(folder):
    from dataclasses import replace

    screen = read(folder / "cells.h5ad")
    many = screen.take(np.tile(np.arange(screen.n_cells), 12))
    watched = Watched(many.matrix)
    failed = np.zeros(many.n_cells, dtype=bool)
    failed[::50] = True
    fitted = perturbcast.load_model(folder / "model")
    blocks = list(cleaned_blocks(fitted, replace(many, matrix=watched), failed=failed))
    assert sum(block.shape[0] for block in blocks) == many.n_cells > MOST_ROWS
    assert BLOCK <= watched.most <= MOST_ROWS


def test_labels_may_be_a_column_of_obs(folder, tmp_path):
    done = clean(folder / "model", folder / "cells.h5ad", out=tmp_path / "out.h5ad", quality="broken")
    copy = anndata.read_h5ad(done.path)
    assert (copy.obs["was_artefact"] == copy.obs["broken"]).all()


def bad_inputs(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Words of the command line, and the code they end in."""
    cells, model = str(folder / "cells.h5ad"), str(folder / "model")
    data = anndata.read_h5ad(cells)
    other = data.copy()
    other.var_names = [f"X{number}" for number in range(N_GENES)]
    other.write_h5ad(folder / "other.h5ad")
    data.obs["all"] = True
    data.write_h5ad(folder / "all.h5ad")
    return {
        "a model that cannot": ([str(folder / "mean"), cells], "E516"),
        "other genes": ([model, str(folder / "other.h5ad")], "E509"),
        "all cells fail": ([model, str(folder / "all.h5ad"), "--quality", "all"], "E517"),
        "no such column": ([model, cells, "--quality", "brokn"], "E105"),
        "no such model": ([str(folder / "nothing"), cells], "E201"),
        "no such file": ([model, str(folder / "nothing.h5ad")], "E201"),
        "no such depth": ([model, cells, "--depth", "deep"], "E109"),
    }


def test_what_cannot_be_cleaned_ends_in_one_coded_line_and_no_file(folder, capsys):
    for name, (words, code) in bad_inputs(folder).items():
        status = run(["clean", *words, "--out", str(folder / "never.h5ad")])
        shown = capsys.readouterr().err
        assert (status, shown[:4], len(shown.strip().splitlines())) == (2, code, 1), (name, shown)
        assert not list(folder.glob("*never*"))
    for out, code in (("never.csv", "E208"), ("cells.h5ad", "E207")):
        assert run(["clean", str(folder / "model"), str(folder / "cells.h5ad"), "--out", str(folder / out)]) == 2
        assert capsys.readouterr().err.startswith(code), out


def test_the_commands_of_the_page_run_as_they_stand(tmp_path):
    page = (ROOT / "docs" / "CLEANING.md").read_text()
    block = re.search(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    assert block is not None
    for line in block[1].strip().splitlines():
        words = [sys.executable, "-m", "perturbcast.cli", *line.removeprefix("perturbcast ").split()]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert "passing at 3 deviations" in done.stdout
    assert (tmp_path / "cleaned.h5ad").exists()
