"""The verbs `ablate`, `degrade` and `violins`: what a model owes to its parts and its graph, and single conditions."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perturbcast._progress import BarProgress
from perturbcast.cli_options import (
    Fields,
    Genes,
    Networks,
    Out,
    Threads,
    parsed_fields,
    split_names,
    use_threads,
    with_reading_options,
)
from perturbcast.errors import BadOption

Name = Annotated[str, typer.Option("--model", help="A name of `perturbcast models`, with :profile if wanted.")]
Rule = Annotated[str, typer.Option("--split", help="Rules joined by commas, as for `benchmark`.")]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds of each split.")]
Folds = Annotated[int, typer.Option(min=2, help="Folds of `singles`.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes.")]
Metrics = Annotated[str, typer.Option(help="Metric profile: core or full.")]


@with_reading_options
def ablate(
    file: Path,
    *,
    model: Name,
    out: Out,
    genes: Genes = None,
    networks: Networks = None,
    fields: Fields = None,
    split: Rule = "singles",
    seeds: Seeds = 1,
    folds: Folds = 5,
    metrics: Metrics = "full",
    maps: Annotated[bool, typer.Option(help="Draw maps of genes by biotype, where the model has them.")] = True,
    maps_by: Annotated[str, typer.Option(help="How maps are laid out: pca, tsne or umap (extra `umap`).")] = "pca",
    threads: Threads = 1,
    jobs: Jobs = 1,
    reading: dict[str, Any],
) -> None:
    """Score a model without each of its parts beside the whole: table, paired intervals, violins, maps of genes."""
    use_threads(threads)
    from perturbcast.benchmarking import studies
    from perturbcast.benchmarking.dataset import load_datasets
    from perturbcast.benchmarking.gene_maps import gene_maps, require_layout
    from perturbcast.models.base import TrainingData
    from perturbcast.report.study_files import write_study

    layout = require_layout(maps_by)
    (dataset,) = load_datasets(file, knowledge=[*(genes or []), *(networks or [])] or None, reading=reading)
    study = studies.ablate(
        dataset.data,
        model=model,
        out=out,
        knowledge=dataset.knowledge,
        fields=parsed_fields(fields),
        metrics_profile=metrics,
        splits=split_names(split),
        seeds=seeds,
        folds=folds,
        jobs=jobs,
        threads=threads,
        progress=BarProgress(),
        say=typer.echo,
    )
    whole = studies.ablations_of(model, fields=parsed_fields(fields))[0].model
    training = TrainingData(dataset.responses, screen=dataset.screen, knowledge=dataset.knowledge)
    _tell(write_study(study, maps=gene_maps(whole, training, out=out, layout=layout) if maps else ()))


@with_reading_options
def degrade(
    file: Path,
    *,
    model: Name,
    out: Out,
    genes: Genes = None,
    networks: Networks = None,
    fields: Fields = None,
    ways: Annotated[str, typer.Option(help="Of remove, add, rewire and permute, joined by commas.")] = (
        "remove,add,rewire,permute"
    ),
    shares: Annotated[
        str, typer.Option(help="Shares of edges or names, joined by commas; names also all.")
    ] = "0.10,0.25,0.50",
    graph_seeds: Annotated[int, typer.Option(min=1, help="How many spoilt graphs of each kind.")] = 5,
    graphs_only: Annotated[bool, typer.Option(help="Give the model its graphs and no other knowledge.")] = True,
    split: Rule = "singles",
    seeds: Seeds = 1,
    folds: Folds = 5,
    metrics: Metrics = "core",
    threads: Threads = 1,
    jobs: Jobs = 1,
    reading: dict[str, Any],
) -> None:
    """Score a model on gene graphs spoilt on purpose: how much of its prediction rests on the graph."""
    use_threads(threads)
    from perturbcast.benchmarking import studies
    from perturbcast.report.study_files import write_study

    study = studies.degrade(
        file,
        model=model,
        out=out,
        knowledge=[*(genes or []), *(networks or [])],
        ways=split_names(ways),
        shares=_numbers(shares),
        graph_seeds=graph_seeds,
        graphs_only=graphs_only,
        fields=parsed_fields(fields),
        metrics_profile=metrics,
        splits=split_names(split),
        seeds=seeds,
        folds=folds,
        jobs=jobs,
        threads=threads,
        reading=reading,
        progress=BarProgress(),
        say=typer.echo,
    )
    _tell(write_study(study))


def violins(
    folder: Path,
    *,
    reference: Annotated[str, typer.Option(help="The model that all others are compared with, in pairs.")] = "mean",
    models: Annotated[str | None, typer.Option(help="Those to draw, joined by commas. Default: all.")] = None,
    split: Annotated[str | None, typer.Option(help="A rule that was benchmarked. Default: the first.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write. Default: the benchmark's folder.")] = None,
) -> None:
    """Draw the scores of single conditions in a finished benchmark, DAC and Pearson-delta, a violin a model."""
    from perturbcast.benchmarking.studies import conditions
    from perturbcast.report.study_files import write_violins

    chosen = None if models is None else split_names(models)
    _tell(write_violins(conditions(folder, out=out, reference=reference, split=split, models=chosen)))


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in split_names(text)]
    except ValueError:
        raise BadOption(f"the shares {text!r} are no numbers.", "Write them as 0.10,0.25,0.50.") from None


def _tell(files: list[Path]) -> None:
    for path in files:
        typer.echo(f"Study: {path}")
