"""Reference networks with their version: TRRUST, CollecTRI, DoRothEA, STRING, CORUM, gene sets, own edge files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from perturbcast.errors import MissingFile, UnknownKnowledge
from perturbcast.genes.knowledge import GeneGraph, GeneSets
from perturbcast.genes.load import load_knowledge
from perturbcast.genes.recognise import Kind, recognise
from perturbcast.networks.network import Network

LARGEST_SET = 500  # genes; pairs of larger sets say little and are many


@dataclass(frozen=True)
class Reference:
    """What others know of regulation or interaction, and where it comes from."""

    network: Network
    name: str
    directed: bool  # whether an edge says which of its genes acts
    source: str  # file name, and how it was read
    version: str  # first 12 hexadecimal digits of the SHA-256 of the file


def read_network(path: str | Path, *, gene_table: str | Path | None = None) -> GeneGraph:
    """The graph of an edge file: directed where it names regulators, signed where it says how they act.

    `gene_table`: a file through which names are brought to current symbols. UnknownKnowledge where the file is no edge
    list, BadKnowledge where it is damaged, MissingFile.
    """
    found = recognise(Path(path))
    if found is None or found.kind is not Kind.EDGES:
        what = "of no kind that is known here" if found is None else f"a file of {found.kind}"
        raise UnknownKnowledge(f"{path} is {what}.", "Pass a table with two columns of genes, one edge a line.")
    knowledge = load_knowledge([path] if gene_table is None else [gene_table, path])
    return next(iter(knowledge.graphs.values()))


def read_reference(
    path: str | Path, *, gene_table: str | Path | None = None, sets: Literal["complex", "regulator"] = "complex"
) -> Reference:
    """The reference of an edge file or of gene sets (GMT), for `score_against`.

    `sets`: "complex" joins every two genes of a set (CORUM, pathways; sets of up to 500 genes); "regulator" lets the
    first word of a set's name regulate its genes (`STAT1 ENCODE`). Errors as of `read_network`.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFile(f"there is no file {str(path)!r}.")
    version = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    found = recognise(path)
    if found is None or found.kind is not Kind.GENE_SETS:
        graph = read_network(path, gene_table=gene_table)
        return Reference(Network.from_graph(graph), graph.name, graph.directed, path.name, version)
    knowledge = load_knowledge([path] if gene_table is None else [gene_table, path])
    held = next(iter(knowledge.gene_sets.values()))
    network = _of_regulators(held) if sets == "regulator" else _of_complexes(held)
    return Reference(network, held.name, sets == "regulator", f"{path.name}, sets as {sets}", version)


def _of_complexes(held: GeneSets) -> Network:
    membership = held.membership.tocsc()
    small = np.diff(membership.indptr) <= LARGEST_SET
    joint = (membership[:, small] @ membership[:, small].T).tocoo()
    return Network.of_edges(
        held.genes, joint.row.astype(np.int64), joint.col.astype(np.int64), np.ones(len(joint.row)), method=held.name
    )


def _of_regulators(held: GeneSets) -> Network:
    regulators = [name.split()[0].split("_")[0] for name in held.sets]
    genes = list(dict.fromkeys([*map(str, held.genes), *regulators]))
    place = {gene: number for number, gene in enumerate(genes)}
    entries = held.membership.tocoo()
    pairs = {(place[regulators[column]], int(row)) for row, column in zip(entries.row, entries.col, strict=True)}
    codes = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return Network.of_edges(genes, codes[:, 0], codes[:, 1], np.ones(len(codes)), method=held.name)
