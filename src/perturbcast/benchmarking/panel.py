"""The scores of one dataset under one split as a matrix, and the means of its columns over conditions and seeds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import sparse

from perturbcast.benchmarking.intervals import Interval, Resamples, draw_resamples, mean_interval

EVERY = "*"  # the condition of a score that stands for all queries together
REFUSED = "prediction"  # the metric of a row that stands for a refused query
ROW = ["seed", "fold", "condition", "context"]
COLUMN = ["model", "metric", "gene_set"]


@dataclass(frozen=True)
class Panel:
    """A row is a query under one seed and fold, a column a metric of a model on a gene set; NaN where unscored."""

    columns: pd.MultiIndex  # model, metric, gene_set, in the order of first appearance
    values: Float[ndarray, "row column"]
    seeds: Int[ndarray, " row"]  # position of the row's seed
    queries: Int[ndarray, " row"]  # position of the row's query (condition and context)
    clusters: Int[ndarray, " row"]  # position of the row's condition in `resamples`; the last one is `*`
    resamples: Resamples
    n_undefined: Int[ndarray, " column"]  # rows without a value, `*` included
    reasons: tuple[str, ...]  # of each column without any value, the first reason given

    @property
    def n_clusters(self) -> int:
        """Conditions, and one more that stands for all of them."""
        return len(self.resamples.conditions) + 1

    def interval(self, values: Float[ndarray, "row column"]) -> Interval:
        """Means over queries, then seeds, with 95 % intervals over conditions."""
        total, count = self._sums(values)
        found = mean_interval(total[:-1], count[:-1], self.resamples)
        whole = count[-1] > 0
        mean = found.mean.copy()
        mean[whole] = total[:, whole].sum(axis=0) / count[:, whole].sum(axis=0)
        return Interval(mean, found.low, found.high)

    def mean(self, values: Float[ndarray, "row column"]) -> Float[ndarray, " column"]:
        """Means over queries, then seeds; NaN where a column has no value."""
        total, count = (sums.sum(axis=0) for sums in self._sums(values))
        return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)

    def by_condition(self, values: Float[ndarray, "row column"]) -> Float[ndarray, "condition column"]:
        """Mean over the rows of each condition; NaN where it has none."""
        present = np.isfinite(values)
        sums, counts = (self._gather(self.clusters, part)[:-1] for part in (np.where(present, values, 0.0), present))
        return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)

    def n_queries(self, values: Float[ndarray, "row column"]) -> Int[ndarray, " column"]:
        """How many queries have a value under some seed; `*` counts as none."""
        present = np.isfinite(values) & (self.clusters < self.n_clusters - 1)[:, None]
        return (self._gather(self.queries, present) > 0).sum(axis=0)

    def n_conditions(self, values: Float[ndarray, "row column"]) -> Int[ndarray, " column"]:
        """How many conditions have a value; `*` counts as none."""
        return np.isfinite(self.by_condition(values)).sum(axis=0)

    def _sums(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(cluster, column) weighted sums of values and of weights: each seed weighs the same, and so do its rows."""
        present = np.isfinite(values)
        per_seed = self._gather(self.seeds, present)  # (seed, column)
        weight = np.divide(1.0, per_seed, out=np.zeros(per_seed.shape), where=per_seed > 0)
        weight = np.where(present, weight[self.seeds], 0.0)
        weighted = np.where(present, values, 0.0) * weight
        return tuple(self._gather(self.clusters, part, size=self.n_clusters) for part in (weighted, weight))  # type: ignore[return-value]

    def _gather(self, group: np.ndarray, values: np.ndarray, *, size: int | None = None) -> np.ndarray:
        """(group, column) sums of the rows of each group."""
        n_groups = size or max(int(group.max(initial=-1)) + 1, self.n_clusters if group is self.clusters else 0)
        shape = (n_groups, len(group))
        return sparse.csr_matrix((np.ones(len(group)), (group, np.arange(len(group)))), shape=shape) @ values.astype(
            float
        )


def panel_of(scores: pd.DataFrame, *, n_bootstrap: int = 1000, seed: int = 0) -> Panel:
    """The panel of the scores of one dataset and split; rows of refused queries are left out."""
    scored = scores[scores["metric"] != REFUSED]
    rows, about = _numbered(scored, ROW)
    columns, column_keys = _numbered(scored, COLUMN)
    value = scored["value"].to_numpy(dtype=float)
    values = np.full((len(about), len(column_keys)), np.nan)
    values[rows, columns] = value
    conditions = sorted(set(about["condition"]) - {EVERY})
    position = {condition: row for row, condition in enumerate(conditions)} | {EVERY: len(conditions)}
    return Panel(
        columns=pd.MultiIndex.from_frame(column_keys),
        values=values,
        seeds=pd.factorize(about["seed"], sort=True)[0].astype(np.int64),
        queries=_numbered(about, ["condition", "context"])[0],
        clusters=about["condition"].map(position).to_numpy(dtype=np.int64),
        resamples=draw_resamples(conditions or [EVERY], n_bootstrap=n_bootstrap, seed=seed),
        n_undefined=np.bincount(columns[np.isnan(value)], minlength=len(column_keys)).astype(np.int64),
        reasons=_reasons(scored["reason"].to_numpy(), columns, np.isfinite(values).any(axis=0)),
    )


def _numbered(table: pd.DataFrame, names: list[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """(row,) number of each row's values in these columns, in the order of first appearance; and those values."""
    number = table.groupby(names, sort=False, observed=True).ngroup().to_numpy(dtype=np.int64)
    return number, table[names].drop_duplicates().reset_index(drop=True)


def _reasons(reason: np.ndarray, columns: np.ndarray, has_value: np.ndarray) -> tuple[str, ...]:
    """The first reason of each column that has no value at all, else empty."""
    first = dict(zip(columns[::-1], reason[::-1], strict=True))
    return tuple("" if known else str(first.get(column, "")) for column, known in enumerate(has_value))
