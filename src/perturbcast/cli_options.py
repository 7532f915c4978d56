"""Options that several verbs share, and the arguments of `perturbcast.read` as options."""

import inspect as signatures
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perturbcast.errors import BadOption, UnknownOption

if TYPE_CHECKING:
    from perturbcast.training.plan import RunOptions

Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random step.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of numeric libraries, per job.")]
Genes = Annotated[
    list[Path] | None,
    typer.Option("--genes", help="Gene tables, summaries, sequences, embedding tables: files or folders. Repeatable."),
]
Networks = Annotated[
    list[Path] | None, typer.Option("--networks", help="Edge files and GMT gene sets: files or folders. Repeatable.")
]
Fields = Annotated[
    list[str] | None, typer.Option("--set", help="Hyper-parameter: field=value or model.field=value. Repeatable.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

READING = {
    "perturbation": (str | None, None, "Column of obs that says what was perturbed."),
    "control": (str | None, None, "Label of control cells."),
    "context": (str | None, None, "Column of obs with cell line, donor or the like."),
    "separator": (str | None, None, "What joins the targets of a combination, such as + or _."),
    "layer": (str | None, None, "Layer to read; `raw` for adata.raw, `X` for X."),
    "gene_names": (str | None, None, "Column of var with gene names; `index` for var_names."),
    "scale": (str | None, None, "counts, log1p_cp10k, log1p_cpm, log_other, zscore or response."),
    "kind": (str | None, None, "cells or response."),
    "min_cells": (int | None, None, "Leave out conditions with fewer cells."),
    "duplicates": (str | None, None, "What to do with duplicated gene names: sum or first."),
    "guide_quality": (bool, True, "Keep only cells whose guide call is clear, where the file says so."),
    "backed": (bool | None, None, "Read from disk as needed; default: when the file is large."),
}

ARGUMENT = {"gene_names": "genes"}  # options of another name than the argument of `perturbcast.read`


TRAINING = {
    "epochs": (int | None, None, "Most passes over the cells; short for --set max_epochs=N."),
    "devices": (int | None, None, "Devices, or processes on the CPU."),
    "accelerator": (str | None, None, "cpu, cuda, mps, or auto: what there is. Default cpu."),
    "precision": (str | None, None, "fp32, or bf16: mixed. Default fp32."),
    "nodes": (int | None, None, "Machines, each of which runs this command under torchrun or a cluster manager."),
    "strategy": (str | None, None, "A strategy of Lightning, such as ddp."),
    "checkpoints": (Path | None, None, "Folder; a training that was interrupted goes on from it."),
    "checkpoint_seconds": (float | None, None, "Time between checkpoints. Default 60."),
    "loggers": (str | None, None, "csv, tensorboard, wandb, mlflow, joined by commas; into --checkpoints."),
}
RUN_ARGUMENT = {"nodes": "n_nodes", "checkpoints": "folder"}  # options of another name than the field of `RunOptions`


def with_reading_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with one option for each argument of `perturbcast.read`, gathered in its argument `reading`."""
    return with_options(
        verb,
        READING,
        into="reading",
        panel="Reading the file",
        gather=lambda given: {ARGUMENT.get(name, name): value for name, value in given.items()},
    )


def with_training_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with the options of training by gradient, gathered in its argument `trained` of type `TrainingWords`."""
    return with_options(
        verb, TRAINING, into="trained", panel="Training by gradient (models of the group `trained`)", gather=trained_by
    )


def with_options(
    verb: Callable[..., None],
    options: dict[str, tuple[Any, Any, str]],
    *,
    into: str,
    panel: str,
    gather: Callable[[dict[str, Any]], Any],
) -> Callable[..., None]:
    """The verb with more options, whose values reach it gathered in one argument."""
    signature = signatures.signature(verb)
    keyword = signatures.Parameter.KEYWORD_ONLY
    own = [entry.replace(kind=keyword) for name, entry in signature.parameters.items() if name != into]
    more = []
    for name, (kind, default, text) in options.items():
        option = Annotated[kind, typer.Option(help=text, rich_help_panel=panel)]  # type: ignore[valid-type]
        more.append(signatures.Parameter(name, keyword, default=default, annotation=option))

    @wraps(verb)
    def gathered(**given: Any) -> None:
        values = {name: given.pop(name) for name in options}
        verb(**given, **{into: gather(values)})

    gathered.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    gathered.__annotations__ = {entry.name: entry.annotation for entry in [*own, *more]}
    return gathered


@dataclass(frozen=True)
class TrainingWords:
    """What the command line says of training: fields of models, and what to run on (None where nothing was said)."""

    fields: dict[str, str]
    options: "RunOptions | None"


def trained_by(given: dict[str, Any]) -> TrainingWords:
    """The options of training as fields and `RunOptions`; BadOption for loggers without a folder to write into."""
    from perturbcast.training.plan import RunOptions

    said = {name: value for name, value in given.items() if value is not None}
    epochs = said.pop("epochs", None)
    fields = {} if epochs is None else {"max_epochs": str(epochs)}
    if not said:
        return TrainingWords(fields, None)
    if not said.get("checkpoints"):
        idle = [f"--{name.replace('_', '-')}" for name in ("loggers", "checkpoint_seconds") if name in said]
        if idle:
            raise BadOption(f"{' and '.join(idle)} would write nothing.", "Give a folder with --checkpoints.")
    if "loggers" in said:
        said["loggers"] = tuple(split_names(said["loggers"]))
    return TrainingWords(fields, RunOptions(**{RUN_ARGUMENT.get(name, name): value for name, value in said.items()}))


def split_names(text: str) -> list[str]:
    """Names joined by commas, blanks dropped."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parsed_fields(fields: list[str] | None) -> dict[str, str]:
    """`field=value` pairs as a mapping; the model checks names and values."""
    pairs = {}
    for field in fields or []:
        name, equals, value = field.partition("=")
        if not equals or not name:
            raise UnknownOption(f"--set {field!r} is not of the form field=value.", "Write --set field=value.")
        pairs[name.strip()] = value.strip()
    return pairs


def use_threads(threads: int) -> None:
    """Sets the number of threads of the numeric libraries; works because none is loaded yet."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(threads)
