"""Tables of a benchmark folder turned into plain values that a page can show, nothing computed by the template."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbcast.errors import NotABenchmark
from perturbcast.metrics.base import Metric, all_metrics

HEADLINES = {  # metric and gene set -> a title short enough for a column; the first N_HEADLINES with scores are shown
    ("l2", "all"): "L2 error",
    ("pearson_delta", "all"): "Pearson Δ",
    ("pearson_delta_perturbed", "all"): "Pearson Δ against mean",
    ("pds_cosine", "all"): "Discrimination",
    ("wmse", "all"): "Weighted MSE",
    ("direction_accuracy", "all"): "Direction accuracy",
}
N_HEADLINES = 4
NEGLIGIBLE = 1e-12  # what rounding leaves of a difference
CEILING = "ceiling:"

SPLIT_TITLES = {
    "singles": "single perturbations never seen",
    "doubles": "double perturbations never seen, their singles seen",
    "doubles-by-seen": "double perturbations with none, one or both targets seen",
    "cells": "held-out cells of perturbations that were seen",
    "gears": "the GEARS `simulation` split: unseen singles and doubles",
    "contexts": "perturbations in a context never seen",
}


@dataclass(frozen=True)
class Cell:
    """One score with its interval and verdict, ready to print."""

    value: str
    interval: str
    verdict: str  # better, worse, undecided, "" for references
    difference: str
    is_best: bool


@dataclass(frozen=True)
class Row:
    """One model in the table of a section."""

    model: str
    is_reference: bool  # ceiling rows
    n: int
    n_refused: int
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Headline:
    """One metric column: what it is and which way is better."""

    metric: str
    gene_set: str
    title: str
    arrow: str


@dataclass(frozen=True)
class Section:
    """One dataset under one split."""

    anchor: str
    dataset: str
    split: str
    title: str
    verdict: tuple[str, ...]
    headlines: tuple[Headline, ...]
    rows: tuple[Row, ...]
    best_model: str
    n_queries: int
    everything: tuple[dict[str, Any], ...]  # the whole summary, for the folded table
    queries: tuple[dict[str, Any], ...]  # per-query table
    refusals: tuple[tuple[str, str, int], ...]  # model, reason, how many


@dataclass(frozen=True)
class Tables:
    """What a benchmark folder holds."""

    folder: Path
    scores: pd.DataFrame
    summary: pd.DataFrame
    queries: pd.DataFrame
    run: dict[str, Any]
    metrics: dict[str, Metric] = field(default_factory=dict)


def read_tables(folder: Path) -> Tables:
    """The tables of a benchmark folder; NotABenchmark if one is missing."""
    needed = ("scores.parquet", "summary.parquet", "run.json")
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise NotABenchmark(f"{str(folder)!r} has no {missing[0]}.")
    queries = folder / "queries.parquet"
    return Tables(
        folder=folder,
        scores=pd.read_parquet(folder / "scores.parquet"),
        summary=pd.read_parquet(folder / "summary.parquet"),
        queries=pd.read_parquet(queries) if queries.is_file() else pd.DataFrame(),
        run=json.loads((folder / "run.json").read_text()),
        metrics=dict(all_metrics()),
    )


def number(value: float) -> str:
    """Three significant digits, without an exponent for usual sizes."""
    if value is None or not np.isfinite(value):
        return "–"
    if abs(value) < NEGLIGIBLE:
        return "0.00"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{min(digits, 4)}f}"


def split_title(split: str) -> str:
    """What a split asks, in words."""
    return SPLIT_TITLES.get(split.split("/")[0], split)


def headlines_of(tables: Tables, part: pd.DataFrame) -> tuple[Headline, ...]:
    """The first few headline metrics that have scores in this section."""
    present = set(zip(part.metric[part["mean"].notna()], part.gene_set[part["mean"].notna()], strict=True))
    chosen = [pair for pair in HEADLINES if pair in present][:N_HEADLINES]
    return tuple(
        Headline(metric, gene_set, HEADLINES[metric, gene_set], arrow_of(tables, metric))
        for metric, gene_set in chosen
        if metric in tables.metrics
    )


def arrow_of(tables: Tables, metric: str) -> str:
    """Which way is better."""
    return "↑" if tables.metrics[metric].card.higher_is_better else "↓"


def rows_of(part: pd.DataFrame, headline: Headline) -> list[dict[str, Any]]:
    """The summary rows of one headline, as plain dictionaries."""
    rows = part[(part.metric == headline.metric) & (part.gene_set == headline.gene_set)].to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def sections_of(tables: Tables) -> list[Section]:
    """One section per dataset and split, in the order of the summary."""
    pairs = tables.summary[["dataset", "split"]].drop_duplicates().itertuples(index=False)
    return [section_of(tables, dataset, split, position) for position, (dataset, split) in enumerate(pairs)]


def section_of(tables: Tables, dataset: str, split: str, position: int) -> Section:
    """Everything the page says of one dataset under one split."""
    part = tables.summary[(tables.summary.dataset == dataset) & (tables.summary.split == split)]
    scores = tables.scores[(tables.scores.dataset == dataset) & (tables.scores.split == split)]
    headlines = headlines_of(tables, part)
    best = {headline: best_model(part, headline) for headline in headlines}
    rows = model_rows(part, headlines, best)
    overall = best[headlines[0]] if headlines else ""
    return Section(
        anchor=f"section-{position}",
        dataset=dataset,
        split=split,
        title=f"{dataset}: {split_title(split)}",
        verdict=verdicts(part, headlines, best),
        headlines=headlines,
        rows=rows,
        best_model=overall,
        n_queries=scores.loc[~scores.model.str.startswith(CEILING) & (scores.condition != "*"), "condition"].nunique(),
        everything=tuple(folded_table(part)),
        queries=tuple(query_table(tables, scores, dataset, split, headlines)),
        refusals=refusals_of(scores),
    )


def best_model(part: pd.DataFrame, headline: Headline) -> str:
    """The model with the best mean among those that answered the most queries, ceilings aside."""
    rows = [row for row in rows_of(part, headline) if np.isfinite(row["mean"]) and not row["model"].startswith(CEILING)]
    if not rows:
        return ""
    most = max(row["n"] for row in rows)
    means = {str(row["model"]): float(row["mean"]) for row in rows if row["n"] == most}
    return (min if headline.arrow == "↓" else max)(means, key=lambda model: means[model])


def with_answers(model: str, n: int, most: int) -> str:
    """The model's name, with how many queries it answered where others answered more."""
    return model if n == most else f"{model} ({n} of {most})"


