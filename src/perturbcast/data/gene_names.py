"""Names of the measured genes: symbols or Ensembl ids, from the index or a column of var, each name once."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from perturbcast.data.columns import bare
from perturbcast.data.screen import Decision
from perturbcast.errors import BadOption, DuplicatedGenes, UnknownColumn, UnknownOption, did_you_mean

_ENSEMBL = re.compile(r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?")
_SYMBOL_COLUMNS = (
    "genesymbol",
    "genesymbols",
    "symbol",
    "genename",
    "genenames",
    "featurename",
    "geneshortname",
    "gene",
)
_ID_COLUMNS = ("ensemblid", "ensembl", "geneid", "geneids", "ensemblgeneid", "featureid", "genesids", "ensid")


@dataclass(frozen=True)
class GeneNames:
    """Unique names of the columns of a matrix, and how stored columns become them (None: one to one)."""

    names: np.ndarray  # (gene,) object dtype of str
    ids: np.ndarray | None  # (gene,) Ensembl ids, "" where unknown
    mapping: sparse.csr_matrix | None  # (stored gene, gene) of ones
    decisions: tuple[Decision, ...]


def name_genes(var: pd.DataFrame, *, genes: str | None = None, duplicates: str | None = None) -> GeneNames:
    """The names of the measured genes. `genes` names a column of var or ``index``; `duplicates` is sum or first.

    Raises UnknownColumn, UnknownOption, BadOption, and DuplicatedGenes where a name stands twice and nothing else tells
    these genes apart.
    """
    if duplicates not in (None, "sum", "first"):
        raise UnknownOption(f"duplicates = {duplicates!r} is none of sum and first.")
    index = np.array([str(name).strip() for name in var.index], dtype=object)
    names, decision = _chosen(var, index, genes)
    ids = _ensembl_ids(var, index)
    unnamed = np.array([name in ("", "nan", "None", "<NA>") for name in names])
    names = np.where(unnamed, index, names)
    decisions = [decision]
    repeated = pd.Series(names).duplicated(keep=False).to_numpy()
    if not repeated.any():
        return GeneNames(names, ids, None, tuple(decisions))
    apart = ids if ids is not None else index
    if duplicates is None and _tells_apart(names, apart, repeated):
        later = pd.Series(names).duplicated(keep="first").to_numpy()
        names = np.where(later, apart, names)
        evidence = f"{int(later.sum())} later genes of a repeated name go by {apart[later][0]!r} and the like"
        decisions.append(Decision("repeated gene names", "kept apart by id", evidence, "--duplicates"))
        return GeneNames(names, ids, None, tuple(decisions))
    if duplicates is None:
        twice = sorted(set(names[repeated]))
        shown = ", ".join(repr(name[:40]) for name in twice[:3]) + (", ..." if len(twice) > 3 else "")
        raise DuplicatedGenes(f"{len(twice)} gene names stand more than once: {shown}.")
    return _united(names, ids, duplicates, decisions)


def _chosen(var: pd.DataFrame, index: np.ndarray, genes: str | None) -> tuple[np.ndarray, Decision]:
    """The column that names the genes, or the index."""
    if genes is not None and genes != "index":
        if genes not in var.columns:
            known = [str(name) for name in var.columns]
            raise UnknownColumn(
                f"var has no column {genes[:60]!r}. {did_you_mean(genes, known) if known else 'It has none.'}",
                "Pass one of the columns of var, or index.",
            )
        return _strings(var[genes]), Decision("gene names", genes, "given", "--gene-names")
    n_ids = sum(bool(_ENSEMBL.fullmatch(name)) for name in index)
    digits = all(name.isdigit() for name in index)
    if genes is None and (n_ids > len(index) / 2 or digits):
        for name in _named(var, _SYMBOL_COLUMNS):
            symbols = _strings(var[name])
            if (
                len(set(symbols)) > len(symbols) / 2
                and sum(bool(_ENSEMBL.fullmatch(s)) for s in symbols) < len(index) / 2
            ):
                was = "numbers" if digits else f"{n_ids:,} of {len(index):,} Ensembl ids"
                return symbols, Decision(
                    "gene names", str(name), f"the index holds {was}; this column symbols", "--gene-names"
                )
    kind = "Ensembl ids, and no column holds symbols" if n_ids > len(index) / 2 else "symbols"
    return index, Decision("gene names", "index", "given" if genes else f"it holds {kind}", "--gene-names")


def _named(var: pd.DataFrame, known: tuple[str, ...]) -> list[str]:
    return [name for short in known for name in var.columns if bare(name) == short]


def _strings(column: pd.Series) -> np.ndarray:
    values = column.astype(object)
    return np.array(
        ["" if missing else str(v).strip() for v, missing in zip(values, values.isna(), strict=True)], dtype=object
    )


def _ensembl_ids(var: pd.DataFrame, index: np.ndarray) -> np.ndarray | None:
    """(gene,) ids without version, from the index or a column of which most are Ensembl ids."""
    for values in (index, *(_strings(var[name]) for name in _named(var, _ID_COLUMNS))):
        ids = np.array([name.split(".")[0] if _ENSEMBL.fullmatch(name) else "" for name in values], dtype=object)
        if len(ids) and (ids != "").mean() > 0.5:
            return ids
    return None


def _tells_apart(names: np.ndarray, apart: np.ndarray, repeated: np.ndarray) -> bool:
    """Whether ids are there for all genes of a repeated name, each once and no name itself."""
    among = apart[repeated]
    return bool((among != "").all()) and len(set(among)) == len(among) and not set(among) & set(names)


def _united(names: np.ndarray, ids: np.ndarray | None, how: str, decisions: list[Decision]) -> GeneNames:
    codes, unique = pd.factorize(names)
    first = ~pd.Series(names).duplicated(keep="first").to_numpy()
    stored = np.flatnonzero(first) if how == "first" else np.arange(len(names))
    ones = np.ones(len(stored), dtype=np.float32)
    mapping = sparse.csr_matrix((ones, (stored, codes[stored])), shape=(len(names), len(unique)))
    decisions.append(
        Decision("repeated gene names", how, f"{len(names):,} columns make {len(unique):,} genes", "--duplicates")
    )
    return GeneNames(np.asarray(unique, dtype=object), None if ids is None else ids[first], mapping, tuple(decisions))


def check_sum(how: str | None, *, is_counts: bool) -> None:
    """Raises BadOption where repeated genes are to be summed on a scale on which sums mean nothing."""
    if how == "sum" and not is_counts:
        raise BadOption(
            "Only counts of repeated genes can be summed, and these are no counts.", "Pass --duplicates first."
        )
