"""The report: tables of a benchmark folder in, one self-contained HTML file out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbcast._files import written_whole
from perturbcast.errors import NothingToScore
from perturbcast.report.figures import (
    Interval,
    Match,
    Panel,
    floor_to_ceiling,
    predicted_against_observed,
    strata,
    to_svg,
    violins,
)
from perturbcast.report.methods import METHODS
from perturbcast.report.network_section import NetworkView, network_views
from perturbcast.report.study_section import study_views
from perturbcast.report.summary import (
    CEILING,
    Headline,
    Section,
    Tables,
    best_model,
    read_tables,
    rows_of,
    sections_of,
    with_answers,
)

BOUNDS = ("floor", "ceiling")
FLOOR_NOTE = " Red: the floor, no knowledge of which gene was perturbed."
STRATA = ("weak", "middle", "strong")


@dataclass(frozen=True)
class PageFigure:
    """A figure with its title and caption."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class PageSection:
    """A section with its figures."""

    value: Section
    figures: tuple[PageFigure, ...]
    networks: tuple[NetworkView, ...] = ()


@dataclass(frozen=True)
class DatasetFacts:
    """What the page says of a dataset."""

    name: str
    facts: tuple[tuple[str, str], ...]
    decisions: tuple[dict[str, str], ...]
    problems: tuple[str, ...]
    knowledge: tuple[str, ...]


def build_report(folder: str | Path) -> Path:
    """The path of `report.html`, written from the tables in the folder; the same tables give the same page.

    Raises NotABenchmark if the folder holds no benchmark, NothingToScore if no model gave a prediction.
    """
    folder = Path(folder)
    tables = read_tables(folder)
    if not tables.summary["mean"].notna().any():
        raise NothingToScore(f"no score in {str(folder)!r} is a number.")
    sections = [page_section(tables, section) for section in sections_of(tables)]
    page = render(tables, sections)
    path = folder / "report.html"
    with written_whole(path) as draft:
        draft.write_text(page, encoding="utf-8")
    return path


def page_section(tables: Tables, section: Section) -> PageSection:
    """A section with its figures and the networks that its models learned."""
    at = {"dataset": section.dataset, "split": section.split, "anchor": section.anchor}
    return PageSection(section, tuple(figures_of(tables, section)), network_views(tables, **at))


