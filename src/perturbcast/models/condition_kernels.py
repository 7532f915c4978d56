"""Kernels between conditions from views of genes: the kernel of two conditions sums over their pairs of targets.

So k({A, B}, P) = k(A, P) + k(B, P), which keeps predictions additive in the features of targets (spec D-17).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy import sparse

from perturbcast.data.conditions import Query, targets_of
from perturbcast.models.gene_views import GeneView

SAME_TARGET = "same target"
FEWEST_KNOWN, LEAST_KNOWN = 3, 0.05  # targets, and share of them, that a view must know
ELSEWHERE = " in the same context"  # ending of the names of kernels that do not reach across contexts


@dataclass(frozen=True)
class ConditionKernel:
    """A view of genes (None: is it the same target), across all contexts or within each."""

    view: GeneView | None
    local: bool = False

    @property
    def name(self) -> str:
        """The view's name, with the reach where that is one context."""
        base = SAME_TARGET if self.view is None else self.view.name
        return base + (ELSEWHERE if self.local else "")


@dataclass(frozen=True)
class Conditions:
    """Some queries as targets and contexts: (query, target) incidence and context of each."""

    targets: tuple[str, ...]
    incidence: sparse.csr_matrix  # (query, target) 0/1
    context: np.ndarray  # (query,) object dtype of str

    @classmethod
    def of(cls, queries: Sequence[Query]) -> "Conditions":
        """The targets and contexts of some queries."""
        targets = tuple(sorted({target for query in queries for target in targets_of(query.condition)}))
        column = {target: place for place, target in enumerate(targets)}
        entries = [(row, column[t]) for row, query in enumerate(queries) for t in targets_of(query.condition)]
        rows, columns = zip(*entries, strict=True) if entries else ((), ())
        shape = (len(queries), len(targets))
        incidence = sparse.csr_matrix((np.ones(len(entries)), (rows, columns)), shape=shape)
        return cls(targets, incidence, np.array([query.context for query in queries], dtype=object))

    @cached_property
    def recurring(self) -> bool:
        """Whether some target occurs in more than one query."""
        return bool((np.asarray(self.incidence.sum(axis=0)) > 1).any())

    def between(
        self, kernels: Sequence[ConditionKernel], weights: np.ndarray, other: "Conditions"
    ) -> Float[np.ndarray, "left right"]:
        """Weighted sum of kernels between these queries and others."""
        total = np.zeros((self.incidence.shape[0], other.incidence.shape[0]))
        same_context = self.context[:, None] == other.context[None, :]
        for local in (False, True):
            chosen = [
                (kernel, weight) for kernel, weight in zip(kernels, weights, strict=True) if kernel.local == local
            ]
            if not chosen:
                continue
            of_genes = sum(weight * gene_kernel(kernel.view, self.targets, other.targets) for kernel, weight in chosen)
            part = self.incidence @ of_genes @ other.incidence.T  # (left, target) @ (target, target) @ (target, right)
            total += part * same_context if local else part
        return total


def gene_kernel(view: GeneView | None, left: Sequence[str], right: Sequence[str]) -> Float[np.ndarray, "left right"]:
    """Likeness of genes in a view; equality where there is no view."""
    if view is None:
        return (np.array(left, dtype=object)[:, None] == np.array(right, dtype=object)[None, :]).astype(np.float64)
    rows_left = view.rows(left)
    return view.kernel(rows_left, rows_left if left is right else view.rows(right))


def kernels_for(views: Sequence[GeneView], conditions: Conditions) -> list[ConditionKernel]:
    """Views that know enough targets, and `same target` where one recurs; also within contexts if there are several.

    A view of few targets would be weighed by chance: its β means little, and its prior is that of nobody else.
    """
    several = len(set(conditions.context)) > 1
    kernels = [ConditionKernel(None)] if conditions.recurring else []
    fewest = max(FEWEST_KNOWN, LEAST_KNOWN * len(conditions.targets))
    kernels += [ConditionKernel(view) for view in views if view.knows(conditions.targets).sum() >= fewest]
    return kernels + ([ConditionKernel(kernel.view, local=True) for kernel in kernels] if several else [])
