"""`perturbcast network` on the command line: the commands of the page, and what bad input ends in."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from perturbcast.cli import run
from perturbcast.networks.export import load_network

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "NETWORKS.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder in which every command of the page was run in order."""
    where = tmp_path_factory.mktemp("networks")
    block = re.search(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    assert block is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        for line in block[1].strip().splitlines():
            assert run(shlex.split(line)[1:]) == 0, line
    return where


def test_the_commands_of_the_page_leave_networks_scores_and_a_page(folder):
    assert load_network(folder / "net.parquet").n_edges == 200
    assert load_network(folder / "net.parquet").column("stability").max() == 1
    assert load_network(folder / "trees.tsv").n_edges > 0
    assert any((folder / "parts").iterdir())
    assert load_network(folder / "responses.cx2").n_edges == 100
    scores = pd.read_csv(folder / "scores.csv")
    assert set(scores["k"]) >= {10, 20}
    assert {"auprc", "wasserstein"} <= set(scores["score"])
    assert "<svg" in (folder / "network.html").read_text()


def test_network_of_a_model_is_the_one_it_learned_and_several_fits_have_stability(folder, capsys):
    learned = load_network(folder / "learned.graphml")
    assert learned.weight.min() > 0.01
    assert "probability" in learned.columns
    assert not (learned.source_code == learned.target_code).any()
    model = str(folder / "model")
    assert run(["network", "read", model, model, "--top", "20", "--out", str(folder / "both.parquet")]) == 0
    both = load_network(folder / "both.parquet")
    assert both.n_edges == min(20, load_network(folder / "learned.graphml").n_edges) or both.n_edges == 20
    assert (both.column("stability") == 1).all()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["score", "net.parquet", "world/screen.h5ad", "--tops", "1,x"], "E110"),
        (["score", "net.parquet", "world/screen.h5ad", "--tops", "-3"], "E110"),
        (["score", "net.parquet", "world/screen.h5ad", "--targets", "all"], "E110"),
        (["read", "nowhere"], "E201"),
        (["convert", "nowhere.parquet"], "E201"),
        (["infer", "world/screen.h5ad", "--method", "genie"], "E805"),
    ],
)
def test_bad_input_ends_in_one_coded_line(folder, monkeypatch, capsys, words, code):
    monkeypatch.chdir(folder)
    assert run(["network", *words, "--out", "never.tsv"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(code)
    assert len(shown.strip().splitlines()) == 1
    assert not Path("never.tsv").exists()


def test_model_without_a_network_needs_a_screen(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert run(["fit", "world/screen.h5ad", "--model", "additive", "--out", "additive"]) == 0
    assert run(["network", "read", "additive", "--out", "never.tsv"]) == 2
    assert capsys.readouterr().err.startswith("E504 NeedsCells")
    assert run(["network", "read", "additive", "--screen", "world/screen.h5ad", "--out", "added.tsv"]) == 0
