"""A gene table from Ensembl: names, biotype and description from BioMart, sequences from BioMart or REST."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import pandas as pd

from perturbcast._progress import Progress
from perturbcast.errors import BadOption, UnexpectedContent, did_you_mean
from perturbcast.genes.knowledge import GeneTable
from perturbcast.genes.pages import Pages
from perturbcast.genes.parse import DNA
from perturbcast.genes.resolve import ENSEMBL_ID, Resolver

SERVER = "https://www.ensembl.org"  # or an archive, for a release that stays
REST_SERVER = "https://rest.ensembl.org"
WHOLE = "[success]"  # the last line of an answer of BioMart that came to its end
AT_ONCE = 50  # ids that REST takes in one request for sequences
ATTRIBUTES = ("ensembl_gene_id", "external_gene_name", "external_synonym", "gene_biotype", "description")
SequenceKind = Literal["none", "promoter", "gene"]


@dataclass(frozen=True)
class Species:
    """What Ensembl calls a species, and its chromosomes, each of which is a page."""

    dataset: str
    chromosomes: tuple[str, ...]


SPECIES = {
    "human": Species("hsapiens_gene_ensembl", (*map(str, range(1, 23)), "X", "Y", "MT")),
    "mouse": Species("mmusculus_gene_ensembl", (*map(str, range(1, 20)), "X", "Y", "MT")),
}


def fetch_gene_table(
    species: str,
    *,
    pages: Pages,
    sequences: str = "none",
    upstream: int = 1000,
    only: Iterable[str] | None = None,
    server: str = SERVER,
    rest_server: str = REST_SERVER,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row per gene of the chromosomes: ensembl_gene_id, symbol, synonyms (joined by |), biotype, description.

    Synonyms hold aliases and previous symbols. `sequences`: `none`; `promoter`, `upstream` bases before the gene; or
    `gene`, the whole gene, in its own direction, as GRAPE uses it: then there is a column `sequence` (DNA, "" where
    Ensembl gives none). `only`: symbols, aliases or ids of the genes whose sequence is fetched.

    Interrupted, it goes on with the pages that `pages` has kept. Raises BadOption, Offline, SourceGone,
    UnexpectedContent, NotWritable.
    """
    if species not in SPECIES:
        raise BadOption(f"there is no species {species!r}. {did_you_mean(species, SPECIES)}")
    if sequences not in get_args(SequenceKind) or upstream < 1:
        raise BadOption(f"sequences is {sequences!r}, upstream {upstream}; give none, promoter or gene, and 1 or more.")
    progress = Progress() if progress is None else progress
    chosen, mart = SPECIES[species], f"{server.rstrip('/')}/biomart/martservice"
    rows: list[list[str]] = []
    for chromosome in progress.track(chosen.chromosomes, label="genes"):
        query = _query(chosen.dataset, ATTRIBUTES, {"chromosome_name": chromosome}, formatter="TSV")
        rows += _rows(pages.post(mart, form={"query": query}, complaint=partial(_complaint, width=len(ATTRIBUTES))))
    table = _merged(rows)
    if sequences == "promoter":
        found = _promoters(chosen, mart, pages, upstream=upstream, progress=progress)
    elif sequences == "gene":
        found = _whole_genes(_chosen_ids(table, only), rest_server.rstrip("/"), pages, progress)
    else:
        return table
    kept = set(_chosen_ids(table, only))
    return table.assign(sequence=[found.get(ident, "") if ident in kept else "" for ident in table["ensembl_gene_id"]])


def _query(dataset: str, attributes: Sequence[str], filters: Mapping[str, str], *, formatter: str) -> str:
    """A query of BioMart in its XML, with a stamp at the end of a whole answer."""
    parts = [f'<Filter name="{name}" value="{value}"/>' for name, value in filters.items()]
    parts += [f'<Attribute name="{name}"/>' for name in attributes]
    head = f'virtualSchemaName="default" formatter="{formatter}" header="0" uniqueRows="1" completionStamp="1"'
    dataset_part = f'<Dataset name="{dataset}" interface="default">{"".join(parts)}</Dataset>'
    return f'<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE Query><Query {head}>{dataset_part}</Query>'


