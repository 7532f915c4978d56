"""Options of training on the command line: they reach the engine, and are refused where they say nothing."""

import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import anndata
import numpy as np
import pytest
from safetensors.numpy import load_file

from perturbcast.cli import run
from perturbcast.data.readers import read
from perturbcast.data.simulate import simulate

SMALL = ["n_latent=4", "encoder_width=16", "decoder_width=16", "n_particles=2", "n_averaged=32", "batch_size=64"]
FIT = ["--model", "cpa-vae", *(word for field in SMALL for word in ("--set", field))]


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """A small simulated screen."""
    folder = tmp_path_factory.mktemp("training") / "world"
    simulate(n_cells=600, n_genes=40, n_targets=8, n_doubles=2, seed=3).write(folder)
    return folder / "screen.h5ad"


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "weights.safetensors")


def fitted(screen: Path, out: Path, *words: str) -> dict[str, np.ndarray]:
    """The arrays of a model fitted by the command line."""
    assert run(["fit", str(screen), *FIT, *words, "--out", str(out)]) == 0
    return weights(out)


@pytest.fixture(scope="module")
def plain(screen):
    """The arrays of three epochs on one device."""
    return fitted(screen, screen.parent / "plain", "--epochs", "3")


STEPS = re.compile(rb"training cpa-vae.*\D[1-9]\d*/\d+")


