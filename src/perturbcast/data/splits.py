"""Splits by name: the rules of `split_rules`, what each needs, and which of them some data can carry."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perturbcast.data.conditions import targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.split import Split
from perturbcast.data.split_rules import (
    Design,
    contexts_left_out,
    design_of,
    doubles_by_seen,
    gears_simulation,
    half_of_doubles,
    pairs_by_cells,
    random_cells,
    singles_by_fold,
    singles_held_out,
)
from perturbcast.data.splits_files import SUFFIXES, read_splits
from perturbcast.errors import BadOption, TooFewConditions, UnknownSplit, WrongKind, did_you_mean

RULES = ("cells", "singles", "doubles", "doubles-by-seen", "gears", "contexts", "pair-cells")
WITH_SHARE = ("singles", "doubles-by-seen")  # rules that take a share after a colon, `singles:0.2`


def make_splits(
    data: Screen | ResponseTable, rule: str | Path, *, seeds: Sequence[int] = (0,), folds: int = 5
) -> list[Split]:
    """The splits of a rule, seeds outermost.

    `rule`: `cells` (64/16/20), `singles` (`folds`-fold), `singles:0.2` (a share held out once), `doubles` (half of
    them), `doubles-by-seen` (or `doubles-by-seen:0.3`), `gears`, `contexts` (one left out at a time), `pair-cells`, or
    the path of a split file (.csv, .tsv, .toml), whose folds are repeated for every seed.

    Raises UnknownSplit, TooFewConditions with what the data can carry, WrongKind for a rule over cells and a table of
    responses, BadOption for folds or shares out of range, and the errors of `read_splits`.
    """
    name, _, share = str(rule).partition(":")
    if name not in RULES:
        return _from_file(data, rule, seeds=seeds)
    if folds < 2:
        raise BadOption(f"folds is {folds}.", "Use 2 folds or more.")
    fraction = _share(name, share)
    if name in ("cells", "pair-cells") and not isinstance(data, Screen):
        raise WrongKind(f"The split {name} divides cells, and these data are responses.", _carried(data))
    lacking = what_is_lacking(data, name, folds=None if fraction else folds)
    if lacking:
        raise TooFewConditions(f"The split {rule} {lacking}.", _carried(data))
    return [split for seed in seeds for split in _of_rule(data, name, seed=seed, folds=folds, fraction=fraction)]


def _of_rule(data: Screen | ResponseTable, name: str, *, seed: int, folds: int, fraction: float | None) -> list[Split]:
    design = design_of(data)
    if isinstance(data, Screen) and name in ("cells", "pair-cells"):
        return [(random_cells if name == "cells" else pairs_by_cells)(data, seed=seed)]
    if name == "singles":
        if fraction is not None:
            return [singles_held_out(design, seed=seed, fraction=fraction)]
        return singles_by_fold(design, seed=seed, folds=folds)
    if name == "doubles-by-seen":
        return [doubles_by_seen(design, seed=seed, fraction=0.25 if fraction is None else fraction)]
    if name == "contexts":
        return contexts_left_out(design, seed=seed)
    return [(half_of_doubles if name == "doubles" else gears_simulation)(design, seed=seed)]


def what_is_lacking(data: Screen | ResponseTable, rule: str, *, folds: int | None = 5) -> str:
    """Why these data cannot carry a rule, or "" if they can. `folds` counts for `singles` only."""
    if rule in ("cells", "pair-cells") and not isinstance(data, Screen):
        return "divides cells, and these data are responses"
    design = design_of(data)
    n_singles, n_doubles, n_contexts = len(design.singles), len(design.doubles), len(design.contexts)
    if rule == "cells" and isinstance(data, Screen) and data.n_cells < 10:
        return f"needs 10 cells, and there are {data.n_cells}"
    if rule == "singles" and n_singles < (folds or 2):
        return f"{f'in {folds} folds ' if folds else ''}needs {folds or 2} single conditions, and there are {n_singles}"
    needed = {"doubles": 2, "doubles-by-seen": 4, "pair-cells": 4}.get(rule, 0)
    if n_doubles < needed:
        return f"needs {needed} double conditions, and there are {n_doubles}"
    if rule == "gears":
        return _gears_lacks(design)
    if rule == "contexts" and n_contexts < 2:
        return f"needs 2 contexts, and there is {n_contexts}"
    return ""


def _gears_lacks(design: Design) -> str:
    targets = {target for name in design.singles + design.doubles for target in targets_of(name)}
    if len(targets) < 4:
        return f"needs 4 targets, and there are {len(targets)}"
    split = gears_simulation(design, seed=0)
    return "" if split.train and split.test else "leaves a side empty: the conditions share too few targets"


def possible_splits(data: Screen | ResponseTable, *, folds: int = 5) -> dict[str, str]:
    """Every rule, with "" if the data can carry it and the reason if not."""
    return {rule: what_is_lacking(data, rule, folds=folds) for rule in RULES}


def _carried(data: Screen | ResponseTable) -> str:
    able = [rule for rule, lacking in possible_splits(data, folds=2).items() if not lacking]
    n_singles = len(design_of(data).singles)
    named = [f"singles in up to {n_singles} folds" if rule == "singles" else rule for rule in able]
    return f"These data can carry: {', '.join(named)}." if able else "These data can carry no split of ours."


def _share(name: str, share: str) -> float | None:
    if not share:
        return None
    if name not in WITH_SHARE:
        raise UnknownSplit(f"The rule {name} takes no share after a colon; {' and '.join(WITH_SHARE)} do.")
    try:
        fraction = float(share)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction < 1:
        raise BadOption(f"The share held out by {name} is {share!r}.", "Pass a number between 0 and 1.")
    return fraction


def _from_file(data: Screen | ResponseTable, rule: str | Path, *, seeds: Sequence[int]) -> list[Split]:
    path = Path(rule)
    if path.suffix.lower() not in SUFFIXES and not path.exists():
        raise UnknownSplit(f"No split rule {str(rule)!r}. {did_you_mean(str(rule), RULES)}")
    return [replace(split, seed=seed) for seed in seeds for split in read_splits(path, data)]
