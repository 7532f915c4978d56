"""The verb `perturbcast efficiency`: what models cost."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perturbcast._progress import BarProgress
from perturbcast.cli_options import (
    Fields,
    Genes,
    Networks,
    Out,
    Seed,
    Threads,
    parsed_fields,
    split_names,
    use_threads,
    with_reading_options,
)


@with_reading_options
def efficiency(
    file: Path,
    *,
    out: Out,
    models: Annotated[
        str, typer.Option(help="Names joined by commas, or the groups `baselines`, `trained` and `all`.")
    ] = "baselines",
    split: Annotated[str, typer.Option(help="The rule whose first training side is fitted.")] = "singles",
    genes: Genes = None,
    networks: Networks = None,
    fields: Fields = None,
    seed: Seed = 0,
    threads: Threads = 1,
    reading: dict[str, Any],
) -> None:
    """Parameters, time to fit, time to answer and peak memory of models, each measured in a process of its own."""
    use_threads(threads)
    from perturbcast.benchmarking.efficiency import efficiency as measure
    from perturbcast.benchmarking.efficiency import markdown

    table = measure(
        file,
        models=split_names(models),
        out=out,
        split=split,
        knowledge=[*(genes or []), *(networks or [])],
        fields=parsed_fields(fields),
        reading=reading,
        seed=seed,
        threads=threads,
        progress=BarProgress(),
    )
    typer.echo(markdown(table), nl=False)
    typer.echo(f"Table: {out / 'efficiency.tsv'}")
