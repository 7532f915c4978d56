"""How alike genes are by the sets they share, and where a random walk from them goes in a graph."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse

from perturbcast.errors import BadOption
from perturbcast.genes.knowledge import GeneGraph


def jaccard(
    memberships: sparse.csr_matrix, others: sparse.csr_matrix | None = None
) -> Float[np.ndarray, "target other"]:
    """Size of the intersection over size of the union of the sets of each pair of genes, in [0, 1]; 0 without sets.

    `memberships` (target, set) and `others` (other, set), default the same, as from `GeneSets.rows`.
    """
    return overlap_similarity(memberships, memberships if others is None else others).toarray()


def idf_cosine(
    memberships: sparse.csr_matrix,
    others: sparse.csr_matrix | None = None,
    *,
    set_weights: Float[np.ndarray, " set"],
) -> Float[np.ndarray, "target other"]:
    """Cosine of the memberships of each pair of genes, each set weighted (see `idf_weights`), in [0, 1]."""
    others = memberships if others is None else others
    return overlap_similarity(memberships, others, set_weights=set_weights).toarray()


def idf_weights(membership: sparse.csr_matrix) -> Float[np.ndarray, " set"]:
    """Natural log of (number of genes / size of the set): sharing a small set says more than sharing a large one."""
    sizes = np.asarray(membership.sum(axis=0)).ravel()
    return np.log(membership.shape[0] / np.maximum(sizes, 1.0))


def overlap_similarity(
    memberships: sparse.csr_matrix, others: sparse.csr_matrix, *, set_weights: np.ndarray | None = None
) -> sparse.csr_matrix:
    """Jaccard index of each pair of rows, sparse; the weighted cosine where `set_weights` (set,) is given."""
    if set_weights is None:
        shared = sparse.csr_matrix(memberships @ others.T)
        shared.sort_indices()
        sizes, other_sizes = (np.asarray(rows.sum(axis=1)).ravel() for rows in (memberships, others))
        union = other_sizes[shared.indices]
        union += np.repeat(sizes, np.diff(shared.indptr))
        union -= shared.data
        shared.data /= union
        return shared
    weights = sparse.diags_array(set_weights)
    return sparse.csr_matrix(_unit_rows(memberships @ weights) @ _unit_rows(others @ weights).T)


def _unit_rows(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows of length 1; a row of zeros stays zero."""
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags_array(1.0 / np.where(length > 0, length, 1.0)) @ rows)


def diffusion(
    graph: GeneGraph, genes: Iterable[str], *, restart: float = 0.5, n_steps: int = 8
) -> tuple[Float[np.ndarray, "target node"], Bool[np.ndarray, " target"]]:
    """Where a random walk with restart from each gene is found: rows sum to 1, or are zero for unknown genes.

    Column j is gene j of the graph. Edges are followed both ways, in proportion to their weights; `restart` in (0, 1]
    is the chance of going back to the start at each step; what is left after `n_steps`, (1 - restart)^n_steps, is
    counted to the last step. Genes that reach the same places are alike: take the cosine of rows.
    """
    if not 0 < restart <= 1 or n_steps < 1:
        raise BadOption(f"restart is {restart}, n_steps {n_steps}; they must be in (0, 1] and at least 1.")
    ways = sparse.csr_matrix(graph.weights.maximum(graph.weights.T))
    strength = np.asarray(ways.sum(axis=1)).ravel()
    step = sparse.csr_matrix(sparse.diags_array(1.0 / np.where(strength > 0, strength, 1.0)) @ ways)
    step = sparse.csr_matrix(step + sparse.diags_array((strength == 0).astype(float)))  # a lone gene stays at home
    asked = list(genes)
    place = {gene: number for number, gene in enumerate(graph.genes)}
    known = np.array([gene in place for gene in asked], dtype=bool)
    start = np.zeros((len(asked), len(place)), dtype=np.float64)
    start[np.flatnonzero(known), [place[gene] for gene in asked if gene in place]] = 1.0
    walk, found = start, restart * start
    for number in range(1, n_steps + 1):
        walk = np.ascontiguousarray((step.T @ walk.T).T)
        share = (1 - restart) ** number * (restart if number < n_steps else 1.0)
        found += share * walk
    return found, known
