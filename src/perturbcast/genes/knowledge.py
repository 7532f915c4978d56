"""What is known of genes from elsewhere, under one naming: gene table, embedding tables, gene graphs, gene sets."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, overload

import numpy as np
import pandas as pd
from scipy import sparse

Derived = TypeVar("Derived")


@dataclass(frozen=True)
class GeneTable:
    """One row per gene id: columns symbol, ensembl_id, aliases (tuple), biotype, description, sequence (any may be "").

    A symbol may stand in several rows where an assembly has several loci of a gene.
    """

    frame: pd.DataFrame
    source: str = ""


@dataclass(frozen=True)
class EmbeddingTable:
    """Genes x features, real numbers without NaN."""

    name: str
    genes: np.ndarray  # (target,) object dtype of str, unique
    matrix: np.ndarray  # (target, feature) float32
    source: str = ""

    def rows(self, genes: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Features of the genes asked for, zero where unknown, and which are known; see `align`."""
        return align(self, genes)


@dataclass(frozen=True)
class GeneGraph:
    """A prior graph over genes: weights >= 0, sign in {-1, 0, 1} where known; row = source, column = destination."""

    name: str
    genes: np.ndarray  # (target,) object dtype of str, unique
    weights: sparse.csr_matrix  # (target, target)
    directed: bool = False
    signs: sparse.csr_matrix | None = None
    source: str = ""

    def rows(self, genes: Iterable[str]) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Outgoing edges of the genes asked for to all genes of the graph, and which are known; see `align`."""
        return align(self, genes)

    def between(self, genes: Iterable[str]) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Weights among the genes asked for (gene, gene), zero where unknown, and which are known."""
        picked, known = _selector(self.genes, genes)
        return sparse.csr_matrix(picked @ self.weights @ picked.T), known


@dataclass(frozen=True)
class GeneSets:
    """Named sets of genes (GMT): a sparse 0/1 matrix of genes x sets."""

    name: str
    genes: np.ndarray  # (target,) object dtype of str, unique
    sets: tuple[str, ...]
    membership: sparse.csr_matrix  # (target, set) 0/1
    source: str = ""

    def rows(self, genes: Iterable[str]) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Memberships of the genes asked for (gene, set), and which are in any set; see `align`."""
        return align(self, genes)


@dataclass(frozen=True)
class GeneKnowledge:
    """Everything known of genes, keyed by name, symbols resolved; `notes` says what was recognised and what not."""

    table: GeneTable | None = None
    embeddings: Mapping[str, EmbeddingTable] = field(default_factory=dict)
    graphs: Mapping[str, GeneGraph] = field(default_factory=dict)
    gene_sets: Mapping[str, GeneSets] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)  # symbol -> description or summary
    sequences: Mapping[str, str] = field(default_factory=dict)  # symbol -> DNA
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return not (self.embeddings or self.graphs or self.gene_sets or self.texts or self.sequences)

    def known_genes(self) -> set[str]:
        """Every symbol that any table, graph, set or text names."""
        named: set[str] = set(self.texts) | set(self.sequences)
        holders: Iterable[EmbeddingTable | GeneGraph | GeneSets] = (
            *self.embeddings.values(),
            *self.graphs.values(),
            *self.gene_sets.values(),
        )
        for holder in holders:
            named.update(holder.genes)
        return named

    @cached_property
    def _derived(self) -> dict[Callable[["GeneKnowledge"], Any], Any]:
        return {}

    def derived(self, make: Callable[["GeneKnowledge"], Derived]) -> Derived:
        """What `make` makes of this knowledge, made once: fits on the same knowledge share it, so nobody changes it."""
        if make not in self._derived:
            self._derived[make] = make(self)
        found: Derived = self._derived[make]
        return found


@overload
def align(holder: EmbeddingTable, genes: Iterable[str]) -> tuple[np.ndarray, np.ndarray]: ...


@overload
def align(holder: GeneGraph | GeneSets, genes: Iterable[str]) -> tuple[sparse.csr_matrix, np.ndarray]: ...


def align(
    holder: EmbeddingTable | GeneGraph | GeneSets, genes: Iterable[str]
) -> tuple[np.ndarray | sparse.csr_matrix, np.ndarray]:
    """One row per gene asked for, in that order, zero where the holder does not know it; and which it knows (bool).

    Rows of an embedding table are dense float32, those of graphs (weights) and gene sets (0/1) sparse.
    """
    picked, known = _selector(holder.genes, genes)
    if isinstance(holder, EmbeddingTable):
        rows = np.zeros((len(known), holder.matrix.shape[1]), dtype=np.float32)
        rows[known] = holder.matrix[picked.indices]
        return rows, known
    content = holder.weights if isinstance(holder, GeneGraph) else holder.membership
    return sparse.csr_matrix(picked @ content), known


def _selector(own: np.ndarray, genes: Iterable[str]) -> tuple[sparse.csr_matrix, np.ndarray]:
    """A 0/1 matrix (gene, own gene) that picks rows, and which genes are there."""
    asked = list(genes)
    place = pd.Index(own).get_indexer(pd.Index(asked, dtype=object))
    known = place >= 0
    at = (np.flatnonzero(known), place[known])
    picked = sparse.csr_matrix((np.ones(len(at[0])), at), shape=(len(asked), len(own)))
    return picked, known
