"""Score tables made by hand for the tests of comparison."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def score_table(
    values: dict[str, Sequence[float]],
    conditions: Sequence[str],
    *,
    metric: str = "l2",
    seeds: Sequence[int] | None = None,
    split: str = "singles",
) -> pd.DataFrame:
    """The long table of one metric: a value per model and condition (and seed, where `seeds` runs along)."""
    parts = []
    for model, scores in values.items():
        parts.append(
            pd.DataFrame(
                {
                    "dataset": "world",
                    "context": "",
                    "split": split,
                    "seed": 0 if seeds is None else np.asarray(seeds, dtype=np.int64),
                    "fold": -1,
                    "model": model,
                    "condition": list(conditions),
                    "metric": metric,
                    "gene_set": "all",
                    "value": np.asarray(scores, dtype=float),
                    "reason": "",
                    "seconds": 0.0,
                    "support": "",
                    "group": "",
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def singles(n: int) -> list[str]:
    """n single conditions."""
    return [f"G{number:03d}" for number in range(n)]


def refusals(model: str, conditions: Sequence[str], reason: str = "E503 CannotPredict: nothing known.") -> pd.DataFrame:
    """Rows of refused queries."""
    table = score_table({model: np.full(len(conditions), np.nan)}, conditions, metric="prediction")
    return table.assign(reason=reason, gene_set="")