def _complaint(text: str, *, width: int = 0) -> str:
    """What is wrong with an answer of BioMart; `width`: number of columns of a table."""
    lines = text.rstrip("\n").split("\n")
    if lines[-1].strip() != WHOLE:
        said = " ".join(text.split())[:160]
        return f"BioMart says {said!r}" if "ERROR" in text[:400] or "<html" in text[:400] else "the answer is cut off"
    odd = next((line for line in lines[:-1] if width and line and len(line.split("\t")) != width), None)
    return "" if odd is None else f"a row has not {width} columns: {odd[:80]!r}"


def _rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.rstrip("\n").split("\n")[:-1] if line]


def _merged(rows: Sequence[Sequence[str]]) -> pd.DataFrame:
    """One row per gene of rows with one synonym each."""
    genes: dict[str, tuple[str, str, str]] = {}
    synonyms: dict[str, dict[str, None]] = {}
    for ident, symbol, synonym, biotype, description in rows:
        if not ENSEMBL_ID.fullmatch(ident):
            raise UnexpectedContent(f"BioMart gave {ident[:40]!r} where an Ensembl gene id belongs.")
        genes.setdefault(ident, (symbol, biotype, description))
        if synonym and synonym != symbol:
            synonyms.setdefault(ident, {})[synonym] = None
    if not genes:
        raise UnexpectedContent("BioMart gave no gene at all.")
    table = pd.DataFrame(list(genes.values()), columns=["symbol", "biotype", "description"], dtype=object)
    table.insert(0, "ensembl_gene_id", list(genes))
    table.insert(2, "synonyms", ["|".join(synonyms.get(ident, ())) for ident in genes])
    return table


def _chosen_ids(table: pd.DataFrame, only: Iterable[str] | None) -> list[str]:
    """Ids of the genes asked for, all where nothing is; BadOption where none of the names is a gene."""
    if only is None:
        return list(table["ensembl_gene_id"])
    frame = table.rename(columns={"ensembl_gene_id": "ensembl_id"})
    frame["aliases"] = [tuple(filter(None, names.split("|"))) for names in frame["synonyms"]]
    current = {hit.symbol for hit in Resolver(GeneTable(frame)).resolve_each(map(str, only)) if hit is not None}
    own = np.where(frame["symbol"] == "", frame["ensembl_id"], frame["symbol"])
    ids = [ident for ident, name in zip(frame["ensembl_id"], own, strict=True) if name in current]
    if not ids:
        raise BadOption("none of the genes whose sequence is asked for is known to Ensembl.", "Check --only.")
    return ids


def _promoters(species: Species, mart: str, pages: Pages, *, upstream: int, progress: Progress) -> dict[str, str]:
    """Id -> bases before the gene, from the sequence pages of BioMart (FASTA, the id as header)."""
    found: dict[str, str] = {}
    for chromosome in progress.track(species.chromosomes, label="promoters"):
        filters = {"chromosome_name": chromosome, "upstream_flank": str(upstream)}
        query = _query(species.dataset, ("gene_flank", "ensembl_gene_id"), filters, formatter="FASTA")
        text = pages.post(mart, form={"query": query}, complaint=_complaint)
        for record in text.rstrip("\n").removesuffix(WHOLE).split(">")[1:]:
            header, _, body = record.partition("\n")
            dna = "".join(body.split()).upper()
            if DNA.fullmatch(dna):
                found[header.strip()] = dna
    return found


def _whole_genes(ids: Sequence[str], rest: str, pages: Pages, progress: Progress) -> dict[str, str]:
    """Id -> the gene itself, from REST, fifty at a time."""
    found: dict[str, str] = {}
    for start in progress.track(range(0, len(ids), AT_ONCE), label="sequences"):
        asked = list(ids[start : start + AT_ONCE])
        url = f"{rest}/sequence/id?type=genomic"
        answer = json.loads(pages.post_json(url, content={"ids": asked}, complaint=_json_complaint))
        found |= {str(entry["query"]): str(entry["seq"]).upper() for entry in answer}
    return found


def _json_complaint(text: str) -> str:
    try:
        answer = json.loads(text)
    except ValueError:
        return "the answer is cut off"
    sound = isinstance(answer, list) and all(
        isinstance(entry, dict) and {"query", "seq"} <= set(entry) for entry in answer
    )
    return "" if sound else f"the answer holds no sequences: {text[:80]!r}"
