"""From a recognised file to plain values, names still as the file writes them. Damage is named with its line."""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from perturbcast.errors import BadKnowledge
from perturbcast.genes.annotations import annotation_columns, ncbi_column, ncbi_name, sets_of_table
from perturbcast.genes.recognise import (
    ALIASES,
    BIOTYPE,
    DESCRIPTION,
    DNA,
    ENSEMBL,
    MODES,
    SEQUENCE,
    SIGN,
    SUMMARY,
    SYMBOL,
    WEIGHT,
    Recognised,
    column_of,
    edge_columns,
    embedding_columns,
    is_dna,
    is_mode,
)
from perturbcast.genes.tables import Table

CONTROLS = frozenset({"ctrl", "control", "non-targeting", "nontargeting", "nt"})  # rows of no gene in embedding tables
LEVELS = {"a": 1.0, "b": 1 / 2, "c": 1 / 3, "d": 1 / 4, "e": 1 / 5}  # DoRothEA: weight 1 / rank of the level


@dataclass(frozen=True)
class Edges:
    """An edge list as written: names, weights >= 0, and signs in {-1, 0, 1} where the file has any."""

    sources: np.ndarray  # (edge,) object dtype of str
    targets: np.ndarray  # (edge,)
    weights: np.ndarray  # (edge,) float64, > 0
    directed: bool
    signs: np.ndarray | None = None  # (edge,) float64


def gene_table_of(found: Recognised) -> pd.DataFrame:
    """Columns symbol, ensembl_id, aliases (tuple), biotype, description, sequence; "" or () where not given."""
    table = _table(found)
    symbol, ensembl = column_of(table, SYMBOL), column_of(table, ENSEMBL)
    described = column_of(table, [*DESCRIPTION, *SUMMARY])
    if described is None and symbol is not None and table.names[symbol] != "name":
        described = column_of(table, ["name"])
    sequence = column_of(table, SEQUENCE)
    if sequence is not None and not is_dna(table.columns[sequence]):
        sequence = None
    frame = pd.DataFrame(
        {
            "symbol": _text(table, symbol),
            "ensembl_id": _text(table, ensembl),
            "aliases": _aliases(table),
            "biotype": _text(table, column_of(table, BIOTYPE)),
            "description": _text(table, described),
            "sequence": _text(table, sequence),
        },
        dtype=object,
    )
    empty = np.flatnonzero((frame["symbol"] == "") & (frame["ensembl_id"] == ""))
    if len(empty):
        raise BadKnowledge(f"{table.place(int(empty[0]))}: a gene without symbol and id.")
    return frame


def _table(found: Recognised) -> Table:
    assert isinstance(found.content, Table)
    return found.content


def _text(table: Table, column: int | None) -> np.ndarray:
    if column is None:
        return np.full(table.n_rows, "", dtype=object)
    values = np.empty(table.n_rows, dtype=object)
    values[:] = [value.strip() for value in table.columns[column]]
    return values


def _aliases(table: Table) -> list[tuple[str, ...]]:
    """Aliases of all alias columns, and the NCBI number as `NCBI:7157`, in the order of the file, each once."""
    columns = [
        table.columns[column]
        for column, name in enumerate(table.names)
        if name in ALIASES and table.columns[column].dtype == object
    ]
    numbers = ncbi_column(table)
    if numbers is not None:
        columns.append(np.array([ncbi_name(number) for number in table.columns[numbers]], dtype=object))
    if not columns:
        return [()] * table.n_rows
    joined = []
    for cells in zip(*columns, strict=True):
        names = [alias for cell in cells for alias in (cell if isinstance(cell, list) else re.split(r"[|;,]", cell))]
        joined.append(
            tuple(dict.fromkeys(alias.strip() for alias in names if alias and alias.strip() not in ("", "-")))
        )
    return joined


def texts_of(found: Recognised) -> dict[str, str]:
    """Gene -> text; genes without text are left out, the first of several texts is kept."""
    if isinstance(found.content, dict):
        pairs = [(name, str(text)) for name, text in found.content.items()]
    else:
        table = _table(found)
        names, texts = column_of(table, [*SYMBOL, *ENSEMBL]), column_of(table, SUMMARY)
        assert names is not None
        assert texts is not None
        pairs = list(zip(table.columns[names], table.columns[texts], strict=True))
    texts_by_gene: dict[str, str] = {}
    for name, text in pairs:
        if name.strip() and text.strip():
            texts_by_gene.setdefault(name.strip(), " ".join(text.split()))
    return texts_by_gene


