"""The command line: verbs that mirror the Python API. Heavy imports wait until a verb needs them."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perturbcast._progress import BarProgress
from perturbcast.cli_clean import clean
from perturbcast.cli_efficiency import efficiency
from perturbcast.cli_explain import explain
from perturbcast.cli_genes import genes_app, resolved_conditions
from perturbcast.cli_network import network_app
from perturbcast.cli_options import (
    AsJson,
    Fields,
    Genes,
    Networks,
    Out,
    Seed,
    Threads,
    TrainingWords,
    parsed_fields,
    split_names,
    use_threads,
    with_reading_options,
    with_training_options,
)
from perturbcast.cli_studies import ablate, degrade, violins
from perturbcast.errors import BadCondition, BadOption, MissingFile, PerturbcastError, UnknownOption

if TYPE_CHECKING:
    from perturbcast.data.prediction import Prediction
    from perturbcast.genes.knowledge import GeneKnowledge
    from perturbcast.models.base import FittedModel

app = typer.Typer(
    name="perturbcast",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Predict how cells respond to genetic perturbations, and say how far each prediction can be trusted.",
)
data_app = typer.Typer(no_args_is_help=True, help="Simulate a screen, or fetch a public one.")
app.add_typer(data_app, name="data")
app.add_typer(network_app, name="network")
app.add_typer(genes_app, name="genes")
app.command()(efficiency)
app.command()(clean)
app.command()(ablate)
app.command()(degrade)
app.command()(violins)
app.command()(explain)

INTERRUPTED = 130  # exit status
PREDICTED_AT_ONCE = 1024  # queries per block of `predict`: bounds memory, not results


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Predict how cells respond to genetic perturbations, and say how far each prediction can be trusted."""
    if version:
        from perturbcast import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Simulate a screen, benchmark the baselines on it, and write a report."""
    from perturbcast.demo import run_demo

    report = run_demo(out, seed=seed, jobs=jobs, progress=BarProgress(), say=typer.echo)
    typer.echo(f"Report: {report}")


@app.command()
@with_reading_options
def inspect(file: Path, *, as_json: AsJson = False, reading: dict[str, Any]) -> None:
    """What a file holds, how it will be read and why, what is wrong with it, and what to do."""
    from perturbcast.data.inspect import inspect as inspect_file

    found = inspect_file(file, **reading)
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.to_text())


@app.command()
def models(*, as_json: AsJson = False) -> None:
    """The models, what they can predict, and their profiles."""
    from perturbcast.models.registry import model_list

    rows = model_list()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['name']:<18} {row['title']}")
        typer.echo(f"{'':<18} predicts: {', '.join(row['predicts']) or 'nothing unseen'}")
        if row["profiles"]:
            typer.echo(f"{'':<18} profiles: {', '.join(row['name'] + ':' + profile for profile in row['profiles'])}")


@app.command()
@with_reading_options
@with_training_options
def fit(
    file: Path,
    *,
    model: Annotated[str, typer.Option("--model", help="A name of `perturbcast models`, with :profile if wanted.")],
    out: Out,
    genes: Genes = None,
    networks: Networks = None,
    fields: Fields = None,
    seed: Seed = 0,
    threads: Threads = 1,
    trained: TrainingWords,
    reading: dict[str, Any],
) -> None:
    """Fit one model on every condition of a file and save it as a folder."""
    use_threads(threads)
    from perturbcast.data.readers import read
    from perturbcast.models.artefact import check_free
    from perturbcast.models.base import TrainingData
    from perturbcast.models.capabilities import check_options, fit_on
    from perturbcast.models.registry import get_model
    from perturbcast.training.processes import is_first_process

    chosen = get_model(model, **(trained.fields | parsed_fields(fields)))
    check_options([chosen], trained.options)
    if first := is_first_process():
        check_free(out)
    data = read(file, **reading)
    if first:
        say_decisions(data)
    training = TrainingData.of(data, knowledge=knowledge_from(genes, networks, data), progress=BarProgress())
    fitted = fit_on(chosen, training, options=trained.options, seed=seed, progress=BarProgress())
    if first:
        typer.echo(f"Model: {fitted.save(out)}")


@app.command()
def predict(
    model_dir: Path,
    *,
    out: Out,
    conditions: Annotated[
        str | None, typer.Option(help="Conditions joined by commas, such as KLF1,KLF1+MAP2K6.")
    ] = None,
    conditions_file: Annotated[Path | None, typer.Option(help="A file with one condition a line.")] = None,
    all_singles: Annotated[bool, typer.Option(help="Every measured gene and every training target.")] = False,
    all_pairs: Annotated[bool, typer.Option(help="Every pair of training targets.")] = False,
    context: Annotated[str | None, typer.Option(help="Context to predict in; default: the first of training.")] = None,
    genes: Annotated[list[Path] | None, typer.Option(help="Gene table that resolves aliases and Ensembl ids.")] = None,
    threads: Threads = 1,
) -> None:
    """Predict responses with a saved model; one row per condition asked for, in that order."""
    use_threads(threads)
    from perturbcast.data.prediction_files import check_output, write_predictions
    from perturbcast.models.artefact import load

    check_output(out)
    fitted = load(model_dir)
    ways = [conditions is not None, conditions_file is not None, all_singles, all_pairs]
    if sum(ways) != 1:
        raise BadOption(
            f"{sum(ways)} ways of naming conditions were given.",
            "Give one of --conditions, --conditions-file, --all-singles and --all-pairs.",
        )
    named = named_conditions(conditions, conditions_file)
    asked = named if named is not None else fitted.single_conditions() if all_singles else fitted.pair_conditions()
    if genes and named is not None:
        asked = resolved_conditions(named, genes, at_hand=fitted.single_conditions())
    tally: Counter[str] = Counter()
    write_predictions(predicted_blocks(fitted, asked, context=context, tally=tally), out)
    n_refused = tally.pop("nothing", 0)
    rests_on = ", ".join(f"{n} {support}" for support, n in sorted(tally.items()))
    predicted = f"Predicted {tally.total()} of {len(asked)} conditions{f' ({rests_on})' if rests_on else ''}"
    typer.echo(f"{predicted}, refused {n_refused}: {out}")


@app.command()
@with_reading_options
@with_training_options
def benchmark(
    files: list[Path],
    *,
    models: Annotated[
        str, typer.Option(help="Names joined by commas, or the groups `baselines`, `trained` and `all`.")
    ] = "baselines",
    split: Annotated[
        str,
        typer.Option(help="Rules joined by commas: cells, singles, doubles, doubles-by-seen, gears, contexts, a file."),
    ] = "singles",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds of each split.")] = 1,
    folds: Annotated[int, typer.Option(min=2, help="Folds of `singles`.")] = 5,
    out: Out,
    genes: Genes = None,
    networks: Networks = None,
    fields: Fields = None,
    metrics: Annotated[str, typer.Option(help="Metric profile: core or full (cells, DE).")] = "full",
    threads: Threads = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    allow_leaks: Annotated[
        bool, typer.Option(help="Score a split whose audit found leaks; the report says so.")
    ] = False,
    trained: TrainingWords,
    reading: dict[str, Any],
) -> None:
    """Score models on held-out conditions beside simple baselines, with intervals, floors and ceilings, in a report."""
    use_threads(threads)
    from perturbcast.benchmarking.run import benchmark as run_benchmark
    from perturbcast.report.build import build_report

    done = run_benchmark(
        files,
        models=split_names(models),
        splits=split_names(split),
        seeds=seeds,
        folds=folds,
        out=out,
        knowledge=[*(genes or []), *(networks or [])],
        fields=trained.fields | parsed_fields(fields),
        run_options=trained.options,
        metrics_profile=metrics,
        jobs=jobs,
        threads=threads,
        allow_leaks=allow_leaks,
        reading=reading,
        progress=BarProgress(),
        say=typer.echo,
    )
    typer.echo(f"Scores: {done.folder / 'scores.parquet'}")
    typer.echo(f"Report: {build_report(done.folder)}")


@app.command()
def report(folder: Path) -> None:
    """Write report.html again from the tables of a benchmark folder."""
    from perturbcast.report.build import build_report

    typer.echo(f"Report: {build_report(folder)}")


@data_app.command("simulate")
def data_simulate(
    out: Out,
    n_cells: Annotated[int, typer.Option(min=1)] = 6000,
    n_genes: Annotated[int, typer.Option(min=1)] = 500,
    n_targets: Annotated[int, typer.Option(min=1)] = 60,
    n_doubles: Annotated[int, typer.Option(min=0)] = 40,
    n_contexts: Annotated[int, typer.Option(min=1)] = 1,
    perturbation: Annotated[str, typer.Option(help="knockout, interference or activation.")] = "interference",
    seed: Seed = 0,
) -> None:
    """Simulate a screen with everything known, and write it as .h5ad with its gene knowledge and its truth."""
    from perturbcast.data.simulate import simulate

    world = simulate(
        n_cells=n_cells,
        n_genes=n_genes,
        n_targets=n_targets,
        n_doubles=n_doubles,
        n_contexts=n_contexts,
        perturbation=perturbation,
        seed=seed,
    )
    typer.echo(f"World: {world.write(out)}")


@data_app.command("list")
def data_list(*, as_json: AsJson = False) -> None:
    """The public data sets that `data get` knows."""
    from perturbcast.data.catalog import catalogue

    entries = catalogue()
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
        return
    for entry in entries:
        typer.echo(f"{entry['name']:<28} {entry['title']}")


@data_app.command("get")
def data_get(name: str, *, out: Out = Path("data")) -> None:
    """Fetch a public data set; verified, resumed if interrupted."""
    from perturbcast.data.catalog import get_dataset

    typer.echo(f"Data: {get_dataset(name, folder=out, progress=BarProgress())}")


def knowledge_from(genes: list[Path] | None, networks: list[Path] | None, data: Any) -> "GeneKnowledge":
    """The knowledge in the files given; what was recognised is printed."""
    from perturbcast.data.conditions import targets_of
    from perturbcast.genes.load import load_knowledge

    conditions = data.conditions
    targets = sorted({target for condition in conditions for target in targets_of(condition)})
    knowledge = load_knowledge([*(genes or []), *(networks or [])], genes=data.genes, targets=targets)
    for note in knowledge.notes:
        typer.echo(f"  {note}")
    return knowledge


def say_decisions(data: Any) -> None:
    """Prints every decision the reader took, with its evidence."""
    for decision in getattr(data, "decisions", ()):
        typer.echo(f"  {decision.what}: {decision.value} ({decision.evidence})")


def named_conditions(conditions: str | None, conditions_file: Path | None) -> list[str] | None:
    """The conditions named on the command line or in a file, or None where neither was used."""
    if conditions is not None:
        return split_names(conditions)
    if conditions_file is None:
        return None
    if not conditions_file.is_file():
        raise MissingFile(f"there is no file {str(conditions_file)!r}.")
    try:
        text = conditions_file.read_text(encoding="utf-8-sig")
    except ValueError:
        text = "\0"
    if "\0" in text:
        raise BadCondition(f"{conditions_file.name!r} is no UTF-8 text.", "Write one condition a line as UTF-8.")
    return [line.strip() for line in text.splitlines() if line.strip()]


def predicted_blocks(
    fitted: "FittedModel", asked: list[str], *, context: str | None, tally: "Counter[str]"
) -> Iterator["Prediction"]:
    """Predictions in blocks, in the order asked for; `tally` counts queries by support as they pass."""
    import numpy as np

    from perturbcast.data.conditions import Query

    starts = range(0, len(asked), PREDICTED_AT_ONCE)
    for start in BarProgress().track(starts, label="predicting"):
        queries = [fitted.query_of(condition) for condition in asked[start : start + PREDICTED_AT_ONCE]]
        if context is not None:
            queries = [Query(query.condition, context) for query in queries]
        block = fitted.predict(queries, dtype=np.float32)
        tally.update(str(support) for support in block.support)
        yield block


def main() -> None:
    """Entry point: exit status 0 done, 2 bad input, 1 our fault, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs the command line and returns its exit status; bad input ends in one coded line on standard error."""
    try:
        status = int(app(args=arguments, standalone_mode=False) or 0)
        return interrupted() if status == INTERRUPTED else status
    except PerturbcastError as error:
        complain(str(error))
        return error.exit_status
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the option parser
            complain(f"{UnknownOption.code} UnknownOption: {error.format_message()} See --help.")
            return UnknownOption.exit_status
        if os.environ.get("PERTURBCAST_DEBUG"):
            raise
        complain(
            f"E001 DefectError: {type(error).__name__}: {error}. This is a defect of perturbcast: please report it "
            "with the command; PERTURBCAST_DEBUG=1 shows where it happened."
        )
        return 1


def interrupted() -> int:
    """Says that the work can be resumed; the exit status of an interruption."""
    complain("Interrupted. Repeat the command to go on where it stopped.")
    return INTERRUPTED


def complain(message: str) -> None:
    """One line on standard error."""
    typer.echo(" ".join(message.split()), err=True)


if __name__ == "__main__":
    main()
