"""Models of gene knowledge and all baselines on the real screens of ../shared: writes docs/RESULTS_GRAPH.md,
and the tables of all models in docs/RESULTS.md.

Folds and seeds are those of benchmarks/results.py. Every study and model has a folder of its own, so the work can be
cut anywhere: a repeat goes on where the last one stopped, and `--minutes` starts nothing new after so many.

Run: python benchmarks/graph_results.py [--out FOLDER] [--minutes 7] [--study NAME] [--model NAME]
Then: python benchmarks/graph_results.py --page     (the page, from what has been run)
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import perturbcast
from perturbcast.benchmarking.compare import CEILING, summarise
from perturbcast.errors import PerturbcastError
from perturbcast.metrics.base import all_metrics
from perturbcast.models.registry import get_model
from perturbcast.report.figures import Interval, Panel, floor_to_ceiling
from perturbcast.report.summary import Headline, best_model, number, split_title, with_answers
from perturbcast.training.plan import RunOptions

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
KNOWLEDGE = ("genes", "networks")
HEADLINES = {
    "l2": "L2 error",
    "pearson_delta": "Pearson Δ",
    "pearson_delta_perturbed": "Pearson Δ against mean",
    "pds_cosine": "Discrimination",
    "pds_cosine_perturbed": "Discrimination, mean out",
}
RIVALS = ("kernel-ridge", "lowrank-additive")
AT_A_GLANCE = ("l2", "pearson_delta_perturbed")
GLANCE = ("<!-- all models -->", "<!-- end of all models -->")
FLOOR = ("no-change", "mean")
BASELINES = (
    *("kernel-ridge", "lowrank-additive", "kappa-additive", "nearest", "embedding-ridge", "linear", "additive"),
    "matching-mean",
)
FAMILY = (
    *("spectral-ridge", "pair-ridge", "stack", "fmlp", "fmlp:paper", "app", "app:paper", "grape", "grape:paper"),
    *("gears", "gears:paper", "latent-additive", "decoder-only", "graphvci", "scgen"),
    *("grape:code", "gears:legacy", "latent-additive:paper", "decoder-only:paper", "graphvci:paper", "scgen:paper"),
)


@dataclass(frozen=True)
class Study:
    """One file under one split."""

    name: str
    short: str
    title: str
    file: str
    split: str
    seeds: int
    rival: str  # the baseline that the goal names


STUDIES = (
    Study(
        "norman-singles",
        "Norman singles",
        "Norman 2019, activation, responses: single perturbations never seen",
        "responses/norman2019_k562_crispra.h5ad",
        "singles",
        1,
        "kernel-ridge",
    ),
    Study(
        "replogle-singles",
        "Replogle singles",
        "Replogle 2022, interference, responses: single perturbations never seen",
        "responses/replogle2022_k562_crispri_censored.h5ad",
        "singles",
        1,
        "kernel-ridge",
    ),
    Study(
        "norman-doubles",
        "Norman doubles",
        "Norman 2019, activation, responses: doubles never seen, all singles seen",
        "responses/norman2019_k562_crispra.h5ad",
        "doubles",
        5,
        "lowrank-additive",
    ),
    Study(
        "norman-doubles-by-seen",
        "Norman doubles",
        "Norman 2019, activation, responses: doubles by how many of their targets were seen",
        "responses/norman2019_k562_crispra.h5ad",
        "doubles-by-seen",
        2,
        "lowrank-additive",
    ),
    Study(
        "papalexi-cells",
        "Papalexi cells, singles",
        "Papalexi 2021, knock-out, 16,093 cells: single perturbations never seen",
        "screens/papalexi2021_thp1_eccite.h5ad",
        "singles",
        1,
        "kernel-ridge",
    ),
    Study(
        "norman-cells-singles",
        "Norman cells, singles",
        "Norman 2019, activation, 3,375 cells: single perturbations never seen",
        "screens/norman2019_k562_crispra_cells.h5ad",
        "singles",
        1,
        "kernel-ridge",
    ),
    Study(
        "norman-cells-doubles",
        "Norman cells, doubles",
        "Norman 2019, activation, 3,375 cells: doubles never seen",
        "screens/norman2019_k562_crispra_cells.h5ad",
        "doubles",
        1,
        "lowrank-additive",
    ),
)


def folder_of(out: Path, study: Study, model: str) -> Path:
    """Where one model's scores of one study are kept."""
    return out / study.name / model.replace(":", "_")


