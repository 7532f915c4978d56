"""Sufficient statistics per query: the table that point metrics, pseudobulk models and baselines work from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Decision
from perturbcast.errors import UnknownOption


@dataclass(frozen=True)
class ResponseTable:
    """Mean responses of queries, with what is needed to say how noisy they are. Control is never a row.

    For tables read from response files only `response` is known: `control` is NaN, `n_cells`, `variance` and the
    halves are None. `response_halves` uses disjoint control halves, so the two halves are independent.
    """

    name: str
    scale: Scale  # of `expression`; RESPONSE (or ZSCORE) where the file held responses
    genes: np.ndarray  # (gene,) object dtype of str
    queries: tuple[Query, ...]
    response: np.ndarray  # (query, gene) float64: condition minus control of the same context
    contexts: tuple[str, ...]
    control: np.ndarray  # (context, gene) float64 mean of control cells; NaN if unknown
    n_cells: np.ndarray | None = None  # (query,) int64
    variance: np.ndarray | None = None  # (query, gene) between cells, n - 1
    n_control: np.ndarray | None = None  # (context,) int64
    control_variance: np.ndarray | None = None  # (context, gene)
    response_halves: np.ndarray | None = None  # (2, query, gene); NaN rows where a half has no cell
    unit: str = "ln"  # of `response`, for axes and reports
    decisions: tuple[Decision, ...] = ()  # what the reader of a response file decided
    uns: dict[str, Any] = field(default_factory=dict)  # source, perturbation type

    @property
    def n_queries(self) -> int:
        """How many rows."""
        return len(self.queries)

    @property
    def n_genes(self) -> int:
        """How many columns."""
        return len(self.genes)

    @property
    def has_control(self) -> bool:
        """Whether absolute expression is known, not only differences."""
        return bool(np.isfinite(self.control).any())

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions, one per row."""
        return tuple(query.condition for query in self.queries)

    @property
    def context_code(self) -> np.ndarray:
        """(query,) int64 into `contexts`."""
        return np.array([self.contexts.index(query.context) for query in self.queries], dtype=np.int64)

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets of all queries, sorted."""
        return tuple(sorted({target for query in self.queries for target in targets_of(query.condition)}))

    @property
    def control_by_query(self) -> np.ndarray:
        """(query, gene) control mean of each query's context; NaN if unknown."""
        return self.control[self.context_code]

    @property
    def expression(self) -> np.ndarray:
        """(query, gene) mean expression: control plus response; NaN if control is unknown."""
        return self.control_by_query + self.response

    def index(self, queries: Sequence[Query]) -> np.ndarray:
        """Row of each query; UnknownOption if one is missing."""
        row = {query: position for position, query in enumerate(self.queries)}
        missing = [str(query) for query in queries if query not in row]
        if missing:
            raise UnknownOption(f"{len(missing)} queries are not in the table: {missing[:3]}.")
        return np.array([row[query] for query in queries], dtype=np.int64)

    def take(self, rows: np.ndarray) -> "ResponseTable":
        """Some rows, by position or mask, in that order."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            queries=tuple(self.queries[row] for row in rows),
            response=self.response[rows],
            n_cells=None if self.n_cells is None else self.n_cells[rows],
            variance=None if self.variance is None else self.variance[rows],
            response_halves=None if self.response_halves is None else self.response_halves[:, rows],
        )

    def by_query(self) -> "ResponseTable":
        """The same rows in order of query, so that what is learned does not hang on the order of a file."""
        return self.take(np.array(sorted(range(self.n_queries), key=lambda row: self.queries[row]), dtype=np.int64))

    def perturbed_mean(self) -> np.ndarray:
        """(gene,) mean response with one vote per query (spec 0.1, the Δ̄ of the training side)."""
        return self.response.mean(axis=0) if self.n_queries else np.zeros(self.n_genes)
