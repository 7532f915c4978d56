"""Gene knowledge from files and folders, recognised by content and brought to the naming of the screen at hand."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from perturbcast._progress import Progress
from perturbcast.errors import MissingFile, NoOverlap, UnknownKnowledge
from perturbcast.genes.graphs import gene_sets_of, graph_of_edges
from perturbcast.genes.knowledge import EmbeddingTable, GeneGraph, GeneKnowledge, GeneSets, GeneTable
from perturbcast.genes.parse import edges_of, embedding_of, gene_table_of, sequences_of, sets_of, texts_of
from perturbcast.genes.recognise import Kind, Recognised, recognise
from perturbcast.genes.resolve import Naming, Resolver

SUBFOLDERS = frozenset({"genes", "networks", "embeddings", "graphs", "gene_sets", "sequences", "texts", "knowledge"})
ENDINGS = (
    ".gz",
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".npz",
    ".json",
    ".gmt",
    ".gaf",
    ".fasta",
    ".fa",
    ".fna",
    ".edges",
)

ROUTES = ("symbol", "ensembl", "alias", "case", "kept")  # most direct first
INDIRECT = {"ensembl": "Ensembl id", "alias": "alias", "case": "letter case only"}


def load_knowledge(
    paths: Iterable[str | Path],
    *,
    genes: Iterable[str] | None = None,
    targets: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> GeneKnowledge:
    """Everything the files know of genes, under the names that the screen uses; `notes` says what was recognised.

    A folder stands for its files and those of its sub-folders genes, networks, embeddings, ... `genes` and `targets`
    are the names in use: a name of a file is brought to one of them through symbols, Ensembl ids and aliases of the
    gene tables given, else to its current symbol, else kept as it is.

    Raises MissingFile; UnknownKnowledge where a file named is of no kind known, or a folder holds none; BadKnowledge
    where a file is damaged, with the line; NoOverlap where a file named knows none of `genes` and `targets`.
    """
    progress = Progress() if progress is None else progress
    collected = _Collected(genes=_names(genes), targets=_names(targets))
    found = list(_recognised(paths, collected, progress))
    collected.take_tables([item for item, _ in found if item.kind is Kind.GENE_TABLE])
    for item, explicit in progress.track(found, label="knowledge"):
        collected.add(item, explicit=explicit)
    return collected.knowledge()


def _names(names: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(str(name) for name in names))


def _recognised(
    paths: Iterable[str | Path], collected: "_Collected", progress: Progress
) -> Iterator[tuple[Recognised, bool]]:
    """The files that are recognised, each once, and whether they were named; notes what was skipped."""
    done: set[Path] = set()
    for path in progress.track([Path(path) for path in paths], label="files"):
        if not path.exists():
            raise MissingFile(f"there is no file or folder {path}.")
        explicit = not path.is_dir()
        n_found = 0
        for file in [path] if explicit else _files_in(path):
            if file.resolve() in done:
                n_found += 1
                continue
            item = recognise(file)
            if item is not None:
                done.add(file.resolve())
                n_found += 1
                yield item, explicit
            elif explicit:
                raise UnknownKnowledge(f"{file} is of no kind that is known here.", _advice(file))
            else:
                collected.notes.append(f"{file.name}: skipped, no gene knowledge")
        if n_found == 0:
            raise UnknownKnowledge(f"the folder {path} holds no gene knowledge.")


def _files_in(folder: Path) -> list[Path]:
    """Files of a folder and of its sub-folders of known names, sorted; hidden ones are left out."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    inner = [entry for entry in entries if entry.is_dir() and entry.name.casefold() in SUBFOLDERS]
    return [entry for entry in entries if entry.is_file()] + [file for entry in inner for file in _files_in(entry)]


def _advice(file: Path) -> str | None:
    """What to do with files of known but refused kinds; None for the usual advice."""
    with file.open("rb") as opened:
        start = opened.read(8)
    if start[:1] == b"\x80":
        return "Pickles are not read, since they can run code: write the table as parquet, csv or npz."
    if start == b"\x89HDF\r\n\x1a\n":
        return "Screens are given as FILE; knowledge comes as tables, edge files, GMT, FASTA or JSON."
    return None


