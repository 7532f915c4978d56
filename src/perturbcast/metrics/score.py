"""The long table of scores of one evaluation: every metric on every gene set it is meant for."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perturbcast.errors import BadOption, MetricNeeds, UndefinedScore
from perturbcast.metrics.base import Evaluation, Metric, all_metrics, get_metric
from perturbcast.metrics.gene_sets import gene_set_mask

COLUMNS = ("condition", "context", "metric", "gene_set", "value", "reason")
EVERY = "*"  # condition and context of a row that stands for all queries together


def score(
    evaluation: Evaluation,
    *,
    metrics: Sequence[str] | None = None,
    gene_sets: Sequence[str] | None = None,
    profile: str = "core",
) -> pd.DataFrame:
    """Long table condition, context, metric, gene_set, value, reason; a row per query, metric and gene set.

    `metrics` names the metrics (default: those of `profile`, "core" or "full"); `gene_sets` replaces the gene sets of
    the cards. `reason` is empty where the value was computed. Where a metric is undefined for a query the value is
    what its card says (0 or NaN) and the reason starts with E603; where the data lack what a metric or gene set reads,
    one row with condition `*`, value NaN and a reason with E602 stands for all queries. A metric of the whole data
    set has one row with condition `*`. Raises UnknownMetric, UnknownOption (gene set), BadOption (profile).
    """
    chosen = _chosen(metrics, profile)
    parts = [
        _rows(evaluation, metric, gene_set)
        for metric in chosen
        for gene_set in (metric.card.gene_sets if gene_sets is None else gene_sets)
    ]
    if not parts:
        return pd.DataFrame({column: [] for column in COLUMNS}).astype({"value": float})
    return pd.DataFrame({column: np.concatenate([part[column] for part in parts]) for column in COLUMNS})


def _chosen(metrics: Sequence[str] | None, profile: str) -> list[Metric]:
    if metrics is not None:
        return [get_metric(name) for name in metrics]
    if profile not in {"core", "full"}:
        raise BadOption(f"no metric profile is called {profile!r}. Known: 'core', 'full'.", "Use core or full.")
    return [metric for metric in all_metrics().values() if metric.card.core or profile == "full"]


def _rows(evaluation: Evaluation, metric: Metric, gene_set: str) -> dict[str, np.ndarray]:
    try:
        missing = metric.card.reads - evaluation.available
        if missing:
            raise MetricNeeds(f"{metric.card.name} reads {', '.join(sorted(missing))}, which these data do not have.")
        value = metric.score(evaluation, gene_set_mask(evaluation, gene_set))
    except MetricNeeds as needs:
        return _table(metric, gene_set, (EVERY,), (EVERY,), np.array([np.nan]), np.array([str(needs)], dtype=object))
    undefined = np.isnan(value)
    reason = np.where(undefined, str(UndefinedScore(metric.card.undefined, "")), "").astype(object)
    value = np.where(undefined, metric.card.undefined_counts_as, value)
    if metric.card.per == "dataset":
        return _table(metric, gene_set, (EVERY,), (EVERY,), value, reason)
    queries = evaluation.truth.queries
    conditions = tuple(query.condition for query in queries)
    return _table(metric, gene_set, conditions, tuple(query.context for query in queries), value, reason)


def _table(
    metric: Metric,
    gene_set: str,
    conditions: tuple[str, ...],
    contexts: tuple[str, ...],
    value: np.ndarray,
    reason: np.ndarray,
) -> dict[str, np.ndarray]:
    return {
        "condition": np.array(conditions, dtype=object),
        "context": np.array(contexts, dtype=object),
        "metric": np.full(len(conditions), metric.card.name, dtype=object),
        "gene_set": np.full(len(conditions), gene_set, dtype=object),
        "value": value,
        "reason": reason,
    }
