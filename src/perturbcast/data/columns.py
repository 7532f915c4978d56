"""The column of obs that says what was done to each cell, found by name and by content, with the evidence."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from perturbcast.data.conditions import CONTROL
from perturbcast.data.labels import LabelReading, labels_of, no_control, read_labels
from perturbcast.data.screen import Decision
from perturbcast.errors import (
    BadCondition,
    DuplicatedColumns,
    NamingError,
    NoControl,
    NoPerturbationColumn,
    UnknownColumn,
    UnknownControl,
    did_you_mean,
)

# fmt: off
_GENE_NAMES = (
    "perturbation", "perturbations", "condition", "conditions", "perturbationname", "conditionname", "target",
    "targets", "targetgene", "targetgenes", "targetgenename", "genetarget", "perturbedgene", "perturbedgenes", "gene",
    "genes", "genename", "genesymbol", "genotype", "knockout", "pert", "pertgene",
)
# fmt: on
# fmt: off
GUIDE_NAMES = (
    "guideidentity", "guideid", "guideids", "guide", "guides", "guidename", "grna", "grnaid", "grnaname", "sgrna",
    "sgrnaid", "sgrnaname", "guidetarget", "guidegene", "guideassignment", "grnatarget", "sgrnatarget", "featurecall",
    "sgid", "sgidab",
)
# fmt: on
_LIKE = re.compile(r"perturb|condition|target|guide|grna|crispr|knock|genotype")


def bare(name: object) -> str:
    """A column name without case, blanks and punctuation."""
    return re.sub(r"[\s_\-.]", "", str(name)).casefold()


def column(obs: pd.DataFrame, name: str, *, flag: str) -> pd.Series:
    """A column that the user named, or the index as `index`; UnknownColumn with the nearest names otherwise."""
    if name in obs.columns:
        return obs[name]
    if name == "index":
        return pd.Series(np.asarray(obs.index), index=obs.index)
    known = [str(column) for column in obs.columns]
    where = did_you_mean(name, known) if known else "obs has no columns."
    raise UnknownColumn(f"obs has no column {name[:60]!r}. {where}", f"Pass one of the columns of obs to {flag}.")


@dataclass(frozen=True)
class PerturbationColumn:
    """The column that says what was done to each cell, and how its labels are read."""

    name: str
    code: np.ndarray  # (cell,) into `labels`, -1 where there is none
    labels: list[str]
    reading: LabelReading

    @property
    def condition(self) -> np.ndarray:
        """(cell,) object: the condition of each cell, None where it is not known."""
        named = [self.reading.condition.get(label) for label in self.labels]
        return np.array([*named, None], dtype=object)[self.code]


def find_perturbation(
    obs: pd.DataFrame,
    *,
    genes: Collection[str],
    perturbation: str | None = None,
    control: str | Sequence[str] | None = None,
    separator: str | None = None,
    needs_control: bool = True,
) -> tuple[PerturbationColumn, Decision]:
    """The perturbation column, by name and content. Raises NoPerturbationColumn, NoControl, UnknownControl, ..."""
    if not obs.columns.is_unique:
        twice = obs.columns[obs.columns.duplicated()][0]
        raise DuplicatedColumns(f"obs has several columns named {str(twice)[:60]!r}.")
    if perturbation is not None:
        codes, labels = labels_of(column(obs, perturbation, flag="--perturbation"))
        if not labels:
            raise NoPerturbationColumn(f"obs[{perturbation!r}] has no label in it.")
        reading = read_labels(labels, genes=genes, control=control, separator=separator, needs_control=needs_control)
        decision = Decision("perturbation column", perturbation, f"given; {len(labels)} labels", "--perturbation")
        return PerturbationColumn(perturbation, codes, labels, reading), decision
    return _best_candidate(obs, genes, control=control, separator=separator, needs_control=needs_control)


def _best_candidate(
    obs: pd.DataFrame,
    genes: Collection[str],
    *,
    control: str | Sequence[str] | None,
    separator: str | None,
    needs_control: bool,
) -> tuple[PerturbationColumn, Decision]:
    found: list[tuple[int, PerturbationColumn]] = []
    refused: list[tuple[int, str, list[str], NamingError]] = []
    for tier, name in _named_columns(obs):
        codes, labels = labels_of(obs[name])
        if not labels or len(labels) > max(50, len(obs) // 2, 0 if needs_control else len(obs)):
            continue
        try:
            reading = read_labels(
                labels, genes=genes, control=control, separator=separator, needs_control=needs_control
            )
        except (NoControl, UnknownControl, BadCondition) as error:
            refused.append((tier, name, labels, error))
        else:
            found.append((tier, PerturbationColumn(name, codes, labels, reading)))
    alike = [(tier, candidate) for tier, candidate in found if candidate.reading.gene_like(genes)]
    eligible = alike or [(tier, candidate) for tier, candidate in found if tier <= 2 and candidate.reading.targets]
    if not eligible:
        raise _nothing_found(obs, refused)
    tier = min(tier for tier, _ in eligible)
    return _agreed([c for t, c in eligible if t == tier], others=[c for _, c in found], genes=genes)


def _named_columns(obs: pd.DataFrame) -> list[tuple[int, str]]:
    """Columns of text by how much their name says: 1 targets, 2 guides, 3 similar names, 4 any other."""
    ranked: list[tuple[int, int, str]] = []
    for name in obs.columns:
        dtype = obs[name].dtype
        if pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_datetime64_any_dtype(dtype):
            continue
        short = bare(name)
        if short in _GENE_NAMES:
            ranked.append((1, _GENE_NAMES.index(short), name))
        elif short in GUIDE_NAMES:
            ranked.append((2, GUIDE_NAMES.index(short), name))
        else:
            ranked.append((3 if _LIKE.search(short) else 4, 0, name))
    return [(tier, name) for tier, _, name in sorted(ranked, key=lambda entry: entry[:2])]


def _agreed(
    candidates: list[PerturbationColumn], *, others: list[PerturbationColumn], genes: Collection[str]
) -> tuple[PerturbationColumn, Decision]:
    """The first candidate, if all of its rank divide the cells in the same way; NoPerturbationColumn otherwise."""
    best = candidates[0]
    differing = [other.name for other in candidates[1:] if not _same_partition(best, other)]
    if differing:
        names = ", ".join(f"obs[{name!r}]" for name in [best.name, *differing])
        raise NoPerturbationColumn(
            f"{names} all look like perturbations and disagree.",
            f"Name one with --perturbation, such as {best.name!r}.",
        )
    same = [other.name for other in others if other is not best and _same_conditions(best, other)]
    measured = sum(target in genes for target in best.reading.targets)
    evidence = f"name; {len(best.labels)} labels, {len(best.reading.targets)} targets, {measured} of them measured"
    evidence += f"; the same as {', '.join(same)}" if same else ""
    return best, Decision("perturbation column", best.name, evidence, "--perturbation")


def _same_conditions(one: PerturbationColumn, other: PerturbationColumn) -> bool:
    return bool((one.condition == other.condition).all())


def _same_partition(one: PerturbationColumn, other: PerturbationColumn) -> bool:
    """Whether two columns divide the cells alike, control included, and most names agree: the rest are aliases."""
    pairs = pd.DataFrame({"one": one.condition, "other": other.condition}).drop_duplicates()
    same = pairs["one"] == pairs["other"]
    control = (pairs["one"] == CONTROL) == (pairs["other"] == CONTROL)
    return bool(pairs["one"].is_unique and pairs["other"].is_unique and control.all() and same.mean() >= 0.5)


def _nothing_found(obs: pd.DataFrame, refused: list[tuple[int, str, list[str], NamingError]]) -> NamingError:
    """The error of the column that most looks like perturbations, or that none does."""
    named = [entry for entry in refused if entry[0] <= 2]
    if named:
        _, name, labels, error = named[0]
        if isinstance(error, NoControl):
            error = no_control(labels)
        return type(error)(f"obs[{name!r}]: {error.fact}", error.next_step)
    columns = ", ".join(repr(str(name)[:40]) for name in list(obs.columns)[:10]) or "none"
    return NoPerturbationColumn(f"No column of obs looks like perturbations; its columns: {columns}.")
