"""Files of a benchmark are whole or absent, and a folder belongs to one benchmark."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perturbcast.benchmarking.dataset import load_datasets
from perturbcast.benchmarking.plan import Plan, make_plan, named_models
from perturbcast.benchmarking.store import opened_folder, prediction_path, write_table
from perturbcast.data.responses import ResponseTable
from perturbcast.data.splits import make_splits
from perturbcast.errors import NotAFile, NotWritable, OtherRun


def _plan(responses: ResponseTable, models: list[str], *, folds: int = 3, profile: str = "core") -> Plan:
    datasets = load_datasets(responses)
    splits = [("world", split) for split in make_splits(responses, "singles", seeds=(1,), folds=folds)]
    return make_plan(datasets, splits, named_models(models), profile=profile)


def test_a_table_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    class Unwritable(pd.DataFrame):
        def to_parquet(self, path: Path, **_: object) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(NotWritable, match="No space left"):
        write_table(Unwritable(), tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_finished_tasks_are_not_asked_for_again(responses: ResponseTable, tmp_path: Path) -> None:
    plan = _plan(responses, ["mean"])
    with opened_folder(tmp_path / "out") as store:
        assert store.open(plan) == list(plan.tasks)
        store.write_part(plan.tasks[2], pd.DataFrame({"value": [1.0]}))
        assert store.open(plan) == [*plan.tasks[:2], *plan.tasks[3:]]


def test_a_task_that_ended_by_a_defect_is_tried_again(responses: ResponseTable, tmp_path: Path) -> None:
    plan = _plan(responses, ["mean"])
    task = plan.tasks[0]
    with opened_folder(tmp_path / "out") as store:
        store.open(plan)
        store.write_part(task, pd.DataFrame({"value": [1.0]}), traceback="Traceback ...")
        assert task in store.open(plan)
        store.write_part(task, pd.DataFrame({"value": [2.0]}))
        assert task not in store.open(plan)


def test_what_a_killed_run_was_writing_is_removed(responses: ResponseTable, tmp_path: Path) -> None:
    plan = _plan(responses, ["mean"])
    with opened_folder(tmp_path / "out") as store:
        store.open(plan)
        left = [
            store.folder / "parts" / ".x.parquet.7.unfinished",
            store.folder / "predictions" / ".mean.h5ad.7.unfinished",
        ]
        for path in left:
            path.write_bytes(b"half")
        store.open(plan)
        assert not any(path.exists() for path in left)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"models": ["matching-mean"]}, "matching-mean"), ({"folds": 4}, "splits"), ({"profile": "full"}, "metrics")],
)
def test_another_benchmark_is_refused_with_what_differs(
    change: dict, said: str, responses: ResponseTable, tmp_path: Path
) -> None:
    with opened_folder(tmp_path / "out") as store:
        store.open(_plan(responses, ["mean"]))
        with pytest.raises(OtherRun, match=said):
            store.open(_plan(responses, **({"models": ["mean"]} | change)))


def test_a_folder_with_results_of_something_else_is_refused(responses: ResponseTable, tmp_path: Path) -> None:
    (tmp_path / "scores.parquet").write_bytes(b"mine")
    with opened_folder(tmp_path) as store, pytest.raises(OtherRun, match=r"scores\.parquet"):
        store.open(_plan(responses, ["mean"]))
    assert (tmp_path / "scores.parquet").read_bytes() == b"mine"


def test_a_damaged_plan_is_refused(responses: ResponseTable, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    with opened_folder(tmp_path) as store, pytest.raises(OtherRun, match=r"plan\.json"):
        store.open(_plan(responses, ["mean"]))


def test_two_runs_cannot_write_to_one_folder(tmp_path: Path) -> None:
    with opened_folder(tmp_path), pytest.raises(OtherRun, match="another run"), opened_folder(tmp_path):
        pass
    with opened_folder(tmp_path) as store:
        assert store.folder == tmp_path


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(NotAFile), opened_folder(tmp_path / "out"):
        pass


def test_names_of_data_sets_and_models_never_leave_the_folder(tmp_path: Path) -> None:
    path = prediction_path(tmp_path, dataset="../../etc", split="singles:0.2", seed=1, fold=-1, model="grape:paper/x")
    assert path.parent.parent.parent.parent == tmp_path / "predictions"
    assert path.name == "grape_paper_x.h5ad"


def test_settings_are_json(responses: ResponseTable) -> None:
    plan = _plan(responses, ["mean"])
    assert json.loads(json.dumps(plan.settings())) == plan.settings()
    assert np.array([len(task.key) for task in plan.tasks]).tolist() == [64] * len(plan.tasks)
