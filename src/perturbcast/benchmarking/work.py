"""What a task does: fit, predict and score one model, or describe one split; always ends in a table."""

import time
import traceback
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from perturbcast._progress import Progress
from perturbcast.benchmarking.dataset import Dataset
from perturbcast.benchmarking.learned_networks import keep_network
from perturbcast.benchmarking.panel import REFUSED
from perturbcast.benchmarking.plan import Task
from perturbcast.benchmarking.query_table import COLUMNS as QUERY_COLUMNS
from perturbcast.benchmarking.query_table import query_table
from perturbcast.benchmarking.sides import Sides, sides_of
from perturbcast.benchmarking.store import TRUTH, Store
from perturbcast.data.prediction import Prediction, Support
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import DefectError, PerturbcastError
from perturbcast.metrics.base import Evaluation
from perturbcast.metrics.ceilings import ceiling_scores
from perturbcast.metrics.score import score
from perturbcast.models.capabilities import SamplesCells, fit_on
from perturbcast.training.plan import RunOptions

COLUMNS = (
    *("dataset", "context", "split", "seed", "fold", "model", "condition", "metric", "gene_set"),
    *("value", "reason", "seconds", "support", "group"),
)
TYPES = {"seed": np.int64, "fold": np.int64, "value": float, "seconds": float}


@dataclass
class Worker:
    """Runs tasks one after another; keeps the sides of the last split, which the next task mostly shares."""

    datasets: dict[str, Dataset]
    store: Store
    profile: str
    run_options: RunOptions | None = None
    _sides: tuple[str, str, Sides] | None = field(default=None, repr=False)

    def run(self, task: Task, *, progress: Progress | None = None) -> None:
        """Does a task and stores its part. Only interruption and a full disk stop it; all else becomes a reason."""
        started = time.perf_counter()
        try:
            table, defect = self._table(task, progress), ""
        except PerturbcastError as refusal:
            table, defect = self._refused(task, str(refusal), time.perf_counter() - started), ""
        except Exception as error:
            reason = str(DefectError(f"{type(error).__name__}: {' '.join(str(error).split())}."))
            table, defect = self._refused(task, reason, time.perf_counter() - started), traceback.format_exc()
        self.store.write_part(task, table, traceback=defect)

    def _table(self, task: Task, progress: Progress | None) -> pd.DataFrame:
        sides = self._sides_of(task)
        if task.kind == "queries":
            self.store.write_prediction(_as_prediction(sides.truth), self.store.prediction(task, label=TRUTH))
            about = query_table(sides, task.split, self.datasets[task.dataset].responses)
            return _placed(about, task, QUERY_COLUMNS)
        if task.kind == "ceilings":
            found = ceiling_scores(sides.truth, sides.training.responses, de=sides.de, profile=self.profile)
            return self._long(task, found, support={}, seconds=0.0)
        return self._scored(task, sides, progress)

    def _options_of(self, task: Task) -> RunOptions | None:
        """What to train on; checkpoints of a task are in a folder of its own."""
        options = self.run_options
        if options is None or options.folder is None:
            return options
        return replace(options, folder=options.folder / task.key)

    def _scored(self, task: Task, sides: Sides, progress: Progress | None) -> pd.DataFrame:
        assert task.model is not None
        started = time.perf_counter()
        fitted = fit_on(
            task.model, sides.training, options=self._options_of(task), seed=task.split.seed, progress=progress
        )
        prediction = replace(fitted.predict(sides.truth.queries), model=task.label)
        seconds = time.perf_counter() - started
        self.store.write_prediction(prediction, self.store.prediction(task))
        keep_network(fitted, task, folder=self.store.folder)
        support = {tuple(query): str(kind) for query, kind in zip(prediction.queries, prediction.support, strict=True)}
        refused = _refusals(prediction)
        answered = np.flatnonzero(prediction.predicted)
        if not len(answered):
            return self._long(task, refused, support=support, seconds=seconds)
        evaluation = Evaluation(
            truth=sides.truth.take(answered),
            predicted=prediction.take(answered),
            training=sides.training.responses,
            de=sides.de_of([sides.truth.queries[row] for row in answered]),
            screen=sides.screen,
            seed=task.split.seed,
            sampler=fitted.sample_cells if isinstance(fitted, SamplesCells) else None,
        )
        found = score(evaluation, profile=self.profile).assign(model=task.label)
        both = pd.concat([refused, found], ignore_index=True) if len(refused) else found
        return self._long(task, both, support=support, seconds=seconds)

    def _refused(self, task: Task, reason: str, seconds: float) -> pd.DataFrame:
        """The table of a task that failed as a whole: a row with the reason for every query."""
        if task.kind == "queries":
            return _placed(pd.DataFrame(columns=list(QUERY_COLUMNS)), task, QUERY_COLUMNS)
        label = "ceiling:failed" if task.kind == "ceilings" else task.label
        rows = {
            "condition": [query.condition for query in task.split.test],
            "context": [query.context for query in task.split.test],
        }
        table = pd.DataFrame(
            rows | {"metric": REFUSED, "gene_set": "", "value": np.nan, "reason": reason, "model": label}
        )
        nothing = {tuple(query): str(Support.NOTHING) for query in task.split.test}
        return self._long(task, table, support=nothing, seconds=seconds)

    def _long(
        self, task: Task, table: pd.DataFrame, *, support: dict[tuple[str, ...], str], seconds: float
    ) -> pd.DataFrame:
        """The long table of a task, `COLUMNS`."""
        groups = {tuple(query): group for query, group in task.split.groups.items()}
        pairs = list(zip(table["condition"], table["context"], strict=True))
        table = table.assign(
            seconds=seconds,
            support=[support.get(pair, "") for pair in pairs],
            group=[groups.get(pair, "") for pair in pairs],
        )
        return _placed(table, task, COLUMNS).astype(TYPES)

    def _sides_of(self, task: Task) -> Sides:
        """The sides of a task's split, kept for the next task."""
        held = self._sides
        if held is None or held[:2] != (task.dataset, task.split.fingerprint):
            sides = sides_of(self.datasets[task.dataset], task.split, cache=self.store.cache)
            held = self._sides = (task.dataset, task.split.fingerprint, sides)
        return held[2]


def _placed(table: pd.DataFrame, task: Task, columns: tuple[str, ...]) -> pd.DataFrame:
    """The table with the columns that say which data set and split it is of."""
    fold = -1 if task.split.fold is None else task.split.fold
    return table.assign(dataset=task.dataset, split=task.split.rule, seed=task.split.seed, fold=fold)[list(columns)]


def _refusals(prediction: Prediction) -> pd.DataFrame:
    """A row for every query that was refused."""
    rows = np.flatnonzero(~prediction.predicted)
    return pd.DataFrame(
        {
            "condition": [prediction.queries[row].condition for row in rows],
            "context": [prediction.queries[row].context for row in rows],
            "metric": REFUSED,
            "gene_set": "",
            "value": np.nan,
            "reason": [prediction.reason[row] for row in rows],
            "model": prediction.model,
        }
    )


def _as_prediction(truth: ResponseTable) -> Prediction:
    """What was measured, in the form of predictions, to be written beside them."""
    return Prediction(
        queries=truth.queries,
        genes=truth.genes,
        response=truth.response,
        control=truth.control_by_query,
        support=(Support.SEEN,) * truth.n_queries,
        reason=("",) * truth.n_queries,
        scale=truth.scale,
        model=TRUTH,
    )