def model_rows(part: pd.DataFrame, headlines: tuple[Headline, ...], best: dict[Headline, str]) -> tuple[Row, ...]:
    """One row per model, best first by the first headline; then those that refused queries, then ceilings."""
    by_key = {(row["model"], row["metric"], row["gene_set"]): row for row in part.to_dict("records")}
    rows = []
    for model in part.model.unique():
        found = [by_key.get((model, headline.metric, headline.gene_set)) for headline in headlines]
        cells = tuple(cell_of(row, best[headline] == model) for row, headline in zip(found, headlines, strict=True))
        n, refused = (int(part[part.model == model][column].max()) for column in ("n", "n_refused"))
        rows.append((Row(model, model.startswith(CEILING), n, refused, cells), found))
    sign = 1 if headlines and headlines[0].arrow == "↓" else -1

    most = max((row.n for row, _ in rows if not row.is_reference), default=0)

    def position(entry: tuple[Row, list[Any]]) -> tuple[bool, bool, float]:
        row, found = entry
        first = found[0]["mean"] if found and found[0] is not None else np.nan
        return row.is_reference, row.n < most, float(sign * first) if np.isfinite(first) else np.inf

    return tuple(row for row, _ in sorted(rows, key=position))


def cell_of(row: Any, is_best: bool) -> Cell | None:
    """A score, its interval, and how it stands to the best simple baseline."""
    if row is None or not np.isfinite(row["mean"]):
        return None
    difference = ""
    if np.isfinite(row["difference"]):
        interval = f"[{number(row['diff_low'])}, {number(row['diff_high'])}]"
        difference = f"{number(row['difference'])} {interval} against {row['baseline']}"
    verdict = "" if row["model"].startswith(CEILING) else str(row["verdict"] or "")
    interval = f"[{number(row['ci_low'])}, {number(row['ci_high'])}]"
    return Cell(number(row["mean"]), interval, verdict, difference, is_best)


def verdicts(part: pd.DataFrame, headlines: tuple[Headline, ...], best: dict[Headline, str]) -> tuple[str, ...]:
    """The section in a sentence, then one per score: who is best, by how much, how far from floor to ceiling."""
    if not headlines or not best[headlines[0]]:
        return ()
    sentences = [in_a_sentence(part, headlines, best[headlines[0]])]
    for headline in headlines:
        row = next((row for row in rows_of(part, headline) if row["model"] == best[headline]), None)
        if row is None:
            continue
        text = f"{headline.title}: {row['model']} is best at {number(row['mean'])}"
        text += f" [{number(row['ci_low'])}, {number(row['ci_high'])}]"
        sentences.append(text + versus_baseline(row) + against_bounds(row) + ".")
    return tuple(sentences)


