"""Splits: which queries (or cells) train, validate and test; a rule, a seed and a fingerprint."""

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from perturbcast.data.conditions import Query


@dataclass(frozen=True)
class Split:
    """A division of queries, and where the rule divides cells also of cells. Control always trains.

    `cells_*` are positions in the screen, None where the rule divides whole queries.
    `groups` labels test queries, for instance `seen0`, `seen1`, `seen2`, `unseen_single`.
    """

    rule: str
    seed: int
    fold: int | None
    train: tuple[Query, ...]
    valid: tuple[Query, ...]
    test: tuple[Query, ...]
    groups: dict[Query, str] = field(default_factory=dict)
    cells_train: np.ndarray | None = None
    cells_valid: np.ndarray | None = None
    cells_test: np.ndarray | None = None
    provenance: dict[str, str] = field(default_factory=dict)  # statistic -> side it was computed on, for the audit

    @property
    def name(self) -> str:
        """Short name for tables: rule and fold."""
        return self.rule if self.fold is None else f"{self.rule}/fold{self.fold}"

    @property
    def fingerprint(self) -> str:
        """sha256 of rule, seed, fold and every member: equal if and only if the split is the same."""
        sides: dict[str, object] = {
            side: [list(query) for query in getattr(self, side)] for side in ("train", "valid", "test")
        }
        for side in ("cells_train", "cells_valid", "cells_test"):
            index = getattr(self, side)
            sides[side] = None if index is None else hashlib.sha256(np.asarray(index, "<i8").tobytes()).hexdigest()
        text = json.dumps({"rule": self.rule, "seed": self.seed, "fold": self.fold, **sides}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
