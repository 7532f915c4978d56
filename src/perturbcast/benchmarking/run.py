"""`benchmark(...)`: models on held-out perturbations beside simple baselines; resumable; ends in tables."""

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from perturbcast._progress import Progress
from perturbcast.benchmarking.compare import summarise
from perturbcast.benchmarking.dataset import Data, Dataset, load_datasets
from perturbcast.benchmarking.execute import execute
from perturbcast.benchmarking.learned_networks import score_networks
from perturbcast.benchmarking.plan import NamedModel, Plan, make_plan, named_models
from perturbcast.benchmarking.record import run_record
from perturbcast.benchmarking.store import TRACEBACK, Store, opened_folder, write_table, write_text
from perturbcast.benchmarking.work import Worker
from perturbcast.data.audit import AuditReport
from perturbcast.data.likeness import gather_evidence
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.split import Split
from perturbcast.data.splits import make_splits
from perturbcast.errors import BadOption, NothingToScore
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.models.base import Model
from perturbcast.models.capabilities import check_options
from perturbcast.training.plan import RunOptions

PROFILES = ("core", "full")
Say = Callable[[str], object]


@dataclass(frozen=True)
class Benchmark:
    """The tables of a finished benchmark, as they are in its folder."""

    folder: Path
    scores: pd.DataFrame
    summary: pd.DataFrame
    queries: pd.DataFrame
    run: dict[str, Any] = field(default_factory=dict)


