"""Every baseline on the real screens of ../shared: writes docs/RESULTS.md and its figures.

Run: python benchmarks/results.py [--out FOLDER] [--jobs 2]   (the folder keeps the benchmarks; a repeat resumes them)
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import read_h5ad

import perturbcast
from perturbcast._progress import BarProgress
from perturbcast.metrics.retrieval import distances, midrank_accuracy
from perturbcast.report.build import panels_of
from perturbcast.report.figures import floor_to_ceiling
from perturbcast.report.summary import Tables, read_tables, sections_of

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
KNOWLEDGE = ("genes", "networks")
OWN_GENES_KEPT = "pds_cosine_perturbed, own genes kept"  # the definition that the known values fit best
PROFILES = ("additive:residual-mean", "kappa-additive:global", "kappa-additive:per-gene", "linear:paper")
MODELS = ("baselines", *PROFILES, "mean:cells", "mean:with-control")

NOTE_OF_DOUBLES = (
    "The plain version's draw of doubles is not known. This comparison keeps to the test doubles whose singles were "
    "both seen (126 of the 130 doubles have both); the table above counts all."
)


@dataclass(frozen=True)
class Study:
    """One file under some splits; `known` is what a plain numpy version reached: (split, model, metric, value)."""

    name: str
    title: str
    file: str
    splits: tuple[str, ...]
    seeds: int
    command: str
    known: tuple[tuple[str, str, str, float], ...] = ()


def command(file: str, splits: str, seeds: int) -> str:
    """The command line that makes the same tables."""
    knowledge = " ".join(f"--{name} ../shared/data/{name}" for name in KNOWLEDGE)
    options = f"--models {','.join(MODELS)} --split {splits} --seeds {seeds} {knowledge} --out out"
    return f"perturbcast benchmark ../shared/data/{file} {options}"


STUDIES = (
    Study(
        "norman-responses-doubles",
        "Norman 2019, activation, responses: double perturbations never seen (all singles seen)",
        "responses/norman2019_k562_crispra.h5ad",
        ("doubles",),
        5,
        command("responses/norman2019_k562_crispra.h5ad", "doubles", 5),
        (
            ("doubles", "no-change", "l2", 24.06),
            ("doubles", "additive", "l2", 19.29),
            ("doubles", "kappa-additive:global", "l2", 16.97),
            ("doubles", "kappa-additive", "l2", 16.47),
            ("doubles", "lowrank-additive", "l2", 16.44),
        ),
    ),
    Study(
        "norman-responses-singles",
        "Norman 2019, activation, responses: single perturbations never seen",
        "responses/norman2019_k562_crispra.h5ad",
        ("singles",),
        1,
        command("responses/norman2019_k562_crispra.h5ad", "singles", 1),
        (
            ("singles", "mean", "l2", 15.69),
            ("singles", "kernel-ridge", "l2", 15.44),
            ("singles", "kernel-ridge", "pds_cosine", 0.68),
            ("singles", "kernel-ridge", "pds_cosine_perturbed", 0.68),
            ("singles", "kernel-ridge", OWN_GENES_KEPT, 0.68),
        ),
    ),
    Study(
        "replogle-responses-singles",
        "Replogle 2022, interference, responses: single perturbations never seen",
        "responses/replogle2022_k562_crispri_censored.h5ad",
        ("singles",),
        1,
        command("responses/replogle2022_k562_crispri_censored.h5ad", "singles", 1),
        (
            ("singles", "mean", "l2", 9.96),
            ("singles", "kernel-ridge", "l2", 9.02),
            ("singles", "kernel-ridge", "pearson_delta_perturbed", 0.345),
            ("singles", "kernel-ridge", "pds_cosine", 0.79),
            ("singles", "kernel-ridge", "pds_cosine_perturbed", 0.79),
            ("singles", "kernel-ridge", OWN_GENES_KEPT, 0.79),
        ),
    ),
    Study(
        "papalexi-cells",
        "Papalexi 2021, knock-out, 16,093 cells: single perturbations never seen, and held-out cells",
        "screens/papalexi2021_thp1_eccite.h5ad",
        ("singles", "cells"),
        1,
        command("screens/papalexi2021_thp1_eccite.h5ad", "singles,cells", 1),
    ),
    Study(
        "norman-cells",
        "Norman 2019, activation, 3,375 cells: singles and doubles never seen, and held-out cells",
        "screens/norman2019_k562_crispra_cells.h5ad",
        ("singles", "doubles", "cells"),
        1,
        command("screens/norman2019_k562_crispra_cells.h5ad", "singles,doubles,cells", 1),
    ),
    Study(
        "adamson-cells",
        "Adamson 2016 pilot, interference, 360 cells and five targets: as far as they carry",
        "screens/adamson2016_k562_pilot.h5ad",
        ("singles", "cells"),
        1,
        command("screens/adamson2016_k562_pilot.h5ad", "singles,cells", 1),
    ),
)


def run(study: Study, *, out: Path, jobs: int) -> Path:
    """The benchmark folder of a study, run or resumed."""
    done = perturbcast.benchmark(
        [SHARED / study.file],
        models=list(MODELS),
        splits=list(study.splits),
        seeds=study.seeds,
        out=out / study.name,
        knowledge=[SHARED / name for name in KNOWLEDGE],
        jobs=jobs,
        progress=BarProgress(),
    )
    perturbcast.build_report(done.folder)
    return done.folder


def table_of(section, summary: pd.DataFrame) -> list[str]:
    """The models of a section as a Markdown table: headline means with intervals, verdict of the first."""
    head = [f"{headline.title} {headline.arrow}" for headline in section.headlines]
    lines = ["| model | " + " | ".join(head) + " | queries | refused |", "|---" * (len(head) + 3) + "|"]
    for row in section.rows:
        cells = ["–" if cell is None else f"{cell.value} {cell.interval} {mark(cell.verdict)}" for cell in row.cells]
        lines.append(f"| {row.model} | " + " | ".join(cells) + f" | {row.n} | {row.n_refused or ''} |")
    return lines


def mark(verdict: str) -> str:
    """A short sign for a verdict."""
    return {"better": "**better**", "worse": "worse"}.get(verdict, "")


def discrimination_with_own_genes(folder: Path, *, split: str, model: str) -> float:
    """Mean over folds of the mid-rank accuracy by cosine, the mean response taken out, every gene counted."""
    scores = []
    for fold in sorted(folder.glob(f"predictions/*/{split}/*")):
        truth, mean, own = (read_h5ad(fold / f"{name}.h5ad").X.astype(float) for name in ("truth", "mean", model))
        every_gene = np.ones(truth.shape, dtype=bool)
        scores.append(midrank_accuracy(distances(own - mean, truth - mean, mask=every_gene, kind="cosine")).mean())
    return float(np.mean(scores))


def against_known(study: Study, tables: Tables) -> list[str]:
    """Our value beside the plain numpy version's, for every value known."""
    if not study.known:
        return []
    table = summary_of_answered_doubles(tables.scores) if study.splits == ("doubles",) else tables.summary
    lines = ["", NOTE_OF_DOUBLES] if study.splits == ("doubles",) else []
    lines += ["", "| split | model | metric | plain numpy version | here | difference |", "|---|---|---|---|---|---|"]
    for split, model, metric, known in study.known:
        keep = (table.split == split) & (table.model == model) & (table.metric == metric)
        found = table[keep & (table.gene_set == "all")]["mean"]
        value = float(found.iloc[0]) if len(found) else np.nan
        if metric == OWN_GENES_KEPT:
            value = discrimination_with_own_genes(tables.folder, split=split, model=model)
        lines.append(f"| {split} | {model} | {metric} | {known:g} | {value:.4g} | {value - known:+.3f} |")
    return lines


