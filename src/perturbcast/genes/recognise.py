"""What a file of gene knowledge is, decided by its content: the name plays no part."""

import io
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from perturbcast.errors import BadKnowledge
from perturbcast.genes.annotations import annotation_columns, sets_by_gene, sets_of_gaf
from perturbcast.genes.tables import (
    NUMBER,
    Sample,
    Table,
    folded,
    has_header,
    read_bytes,
    read_delimited,
    read_parquet,
    sample_of,
)


class Kind(StrEnum):
    """The kinds of gene knowledge."""

    GENE_TABLE = "gene table"
    SUMMARIES = "summaries"
    SEQUENCES = "sequences"
    EMBEDDINGS = "embedding table"
    EDGES = "edges"
    GENE_SETS = "gene sets"


@dataclass(frozen=True)
class Recognised:
    """A file with its kind and what it holds: a Table, parsed JSON, arrays, or the lines of FASTA and GMT files."""

    path: Path
    kind: Kind
    content: Table | dict[str, object] | tuple[np.ndarray, np.ndarray] | list[str]


SYMBOL = [
    "symbol",
    "gene_symbol",
    "hgnc_symbol",
    "approved_symbol",
    "external_gene_name",
    "gene_name",
    "genename",
    "gene",
    "symbols",
    "genes",
    "feature_name",
    "target",
    "perturbation",
    "feature",
    "preferred_name",
    "name",
    "index",
]
ENSEMBL = [
    "ensembl_gene_id",
    "ensembl_id",
    "ensembl",
    "gene_stable_id",
    "ensembl_gene",
    "stable_id",
    "gene_id",
    "feature_id",
    "id",
]
ALIASES = [
    "synonyms",
    "synonym",
    "aliases",
    "alias",
    "alias_symbol",
    "alias_symbols",
    "gene_synonym",
    "gene_synonyms",
    "previous_symbols",
    "previous_symbol",
    "prev_symbol",
    "prev_symbols",
    "string_protein_id",
]
BIOTYPE = ["biotype", "gene_biotype", "gene_type", "type_of_gene", "locus_type", "locus_group"]
DESCRIPTION = ["description", "gene_description", "full_name", "approved_name", "gene_full_name", "annotation"]
SUMMARY = ["summary", "gene_summary", "text", "texts"]
SEQUENCE = ["sequence", "seq", "promoter_sequence", "promoter_seq", "upstream_sequence", "dna"]
SOURCE = [
    "source",
    "tf",
    "regulator",
    "source_genesymbol",
    "source_symbol",
    "source_gene",
    "tf_symbol",
    "tf_name",
    "from",
]
TARGET = [
    "target_symbol",
    "target_genesymbol",
    "target_gene",
    "target",
    "target_name",
    "regulated",
    "to",
    "gene_symbol",
    "gene_name",
    "gene",
    "symbol",
]
WEIGHT = ["weight", "score", "combined_score", "confidence", "importance", "likelihood", "probability", "strength"]
SIGN = ["mor", "sign", "mode", "effect", "regulation", "direction"]
TWIN_STEMS = ("", "gene", "protein", "node", "symbol", "gene_symbol", "interactor", "preferredname", "regulator")
TWIN_ENDS = (("1", "2"), ("_1", "_2"), ("a", "b"), ("_a", "_b"))
KNOWN_NAMES = frozenset(
    [*SYMBOL, *ENSEMBL, *ALIASES, *BIOTYPE, *DESCRIPTION, *SUMMARY, *SEQUENCE, *SOURCE, *TARGET, *WEIGHT, *SIGN]
    + [stem + end for stem in TWIN_STEMS if stem for pair in TWIN_ENDS for end in pair]
)
GENE_LIKE = re.compile(r"[A-Za-z0-9][\w.@:/-]{0,39}", re.ASCII)
MODES = {"activation": 1, "activates": 1, "stimulation": 1, "positive": 1, "up": 1, "+": 1}
MODES |= {"repression": -1, "represses": -1, "inhibition": -1, "negative": -1, "down": -1, "-": -1, "unknown": 0}
DAMAGED_ZIP = (
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
)
DNA = re.compile(r"[ACGTUNacgtun]+")


def recognise(path: Path) -> Recognised | None:
    """The file with its kind, or None where it is of no kind that is known here.

    Raises BadKnowledge where the kind is clear and the content damaged, MissingFile and UnreadableFile.
    """
    content = read_bytes(path)
    if content[:4] == b"PAR1":
        return _of_table(read_parquet(path, content))
    if content[:4] == b"PK\x03\x04":
        return _of_arrays(path, content)
    if b"\0" in content[:4096]:
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        _check_late_damage(path, content, failure)
        return None
    start = text[:200].lstrip()[:1]
    if start in ("{", "["):
        return _of_json(path, text)
    if start == ">":
        return _of_fasta(path, text)
    if text.startswith("!gaf-version"):
        return Recognised(path, Kind.GENE_SETS, dict(sets_of_gaf(path, text)))
    return _of_text(path, content, text)


