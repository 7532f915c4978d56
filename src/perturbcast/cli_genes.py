"""The verbs of `perturbcast genes`: fetch a gene table, resolve names, make embedding tables, gene graphs, controls."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perturbcast._files import written_whole
from perturbcast._progress import BarProgress
from perturbcast.cli_options import Genes, Networks, Out, Seed, Threads, use_threads
from perturbcast.errors import BadOption, NeedsKnowledge, NotWritable, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from perturbcast.genes.knowledge import EmbeddingTable, GeneGraph, GeneKnowledge, GeneTable
    from perturbcast.genes.resolve import Naming, Resolved

genes_app = typer.Typer(
    no_args_is_help=True, help="Fetch and resolve genes; make embedding tables and gene graphs that models read."
)

MOST_ONE_HOT = 5_000  # genes; a one-hot table of more would fill gigabytes
SHOWN = 40  # rows of a table on the terminal
Transform = Annotated[str, typer.Option(help="none, zscore, l2 or pca (with --width).")]
Width = Annotated[int | None, typer.Option(min=1, help="Principal components kept by --transform pca.")]


@genes_app.command("fetch")
def genes_fetch(
    *,
    species: Annotated[str, typer.Option(help="human or mouse.")],
    out: Out,
    sequences: Annotated[str, typer.Option(help="none, promoter, or gene (the whole gene; large).")] = "none",
    upstream: Annotated[int, typer.Option(min=1, help="Bases of a promoter.")] = 1000,
    only: Annotated[Path | None, typer.Option(help="File with the genes whose sequence is wanted.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps the answers; default: beside --out.")] = None,
    server: Annotated[str | None, typer.Option(help="Ensembl or one of its archives, for a fixed release.")] = None,
    rest_server: Annotated[str | None, typer.Option(help="Ensembl REST, for --sequences gene.")] = None,
) -> None:
    """Fetch a gene table from Ensembl into a .parquet or .csv; interrupted, the same command goes on."""
    import shutil

    from perturbcast.genes.ensembl import REST_SERVER, SERVER, fetch_gene_table
    from perturbcast.genes.foundation import names_in
    from perturbcast.genes.pages import Pages

    check_ending(out, (".parquet", ".csv"))
    folder = out.with_name(f"{out.name}.pages") if cache is None else cache
    table = fetch_gene_table(
        species,
        pages=Pages(folder),
        sequences=sequences,
        upstream=upstream,
        only=None if only is None else names_in(only),
        server=server or SERVER,
        rest_server=rest_server or REST_SERVER,
        progress=BarProgress(),
    )
    write_frame(table, out)
    if cache is None:
        shutil.rmtree(folder, ignore_errors=True)
    typer.echo(f"Genes: {len(table):,}, {out}")


@genes_app.command("resolve")
def genes_resolve(
    names: Annotated[list[str], typer.Argument(help="Names, or files of names (.txt, .csv, .json, .h5ad).")],
    *,
    genes: Genes = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the whole table as .csv or .parquet.")] = None,
) -> None:
    """Say which gene each name means, by which route, and why not where it means none."""
    from perturbcast.genes.foundation import names_in
    from perturbcast.genes.resolve import Resolver

    table = given_table(genes or [])
    asked = [name for given in names for name in (names_in(Path(given)) if Path(given).is_file() else [given])]
    resolution = Resolver(table).resolve_all(asked)
    if out is not None:
        check_ending(out, (".csv", ".parquet"))
        write_frame(resolution.frame, out)
    shown = resolution.frame.head(SHOWN)
    for name, symbol, route, reason in zip(*(shown[column] for column in shown), strict=True):
        typer.echo(f"{name!r:<24} {f'{symbol} ({route})' if symbol else reason}")
    if len(asked) > SHOWN:
        typer.echo(f"... {len(asked) - SHOWN:,} more{'' if out is None else f', all in {out}'}")
    typer.echo(f"{len(asked):,} names: {resolution.summary()}")


@genes_app.command("embed")
def genes_embed(
    *,
    genes: Genes = None,
    out: Out,
    text: Annotated[str | None, typer.Option(help="tfidf, minilm, or a sentence-transformers model.")] = None,
    dna: Annotated[str | None, typer.Option(help="kmer, or the folder of a checkpoint such as HyenaDNA.")] = None,
    pooling: Annotated[str | None, typer.Option(help="Text: model or cls. DNA: mean, last or first.")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="Bases of a window of DNA; default: the longest.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Features of tfidf and kmer, or of --transform pca.")] = None,
    transform: Transform = "none",
    seed: Seed = 0,
    threads: Threads = 1,
) -> None:
    """Make an embedding table from texts or DNA of genes: .npz, .parquet or .csv, to be read by --genes."""
    use_threads(threads)
    from perturbcast.genes.load import load_knowledge

    if (text is None) == (dna is None):
        raise BadOption("give either --text or --dna.")
    knowledge = load_knowledge(genes or [], progress=BarProgress())
    if text is not None:
        table = text_table(knowledge.texts, text, pooling=pooling, window=window, width=width, seed=seed)
    else:
        assert dna is not None
        table = dna_table(knowledge.sequences, dna, pooling=pooling, window=window, width=width, seed=seed)
    save_table(table, out, transform=transform, width=width)


def text_table(
    texts: Mapping[str, str], model: str, *, pooling: str | None, window: int | None, width: int | None, seed: int
) -> "EmbeddingTable":
    """The embedding of texts by a model's name; BadOption for an option that it does not have."""
    from perturbcast.genes.sentences import sentence_embedding
    from perturbcast.genes.text import text_embedding

    if window is not None or (model == "tfidf" and pooling is not None):
        raise BadOption(f"--text {model} has no {'--window' if window is not None else '--pooling'}.")
    if model == "tfidf":
        return text_embedding(texts, n_components=width or 128, seed=seed)
    return sentence_embedding(texts, model=model, pooling=pooling or "model", progress=BarProgress())