def in_a_sentence(part: pd.DataFrame, headlines: tuple[Headline, ...], winner: str) -> str:
    """Whether the model of least error is better than the best other simple baseline, and by how many scores."""
    rows = [row for headline in headlines for row in rows_of(part, headline) if row["model"] == winner]
    better = sum(row["verdict"] == "better" for row in rows)
    worse = sum(row["verdict"] == "worse" for row in rows)
    if better == 0:
        return f"No model is clearly better than the simple baselines; {winner} has the least error."
    text = f"{winner} predicts best: clearly better than every other simple baseline by {better} of {len(rows)} scores"
    return f"{text}, worse by {worse}." if worse else f"{text}."


def versus_baseline(row: dict[str, Any]) -> str:
    """How the best model stands to the best of the other simple baselines."""
    if not isinstance(row["baseline"], str) or not row["baseline"] or not np.isfinite(row["difference"]):
        return ""
    words = {"better": "clearly better than", "worse": "worse than", "undecided": "not clearly different from"}
    return f", {words.get(row['verdict'], 'beside')} {row['baseline']} ({number(row['difference'])})"


def against_bounds(row: dict[str, Any]) -> str:
    """Where the model stands between floor and ceiling."""
    floor, ceiling = float(row["floor"]), float(row["ceiling"])
    if not np.isfinite(ceiling):
        return "" if not np.isfinite(floor) else f"; the floor is {number(floor)}, no ceiling is known"
    if not np.isfinite(floor) or np.isclose(floor, ceiling):
        return f"; the ceiling is {number(ceiling)}"
    share = (row["mean"] - floor) / (ceiling - floor)
    bounds = f"floor ({number(floor)}) to ceiling ({number(ceiling)})"
    return f"; that is {round(100 * share) + 0:d} % of the way from {bounds}"


def folded_table(part: pd.DataFrame) -> list[dict[str, Any]]:
    """The whole summary as printable rows."""
    numeric = ["mean", "ci_low", "ci_high", "difference", "diff_low", "diff_high", "floor", "ceiling"]
    table = part[["model", "metric", "gene_set", *numeric, "n", "n_refused", "baseline", "verdict"]].copy()
    for column in numeric:
        table[column] = table[column].map(number)
    return [{str(key): value for key, value in row.items()} for row in table.fillna("").to_dict("records")]


def query_table(
    tables: Tables, scores: pd.DataFrame, dataset: str, split: str, headlines: tuple[Headline, ...]
) -> list[dict[str, Any]]:
    """One row per query and model: support, the headline scores, cells and effect size."""
    scored = scores[~scores.model.str.startswith(CEILING)]
    wanted = {(headline.metric, headline.gene_set): headline.metric for headline in headlines}
    keys = list(zip(scored.metric, scored.gene_set, strict=True))
    scored = scored[[key in wanted for key in keys]]
    scored = scored[scored.condition != "*"]
    index = ["condition", "context", "model"]
    wide = scored.pivot_table(index=index, columns="metric", values="value", aggfunc="mean")
    support = scored.groupby(index)["support"].first()
    table = wide.join(support).reset_index()
    if len(tables.queries):
        about = tables.queries[(tables.queries.dataset == dataset) & (tables.queries.split == split)]
        extra = [name for name in ("n_cells", "effect_norm", "stratum", "group") if name in about]
        about = about.groupby(["condition", "context"])[extra].first().reset_index()
        table = table.merge(about, on=["condition", "context"], how="left")
    return [printable(row) for row in table.to_dict("records")]


def printable(row: dict[Any, Any]) -> dict[str, Any]:
    """Values as JSON can carry them: rounded numbers, empty text for what is missing."""
    clean: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, float):
            clean[str(key)] = None if not np.isfinite(value) else float(f"{value:.4g}")
        else:
            clean[str(key)] = "" if value is None else value
    return clean


def refusals_of(scores: pd.DataFrame) -> tuple[tuple[str, str, int], ...]:
    """Model, reason and number of queries that it refused."""
    refused = scores[(scores.metric == "prediction") & scores.reason.astype(bool)]
    if refused.empty:
        return ()
    short = refused.assign(reason=refused.reason.str.slice(0, 160))
    counted = short.groupby(["model", "reason"]).size().sort_values(ascending=False).head(12).reset_index(name="n")
    return tuple((str(row["model"]), str(row["reason"]), int(row["n"])) for row in counted.to_dict("records"))
