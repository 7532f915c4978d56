"""The verbs of `perturbcast network`: infer, read out of models, convert, score, draw."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from perturbcast._files import written_whole
from perturbcast._progress import BarProgress
from perturbcast.cli_options import AsJson, Fields, Out, Seed, Threads, parsed_fields, split_names, use_threads
from perturbcast.cli_options import with_reading_options as with_reading
from perturbcast.errors import BadOption

network_app = typer.Typer(no_args_is_help=True, help="Infer a gene regulatory network, score it, export it, draw it.")

Top = Annotated[int | None, typer.Option("--top", min=1, help="Keep so many edges, strongest first.")]
Threshold = Annotated[float | None, typer.Option("--threshold", help="Keep edges of at least this weight.")]


@network_app.command("infer")
@with_reading
def network_infer(
    file: Path,
    *,
    out: Out,
    method: Annotated[str, typer.Option(help="A name of `perturbcast network methods`.")] = "mean-difference",
    fields: Fields = None,
    top: Top = None,
    threshold: Threshold = None,
    stability: Annotated[int, typer.Option(min=0, help="Repeats of the bootstrap of cells.")] = 0,
    hold_out: Annotated[bool, typer.Option(help="Leave out the cells that `network score` scores on.")] = False,
    parts: Annotated[
        Path | None, typer.Option(help="Folder of finished parts, so that a stopped run goes on (boosting).")
    ] = None,
    seed: Seed = 0,
    threads: Threads = 1,
    reading: dict[str, Any],
) -> None:
    """Infer a network from a screen; .parquet .tsv .graphml .sif .cx2 or .h5ad by the ending of --out."""
    use_threads(threads)
    from perturbcast.data.readers import read
    from perturbcast.networks.actions import infer_network

    network = infer_network(
        read(file, **reading),
        method=method,
        settings=parsed_fields(fields),
        out=out,
        top=top,
        threshold=threshold,
        train_only=hold_out,
        n_stability=stability,
        parts=parts,
        seed=seed,
        progress=BarProgress(),
    )
    typer.echo(f"Network: {network.n_edges} edges, {out}")


@network_app.command("read")
@with_reading
def network_read(
    models: Annotated[list[Path], typer.Argument(help="Folders of `perturbcast fit`; several are brought together.")],
    *,
    out: Out,
    screen: Annotated[
        Path | None, typer.Option(help="Screen whose single perturbations a model is asked for, instead.")
    ] = None,
    top: Top = None,
    threshold: Threshold = None,
    threads: Threads = 1,
    reading: dict[str, Any],
) -> None:
    """Read the network out of saved models: their own, or with --screen the sizes of their predicted responses."""
    use_threads(threads)
    from perturbcast.data.readers import read
    from perturbcast.models.artefact import load
    from perturbcast.networks.actions import read_out, screen_of

    cells = None if screen is None else screen_of(read(screen, **reading))
    network = read_out([load(folder) for folder in models], screen=cells, out=out, top=top, threshold=threshold)
    typer.echo(f"Network: {network.n_edges} edges, {out}")


@network_app.command("convert")
def network_convert(network: Path, *, out: Out, top: Top = None, threshold: Threshold = None) -> None:
    """Write a saved network, or an edge list, in another format, cut if asked."""
    from perturbcast.networks.actions import convert_network

    typer.echo(f"Network: {convert_network(network, out, top=top, threshold=threshold).n_edges} edges, {out}")


@network_app.command("score")
@with_reading
def network_score(
    network: Path,
    file: Path,
    *,
    out: Out,
    references: Annotated[list[Path] | None, typer.Option("--reference", help="Edge list or GMT. Repeatable.")] = None,
    tops: Annotated[str | None, typer.Option(help="Numbers of edges to score at, joined by commas.")] = None,
    targets: Annotated[str, typer.Option(help="Genes to test effects on: perturbed (CausalBench) or measured.")] = (
        "perturbed"
    ),
    seed: Seed = 0,
    reading: dict[str, Any],
) -> None:
    """Score a network on held-out cells (CausalBench, corrected) and against references; writes a .csv."""
    from perturbcast.data.readers import read
    from perturbcast.networks.actions import score_saved

    table = score_saved(
        network,
        read(file, **reading),
        references=references or (),
        tops=None if tops is None else _numbers(tops),
        targets=targets,
        seed=seed,
        progress=BarProgress(),
    )
    with written_whole(out) as draft:
        table.to_csv(draft, index=False)
    typer.echo(f"Scores: {len(table)} rows, {out}")


def _numbers(text: str) -> list[int]:
    """Whole numbers joined by commas; BadOption for anything else."""
    try:
        return [int(number) for number in split_names(text)]
    except ValueError as error:
        raise BadOption(f"--tops {text!r} are not whole numbers.", "Write --tops 20,100,500.") from error


@network_app.command("report")
def network_report(
    network: Path,
    *,
    out: Out,
    around: Annotated[str, typer.Option(help="Genes to draw the surroundings of, joined by commas.")] = "",
    top: Annotated[int, typer.Option(min=1, help="Edges shown.")] = 300,
) -> None:
    """Draw a network into one self-contained .html file that can be searched and zoomed."""
    from perturbcast.networks.export import load_network
    from perturbcast.report.network_report import build_network_report

    typer.echo(f"Report: {build_network_report(load_network(network), out, around=split_names(around), top=top)}")


@network_app.command("methods")
def network_methods(*, as_json: AsJson = False) -> None:
    """The methods that infer networks."""
    from perturbcast.networks.methods import method_list

    rows = method_list()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['name']:<20} {row['title']}")