def dna_table(
    sequences: Mapping[str, str], model: str, *, pooling: str | None, window: int | None, width: int | None, seed: int
) -> "EmbeddingTable":
    """The embedding of DNA by a model's name; BadOption for an option that it does not have."""
    from perturbcast.genes.dna import dna_embedding
    from perturbcast.genes.text import kmer_embedding

    if model != "kmer":
        return dna_embedding(sequences, model, window=window, pooling=pooling or "mean", progress=BarProgress())
    if pooling is not None or window is not None:
        raise BadOption("--dna kmer has neither --pooling nor --window.")
    return kmer_embedding(sequences, n_components=width or 64, seed=seed)


@genes_app.command("table")
def genes_table(
    model: Annotated[str, typer.Argument(help="scgpt, scfoundation, geneformer, scbert or esm2.")],
    path: Annotated[Path, typer.Argument(help="The model's file or folder.")],
    *,
    out: Out,
    names: Annotated[Path | None, typer.Option(help="Gene list, gene order or token dictionary of the model.")] = None,
    transform: Transform = "none",
    width: Width = None,
) -> None:
    """Take the gene table out of a foundation model's published files; no code in them is run."""
    from perturbcast.genes.foundation import foundation_table

    save_table(foundation_table(model, path, genes=names), out, transform=transform, width=width)


@genes_app.command("controls")
def genes_controls(table: Path, *, out: Out, seed: Seed = 0) -> None:
    """Write tables beside which an embedding table must show its worth: random, permuted, one-hot."""
    from perturbcast.genes.load import load_knowledge
    from perturbcast.genes.policies import control_tables, write_table

    embedding = only_table(load_knowledge([table]), table)
    make_folder(out)
    for how, control in control_tables(embedding, seed=seed, most_one_hot=MOST_ONE_HOT).items():
        write_table(control, out / f"{embedding.name}-{how}.npz")
        typer.echo(f"{how}: {len(control.genes):,} genes x {control.matrix.shape[1]:,} features")
    typer.echo(f"Controls: {out}")


