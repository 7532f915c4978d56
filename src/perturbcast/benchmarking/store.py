"""The folder of a benchmark: finished tasks as parts, so that a run killed at any moment goes on where it stopped.

    plan.json       what the folder is for; another benchmark is refused
    parts/          one table per finished task, named by its key
    predictions/    the predictions of every model, one file per data set, split, seed and fold
    cache/          what several tasks need; removed at the end
    scores.parquet, queries.parquet, summary.parquet, run.json

Every file is written under another name, flushed to disk and renamed; a part is the last file that a task writes.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from perturbcast._files import UNFINISHED, written_whole
from perturbcast.errors import NotAFile, NotWritable, OtherRun

if TYPE_CHECKING:
    from perturbcast.benchmarking.plan import Plan, Task
    from perturbcast.data.prediction import Prediction

RESULTS = ("scores.parquet", "queries.parquet", "summary.parquet", "run.json")
TRACEBACK = ".traceback.txt"
LOCK = ".lock"
TRUTH = "truth"  # among the predictions, what was measured


@dataclass(frozen=True)
class Store:
    """Where the parts of a benchmark are."""

    folder: Path

    @property
    def cache(self) -> Path:
        """Folder of what several tasks need."""
        return self.folder / "cache"

    def part(self, task: "Task") -> Path:
        """The table of a finished task."""
        return self.folder / "parts" / f"{task.key}.parquet"

    def traceback(self, task: "Task") -> Path:
        """What went wrong in a task that ended by a defect; such a task is tried again by the next run."""
        return self.folder / "parts" / f"{task.key}{TRACEBACK}"

    def prediction(self, task: "Task", *, label: str | None = None) -> Path:
        """The predictions of a model, or under the label `truth` what was measured."""
        fold = -1 if task.split.fold is None else task.split.fold
        return prediction_path(
            self.folder, dataset=task.dataset, split=task.split.rule, seed=task.split.seed, fold=fold,
            model=label or task.label,
        )  # fmt: skip

    def write_prediction(self, prediction: "Prediction", path: Path) -> None:
        """Writes an .h5ad file of predictions, flushed to disk."""
        from perturbcast.data.prediction_files import write_predictions

        path.parent.mkdir(parents=True, exist_ok=True)
        write_predictions([prediction], path)

    def is_finished(self, task: "Task") -> bool:
        """Whether the task's part is there, and not the trace of a defect."""
        return self.part(task).is_file() and not self.traceback(task).is_file()

    def write_part(self, task: "Task", table: pd.DataFrame, *, traceback: str = "") -> None:
        """Marks a task as finished, or with `traceback` as ended by a defect."""
        if traceback:
            write_text(traceback, self.traceback(task))
        write_table(table, self.part(task))
        if not traceback and self.traceback(task).is_file():
            self.traceback(task).unlink()

    def open(self, plan: "Plan") -> list["Task"]:
        """The tasks still to be done, after making the folder ready. OtherRun if it holds another benchmark."""
        settings = {"fingerprint": plan.fingerprint, **plan.settings()}
        self._refuse_other(settings)
        for name in ("parts", "cache", "predictions"):
            (self.folder / name).mkdir(exist_ok=True)
        self._remove_unfinished()
        write_text(json.dumps(settings, indent=1), self.folder / "plan.json")
        return [task for task in plan.tasks if not self.is_finished(task)]

    def close(self, plan: "Plan") -> None:
        """Removes what is needed no more: the cache, and parts of no task of this plan."""
        shutil.rmtree(self.cache, ignore_errors=True)
        kept = {self.part(task).name for task in plan.tasks} | {self.traceback(task).name for task in plan.tasks}
        for path in (self.folder / "parts").iterdir():
            if path.name not in kept:
                path.unlink()

    def _remove_unfinished(self) -> None:
        """Removes what a killed run was writing."""
        for name in ("parts", "cache", "predictions"):
            for left in (self.folder / name).rglob(f".*{UNFINISHED}"):
                left.unlink()
        for left in self.folder.glob(f".*{UNFINISHED}"):
            left.unlink()

    def _refuse_other(self, settings: Mapping[str, Any]) -> None:
        path = self.folder / "plan.json"
        if not path.is_file():
            taken = [name for name in RESULTS if (self.folder / name).exists()]
            if taken:
                raise OtherRun(f"{str(self.folder)!r} holds {taken[0]} of something else.")
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise OtherRun(f"{str(path)!r} cannot be read.") from error
        if found.get("fingerprint") != settings["fingerprint"]:
            raise OtherRun(f"{str(self.folder)!r} holds another benchmark: {_difference(found, settings)}.")


@contextmanager
def opened_folder(folder: Path) -> Iterator[Store]:
    """The store of a folder, made if absent and locked against a second run. NotWritable, NotAFile, OtherRun."""
    if folder.exists() and not folder.is_dir():
        raise NotAFile(f"{str(folder)!r} is a file.", "Choose another --out.")
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise NotWritable(f"{str(folder)!r} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OtherRun(f"another run is writing to {str(folder)!r}.", "Wait for it, or stop it.") from error
        try:
            yield Store(folder)
        finally:
            _remove_unused(made)


def _remove_unused(made: Sequence[Path]) -> None:
    """Removes the folders that were made, innermost first, if bad input left nothing in them but the lock."""
    if made and [path.name for path in made[0].iterdir()] == [LOCK]:
        (made[0] / LOCK).unlink()
        for place in made:
            place.rmdir()


def prediction_path(folder: Path, *, dataset: str, split: str, seed: int, fold: int, model: str) -> Path:
    """Where the predictions of a model are, or with the model `truth` what was measured."""
    parts = (dataset, split, f"{seed}-{fold}", f"{model}.h5ad")
    return folder.joinpath("predictions", *(_as_file_name(part) for part in parts))


def read_match(
    folder: Path, *, dataset: str, split: str, seed: int, fold: int, model: str, condition: str, context: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Gene names, predicted and observed response of one query; None if either is not in the folder."""
    from anndata import read_h5ad

    profiles = []
    for name in (model, TRUTH):
        path = prediction_path(folder, dataset=dataset, split=split, seed=seed, fold=fold, model=name)
        if not path.is_file():
            return None
        table = read_h5ad(path)
        rows = np.flatnonzero((table.obs["condition"] == condition) & (table.obs["context"] == context))
        if not len(rows):
            return None
        profiles.append(np.asarray(table.X)[rows[0]].astype(float))
    return table.var_names.to_numpy(dtype=object), profiles[0], profiles[1]


def _difference(found: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """In words, the first setting that differs."""
    for name, value in asked.items():
        before = found.get(name)
        if name == "fingerprint" or before == value:
            continue
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            for change, keys in (("without", before.keys() - value.keys()), ("with", value.keys() - before.keys())):
                if keys:
                    return f"this one is {change} {', '.join(sorted(keys)[:3])} in its {name}"
            changed = [key for key in value if before[key] != value[key]]
            return f"{changed[0]} of its {name} is not the same"
        return f"its {name} is {before!r}, not {value!r}"
    return "its tasks differ"


# ------------------------------------------------------------------------------------------------------ atomic writing
def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes a parquet file, whole or not at all."""
    with written_whole(path) as draft:
        table.to_parquet(draft, index=False)


def write_text(text: str, path: Path) -> None:
    """Writes a text file, whole or not at all."""
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes an .npz file, whole or not at all."""
    with written_whole(path) as draft, draft.open("wb") as file:
        np.savez(file, **cast("dict[str, Any]", dict(arrays)))


def _as_file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_.+" else "_" for letter in text).lstrip(".") or "_"
