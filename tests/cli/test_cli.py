"""The command line: exit statuses, coded errors, and the promises of its contract."""

import inspect as signatures
import json
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from hostile_cases import HOSTILE_CASES

from perturbcast.cli import run
from perturbcast.cli_options import ARGUMENT, READING
from perturbcast.data.conditions import targets_of
from perturbcast.data.readers import read
from perturbcast.data.simulate import simulate


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder of a small simulated world."""
    folder = tmp_path_factory.mktemp("cli") / "world"
    simulate(n_cells=1200, n_genes=80, n_targets=12, n_doubles=5, seed=1).write(folder)
    return folder


@pytest.fixture(scope="module")
def model(world):
    """The folder of an additive model fitted on it that refuses targets that were not seen."""
    out = world.parent / "model"
    command = ["fit", str(world / "screen.h5ad"), "--model", "additive:strict", "--out", str(out)]
    assert run(command) == 0
    return out


def listing(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def options(reading: dict) -> list[str]:
    """Arguments of `read` as options of the command line."""
    option_of = {argument: option for option, argument in ARGUMENT.items()}
    words = []
    for name, value in reading.items():
        flag = "--" + option_of.get(name, name).replace("_", "-")
        words += [flag if value else flag.replace("--", "--no-", 1)] if isinstance(value, bool) else [flag, str(value)]
    return words


def test_the_package_itself_can_be_run():
    done = subprocess.run([sys.executable, "-m", "perturbcast", "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("E109 UnknownOption")


def test_every_argument_of_read_is_an_option():
    arguments = set(signatures.signature(read).parameters) - {"path", "name"}
    assert {ARGUMENT.get(name, name) for name in READING} == arguments


ON_THE_LINE = {name: case for name, case in HOSTILE_CASES.items() if "argument" not in name or "misspelt" in name}


@pytest.mark.parametrize("name", ON_THE_LINE)
def test_bad_input_ends_in_one_coded_line_status_two_and_no_file(name, tmp_path, capsys):
    build, error = HOSTILE_CASES[name]
    path, arguments = build(tmp_path)
    if any(isinstance(value, list | tuple) or value is None for value in arguments.values()):
        pytest.skip("an argument that only Python can pass")
    before = listing(tmp_path)
    status = run(["benchmark", str(path), "--out", str(tmp_path / "bench"), "--models", "mean", *options(arguments)])
    shown = capsys.readouterr()
    assert status == 2
    assert shown.err.startswith(f"{error.code} {error.__name__}: ")
    assert len(shown.err.strip().splitlines()) == 1
    assert "Traceback" not in shown.err + shown.out
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["benchmrk"], "E109"),
        (["benchmark", "x.h5ad", "--otu", "y"], "E109"),
        (["inspect", "nowhere.h5ad"], "E201"),
        (["report", "nowhere"], "E702"),
        (["predict", "nowhere", "--conditions", "A", "--out", "x.h5ad"], "E"),
        (["predict", "nowhere", "--conditions", "A", "--out", "x.xlsx"], "E208"),
        (["data", "get", "normn"], "E901"),
    ],
)
def test_wrong_words_are_coded_errors(words, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    assert capsys.readouterr().err.startswith(code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "offered"),
    [
        (["--models", "kernelridge"], "E501", "kernel-ridge"),
        (["--models", "mean:cell"], "E502", "cells"),
        (["--models", "linear", "--set", "rigde=1"], "E109", "ridge"),
        (["--models", "linear", "--set", "ridge"], "E109", "field=value"),
        (["--models", "linear", "--set", "ridge=much"], "E110", ""),
        (["--split", "single"], "E403", "singles"),
        (["--split", "contexts"], "E402", ""),
        (["--folds", "60"], "E402", ""),
        (["--metrics", "most"], "E110", "core"),
        (["--genes", "nowhere"], "E201", ""),
    ],
)
def test_bad_choices_are_coded_errors_that_offer_the_nearest(world, tmp_path, capsys, words, code, offered):
    assert run(["benchmark", str(world / "screen.h5ad"), "--out", str(tmp_path / "b"), *words]) == 2
    message = capsys.readouterr().err
    assert message.startswith(code)
    assert offered in message


@pytest.mark.parametrize("content", [b"\xff\xfeK\x00L\x00", b"KLF1\x00\nMYC\n", b"caf\xe9\n"])
def test_conditions_that_are_no_text_are_refused_in_one_coded_line(model, tmp_path, capsys, content):
    (tmp_path / "asked.txt").write_bytes(content)
    command = ["predict", str(model), "--conditions-file", str(tmp_path / "asked.txt")]
    assert run([*command, "--out", str(tmp_path / "f.h5ad")]) == 2
    assert capsys.readouterr().err.startswith("E103")
    assert not (tmp_path / "f.h5ad").exists()


def test_predictions_keep_the_order_asked_for_and_refuse_with_a_coded_reason(world, model, tmp_path, capsys):
    screen = read(world / "screen.h5ad")
    targets = sorted({target for condition in screen.conditions for target in targets_of(condition)})
    asked = [f"{targets[1]}+{targets[0]}", "ctrl", "NOT_A_GENE", targets[2]]
    for ending in ("h5ad", "parquet", "csv"):
        out = tmp_path / f"p.{ending}"
        assert run(["predict", str(model), "--conditions", ",".join(asked), "--out", str(out)]) == 0
    assert "Predicted 3 of 4 conditions (1 control, 1 seen, 1 singles), refused 1" in capsys.readouterr().out
    table = anndata.read_h5ad(tmp_path / "p.h5ad")
    assert list(table.obs.condition) == [f"{targets[0]}+{targets[1]}", "ctrl", "NOT_A_GENE", targets[2]]
    assert list(table.obs.reason.astype(bool)) == [False, False, True, False]
    assert table.obs.reason.iloc[2].startswith("E")
    assert set(table.layers) - {None} == {"response", "expression", "sd"}  # anndata 0.13 lists X as None
    assert np.isnan(table.layers["response"][2]).all()
    assert (table.layers["response"][1] == 0).all()
    flat = pd.read_parquet(tmp_path / "p.parquet")
    np.testing.assert_allclose(flat[list(table.var_names)], table.layers["response"], rtol=1e-6)


def test_conditions_come_from_a_file_and_all_pairs_covers_every_pair(world, model, tmp_path):
    (tmp_path / "asked.txt").write_text("ctrl\n\nctrl\n")
    assert (
        run(["predict", str(model), "--conditions-file", str(tmp_path / "asked.txt"), "--out", str(tmp_path / "f.csv")])
        == 0
    )
    assert list(pd.read_csv(tmp_path / "f.csv").condition) == ["ctrl", "ctrl"]
    assert run(["predict", str(model), "--all-pairs", "--out", str(tmp_path / "pairs.h5ad")]) == 0
    pairs = anndata.read_h5ad(tmp_path / "pairs.h5ad")
    assert pairs.n_obs == 12 * 11 // 2
    assert run(["predict", str(model), "--all-singles", "--out", str(tmp_path / "singles.h5ad")]) == 0
    assert anndata.read_h5ad(tmp_path / "singles.h5ad").n_obs >= 80


def test_naming_conditions_twice_or_not_at_all_is_refused(model, tmp_path, capsys):
    for ways in ([], ["--all-pairs", "--all-singles"]):
        assert run(["predict", str(model), *ways, "--out", str(tmp_path / "p.csv")]) == 2
        assert capsys.readouterr().err.startswith("E110")


def test_inspect_and_models_print_json(world, capsys):
    assert run(["inspect", str(world / "screen.h5ad"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"decisions", "problems"} <= set(found)
    assert run(["models", "--json"]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)}
    promised = {"no-change", "mean", "matching-mean", "additive", "kappa-additive", "lowrank-additive", "linear"}
    assert promised | {"kernel-ridge", "nearest", "embedding-ridge"} <= names


def test_a_benchmark_writes_its_tables_and_a_second_call_changes_nothing(world, tmp_path, capsys):
    command = ["benchmark", str(world / "screen.h5ad"), "--models", "mean,additive", "--split", "doubles"]
    command += ["--metrics", "core", "--out", str(tmp_path / "b")]
    assert run(command) == 0
    scores = pd.read_parquet(tmp_path / "b" / "scores.parquet")
    first = (tmp_path / "b" / "summary.parquet").read_bytes()
    assert {"l2", "pearson_delta", "pearson_delta_perturbed", "pds_cosine"} <= set(scores.metric)
    assert {"no-change", "mean", "additive"} <= set(scores.model)
    for column in (
        "dataset",
        "context",
        "split",
        "seed",
        "model",
        "condition",
        "metric",
        "gene_set",
        "value",
        "reason",
    ):
        assert column in scores
    assert run(command) == 0
    assert (tmp_path / "b" / "summary.parquet").read_bytes() == first
    page = (tmp_path / "b" / "report.html").read_text()
    assert "additive" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_an_interruption_ends_with_status_130(monkeypatch, capsys):
    import perturbcast.models.registry as registry

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "model_list", interrupted)
    assert run(["models"]) == 130
    assert "Repeat" in capsys.readouterr().err


def test_a_defect_ends_with_status_one_and_no_traceback(monkeypatch, capsys):
    import perturbcast.models.registry as registry

    def broken():
        raise RuntimeError("wires crossed")

    monkeypatch.setattr(registry, "model_list", broken)
    assert run(["models"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("E001 DefectError: RuntimeError: wires crossed")
    assert "Traceback" not in shown


def test_a_network_is_inferred_converted_scored_and_drawn(tmp_path, capsys):
    simulate(n_cells=1600, n_genes=40, n_targets=8, n_doubles=0, seed=2).write(tmp_path / "world")
    screen, edges = str(tmp_path / "world" / "screen.h5ad"), str(tmp_path / "edges.tsv")
    assert run(["network", "infer", screen, "--out", edges, "--hold-out"]) == 0
    assert run(["network", "convert", edges, "--out", str(tmp_path / "edges.cx2"), "--top", "10"]) == 0
    assert json.loads((tmp_path / "edges.cx2").read_text())
    scores = tmp_path / "scores.csv"
    assert run(["network", "score", edges, screen, "--out", str(scores), "--tops", "5,20"]) == 0
    table = pd.read_csv(scores)
    assert set(table.k) == {5, 20}
    assert (table[table.score == "wasserstein"].value > 0).all()
    assert run(["network", "report", edges, "--out", str(tmp_path / "network.html")]) == 0
    assert "<html" in (tmp_path / "network.html").read_text()
    capsys.readouterr()
    assert run(["network", "methods", "--json"]) == 0
    assert "mean-difference" in {row["name"] for row in json.loads(capsys.readouterr().out)}


def test_bad_words_about_networks_are_coded_errors(world, tmp_path, capsys):
    screen = str(world / "screen.h5ad")
    assert run(["network", "infer", screen, "--method", "meandifference", "--out", str(tmp_path / "e.tsv")]) == 2
    assert "mean-difference" in capsys.readouterr().err
    assert run(["network", "infer", screen, "--out", str(tmp_path / "e.docx")]) == 2
    assert capsys.readouterr().err.startswith("E208")
    assert list(tmp_path.iterdir()) == []
