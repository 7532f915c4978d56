"""Options that several verbs share, and the arguments of `perturbcast.read` as options."""

import inspect as signatures
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from perturbcast.errors import UnknownOption

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


def with_reading_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with one option for each argument of `perturbcast.read`, gathered in its argument `reading`."""
    signature = signatures.signature(verb)
    keyword = signatures.Parameter.KEYWORD_ONLY
    own = [entry.replace(kind=keyword) for name, entry in signature.parameters.items() if name != "reading"]
    options = []
    for name, (kind, default, text) in READING.items():
        option = Annotated[kind, typer.Option(help=text, rich_help_panel="Reading the file")]  # type: ignore[valid-type]
        options.append(signatures.Parameter(name, keyword, default=default, annotation=option))

    @wraps(verb)
    def gathered(**given: Any) -> None:
        reading = {ARGUMENT.get(name, name): given.pop(name) for name in READING}
        verb(**given, reading=reading)

    gathered.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    gathered.__annotations__ = {entry.name: entry.annotation for entry in [*own, *options]}
    return gathered


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