@genes_app.command("complete")
def genes_complete(
    table: Path,
    *,
    missing: Annotated[str, typer.Option(help="drop, flag (zeros and a feature that says so) or neighbours.")],
    among: Annotated[
        Path | None, typer.Option(help="File with the genes wanted, or an .h5ad that measures them.")
    ] = None,
    networks: Networks = None,
    genes: Genes = None,
    out: Out,
) -> None:
    """Give genes that an embedding table lacks a row: nothing, zeros with a flag, or the mean of their neighbours."""
    from perturbcast.genes.foundation import names_in
    from perturbcast.genes.layers import known_graphs
    from perturbcast.genes.load import load_knowledge
    from perturbcast.genes.policies import completed

    if among is None and missing != "neighbours":
        raise BadOption(f"--missing {missing} needs to know which genes are wanted.", "Give a file with --among.")
    wanted = None if among is None else names_in(among)
    embedding = only_table(load_knowledge([table, *(genes or [])], genes=wanted), table)
    graph: GeneGraph | None = None
    if networks:
        knowledge = load_knowledge([*networks, *(genes or [])], genes=[*(wanted or []), *embedding.genes])
        wanted = wanted or sorted({*edge_genes(knowledge), *map(str, embedding.genes)})
        graph = known_graphs(knowledge, sorted({*wanted, *map(str, embedding.genes)})).union()
    done = completed(embedding, embedding.genes if wanted is None else wanted, missing=missing, graph=graph)
    n_had = len(set(embedding.genes).intersection(done.genes))
    save_table(done, out, transform="none", width=None)
    lost = "" if wanted is None else f", {len(set(wanted)) - len(done.genes):,} left out"
    typer.echo(f"{n_had:,} genes had a row, {len(done.genes) - n_had:,} were given one ({missing}){lost}")


@genes_app.command("graph")
def genes_graph(
    *,
    networks: Networks = None,
    genes: Genes = None,
    out: Out,
    k: Annotated[int, typer.Option("--k", min=1, help="Edges to each gene.")] = 20,
    least: Annotated[
        list[str] | None, typer.Option(help="Smallest weight, as NAME=0.2, by graph or gene sets. Repeatable.")
    ] = None,
    among: Annotated[Path | None, typer.Option(help="File with the genes wanted; default: all named.")] = None,
    degrade: Annotated[
        str | None, typer.Option(help="remove, add, rewire or permute, to see what a graph is worth.")
    ] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of edges (of genes for permute) degraded.")] = 0.25,
    seed: Seed = 0,
) -> None:
    """Make one gene graph from edge files and gene sets (Jaccard), united if several; .csv, .tsv or .parquet."""
    from perturbcast.genes.degrade import degraded
    from perturbcast.genes.foundation import names_in
    from perturbcast.genes.graph_files import write_edges
    from perturbcast.genes.layers import known_graphs
    from perturbcast.genes.load import load_knowledge

    knowledge = load_knowledge([*(networks or []), *(genes or [])], progress=BarProgress())
    named = edge_genes(knowledge) if among is None else names_in(among)
    layers = known_graphs(knowledge, named, least=smallest_weights(least or []), k=k)
    for name, n_genes in layers.coverage().items():
        typer.echo(f"{name}: {n_genes:,} of {len(named):,} genes have an edge")
    graph: GeneGraph = layers.union() if len(layers.layers) > 1 else next(iter(layers.layers.values()))
    if degrade is not None:
        graph = degraded(graph, degrade, share, seed=seed)
    write_edges(graph, out)
    typer.echo(f"Graph: {graph.weights.nnz:,} entries, {out}")


