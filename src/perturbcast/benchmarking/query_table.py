"""What is known of every tested query beside its scores: cells, effect size, noise, and how like the others it is."""

import numpy as np
import pandas as pd

from perturbcast.benchmarking.sides import Sides
from perturbcast.data.responses import ResponseTable
from perturbcast.data.split import Split
from perturbcast.metrics.ceilings import split_half_reliability

STRATA = ("weak", "middle", "strong")
COLUMNS = (
    *("dataset", "split", "seed", "fold", "condition", "context", "group", "n_cells"),
    *("effect_norm", "noise", "excess", "stratum", "split_half_r", "cosine_to_mean", "nearest", "nearest_cosine"),
)


def query_table(sides: Sides, split: Split, whole: ResponseTable) -> pd.DataFrame:
    """A row per tested query; without dataset, split, seed and fold.

    `effect_norm` is the norm of the response over all genes, `noise` that of a response without effect,
    sqrt(sum s^2/n) of its cells (F-30; NaN without cells), `excess` the part of the effect beyond it. `stratum` is the
    tertile of `excess` (without cells, of `effect_norm`) among all queries of the data set. `split_half_r` is the
    correlation of the halves, each with control cells of its own (F-29). `cosine_to_mean` is to the mean response of
    training, `nearest` the training condition whose response is most like the truth.
    """
    truth, train = sides.truth, sides.training.responses
    effect, noise, excess = _effects(truth)
    nearest, cosine = _nearest(truth, train)
    mean = train.perturbed_mean()[None]
    return pd.DataFrame(
        {
            "condition": [query.condition for query in truth.queries],
            "context": [query.context for query in truth.queries],
            "group": [split.groups.get(query, "") for query in truth.queries],
            "n_cells": np.full(truth.n_queries, -1) if truth.n_cells is None else truth.n_cells,
            "effect_norm": effect,
            "noise": noise,
            "excess": excess,
            "stratum": _strata(excess, effect, whole),
            "split_half_r": _split_half(truth),
            "cosine_to_mean": _cosine(truth.response, mean)[:, 0],
            "nearest": nearest,
            "nearest_cosine": cosine,
        }
    )


def _effects(table: ResponseTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query,) effect, noise and excess; noise and excess are NaN where it is unknown."""
    effect = np.linalg.norm(table.response, axis=1)
    noise = np.full(len(effect), np.nan)
    if table.variance is not None and table.n_cells is not None:
        known = table.n_cells > 1
        noise[known] = np.sqrt((table.variance[known] / table.n_cells[known, None]).sum(axis=1))
    return effect, noise, np.sqrt(np.maximum(effect**2 - noise**2, 0.0))


def _strata(excess: np.ndarray, effect: np.ndarray, whole: ResponseTable) -> list[str]:
    """Tertile of each query among all queries of the data set."""
    effect_of_all, _, excess_of_all = _effects(whole)
    of_all = np.where(np.isfinite(excess_of_all), excess_of_all, effect_of_all)
    bounds = np.quantile(of_all, [1 / 3, 2 / 3])
    own = np.where(np.isfinite(excess), excess, effect)
    return [STRATA[code] for code in np.searchsorted(bounds, own, side="right")]


def _split_half(table: ResponseTable) -> np.ndarray:
    """(query,) correlation of the two halves; NaN where a half is unknown."""
    correlation = np.full(table.n_queries, np.nan)
    if table.response_halves is None:
        return correlation
    known = np.isfinite(table.response_halves).all(axis=(0, 2))
    if known.any():
        correlation[known] = split_half_reliability(table.response_halves[0][known], table.response_halves[1][known])
    return correlation


def _cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(left row, right row) cosine; NaN where either is zero."""
    length = np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(right, axis=1)[None]
    return np.divide(left @ right.T, length, out=np.full(length.shape, np.nan), where=length > 0)


def _nearest(truth: ResponseTable, train: ResponseTable) -> tuple[list[str], np.ndarray]:
    """The training condition of the most similar response to each truth, not the query itself; and the cosine."""
    if not truth.n_queries or not train.n_queries:
        return [""] * truth.n_queries, np.full(truth.n_queries, np.nan)
    cosine = np.nan_to_num(_cosine(truth.response, train.response), nan=-2.0)
    position = {query: column for column, query in enumerate(train.queries)}
    for row, query in enumerate(truth.queries):
        if query in position:
            cosine[row, position[query]] = -2.0
    best = cosine.argmax(axis=1)
    value = cosine[np.arange(len(best)), best]
    found = value > -2.0
    names = [train.queries[column].condition if ok else "" for column, ok in zip(best, found, strict=True)]
    return names, np.where(found, value, np.nan)
