"""How far predictions of a fitted model lie from responses: what the model errs by, and the noise of measured means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from perturbcast.data.conditions import Query
from perturbcast.data.responses import ResponseTable
from perturbcast.models.base import FittedModel

MOST_RESIDUALS = 64  # training queries that are looked at, evenly spaced
LEAST = 0.1  # of the mean square that is not put down to noise or to what the posterior leaves open


@dataclass(frozen=True)
class SamplingNoise:
    """Noise of mean responses: variance between cells, the same for all queries, over cells, and that of control."""

    cell: Float[np.ndarray, " gene"]
    control: Float[np.ndarray, "context gene"]  # variance of the mean of control
    n_cells: Float[np.ndarray, " query"]

    @classmethod
    def of(cls, table: ResponseTable) -> "SamplingNoise":
        """The noise of a table of training; 0 where cells or variances are not known."""
        nothing = cls(np.zeros(table.n_genes), np.zeros_like(table.control), np.ones(table.n_queries))
        if table.variance is None or table.n_cells is None or table.control_variance is None or table.n_control is None:
            return nothing
        variance = np.vstack([table.variance, table.control_variance])
        weight = np.concatenate([table.n_cells, table.n_control]) - 1.0
        known = np.isfinite(variance).all(axis=1) & (weight > 0)
        if not known.any():
            return nothing
        cell = np.average(variance[known], axis=0, weights=weight[known])
        control = np.nan_to_num(table.control_variance) / np.maximum(table.n_control, 1)[:, None]
        return cls(cell, control, np.maximum(table.n_cells, 1).astype(np.float64))

    def variance(self, row: int | None, context: int) -> Float[np.ndarray, " gene"]:
        """Of the response of a training query measured anew, or of one with the median number of cells."""
        n_cells = float(np.median(self.n_cells)) if row is None else float(self.n_cells[row])
        return np.asarray(self.cell / n_cells + self.control[context])

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which `restored` makes it again."""
        arrays = {"noise.cell": self.cell, "noise.control": self.control, "noise.n_cells": self.n_cells}
        return {name: array.astype(np.float32) for name, array in arrays.items()}

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray]) -> "SamplingNoise":
        """The noise whose `state` is among these arrays."""
        parts = (state[f"noise.{name}"].astype(np.float64) for name in ("cell", "control", "n_cells"))
        return cls(*parts)


def residual_of(
    fitted: FittedModel,
    table: ResponseTable,
    *,
    spread: Callable[[Query], np.ndarray],
    noise: SamplingNoise,
) -> Float[np.ndarray, " gene"]:
    """(gene,) what a model errs by beyond `spread`, as a standard deviation.

    Root of the mean over training queries of (observed - predicted)² - spread² - noise², at least `LEAST` of the first.
    """
    rows: Int[np.ndarray, " row"] = np.arange(0, table.n_queries, max(1, -(-table.n_queries // MOST_RESIDUALS)))
    found = fitted.predict([table.queries[row] for row in rows])
    rows, predicted = rows[found.predicted], found.response[found.predicted]
    square = ((table.response[rows] - predicted) ** 2).mean(axis=0)
    known = np.mean(
        [spread(table.queries[row]) ** 2 + noise.variance(int(row), int(table.context_code[row])) for row in rows],
        axis=0,
    )
    return np.asarray(np.sqrt(np.maximum(square - known, LEAST * square)), dtype=np.float32)
