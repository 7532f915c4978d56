"""Split files: CSV, TSV or TOML, written and read; conditions or cells by name.

Table: columns `condition` (or `cell`) and `side`; optional `context`, `group`, `fold`, `rule`, `seed`. TOML: lists
`train`, `valid`, `test` of conditions, each "A+B" or {condition = "A+B", context = "K562"}, a table `groups`, and
`rule`, `seed`, `fold`; several folds as [[split]] tables. Without a context a condition means all contexts. If no
row or list is for training, everything not named trains. Control always trains and need not be named.
"""

import csv
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from perturbcast.data.conditions import CONTROL, JOINT, Query, condition_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.split import SIDES, Split
from perturbcast.errors import (
    BadSplitFile,
    MissingFile,
    NotAFile,
    UnknownFormat,
    UnreadableFile,
    WrongKind,
    did_you_mean,
)

SUFFIXES = (".csv", ".tsv", ".toml")
SPELLINGS = {"training": "train", "val": "valid", "validation": "valid", "testing": "test"}


@dataclass(frozen=True)
class _Entry:
    """One line of a split file: a name, its side and what goes with it."""

    name: str
    side: str
    context: str | None = None
    group: str = ""


@dataclass
class _Draft:
    """One fold of a split file before it meets the data."""

    rule: str
    seed: int = 0
    fold: int | None = None
    cells: bool = False
    entries: list[_Entry] = field(default_factory=list)


# --------------------------------------------------------------------------------------------------------------- write
def write_split(split: Split | Sequence[Split], path: str | Path, *, data: Screen | None = None) -> None:
    """Write one split, or the folds of one, to .csv, .tsv or .toml by the ending of `path`.

    Splits over cells are written by barcode and need `data` with barcodes, in a table. Reading the file back gives
    equal fingerprints. Raises UnknownFormat, WrongKind.
    """
    path = Path(path)
    splits = [split] if isinstance(split, Split) else list(split)
    if path.suffix.lower() not in SUFFIXES:
        raise UnknownFormat(f"{path.name} ends in {path.suffix!r}.", "Use .csv, .tsv or .toml.")
    if path.suffix.lower() == ".toml":
        path.write_text("\n".join(_toml(one) for one in splits), encoding="utf-8")
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        by_cell = splits[0].cells_train is not None
        writer.writerow(["cell" if by_cell else "condition", "context", "side", "group", "fold", "rule", "seed"])
        for one in splits:
            writer.writerows(_cell_rows(one, data) if by_cell else _condition_rows(one))


def _condition_rows(split: Split) -> Iterable[list[object]]:
    last = ["" if split.fold is None else split.fold, split.rule, split.seed]
    for side in SIDES:
        for query in getattr(split, side):
            yield [query.condition, query.context, side, split.groups.get(query, ""), *last]


def _cell_rows(split: Split, data: Screen | None) -> Iterable[list[object]]:
    if data is None or data.cells is None:
        raise WrongKind("A split over cells is written by barcode.", "Pass the screen, with barcodes, as data.")
    for side in SIDES:
        for cell in getattr(split, f"cells_{side}"):
            yield [data.cells[cell], "", side, "", "" if split.fold is None else split.fold, split.rule, split.seed]


