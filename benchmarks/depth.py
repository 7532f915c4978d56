"""What the depth of Norman's pseudobulks is worth to models of unseen perturbations (docs/RESULTS_GRAPH.md, Depth).

Counts are read back from the responses; training responses are then drawn to the mean of each gene by what counting
leaves uncertain (gamma-Poisson), at one depth for all, or queries are weighed by depth as by numbers of cells.

Run: python benchmarks/depth.py      (needs ../shared; some two minutes)
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from perturbcast.data.conditions import is_single
from perturbcast.data.counts_behind import Counts, counts_behind
from perturbcast.data.readers import read
from perturbcast.data.responses import ResponseTable
from perturbcast.data.split_rules import design_of, half_of_doubles, singles_by_fold
from perturbcast.genes.load import load_knowledge
from perturbcast.metrics.recounted import expected_log, spread_of_rates
from perturbcast.models.base import TrainingData
from perturbcast.models.registry import get_model

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
FILE = SHARED / "responses" / "norman2019_k562_crispra.h5ad"
CELL = 14_200  # molecules of a cell, about: weights need only their ratio
Prepare = Callable[[ResponseTable, np.ndarray], ResponseTable]


def as_measured(table: ResponseTable, rows: np.ndarray) -> ResponseTable:
    """Training as it is."""
    return table.take(rows)


def denoised(counts: Counts) -> Prepare:
    """Training responses as the median depth would show them, of posterior mean rates."""

    def prepare(table: ResponseTable, rows: np.ndarray) -> ResponseTable:
        part, one = table.take(rows), counts.one[rows][:, None]
        known = np.isfinite(counts.level)
        seen = replace(counts, one=counts.one[rows]).of(part.response)[:, known]
        mean, dispersion = spread_of_rates(seen * one, one)
        rates = (seen + 1 / dispersion) / (1 / one + 1 / (dispersion * mean))
        usual = np.full_like(one, np.median(one))
        response = part.response.copy()
        response[:, known] = counts.response(expected_log(rates / usual, usual))
        return replace(part, response=response)

    return prepare


def weighed(counts: Counts) -> Prepare:
    """Training with numbers of cells in proportion to depth."""

    def prepare(table: ResponseTable, rows: np.ndarray) -> ResponseTable:
        return replace(table.take(rows), n_cells=np.maximum(1e6 / counts.one[rows] / CELL, 1).astype(np.int64))

    return prepare


def scores(model: str, fields: dict, prepare: Prepare, table: ResponseTable, splits, knowledge) -> np.ndarray:
    """(condition, 2) L2 and correlation beyond the mean, by condition, means over splits."""
    row = {query: place for place, query in enumerate(table.queries)}
    found: dict[str, list[tuple[float, float]]] = {}
    for split in splits:
        train, test = (np.array([row[query] for query in side]) for side in (split.train, split.test))
        given = prepare(table, train)
        fitted = get_model(model, **fields).fit(TrainingData(given, knowledge=knowledge), seed=1)
        asked = [table.queries[place] for place in test]
        singles = is_single(asked[0].condition)
        alike = np.array([is_single(table.queries[place].condition) == singles for place in train])
        level = (table.response[train] - given.response)[alike].mean(axis=0)  # what drawing to the mean has moved
        mean = table.response[train].mean(axis=0)
        for query, predicted in zip(asked, fitted.predict(asked).response + level, strict=True):
            truth = table.response[row[query]]
            beyond = np.corrcoef(predicted - mean, truth - mean)[0, 1]
            found.setdefault(query.condition, []).append((float(np.linalg.norm(predicted - truth)), float(beyond)))
    return np.array([np.mean(found[condition], axis=0) for condition in sorted(found)])


def main() -> None:
    """Prints a line per model and way, with paired differences to training as measured."""
    table = read(FILE)
    assert isinstance(table, ResponseTable)
    counts = counts_behind(table.response)
    assert counts is not None
    size = np.linalg.norm(table.response - table.response.mean(axis=0), axis=1)
    print(f"log size and log depth correlate by {np.corrcoef(np.log(size), -np.log(counts.one))[0, 1]:.2f}")
    design = design_of(table)
    knowledge = load_knowledge([SHARED / "genes", SHARED / "networks"], genes=table.genes, targets=table.targets)
    singles = singles_by_fold(design, seed=1, folds=5)
    doubles = [half_of_doubles(design, seed=seed) for seed in range(1, 6)]
    tried = [
        ("singles", singles, "spectral-ridge", [("denoised", {}), ("denoised", {"evenness": 0.25})]),
        ("singles", singles, "kernel-ridge", [("weighed", {}), ("denoised", {})]),
        ("doubles", doubles, "pair-ridge", [("denoised", {})]),
        ("doubles", doubles, "lowrank-additive", [("denoised", {})]),
    ]
    ways = {"denoised": denoised(counts), "weighed": weighed(counts)}
    for question, splits, model, options in tried:
        plain = scores(model, {}, as_measured, table, splits, knowledge)
        print(f"{question}, {model}: L2 {plain[:, 0].mean():.3f}, r {np.nanmean(plain[:, 1]):.3f}", flush=True)
        for way, fields in options:
            own = scores(model, fields, ways[way], table, splits, knowledge)
            gain = own - plain
            error = 2 * np.nanstd(gain, axis=0) / np.sqrt(len(gain))
            shown = [f"{np.nanmean(gain[:, k]):+.3f} ± {error[k]:.3f}" for k in (0, 1)]
            print(f"  {way} {fields or ''}: L2 {own[:, 0].mean():.3f} ({shown[0]}), r {shown[1]}", flush=True)


if __name__ == "__main__":
    main()
