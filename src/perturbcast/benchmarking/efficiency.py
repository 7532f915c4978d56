"""What a model costs: parameters, time to fit and to answer, peak memory; each model in a process of its own."""

import json
import multiprocessing
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbcast._files import written_whole
from perturbcast._progress import Progress
from perturbcast.benchmarking.dataset import Data, Dataset, load_datasets
from perturbcast.benchmarking.execute import THREAD_VARIABLES, environment
from perturbcast.benchmarking.fingerprint import fingerprint
from perturbcast.benchmarking.plan import NamedModel, named_models
from perturbcast.benchmarking.sides import training_side
from perturbcast.data.conditions import Query
from perturbcast.data.split import Split
from perturbcast.data.splits import make_splits
from perturbcast.errors import BadOption, PerturbcastError
from perturbcast.models.base import FittedModel, Model, TrainingData

TRAINED = re.compile(r"(^|\.)(net|member\.\w+-\d+)\.")  # in names of arrays that are trained weights
ANSWERS = 200  # queries that are timed, repeated if there are fewer
KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Cost:
    """One model on one training side. Memory is the highest of its process, Python and data included."""

    model: str
    n_trained: int  # weights trained by gradient, all members together
    n_kept: int  # all numbers that are kept to answer, knowledge included
    fit_seconds: float
    answer_milliseconds: float  # per query, asked together
    memory_mib: float  # highest
    memory_before_mib: float  # before the fit
    reason: str = ""  # why there is no fit; numbers are NaN then
    fit_processor_seconds: float = float("nan")  # over all threads; says more than time where the machine is busy
    settings: str = ""  # fields that were set for the measurement, such as a short training