def listed(model: str) -> bool:
    """Whether this version has the model."""
    try:
        get_model(model)
    except PerturbcastError:
        return False
    return True


def run(study: Study, model: str, *, out: Path, checkpoints: Path | None = None) -> None:
    """The benchmark of one model under one study, run or resumed; with checkpoints also within a fold."""
    options = None if checkpoints is None else RunOptions(folder=folder_of(checkpoints, study, model), loggers=())
    perturbcast.benchmark(
        [SHARED / study.file],
        models=[model],
        splits=[study.split],
        seeds=study.seeds,
        out=folder_of(out, study, model),
        knowledge=[SHARED / name for name in KNOWLEDGE],
        metrics_profile="core",
        run_options=options,
    )


def run_all(
    studies: list[Study], models: list[str], *, out: Path, minutes: float, checkpoints: Path | None = None
) -> bool:
    """Runs what is missing, and prints how long each took; False where the time was up before the end."""
    started = time.monotonic()
    for model in models:
        for study in studies:
            if (folder_of(out, study, model) / "summary.parquet").is_file():
                continue
            if time.monotonic() - started > 60 * minutes:
                return False
            begun, used = time.monotonic(), time.process_time()
            run(study, model, out=out, checkpoints=checkpoints)
            wall, busy = time.monotonic() - begun, time.process_time() - used
            print(f"{study.name}: {model}, {wall:.0f} s, {busy:.0f} s of computing", flush=True)
    return True


def scores_of(out: Path, study: Study) -> pd.DataFrame:
    """The scores of all models of a study, the floors once; groups of test queries are splits of their own."""
    parts = []
    for folder in sorted((out / study.name).glob("*/scores.parquet")):
        part = pd.read_parquet(folder)
        parts.append(part[part.metric.isin([*HEADLINES, "prediction"]) & part.gene_set.isin(["all", ""])])
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    grouped = table["group"].fillna("").astype(str)
    table["split"] = table["split"].astype(str) + np.where(grouped != "", "/" + grouped, "")
    keys = ["dataset", "split", "seed", "fold", "model", "condition", "context", "metric", "gene_set"]
    return table.drop_duplicates(keys)


def rows_by_model(summary: pd.DataFrame, split: str) -> dict[str, dict[str, dict]]:
    """Summary rows of a split: model -> metric -> row."""
    part = summary[(summary.split == split) & (summary.gene_set == "all")]
    found: dict[str, dict[str, dict]] = {}
    for row in part.to_dict("records"):
        found.setdefault(row["model"], {})[row["metric"]] = row
    return found


def table_of(rows: dict[str, dict[str, dict]], metrics: list[str]) -> list[str]:
    """Means with intervals, best L2 first."""
    arrows = {name: "↑" if all_metrics()[name].card.higher_is_better else "↓" for name in metrics}
    head = [f"{HEADLINES[name]} {arrows[name]}" for name in metrics]
    lines = ["| model | " + " | ".join(head) + " | queries | refused |", "|---" * (len(head) + 3) + "|"]
    for model in in_order(rows):
        cells = [shown(rows[model].get(name)) for name in metrics]
        first = next(iter(rows[model].values()))
        lines.append(f"| {model} | " + " | ".join(cells) + f" | {first['n']} | {first['n_refused'] or ''} |")
    return lines


def in_order(rows: dict[str, dict[str, dict]]) -> list[str]:
    """Models that answered most first, then by L2; ceilings last."""

    def place(model: str) -> tuple[bool, int, float]:
        row = rows[model].get("l2", {"n": 0, "mean": np.inf})
        return model.startswith(CEILING), -row["n"], row["mean"] if np.isfinite(row["mean"]) else np.inf

    return sorted(rows, key=place)


