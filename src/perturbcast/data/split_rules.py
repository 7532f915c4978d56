"""The split rules: how each divides conditions, or cells, into training, validation and test.

Rules over conditions divide a condition the same way in every context, so that a held-out target is held out
everywhere. They know conditions of one and of two targets; conditions of more targets are on no side. Names are sorted
before anything is drawn, so no draw depends on the order of a file.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from perturbcast.data.conditions import CONTROL, Query, is_double, is_single, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.split import Split

Names = Sequence[str]


@dataclass(frozen=True)
class Design:
    """What was done in a screen: its queries, control excluded."""

    queries: tuple[Query, ...]

    @property
    def conditions(self) -> list[str]:
        """Sorted, unique."""
        return sorted({query.condition for query in self.queries})

    @property
    def singles(self) -> list[str]:
        """Conditions of one target, sorted."""
        return [condition for condition in self.conditions if is_single(condition)]

    @property
    def doubles(self) -> list[str]:
        """Conditions of two targets, sorted."""
        return [condition for condition in self.conditions if is_double(condition)]

    @property
    def contexts(self) -> list[str]:
        """Sorted, unique."""
        return sorted({query.context for query in self.queries})

    def of(self, conditions: Iterable[str]) -> tuple[Query, ...]:
        """The queries of some conditions, in every context."""
        wanted = set(conditions)
        return tuple(query for query in self.queries if query.condition in wanted)

    def split(
        self, rule: str, seed: int, *, train: Names, test: Names, valid: Names = (), fold: int | None = None,
        groups: dict[str, str] | None = None,
    ) -> Split:  # fmt: skip
        """A split by condition."""
        labels = {query: groups[query.condition] for query in self.queries if groups and query.condition in groups}
        return Split(rule, seed, fold, self.of(train), self.of(valid), self.of(test), labels)


def design_of(data: Screen | ResponseTable) -> Design:
    """The queries of a screen or of a table of responses."""
    return Design(tuple(data.queries()) if isinstance(data, Screen) else data.queries)


def _free_of(conditions: Names, targets: Collection[str]) -> list[str]:
    return [condition for condition in conditions if not any(target in targets for target in targets_of(condition))]


# ------------------------------------------------------------------------------------------------------------- singles
def singles_by_fold(design: Design, *, seed: int, folds: int) -> list[Split]:
    """k-fold over single conditions: each is tested once; another seed deals them anew.

    Training: the other singles. Doubles are on no side: those with a held-out target would show its effect, and the
    others would make the mean response that of stronger perturbations, a floor lower than the singles' own.
    """
    dealt = np.random.default_rng(seed).permutation(design.singles)
    parts = [sorted(str(name) for name in part) for part in np.array_split(dealt, folds)]
    return [_without(design, "singles", seed, test=part, fold=fold) for fold, part in enumerate(parts)]


def singles_held_out(design: Design, *, seed: int, fraction: float) -> Split:
    """A random share of the single conditions is tested, once; training as in `singles_by_fold`."""
    n_test = min(max(1, round(fraction * len(design.singles))), len(design.singles) - 1)
    test = sorted(str(name) for name in np.random.default_rng(seed).permutation(design.singles)[:n_test])
    return _without(design, f"singles:{fraction:g}", seed, test=test)


def _without(design: Design, rule: str, seed: int, *, test: Names, fold: int | None = None) -> Split:
    held = {target for condition in test for target in targets_of(condition)}
    return design.split(rule, seed, train=_free_of(design.singles, held), test=test, fold=fold)


# ------------------------------------------------------------------------------------------------------------- doubles
def half_of_doubles(design: Design, *, seed: int) -> Split:
    """All singles and half of the doubles train, the other half is tested (spec D.3).

    With numpy's legacy generator seeded, floor(n/2) of the sorted doubles are drawn to train, as in the code of
    Ahlmann-Eltze et al.; what they divide into test and validation is all tested here, as they report it.
    """
    doubles = design.doubles
    drawn = np.random.RandomState(seed).choice(doubles, size=len(doubles) // 2, replace=False)
    train = {str(name) for name in drawn}
    test = [name for name in doubles if name not in train]
    return design.split("doubles", seed, train=[*design.singles, *train], test=test)


def doubles_by_seen(design: Design, *, seed: int, fraction: float = 0.25) -> Split:
    """Doubles are tested in three groups: `seen0`, `seen1`, `seen2` of their targets occur in training.

    A share `fraction` of the targets is held out: their doubles are tested, their singles are on no side. The same
    share of the remaining doubles is tested too, so that doubles of two seen targets are among the test. The group is
    counted from the training conditions themselves (spec C.6, last line).
    """
    rng = np.random.default_rng(seed)
    targets = sorted({target for condition in design.doubles for target in targets_of(condition)})
    n_held = min(max(1, round(fraction * len(targets))), len(targets) - 1)
    held = {str(name) for name in rng.permutation(targets)[:n_held]}
    kept = _free_of(design.doubles, held)
    both = {str(name) for name in rng.permutation(kept)[: round(fraction * len(kept))]}
    train = [name for name in _free_of(design.singles, held) + kept if name not in both]
    seen = {target for condition in train for target in targets_of(condition)}
    test = [name for name in design.doubles if name not in set(train)]
    groups = {name: f"seen{sum(target in seen for target in targets_of(name))}" for name in test}
    rule = "doubles-by-seen" if fraction == 0.25 else f"doubles-by-seen:{fraction:g}"
    return design.split(rule, seed, train=train, test=test, groups=groups)


# --------------------------------------------------------------------------------------------------------------- GEARS
def gears_groups(
    conditions: Names, *, seed: int, gene_share: float, pair_share: float
) -> tuple[list[str], dict[str, str]]:
    """Training conditions, and the group of every other one: one pass of GEARS' `simulation` (spec C.6).

    A share of the sorted targets is drawn as training genes. Singles of them train, other singles are
    `unseen_single`. Doubles of one training gene are `combo_seen1`, of none `combo_seen0`; of those of two, a share
    drawn after seeding anew trains, the rest is `combo_seen2`. Draws are those of numpy's legacy generator.
    """
    targets = sorted({target for condition in conditions for target in targets_of(condition)})
    n_genes = int(len(targets) * gene_share)
    genes = {str(name) for name in np.random.RandomState(seed).choice(targets, n_genes, replace=False)}
    groups = {}
    for condition in conditions:
        n_seen = sum(target in genes for target in targets_of(condition))
        groups[condition] = f"combo_seen{n_seen}" if is_double(condition) else ["unseen_single", ""][n_seen]
    pairs = sorted(condition for condition, group in groups.items() if group == "combo_seen2")
    drawn = np.random.RandomState(seed).choice(pairs, int(len(pairs) * pair_share), replace=False)
    train = [name for name, group in groups.items() if group == ""] + sorted(str(name) for name in drawn)
    return train, {name: group for name, group in groups.items() if name not in set(train)}


def gears_simulation(design: Design, *, seed: int) -> Split:
    """GEARS' split `simulation`: 0.75 of targets and of doubles seen twice, then 0.9 of both for validation (C.6).

    Differs from GEARS: conditions are canonical (`A+B`, sorted), while a file that writes some doubles the other way
    round sorts them by that spelling before drawing; the genes drawn, and all groups but the choice within
    `combo_seen2`, are the same.
    """
    conditions = design.singles + design.doubles
    train, test = gears_groups(conditions, seed=seed, gene_share=0.75, pair_share=0.75)
    train, valid = gears_groups(train, seed=seed, gene_share=0.9, pair_share=0.9)
    return design.split("gears", seed, train=train, valid=list(valid), test=list(test), groups=valid | test)


# ------------------------------------------------------------------------------------------------------------ contexts
def contexts_left_out(design: Design, *, seed: int) -> list[Split]:
    """Each context in turn: its perturbed queries are tested, its control trains with all other contexts."""
    splits = []
    for fold, context in enumerate(design.contexts):
        test = tuple(query for query in design.queries if query.context == context)
        train = tuple(query for query in design.queries if query.context != context)
        splits.append(Split("contexts", seed, fold, train, (), test))
    return splits


# --------------------------------------------------------------------------------------------------------------- cells
def nested_cells(n_cells: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of training, validation and test cells, 64/16/20 %, increasing (spec 8.1).

    The draws are those of scikit-learn's `train_test_split(train_size=0.8, random_state=seed)`, applied twice.
    """
    rest, test = _draw_80(np.arange(n_cells), seed=seed)
    train, valid = _draw_80(rest, seed=seed)
    return np.sort(train), np.sort(valid), np.sort(test)


