"""How the labels of one column are read: which are control, what separates targets, which guide suffixes go."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from perturbcast.data.conditions import (
    CONTROL,
    GUIDE_STYLES,
    SEPARATORS,
    ConditionParser,
    GuideStyle,
    control_words,
    is_unassigned,
    looks_like_control,
    single_copy,
    split_label,
    strip_guide,
    targets_of,
)
from perturbcast.data.screen import Decision
from perturbcast.errors import BadOption, NoControl, UnknownControl, did_you_mean, nearest

_GENE_LIKE = re.compile(r"^(?:[A-Z][A-Z0-9]+(?:orf\d+)?(?:[.\-][A-Za-z0-9]+)*|ENS[A-Z]*G\d{11})$")


@dataclass(frozen=True)
class LabelReading:
    """What the labels of a column mean. Unassigned labels are absent from `condition`."""

    condition: Mapping[str, str]  # label -> canonical condition
    control_labels: tuple[str, ...]  # whole labels read as control, as written
    kept_whole: tuple[str, ...] = ()  # labels whose underscore did not separate known targets
    guide_styles: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = field(default=())

    @property
    def targets(self) -> tuple[str, ...]:
        """Every target named, sorted."""
        return tuple(sorted({target for condition in self.condition.values() for target in targets_of(condition)}))

    def gene_like(self, genes: Collection[str]) -> bool:
        """Whether most targets look like genes and they are not just one word such as STIM."""
        targets = self.targets
        known = sum(target in genes for target in targets)
        alike = sum(target in genes or bool(_GENE_LIKE.match(target)) for target in targets)
        return bool(targets) and alike >= 0.5 * len(targets) and (known > 0 or len(targets) >= 3)


def labels_of(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """(row,) int64 code and the labels in use; -1 where there is none. Any dtype; unused categories are left out."""
    codes, values = pd.factorize(column, sort=False, use_na_sentinel=True)
    labels = [str(value).strip() for value in values]
    order = sorted(set(labels))
    place = {label: position for position, label in enumerate(order)}
    by_code = np.array([*(place[label] for label in labels), -1], dtype=np.int64)
    return by_code[codes], order


def read_labels(
    labels: Sequence[str],
    *,
    genes: Collection[str],
    control: str | Sequence[str] | None = None,
    separator: str | None = None,
    needs_control: bool = True,
) -> LabelReading:
    """The condition of every label. Raises NoControl, UnknownControl or BadCondition."""
    if separator is not None and not separator.strip():
        raise BadOption("The separator is blank.", "Pass the character that stands between targets to --separator.")
    assigned = [label for label in labels if not is_unassigned(label) or _is_named(label, control)]
    pieces = _pieces(assigned, separator)
    controls = _control_pieces(assigned, pieces, genes=genes, control=control)
    folded = frozenset(piece.casefold() for piece in controls)
    known = frozenset(genes) | _single_targets(assigned, folded)
    names = sorted({part for label in assigned for part in split_label(single_copy(label), separator=separator)})
    styles = _supported_styles([name for name in names if name.casefold() not in folded], genes)
    # A style is carried by the whole column, so its names are no targets of their own, unless they are measured.
    known = frozenset(genes) | {name for name in known if strip_guide(name, styles=[s.name for s in styles]) == name}
    parser = ConditionParser(folded, separator, known, tuple(style.name for style in styles))
    condition = {label: parser.parse(label) for label in assigned}
    found = tuple(label for label in assigned if condition[label] == CONTROL)
    if needs_control and not found:
        raise no_control(assigned)
    kept = tuple(sorted({t for c in condition.values() for t in targets_of(c) if "_" in t and t not in genes}))
    reading = LabelReading(condition, found, kept, parser.guide_styles)
    decisions = _decisions(reading, styles, weak=_is_weak(found, control), separator=separator, control=control)
    return LabelReading(condition, found, kept, parser.guide_styles, decisions)


def no_control(labels: Sequence[str]) -> NoControl:
    """The error that offers the label most like a usual control name, or lists what there is."""
    close = [(label, match) for label in labels for match in nearest(label, control_words(), most=1)]
    alike = [label for label, match in close if len(label) > 2 and _similar(label, match) >= 0.75]
    listed = ", ".join(repr(label[:40]) for label in list(labels)[:6]) + (", ..." if len(labels) > 6 else "")
    fact = f"None of {len(labels)} labels is a usual name of control cells: {listed}."
    if not alike:
        return NoControl(fact)
    return NoControl(fact, f"If {alike[0]!r} is the control, pass --control {alike[0]!r}.")


def _similar(label: str, word: str) -> float:
    from difflib import SequenceMatcher

    return SequenceMatcher(None, re.sub(r"[\s_\-.]", "", label.casefold()), word).ratio()


def _is_named(label: str, control: str | Sequence[str] | None) -> bool:
    return control is not None and label.casefold() in {name.casefold() for name in _names(control)}


def _names(control: str | Sequence[str]) -> list[str]:
    return [control.strip()] if isinstance(control, str) else [name.strip() for name in control]


def _pieces(labels: Sequence[str], separator: str | None) -> list[str]:
    """Whole labels, their parts, and the parts at underscores: everything that may name a control."""
    found = dict.fromkeys(labels)
    for label in labels:
        for part in split_label(single_copy(label), separator=separator):
            found.update(dict.fromkeys([part, *part.split("_")]))
    return [piece for piece in found if piece]


def _control_pieces(
    labels: Sequence[str], pieces: list[str], *, genes: Collection[str], control: str | Sequence[str] | None
) -> list[str]:
    if control is None:
        strong = [piece for piece in pieces if looks_like_control(piece) and piece not in genes]
        weak = [label for label in labels if looks_like_control(label, weak=True) and label not in genes]
        return strong or weak
    wanted = _names(control)
    if len(wanted) == 1 and wanted[0] not in pieces and "," in wanted[0]:
        wanted = [name.strip() for name in wanted[0].split(",")]
    have = {piece.casefold() for piece in pieces}
    missing = [name for name in wanted if name.casefold() not in have]
    if missing:
        raise UnknownControl(f"The control label {missing[0][:60]!r} is not there. {did_you_mean(missing[0], labels)}")
    return wanted


def _single_targets(labels: Sequence[str], controls: frozenset[str]) -> frozenset[str]:
    """Targets that stand alone in a label, or beside a control, so that an underscore between them separates."""
    found: set[str] = set()
    for label in labels:
        for part in split_label(single_copy(label)):
            pieces = [piece for piece in part.split("_") if piece.casefold() not in controls]
            if len(pieces) == 1 and pieces[0]:
                found.add(pieces[0])
    return frozenset(found - set(SEPARATORS))


def _supported_styles(names: list[str], genes: Collection[str]) -> list[GuideStyle]:
    """The guide styles that the content of the column supports."""
    genes = set(genes)
    return [style for style in GUIDE_STYLES if _is_supported(style, names, genes)]


def _is_supported(style: GuideStyle, names: list[str], genes: set[str]) -> bool:
    """Most names are written so, and stripping leads to measured genes or unites several guides of a target."""
    targets = [style.strip(name) for name in names if name not in genes and style.strip(name) != name]
    share = len(targets) / len(names) if names else 0.0
    if share < (0.8 if style.weak else 0.5):
        return False
    measured = sum(target in genes for target in targets) / len(targets)
    united = len(set(targets)) >= 2 and len(targets) >= 1.5 * len(set(targets))
    plain = style.name in ("locus", "plasmid", "sequence") or (not style.weak and share >= 0.8)
    return plain or measured >= 0.5 or united


def _is_weak(found: Sequence[str], control: str | Sequence[str] | None) -> bool:
    return control is None and bool(found) and not any(looks_like_control(label) for label in found)


def _decisions(
    reading: LabelReading,
    styles: Sequence[GuideStyle],
    *,
    weak: bool,
    separator: str | None,
    control: str | Sequence[str] | None,
) -> tuple[Decision, ...]:
    decisions = []
    if reading.control_labels:
        shown = ", ".join(reading.control_labels[:4]) + (", ..." if len(reading.control_labels) > 4 else "")
        why = (
            "given" if control is not None else "the only label that often serves as control" if weak else "usual name"
        )
        decisions.append(Decision("control", shown, f"{why}; {len(reading.control_labels)} label(s)", "--control"))
    joint = [label for label, condition in reading.condition.items() if len(targets_of(condition)) > 1]
    if joint or separator:
        evidence = f"{len(joint)} labels name several targets, such as {joint[0]!r}" if joint else "given"
        decisions.append(Decision("separator", separator or _separators_in(joint), evidence, "--separator"))
    twins = _n_twins(reading)
    if twins:
        decisions.append(Decision("twins", f"{twins} united", "labels that name the same targets otherwise", ""))
    if styles:
        example = next((label for label, c in reading.condition.items() if c not in (label, CONTROL)), "")
        evidence = f"{example} -> {reading.condition.get(example, '')}; most labels are written so"
        decisions.append(Decision("guide names", ", ".join(style.name for style in styles), evidence, "--perturbation"))
    if reading.kept_whole:
        evidence = f"{len(reading.kept_whole)} names with an underscore whose parts are no known targets: kept whole"
        decisions.append(Decision("underscore", f"{reading.kept_whole[0]}", evidence, "--separator"))
    return tuple(decisions)


def _separators_in(labels: Sequence[str]) -> str:
    found = [mark for mark in SEPARATORS if any(mark in label for label in labels)]
    return " ".join(found) if found else "_"


def _n_twins(reading: LabelReading) -> int:
    """How many conditions are named by several labels of which one has a separator, such as `A+ctrl` and `ctrl+A`."""
    labels: dict[str, list[str]] = {}
    for label, condition in reading.condition.items():
        labels.setdefault(condition, []).append(label)
    marked = re.compile(f"[{re.escape(SEPARATORS)}]")
    return sum(
        condition != CONTROL and len(named) > 1 and any(marked.search(label) for label in named)
        for condition, named in labels.items()
    )
