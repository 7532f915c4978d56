"""Tables in files of knowledge as plain columns: delimited text (also gzipped) and parquet, whatever their names."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perturbcast.errors import BadKnowledge, MissingFile, UnreadableFile

SAMPLE_LINES = 60  # lines that decide what a text file is
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan|NaN|NA)|", re.ASCII)
HAS_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Table:
    """Columns of a file: text as object arrays of str, numbers as float64, lists as lists of str or float."""

    path: Path
    names: tuple[str, ...]  # folded: lower case, words joined by _; "" for a column without a name
    columns: tuple[np.ndarray, ...]
    first_line: int = 0  # line of the first row in a text file; 0 where the file has no lines

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0]) if self.columns else 0

    def is_text(self, column: int) -> bool:
        """Whether a column holds text."""
        values = self.columns[column]
        return values.dtype == object and (len(values) == 0 or isinstance(values[0], str))

    def place(self, row: int) -> str:
        """Where a row stands, for messages: by line in text files."""
        return f"{self.path.name}, line {row + self.first_line}" if self.first_line else f"{self.path.name}, row {row}"


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked where it is gzipped. MissingFile, UnreadableFile or BadKnowledge otherwise."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as failure:
        raise MissingFile(f"there is no file {path}.") from failure
    except OSError as failure:
        raise UnreadableFile(f"{path} cannot be read: {failure.strerror}.") from failure
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as failure:
        raise BadKnowledge(f"{path.name} is a damaged gzip file: {failure}.", "Copy or fetch it again.") from failure


def folded(name: str) -> str:
    """A column name in lower case with its words joined by `_`."""
    name = re.sub(r"^__index_level_\d+__$", "", name)
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")


@dataclass(frozen=True)
class Sample:
    """The first lines of a text file, split into fields."""

    rows: tuple[tuple[str, ...], ...]
    delimiter: str
    skipped: int  # comment lines before the first row

    @property
    def width(self) -> int:
        """Number of fields of the first row."""
        return len(self.rows[0]) if self.rows else 0

    @property
    def share_of_width(self) -> float:
        """Share of the rows that are as wide as the first."""
        return sum(len(row) == self.width for row in self.rows) / max(len(self.rows), 1)


def sample_of(text: str) -> Sample:
    """The first lines split by tab, comma, semicolon or blank, whichever stands in the first line."""
    lines = text[: 1 << 22].splitlines()[: SAMPLE_LINES + 20]
    skipped = 0
    while skipped < len(lines) - 1 and (not lines[skipped] or _is_comment(lines[skipped], lines[skipped + 1])):
        skipped += 1
    kept = [line for line in lines[skipped : skipped + SAMPLE_LINES] if line]
    first = kept[0] if kept else ""
    delimiter = next((mark for mark in "\t,; " if mark in first), ",")
    rows = csv.reader(kept, delimiter=delimiter)
    try:
        return Sample(tuple(tuple(row) for row in rows), delimiter, skipped)
    except csv.Error:
        return Sample((), delimiter, skipped)


def _is_comment(line: str, following: str) -> bool:
    """Whether a line starts with # and is no header: a header has as many tabs or commas as the line below."""
    if not line.startswith("#"):
        return False
    marks = [(line.count(mark), following.count(mark)) for mark in "\t,"]
    return following.startswith("#") or not any(above == below > 0 for above, below in marks)


def has_header(sample: Sample, known_names: Collection[str]) -> bool:
    """Whether the first row names the columns: known names, words above numbers, or 0, 1, 2, ... over features.

    A single known name counts only if it is not written like a symbol: TF is a gene.
    """
    if len(sample.rows) < 2:
        return sum(folded(value) in known_names for value in sample.rows[0]) >= 2 if sample.rows else False
    first, rest = sample.rows[0], [row for row in sample.rows[1:] if len(row) == sample.width]
    hits = [value for value in first if value and folded(value) in known_names]
    if len(hits) >= 2 or any(not value.isupper() for value in hits):
        return True
    if sample.width > 2 and first[1:] in (_count_from(0, sample.width - 1), _count_from(1, sample.width - 1)):
        return True
    return any(
        HAS_LETTER.search(value)
        and not NUMBER.fullmatch(value)
        and rest
        and all(NUMBER.fullmatch(row[column]) for row in rest)
        for column, value in enumerate(first)
    )


def _count_from(start: int, n: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(start, start + n))


def read_delimited(path: Path, content: bytes, sample: Sample, *, header: bool) -> Table:
    """The whole table; numbers are recognised column by column over all rows. BadKnowledge names the line."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = [value.lstrip("#") for value in sample.rows[0]] if header else [f"f{i}" for i in range(sample.width)]
    first_line = sample.skipped + 1 + header
    try:
        frame = arrow_csv.read_csv(
            io.BytesIO(content),
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=max(min(len(content) + 1, 1 << 30), 1 << 10),
                skip_rows=sample.skipped + header,
                column_names=[str(number) for number in range(len(names))],
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=sample.delimiter),
            convert_options=arrow_csv.ConvertOptions(timestamp_parsers=[_NO_TIMESTAMP]),
        )
    except pa.ArrowInvalid as failure:
        raise _damaged(path, str(failure)) from failure
    if frame.num_rows == 0:
        raise BadKnowledge(f"{path.name} has a header and no rows.")
    columns = tuple(_as_array(column) for column in frame.columns)
    return Table(path, tuple(folded(name) for name in names), columns, first_line)


_NO_TIMESTAMP = "no column is a time %Y"  # a pattern that nothing matches: dates stay text


def _damaged(path: Path, failure: str) -> BadKnowledge:
    """The reader's complaint with the number of the line in the file."""
    row = re.search(r"Row #(\d+): (.*)", failure, flags=re.DOTALL)
    if row is None:
        return BadKnowledge(f"{path.name}: {failure.splitlines()[0]}.")
    return BadKnowledge(f"{path.name}, line {row[1]}: {row[2].splitlines()[0][:160]}.")


def read_parquet(path: Path, content: bytes) -> Table:
    """A parquet file as a table; an index that pandas stored is a column too. BadKnowledge where it is damaged."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        frame = parquet.read_table(io.BytesIO(content))
        kept = [name for name in frame.column_names if _is_usable(frame.schema.field(name).type)]
        columns = tuple(_as_array(frame.column(name)) for name in kept)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as failure:
        first = str(failure).splitlines()[0]
        raise BadKnowledge(f"{path.name} is a damaged parquet file: {first}.", "Copy or fetch it again.") from failure
    return Table(path, tuple(folded(name) for name in kept), columns)


def _is_usable(kind: Any) -> bool:
    """Whether a column can be text, numbers or lists of them; times and nested records are left out."""
    from pyarrow import types

    checks: Sequence[Callable[[Any], bool]] = (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_dictionary,
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_null,
        types.is_list,
        types.is_large_list,
        types.is_fixed_size_list,
    )
    return any(check(kind) for check in checks)


def _as_array(column: Any) -> np.ndarray:
    """An arrow column as float64, or as objects: str with "" for missing, or lists."""
    from pyarrow import types

    kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return np.asarray(column.cast("float64", safe=False).to_numpy(), dtype=np.float64)
    values = np.empty(len(column), dtype=object)
    if types.is_null(kind):
        values[:] = ""
        return values
    known = (str, list)
    for row, value in enumerate(column.to_pylist()):
        values[row] = value if isinstance(value, known) else "" if value is None else str(value)
    return values