def _draw_80(cells: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    dealt = cells[np.random.RandomState(seed).permutation(len(cells))]
    n_rest = len(cells) - int(np.floor(0.8 * len(cells)))
    return dealt[n_rest:], dealt[:n_rest]


def random_cells(screen: Screen, *, seed: int) -> Split:
    """Cells at random, control included: 64 % train, 16 % validate, 20 % are tested (spec 8.1, seed 0)."""
    return _by_cells(screen, "cells", seed, nested_cells(screen.n_cells, seed=seed))


def pairs_by_cells(screen: Screen, *, seed: int) -> Split:
    """Unseen doubles as for the combination data of spec 8.1: 75 % of the pairs train, 25 % are tested.

    All cells are first divided 64/16/20 with seed 0. Training pairs give their cells of the first two sides to
    training and validation, test pairs their cells of the third; their other cells are on no side. Cells of singles
    and control are divided 80/20 into training and validation. `seed` shuffles the sorted pairs.
    """
    pairs = np.array(design_of(screen).doubles)
    np.random.default_rng(seed).shuffle(pairs)
    n_train = int(np.floor(0.75 * len(pairs)))
    conditions = np.array(screen.conditions)[screen.condition_code]
    other = np.array([is_single(name) or name == CONTROL for name in screen.conditions])[screen.condition_code]
    sides = nested_cells(screen.n_cells, seed=0)
    known, tested = np.isin(conditions, pairs[:n_train]), np.isin(conditions, pairs[n_train:])
    train, valid = _draw_80(np.flatnonzero(other), seed=0)
    cells = (
        np.union1d(sides[0][known[sides[0]]], train),
        np.union1d(sides[1][known[sides[1]]], valid),
        sides[2][tested[sides[2]]],
    )
    return _by_cells(screen, "pair-cells", seed, cells)


def _by_cells(screen: Screen, rule: str, seed: int, cells: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Split:
    train, valid, test = (tuple(screen.take(side).queries()) for side in cells)
    return Split(rule, seed, None, train, valid, test, cells_train=cells[0], cells_valid=cells[1], cells_test=cells[2])
