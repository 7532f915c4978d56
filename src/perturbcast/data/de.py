"""Differential expression of every query against the control cells of its context, by rank-sum."""

from dataclasses import dataclass

import numpy as np

from perturbcast.data.conditions import Query


@dataclass(frozen=True)
class DifferentialExpression:
    """Rank-sum results; all arrays (query, gene)."""

    queries: tuple[Query, ...]
    genes: np.ndarray  # (gene,)
    z: np.ndarray  # signed normal score, tie-corrected; > 0 = higher than control
    p: np.ndarray  # two-sided
    p_adjusted: np.ndarray  # Benjamini-Hochberg within query
    log2_fold_change: np.ndarray  # of mean counts per 10,000, pseudocount 1e-9

    def significant(self, *, alpha: float = 0.05) -> np.ndarray:
        """(query, gene) bool: adjusted p below alpha."""
        return self.p_adjusted < alpha