def render(tables: Tables, sections: list[PageSection]) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("perturbcast.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    datasets = dataset_facts(tables)
    return environment.get_template("report.html.j2").render(
        title=title_of(datasets),
        subtitle=f"{len(model_names(tables))} models on held-out perturbations, beside simple baselines",
        sections=sections,
        has_networks=any(section.networks for section in sections),
        datasets=datasets,
        warnings=tables.run.get("warnings", []),
        methods=METHODS,
        models=model_facts(tables),
        metrics=metric_facts(tables),
        run=run_facts(tables),
        queries_json=queries_json([section.value for section in sections]),
    )


def title_of(datasets: list[DatasetFacts]) -> str:
    """The title of the page."""
    names = ", ".join(dataset.name for dataset in datasets)
    return f"How well can perturbation responses be predicted in {names}?"


def model_names(tables: Tables) -> list[str]:
    """Models of the run, ceilings aside, sorted."""
    return sorted(name for name in tables.summary.model.unique() if not name.startswith(CEILING))


def dataset_facts(tables: Tables) -> list[DatasetFacts]:
    """Facts and reading decisions of each dataset, from run.json."""
    found = []
    for dataset in tables.run["datasets"]:
        facts = tuple((str(name), str(value)) for name, value in dataset.get("facts", {}).items())
        decisions, problems = tuple(dataset["decisions"]), tuple(dataset["problems"])
        found.append(DatasetFacts(dataset["name"], facts, decisions, problems, tuple(dataset["knowledge"]["notes"])))
    return found


def model_facts(tables: Tables) -> list[dict[str, str]]:
    """Name, summary and source of each model that is still installed."""
    from perturbcast.models.registry import all_models

    cards = {name: model.card for name, model in all_models().items()}
    rows = []
    for name in model_names(tables):
        card = cards.get(name.split(":")[0])
        if card is not None:
            rows.append({"name": name, "summary": card.summary, "source": card.source})
    return rows


def metric_facts(tables: Tables) -> list[dict[str, Any]]:
    """The cards of the metrics that have scores."""
    from perturbcast.report.summary import number

    used = set(tables.summary.metric.unique())
    cards = [metric.card for name, metric in tables.metrics.items() if name in used]
    return [
        {
            "name": card.name,
            "formula": card.formula,
            "higher_is_better": card.higher_is_better,
            "perfect": number(card.perfect),
            "chance": number(card.chance),
            "source": card.source,
        }
        for card in cards
    ]


def run_facts(tables: Tables) -> dict[str, Any]:
    """Version, date and everything needed to repeat the run."""
    run = tables.run
    facts = [("command", run.get("command", "Python API"))]
    facts += [(name, json.dumps(value)) for name, value in run["configuration"].items()]
    facts += [(f"{name} version", value) for name, value in run["versions"].items()]
    facts += [("wall time", f"{run['seconds']:.0f} s"), ("peak memory", f"{run['peak_memory_mb']:.0f} MB")]
    return {"version": run["versions"]["perturbcast"], "date": run["finished"][:10], "facts": facts}


def queries_json(sections: list[Section]) -> str:
    """The per-query tables as JSON that is safe inside a script element."""
    parts = {section.anchor: query_part(section) for section in sections}
    return json.dumps(parts, separators=(",", ":"), default=str).replace("<", "\\u003c")


def query_part(section: Section) -> dict[str, Any]:
    """Columns, titles and rows of one section's table."""
    lead = ["condition", "context", "model", "support"]
    metrics = [headline.metric for headline in section.headlines]
    extra = ["n_cells", "effect_norm", "stratum", "group"]
    present = {key for row in section.queries for key in row}
    columns = [name for name in (*lead, *metrics, *extra) if name in present]
    if all(not row.get("context") for row in section.queries):
        columns = [name for name in columns if name != "context"]
    titles = {headline.metric: f"{headline.title} {headline.arrow}" for headline in section.headlines}
    titles |= {"n_cells": "cells", "effect_norm": "effect size", "stratum": "effect", "group": "kind of query"}
    return {
        "columns": columns,
        "titles": titles,
        "numeric": [name for name in columns if name in {*metrics, "n_cells", "effect_norm"}],
        "models": [row.model for row in section.rows if not row.is_reference],
        "best": section.best_model,
        "sort": metrics[0] if metrics else "condition",
        "rows": section.queries,
    }


def figures_of(tables: Tables, section: Section) -> list[PageFigure]:
    """The figures of one section; those that its data cannot carry are left out."""
    if not section.headlines:
        return []
    made = [
        bounds_figure(tables, section),
        matches_figure(tables, section),
        violins_figure(tables, section),
        strata_figure(tables, section),
    ]
    studied = study_views(tables.folder, tables.scores, dataset=section.dataset, split=section.split)
    of_study = [PageFigure(title, to_svg(figure), caption) for title, figure, caption in studied]
    return [*(figure for figure in made if figure is not None), *of_study]


def part_of(tables: Tables, section: Section) -> pd.DataFrame:
    """The summary rows of a section."""
    summary = tables.summary
    return summary[(summary.dataset == section.dataset) & (summary.split == section.split)]


def panels_of(tables: Tables, section: Section) -> list[Panel]:
    """One panel per headline, models best first by the first headline; those that refused queries say how many."""
    part = part_of(tables, section)
    most = max((row.n for row in section.rows if not row.is_reference), default=0)
    shown = {row.model: with_answers(row.model, row.n, most) for row in section.rows}
    panels = []
    for headline in section.headlines:
        rows = {str(row["model"]): row for row in rows_of(part, headline)}
        order = [row.model for row in section.rows if not row.is_reference and row.model in rows]
        means = {model: float(rows[model]["mean"]) for model in order if np.isfinite(rows[model]["mean"])}
        winner = best_model(part, headline)
        intervals = tuple(
            Interval(
                shown[model],
                mean,
                float(rows[model]["ci_low"]),
                float(rows[model]["ci_high"]),
                bool(np.isclose(mean, means[winner])) and rows[model]["n"] == rows[winner]["n"],
            )
            for model, mean in means.items()
        )
        bounds = [next((row[name] for row in rows.values() if np.isfinite(row[name])), np.nan) for name in BOUNDS]
        panels.append(Panel(headline.title, headline.arrow == "↑", intervals, float(bounds[0]), float(bounds[1])))
    return panels


def ceiling_note(tables: Tables, section: Section) -> str:
    """What the ceiling of a section is."""
    models = set(part_of(tables, section)["model"])
    if f"{CEILING}counting" in models:
        return "the best that the noise of counting molecules leaves to any model; other noise comes on top"
    seen = "what the other genes of the same response say of each gene, which has seen the answer"
    return seen if f"{CEILING}other-genes" in models else "the ceiling that noise sets"


def bounds_figure(tables: Tables, section: Section) -> PageFigure | None:
    """Where each model stands between floor and ceiling."""
    panels = [panel for panel in panels_of(tables, section) if panel.intervals]
    if not panels:
        return None
    caption = "Points are means over conditions, bars 95 % intervals; the best model of each panel is dark."
    if any(np.isfinite(panel.ceiling) for panel in panels):
        caption += f"{FLOOR_NOTE} Green: {ceiling_note(tables, section)}."
    else:
        caption += f"{FLOOR_NOTE} These data have too few responses to know a ceiling."
    return PageFigure("Where each model stands between floor and ceiling", to_svg(floor_to_ceiling(panels)), caption)


def matches_figure(tables: Tables, section: Section) -> PageFigure | None:
    """Predicted against observed for the best, the median and the worst query of the best model."""
    headline = section.headlines[0]
    chosen = chosen_queries(tables, section, headline)
    matches = [match for match in (match_of(tables, section, *query) for query in chosen) if match is not None]
    if not matches:
        return None
    caption = (
        f"Every gene of three held-out conditions as predicted by {section.best_model}: its best, median and "
        f"worst by {headline.title} relative to no change. The dashed line is a perfect prediction; the largest "
        f"observed responses are named. Unit: {unit_of(tables, section)}."
    )
    picture = predicted_against_observed(matches, unit=unit_of(tables, section))
    return PageFigure("Predicted against observed", to_svg(picture), caption)


def unit_of(tables: Tables, section: Section) -> str:
    """Unit of the responses of a dataset."""
    units = {dataset["name"]: dataset.get("unit", "ln") for dataset in tables.run["datasets"]}
    return units.get(section.dataset, "ln")


def section_scores(tables: Tables, section: Section, headline: Headline) -> pd.DataFrame:
    """Per-query scores of one headline, ceilings aside."""
    scores = tables.scores
    keep = (scores.dataset == section.dataset) & (scores.split == section.split) & (scores.metric == headline.metric)
    keep &= (scores.gene_set == headline.gene_set) & ~scores.model.str.startswith(CEILING) & (scores.condition != "*")
    return scores[keep & scores.value.notna()]


def chosen_queries(tables: Tables, section: Section, headline: Headline) -> list[tuple[str, pd.Series]]:
    """(label, row) of the best, median and worst query of the best model, relative to no change where it was run."""
    scores = section_scores(tables, section, headline)
    key = ["condition", "context", "seed", "fold"]
    own = scores[scores.model == section.best_model].set_index(key)
    if own.empty:
        return []
    relative = own.value
    nothing = scores[scores.model == "no-change"].drop_duplicates(key).set_index(key).value
    if headline.arrow == "↓" and len(nothing) and section.best_model != "no-change":
        relative = own.value / nothing.reindex(own.index).replace(0, np.nan)
    ordered = relative.dropna().sort_values(ascending=headline.arrow == "↓", kind="stable").index
    if not len(ordered):
        return []
    places = {"best": 0, "median": len(ordered) // 2, "worst": len(ordered) - 1}
    rows = own.reset_index()
    by_key = {tuple(row[name] for name in key): row for _, row in rows.iterrows()}
    return [(label, by_key[tuple(ordered[place])]) for label, place in places.items()]


def match_of(tables: Tables, section: Section, label: str, row: pd.Series) -> Match | None:
    """Predicted and observed profile of one query, from the prediction files of the folder."""
    from perturbcast.benchmarking.store import read_match

    found = read_match(
        tables.folder,
        dataset=section.dataset,
        split=section.split,
        seed=int(row.seed),
        fold=int(row.fold),
        model=section.best_model,
        condition=str(row.condition),
        context=str(row.context),
    )
    if found is None:
        return None
    genes, predicted, observed = found
    return Match(f"{label}: {row.condition}", observed, predicted, genes)


def violins_figure(tables: Tables, section: Section) -> PageFigure | None:
    """Per-query scores of every model."""
    order = [row.model for row in section.rows if not row.is_reference]
    values: dict[str, dict[str, np.ndarray]] = {}
    for headline in section.headlines[:3]:
        scores = section_scores(tables, section, headline)
        groups = {str(model): part.value.to_numpy() for model, part in scores.groupby("model")}
        values[headline.metric] = {model: groups.get(model, np.zeros(0)) for model in order}
    titles = {headline.metric: f"{headline.title} {headline.arrow}" for headline in section.headlines}
    return PageFigure(
        "Scores of single queries",
        to_svg(violins(values, titles=titles, best=section.best_model)),
        "Each violin is one model over all held-out conditions; the dot is the median, the bar the middle half.",
    )


def strata_figure(tables: Tables, section: Section) -> PageFigure | None:
    """Scores by effect size: weak, middle and strong thirds of the conditions."""
    if not len(tables.queries) or "stratum" not in tables.queries:
        return None
    headline = next((h for h in section.headlines if h.arrow == "↑"), section.headlines[0])
    key = ["dataset", "split", "seed", "fold", "condition", "context"]
    scores = section_scores(tables, section, headline).merge(
        tables.queries[[*key, "stratum"]].drop_duplicates(key), on=key
    )
    table = scores.pivot_table(index="model", columns="stratum", values="value", aggfunc="mean")
    present = [name for name in STRATA if name in table]
    if len(present) < 2:
        return None
    order = [row.model for row in section.rows if row.model in table.index]
    figure = strata(table.loc[order, present], title=f"{headline.title} {headline.arrow}", best=section.best_model)
    return PageFigure(
        "Weak, middle and strong effects",
        to_svg(figure),
        "Thirds of the held-out conditions by the size of their observed response above noise. Weak effects are mostly "
        "noise: differences count where effects are strong.",
    )
