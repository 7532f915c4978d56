"""Gene views: what one source of knowledge says of a gene, as a row of features; likeness is a product of two rows.

Kept raw (set memberships, adjacency, embeddings), so that a saved model can look at any gene its knowledge names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import sparse

from perturbcast.models.base import decode_text, encode_text

Form = Literal["cosine", "rbf", "jaccard"]
Matrix = Any  # a scipy CSR matrix or a numpy array, float32
HEAT_STEPS = 5  # terms of the series of exp(-tL)
HEAT_KEPT = 64  # largest entries kept per row and term: the rest is far below rounding of the kernel
REMEMBERED = 4  # groups of diffused rows that a view keeps at hand: those asked of, and those of training
RBF_WIDTH = 0.5  # k = exp(-(1 - cosine) / width): .37 at cosine .5


@dataclass(frozen=True)
class GeneView:
    """Rows of features of some genes. `heat` > 0: rows are diffused over the graph that `matrix` then is.

    `form` says how two rows make a kernel value: their cosine, a Gaussian of their distance on the unit sphere, or
    the Jaccard index of two sets. All three are positive semi-definite and 1 for a known gene with itself.
    """

    name: str
    genes: np.ndarray  # (target,) object dtype of str
    matrix: Matrix  # (target, feature) float32; (target, target) if diffused
    form: Form = "cosine"
    heat: float = 0.0  # diffusion time t of exp(-tL)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {str(gene): row for row, gene in enumerate(self.genes)}

    def knows(self, targets: Iterable[str]) -> np.ndarray:
        """(target,) bool: the view has a row for it."""
        return np.array([target in self._row for target in targets], dtype=bool)

    def rows(self, targets: Sequence[str]) -> Matrix:
        """(target, feature) features, of unit length except for sets; zero for a gene that is not known."""
        known = self.knows(targets)
        index = np.array([self._row[target] for target in targets if target in self._row], dtype=np.int64)
        found = self._diffused(index) if self.heat else self.matrix[index]
        found = found if self.form == "jaccard" else unit_rows(found)
        place: Any = sparse.csr_matrix(
            (np.ones(len(index), dtype=np.float32), (np.flatnonzero(known), np.arange(len(index)))),
            shape=(len(known), len(index)),
        )
        return place @ found

    @cached_property
    def _remembered(self) -> list[tuple[np.ndarray, sparse.csr_matrix]]:
        """Groups of diffused rows, last used last: (row of the group for each node, or -1; the rows)."""
        return []

    def _diffused(self, index: np.ndarray) -> sparse.csr_matrix:
        """Rows of the heat kernel, taken from a group that has them all where there is one."""
        for place, (row, found) in enumerate(self._remembered):
            if (row[index] >= 0).all():
                self._remembered.append(self._remembered.pop(place))
                return found[row[index]]
        found = diffused(self.matrix, index, time=self.heat)
        row = np.full(self.matrix.shape[0], -1, dtype=np.int64)
        row[index] = np.arange(len(index))
        self._remembered.append((row, found))
        del self._remembered[:-REMEMBERED]
        return found

    def kernel(self, left: Matrix, right: Matrix) -> Float[np.ndarray, "left right"]:
        """Likeness of rows to rows, as `rows` gives them; 0 where either gene is not known."""
        product = left @ right.T
        product = product if isinstance(product, np.ndarray) else product.toarray()
        product = np.asarray(product, dtype=np.float64)
        known = _squares(left) > 0, _squares(right) > 0
        if self.form == "rbf":
            product = np.exp((product - 1.0) / RBF_WIDTH)
        elif self.form == "jaccard":
            union = _squares(left)[:, None] + _squares(right)[None, :] - product
            product = product / np.where(union > 0, union, 1.0)
        return product * known[0][:, None] * known[1][None, :]

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which `restored_view` makes the view again."""
        arrays = {"genes": encode_text(self.genes), "about": encode_text([self.name, self.form, repr(self.heat)])}
        if isinstance(self.matrix, np.ndarray):
            return arrays | {"dense": np.asarray(self.matrix, dtype=np.float32)}
        csr = sparse.csr_matrix(self.matrix, dtype=np.float32)
        return arrays | {
            "data": csr.data,
            "indices": csr.indices.astype(np.int32),
            "indptr": csr.indptr.astype(np.int64),
            "shape": np.array(csr.shape, dtype=np.int64),
        }


