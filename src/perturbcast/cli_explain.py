"""`perturbcast explain`: what a saved model's answers go by."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from perturbcast.cli_options import Out, Threads, use_threads, with_reading_options


class Table(StrEnum):
    """Endings of the tables."""

    TSV = "tsv"
    PARQUET = "parquet"


@with_reading_options
def explain(
    model_dir: Path,
    *,
    condition: Annotated[list[str], typer.Option("--condition", help="Such as A or A+B. Repeatable.")],
    out: Out,
    data: Annotated[
        Path | None, typer.Option("--data", help="Cells or responses with the condition, to compare with.")
    ] = None,
    table: Annotated[Table, typer.Option(help="Kind of table.")] = Table.TSV,
    threads: Threads = 1,
    reading: dict[str, Any],
) -> None:
    """Say what a saved model's answers go by: genes, and the nearest training conditions; tables and figures."""
    use_threads(threads)
    from perturbcast.report.explain_files import explain_into

    for line in explain_into(model_dir, condition, out=out, data=data, ending=table.value, reading=reading):
        typer.echo(line)
