"""The network value: weighted, possibly signed, directed edges over genes, strongest first, without self-loops."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import sparse

from perturbcast.errors import BadNetwork, BadOption, UnknownGenes, UnknownOption, did_you_mean
from perturbcast.genes.graphs import graph_of_edges
from perturbcast.genes.knowledge import GeneGraph

COLUMNS = ("probability", "ci_low", "ci_high", "stability", "p_value")  # what a method may know of an edge
FLAGS = ("is_perturbed", "is_measured", "is_extended")  # what is known of a gene
EDGE_TABLE = ("source", "target", "weight", "sign", *COLUMNS, "extended")


@dataclass(frozen=True, eq=False)
class Network:
    """A gene regulatory network. Make one with `of_matrix`, `of_edges` or `from_graph`.

    `weight` is the score by which edges are ranked, above 0, on the method's own scale; `sign` is +1 where the source
    raises its target, -1 where it lowers it, 0 where unknown. Edges come strongest first, equal ones by name.
    """

    genes: np.ndarray  # (gene,) object dtype of str, unique
    source_code: np.ndarray  # (edge,) int64 into `genes`
    target_code: np.ndarray  # (edge,) int64 into `genes`
    weight: np.ndarray  # (edge,) float64 > 0
    sign: np.ndarray  # (edge,) int64: -1, 0 or 1
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)  # of COLUMNS, (edge,) float64, NaN where unknown
    is_perturbed: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))  # (gene,)
    is_measured: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))  # (gene,)
    is_extended: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))  # (gene,) G+ of GPO-VAE
    method: str = ""
    source: str = ""  # where it comes from: screen, file, settings

    # --------------------------------------------------------------------------------------------------------- making
    @classmethod
    def of_edges(
        cls,
        genes: Iterable[str],
        source_code: np.ndarray,
        target_code: np.ndarray,
        weight: np.ndarray,
        *,
        sign: np.ndarray | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
        is_perturbed: np.ndarray | None = None,
        is_measured: np.ndarray | None = None,
        is_extended: np.ndarray | None = None,
        method: str = "",
        source: str = "",
    ) -> "Network":
        """A network of edges (edge,) given as positions in `genes`; weight 0 means no edge, self-loops are dropped.

        Flags default to: every gene measured, none extended, perturbed where it is the source of an edge.
        BadNetwork for repeated edges or genes, and for weights or signs that cannot be.
        """
        names = np.array([str(gene) for gene in genes], dtype=object)
        weight = np.asarray(weight, dtype=np.float64)
        signs = np.zeros(len(weight)) if sign is None else np.asarray(sign, dtype=np.float64)
        _check(names, source_code, target_code, weight, signs)
        kept = np.flatnonzero((np.asarray(source_code) != np.asarray(target_code)) & (weight > 0))
        rank = np.argsort(np.argsort(names.astype(str), kind="stable"), kind="stable")
        starts, ends = np.asarray(source_code, dtype=np.int64)[kept], np.asarray(target_code, dtype=np.int64)[kept]
        order = np.lexsort((rank[ends], rank[starts], -weight[kept]))
        chosen = kept[order]
        known = {name: np.asarray(values, dtype=np.float64)[chosen] for name, values in (columns or {}).items()}
        unknown = [name for name in known if name not in COLUMNS]
        if unknown:
            raise UnknownOption(f"An edge has no column {unknown[0]!r}. {did_you_mean(unknown[0], COLUMNS)}")
        perturbed = np.isin(np.arange(len(names)), starts) if is_perturbed is None else is_perturbed
        return cls(
            genes=names,
            source_code=starts[order],
            target_code=ends[order],
            weight=weight[chosen],
            sign=np.sign(signs[chosen]).astype(np.int64),
            columns={name: values for name, values in known.items() if not np.isnan(values).all()},
            is_perturbed=np.asarray(perturbed, dtype=bool),
            is_measured=np.ones(len(names), dtype=bool) if is_measured is None else np.asarray(is_measured, dtype=bool),
            is_extended=np.zeros(len(names), dtype=bool) if is_extended is None else np.asarray(is_extended, bool),
            method=method,
            source=source,
        )

    @classmethod
    def of_matrix(
        cls,
        genes: Iterable[str],
        weights: np.ndarray | sparse.csr_matrix,
        *,
        sign: np.ndarray | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
        is_perturbed: np.ndarray | None = None,
        is_measured: np.ndarray | None = None,
        is_extended: np.ndarray | None = None,
        method: str = "",
        source: str = "",
    ) -> "Network":
        """A network of a square (gene, gene) matrix of weights >= 0, row regulates column; the diagonal is ignored.

        `sign` and `columns` are dense matrices of that shape. See `of_edges`.
        """
        entries = sparse.coo_matrix(weights)
        rows, cols = entries.row.astype(np.int64), entries.col.astype(np.int64)
        return cls.of_edges(
            genes,
            rows,
            cols,
            entries.data,
            sign=None if sign is None else np.asarray(sign)[rows, cols],
            columns={name: np.asarray(values)[rows, cols] for name, values in (columns or {}).items()},
            is_perturbed=is_perturbed,
            is_measured=is_measured,
            is_extended=is_extended,
            method=method,
            source=source,
        )

    @classmethod
    def from_graph(cls, graph: GeneGraph) -> "Network":
        """The network of a prior graph: its weights, and its signs where it has any."""
        sign = None if graph.signs is None else _at(graph.signs, graph.weights)
        edges = sparse.coo_matrix(graph.weights)
        return cls.of_edges(
            graph.genes,
            edges.row.astype(np.int64),
            edges.col.astype(np.int64),
            edges.data,
            sign=sign,
            method=graph.name,
            source=graph.source,
        )

    # -------------------------------------------------------------------------------------------------------- reading
    @property
    def n_genes(self) -> int:
        """How many genes."""
        return len(self.genes)

    @property
    def n_edges(self) -> int:
        """How many edges."""
        return len(self.weight)

    @property
    def is_signed(self) -> bool:
        """Whether any edge has a sign."""
        return bool(self.sign.any())

    @cached_property
    def place(self) -> dict[str, int]:
        """Position of each gene by name."""
        return {str(gene): number for number, gene in enumerate(self.genes)}

    @property
    def weights(self) -> sparse.csr_matrix:
        """(gene, gene) weights, row regulates column."""
        return self._matrix(self.weight)

    @property
    def signs(self) -> sparse.csr_matrix:
        """(gene, gene) signs; 0 where unknown or no edge."""
        matrix = self._matrix(self.sign)
        matrix.eliminate_zeros()
        return matrix

    def _matrix(self, values: np.ndarray) -> sparse.csr_matrix:
        at = (self.source_code, self.target_code)
        return sparse.csr_matrix((values, at), shape=(self.n_genes, self.n_genes))

    def column(self, name: str) -> np.ndarray:
        """(edge,) float64 values of an optional column, NaN where the method knows none; UnknownOption."""
        if name in ("weight", "sign"):
            return np.asarray(getattr(self, name), dtype=np.float64)
        if name not in COLUMNS:
            raise UnknownOption(f"An edge has no column {name!r}. {did_you_mean(name, COLUMNS)}")
        return self.columns.get(name, np.full(self.n_edges, np.nan))

    @property
    def extended(self) -> np.ndarray:
        """(edge,) bool: the edge starts or ends at an extended gene."""
        return np.asarray(self.is_extended[self.source_code] | self.is_extended[self.target_code])

    def edges(self) -> pd.DataFrame:
        """One row per edge, strongest first: source, target, weight, sign, probability, interval, p, extended."""
        table = {
            "source": self.genes[self.source_code],
            "target": self.genes[self.target_code],
            "weight": self.weight,
            "sign": self.sign,
            **{name: self.column(name) for name in COLUMNS},
            "extended": self.extended,
        }
        return pd.DataFrame(table, columns=list(EDGE_TABLE))

    def between(
        self, sources: Iterable[str], targets: Iterable[str], *, column: str = "weight", missing: float = 0.0
    ) -> Float[np.ndarray, "source target"]:
        """Values of a column from sources to targets, by name; `missing` where there is no edge or no such gene."""
        rows = [self.place.get(str(gene), -1) for gene in sources]
        cols = [self.place.get(str(gene), -1) for gene in targets]
        row_of, col_of = np.full(self.n_genes + 1, -1), np.full(self.n_genes + 1, -1)
        row_of[rows], col_of[cols] = np.arange(len(rows)), np.arange(len(cols))
        row_of[-1] = col_of[-1] = -1
        row, col = row_of[self.source_code], col_of[self.target_code]
        inside = (row >= 0) & (col >= 0)
        values = np.full((len(rows), len(cols)), float(missing))
        values[row[inside], col[inside]] = self.column(column)[inside]
        return values

    # ------------------------------------------------------------------------------------------------------- choosing
    def take(self, edges: np.ndarray) -> "Network":
        """Some edges, by position or mask; all genes stay."""
        edges = np.flatnonzero(edges) if np.asarray(edges).dtype == bool else np.sort(np.asarray(edges, dtype=np.int64))
        return replace(
            self,
            source_code=self.source_code[edges],
            target_code=self.target_code[edges],
            weight=self.weight[edges],
            sign=self.sign[edges],
            columns={name: values[edges] for name, values in self.columns.items()},
        )

    def top(self, k: int) -> "Network":
        """The k strongest edges, or all where there are fewer; BadOption for k < 0."""
        if k < 0:
            raise BadOption(f"top={k} edges is below 0.", "Pass 0 or more.")
        return self.take(np.arange(min(k, self.n_edges)))

    def threshold(self, above: float, *, column: str = "weight") -> "Network":
        """The edges whose weight, or another column, is greater than `above`; BadOption where it is not known."""
        values = self.column(column)
        if self.n_edges and np.isnan(values).all():
            raise BadOption(f"method {self.method!r} gives its edges no {column}.", "Threshold their weight.")
        return self.take(values > above)

    def among(self, genes: Iterable[str], *, unknown: str = "refuse") -> "Network":
        """The network among some genes, in that order; genes that it lacks are kept without edges.

        `unknown`: what becomes of edges of the network with other genes: "refuse" raises UnknownGenes, "drop".
        """
        if unknown not in ("refuse", "drop"):
            raise BadOption(f"unknown={unknown!r} is neither 'refuse' nor 'drop'.", "")
        names = np.array(list(dict.fromkeys(str(gene) for gene in genes)), dtype=object)
        new = {gene: number for number, gene in enumerate(names)}
        code = np.array([new.get(str(gene), -1) for gene in self.genes], dtype=np.int64)
        if unknown == "refuse":
            self._refuse_unknown(code, names)
        kept = np.flatnonzero((code[self.source_code] >= 0) & (code[self.target_code] >= 0))
        old = np.array([self.place.get(gene, -1) for gene in names], dtype=np.int64)
        flags = {name: np.append(getattr(self, name), False)[old] for name in FLAGS}
        return Network.of_edges(
            names,
            code[self.source_code[kept]],
            code[self.target_code[kept]],
            self.weight[kept],
            sign=self.sign[kept],
            columns={name: values[kept] for name, values in self.columns.items()},
            **flags,
            method=self.method,
            source=self.source,
        )

    def _refuse_unknown(self, code: np.ndarray, names: np.ndarray) -> None:
        used = np.union1d(self.source_code, self.target_code)
        missing = [str(gene) for gene in self.genes[used[code[used] < 0]]]
        if missing:
            shown = ", ".join(repr(gene) for gene in missing[:3])
            fact = f"{len(missing)} of {len(used)} genes of the network are not in the data: {shown}."
            raise UnknownGenes(fact, f"{did_you_mean(missing[0], names)} {UnknownGenes.remedy}")

    def as_graph(self) -> GeneGraph:
        """The network as a prior graph, directed, for models that read gene knowledge."""
        return graph_of_edges(
            self.method or "network",
            self.genes[self.source_code].astype(str),
            self.genes[self.target_code].astype(str),
            weights=self.weight,
            signs=self.sign.astype(np.float64) if self.is_signed else None,
            directed=True,
            source=self.source,
        )


def _at(signs: sparse.csr_matrix, weights: sparse.csr_matrix) -> np.ndarray:
    """Signs at the stored entries of the weights."""
    entries = sparse.coo_matrix(weights)
    return np.asarray(signs[entries.row, entries.col], dtype=np.float64).ravel()


def _check(
    genes: np.ndarray, source_code: np.ndarray, target_code: np.ndarray, weight: np.ndarray, sign: np.ndarray
) -> None:
    if len(set(genes)) != len(genes):
        raise BadNetwork(f"{len(genes) - len(set(genes))} gene names of the network stand more than once.")
    if not len(source_code) == len(target_code) == len(weight) == len(sign):
        raise BadNetwork("Sources, targets, weights and signs differ in number.")
    codes = np.concatenate([source_code, target_code]) if len(weight) else np.zeros(0, dtype=np.int64)
    if len(codes) and not (codes.min() >= 0 and codes.max() < len(genes)):
        raise BadNetwork("An edge names a gene that the network does not have.")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise BadNetwork("A weight is negative, infinite or missing.")
    if not np.isin(sign, (-1, 0, 1)).all():
        raise BadNetwork("A sign is none of -1, 0 and 1.")
    pairs = np.asarray(source_code, dtype=np.int64) * max(len(genes), 1) + np.asarray(target_code, dtype=np.int64)
    if len(np.unique(pairs)) != len(pairs):
        raise BadNetwork(f"{len(pairs) - len(np.unique(pairs))} edges stand more than once.")