def _check_late_damage(path: Path, content: bytes, failure: UnicodeDecodeError) -> None:
    """A file that is no text from its start is just of another kind; one that stops being text is damaged."""
    if failure.start < 4096:
        return
    line = content.count(b"\n", 0, failure.start) + 1
    raise BadKnowledge(f"{path.name}, line {line}: not UTF-8 text.", "Save the file as UTF-8.")


def _of_text(path: Path, content: bytes, text: str) -> Recognised | None:
    sample = sample_of(text)
    if _is_gmt(sample):
        return Recognised(path, Kind.GENE_SETS, text.splitlines())
    if sample.width < 2 or sample.share_of_width < 0.5:
        return None
    header = has_header(sample, KNOWN_NAMES)
    trial = _trial(path, sample, header=header)
    if trial.n_rows == 0:
        if kind_of_table(trial) is not None:
            raise BadKnowledge(f"{path.name} has a header and no rows.")
        return None
    kind = kind_of_table(trial)
    is_prose = kind is Kind.EDGES and sample.delimiter == " " and not header and (sample.width > 3 or trial.n_rows < 2)
    if kind is None or is_prose:
        return None
    return _of_table(read_delimited(path, content, sample, header=header))


def _trial(path: Path, sample: Sample, *, header: bool) -> Table:
    """The sound rows of the sample as a table, to see whether reading the whole file is worth it."""
    rows = [row for row in sample.rows[header:] if len(row) == sample.width]
    columns = []
    for values in zip(*rows, strict=True) if rows else [()] * sample.width:
        filled = [value for value in values if value]
        numeric = bool(filled) and all(NUMBER.fullmatch(value) for value in filled)
        numbers = [float(value) if value and value != "NA" else np.nan for value in values] if numeric else []
        columns.append(np.array(numbers, float) if numeric else np.array(values, dtype=object))
    names = sample.rows[0] if header else [f"f{i}" for i in range(sample.width)]
    return Table(path, tuple(folded(name) for name in names), tuple(columns), 1)


def _of_table(table: Table) -> Recognised | None:
    kind = kind_of_table(table)
    return None if kind is None else Recognised(table.path, kind, table)


def kind_of_table(table: Table) -> Kind | None:
    """The kind of a table by its columns, or None."""
    sequence, aliases = column_of(table, SEQUENCE), column_of(table, ALIASES, lists=True)
    described = [column_of(table, BIOTYPE), column_of(table, DESCRIPTION)]
    names_gene = column_of(table, SYMBOL) is not None or column_of(table, ENSEMBL) is not None
    is_gene_table = names_gene and (aliases is not None or any(column is not None for column in described))
    if is_gene_table:
        return Kind.GENE_TABLE
    if names_gene and sequence is not None and is_dna(table.columns[sequence]):
        return Kind.SEQUENCES
    if annotation_columns(table, [*SYMBOL, *ENSEMBL]) is not None:
        return Kind.GENE_SETS
    if edge_columns(table) is not None:
        return Kind.EDGES
    if names_gene and column_of(table, SUMMARY) is not None:
        return Kind.SUMMARIES
    if embedding_columns(table) is not None:
        return Kind.EMBEDDINGS
    if names_gene and column_of(table, SYMBOL) is not None and column_of(table, ENSEMBL) is not None:
        return Kind.GENE_TABLE
    return None


def column_of(table: Table, names: Sequence[str], *, lists: bool = False) -> int | None:
    """The first text column (or column of lists) that has one of the names, in their order."""
    for name in names:
        for column, own in enumerate(table.names):
            if own == name and (table.is_text(column) or (lists and table.columns[column].dtype == object)):
                return column
    return None


def edge_columns(table: Table) -> tuple[int, int, bool] | None:
    """Columns of source and destination, and whether edges have a direction; None where the table is no edge list."""
    source, target = column_of(table, SOURCE), column_of(table, TARGET)
    if source is not None and target is not None and table.names[source] + table.names[target] != "fromgene":
        return source, target, True
    for stem in TWIN_STEMS:
        for ends in TWIN_ENDS:
            first, second = (column_of(table, [stem + end]) for end in ends)
            if first is not None and second is not None:
                return first, second, False
    if table.names[:2] == ("f0", "f1") and len(table.names) <= 6 and _are_gene_like(table, 0, 1):
        directed = any(is_mode(table, column) for column in range(2, len(table.names)))
        return 0, 1, directed
    return None


def is_mode(table: Table, column: int) -> bool:
    """Whether a column says how a regulator acts (activation, repression, +, -) or holds -1, 0 and 1."""
    values = table.columns[column]
    if table.is_text(column):
        return bool(np.mean([value.casefold() in MODES for value in values[:1000]]) > 0.9)
    if values.dtype == object:
        return False
    return bool(np.isin(values, (-1.0, 0.0, 1.0)).all()) and bool((values < 0).any())