def summary_of_answered_doubles(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over the test doubles whose singles were both seen, seeds weighed equally."""
    both = scores[(scores.model == "additive") & (scores.support == "singles")][["seed", "condition"]].drop_duplicates()
    kept = scores.merge(both, on=["seed", "condition"])
    by_seed = kept.groupby(["split", "model", "metric", "gene_set", "seed"], sort=False)["value"].mean()
    return by_seed.groupby(["split", "model", "metric", "gene_set"], sort=False).mean().rename("mean").reset_index()


def chapter(study: Study, folder: Path) -> list[str]:
    """Everything RESULTS.md says of one study; draws its figures."""
    tables = read_tables(folder)
    lines = [f"## {study.title}", "", f"`{study.command}`", ""]
    lines += [f"- {name}: {value}" for name, value in tables.run["datasets"][0].get("facts", {}).items()]
    for section in sections_of(tables):
        picture = f"figures/results-{study.name}-{section.split.replace('/', '-')}.png"
        panels = [panel for panel in panels_of(tables, section) if panel.intervals]
        lines += ["", f"### {section.title}", "", *[f"- {sentence}" for sentence in section.verdict], ""]
        if panels:
            floor_to_ceiling(panels).savefig(ROOT / "docs" / picture, dpi=110, bbox_inches="tight")
            lines += [f"![Models between floor and ceiling]({picture})", ""]
        lines += table_of(section, tables.summary)
    return lines + against_known(study, tables) + [""]


def main() -> None:
    """Runs every study and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "results")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", help="run one study, by name; the page is not written")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    studies = [study for study in STUDIES if arguments.only in (None, study.name)]
    folders = {study.name: run(study, out=arguments.out, jobs=arguments.jobs) for study in studies}
    if arguments.only:
        return
    page = (ROOT / "docs" / "RESULTS.md").read_text()
    head = page.partition("<!-- measured -->")[0]
    body = "\n".join(line for study in studies for line in chapter(study, folders[study.name]))
    (ROOT / "docs" / "RESULTS.md").write_text(f"{head}<!-- measured -->\n\n{body}")


if __name__ == "__main__":
    main()
