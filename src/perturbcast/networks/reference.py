"""Reference networks (TRRUST, CollecTRI, DoRothEA, STRING, footprints, own edge files) as gene graphs."""

from pathlib import Path

from perturbcast.errors import UnknownKnowledge
from perturbcast.genes.knowledge import GeneGraph
from perturbcast.genes.load import load_knowledge
from perturbcast.genes.recognise import Kind, recognise


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
