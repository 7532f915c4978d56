"""Embedding tables of targets by name: those of the knowledge, and those made from its sets, texts and graphs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import sparse

from perturbcast.data.conditions import JOINT, Query, condition_of, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.genes.knowledge import GeneGraph, GeneKnowledge
from perturbcast.models.base import decode_text, encode_text
from perturbcast.models.gene_views import GeneView, unit_rows
from perturbcast.models.knowledge_views import response_view, views_of

Combination = Literal["sum", "mean", "concat-max"]
WIDTH = 64  # features of a table made from a sparse view
OVERSAMPLED, POWERS = 10, 3  # of the randomised SVD
DENSE_BELOW = 200  # nodes up to which the spectral embedding is computed densely


@dataclass(frozen=True)
class TargetFeatures:
    """Rows of features by target, or by whole condition; a query without a row has its targets' rows (spec D-15).

    A row of a whole condition, `A+B`, is what a model of cells made of an edit of both genes (type 2, spec D-14).
    """

    name: str
    row: Mapping[str, int]
    matrix: Float[np.ndarray, "target feature"]

    @classmethod
    def of(cls, name: str, genes: Sequence[str], matrix: np.ndarray) -> "TargetFeatures":
        """The features of some genes, or of conditions in whatever order of their targets."""
        return cls(name, {_canonical(str(gene)): row for row, gene in enumerate(genes)}, matrix)

    def knows(self, query: Query) -> int:
        """How many of the query's targets have features."""
        if query.condition in self.row:
            return len(targets_of(query.condition))
        return sum(target in self.row for target in targets_of(query.condition))

    def rows(self, queries: Sequence[Query], *, combination: Combination = "sum") -> Float[np.ndarray, "query feature"]:
        """Features of each query in float64; zeros for targets without any.

        `combination` of several targets: their `sum`; their `mean`; or `concat-max`, sum and largest side by side.
        """
        n_features = self.matrix.shape[1]
        found = np.zeros((len(queries), 2 * n_features if combination == "concat-max" else n_features))
        for place, query in enumerate(queries):
            named = (query.condition,) if query.condition in self.row else targets_of(query.condition)
            own = self.matrix[[self.row[name] for name in named if name in self.row]]
            if not len(own):
                continue
            found[place, :n_features] = own.mean(axis=0) if combination == "mean" else own.sum(axis=0, dtype=np.float64)
            if combination == "concat-max":
                found[place, n_features:] = own.max(axis=0)
        return found

    def state(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays from which `restored` makes the features again."""
        return {
            f"{prefix}name": encode_text([self.name]),
            f"{prefix}genes": encode_text(sorted(self.row, key=lambda gene: self.row[gene])),
            f"{prefix}matrix": np.asarray(self.matrix),
        }

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray], prefix: str) -> "TargetFeatures":
        """The features whose `state` this is."""
        (name,) = decode_text(state[f"{prefix}name"])
        return cls.of(name, decode_text(state[f"{prefix}genes"]), state[f"{prefix}matrix"])


def _canonical(name: str) -> str:
    return condition_of(name.split(JOINT)) if JOINT in name else name


def target_tables(knowledge: GeneKnowledge, responses: ResponseTable) -> dict[str, TargetFeatures]:
    """One table per embedding table, gene set, text and graph of the knowledge, and co-expression in training.

    Rows have unit length. Sparse views are turned to their leading principal axes.
    """
    return knowledge.derived(tables_of) | response_tables(responses)


def tables_of(knowledge: GeneKnowledge) -> dict[str, TargetFeatures]:
    """The tables of the knowledge alone."""
    views = [view for view in knowledge.derived(views_of) if view.form == "cosine" and not view.heat]
    return {view.name: _table(view) for view in views}


def response_tables(responses: ResponseTable) -> dict[str, TargetFeatures]:
    """Co-expression in training; nothing of too few queries."""
    return {view.name: _table(view) for view in response_view(responses)}


def _table(view: GeneView) -> TargetFeatures:
    matrix = unit_rows(view.matrix)
    if not isinstance(matrix, np.ndarray):
        matrix = leading_axes(matrix, width=min(WIDTH, min(matrix.shape)))
    return TargetFeatures.of(view.name, [str(gene) for gene in view.genes], matrix.astype(np.float32))


def leading_axes(matrix: sparse.csr_matrix, *, width: int) -> Float[np.ndarray, "target feature"]:
    """(row, width) rows in the leading right singular directions, by a randomised SVD with a fixed seed."""
    start = np.random.default_rng(0).normal(size=(matrix.shape[1], min(width + OVERSAMPLED, matrix.shape[1])))
    basis = np.linalg.qr(matrix @ start)[0]
    for _ in range(POWERS):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    left, size, _ = np.linalg.svd(np.asarray(basis.T @ matrix), full_matrices=False)
    return basis @ (left[:, :width] * size[:width])


def spectral_embedding(graph: GeneGraph, *, width: int) -> TargetFeatures:
    """Eigenvectors of the symmetrised weights of largest absolute eigenvalue, times its root (spec D-9, oracle D6)."""
    weights = sparse.csr_matrix(graph.weights, dtype=np.float64)
    symmetric = weights.maximum(weights.T)
    n_nodes = symmetric.shape[0]
    if n_nodes <= max(DENSE_BELOW, width + 2):
        values, vectors = np.linalg.eigh(symmetric.toarray())
    else:
        from scipy.sparse.linalg import eigsh

        values, vectors = eigsh(symmetric, k=width, which="LM", v0=np.ones(n_nodes))
    leading = np.argsort(-np.abs(values), kind="stable")[:width]
    axes = vectors[:, leading] * np.sqrt(np.abs(values[leading]))
    return TargetFeatures.of(f"spectral:{graph.name}", [str(gene) for gene in graph.genes], axes)
