"""GRAPE on the paper's own scale and scores (spec A.6, A.10) as far as the data at hand go, beside simple models.

Run: python benchmarks/grape_published.py          (a few minutes on one core; --models and --folds for less)

The shared cells of Norman et al. hold 18 singles and 500 genes of the paper's about 100 singles and 5,000 genes, on its
scale, ln(1 + counts per 10,000). Adamson's screen is at hand with 5 targets of 87: too few to leave any out.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from perturbcast.data.conditions import targets_of
from perturbcast.data.de import differential_expression
from perturbcast.data.readers import read
from perturbcast.data.statistics import response_table
from perturbcast.genes.load import load_knowledge
from perturbcast.metrics.base import Evaluation
from perturbcast.metrics.score import score
from perturbcast.models.base import TrainingData
from perturbcast.models.registry import get_model

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CELLS = SHARED / "screens" / "norman2019_k562_crispra_cells.h5ad"
MODELS = ("no-change", "mean", "kernel-ridge", "grape", "grape:paper", "grape:code")
SHOWN = (("rmse", "all"), ("dac", "all"), ("dac", "de20"), ("pearson_delta", "all"), ("pearson_delta", "de20"))
PUBLISHED = (0.0482, 0.7583, 0.7352, 0.4742, 0.5452)  # Norman singles; A.7


def scores_of(name, screen, table, knowledge, *, folds):
    """Scores of all singles, each predicted by the model fitted without it and the others of its fold."""
    found, order = [], np.random.default_rng(0).permutation(table.n_queries)
    for test in np.array_split(order, folds):
        train = table.take(np.setdiff1d(order, test))
        truth = table.take(np.sort(test))
        predicted = get_model(name).fit(TrainingData(train, knowledge=knowledge), seed=0).predict(truth.queries)
        tested = differential_expression(screen, queries=truth.queries)
        evaluation = Evaluation(truth, predicted, train, de=tested, screen=screen)
        found += [
            score(evaluation, metrics=[metric], gene_sets=[genes]).assign(shown=f"{metric} {genes}")
            for metric, genes in SHOWN
        ]
    return pd.concat(found)


def main() -> None:
    """Prints a Markdown table of means over unseen singles, and the paper's row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    asked = parser.parse_args()
    screen = read(CELLS)
    table = response_table(screen)
    table = table.take(np.array([len(targets_of(query.condition)) == 1 for query in table.queries]).nonzero()[0])
    knowledge = load_knowledge([SHARED / "genes", SHARED / "networks"], genes=table.genes, targets=table.targets)
    names = [" ".join(pair) for pair in SHOWN]
    print("| model | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1), flush=True)
    for model in asked.models:
        mean = scores_of(model, screen, table, knowledge, folds=asked.folds).groupby("shown")["value"].mean()
        print(f"| {model} | " + " | ".join(f"{mean[name]:.4f}" for name in names) + " |", flush=True)
    print("| *Table 1: other targets, ten times the genes* | " + " | ".join(map(str, PUBLISHED)) + " |")


if __name__ == "__main__":
    main()
