"""Fixed effects of queries: a level per context, and one more for combinations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from perturbcast.data.conditions import Query, targets_of


@dataclass(frozen=True)
class FixedEffects:
    """Columns: each training context, then `combination` where training has singles and combinations.

    Without both kinds the level grows with the number of targets, as an additive world would have it; beyond two
    targets it always does.
    """

    contexts: tuple[str, ...]
    has_both: bool
    mean_targets: float

    @classmethod
    def of(cls, queries: Sequence[Query]) -> "FixedEffects":
        """The effects that training queries can tell apart."""
        sizes = np.array([len(targets_of(query.condition)) for query in queries])
        contexts = tuple(sorted({query.context for query in queries}))
        return cls(contexts, bool((sizes == 1).any() and (sizes > 1).any()), float(sizes.mean()))

    def rows(self, queries: Sequence[Query]) -> Float[np.ndarray, "query effect"]:
        """One row per query; a context without training queries gets the mean of all."""
        return np.array([self._row(query) for query in queries]).reshape(
            len(queries), len(self.contexts) + self.has_both
        )

    def _row(self, query: Query) -> list[float]:
        n_targets = len(targets_of(query.condition))
        if query.context in self.contexts:
            level = [float(context == query.context) for context in self.contexts]
        else:
            level = [1.0 / len(self.contexts)] * len(self.contexts)
        if not self.has_both:
            return [entry * n_targets / self.mean_targets for entry in level]
        grown = max(n_targets, 2) / 2 if n_targets > 1 else 1.0
        return [entry * grown for entry in (*level, float(n_targets > 1))]
