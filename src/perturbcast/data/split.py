"""Splits: which queries (or cells) train, validate and test; a rule, a seed and a fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from perturbcast.data.conditions import Query

if TYPE_CHECKING:
    from perturbcast.data.audit import AuditReport, Evidence
    from perturbcast.data.responses import ResponseTable
    from perturbcast.data.screen import Screen

SIDES = ("train", "valid", "test")


class Promise(StrEnum):
    """What of the test side a rule promises to be new to the model."""

    CELLS = "cells"  # only the cells; their conditions were seen
    CONDITIONS = "conditions"  # the conditions; their targets may have been seen in other conditions
    TARGETS = "targets"  # the targets of held-out singles, in whatever condition and context
    CONTEXTS = "contexts"  # the contexts, but for their control cells


PROMISES = {
    "cells": Promise.CELLS,
    "singles": Promise.TARGETS,
    "doubles-by-seen": Promise.TARGETS,
    "gears": Promise.TARGETS,
    "contexts": Promise.CONTEXTS,
}


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
    def promise(self) -> Promise:
        """What is new in the test side: by the rule, and for split files and unknown rules the conditions."""
        return PROMISES.get(self.rule.split(":")[0], Promise.CONDITIONS)

    @property
    def fingerprint(self) -> str:
        """sha256 of rule, seed, fold and every member: equal if and only if the split is the same."""
        sides: dict[str, object] = {side: [list(query) for query in getattr(self, side)] for side in SIDES}
        for side in ("cells_train", "cells_valid", "cells_test"):
            index = getattr(self, side)
            sides[side] = None if index is None else hashlib.sha256(np.asarray(index, "<i8").tobytes()).hexdigest()
        text = json.dumps({"rule": self.rule, "seed": self.seed, "fold": self.fold, **sides}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def audit(
        self,
        data: "Screen | ResponseTable | Evidence | None" = None,
        *,
        aliases: Mapping[str, str] | None = None,
        profiles: bool = True,
    ) -> "AuditReport":
        """What the training side knows of the test side; see `perturbcast.data.audit.audit`."""
        from perturbcast.data.audit import audit

        return audit(self, data, aliases=aliases, profiles=profiles)