def sequences_of(found: Recognised) -> list[tuple[tuple[str, ...], str]]:
    """(names by which the gene may be known, DNA in capitals), in the order of the file."""
    if isinstance(found.content, list):
        return _fasta(found, found.content)
    if isinstance(found.content, dict):
        pairs = [((name,), str(sequence).upper()) for name, sequence in found.content.items()]
    else:
        table = _table(found)
        columns = [column_of(table, names) for names in (SYMBOL, ENSEMBL)]
        named = [table.columns[column] for column in columns if column is not None]
        sequence = column_of(table, SEQUENCE)
        assert sequence is not None
        letters = table.columns[sequence]
        names_by_row = zip(*named, strict=True)
        pairs = [(tuple(filter(None, names)), dna.upper()) for names, dna in zip(names_by_row, letters, strict=True)]
        for row, (names, dna) in enumerate(pairs):
            if dna and (not names or not DNA.fullmatch(dna)):
                raise BadKnowledge(f"{table.place(row)}: {'no DNA' if names else 'a sequence without gene'}.")
    return [(names, dna) for names, dna in pairs if dna]


def _fasta(found: Recognised, lines: Sequence[str]) -> list[tuple[tuple[str, ...], str]]:
    """Records of a FASTA file; a name may be any word of the header, also without a promoter number as in NOC2L_1."""
    records: list[tuple[tuple[str, ...], list[str]]] = []
    for number, line in enumerate(lines, start=1):
        if line.startswith(">"):
            words = [word for word in re.split(r"[|\s]+", line[1:].strip()) if word]
            if not words:
                raise BadKnowledge(f"{found.path.name}, line {number}: a header without name.")
            names = [name for word in words for name in dict.fromkeys((word, re.sub(r"_\d+$", "", word)))]
            records.append((tuple(names), []))
        elif line.strip():
            if not DNA.fullmatch(line.strip()):
                raise BadKnowledge(f"{found.path.name}, line {number}: {line.strip()[:30]!r} is no DNA.")
            records[-1][1].append(line.strip().upper())
    return [(names, "".join(parts)) for names, parts in records if parts]


def embedding_of(found: Recognised) -> tuple[np.ndarray, np.ndarray]:
    """Names and matrix (gene, feature) float32; rows of controls and repeated identical rows are left out.

    BadKnowledge where a value is missing or no number, where rows differ in length, or a gene has two unlike rows.
    """
    names, matrix = _embedding_arrays(found)
    names = np.array([name.strip() for name in names], dtype=object)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
    unsound = np.flatnonzero(~np.isfinite(matrix).all(axis=1) | (names == ""))
    if len(unsound):
        complaint = "a row without gene" if names[unsound[0]] == "" else "a value is missing or not finite"
        raise BadKnowledge(f"{_row_name(found, int(unsound[0]))}: {complaint}.")
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if not np.array_equal(matrix[first.setdefault(name, row)], matrix[row]):
            raise BadKnowledge(f"{_row_name(found, row)}: {name!r} stands above with other values.")
    kept = [row for name, row in first.items() if name.casefold() not in CONTROLS]
    return names[kept], matrix[kept]


def _row_name(found: Recognised, row: int) -> str:
    return found.content.place(row) if isinstance(found.content, Table) else f"{found.path.name}, row {row + 1}"


def _embedding_arrays(found: Recognised) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(found.content, tuple):
        return found.content
    if isinstance(found.content, dict):
        return np.array(list(found.content), dtype=object), _stacked(found, list(found.content.values()))
    table = _table(found)
    columns = embedding_columns(table)
    assert columns is not None
    names, features = columns
    blocks = []
    for column in features:
        values = table.columns[column]
        blocks.append(values[:, None] if values.dtype != object else _stacked(found, list(values)))
    return table.columns[names], np.hstack(blocks)