@dataclass(frozen=True)
class _Renamed:
    """Names of a file under the screen's naming, with the routes by which they were found."""

    names: np.ndarray  # (name,) object dtype of str
    routes: np.ndarray  # (name,) object dtype of str

    def best_rows(self) -> np.ndarray:
        """One row per name, in the order of first appearance: the one found by the most direct route."""
        rank = np.array([ROUTES.index(route) for route in self.routes])
        frame = pd.DataFrame({"name": self.names, "rank": rank})
        best = frame.sort_values("rank", kind="stable").drop_duplicates("name").index
        return np.sort(best.to_numpy())


@dataclass
class _Collected:
    """What has been read so far, under the screen's names."""

    genes: tuple[str, ...] | None
    targets: tuple[str, ...] | None
    table: GeneTable | None = None
    frames: dict[Path, pd.DataFrame] = field(default_factory=dict)
    naming: Naming = field(default_factory=lambda: Naming(None, ()))
    embeddings: dict[str, EmbeddingTable] = field(default_factory=dict)
    graphs: dict[str, GeneGraph] = field(default_factory=dict)
    gene_sets: dict[str, GeneSets] = field(default_factory=dict)
    summaries: dict[str, str] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    sequences: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take_tables(self, items: Sequence[Recognised]) -> None:
        """Reads the gene tables first: all other names are resolved by them."""
        self.frames = {item.path: gene_table_of(item) for item in items}
        if self.frames:
            frame = pd.concat(list(self.frames.values()), ignore_index=True)
            self.table = GeneTable(frame, ", ".join(item.path.name for item in items))
        resolver = Resolver(self.table) if self.table else None
        self.naming = Naming(resolver, [*(self.targets or ()), *(self.genes or ())])

    def add(self, item: Recognised, *, explicit: bool) -> None:
        """Takes up one file and notes what it holds."""
        readers = {
            Kind.GENE_TABLE: self._add_gene_table,
            Kind.SUMMARIES: self._add_summaries,
            Kind.SEQUENCES: self._add_sequences,
            Kind.EMBEDDINGS: self._add_embedding,
            Kind.EDGES: self._add_edges,
            Kind.GENE_SETS: self._add_gene_sets,
        }
        what, renamed = readers[item.kind](item)
        self._note(item, what, renamed, explicit=explicit)

    def knowledge(self) -> GeneKnowledge:
        """The value that is handed out; a gene's text is its description and its summary."""
        texts = dict(self.descriptions)
        for gene, summary in self.summaries.items():
            texts[gene] = f"{texts[gene]}. {summary}" if gene in texts else summary
        return GeneKnowledge(
            self.table, self.embeddings, self.graphs, self.gene_sets, texts, self.sequences, tuple(self.notes)
        )

    def _add_gene_table(self, item: Recognised) -> tuple[str, _Renamed]:
        frame = self.frames[item.path]
        symbols = frame["symbol"].to_numpy()
        renamed = self._renamed(np.where(symbols == "", frame["ensembl_id"], symbols))
        rows = zip(renamed.names, symbols, frame["description"], frame["sequence"], strict=True)
        for gene, symbol, description, dna in rows:
            if symbol and description:
                self.descriptions.setdefault(gene, description.partition(" [Source:")[0])
            if dna:
                self.sequences.setdefault(gene, dna.upper())
        return f"{len(frame):,} genes", renamed

    def _add_summaries(self, item: Recognised) -> tuple[str, _Renamed]:
        texts = texts_of(item)
        renamed = self._renamed(list(texts))
        written = list(texts.values())
        for row in renamed.best_rows():
            self.summaries.setdefault(renamed.names[row], written[row])
        return f"{len(texts):,} texts", renamed

    def _add_sequences(self, item: Recognised) -> tuple[str, _Renamed]:
        records = sequences_of(item)
        renamed = self._renamed(self._best_candidates([names for names, _ in records]))
        for row in renamed.best_rows():
            self.sequences.setdefault(renamed.names[row], records[row][1])
        n_genes = len(set(renamed.names))
        more = " (the first of each is used)" if n_genes < len(records) else ""
        return f"{len(records):,} sequences of {n_genes:,} genes{more}", renamed

    def _best_candidates(self, records: Sequence[Sequence[str]]) -> list[str]:
        """Of the several names of each record the first that is known, else the first."""
        asked = list(dict.fromkeys(name for names in records for name in names))
        known = {name for name, hit in zip(asked, self.naming.name_each(asked), strict=True) if hit.route != "kept"}
        return [next((name for name in names if name in known), names[0]) for names in records]

    def _add_embedding(self, item: Recognised) -> tuple[str, _Renamed]:
        names, matrix = embedding_of(item)
        renamed = self._renamed(names)
        rows = renamed.best_rows()
        name = _free_name(item.path, self.embeddings)
        self.embeddings[name] = EmbeddingTable(name, renamed.names[rows], matrix[rows], item.path.name)
        return f"{len(rows):,} genes x {matrix.shape[1]:,} features", renamed

    def _add_edges(self, item: Recognised) -> tuple[str, _Renamed]:
        edges = edges_of(item)
        unique, codes = np.unique(np.concatenate([edges.sources, edges.targets]).astype(str), return_inverse=True)
        renamed = self._renamed(unique)
        sources, targets = np.split(renamed.names[codes], [len(edges.sources)])
        name = _free_name(item.path, self.graphs)
        self.graphs[name] = graph = graph_of_edges(
            name,
            sources,
            targets,
            weights=edges.weights,
            signs=edges.signs,
            directed=edges.directed,
            source=item.path.name,
        )
        n_edges = graph.weights.nnz if edges.directed else graph.weights.nnz // 2
        kind = f"{'signed, ' if edges.signs is not None else ''}{'directed' if edges.directed else 'undirected'}"
        return f"{n_edges:,} edges ({kind}; {len(edges.sources):,} lines) among {len(graph.genes):,} genes", renamed

    def _add_gene_sets(self, item: Recognised) -> tuple[str, _Renamed]:
        sets = sets_of(item)
        written = sorted({gene for _, genes in sets for gene in genes})
        renamed = self._renamed(written)
        name = _free_name(item.path, self.gene_sets)
        own_name = dict(zip(written, renamed.names, strict=True))
        own = ((label, [own_name[gene] for gene in genes]) for label, genes in sets)
        self.gene_sets[name] = gene_sets_of(name, own, source=item.path.name)
        return f"{len(sets):,} sets of {len(self.gene_sets[name].genes):,} genes", renamed

    def _renamed(self, names: Iterable[str]) -> _Renamed:
        hits = self.naming.name_each([str(name) for name in names])
        renamed, routes = np.empty(len(hits), dtype=object), np.empty(len(hits), dtype=object)
        renamed[:], routes[:] = [hit.symbol for hit in hits], [hit.route for hit in hits]
        return _Renamed(renamed, routes)

    def _note(self, item: Recognised, what: str, renamed: _Renamed, *, explicit: bool) -> None:
        """Says what a file is and how much of the screen it knows; NoOverlap where that is nothing."""
        parts = [f"{item.path.name}: {item.kind}, {what}"]
        covered = []
        for label, at_hand in (("targets", self.targets), ("genes", self.genes)):
            if at_hand is not None:
                covered.append(len(set(at_hand).intersection(renamed.names)))
                parts.append(f"{covered[-1]:,} of {len(at_hand):,} {label}")
        indirect = Counter(renamed.routes)
        parts += [f"{indirect[route]:,} by {said}" for route, said in INDIRECT.items() if indirect[route]]
        if covered and not any(covered):
            if explicit:
                raise NoOverlap(f"{item.path} ({item.kind}, {what}) names none of the genes and targets at hand.")
            parts.append("none of the screen's genes: check species and naming")
        self.notes.append("; ".join(parts))


def _free_name(path: Path, taken: Mapping[str, object]) -> str:
    """The file's name without its endings; numbered where another file has it."""
    stem = path.name
    while stem.casefold().endswith(ENDINGS) and "." in stem.lstrip("."):
        stem = stem.rpartition(".")[0]
    number, name = 1, stem
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name
