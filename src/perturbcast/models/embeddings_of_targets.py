"""Embedding tables of targets by name: those of the knowledge, and those made from its sets, texts and graphs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import sparse

from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.genes.knowledge import GeneGraph, GeneKnowledge
from perturbcast.models.base import decode_text, encode_text
from perturbcast.models.gene_views import GeneView, unit_rows
from perturbcast.models.knowledge_views import response_view, views_of

WIDTH = 64  # features of a table made from a sparse view
OVERSAMPLED, POWERS = 10, 3  # of the randomised SVD
DENSE_BELOW = 200  # nodes up to which the spectral embedding is computed densely


@dataclass(frozen=True)
class TargetFeatures:
    """Rows of features by target; a query has the sum of its targets' rows (spec D-15)."""

    name: str
    row: Mapping[str, int]
    matrix: Float[np.ndarray, "target feature"]

    @classmethod
    def of(cls, name: str, genes: Sequence[str], matrix: np.ndarray) -> "TargetFeatures":
        """The features of some genes."""
        return cls(name, {str(gene): row for row, gene in enumerate(genes)}, matrix)

    def knows(self, query: Query) -> int:
        """How many of the query's targets have features."""
        return sum(target in self.row for target in targets_of(query.condition))

    def rows(self, queries: Sequence[Query]) -> Float[np.ndarray, "query feature"]:
        """Summed features of each query in float64; zeros for targets without any."""
        found = np.zeros((len(queries), self.matrix.shape[1]))
        for place, query in enumerate(queries):
            for target in targets_of(query.condition):
                if target in self.row:
                    found[place] += self.matrix[self.row[target]]
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


def target_tables(knowledge: GeneKnowledge, responses: ResponseTable) -> dict[str, TargetFeatures]:
    """One table per embedding table, gene set, text and graph of the knowledge, and co-expression in training.

    Rows have unit length. Sparse views are turned to their leading principal axes.
    """
    views = [view for view in views_of(knowledge) if view.form == "cosine" and not view.heat]
    return {view.name: _table(view) for view in [*views, *response_view(responses)]}


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