def killed_in_the_middle(command: list[str], folder: Path) -> str:
    """What a terminal showed until the process was killed, some steps after its first checkpoint."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the terminal closes with the process
            while not (STEPS.search(shown) and (folder / "last.safetensors").exists()):
                shown += os.read(ours, 4096)
        assert process.poll() is None, "ended before it could be killed"
        process.send_signal(signal.SIGKILL)
    os.close(ours)
    assert process.returncode == -signal.SIGKILL
    assert (folder / "last.safetensors").exists()
    return shown.decode()


def test_fit_killed_and_repeated_ends_with_the_same_bits_and_shows_the_time_left(screen, tmp_path):
    words = [*FIT, "--epochs", "40", "--checkpoints", str(tmp_path / "run"), "--checkpoint-seconds", "0.1"]
    command = ["fit", str(screen), *words, "--out", str(tmp_path / "model")]
    shown = killed_in_the_middle([sys.executable, "-m", "perturbcast.cli", *command], tmp_path / "run")
    assert re.search(r"training cpa-vae .*\d+/\d+.*(\d+:\d\d:\d\d|-:--:--)", shown)
    assert not (tmp_path / "model").exists()
    assert run(command) == 0
    undisturbed = fitted(screen, tmp_path / "undisturbed", "--epochs", "40")
    again = weights(tmp_path / "model")
    assert all(np.array_equal(array, again[name]) for name, array in undisturbed.items())


@pytest.mark.slow
def test_two_devices_give_what_one_gives(screen, plain, tmp_path):
    two = fitted(screen, tmp_path / "two", "--epochs", "3", "--devices", "2")
    for name, array in plain.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_processes_started_from_outside_leave_one_model(screen, plain, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "perturbcast.cli"]
    command += ["fit", str(screen), *FIT, "--epochs", "3", "--devices", "2", "--strategy", "ddp"]
    done = subprocess.run([*command, "--out", str(tmp_path / "two")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Model: ") == 1
    for name, array in weights(tmp_path / "two").items():
        np.testing.assert_allclose(array, plain[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_mixed_precision_runs_and_stays_near(screen, plain, tmp_path):
    short = fitted(screen, tmp_path / "short", "--epochs", "3", "--precision", "bf16")
    np.testing.assert_allclose(short["losses"], plain["losses"], rtol=1e-3)
    assert not np.array_equal(short["losses"], plain["losses"])


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--model", "mean", "--devices", "2"], "E110", "trained by gradient"),
        (["--model", "mean", "--epochs", "2"], "E109", "max_epochs"),
        (["--model", "cpa-vae", "--loggers", "csv"], "E110", "--checkpoints"),
        (["--model", "cpa-vae", "--checkpoints", "run", "--loggers", "cvs"], "E109", "Nearest: 'csv'"),
        (["--model", "cpa-vae", "--precision", "fp64"], "E109", "bf16"),
        (["--model", "cpa-vae", "--devices", "0"], "E110", "at least 1"),
        (["--model", "cpa-vae", "--epochs", "0"], "E110", "at least 1"),
        ([*FIT, "--accelerator", "gpux"], "E514", "gpux"),
        ([*FIT, "--strategy", "dpp"], "E514", "dpp"),
    ],
)
def test_options_that_cannot_be_met_are_one_coded_line_and_write_nothing(
    screen, tmp_path, monkeypatch, capsys, words, code, told
):
    monkeypatch.chdir(tmp_path)
    assert run(["fit", str(screen), *words, "--out", "model"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(code)
    assert told in shown
    assert len(shown.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_taken_folder_is_refused_before_training(screen, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    assert (
        run(["fit", str(screen), *FIT, "--checkpoints", str(tmp_path / "run"), "--out", str(tmp_path / "model")]) == 2
    )
    assert capsys.readouterr().err.startswith("E207")
    assert not (tmp_path / "run").exists()


def test_benchmark_trains_by_its_options_and_keeps_a_folder_of_checkpoints_per_task(screen, tmp_path):
    command = ["benchmark", str(screen), "--split", "doubles", "--metrics", "core", "--out", str(tmp_path / "b")]
    command += ["--models", "cpa-vae,mean", *FIT[2:], "--epochs", "2", "--precision", "bf16"]
    assert run([*command, "--checkpoints", str(tmp_path / "run")]) == 0
    (folder,) = (tmp_path / "run").iterdir()
    assert {"last.safetensors", "best.safetensors", "logs"} <= {path.name for path in folder.iterdir()}
    assert '"precision": "bf16"' in (tmp_path / "b" / "run.json").read_text()


def test_benchmark_of_baselines_takes_no_options_of_training(screen, tmp_path, capsys):
    assert run(["benchmark", str(screen), "--models", "mean", "--devices", "2", "--out", str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.startswith("E110")
    assert list(tmp_path.iterdir()) == []


def test_another_precision_is_another_benchmark(screen, tmp_path, capsys):
    command = ["benchmark", str(screen), "--split", "doubles", "--metrics", "core", "--out", str(tmp_path / "b")]
    command += ["--models", "cpa-vae", *FIT[2:], "--epochs", "1"]
    assert run(command) == 0
    assert run([*command, "--precision", "bf16"]) == 2
    assert "E701" in capsys.readouterr().err


def spoilt(screen: Path, out: Path, change) -> Path:
    """The screen after `change(adata)`."""
    adata = anndata.read_h5ad(screen)
    change(adata)
    adata.write_h5ad(out)
    return out


def fractions(adata):
    adata.X.data = adata.X.data + np.float32(0.25)


def controls_only(adata):
    adata._inplace_subset_obs(adata.obs["condition"] == "ctrl")


def logarithms(adata):
    adata.X.data = np.log1p(adata.X.data).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "words", "code"),
    [
        (fractions, ["--model", "cpa-vae", "--scale", "counts"], "E515"),
        (controls_only, ["--model", "cpa-vae", "--perturbation", "condition"], "E301"),
        (logarithms, ["--model", "cpa-vae", "--set", "likelihood=counts", "--scale", "log1p_cp10k"], "E515"),
        (lambda adata: None, ["--model", "gpo-vae", "--set", "n_hops=-1"], "E110"),
        (lambda adata: None, ["--model", "cradle-vae", "--set", "quality_column=nowhere"], "E105"),
    ],
    ids=["counts that are not whole", "controls alone", "logarithms as counts", "negative hops", "no such labels"],
)
def test_bad_input_to_training_is_one_coded_line_and_writes_nothing(screen, tmp_path, capsys, change, words, code):
    path = spoilt(screen, tmp_path / "spoilt.h5ad", change)
    assert run(["fit", str(path), *words, "--out", str(tmp_path / "model")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(code)
    assert len(shown.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["spoilt.h5ad"]


def test_fitted_model_predicts_from_its_folder_with_what_its_answers_rest_on(screen, tmp_path):
    assert run(["fit", str(screen), *FIT, "--epochs", "2", "--out", str(tmp_path / "model")]) == 0
    seen = [condition for condition in read(screen).conditions if "+" not in condition and condition != "ctrl"]
    asked = [seen[0], f"{seen[1]}+{seen[2]}", "NOWHERE", "ctrl"]
    out = tmp_path / "p.h5ad"
    assert run(["predict", str(tmp_path / "model"), "--conditions", ",".join(asked), "--out", str(out)]) == 0
    table = anndata.read_h5ad(out)
    assert list(table.obs["support"].astype(str)) == ["seen", "singles", "nothing", "control"]
    assert "5.9" in table.obs["reason"].iloc[2]
    sd = table.layers["sd"]
    assert (sd[:2] > 0).all()
    assert np.isnan(sd[2]).all()
    assert (sd[3] == 0).all()