def resolved_conditions(asked: list[str], genes: list[Path], *, at_hand: Iterable[str]) -> list[str]:
    """Conditions whose targets are written as the model writes them (`at_hand`), else by their current symbol.

    What changes is printed. A name that means no gene, or several, stays as it is, and the model says so.
    """
    from perturbcast.data.conditions import JOINT
    from perturbcast.genes.resolve import Naming, Resolver

    naming = Naming(Resolver(given_table(genes)), at_hand)
    found = []
    for condition in asked:
        parts = [part.strip() for part in condition.split(JOINT)]
        renamed = [_as_typed(part, naming) for part in parts]
        for part, hit in zip(parts, renamed, strict=True):
            if hit.symbol != part:
                typer.echo(f"  {part} is {hit.symbol} ({hit.route})")
        found.append(JOINT.join(hit.symbol for hit in renamed))
    return found


def _as_typed(name: str, naming: "Naming") -> "Resolved":
    """What a name typed by a user means: unlike in files, small letters may stand for capitals."""
    found = naming.name(name)
    if found.route != "kept" or not name.islower():
        return found
    capital = naming.name(name.upper())
    return found if capital.route == "kept" else capital._replace(route="case")


def given_table(genes: list[Path]) -> "GeneTable":
    """The gene table in some files; NeedsKnowledge where there is none."""
    from perturbcast.genes.load import load_knowledge

    table = load_knowledge(genes).table
    if table is None:
        raise NeedsKnowledge("no gene table was given.", "Pass --genes, or make one with `perturbcast genes fetch`.")
    return table


def only_table(knowledge: "GeneKnowledge", path: Path) -> "EmbeddingTable":
    """The one embedding table that a file holds; BadOption where there is none, or several."""
    if len(knowledge.embeddings) != 1:
        raise BadOption(f"{path} holds {len(knowledge.embeddings)} embedding tables; give the file of one.")
    (embedding,) = knowledge.embeddings.values()
    return embedding


def edge_genes(knowledge: "GeneKnowledge") -> list[str]:
    """Every gene that a graph or a gene set names, sorted."""
    graphs = [graph.genes for graph in knowledge.graphs.values()]
    return sorted(
        {str(gene) for genes in [*graphs, *(s.genes for s in knowledge.gene_sets.values())] for gene in genes}
    )


def smallest_weights(given: list[str]) -> dict[str, float]:
    """`NAME=0.2` as a mapping; BadOption where one is not of that form."""
    found = {}
    for entry in given:
        name, _, value = entry.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise BadOption(f"--least {entry!r} is not of the form NAME=0.2.")
    return found


def save_table(table: "EmbeddingTable", out: Path, *, transform: str, width: int | None) -> None:
    """Writes an embedding table, transformed if asked, and says how large it is and how many rows differ."""
    import numpy as np

    from perturbcast.genes.policies import transformed, write_table

    done = transformed(table, transform, width=width)
    write_table(done, out)
    n_different = len(np.unique(done.matrix.round(5), axis=0))
    few = "" if n_different == len(done.genes) else f", only {n_different:,} different rows"
    typer.echo(f"Table: {len(done.genes):,} genes x {done.matrix.shape[1]:,} features{few}, {out}")


def write_frame(frame: "pd.DataFrame", out: Path) -> None:
    """Writes a table as .parquet or .csv, by the ending."""
    with written_whole(out) as draft:
        if out.suffix == ".parquet":
            frame.to_parquet(draft, index=False)
        else:
            frame.to_csv(draft, index=False, errors="backslashreplace")


def check_ending(out: Path, endings: Iterable[str]) -> None:
    """BadOption where the output has another ending, before any work is done."""
    if out.suffix not in endings:
        raise BadOption(f"--out {out.name!r} ends in {out.suffix!r}. {did_you_mean(out.suffix, endings)}")


def make_folder(out: Path) -> None:
    """The folder, made where it is not there; NotWritable where it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise NotWritable(f"{str(out)!r} cannot be written: {failure.strerror or failure}.") from failure
