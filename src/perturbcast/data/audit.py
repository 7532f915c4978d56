"""The audit of a split: what the training side knows of the test side, found before anything is fitted.

What counts as a leak follows from what the rule promises to be new (`Promise`): a target seen in another condition is a
leak for unseen singles, and the very point of unseen doubles.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from perturbcast.data.audit_names import Keys, Names
from perturbcast.data.conditions import Query
from perturbcast.data.likeness import Evidence, copied_cells, gather_evidence, near_duplicates
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.split import Promise, Split
from perturbcast.errors import LeakError

TRAINING_ONLY = {"train", "training", "control", "train+control", "train+valid", "train cells", "training cells"}
PAIRS = (("train", "test"), ("valid", "test"), ("train", "valid"))  # what may know, what should be unknown
OUTSIDE = {"none", "external", "prior", "literature", "evaluation"}  # not from these data, or used for scoring only


class LeakKind(StrEnum):
    """What was found."""

    SAME_CELL = "same-cell"
    SAME_CONDITION = "same-condition"
    TWIN = "twin"  # one condition spelt in two orders, or with and without ctrl
    ALIAS = "alias"  # one gene under two names
    GUIDES = "guides"  # guides of one target as conditions of their own, or one guide under two conditions
    SINGLE_IN_DOUBLE = "single-in-double"  # a held-out single inside a training combination
    SEEN_TARGET = "seen-target"  # a test group says unseen, and the target was seen
    SEEN_CONTEXT = "seen-context"
    NEAR_DUPLICATE = "near-duplicate-profile"
    DUPLICATED_CELLS = "duplicated-cells"  # equal rows under other barcodes
    STATISTICS = "statistics"  # computed with test cells


@dataclass(frozen=True)
class Leak:
    """One kind of finding between two sides: how many, and up to five examples as (training side, test side)."""

    kind: LeakKind
    sides: tuple[str, str]
    n: int
    examples: tuple[tuple[str, str], ...]
    severity: str = "leak"  # "note" between training and validation, where the test side stays honest

    def __str__(self) -> str:
        shown = ", ".join(left if left == right else f"{left} / {right}" for left, right in self.examples)
        more = ", ..." if self.n > len(self.examples) else ""
        return f"{self.kind} between {self.sides[0]} and {self.sides[1]} ({self.n}): {shown}{more}"


@dataclass(frozen=True)
class AuditReport:
    """What was found, and which checks could be made with the data given."""

    split: str
    fingerprint: str
    findings: tuple[Leak, ...]
    checked: tuple[str, ...]

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """The findings that make a score on the test side dishonest."""
        return tuple(finding for finding in self.findings if finding.severity == "leak")

    @property
    def clean(self) -> bool:
        """Whether no leak was found."""
        return not self.leaks

    @property
    def kinds(self) -> frozenset[LeakKind]:
        """The kinds of leak found."""
        return frozenset(leak.kind for leak in self.leaks)

    def to_text(self) -> str:
        """One line per finding, or that there is none."""
        if not self.findings:
            return f"{self.split}: no leak found (checked {', '.join(self.checked)})."
        return "\n".join(f"{self.split}: {finding.severity}: {finding}" for finding in self.findings)

    def raise_if_leaking(self) -> None:
        """Raise LeakError that lists the leaks; notes do not raise."""
        if self.leaks:
            raise LeakError(f"The split {self.split} leaks. " + "; ".join(str(leak) for leak in self.leaks) + ".")


def audit(
    split: Split,
    data: Screen | ResponseTable | Evidence | None = None,
    *,
    aliases: Mapping[str, str] | None = None,
    profiles: bool = True,
) -> AuditReport:
    """Every way found in which training and validation know of the test side.

    Names are checked always: the same condition, twins, aliases (`aliases` maps any name of a gene to its symbol; a
    screen's own symbols and Ensembl ids are known by themselves), guide names, held-out singles in training
    combinations, groups and contexts that claim to be unseen, and `split.provenance` (statistic -> side it was computed
    on). Given a screen also cells: on two sides, or copied under another barcode. Given a screen or responses also
    `profiles`: test responses nearer to a training one than noise allows. Pass `gather_evidence(data)` as `data` to
    audit many splits of the same data fast.
    """
    evidence = data if isinstance(data, Evidence) else gather_evidence(data, profiles=profiles)
    queries = (*split.train, *split.valid, *split.test)
    keys = Names.of(aliases, screen=evidence.screen).keys(query.condition for query in queries)
    named = list(_name_findings(split, keys))
    flagged = {pair for leak in named for pair in leak.examples}
    found = [*named, *_statistics(split), *_cell_findings(split, evidence)]
    checked = ["names", "statistics"] + ["cells"] * (evidence.screen is not None)
    if profiles and evidence.table is not None and split.promise is not Promise.CELLS:
        found += _profile_findings(split, evidence.table, flagged)
        checked.append("profiles")
    return AuditReport(split.name, split.fingerprint, tuple(found), tuple(checked))


def _leak(kind: LeakKind, sides: tuple[str, str], pairs: Iterable[tuple[object, object]]) -> Iterator[Leak]:
    examples = sorted({(str(left), str(right)) for left, right in pairs})
    if examples:
        severity = "note" if sides == ("train", "valid") else "leak"
        yield Leak(kind, sides, len(examples), tuple(examples[:5]), severity)


# --------------------------------------------------------------------------------------------------------------- names
def _name_findings(split: Split, keys: Mapping[str, Keys]) -> Iterator[Leak]:
    if split.promise is Promise.CELLS:
        return
    for sides in PAIRS:
        if sides == ("train", "valid") and split.cells_train is not None:
            continue  # such rules divide the cells of one condition into training and validation
        known, hidden = (getattr(split, side) for side in sides)
        yield from _same_conditions(split, keys, known, hidden, sides)
        if split.promise in (Promise.TARGETS, Promise.CONDITIONS):
            yield from _leak(LeakKind.SINGLE_IN_DOUBLE, sides, _inside(split, keys, known, hidden))
        if split.promise is Promise.CONTEXTS:
            contexts = {query.context for query in known}
            seen = [query for query in hidden if query.context in contexts]
            yield from _leak(LeakKind.SEEN_CONTEXT, sides, ((query.context, query.context) for query in seen))
    yield from _leak(LeakKind.SEEN_TARGET, ("train", "test"), _seen_more_than_said(split, keys))


def _place(split: Split) -> Callable[[Query], str]:
    """Our rules over conditions hold out in every context at once; contexts and split files query by query."""
    everywhere = split.promise is Promise.TARGETS or split.rule in ("doubles", "pair-cells")
    return (lambda query: "") if everywhere else (lambda query: query.context)


def _same_conditions(
    split: Split, keys: Mapping[str, Keys], known: tuple[Query, ...], hidden: tuple[Query, ...], sides: tuple[str, str]
) -> Iterator[Leak]:
    """Hidden queries with a known one of the same key; each is reported at the first level that finds it."""
    place = _place(split)
    left = list(hidden)
    for level, kind in enumerate((LeakKind.SAME_CONDITION, LeakKind.TWIN, LeakKind.ALIAS, LeakKind.GUIDES)):
        by_key = {(keys[query.condition][level], place(query)): query for query in known}
        found = {query: by_key.get((keys[query.condition][level], place(query))) for query in left}
        yield from _leak(kind, sides, ((match, query) for query, match in found.items() if match is not None))
        left = [query for query, match in found.items() if match is None]


def _inside(
    split: Split, keys: Mapping[str, Keys], known: tuple[Query, ...], hidden: tuple[Query, ...]
) -> Iterator[tuple[Query, Query]]:
    """Held-out singles with a training combination that contains their target."""
    place = _place(split)
    holder: dict[tuple[str, str], Query] = {}
    for query in known:
        targets = keys[query.condition].targets
        if len(targets) > 1:
            holder |= {(target, place(query)): query for target in targets}
    for query in hidden:
        targets = keys[query.condition].targets
        match = holder.get((targets[0], place(query))) if len(targets) == 1 else None
        if match is not None:
            yield match, query


def _seen_more_than_said(split: Split, keys: Mapping[str, Keys]) -> Iterator[tuple[str, Query]]:
    """Test doubles more of whose targets were seen than their group says (`seen0`, `combo_seen1`, ...)."""
    seen = {target for query in (*split.train, *split.valid) for target in keys[query.condition].targets}
    for query in split.test:
        said = re.search(r"seen(\d)$", split.groups.get(query, ""))
        targets = keys[query.condition].targets
        n_seen = sum(target in seen for target in targets)
        if said and len(targets) > 1 and n_seen > int(said.group(1)):
            yield f"{n_seen} targets seen", query


# ---------------------------------------------------------------------------------------------------------- statistics
def _statistics(split: Split) -> Iterator[Leak]:
    """Statistics (HVG, DE, graphs, scaling, ...) whose provenance is not the training side."""
    allowed = TRAINING_ONLY | OUTSIDE
    wrong = [(what, side) for what, side in split.provenance.items() if side.strip().lower() not in allowed]
    yield from _leak(LeakKind.STATISTICS, ("train", "test"), wrong)


# --------------------------------------------------------------------------------------------------------------- cells
def _cell_findings(split: Split, evidence: Evidence) -> Iterator[Leak]:
    for sides in PAIRS:
        if split.cells_train is not None:
            yield from _leak(LeakKind.SAME_CELL, sides, _shared_cells(split, evidence.screen, sides))
        if evidence.screen is not None and evidence.copies is not None and (evidence.copies >= 0).any():
            known, hidden = (cells_of_side(split, evidence.screen, side) for side in sides)
            pairs = copied_cells(evidence.copies, evidence.screen, known, hidden)
            yield from _leak(LeakKind.DUPLICATED_CELLS, sides, pairs)
    if evidence.screen is not None and split.promise is Promise.TARGETS:
        yield from _leak(LeakKind.GUIDES, ("train", "test"), _shared_guides(split, evidence.screen))


def _shared_cells(split: Split, screen: Screen | None, sides: tuple[str, str]) -> list[tuple[object, object]]:
    """Cells on both sides: by position, by row of the matrix, by barcode."""
    known, hidden = (np.asarray(getattr(split, f"cells_{side}"), dtype=np.int64) for side in sides)
    if screen is None:
        return [(cell, cell) for cell in np.intersect1d(known, hidden)]
    shared = np.isin(screen.row[hidden], screen.row[known])
    if screen.cells is not None:
        shared |= np.isin(screen.cells[hidden].astype(str), screen.cells[known].astype(str))
    names = np.arange(screen.n_cells) if screen.cells is None else screen.cells
    return [(names[cell], names[cell]) for cell in hidden[shared]]


def cells_of_side(split: Split, screen: Screen, side: str) -> np.ndarray:
    """Positions of the cells of a side; control cells train where the rule divides whole queries."""
    chosen = getattr(split, f"cells_{side}")
    if chosen is not None:
        return np.asarray(chosen, dtype=np.int64)
    used = np.zeros((len(screen.contexts), len(screen.conditions)), dtype=bool)
    for query in getattr(split, side):
        if query.condition in screen.conditions and query.context in screen.contexts:
            used[screen.contexts.index(query.context), screen.conditions.index(query.condition)] = True
    member = used[screen.context_code, screen.condition_code]
    return np.flatnonzero(member | screen.is_control if side == "train" else member)


def _shared_guides(split: Split, screen: Screen) -> list[tuple[object, object]]:
    """Guides that stand under a training condition and under a held-out target, control guides apart."""
    train, test = (cells_of_side(split, screen, side) for side in ("train", "test"))
    perturbed, control = train[~screen.is_control[train]], np.flatnonzero(screen.is_control)
    found: list[tuple[object, object]] = []
    for column in screen.covariates.columns:
        if re.fullmatch(r"(guide|grna|sgrna)(_?(id|identity|name))?s?", str(column).lower()):
            label = screen.covariates[column].astype(str).to_numpy()
            shared = np.setdiff1d(np.intersect1d(label[perturbed], label[test]), label[control])
            found += [(guide, guide) for guide in shared if guide not in ("", "nan", "None", "<NA>")]
    return found


# ------------------------------------------------------------------------------------------------------------ profiles
def _profile_findings(split: Split, table: ResponseTable, flagged: set[tuple[str, str]]) -> Iterator[Leak]:
    row = {query: position for position, query in enumerate(table.queries)}
    for sides in PAIRS:
        known, hidden = ([row[query] for query in getattr(split, side) if query in row] for side in sides)
        pairs = near_duplicates(table, np.array(known, dtype=np.int64), np.array(hidden, dtype=np.int64))
        named = [(table.queries[left], table.queries[right]) for left, right in pairs]
        new = [(left, right) for left, right in named if (str(left), str(right)) not in flagged and left != right]
        yield from _leak(LeakKind.NEAR_DUPLICATE, sides, new)


__all__ = ["AuditReport", "Evidence", "Leak", "LeakKind", "audit", "gather_evidence"]