def _are_gene_like(table: Table, *columns: int) -> bool:
    shares = []
    for column in columns:
        if not table.is_text(column):
            return False
        shares.append(np.mean([GENE_LIKE.fullmatch(value) is not None for value in table.columns[column][:1000]]))
    return bool(min(shares) > 0.95)


def embedding_columns(table: Table) -> tuple[int, list[int]] | None:
    """The column of gene names and the numeric columns (or one column of lists) of an embedding table, or None."""
    texts = [column for column in range(len(table.names)) if table.is_text(column)]
    features = [column for column in range(len(table.names)) if _is_feature(table, column)]
    named = column_of(table, [*SYMBOL, *ENSEMBL])
    others = [column for column in texts if column != named and table.names[column] not in ENSEMBL]
    if len(texts) == 1 or (named is not None and not others):
        names = texts[0] if named is None else named
        wide = len(features) >= 2 or any(table.columns[column].dtype == object for column in features)
        if wide and len(set(table.columns[names])) > 0.5 * table.n_rows:
            return names, features
    return None


def _is_feature(table: Table, column: int) -> bool:
    values = table.columns[column]
    if values.dtype == object:
        return len(values) > 0 and isinstance(values[0], list) and not any(isinstance(v, str) for v in values[0])
    counts_rows = table.names[column] in ("", "index", "unnamed_0") and np.array_equal(values, np.arange(len(values)))
    return not counts_rows


def is_dna(values: np.ndarray) -> bool:
    """Whether nine of ten of the first filled values are written in the letters of DNA."""
    filled = [value for value in values[:1000] if isinstance(value, str) and value]
    return bool(filled) and float(np.mean([DNA.fullmatch(value) is not None for value in filled])) >= 0.9


def _is_gmt(sample: Sample) -> bool:
    """Tab-separated lines of a set's name, a remark and genes: of different lengths, or without numbers and modes."""
    rows = sample.rows
    if sample.delimiter != "\t" or not rows or min(len(row) for row in rows) < 3:
        return len(rows) > 1 and sample.delimiter == "\t" and _is_gmt_with_short_lines(rows)
    if has_header(sample, KNOWN_NAMES):
        return False
    genes = [value.split(",")[0] for row in rows for value in row[2:] if value]
    gene_like = float(np.mean([GENE_LIKE.fullmatch(value) is not None for value in genes])) if genes else 0.0
    modes = sum(row[2].casefold() in MODES or _is_number(row[2]) for row in rows)
    return gene_like > 0.9 and modes < 0.5 * len(rows)


def _is_gmt_with_short_lines(rows: Sequence[Sequence[str]]) -> bool:
    """A GMT file some of whose lines are cut off: still one, and its reader names the line."""
    whole = [row for row in rows if len(row) >= 3]
    ragged = len({len(row) for row in whole}) > 1
    return ragged and len(whole) > 0.5 * len(rows) and not any(_is_number(row[2]) for row in whole)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _of_json(path: Path, text: str) -> Recognised | None:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as failure:
        raise BadKnowledge(f"{path.name}, line {failure.lineno}: not JSON ({failure.msg}).") from failure
    if not isinstance(content, dict) or not content:
        return None
    values = list(content.values())
    if all(isinstance(value, str) for value in values):
        return Recognised(path, Kind.SEQUENCES if is_dna(np.array(values, object)) else Kind.SUMMARIES, content)
    if not all(isinstance(value, list) and value for value in values):
        return None
    numbers = all(isinstance(entry, int | float) for value in values for entry in value)
    by_set = None if numbers else sets_by_gene(content)
    if by_set is not None:
        return Recognised(path, Kind.GENE_SETS, dict(by_set))
    return Recognised(path, Kind.EMBEDDINGS if numbers else Kind.GENE_SETS, content)


def _of_fasta(path: Path, text: str) -> Recognised | None:
    lines = text.splitlines()
    letters = np.array([line for line in lines[:2000] if line and not line.startswith(">")], dtype=object)
    return Recognised(path, Kind.SEQUENCES, lines) if is_dna(letters) else None


def _of_arrays(path: Path, content: bytes) -> Recognised | None:
    """An .npz file with one array of names and one matrix with as many rows; pickled arrays are refused."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = [array for array in (file[name] for name in file.files) if isinstance(array, np.ndarray)]
    except DAMAGED_ZIP as failure:
        if "pickle" in str(failure).casefold():
            raise BadKnowledge(f"{path.name} holds pickled objects.", "Save names as an array of str.") from failure
        first = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
        raise BadKnowledge(f"{path.name} is a damaged .npz file: {first}.", "Copy or fetch it again.") from failure
    names = [array.astype(str) for array in arrays if array.ndim == 1 and array.dtype.kind in "US"]
    tables = [array for array in arrays if array.ndim == 2 and array.dtype.kind in "fiu"]
    pairs = [(own, table) for own in names for table in tables if len(own) == len(table)]
    return Recognised(path, Kind.EMBEDDINGS, pairs[0]) if len(pairs) == 1 else None
