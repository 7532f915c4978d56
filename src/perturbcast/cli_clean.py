"""`perturbcast clean`: observed cells without their artefacts."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from perturbcast._progress import BarProgress
from perturbcast.cli_options import Out, Seed, Threads, use_threads, with_reading_options


class Which(StrEnum):
    """Which cells get new values."""

    FAILING = "failing"
    ALL = "all"


class Depth(StrEnum):
    """How many molecules a failing cell gets."""

    PASSING = "passing"
    OWN = "own"


@with_reading_options
def clean(
    model_dir: Path,
    file: Path,
    *,
    out: Out,
    quality: Annotated[
        str | None, typer.Option(help="Column of obs that is true for cells of low quality; default: the model's rule.")
    ] = None,
    which: Annotated[Which, typer.Option(help="Cells that get new values.")] = Which.FAILING,
    depth: Annotated[
        Depth, typer.Option(help="Molecules of failing cells: those of a passing cell, or their own.")
    ] = Depth.PASSING,
    seed: Seed = 0,
    threads: Threads = 1,
    reading: dict[str, Any],
) -> None:
    """Write the cells of a file without their artefacts, by a saved cradle-vae or gpo-vae; .h5ad."""
    use_threads(threads)
    from perturbcast.models.clean_file import clean as clean_file

    done = clean_file(
        model_dir,
        file,
        out=out,
        quality=quality,
        which=which.value,
        depth=depth.value,
        reading=reading,
        seed=seed,
        progress=BarProgress(),
    )
    for line in done.lines():
        typer.echo(f"  {line}")
    typer.echo(f"Cells: {done.path}")
