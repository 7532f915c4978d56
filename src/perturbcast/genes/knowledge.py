"""What is known of genes from elsewhere, under one naming: gene table, embedding tables, gene graphs, gene sets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse


@dataclass(frozen=True)
class GeneTable:
    """One row per gene: columns symbol, ensembl_id, aliases (tuple), biotype, description, sequence (any may be "")."""

    frame: pd.DataFrame
    source: str = ""


@dataclass(frozen=True)
class EmbeddingTable:
    """Genes x features, real numbers without NaN."""

    name: str
    genes: np.ndarray  # (target,) object dtype of str, unique
    matrix: np.ndarray  # (target, feature) float32
    source: str = ""


@dataclass(frozen=True)
class GeneGraph:
    """A prior graph over genes: weights >= 0, sign in {-1, 0, 1} where known; row = source, column = destination."""

    name: str
    genes: np.ndarray  # (target,) object dtype of str, unique
    weights: sparse.csr_matrix  # (target, target)
    directed: bool = False
    signs: sparse.csr_matrix | None = None
    source: str = ""


@dataclass(frozen=True)
class GeneSets:
    """Named sets of genes (GMT): a sparse 0/1 matrix of genes x sets."""

    name: str
    genes: np.ndarray  # (target,) object dtype of str, unique
    sets: tuple[str, ...]
    membership: sparse.csr_matrix  # (target, set) 0/1
    source: str = ""


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
