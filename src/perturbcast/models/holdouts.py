"""Which training conditions a member of an ensemble leaves out: they stop its training and calibrate its intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from perturbcast.data.conditions import Query, targets_of

FEWEST_TARGETS = 3  # below this nothing is left out
FEWEST_COMBINATIONS = 6  # combinations whose targets were all seen singly, before some of them are left out
TARGETS, COMBINATIONS = "targets", "combinations"


@dataclass(frozen=True)
class Holdout:
    """Rows that train and rows that are left out, and the question that this asks.

    `targets`: some targets with everything they occur in, so the left-out rows ask about unseen targets.
    `combinations`: some combinations whose targets stay in training singly.
    """

    kind: str
    train: Int[np.ndarray, " train"]
    valid: Int[np.ndarray, " valid"]


def holdouts(queries: Sequence[Query], *, n_folds: int, seed: int) -> list[Holdout]:
    """Folds of both kinds: each target, and each combination that its singles explain, is left out once.

    A condition goes with all its contexts. Empty for fewer than three targets.
    """
    rng = np.random.default_rng(seed)
    targets = sorted({target for query in queries for target in targets_of(query.condition)})
    if len(targets) < FEWEST_TARGETS:
        return []
    fold_of = _folds(targets, n_folds=n_folds, rng=rng)
    left_out = [{fold_of[target] for target in targets_of(query.condition)} for query in queries]
    found = [
        _holdout(TARGETS, np.array([fold in out for out in left_out])) for fold in range(max(fold_of.values()) + 1)
    ]
    explained = sorted(explained_combinations(queries))
    if len(explained) >= FEWEST_COMBINATIONS:
        of = _folds(explained, n_folds=n_folds, rng=rng)
        fold = np.array([of.get(query.condition, -1) for query in queries])
        found += [_holdout(COMBINATIONS, fold == number) for number in range(max(of.values()) + 1)]
    return [holdout for holdout in found if len(holdout.train) and len(holdout.valid)]


def explained_combinations(queries: Sequence[Query]) -> set[str]:
    """Combinations all of whose targets were perturbed singly as well."""
    conditions = {query.condition for query in queries}
    return {
        condition
        for condition in conditions
        if len(targets_of(condition)) > 1 and set(targets_of(condition)) <= conditions
    }


def question_of(query: Query, seen_singly: frozenset[str]) -> str:
    """The kind of holdout that asks what the query asks: of unseen targets, or of targets all seen singly."""
    targets = targets_of(query.condition)
    return COMBINATIONS if len(targets) > 1 and seen_singly.issuperset(targets) else TARGETS


def _folds(names: Sequence[str], *, n_folds: int, rng: np.random.Generator) -> dict[str, int]:
    order = rng.permutation(len(names))
    folds = min(n_folds, len(names))
    return {names[place]: number % folds for number, place in enumerate(order)}


def _holdout(kind: str, out: np.ndarray) -> Holdout:
    return Holdout(kind, np.flatnonzero(~out), np.flatnonzero(out))
