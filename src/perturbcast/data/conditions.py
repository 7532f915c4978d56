"""Conditions: the set of targets acted on in a cell, written `A+B`, sorted; `ctrl` where nothing was."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from perturbcast.errors import BadCondition

CONTROL = "ctrl"
JOINT = "+"
SEPARATORS = "+|;,&"  # each of them always separates; an underscore only where its parts are known


class Query(NamedTuple):
    """A condition in a context, to be predicted or observed. `context` is "" where a screen has only one unnamed."""

    condition: str
    context: str = ""

    def __str__(self) -> str:
        return f"{self.condition} in {self.context}" if self.context else self.condition


def targets_of(condition: str) -> tuple[str, ...]:
    """The targets of a canonical condition, sorted; empty for control."""
    return () if condition == CONTROL else tuple(condition.split(JOINT))


def condition_of(targets: tuple[str, ...] | list[str] | set[str]) -> str:
    """The canonical condition of some targets: sorted, unique, `ctrl` if there are none."""
    return JOINT.join(sorted({target for target in targets if target != CONTROL})) or CONTROL


def is_single(condition: str) -> bool:
    """Whether exactly one target is acted on."""
    return len(targets_of(condition)) == 1


def is_double(condition: str) -> bool:
    """Whether exactly two targets are acted on."""
    return len(targets_of(condition)) == 2


# ------------------------------------------------------------------------------------------------------------- guides
@dataclass(frozen=True)
class GuideStyle:
    """One way of writing a guide after (or before) its target. A weak style also fits names of genes."""

    name: str
    pattern: re.Pattern[str]
    weak: bool = False

    def strip(self, name: str) -> str:
        """The target, or the name unchanged where it is not written in this style."""
        return self.pattern.sub("", name, count=1) or name


GUIDE_STYLES = (
    GuideStyle("locus", re.compile(r"_[+-]_\d+(?:\.\d+)?(?:-[A-Za-z0-9]+)?$")),  # AAAS_+_53715438.23-P1P2
    GuideStyle("plasmid", re.compile(r"_p[A-Z]{2}\d{2,4}(?:-\d+)?$")),  # SPI1_pDS255
    GuideStyle("sequence", re.compile(r"[_\-.][ACGT]{17,25}$")),  # SPI1_ACGTACGTACGTACGTACGT
    GuideStyle("guide", re.compile(r"[_\-. ](?:sgRNA|gRNA|grna|guide|sg|g)[_\-]?\d+$")),  # STAT1_g2
    GuideStyle("prefix", re.compile(r"^sg(?:RNA)?[_\-]?(?=[A-Z])")),  # sgSTAT1
    GuideStyle("letter", re.compile(r"(?<=[A-Za-z0-9])g\d{1,2}$"), weak=True),  # IFNGR2g1
    GuideStyle("number", re.compile(r"[_\-.#]\d{1,2}$"), weak=True),  # STAT1-2
)
_LOCUS_ANYWHERE = re.compile(r"_[+-]_\d+(?:\.\d+)?(?:-[A-Za-z0-9]+)?(?=$|[|;,_&])")


def strip_guide(name: str, *, known: Collection[str] = (), styles: Collection[str] | None = None) -> str:
    """The target that a guide name stands for; the name itself if it is known or written in none of `styles` (all)."""
    for style in GUIDE_STYLES:
        if name in known:
            return name
        if styles is None or style.name in styles:
            stripped = style.strip(name)
            if stripped != name:
                # sgSTAT1_g2 has a prefix and a suffix: after a suffix, only the prefix may still go
                prefix = next(other for other in GUIDE_STYLES if other.name == "prefix")
                return prefix.strip(stripped) if styles is None or "prefix" in styles else stripped
    return name


# ------------------------------------------------------------------------------------------------------------ parsing
@dataclass(frozen=True)
class ConditionParser:
    """How the labels of one column are read. `control_labels` are case-folded."""

    control_labels: frozenset[str]
    separator: str | None = None
    known_targets: frozenset[str] = frozenset()
    guide_styles: tuple[str, ...] = ()

    def is_control(self, text: str) -> bool:
        """Whether a label, or a part of one, stands for control."""
        return text.casefold() in self.control_labels or text.casefold() == CONTROL

    def parse(self, label: str) -> str:
        """The canonical condition of a label; BadCondition if a part of it is empty."""
        text = single_copy(label.strip())
        if self.is_control(text):
            return CONTROL
        if "locus" in self.guide_styles:
            text = _LOCUS_ANYWHERE.sub("", text)
        targets: list[str] = []
        for part in split_label(text, separator=self.separator):
            if not part or (self.separator is not None and JOINT in part):
                raise BadCondition(f"The label {label[:60]!r} cannot be read as targets.")
            targets.extend(self._targets_of_part(part))
        return condition_of(targets)

    def _targets_of_part(self, part: str) -> list[str]:
        if self.is_control(part):
            return [CONTROL]
        if part in self.known_targets:
            return [part]
        stripped = strip_guide(part, known=self.known_targets, styles=self.guide_styles)
        if self.is_control(stripped):
            return [CONTROL]
        pieces = stripped.split("_")
        if self.separator is None and len(pieces) > 1 and all(map(self._is_known, pieces)):
            return [CONTROL if self.is_control(piece) else piece for piece in pieces]
        return [stripped]

    def _is_known(self, piece: str) -> bool:
        return piece in self.known_targets or (bool(piece) and self.is_control(piece))


def parse_condition(
    label: str,
    *,
    control_labels: Collection[str],
    separator: str | None = None,
    known_targets: Collection[str] | None = None,
    strip_guides: bool = False,
) -> str:
    """The canonical condition of a label: `B+A`, `A|B`, `A+B+ctrl` are all `A+B`; `NT` is `ctrl` if listed as control.

    Control labels are matched without regard to case. Without `separator`, any of ``+ | ; , &`` separates, and an
    underscore does where every part is among `known_targets` or control. `strip_guides` turns `SPI1_pDS255`,
    `IFNGR2g1`, `sgSTAT1` into their targets, unless the name as it stands is known.

    Raises BadCondition for an empty label or an empty part, as in `A+`.
    """
    if separator == "":
        raise BadCondition("The separator is empty.")
    parser = ConditionParser(
        control_labels=frozenset(control.strip().casefold() for control in control_labels),
        separator=separator,
        known_targets=frozenset(known_targets or ()),
        guide_styles=tuple(style.name for style in GUIDE_STYLES) if strip_guides else (),
    )
    return parser.parse(label)


def split_label(text: str, *, separator: str | None = None) -> list[str]:
    """The parts of a label between separators, without blanks around them; underscores are left alone."""
    parts = text.split(separator) if separator else re.split(f"[{re.escape(SEPARATORS)}]", text)
    return [part.strip() for part in parts]


def single_copy(text: str) -> str:
    """`A_B` of `A_B__A_B`: some protocols write the pair of guides once per barcode."""
    half, middle, rest = text.partition("__")
    return half if middle and half == rest else text


# ------------------------------------------------------------------------------------------------------ control names
_CONTROL_WORDS = re.compile(
    r"(?:no|non|sg|nt|g)?(?:ctrl|ctl|controls?|scrambled?(?:control)?|intergenic|notarget|nosite)"
    r"|non?target(?:t?ing)?(?:controls?|guides?|sgrnas?|grnas?)?"
    r"|(?:sg)?ntc?(?:ctrl|control|sgrna|grna|guide)?"
    r"|safe(?:target(?:ing)?|harbou?r)?"
    r"|neg(?:ative)?(?:ctrl|ctl|control)s?"
)
_WEAK_CONTROL_WORDS = re.compile(
    r"wt|wildtype|parental|un(?:perturbed|treated|edited)|none|mock|vehicle|dmso|empty(?:vector)?"
    r"|no(?:guide|perturbation)|aavs1|rosa26|lacz|luc(?:iferase)?|e?gfp|mcherry"
)
_COMMON_CONTROL_WORDS = ("control", "ctrl", "nontargeting", "nontargetingcontrol", "safetargeting", "negctrl", "ntc")
_UNASSIGNED = frozenset(
    ["", "nan", "na", "n/a", "<na>", "unassigned", "notassigned", "unknown", "multiplet", "doublet", "ambiguous", "*"]
)
_CONTROL_SHAPES = (
    re.compile(r"^(?:\d+|gal4-4)?\(mod\)_p[a-z]{2}\d+$"),  # 62(mod)_pBA581, Gal4-4(mod)_pBA582
    re.compile(  # 3x_neg_ctrl_pMJ144-1, but not neg_ctrl_STAT1
        r"^(?:\d+x[_\- ])?neg(?:ative)?[_\- ]?(?:ctrl|control)s?[_\- ]?\d*(?:_p[a-z]{2}\d+(?:-\d+)?)?$"
    ),
    re.compile(  # non-targeting_00023, Non-Targeting-Human-0001
        r"^(?:non|safe)[-_ ]?target(?:t?ing)?(?:[-_ #:.]?(?:human|mouse|control|ctrl|guide|s?grna|[acgt]{17,}|g?\d+))*$"
    ),
)


def looks_like_control(label: str, *, weak: bool = False) -> bool:
    """Whether a label is a usual name of control cells; with `weak`, of cells that often serve as such (WT, AAVS1)."""
    folded = label.strip().casefold()
    bare = re.sub(r"[\s_\-.]", "", folded)
    words = _WEAK_CONTROL_WORDS if weak else _CONTROL_WORDS
    if words.fullmatch(bare) or (not weak and any(shape.search(folded) for shape in _CONTROL_SHAPES)):
        return True
    return not weak and words.fullmatch(re.sub(r"g?\d+$", "", bare)) is not None


def is_unassigned(label: str) -> bool:
    """Whether a label says that the perturbation of the cell is not known."""
    return re.sub(r"[\s_\-]", "", label.casefold()) in _UNASSIGNED


def control_words() -> list[str]:
    """The commonest names of control cells without punctuation, to find a misspelt one."""
    return list(_COMMON_CONTROL_WORDS)
