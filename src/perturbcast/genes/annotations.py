"""Gene sets written one gene and one set a line: gene2go tables, GAF files, and JSON of sets by gene."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from perturbcast.errors import BadKnowledge
from perturbcast.genes.tables import Table

SET_NAMES = (
    "go_id",
    "go",
    "go_term_accession",
    "go_term",
    "term_id",
    "term",
    "gs_name",
    "geneset",
    "gene_set",
    "pathway_id",
    "pathway",
    "reactome_id",
    "set",
)
NCBI_NAMES = ("geneid", "entrezgene_id", "ncbi_gene_id", "entrez_id", "ncbi_gene_formerly_entrezgene_id")
TAXA = (9606.0, 10090.0)  # human and mouse; NCBI's gene2go holds every species
ACCESSION = re.compile(r"GO:\d{7}|R-[A-Z]{3}-\d+|hsa\d{5}|mmu\d{5}|WP\d+")
GAF_SYMBOL, GAF_QUALIFIER, GAF_TERM, GAF_WIDTH = 2, 3, 4, 15


def annotation_columns(table: Table, gene_names: Iterable[str]) -> tuple[int, int] | None:
    """The columns of genes (symbols, ids, or NCBI's numbers) and of sets of an annotation table, or None."""
    sets = _first(table, SET_NAMES)
    genes = _first(table, [name for name in gene_names if name not in SET_NAMES])
    genes = _first(table, NCBI_NAMES, text=False) if genes is None else genes
    return None if sets is None or genes is None or sets == genes else (genes, sets)


def _first(table: Table, names: Iterable[str], *, text: bool = True) -> int | None:
    places = [table.names.index(name) for name in names if name in table.names]
    return next((place for place in places if table.is_text(place) == text), None)


def ncbi_name(number: float) -> str:
    """How a gene is written that a file names by its NCBI (Entrez) number: `NCBI:7157`; "" where there is none."""
    return f"NCBI:{int(number)}" if np.isfinite(number) else ""


def ncbi_column(table: Table) -> int | None:
    """The column of NCBI gene numbers of a gene table, or None."""
    return _first(table, NCBI_NAMES, text=False)


def sets_of_table(table: Table, columns: tuple[int, int]) -> dict[str, list[str]]:
    """Set -> genes, in the order of the file. Rows with the qualifier NOT and rows without gene or set are left out.

    Where the table has several species, only human and mouse are kept.
    """
    written, sets = (table.columns[column] for column in columns)
    genes = list(written) if written.dtype == object else [ncbi_name(number) for number in written]
    keep = np.ones(table.n_rows, dtype=bool)
    if "tax_id" in table.names and not table.is_text(taxon := table.names.index("tax_id")):
        keep &= np.isin(table.columns[taxon], TAXA)
    if "qualifier" in table.names and table.is_text(place := table.names.index("qualifier")):
        keep &= np.array([not _negates(value) for value in table.columns[place]], dtype=bool)
    return _gathered((str(name), gene) for name, gene, kept in zip(sets, genes, keep, strict=True) if kept)


def _negates(qualifier: str) -> bool:
    return "NOT" in re.split(r"[|\s]+", qualifier)


def _gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for name, gene in pairs:
        if name.strip() and gene.strip():
            found.setdefault(name.strip(), {})[gene.strip()] = None
    return {name: list(genes) for name, genes in found.items()}


def sets_of_gaf(path: Path, text: str) -> dict[str, list[str]]:
    """GO term -> symbols of a GAF 2 file; annotations with the qualifier NOT are left out. BadKnowledge by line."""
    pairs = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("!"):
            continue
        fields = line.split("\t")
        if len(fields) < GAF_WIDTH:
            raise BadKnowledge(f"{path.name}, line {number}: {len(fields)} fields where GAF has at least {GAF_WIDTH}.")
        if not _negates(fields[GAF_QUALIFIER]):
            pairs.append((fields[GAF_TERM], fields[GAF_SYMBOL]))
    return _gathered(pairs)


def sets_by_gene(content: Mapping[str, Sequence[str]]) -> dict[str, list[str]] | None:
    """Set -> genes where `content` is gene -> accessions of sets (as GEARS' gene2go is); None where it is not."""
    some = [value for values in list(content.values())[:200] for value in values[:20]]
    if not some or np.mean([ACCESSION.fullmatch(str(value)) is not None for value in some]) < 0.9:
        return None
    return _gathered((str(name), gene) for gene, names in content.items() for name in names)