def restored_view(state: Mapping[str, np.ndarray]) -> GeneView:
    """The view whose `state` this is."""
    name, form, heat = decode_text(state["about"])
    if "dense" in state:
        matrix: Matrix = state["dense"]
    else:
        parts = (state["data"], state["indices"], state["indptr"])
        n_rows, n_columns = (int(size) for size in state["shape"])
        matrix = sparse.csr_matrix(parts, shape=(n_rows, n_columns))
    genes = np.array(decode_text(state["genes"]), dtype=object)
    return GeneView(name, genes, matrix, form=form, heat=float(heat))  # type: ignore[arg-type]


def known_rows(view: GeneView) -> GeneView:
    """The view without the genes of which it says nothing: rows of zeros."""
    kept = np.flatnonzero(_squares(view.matrix) > 0)
    return (
        view
        if len(kept) == len(view.genes) or view.heat
        else replace(view, genes=view.genes[kept], matrix=view.matrix[kept])
    )


def unit_rows(matrix: Matrix) -> Matrix:
    """The rows divided by their length; zero rows stay zero."""
    length = np.sqrt(_squares(matrix))
    scale = 1.0 / np.where(length > 0, length, 1.0)
    if isinstance(matrix, np.ndarray):
        return np.asarray(matrix, dtype=np.float64) * scale[:, None]
    return sparse.csr_matrix(sparse.diags_array(scale) @ matrix)


def diffused(adjacency: sparse.csr_matrix, index: np.ndarray, *, time: float) -> sparse.csr_matrix:
    """Rows `index` of exp(-t (I - S)), S the normalised adjacency; every term keeps its largest entries."""
    n_nodes = adjacency.shape[0]
    start = (np.ones(len(index)), (np.arange(len(index)), index))
    term = sparse.csr_matrix(start, shape=(len(index), n_nodes))
    total = term.copy()
    for step in range(1, HEAT_STEPS + 1):
        term = largest_per_row(sparse.csr_matrix(term @ adjacency) * (time / step), keep=HEAT_KEPT)
        total = total + term
    return largest_per_row(sparse.csr_matrix(total) * np.exp(-time), keep=HEAT_KEPT)


def normalised(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """D^-1/2 A D^-1/2 of the symmetrised weights; isolated nodes keep empty rows."""
    symmetric = weights.maximum(weights.T).astype(np.float64)
    degree = np.asarray(symmetric.sum(axis=1)).ravel()
    scale: Any = sparse.diags_array(1.0 / np.sqrt(np.where(degree > 0, degree, 1.0)))
    return sparse.csr_matrix(scale @ symmetric @ scale, dtype=np.float32)


def largest_per_row(matrix: sparse.csr_matrix, *, keep: int) -> sparse.csr_matrix:
    """The `keep` largest entries of every row."""
    matrix = sparse.csr_matrix(matrix)
    kept = [np.arange(0)]
    if (np.diff(matrix.indptr) <= keep).all():
        return matrix
    for start, end in pairwise(matrix.indptr):
        inside = np.arange(start, end)
        if end - start > keep:
            inside = start + np.sort(np.argpartition(-matrix.data[start:end], keep)[:keep])
        kept.append(inside)
    index = np.concatenate(kept)
    indptr = np.concatenate([[0], np.cumsum([len(part) for part in kept[1:]])])
    return sparse.csr_matrix((matrix.data[index], matrix.indices[index], indptr), shape=matrix.shape)


def _squares(matrix: Matrix) -> np.ndarray:
    """(row,) squared length."""
    if not isinstance(matrix, np.ndarray):
        return np.asarray(matrix.multiply(matrix).sum(axis=1), dtype=np.float64).ravel()
    return np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64)
