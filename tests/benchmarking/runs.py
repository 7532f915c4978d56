"""What the tests of whole benchmarks share."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from perturbcast._progress import Progress
from perturbcast.benchmarking.run import benchmark
from perturbcast.data.responses import ResponseTable

MODELS = ("matching-mean", "additive")
TIMES = ("finished", "seconds", "peak_memory_mb", "n_tasks_this_time")


class StoppedAfter(Progress):
    """Stands for Ctrl-C after some tasks."""

    def __init__(self, n_tasks: int) -> None:
        self.n_tasks = n_tasks

    def track(self, items: Iterable[Any], *, label: str, total: int | None = None) -> Iterator[Any]:
        """The items, and an interruption in the middle."""
        for position, item in enumerate(items):
            if label == "benchmark" and position == self.n_tasks:
                raise KeyboardInterrupt
            yield item


def run_small(responses: ResponseTable, out: Path, **changed: Any) -> Any:
    """A benchmark of a second."""
    asked = {"models": MODELS, "splits": ("singles", "doubles"), "folds": 2, "metrics_profile": "core"}
    return benchmark(responses, out=out, **(asked | changed))


def contents(folder: Path) -> dict[str, Any]:
    """Everything in a benchmark folder that must not depend on interruptions: tables without times, run.json."""
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("scores", "queries", "summary")}
    tables["scores"] = tables["scores"].drop(columns="seconds")
    run = json.loads((folder / "run.json").read_text())
    predictions = sorted(str(path.relative_to(folder)) for path in (folder / "predictions").rglob("*"))
    parts = sorted(path.name for path in (folder / "parts").iterdir())
    return {
        **{name: table.to_csv(index=False) for name, table in tables.items()},
        "run": {name: value for name, value in run.items() if name not in TIMES},
        "files": predictions + parts + sorted(path.name for path in folder.iterdir()),
    }
