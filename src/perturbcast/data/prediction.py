"""Predictions: a mean response per query, how uncertain it is, what it rests on, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbcast.data.conditions import Query
from perturbcast.data.scale import Scale

if TYPE_CHECKING:
    from anndata import AnnData


class Support(StrEnum):
    """What a prediction rests on, strongest first."""

    CONTROL = "control"  # the query is control itself
    SEEN = "seen"  # this very query was in training
    SINGLES = "singles"  # all its targets were seen singly
    PARTIAL = "partial"  # some of its targets were seen
    CONTEXT = "context"  # the condition was seen in another context
    NEIGHBOURS = "neighbours"  # like genes were seen: embedding, graph, gene sets
    MEAN = "mean"  # only what all perturbations share
    NOTHING = "nothing"  # refused; the reason says why


@dataclass(frozen=True)
class Prediction:
    """Predicted responses. A refused query has a NaN row, support `nothing` and a coded reason."""

    queries: tuple[Query, ...]
    genes: np.ndarray  # (gene,) object dtype of str
    response: np.ndarray  # (query, gene) float64
    control: np.ndarray  # (query, gene) control mean it is relative to; NaN if unknown
    support: tuple[Support, ...]
    reason: tuple[str, ...]  # "" when predicted, else "E503 CannotPredict: ..."
    scale: Scale
    model: str = ""
    sd: np.ndarray | None = None  # (query, gene) standard deviation of the mean response

    @property
    def expression(self) -> np.ndarray:
        """(query, gene) predicted mean expression; NaN if control is unknown."""
        return self.control + self.response

    @property
    def predicted(self) -> np.ndarray:
        """(query,) bool: there is a prediction."""
        return np.array([not reason for reason in self.reason], dtype=bool)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Prediction":
        """Some rows in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        return Prediction(
            queries=tuple(self.queries[row] for row in rows),
            genes=self.genes,
            response=self.response[rows],
            control=self.control[rows],
            support=tuple(self.support[row] for row in rows),
            reason=tuple(self.reason[row] for row in rows),
            scale=self.scale,
            model=self.model,
            sd=None if self.sd is None else self.sd[rows],
        )

    def to_anndata(self) -> "AnnData":
        """AnnData: one row per query; obs condition, context, support, reason; layers response, expression, sd."""
        from anndata import AnnData

        obs = pd.DataFrame(
            {
                "condition": [query.condition for query in self.queries],
                "context": [query.context for query in self.queries],
                "support": [str(support) for support in self.support],
                "reason": list(self.reason),
            },
            index=pd.Index([str(row) for row in range(len(self.queries))]),
        )
        sd = np.full_like(self.response, np.nan) if self.sd is None else self.sd
        layers = {"response": self.response, "expression": self.expression, "sd": sd}
        layers = {name: layer.astype(np.float32) for name, layer in layers.items()}
        uns = {"kind": "response", "scale": str(self.scale), "model": self.model}
        var = pd.DataFrame(index=pd.Index(self.genes.astype(str)))
        return AnnData(X=layers["response"].copy(), obs=obs, var=var, layers=layers, uns=uns)

    def to_frame(self) -> pd.DataFrame:
        """Long table: condition, context, support, reason, gene, response, expression, sd."""
        n_queries, n_genes = self.response.shape
        sd = np.full_like(self.response, np.nan) if self.sd is None else self.sd
        per_query = {
            "condition": [query.condition for query in self.queries],
            "context": [query.context for query in self.queries],
            "support": [str(support) for support in self.support],
            "reason": list(self.reason),
        }
        columns = {name: np.repeat(np.array(values, dtype=object), n_genes) for name, values in per_query.items()}
        columns["gene"] = np.tile(self.genes, n_queries)
        columns |= {"response": self.response.ravel(), "expression": self.expression.ravel(), "sd": sd.ravel()}
        return pd.DataFrame(columns)