def benchmark(
    data: Data | Sequence[Data],
    *,
    models: Sequence[str | Model | NamedModel] | str = ("baselines",),
    splits: Sequence[str | Path] | str = ("singles",),
    seeds: int | Sequence[int] = 1,
    folds: int = 5,
    out: str | Path,
    knowledge: GeneKnowledge | Sequence[str | Path] | str | Path | None = None,
    jobs: int = 1,
    threads: int = 1,
    allow_leaks: bool = False,
    run_options: RunOptions | None = None,
    metrics_profile: str = "full",
    fields: Mapping[str, Any] | None = None,
    reading: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Benchmark:
    """Scores of models on held-out perturbations, with intervals, floors and ceilings, written to the folder `out`.

    `data`: files or objects. `models`: names, groups (`baselines`, `all`) or objects; simple baselines always run
    beside them. `splits`: rules or split files. `seeds`: how many (1, 2, ...) or which. `fields`: hyper-parameters,
    `{"ridge": 0.1}` for every model that has it or `{"kernel-ridge.ridge": 0.1}`. `reading`: arguments of `read`.
    `knowledge`: files and folders of gene knowledge. `jobs` processes with `threads` threads each; results do not
    depend on them. With `jobs` above 1 a script needs the usual `if __name__ == "__main__":`. `run_options`: devices,
    precision and folder of checkpoints of models trained by gradient, each of which has a folder of its own in that.

    Killed or interrupted, the same call goes on where it stopped and ends with the same tables. A model that fails or
    refuses has rows with a reason. `say` is given what is read and what is wrong; without it leaks are Python warnings.

    Raises LeakError for a split whose audit finds leaks (with `allow_leaks` they are recorded), OtherRun if `out` holds
    something else, NothingToScore if no model gave a prediction, ProcessLost if memory ran out in one of several
    processes, BadOption for `run_options` that no model can use, and the errors of reading, splitting and naming.
    """
    started = time.perf_counter()
    chosen = named_models([models] if isinstance(models, str) else models, fields=fields)
    rules = [splits] if isinstance(splits, str) else list(splits)
    numbers = tuple(range(1, seeds + 1)) if isinstance(seeds, int) else tuple(seeds)
    check_options([named.model for named in chosen], run_options)
    _check(jobs=jobs, threads=threads, n_seeds=len(numbers), n_rules=len(rules), profile=metrics_profile)
    with _threads(threads), opened_folder(Path(out)) as store:
        datasets = load_datasets(data, knowledge=knowledge, reading=reading, progress=progress)
        _tell(datasets, say)
        pairs = _splits_of(datasets, rules, seeds=numbers, folds=folds)
        audits = _audited(datasets, pairs, allow_leaks=allow_leaks)
        precision = "fp32" if run_options is None else run_options.precision
        plan = make_plan(datasets, pairs, chosen, profile=metrics_profile, precision=precision)
        todo = store.open(plan)
        if say is not None and len(todo) < len(plan.tasks):
            say(f"{len(plan.tasks) - len(todo)} of {len(plan.tasks)} tasks were done before.")
        worker = Worker({dataset.name: dataset for dataset in datasets}, store, metrics_profile, run_options)
        execute(todo, worker=worker, jobs=jobs, threads=threads, progress=progress)
        configuration = {
            "models": [named.label for named in chosen],
            "splits": [str(rule) for rule in rules],
            "seeds": list(numbers),
            "folds": folds,
            "metrics": metrics_profile,
            "fields": {name: str(value) for name, value in (fields or {}).items()},
            "allow_leaks": allow_leaks,
            "precision": precision,
        }
        given = [data] if isinstance(data, str | Path | Screen | ResponseTable) else list(data)
        score_networks(plan, folder=store.folder, files=given)
        leaks = [f"{audit.split}: {leak}" for audit in audits for leak in audit.leaks]
        _warn(leaks, say)
        return _finish(
            store,
            plan,
            configuration=configuration,
            audits=audits,
            leaks=leaks,
            started=started,
            n_done=len(todo),
        )


def _check(*, jobs: int, threads: int, n_seeds: int, n_rules: int, profile: str) -> None:
    for name, value in (("jobs", jobs), ("threads", threads), ("seeds", n_seeds), ("splits", n_rules)):
        if value < 1:
            raise BadOption(f"{name} is {value}.", f"Use 1 or more {name}.")
    if profile not in PROFILES:
        raise BadOption(f"no metric profile is called {profile!r}.", f"Use {' or '.join(PROFILES)}.")


def _threads(threads: int) -> Any:
    """Limits the numeric libraries of this process, which are loaded by now."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(threads)


def _tell(datasets: Sequence[Dataset], say: Say | None) -> None:
    """Says how each data set was read and what knowledge was recognised."""
    for dataset in datasets if say is not None else ():
        assert say is not None
        say(f"{dataset.name}: {dataset.responses.n_queries} queries, {dataset.responses.n_genes} genes")
        for decision in dataset.decisions:
            say(f"  {decision.what}: {decision.value} ({decision.evidence})")
        for note in dataset.knowledge.notes:
            say(f"  {note}")


def _splits_of(
    datasets: Sequence[Dataset], rules: Sequence[str | Path], *, seeds: Sequence[int], folds: int
) -> list[tuple[str, Split]]:
    """Every split of every data set, each once."""
    found = [
        (dataset.name, split)
        for dataset in datasets
        for rule in rules
        for split in make_splits(dataset.data, rule, seeds=seeds, folds=folds)
    ]
    return list({(name, split.rule, split.seed, split.fold): (name, split) for name, split in found}.values())


def _audited(
    datasets: Sequence[Dataset], splits: Sequence[tuple[str, Split]], *, allow_leaks: bool
) -> list[AuditReport]:
    """The audit of every split; LeakError where one leaks and that was not allowed."""
    evidence = {
        dataset.name: replace(gather_evidence(dataset.data, profiles=False), table=dataset.responses)
        for dataset in datasets
    }
    aliases = {dataset.name: _aliases(dataset.knowledge) for dataset in datasets}
    audits = [split.audit(evidence[name], aliases=aliases[name]) for name, split in splits]
    if not allow_leaks:
        for audit in audits:
            audit.raise_if_leaking()
    return audits


def _aliases(knowledge: GeneKnowledge) -> dict[str, str]:
    """Alias -> symbol, for aliases of one gene only that are no symbol themselves."""
    if knowledge.table is None or "aliases" not in knowledge.table.frame:
        return {}
    frame = knowledge.table.frame
    pairs = [
        (alias, symbol) for symbol, names in zip(frame["symbol"], frame["aliases"], strict=True) for alias in names
    ]
    owners = pd.DataFrame(pairs, columns=["alias", "symbol"]).drop_duplicates()
    owners = owners[~owners["alias"].duplicated(keep=False) & ~owners["alias"].isin(frame["symbol"])]
    return dict(zip(owners["alias"], owners["symbol"], strict=True))


def _warn(leaks: Sequence[str], say: Say | None) -> None:
    for leak in leaks:
        if say is None:
            warnings.warn(f"scored although the split leaks: {leak}", stacklevel=3)
        else:
            say(f"Warning: scored although the split leaks: {leak}")


def _finish(
    store: Store,
    plan: Plan,
    *,
    configuration: Mapping[str, Any],
    audits: Sequence[AuditReport],
    leaks: Sequence[str],
    started: float,
    n_done: int,
) -> Benchmark:
    """Assembles the parts in the order of the plan and writes the tables."""
    scores = _assembled(store, plan, of_queries=False)
    queries = _assembled(store, plan, of_queries=True)
    summary = summarise(scores)
    failed = [task for task in plan.tasks if store.traceback(task).is_file()]
    notes = [f"Scored although the split leaks: {leak}" for leak in leaks]
    notes += [f"{task.label} on {task.dataset} failed: see parts/{task.key}{TRACEBACK}" for task in failed]
    record = run_record(
        plan,
        configuration=configuration,
        audits=audits,
        warnings=notes,
        seconds=time.perf_counter() - started,
        n_done_now=n_done,
    )
    for table, name in ((scores, "scores"), (queries, "queries"), (summary, "summary")):
        write_table(table, store.folder / f"{name}.parquet")
    write_text(json.dumps(record, indent=1), store.folder / "run.json")
    store.close(plan)
    if not summary["mean"].notna().any():
        raise NothingToScore(f"none of {len(plan.models)} models gave a prediction that could be scored.")
    return Benchmark(store.folder, scores, summary, queries, record)


def _assembled(store: Store, plan: Plan, *, of_queries: bool) -> pd.DataFrame:
    """The parts of the scoring tasks, or of the tasks that describe queries, one after another."""
    parts = [pd.read_parquet(store.part(task)) for task in plan.tasks if (task.kind == "queries") == of_queries]
    filled = [part for part in parts if len(part)]
    return pd.concat(filled or parts, ignore_index=True)
