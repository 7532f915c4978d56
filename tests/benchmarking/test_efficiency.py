"""What models cost: measured in processes of their own, resumed, refusals in rows."""

import json

import numpy as np
import pandas as pd
import pytest

from perturbcast.benchmarking.efficiency import efficiency, markdown, n_trained
from perturbcast.cli import run
from perturbcast.data.simulate import simulate
from perturbcast.errors import BadOption
from perturbcast.models.fmlp import Fmlp

QUICK = {"max_steps": 20, "folds": 2, "width": 16, "n_latent": 8}


@pytest.fixture(scope="module")
def world():
    return simulate(n_cells=600, n_genes=60, n_targets=20, n_doubles=0, seed=0)


def test_cost_of_each_model_is_measured_once_and_kept(world, tmp_path):
    asked = ["mean", Fmlp(**QUICK)]
    first = efficiency(world.screen, models=asked, out=tmp_path)
    parts = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    again = efficiency(world.screen, models=asked, out=tmp_path)
    pd.testing.assert_frame_equal(first, again)
    assert parts == {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    mean, network = (first.set_index("model").loc[name] for name in ("mean", "fmlp"))
    assert mean["n_trained"] == 0 < network["n_trained"]
    assert network["memory_mib"] > mean["memory_mib"] > 0
    assert network["fit_seconds"] > mean["fit_seconds"] > 0
    assert network["fit_processor_seconds"] > mean["fit_processor_seconds"] > 0


def test_fields_of_a_short_training_are_told_beside_the_models_that_have_them(world, tmp_path):
    fields = {"max_steps": 3, "fmlp.folds": 2}
    table = efficiency(world.screen, models=["mean", "fmlp"], fields=fields, out=tmp_path)
    assert dict(zip(table["model"], table["settings"], strict=True)) == {"mean": "", "fmlp": "folds=2, max_steps=3"}
    assert "| folds=2, max_steps=3 |" in (tmp_path / "efficiency.md").read_text()


def test_weights_of_all_members_are_counted(world):
    from perturbcast.models.base import TrainingData

    fitted = Fmlp(**QUICK).fit(TrainingData.of(world.screen))
    members = [member for group in fitted.members.values() for member in group]
    assert n_trained(fitted) == sum(weights.numel() for member in members for weights in member.parameters())


def test_of_a_stack_only_the_trained_weights_of_its_members_are_counted(world):
    from perturbcast.models.base import TrainingData
    from perturbcast.models.registry import get_model

    given = TrainingData.of(world.screen)
    assert n_trained(get_model("stack", members=("kernel-ridge", "nearest"), folds=2).fit(given)) == 0
    assert n_trained(get_model("stack", members=("kernel-ridge", "fmlp"), folds=2).fit(given)) > 1000


def test_refusal_is_a_row_with_its_reason(world, tmp_path):
    responses = efficiency(world.screen, models=["mean"], out=tmp_path / "a")
    assert responses["reason"].tolist() == [""]
    from perturbcast.data.statistics import response_table

    table = efficiency(response_table(world.screen), models=["sams-vae"], out=tmp_path / "b")
    assert "cells" in table["reason"][0]
    assert np.isnan(table["fit_seconds"][0])
    assert table["reason"][0] in markdown(table)


def test_split_of_cells_is_refused(world, tmp_path):
    with pytest.raises(BadOption, match="divides cells"):
        efficiency(world.screen, models=["mean"], out=tmp_path, split="cells")


def test_verb_writes_the_table(world, tmp_path, capsys):
    folder = world.write(tmp_path / "world")
    screen = next(folder.glob("*.h5ad")) if folder.is_dir() else folder
    assert run(["efficiency", str(screen), "--models", "mean,no-change", "--out", str(tmp_path / "out")]) == 0
    assert "| no-change |" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "out" / "efficiency.tsv", sep="\t")
    assert rows["model"].tolist() == ["mean", "no-change"]
    assert all(json.loads(part.read_text()) for part in (tmp_path / "out" / "parts").glob("*.json"))
