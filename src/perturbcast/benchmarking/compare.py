"""The summary of a score table: means with intervals, comparison with the best simple baseline, floor and ceiling.

A query that a model refused takes no part in its mean, and only queries that both sides answered are compared; the
columns `n`, `n_refused` and `n_common` say how many those were.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from perturbcast.benchmarking import paired
from perturbcast.benchmarking.paired import NO_CHANGE, SIMPLE_BASELINES, comparisons, is_simple
from perturbcast.benchmarking.panel import REFUSED, Panel, panel_of
from perturbcast.metrics.base import all_metrics

CEILING = "ceiling:"  # start of the names of pseudo-models that repeat the measurement
FLOORS = (NO_CHANGE, "mean")
KEYS = ("dataset", "split", "model", "metric", "gene_set")
COLUMNS = (
    *KEYS,
    *("mean", "ci_low", "ci_high", "n", "n_refused"),
    *("baseline", "difference", "diff_low", "diff_high", "verdict", "floor", "ceiling"),
    *("higher_is_better", "n_scores", "n_undefined", *paired.COLUMNS[5:], "reason"),
)


def summarise(
    scores: pd.DataFrame,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
    baselines: Collection[str] = SIMPLE_BASELINES,
    higher_is_better: Mapping[str, bool] | None = None,
) -> pd.DataFrame:
    """One row per dataset, split, model, metric and gene set; columns `COLUMNS`, in the order of first appearance.

    `mean` is over queries, then seeds; `ci_*` its 95 % interval over conditions (`mean_interval`), cut to the metric's
    range. `difference` is the mean paired difference to `baseline`, the simple baseline (other than the model itself)
    that is best on the queries both answered. `verdict` is better or worse where the interval of the difference
    excludes 0, else undecided. `floor` is the best mean of no-change and mean, `ceiling` that of the `ceiling:` rows.
    `n` counts queries, `n_scores` also their repeats under seeds. `wins`, `ties`, `losses` count conditions, a tie
    being a difference below 1 % of the no-change score (spec F.13). `p` is Wilcoxon's, which ignores shared genes;
    `p_adjusted` is Benjamini-Hochberg's over the metrics of a model. `higher_is_better` orients metrics that have no
    card, or otherwise than their card does.
    """
    parts = []
    for (dataset, split), part in scores.groupby(["dataset", "split"], sort=False, observed=True):
        panel = panel_of(part, n_bootstrap=n_bootstrap, seed=seed)
        table = _with_bounds(_means(panel, higher_is_better or {}))
        table = table.join(comparisons(panel, table, baselines=baselines))
        table = _with_refusals(table, part).assign(dataset=str(dataset), split=str(split))
        parts.append(table[list(COLUMNS)])
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(parts, ignore_index=True)


def rank_models(summary: pd.DataFrame) -> pd.DataFrame:
    """Mean mid-rank of every model over metrics, best first: dataset, split, model, mean_rank, n_metrics.

    Ranks, not scores, are averaged (spec F.13). Ceilings are left out, and so are metrics that some model of the same
    dataset and split has no score for, unless that model has none at all.
    """
    scored = summary[summary["mean"].notna() & ~summary["model"].str.startswith(CEILING)]
    place, cell = ["dataset", "split"], ["dataset", "split", "metric", "gene_set"]
    n_models = scored.groupby(place, sort=False)["model"].transform("nunique")
    scored = scored[scored.groupby(cell, sort=False)["model"].transform("nunique") == n_models]
    cost = scored["mean"].where(~scored["higher_is_better"].astype(bool), -scored["mean"])
    rank = cost.groupby([scored[name] for name in cell]).rank(method="average")
    ranked = scored.assign(rank=rank).groupby([*place, "model"], sort=False)["rank"].agg(["mean", "size"])
    ranked = ranked.reset_index().rename(columns={"mean": "mean_rank", "size": "n_metrics"})
    return ranked.sort_values([*place, "mean_rank", "model"], kind="stable", ignore_index=True)


def _means(panel: Panel, oriented: Mapping[str, bool]) -> pd.DataFrame:
    """A row per column of the panel: mean, interval, counts, orientation."""
    interval = panel.interval(panel.values)
    table = panel.columns.to_frame(index=False)
    cards = {name: metric.card for name, metric in all_metrics().items()}
    known = [cards.get(metric) for metric in table["metric"]]
    own = [card is not None and card.higher_is_better for card in known]
    higher = [oriented.get(metric, by_card) for metric, by_card in zip(table["metric"], own, strict=True)]
    return table.assign(
        mean=interval.mean,
        ci_low=np.maximum(interval.low, [-np.inf if card is None else card.lowest for card in known]),
        ci_high=np.minimum(interval.high, [np.inf if card is None else card.highest for card in known]),
        n=panel.n_queries(panel.values),
        n_scores=np.isfinite(panel.values).sum(axis=0),
        n_undefined=panel.n_undefined,
        higher_is_better=np.array(higher, dtype=bool),
        reason=panel.reasons,
    )


def _with_bounds(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the best mean of the floor models and of the ceilings, per metric and gene set."""
    sign = np.where(table["higher_is_better"], 1.0, -1.0)
    cell = pd.MultiIndex.from_frame(table[["metric", "gene_set"]])
    worth = pd.Series(sign * table["mean"].to_numpy(), index=cell)
    bounds = {
        "floor": table["model"].map(lambda model: is_simple(model, FLOORS)).to_numpy(dtype=bool),
        "ceiling": table["model"].str.startswith(CEILING).to_numpy(dtype=bool),
    }
    best = {name: worth[rows].groupby(level=[0, 1]).max().reindex(cell).to_numpy() for name, rows in bounds.items()}
    return table.assign(**{name: sign * found for name, found in best.items()})


def _with_refusals(table: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The table with the number of queries each model refused; a model that refused all has rows without a mean."""
    refusals = scores[scores["metric"] == REFUSED]
    counted = refusals.drop_duplicates(["model", "condition", "context"]).groupby("model").size()
    silent = [model for model in refusals["model"].unique() if model not in set(table["model"])]
    cells = table[["metric", "gene_set", "higher_is_better"]].drop_duplicates(["metric", "gene_set"])
    if not len(cells):
        cells = pd.DataFrame({"metric": [REFUSED], "gene_set": [""], "higher_is_better": [False]})
    reasons = refusals.drop_duplicates("model").set_index("model")["reason"]
    empty: dict[str, int | str] = {
        "n": 0,
        "n_scores": 0,
        "n_undefined": 0,
        "n_common": 0,
        "wins": 0,
        "ties": 0,
        "losses": 0,
    }
    empty |= {"baseline": "", "verdict": ""}
    added = [cells.assign(model=model, reason=reasons[model], **empty) for model in silent]
    table = pd.concat([table, *added], ignore_index=True) if added else table
    return table.assign(n_refused=table["model"].map(counted).fillna(0).astype(np.int64))