def shown(row: dict | None) -> str:
    """A mean with its interval."""
    if row is None or not np.isfinite(row["mean"]):
        return "–"
    return f"{number(row['mean'])} [{number(row['ci_low'])}, {number(row['ci_high'])}]"


def verdicts(scores: pd.DataFrame, split: str, rival: str, metrics: list[str]) -> list[str]:
    """Paired differences of every model to a rival, with 95 % intervals; bold where they exclude zero."""
    summary = summarise(scores[scores.split == split], baselines=(rival,))
    rows = rows_by_model(summary, split)
    if rival not in rows:
        return []
    lines = ["", f"Paired difference to {rival}, on the queries both answered:", ""]
    lines += ["| model | " + " | ".join(HEADLINES[name] for name in metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for model in in_order(rows):
        if model != rival and not model.startswith(CEILING):
            cells = [difference(rows[model].get(name)) for name in metrics]
            lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return lines


def difference(row: dict | None) -> str:
    """A paired difference with its interval and verdict."""
    if row is None or not np.isfinite(row["difference"]):
        return "–"
    mark = {"better": " **better**", "worse": " worse"}.get(row["verdict"], "")
    return f"{row['difference']:+.3f} [{row['diff_low']:+.3f}, {row['diff_high']:+.3f}]{mark}"


def panels_of(part: pd.DataFrame, rows: dict[str, dict[str, dict]], metrics: list[str]) -> list[Panel]:
    """What the figure shows: a panel per metric, each model by one name. `part` are the summary rows of the split."""
    panels = []
    answered = {model: int(rows[model]["l2"]["n"]) for model in rows}
    named = {model: with_answers(model, n, max(answered.values())) for model, n in answered.items()}
    for name in metrics:
        higher = all_metrics()[name].card.higher_is_better
        best = best_model(part, Headline(name, "all", HEADLINES[name], "↑" if higher else "↓"))
        known = [m for m in in_order(rows) if name in rows[m] and np.isfinite(rows[m][name]["mean"])]
        shown = {model: rows[model][name] for model in known if not model.startswith(CEILING)}
        intervals = tuple(
            Interval(
                named[model],
                float(row["mean"]),
                float(row["ci_low"]),
                float(row["ci_high"]),
                bool(np.isclose(row["mean"], shown[best]["mean"])) and row["n"] == shown[best]["n"],
            )
            for model, row in shown.items()
        )
        bounds = shown[best]
        panels.append(Panel(HEADLINES[name], higher, intervals, float(bounds["floor"]), float(bounds["ceiling"])))
    return panels


def chapter(study: Study, scores: pd.DataFrame) -> list[str]:
    """Tables, verdicts and a figure of one study."""
    lines = [f"## {study.title}", ""]
    if not len(scores):
        return [*lines, "Not run.", ""]
    summary = summarise(scores)
    for split in summary.split.unique():
        rows = rows_by_model(summary, split)
        metrics = [name for name in HEADLINES if any(name in of_model for of_model in rows.values())]
        if summary.split.nunique() > 1:
            lines += [f"### {split_title(split)} ({split})", ""]
        lines += [*table_of(rows, metrics)]
        for rival in dict.fromkeys((study.rival, *RIVALS)):
            lines += verdicts(scores, split, rival, metrics)
        picture = f"figures/graph-{study.name}-{split.replace('/', '-')}.png"
        figure = floor_to_ceiling(panels_of(summary[summary.split == split], rows, metrics))
        figure.savefig(ROOT / "docs" / picture, dpi=100, bbox_inches="tight")
        lines += ["", f"![Models between floor and ceiling]({picture})", ""]
    return lines


def at_a_glance(out: Path) -> list[str]:
    """All models and baselines under all studies: a table of L2 and one of correlation beyond the mean."""
    columns: dict[str, dict[str, dict[str, dict]]] = {}
    to_the_mean: dict[str, dict[str, dict[str, dict]]] = {}
    for study in STUDIES:
        scores = scores_of(out, study)
        for split in scores.split.unique() if len(scores) else ():
            name = study.short + (f", {split.rpartition('seen')[2]} seen" if "/" in split else "")
            part = scores[(scores.split == split) & scores.metric.isin([*AT_A_GLANCE, "prediction"])]
            columns[name] = rows_by_model(summarise(part, baselines=(study.rival,)), split)
            to_the_mean[name] = rows_by_model(summarise(part, baselines=("mean",)), split)
    every = {model for rows in columns.values() for model in rows}
    models = sorted(every, key=lambda model: standing(model, to_the_mean))
    lines = []
    for metric in AT_A_GLANCE:
        arrow = "↑" if all_metrics()[metric].card.higher_is_better else "↓"
        lines += [f"| {HEADLINES[metric]} {arrow} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for model in models:
            cells = [at_once(rows.get(model, {}).get(metric), rows["mean"][metric]["n"]) for rows in columns.values()]
            if any(cells):
                lines.append(f"| {model} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def standing(model: str, columns: dict[str, dict[str, dict[str, dict]]]) -> tuple[bool, bool, float, str]:
    """Ceilings last, before them models that refuse most queries; otherwise by `to_mean`, averaged over columns."""
    own = [(rows[model]["l2"], rows["mean"]["l2"]) for rows in columns.values() if model in rows]
    refuses = sum(row["n"] for row, _ in own) < 0.5 * sum(mean["n"] for _, mean in own)
    return model.startswith(CEILING), refuses, float(np.mean([to_mean(row) for row, _ in own])), model


def to_mean(row: dict) -> float:
    """The L2 error in units of that of the mean on the same queries."""
    return row["mean"] / (row["mean"] - row["difference"]) if np.isfinite(row["difference"]) else 1.0


def at_once(row: dict | None, n_queries: int) -> str:
    """A mean: bold where better than the rival, in italics where worse; how many queries, if not all."""
    if row is None or not np.isfinite(row["mean"]):
        return ""
    mark = "" if row["model"].startswith(CEILING) else {"better": "**", "worse": "*"}.get(row["verdict"], "")
    answered = f" ({row['n']})" if row["n"] < n_queries else ""
    return f"{mark}{number(row['mean'])}{mark}{answered}"


def write_glance(out: Path) -> None:
    """The tables of all models in docs/RESULTS.md, between their marks."""
    page = ROOT / "docs" / "RESULTS.md"
    before, _, rest = page.read_text().partition(GLANCE[0])
    after = rest.partition(GLANCE[1])[2]
    page.write_text("\n".join([before + GLANCE[0], "", *at_a_glance(out)]) + GLANCE[1] + after)


def write_page(out: Path) -> None:
    """docs/RESULTS_GRAPH.md: what is written above the mark stays."""
    page = ROOT / "docs" / "RESULTS_GRAPH.md"
    head = (
        page.read_text().partition("<!-- measured -->")[0] if page.is_file() else "# Gene knowledge on real screens\n\n"
    )
    body = "\n".join(line for study in STUDIES for line in chapter(study, scores_of(out, study)))
    page.write_text(f"{head}<!-- measured -->\n\n{body}")


def main() -> None:
    """Runs what is asked for, or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "graph-results")
    parser.add_argument("--minutes", type=float, default=7.0, help="start nothing new after this time")
    parser.add_argument("--study", action="append", choices=[study.name for study in STUDIES])
    parser.add_argument("--model", action="append")
    parser.add_argument(
        "--checkpoints", type=Path, help="of models trained by gradient alone: a fold cut short goes on"
    )
    parser.add_argument("--page", action="store_true", help="write the page from what has been run")
    arguments = parser.parse_args()
    if arguments.page:
        write_page(arguments.out)
        write_glance(arguments.out)
        return
    studies = [study for study in STUDIES if arguments.study is None or study.name in arguments.study]
    models = [name for name in arguments.model or (*BASELINES, *FAMILY) if listed(name)]
    done = run_all(studies, models, out=arguments.out, minutes=arguments.minutes, checkpoints=arguments.checkpoints)
    print("all done" if done else "more to do: run again")


if __name__ == "__main__":
    main()