def efficiency(
    data: Data,
    *,
    models: Sequence[str | Model],
    out: str | Path,
    split: str = "singles",
    knowledge: Sequence[str | Path] | None = None,
    fields: Mapping[str, Any] | None = None,
    reading: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row of `Cost` per model fitted to the first training side of a split; in `out` efficiency.tsv and .md.

    One model at a time, each in a fresh process, so that peak memory is its own. Interrupted, the same call goes on
    with the models that are missing. A model that refuses has a row with its reason. `fields` shorten a training, and
    are told in the column `settings`. BadOption for splits of cells.
    """
    progress = progress or Progress()
    chosen = named_models(list(models), fields=fields)
    dataset = load_datasets(data, knowledge=knowledge, reading=reading, progress=progress)[0]
    side = make_splits(dataset.data, split, seeds=[1])[0]
    folder = Path(out)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    if side.cells_train is not None:
        raise BadOption(f"the split {side.name!r} divides cells.", "Use one that divides queries, such as singles.")
    training = training_side(dataset, side)
    pairs = [
        (named, _remembered(named, dataset, side, training, folder=folder, seed=seed, threads=threads))
        for named in progress.track(chosen, label="efficiency")
    ]
    table = pd.DataFrame([asdict(cost) | {"settings": _settings(named, fields)} for named, cost in pairs])
    for name, text in (("efficiency.tsv", table.to_csv(sep="\t", index=False)), ("efficiency.md", markdown(table))):
        with written_whole(folder / name) as draft:
            draft.write_text(text, encoding="utf-8")
    return table


def _remembered(
    named: NamedModel,
    dataset: Dataset,
    split: Split,
    training: TrainingData,
    *,
    folder: Path,
    seed: int,
    threads: int,
) -> Cost:
    identity = (dataset.fingerprint, dataset.knowledge_fingerprint, split.fingerprint, named.fingerprint, seed, threads)
    part = folder / "parts" / f"{fingerprint(identity)}.json"
    if part.is_file():
        return Cost(**json.loads(part.read_text(encoding="utf-8")))
    asked = [split.test[row % len(split.test)] for row in range(ANSWERS)]
    cost = _in_a_process(named, training, asked, seed=seed, threads=threads)
    with written_whole(part) as draft:
        draft.write_text(json.dumps(asdict(cost)), encoding="utf-8")
    return cost


def _settings(named: NamedModel, fields: Mapping[str, Any] | None) -> str:
    """The fields among `fields` that the model has, whether they were given for it alone or for all."""
    own = {key.rpartition(".")[2] for key in fields or {} if key.rpartition(".")[0] in ("", named.model.card.name)}
    known = [entry.name for entry in dataclass_fields(named.model) if entry.name in own]
    return ", ".join(f"{name}={getattr(named.model, name)}" for name in known)


def _in_a_process(named: NamedModel, training: TrainingData, asked: list[Query], *, seed: int, threads: int) -> Cost:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with environment(dict.fromkeys(THREAD_VARIABLES, str(threads))):
        process = context.Process(target=_measure, args=(theirs,))
        process.start()
        theirs.close()
    try:
        ours.send((named, training, asked, seed, threads))
        return ours.recv()
    except (EOFError, BrokenPipeError):
        process.join()
        return _no_fit(named.label, f"its process ended with status {process.exitcode}; memory may have run out.")
    finally:
        process.join()


def _measure(pipe: Any) -> None:
    """The child's side: fits, answers, and sends the cost back."""
    named, training, asked, seed, threads = pipe.recv()
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
    pipe.send(cost_of(named, training, asked, seed=seed))


def cost_of(named: NamedModel, training: TrainingData, asked: Sequence[Query], *, seed: int = 0) -> Cost:
    """The cost of one model in this process; memory is the highest of the process so far."""
    before, started, used = peak_memory(), time.perf_counter(), time.process_time()
    try:
        fitted = named.model.fit(training, seed=seed)
    except PerturbcastError as refusal:
        return _no_fit(named.label, str(refusal))
    fitted_at, used = time.perf_counter(), time.process_time() - used
    fitted.predict(list(asked))
    return Cost(
        model=named.label,
        n_trained=n_trained(fitted),
        n_kept=sum(int(np.size(array)) for array in fitted.state().values() if np.asarray(array).dtype != np.uint8),
        fit_seconds=fitted_at - started,
        answer_milliseconds=1000 * (time.perf_counter() - fitted_at) / max(len(asked), 1),
        memory_mib=peak_memory(),
        memory_before_mib=before,
        fit_processor_seconds=used,
    )


def n_trained(fitted: FittedModel) -> int:
    """How many weights were trained by gradient, all members of an ensemble together."""
    return sum(int(np.size(array)) for name, array in fitted.state().items() if TRAINED.search(name))


def peak_memory() -> float:
    """Highest resident memory of this process so far, in MiB.

    On Linux `ru_maxrss` starts at that of the process that started this one; the high-water mark does not.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * KIB / MIB
    import resource

    unit = 1 if sys.platform == "darwin" else KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def _no_fit(label: str, reason: str) -> Cost:
    unknown = float("nan")
    return Cost(label, 0, 0, unknown, unknown, unknown, unknown, reason)


def markdown(table: pd.DataFrame) -> str:
    """The table of costs for a page of text, quickest fit first."""
    lines = [
        "| model | trained weights | numbers kept | fit, s | of processor, s | answer, ms a query | memory, MiB |"
        " before | set |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    costs = [Cost(**row) for row in table.sort_values("fit_seconds", kind="stable").to_dict("records")]  # type: ignore[arg-type]
    for cost in costs:
        if cost.reason:
            lines.append(f"| {cost.model} | {cost.reason.replace('|', ' ')} | | | | | | | {cost.settings} |")
            continue
        counts = f"{f'{cost.n_trained:,}' if cost.n_trained else '–'} | {cost.n_kept:,}"
        taken = (cost.fit_seconds, cost.fit_processor_seconds, cost.answer_milliseconds)
        times = " | ".join(map(_three_digits, taken))
        memory = f"{cost.memory_mib:.0f} | {cost.memory_before_mib:.0f}"
        lines.append(f"| {cost.model} | {counts} | {times} | {memory} | {cost.settings} |")
    return "\n".join(lines) + "\n"


def _three_digits(value: float) -> str:
    """Three significant digits; what is too short to be measured well is said to be short."""
    return f"{value:.0f}" if value >= 100 else "< 0.001" if value < 0.001 else f"{value:.3g}"