def _toml(split: Split) -> str:
    if split.cells_train is not None:
        raise WrongKind("A split over cells is written as a table.", "Use .csv or .tsv.")
    lines = ["[[split]]", f"rule = {_quoted(split.rule)}", f"seed = {split.seed}"]
    lines += [] if split.fold is None else [f"fold = {split.fold}"]
    for side in SIDES:
        members = [
            f"  {{condition = {_quoted(query.condition)}, context = {_quoted(query.context)}"
            + (f", group = {_quoted(split.groups[query])}}}," if query in split.groups else "},")
            for query in getattr(split, side)
        ]
        lines += [f"{side} = [", *members, "]"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# ---------------------------------------------------------------------------------------------------------------- read
def read_split(path: str | Path, data: Screen | ResponseTable | None = None) -> Split:
    """The one split of a file; as `read_splits`, and BadSplitFile if it holds several folds."""
    splits = read_splits(path, data)
    if len(splits) != 1:
        raise BadSplitFile(f"{Path(path).name} holds {len(splits)} folds.", "Read it with read_splits.")
    return splits[0]


def read_splits(path: str | Path, data: Screen | ResponseTable | None = None) -> list[Split]:
    """The splits of a file, one per fold; conditions are put in canonical order and matched with `data`.

    Without `data` names are taken as they are. Raises MissingFile, NotAFile, UnreadableFile, and BadSplitFile for a
    file that is no split, a side of another name, a condition or cell that the data lack (with the nearest), control
    in test, or an empty test side. A name may stand on two sides: that is for the audit to report.
    """
    path = Path(path)
    drafts = _toml_drafts(path) if path.suffix.lower() == ".toml" else _table_drafts(path)
    return [_meet(draft, data, path=path) for draft in drafts]


def _text(path: Path) -> str:
    if path.is_dir():
        raise NotAFile(f"{path} is a folder.")
    if not path.exists():
        raise MissingFile(f"There is no split file {path}.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSplitFile(f"{path.name} is not UTF-8 text.") from error
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error


def _table_drafts(path: Path) -> list[_Draft]:
    text = _text(path)
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise BadSplitFile(f"{path.name} is not a table: {error}.") from error
    columns = reader.fieldnames or []
    named = "cell" if "cell" in columns else "condition"
    for column in (named, "side"):
        if column not in columns:
            raise BadSplitFile(f"{path.name} has no column {column!r}, only {list(columns)[:8]}.")
    drafts: dict[str, _Draft] = {}
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise BadSplitFile(f"Line {line} of {path.name} has not as many fields as the header.")
        fold = row.get("fold", "")
        if fold not in drafts:
            drafts[fold] = _Draft(
                rule=row.get("rule") or _rule_of(path),
                seed=_integer(row.get("seed") or "0", "seed", path),
                fold=_integer(fold, "fold", path) if fold else None,
                cells=named == "cell",
            )
        context = row.get("context") or None
        side = _side(row["side"], where=f"line {line} of {path.name}")
        drafts[fold].entries.append(_Entry(row[named].strip(), side, context, row.get("group", "")))
    if not drafts:
        raise BadSplitFile(f"{path.name} has no rows.")
    return list(drafts.values())


def _toml_drafts(path: Path) -> list[_Draft]:
    try:
        document = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise BadSplitFile(f"{path.name} is not TOML: {error}.") from error
    tables = document.get("split", [document])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BadSplitFile(f"`split` of {path.name} is no array of tables.", "Write [[split]] above each fold.")
    return [_toml_draft(table, path=path) for table in tables]


def _toml_draft(table: Mapping[str, Any], *, path: Path) -> _Draft:
    known = {*SIDES, "groups", "rule", "seed", "fold"}
    unknown = [key for key in table if key not in known]
    if unknown:
        raise BadSplitFile(f"{path.name} has the key {unknown[0]!r}. {did_you_mean(unknown[0], known)}")
    fold = table.get("fold")
    draft = _Draft(
        rule=str(table.get("rule", _rule_of(path))),
        seed=_integer(table.get("seed", 0), "seed", path),
        fold=None if fold is None else _integer(fold, "fold", path),
    )
    groups = table.get("groups", {})
    for side in SIDES:
        for member in table.get(side, []):
            entry = {"condition": member} if isinstance(member, str) else member
            if not isinstance(entry, dict) or not isinstance(entry.get("condition"), str):
                raise BadSplitFile(f"{member!r} in {side} of {path.name} is no condition.")
            name = entry["condition"]
            group = str(entry.get("group", groups.get(name, "")))
            draft.entries.append(_Entry(name, side, entry.get("context") or None, group))
    return draft


def _rule_of(path: Path) -> str:
    return f"file:{path.stem}"


def _integer(value: object, key: str, path: Path) -> int:
    try:
        return int(str(value))
    except ValueError as error:
        raise BadSplitFile(f"{key} of {path.name} is {value!r}, no whole number.") from error


def _side(text: str, *, where: str) -> str:
    side = text.strip().lower()
    side = SPELLINGS.get(side, side)
    if side not in SIDES:
        raise BadSplitFile(f"The side {text!r} in {where} is none of train, valid and test.")
    return side


# ----------------------------------------------------------------------------------------------------- meeting the data
def _meet(draft: _Draft, data: Screen | ResponseTable | None, *, path: Path) -> Split:
    split = _cells_meet(draft, data, path=path) if draft.cells else _conditions_meet(draft, data, path=path)
    if not split.test:
        raise BadSplitFile(f"{path.name} leaves nothing to test.")
    return split


def _conditions_meet(draft: _Draft, data: Screen | ResponseTable | None, *, path: Path) -> Split:
    present = None if data is None else list(data.queries() if isinstance(data, Screen) else data.queries)
    by_condition: dict[str, list[Query]] = {}
    for query in present or []:
        by_condition.setdefault(query.condition, []).append(query)
    sides: dict[str, dict[Query, None]] = {side: {} for side in SIDES}
    groups: dict[Query, str] = {}
    for entry in draft.entries:
        condition = entry.name if entry.name in by_condition else condition_of(entry.name.split(JOINT))
        if condition == CONTROL:
            if entry.side != "train":
                raise BadSplitFile(f"{path.name} puts control into {entry.side}, and control always trains.")
            continue
        found = _queries(condition, entry.context, None if present is None else by_condition, path=path)
        sides[entry.side] |= dict.fromkeys(found)
        groups |= dict.fromkeys(found, entry.group) if entry.group else {}
    if present is not None and not any(entry.side == "train" for entry in draft.entries):
        named = {*sides["valid"], *sides["test"]}
        sides["train"] = dict.fromkeys(query for query in present if query not in named)
    train, valid, test = (tuple(sides[side]) for side in SIDES)
    return Split(draft.rule, draft.seed, draft.fold, train, valid, test, groups)


def _queries(
    condition: str, context: str | None, by_condition: Mapping[str, list[Query]] | None, *, path: Path
) -> list[Query]:
    if by_condition is None:
        return [Query(condition, context or "")]
    if condition not in by_condition:
        near = did_you_mean(condition, by_condition)
        raise BadSplitFile(f"{path.name} names {condition!r}, which the data lack. {near}")
    found = [query for query in by_condition[condition] if context is None or query.context == context]
    if not found:
        contexts = [query.context for query in by_condition[condition]]
        raise BadSplitFile(f"{path.name} names {condition!r} in context {context!r}; it was measured in {contexts}.")
    return found


def _cells_meet(draft: _Draft, data: Screen | ResponseTable | None, *, path: Path) -> Split:
    if not isinstance(data, Screen) or data.cells is None:
        raise WrongKind(f"{path.name} divides cells by barcode.", "Give it a screen of cells with barcodes.")
    position = {str(cell): row for row, cell in enumerate(data.cells)}
    members: dict[str, list[int]] = {side: [] for side in SIDES}
    for entry in draft.entries:
        if entry.name not in position:
            near = did_you_mean(entry.name, position)
            raise BadSplitFile(f"{path.name} names the cell {entry.name!r}, which the data lack. {near}")
        members[entry.side].append(position[entry.name])
    if not members["train"]:
        named = np.array(members["valid"] + members["test"], dtype=np.int64)
        members["train"] = np.setdiff1d(np.arange(data.n_cells), named).tolist()
    cells = [np.unique(np.array(members[side], dtype=np.int64)) for side in SIDES]
    train, valid, test = (tuple(data.take(side).queries()) for side in cells)
    split = Split(draft.rule, draft.seed, draft.fold, train, valid, test)
    return replace(split, cells_train=cells[0], cells_valid=cells[1], cells_test=cells[2])
