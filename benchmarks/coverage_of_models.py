"""How much of a new condition nominal 90 % intervals hold: simulated worlds, and the real screens of ../shared.

A condition counts with the share of its genes whose measured response lies within 1.645 standard deviations of the
prediction; coverage is the mean over held-out conditions. Real screens are read from the predictions that
benchmarks/graph_results.py left in its folder. Writes docs/COVERAGE.md.

Run: python benchmarks/coverage_of_models.py [--results out/graph-results] [--models A,B] [--worlds 3] [--out FOLDER]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import read_h5ad

from perturbcast.data.simulate import simulate
from perturbcast.data.split_rules import design_of, doubles_by_seen, half_of_doubles, singles_by_fold
from perturbcast.data.statistics import response_table
from perturbcast.genes.simulated import knowledge_of
from perturbcast.models.base import TrainingData
from perturbcast.models.conformal import LEVEL, Z
from perturbcast.models.registry import get_model

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "COVERAGE.md"
MODELS = (
    *("no-change", "mean", "kernel-ridge", "lowrank-additive", "spectral-ridge", "pair-ridge"),
    *("fmlp", "app", "grape", "gears", "latent-additive", "decoder-only", "graphvci", "scgen"),
)
LOW, HIGH = 0.85, 0.95
WORLD = {"n_cells": 6000, "n_genes": 200, "n_targets": 60, "n_doubles": 40}
HEAD = f"""# How often intervals hold

`sd` of a prediction is meant so that mean ± 1.645 sd holds {100 * LEVEL:.0f} % of the genes of a new condition, in the
mean over new conditions. Every model learns it from training conditions that were left out (split-conformal over
conditions, the next one counting as the worst of those left out): in folds, or one by one in closed form where no fit
is needed (means, sums of singles, the posterior of `kernel-ridge`). Without three doubles of known singles in training
sums have none (–).
Goal: {100 * LOW:.0f} to {100 * HIGH:.0f} %. Brackets
hold the 5th and the 95th percentile over conditions: single conditions may lie far from the mean. In **bold** what
misses the goal. Unseen doubles are asked with half of the doubles in training, or by how many of their targets were
seen.
Made by `python benchmarks/coverage_of_models.py`.

"""


def simulated_splits(responses, *, seed: int):
    """(question, training side, test side) of one world."""
    design = design_of(responses)
    row = {query: place for place, query in enumerate(responses.queries)}
    splits = {"singles": singles_by_fold(design, seed=seed, folds=5)[0], "doubles": half_of_doubles(design, seed=seed)}
    splits["doubles by seen"] = doubles_by_seen(design, seed=seed)
    for name, split in splits.items():
        sides = [np.array([row[query] for query in side]) for side in (split.train, split.test)]
        yield name, responses.take(sides[0]), responses.take(sides[1])


def of_simulated(models: list[str], *, n_worlds: int) -> pd.DataFrame:
    """Coverage per condition: columns where, question, model, coverage."""
    rows = []
    for seed in range(n_worlds):
        world = simulate(**WORLD, seed=seed)
        knowledge = knowledge_of(world)
        for question, train, test in simulated_splits(response_table(world.screen), seed=seed):
            for model in models:
                started = time.process_time()
                given = TrainingData(train, screen=world.screen, knowledge=knowledge)
                fitted = get_model(model).fit(given, seed=seed)
                found = fitted.predict(test.queries)
                if found.sd is not None:
                    held = covered(test.response, found.response, found.sd)
                    rows += [("simulated", question, model, value, seed) for value in held]
                print(f"world {seed}, {question}: {model}, {time.process_time() - started:.0f} s", flush=True)
    return pd.DataFrame(rows, columns=["where", "question", "model", "coverage", "world"])


def covered(truth: np.ndarray, response: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """(condition,) share of genes within the interval; conditions without an answer are left out."""
    known = np.isfinite(sd).all(axis=1) & np.isfinite(response).all(axis=1)
    return np.asarray((np.abs(truth - response) <= Z * sd)[known].mean(axis=1))


def of_real(results: Path) -> pd.DataFrame:
    """Coverage per condition of what benchmarks/graph_results.py predicted."""
    rows = []
    for folder in sorted(results.glob("*/*")):
        study = folder.parent.name
        for truth in sorted(folder.glob("predictions/*/*/*/truth.h5ad")):
            own = truth.parent / f"{folder.name}.h5ad"
            if not own.is_file():
                continue
            found, observed = read_h5ad(own), read_h5ad(truth)
            if "sd" in found.layers and np.isfinite(np.asarray(found.layers["sd"])).any():
                held = covered(np.asarray(observed.X), np.asarray(found.X), np.asarray(found.layers["sd"]))
                name = folder.name.replace("_", ":")
                rows += [(study, truth.parent.parent.name, name, value) for value in held]
    return pd.DataFrame(rows, columns=["where", "question", "model", "coverage"])


def with_worlds(found: pd.DataFrame) -> pd.DataFrame:
    """The table with how many worlds a model was asked in beside its name."""
    n_worlds = found["world"].nunique()
    return found.assign(model=found["model"] + f" ({n_worlds} world{'s' * (n_worlds > 1)})")


def table_of(found: pd.DataFrame) -> list[str]:
    """Models by question, as a Markdown table."""
    asked = list(dict.fromkeys(zip(found["where"], found["question"], strict=True)))
    titles = [where if question in where else f"{where}: {question}" for where, question in asked]
    lines = ["| model | " + " | ".join(titles) + " |", "|---" * (len(asked) + 1) + "|"]
    for model in dict.fromkeys(found.model):
        cells = [
            cell(found[(found.model == model) & (found["where"] == where) & (found.question == question)].coverage)
            for where, question in asked
        ]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return lines


def cell(values: pd.Series) -> str:
    """Mean coverage in %, with the 5th and 95th percentile over conditions."""
    if not len(values):
        return "–"
    mean = f"{100 * values.mean():.1f}"
    low, high = (f"{100 * values.quantile(level):.0f}" for level in (0.05, 0.95))
    return f"{mean if LOW <= values.mean() <= HIGH else f'**{mean}**'} [{low}, {high}]"


def main() -> None:
    """Simulated worlds anew unless kept, real screens from a folder; writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "graph-results")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--worlds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "coverage", help="keeps the simulated worlds")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for model in arguments.models.split(","):
        kept = arguments.out / f"{model.replace(':', '_')}-{arguments.worlds}.csv"
        if not kept.is_file():
            of_simulated([model], n_worlds=arguments.worlds).to_csv(kept, index=False)
    parts = [pd.read_csv(file) for file in sorted(arguments.out.glob("*.csv"))]
    lines = [HEAD, "## Simulated worlds", "", *table_of(pd.concat([with_worlds(part) for part in parts])), ""]
    real = of_real(arguments.results)
    if len(real):
        lines += ["## Real screens", "", *table_of(real), ""]
    PAGE.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