def _stacked(found: Recognised, rows: Sequence[object]) -> np.ndarray:
    """Lists of numbers as a matrix."""
    lengths = [len(row) if isinstance(row, list) else -1 for row in rows]
    odd = next((number for number, length in enumerate(lengths) if length != lengths[0]), None)
    if odd is not None:
        raise BadKnowledge(f"{_row_name(found, odd)}: {lengths[odd]} values where the first row has {lengths[0]}.")
    try:
        return np.array(rows, dtype=np.float64)
    except (TypeError, ValueError) as failure:
        raise BadKnowledge(f"{found.path.name}: a value is no number.") from failure


def edges_of(found: Recognised) -> Edges:
    """The edges with weights and signs. A negative weight is a sign; confidence levels A to E weigh 1 to 1/5."""
    table = _table(found)
    columns = edge_columns(table)
    assert columns is not None
    source, target, directed = columns
    sources, targets = _text(table, source), _text(table, target)
    empty = np.flatnonzero((sources == "") | (targets == ""))
    if len(empty):
        raise BadKnowledge(f"{table.place(int(empty[0]))}: an edge needs two genes.")
    weights, signs = _weights(table, {source, target}), _signs(table, {source, target})
    if (weights < 0).any():
        signs = np.sign(weights) if signs is None else signs
        weights = np.abs(weights)
    present = weights > 0
    return Edges(
        sources[present], targets[present], weights[present], directed, None if signs is None else signs[present]
    )


def _weights(table: Table, taken: set[int]) -> np.ndarray:
    """The weight of each edge: a named column, or the one numeric column of a file without header; else 1."""
    named = [table.names.index(name) for name in WEIGHT if name in table.names]
    unnamed = [
        column
        for column, name in enumerate(table.names)
        if re.fullmatch(r"f\d+", name) and not table.is_text(column) and not is_mode(table, column)
    ]
    column = next((column for column in [*named, *unnamed[:1]] if column not in taken), None)
    if column is None:
        return np.ones(table.n_rows)
    if table.is_text(column):
        levels = [LEVELS.get(value.casefold(), np.nan) for value in table.columns[column]]
        return np.ones(table.n_rows) if np.isnan(levels).any() else np.array(levels)
    weights = table.columns[column]
    missing = np.flatnonzero(~np.isfinite(weights))
    if len(missing):
        raise BadKnowledge(f"{table.place(int(missing[0]))}: the weight is missing or not finite.")
    return weights


def _signs(table: Table, taken: set[int]) -> np.ndarray | None:
    """How each edge acts, from a column that says so; None where no column does."""
    named = [table.names.index(name) for name in SIGN if name in table.names]
    unnamed = [column for column, name in enumerate(table.names) if re.fullmatch(r"f\d+", name)]
    for column in [*named, *unnamed]:
        if column in taken or not is_mode(table, column):
            continue
        values = table.columns[column]
        if table.is_text(column):
            return np.array([MODES.get(value.casefold(), 0) for value in values], dtype=np.float64)
        return np.sign(values)
    return None


def sets_of(found: Recognised) -> list[tuple[str, tuple[str, ...]]]:
    """(name of the set, its genes), in the order of the file; weights as in `GENE,1.0` are dropped."""
    if isinstance(found.content, dict):
        sets = [
            (name, [str(gene) for gene in genes]) for name, genes in found.content.items() if isinstance(genes, list)
        ]
    elif isinstance(found.content, Table):
        columns = annotation_columns(found.content, [*SYMBOL, *ENSEMBL])
        assert columns is not None
        return [(name, tuple(genes)) for name, genes in sets_of_table(found.content, columns).items()]
    else:
        assert isinstance(found.content, list)
        cleaned = []
        for number, line in enumerate(found.content, start=1):
            if not line.strip():
                continue
            fields = line.rstrip("\n").split("\t")
            if len(fields) < 3 or not fields[0].strip():
                raise BadKnowledge(f"{found.path.name}, line {number}: a set needs a name, a remark and genes.")
            cleaned.append((fields[0].strip(), _without_weights(fields[2:])))
        return cleaned
    return [(name, _without_weights(genes)) for name, genes in sets]


def _without_weights(genes: Iterable[str]) -> tuple[str, ...]:
    """The genes of a set, each once. A gene of many sets is one string in all of them: large files have few names."""
    return tuple(dict.fromkeys(sys.intern(name) for gene in genes if (name := gene.split(",")[0].strip())))
