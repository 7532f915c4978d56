"""Paired comparison of every model with the best simple baseline, on the queries that both answered."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from perturbcast.benchmarking.panel import Panel
from perturbcast.benchmarking.signed_rank import adjust, signed_rank_p

SIMPLE_BASELINES = ("no-change", "mean", "matching-mean", "additive")  # in every profile; spec D.1
NO_CHANGE = "no-change"
FEWEST_FOR_VERDICT = 5  # common conditions; with fewer the verdict is undecided
SHARED_ENOUGH = 0.9  # a baseline is a candidate if it shares this part of the scores that the best-covering one shares
TIE = 0.01  # spec F.13: of the no-change score
ROUNDING = 1e-10  # relative differences below are rounding, not results

COLUMNS = (
    *("baseline", "difference", "diff_low", "diff_high", "verdict"),
    *("n_common", "wins", "ties", "losses", "p", "p_adjusted"),
)


def is_simple(model: str, baselines: Collection[str] = SIMPLE_BASELINES) -> bool:
    """Whether a model, in whatever profile, is one of these baselines."""
    return model in baselines or model.split(":")[0] in baselines


def comparisons(panel: Panel, table: pd.DataFrame, *, baselines: Collection[str] = SIMPLE_BASELINES) -> pd.DataFrame:
    """`COLUMNS` for each row of `table` (one per panel column); empty where there is nothing to compare with.

    `table` has model, metric, gene_set, mean and higher_is_better. Differences are model minus baseline, in the units
    of the metric. The verdict is better or worse where the 95 % interval of the difference excludes 0.
    """
    sign = np.where(table["higher_is_better"], 1.0, -1.0)
    partner = _best_baselines(panel, table, sign, baselines)
    compared = np.flatnonzero(partner >= 0)
    difference = paired(panel.values[:, compared], panel.values[:, partner[compared]])
    interval = panel.interval(difference)
    by_condition = panel.by_condition(difference)
    n_conditions = np.isfinite(by_condition).sum(axis=0)
    p = signed_rank_p(by_condition)
    found = pd.DataFrame(
        {
            "baseline": table["model"].to_numpy(dtype=object)[partner[compared]],
            "difference": interval.mean,
            "diff_low": interval.low,
            "diff_high": interval.high,
            "verdict": _verdicts(interval.low, interval.high, sign[compared], n_conditions),
            "n_common": panel.n_queries(difference),
            **_tally(sign[compared] * by_condition, TIE * np.abs(_no_change(table))[compared]),
            "p": p,
            "p_adjusted": _adjusted(p, table["model"].to_numpy()[compared]),
        },
        index=table.index[compared],
    )
    counts = ["n_common", "wins", "ties", "losses"]
    found = found.reindex(table.index).fillna({"baseline": "", "verdict": ""} | dict.fromkeys(counts, 0))
    return found.astype(dict.fromkeys(counts, np.int64))[list(COLUMNS)]


def paired(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(row, column) left minus right; exactly 0 where they differ by rounding only, NaN where one has no score."""
    difference = left - right
    same = np.abs(difference) <= ROUNDING * np.maximum(np.abs(left), np.abs(right))
    return np.where(same, 0.0, difference)


def _best_baselines(panel: Panel, table: pd.DataFrame, sign: np.ndarray, baselines: Collection[str]) -> np.ndarray:
    """(column,) column of the simple baseline that does best beside each model on the queries both answered; or -1."""
    simple = table["model"].map(lambda model: is_simple(model, baselines)).to_numpy(dtype=bool)
    places = [np.asarray(rows) for rows in table.groupby(["metric", "gene_set"], sort=False).indices.values()]
    pairs = [
        (model, baseline)
        for place in places
        for model in place
        for baseline in place[simple[place]]
        if model != baseline
    ]
    partner = np.full(len(table), -1, dtype=np.int64)
    if not pairs:
        return partner
    model, baseline = np.array(pairs).T
    difference = paired(panel.values[:, model], panel.values[:, baseline])
    lead = sign[model] * panel.mean(difference)  # of the model; the best baseline leaves it the least
    shared = np.isfinite(difference).sum(axis=0)
    choice = pd.DataFrame({"model": model, "baseline": baseline, "lead": lead, "shared": shared})
    choice = choice[choice["shared"] > 0]
    choice = choice[choice["shared"] >= SHARED_ENOUGH * choice.groupby("model")["shared"].transform("max")]
    best = choice.sort_values(["model", "lead", "baseline"]).drop_duplicates("model")
    partner[best["model"].to_numpy()] = best["baseline"].to_numpy()
    return partner


def _verdicts(low: np.ndarray, high: np.ndarray, sign: np.ndarray, n_conditions: np.ndarray) -> np.ndarray:
    """(column,) better, worse or undecided."""
    above, below = low > 0, high < 0
    better, worse = np.where(sign > 0, above, below), np.where(sign > 0, below, above)
    decided = n_conditions >= FEWEST_FOR_VERDICT
    return np.select([decided & better, decided & worse], ["better", "worse"], "undecided").astype(object)


def _no_change(table: pd.DataFrame) -> np.ndarray:
    """(column,) the mean of the no-change model on the same metric and gene set; 0 where it has none."""
    rows = table[table["model"] == NO_CHANGE].set_index(["metric", "gene_set"])["mean"]
    known = rows.reindex(pd.MultiIndex.from_frame(table[["metric", "gene_set"]])).to_numpy(dtype=float)
    return np.nan_to_num(known, nan=0.0)


def _tally(lead: np.ndarray, tie: np.ndarray) -> dict[str, np.ndarray]:
    """Wins, ties and losses over conditions; `lead` (condition, column) is positive where the model is better."""
    scored = np.isfinite(lead)
    wins = (scored & (lead > 0) & (lead >= tie)).sum(axis=0)
    losses = (scored & (lead < 0) & (-lead >= tie)).sum(axis=0)
    return {"wins": wins, "ties": scored.sum(axis=0) - wins - losses, "losses": losses}


def _adjusted(p: np.ndarray, model: np.ndarray) -> np.ndarray:
    """(column,) Benjamini-Hochberg adjusted p over the metrics of each model."""
    adjusted = np.full(len(p), np.nan)
    for name in np.unique(model):
        adjusted[model == name] = adjust(p[model == name])
    return adjusted
