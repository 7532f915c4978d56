"""What a file holds, how it is read and why, what is wrong with it, and which splits it can carry."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbcast.data.conditions import CONTROL, Query, is_double, is_single, targets_of
from perturbcast.data.inspect_problems import Problem, find_problems
from perturbcast.data.on_target import OnTarget, on_target_effects
from perturbcast.data.readers import from_anndata, read
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Decision, Screen
from perturbcast.data.splits import possible_splits

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class ConditionSummary:
    """One query: its cells and what it did to its measured targets."""

    condition: str
    context: str
    n_cells: int | None
    on_target: tuple[OnTarget, ...]


@dataclass(frozen=True)
class Inspection:
    """Everything `perturbcast inspect` prints."""

    name: str
    kind: str  # cells or response
    scale: str
    n_cells: int | None
    n_genes: int
    n_control: int | None
    n_singles: int
    n_doubles: int
    n_higher: int  # conditions of three targets or more
    n_targets: int
    n_targets_measured: int
    contexts: tuple[str, ...]
    perturbation: str  # CRISPRa, CRISPRi, knock-out or "" if the file does not say
    unit: str
    decisions: tuple[Decision, ...]
    conditions: tuple[ConditionSummary, ...]  # control first, then by name
    problems: tuple[Problem, ...]
    splits: dict[str, str]  # rule -> "" if the data can carry it, else the reason

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; numbers that are not finite become None."""
        plain = asdict(self)
        for summary in plain["conditions"]:
            for effect in summary["on_target"]:
                del effect["query"]
        cleaned: dict[str, Any] = _plain(plain)
        return cleaned

    def to_text(self, *, most: int = 30) -> str:
        """Paragraphs for a terminal; of the conditions the `most` with the most cells."""
        parts = [
            _title(self),
            _decisions_text(self.decisions),
            _conditions_text(self, most),
            _problems_text(self.problems),
        ]
        return "\n\n".join([*parts, _splits_text(self.splits)]) + "\n"


def inspect(
    source: "str | Path | AnnData | Screen | ResponseTable",
    *,
    perturbation: str | None = None,
    control: str | Sequence[str] | None = None,
    context: str | None = None,
    separator: str | None = None,
    layer: str | None = None,
    scale: str | None = None,
    kind: str | None = None,
    genes: str | None = None,
    guide_quality: bool = True,
    min_cells: int | None = None,
    duplicates: str | None = None,
    backed: bool | None = None,
    name: str | None = None,
) -> Inspection:
    """The inspection of a file, an AnnData object, or what was read from one. Arguments and errors as of `read`."""
    given: dict[str, Any] = {
        "perturbation": perturbation, "control": control, "context": context, "separator": separator, "layer": layer,
        "scale": scale, "kind": kind, "genes": genes, "guide_quality": guide_quality, "min_cells": min_cells,
        "duplicates": duplicates, "backed": backed, "name": name,
    }  # fmt: skip
    if isinstance(source, Screen | ResponseTable):
        return inspection_of(source)
    return inspection_of(read(source, **given) if isinstance(source, str | Path) else from_anndata(source, **given))


def inspection_of(data: Screen | ResponseTable) -> Inspection:
    """The inspection of a screen or a table of responses: one streaming pass over its cells."""
    effects = on_target_effects(data)
    is_cells = isinstance(data, Screen)
    queries = data.queries() if isinstance(data, Screen) else list(data.queries)
    names = {query.condition for query in queries}
    targets = {target for condition in names for target in targets_of(condition)}
    kind = str(data.uns.get("perturbation", ""))
    return Inspection(
        name=data.name,
        kind="cells" if is_cells else "response",
        scale=data.scale.value,
        n_cells=data.n_cells if isinstance(data, Screen) else None,
        n_genes=data.n_genes,
        n_control=int(data.is_control.sum()) if isinstance(data, Screen) else None,
        n_singles=sum(map(is_single, names)),
        n_doubles=sum(map(is_double, names)),
        n_higher=sum(len(targets_of(condition)) > 2 for condition in names),
        n_targets=len(targets),
        n_targets_measured=len(targets & set(data.genes)),
        contexts=data.contexts,
        perturbation=kind,
        unit="ln(1 + counts per 10,000)" if isinstance(data, Screen) and data.scale == "counts" else _unit(data),
        decisions=data.decisions,
        conditions=tuple(_summaries(data, queries, effects)),
        problems=tuple(find_problems(data, effects, kind=kind)),
        splits=possible_splits(data),
    )


