"""`perturbcast ablate`, `degrade` and `violins` on the command line."""

import pytest

from perturbcast.cli import run
from perturbcast.data.simulate import simulate


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "world"
    simulate(n_cells=600, n_genes=60, n_targets=10, n_doubles=0, seed=1).write(folder)
    return folder


def test_degrade_writes_table_and_figure(world, tmp_path, capsys):
    out = tmp_path / "study"
    command = ["degrade", str(world / "screen.h5ad"), "--model", "kernel-ridge", "--networks", str(world)]
    command += ["--ways", "permute", "--shares", "0.5", "--graph-seeds", "1", "--folds", "2", "--out", str(out)]
    assert run(command) == 0
    assert "| permute 50% |" in (out / "study.md").read_text()
    assert (out / "spoilt_graphs.png").stat().st_size > 5000
    assert str(out / "study.md") in capsys.readouterr().out


def test_violins_are_drawn_into_the_folder_of_the_benchmark(world, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["benchmark", str(world / "screen.h5ad"), "--models", "linear", "--folds", "2", "--out", str(out)]
    assert run(command) == 0
    assert run(["violins", str(out)]) == 0
    assert (out / "violins.png").stat().st_size > 5000
    assert "DAC ↑" in (out / "study.md").read_text()
    assert str(out / "violins.png") in capsys.readouterr().out
    assert run(["violins", str(tmp_path)]) == 2
    assert "scores.parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ablate", "--model", "mean"], "E"),
        (["degrade", "--model", "kernel-ridge", "--shares", "many"], "no numbers"),
        (["degrade", "--model", "kernel-ridge"], "E505"),
    ],
)
def test_what_cannot_be_studied_is_refused_in_one_line(world, tmp_path, capsys, words, code):
    out = tmp_path / "study"
    assert run([words[0], str(world / "screen.h5ad"), *words[1:], "--out", str(out)]) == 2
    assert code in capsys.readouterr().err