def _unit(data: Screen | ResponseTable) -> str:
    return data.unit if isinstance(data, ResponseTable) else data.scale.value


def _summaries(data: Screen | ResponseTable, queries: list[Query], effects: list[OnTarget]) -> list[ConditionSummary]:
    by_query: dict[Query, list[OnTarget]] = {}
    for effect in effects:
        by_query.setdefault(effect.query, []).append(effect)
    controls = [Query(CONTROL, context) for context in data.contexts] if isinstance(data, Screen) else []
    return [
        ConditionSummary(query.condition, query.context, n, tuple(by_query.get(query, ())))
        for query, n in zip([*controls, *queries], _cells_of(data, [*controls, *queries]), strict=True)
    ]


def _cells_of(data: Screen | ResponseTable, queries: list[Query]) -> list[int | None]:
    if isinstance(data, ResponseTable):
        return [None] * len(queries)
    n = np.bincount(data.query_code, minlength=len(data.conditions) * len(data.contexts))
    condition = {name: code for code, name in enumerate(data.conditions)}
    context = {name: code * len(data.conditions) for code, name in enumerate(data.contexts)}
    return [int(n[context[query.context] + condition[query.condition]]) for query in queries]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


# ---------------------------------------------------------------------------------------------------------------- text
def _title(found: Inspection) -> str:
    size = f"{found.n_genes:,} genes"
    if found.n_cells is not None:
        size = f"{found.n_cells:,} cells x {size}, {found.n_control:,} control cells"
    kind = f", {found.perturbation}" if found.perturbation else ""
    held = f"{found.n_singles} singles, {found.n_doubles} doubles"
    held += f", {found.n_higher} of three targets or more" if found.n_higher else ""
    where = ", ".join(context or "one unnamed" for context in found.contexts)
    return (
        f"{found.name}: {'a screen of cells' if found.kind == 'cells' else 'a table of responses'}{kind}\n"
        f"  {size}\n  {held}; {found.n_targets} targets, {found.n_targets_measured} of them measured\n"
        f"  contexts: {where}\n  unit of responses: {found.unit}"
    )


def _decisions_text(decisions: Sequence[Decision]) -> str:
    width = max((len(decision.what) for decision in decisions), default=0)
    lines = ["Decided (what overrides it in brackets)"]
    for decision in decisions:
        flag = f"  [{decision.flag}]" if decision.flag else ""
        lines.append(f"  {decision.what:<{width}}  {decision.value}: {decision.evidence}{flag}")
    return "\n".join(lines)


def _conditions_text(found: Inspection, most: int) -> str:
    shown = sorted(found.conditions, key=lambda c: (c.condition != CONTROL, -(c.n_cells or 0)))[:most]
    names = [f"{c.condition} in {c.context}" if len(found.contexts) > 1 else c.condition for c in shown]
    width = max((len(name) for name in names), default=9)
    lines = [f"{'Condition':<{width + 2}}{'cells':>9}  on-target effect"]
    for name, summary in zip(names, shown, strict=True):
        cells = "" if summary.n_cells is None else f"{summary.n_cells:,}"
        lines.append(f"  {name:<{width}}{cells:>9}  {_effects_text(summary)}".rstrip())
    if len(found.conditions) > len(shown):
        lines.append(f"  ... and {len(found.conditions) - len(shown):,} more (all of them with --json)")
    return "\n".join(lines)


def _effects_text(summary: ConditionSummary) -> str:
    if summary.condition == CONTROL:
        return ""
    if not summary.on_target:
        return "target not measured"
    texts = []
    for effect in summary.on_target:
        fold = f", log2 fold {effect.log2_fold_change:+.2f}" if np.isfinite(effect.log2_fold_change) else ""
        z = f", z {effect.z:+.1f}" if np.isfinite(effect.z) else ""
        texts.append(f"{effect.target} {effect.difference:+.3f}{fold}{z}")
    return "; ".join(texts)


def _problems_text(problems: Sequence[Problem]) -> str:
    if not problems:
        return "Problems: none found"
    lines = ["Problems"]
    for problem in problems:
        lines += [f"  - {problem.what}", f"    {problem.what_to_do}"]
    return "\n".join(lines)


def _splits_text(splits: dict[str, str]) -> str:
    lines = ["Splits that these data can carry: " + (", ".join(r for r, lack in splits.items() if not lack) or "none")]
    return "\n".join([*lines, *(f"  not {rule}: {lack}" for rule, lack in splits.items() if lack)])
