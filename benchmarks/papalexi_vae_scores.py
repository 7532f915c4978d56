"""Scores of benchmarks/papalexi_vae.py, and its data: average effects, generated cells, networks, quality of cells."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import perturbcast
from perturbcast.data.artefacts import ArtefactRule, artefact_labels
from perturbcast.data.conditions import Query
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.metrics.cells import (
    Cells,
    ControlCells,
    cells_of,
    coupled_cells,
    negative_binomial_dispersion,
    predicted_linear,
    shift_cells,
)
from perturbcast.metrics.distribution import Projection, energy_distance, fit_projection, mmd_squared
from perturbcast.models.anchors import anchors
from perturbcast.models.base import TrainingData
from perturbcast.models.capabilities import SamplesCells
from perturbcast.models.cleaning import clean_cells, pass_rates
from perturbcast.models.cradle_vae import FittedCradle
from perturbcast.models.gpo_fit import standard_errors
from perturbcast.models.gpo_vae import FittedGpo
from perturbcast.networks.actions import score_saved
from perturbcast.networks.causalbench import hold_out
from perturbcast.networks.network import Network

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
SCREEN = SHARED / "screens" / "papalexi2021_thp1_eccite.h5ad"
REFERENCES = ("collectri_human.csv", "trrust_human.tsv", "dorothea_abc_human.tsv.gz", "string_human.csv")
PATHWAY = ("IFNGR1", "IFNGR2", "JAK2", "STAT1", "IRF1")
TOPS = (20, 50, 100, 200, 500, 1000)
THRESHOLDS = (3.0, 4.0, 5.0)
MOST_CELLS = 128  # of each side of a comparison of cells

BASELINES = (
    "training mean",
    "training mean, shrunk to 0",
    "training mean, shrunk to all",
    "mean of all targets",
    "no change",
)


@cache
def whole() -> Screen:
    """The 16,093 clear cells."""
    screen = perturbcast.read(SCREEN)
    assert isinstance(screen, Screen)
    return screen


@cache
def sides(seed: int) -> tuple[Screen, Screen]:
    """Four fifths of the cells of each target, and the rest."""
    train, test = hold_out(whole(), share=0.2, seed=seed)
    return train, test


@cache
def table_of(seed: int, side: int) -> ResponseTable:
    """Mean responses of one side: 0 training, 1 held-out cells, 2 all cells."""
    return TrainingData.of(whole() if side == 2 else sides(seed)[side]).responses


# ------------------------------------------------------------------------------------------- average effects (spec 8.2)
def top(values: np.ndarray, k: int) -> list[set[int]]:
    """The k genes of each row that move most."""
    return [set(row) for row in np.argsort(-np.abs(values), axis=1, kind="stable")[:, :k].tolist()]


def effects(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Equations (28) and (29), data as truth, and the mean correlation and L2 per target."""
    moved = np.abs(truth) >= -np.sort(-np.abs(truth), axis=1)[:, 19:20]
    scores = {"rho": pearson(truth, found), "r2": r_squared(truth, found)}
    scores |= {
        "rho of top 20": pearson(truth[moved], found[moved]),
        "r2 of top 20": r_squared(truth[moved], found[moved]),
    }
    for k in (20, 50):
        pairs = zip(top(truth, k), top(found, k), strict=True)
        shared = [len(a & b) / len(a | b) for a, b in pairs] if found.any() else [float("nan")]
        scores[f"jaccard {k}"] = float(np.mean(shared))
    scores["rho per target"] = float(np.mean([pearson(a, b) for a, b in zip(truth, found, strict=True)]))
    return scores | {"l2": float(np.linalg.norm(truth - found, axis=1).mean())}


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two arrays, flattened; NaN where one is constant."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if b.std() > 0 else float("nan")


def r_squared(truth: np.ndarray, found: np.ndarray) -> float:
    """1 - Σ(T - Y)² / Σ(T - mean T)²."""
    return float(1 - ((truth - found) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def ceiling(table: ResponseTable, rows: np.ndarray) -> dict[str, float]:
    """What half of the reference cells scores on the other half, and what a model without error would score on all."""
    assert table.response_halves is not None
    first, second = table.response_halves[:, rows]
    halves = pearson(first, second)
    truth = table.response[rows]
    noise = ((first - second) ** 2).sum() / 4
    shared = [len(a & b) / len(a | b) for a, b in zip(top(first, 50), top(second, 50), strict=True)]
    return {
        "rho half on half": halves,
        "rho": float(np.sqrt(2 * halves / (1 + halves))),
        "r2": float(1 - noise / ((truth - truth.mean()) ** 2).sum()),
        "jaccard 50 half on half": float(np.mean(shared)),
        "l2": float(np.sqrt(((first - second) ** 2).sum(axis=1) / 4).mean()),
    }


def baseline(name: str, seed: int, queries: list[Query]) -> np.ndarray:
    """(query, gene) responses of a simple baseline."""
    table = table_of(seed, 0)
    own = table.response[table.index(queries)]
    centre = np.broadcast_to(table.perturbed_mean(), own.shape)
    if name == "training mean":
        return own
    if name.startswith("training mean, shrunk"):  # to no change or to the mean of all targets, by empirical Bayes
        base = centre if name.endswith("all") else np.zeros_like(own)
        return np.asarray(base + anchors(own, base, standard_errors(table)[table.index(queries)]))
    return centre if name == "mean of all targets" else np.zeros_like(own)


# --------------------------------------------------------------------------------------------------- generated cells
def cell_distances(seed: int, draw: Callable[[Query, int], Cells], queries: list[Query]) -> dict[str, Any]:
    """Energy distance and MMD (unbiased) of drawn to held-out cells by target, as many a side, in 50 components."""
    test = sides(seed)[1]
    every = np.ones(test.n_genes, dtype=bool)
    projection = projection_of(seed)
    found: dict[str, dict[str, float]] = {}
    for query in queries:
        held = test.cells_of(query)[:MOST_CELLS]
        near = projection(cells_of(test, held).expression, every)
        far = projection(draw(query, len(held)).expression, every)
        found[query.condition] = {
            "energy": energy_distance(far, near, unbiased=True),
            "mmd": mmd_squared(far, near, unbiased=True),
        }
    return found


@cache
def projection_of(seed: int) -> Projection:
    """Components of 2,000 training cells."""
    train = sides(seed)[0]
    chosen = np.sort(np.random.default_rng(seed).choice(train.n_cells, 2000, replace=False))
    return fit_projection(cells_of(train, chosen).expression, n_components=50)


def generated(fitted: SamplesCells, seed: int) -> Callable[[Query, int], Cells]:
    """Posterior-predictive cells."""
    from scipy import sparse

    def draw(query: Query, n: int) -> Cells:
        counts = sparse.csr_matrix(fitted.sample_cells(query, n_cells=n, seed=seed).astype(np.float32))
        depth = np.asarray(counts.sum(axis=1)).ravel()
        return Cells(counts, np.divide(1e4, depth, out=np.zeros(n), where=depth > 0))

    return draw


def simple_cells(name: str, seed: int) -> Callable[[Query, int], Cells]:
    """Cells without a model: training cells of the target (ceiling), shifted control cells, control cells."""
    train, table = sides(seed)[0], table_of(seed, 0)
    control = np.flatnonzero(train.is_control)

    def draw(query: Query, n: int) -> Cells:
        rng = np.random.default_rng([seed, *query.condition.encode()])
        if name == "training cells of the target":
            own = train.cells_of(query)
            return cells_of(train, rng.choice(own, n, replace=n > len(own)))
        cells = cells_of(train, rng.choice(control, n, replace=n > len(control)))
        if name == "control cells":
            return cells
        response = table.response[table.index([query])[0]]
        if name == "control cells, shifted in the logarithm":
            return shift_cells(cells, response, seed=seed)
        start = ControlCells(
            cells=cells,
            expression=table.control[0],
            linear=np.asarray(cells_of(train, control).linear.mean(axis=0), dtype=np.float64).ravel(),
            dispersion=negative_binomial_dispersion(cells_of(train, control)),
        )
        return coupled_cells(cells, start, predicted_linear(start, response), seed=seed)

    return draw


SIMPLE_CELLS = (
    "training cells of the target",
    "control cells, thinned or added to",
    "control cells, shifted in the logarithm",
    "control cells",
)


# ------------------------------------------------------------------------------------------------ networks and pathway
def network_scores(network: Network, seed: int) -> list[dict[str, Any]]:
    """CausalBench's scores on the held-out cells, and scores against references."""
    references = [SHARED / "networks" / name for name in REFERENCES]
    scored = score_saved(
        network, whole(), references=references, tops=TOPS, targets="measured", n_bootstrap=100, seed=seed
    )
    return [{str(key): value for key, value in row.items()} for row in scored.to_dict("records")]


def neighbours(responses: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """The five targets with the responses most like (cosine) that of each gene of the pathway."""
    names = list(responses)
    values = np.stack([responses[name] for name in names])
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    alike = (values @ values.T) / np.maximum(norm @ norm.T, 1e-12)
    np.fill_diagonal(alike, -np.inf)
    return {gene: [names[k] for k in np.argsort(-alike[names.index(gene)])[:5]] for gene in PATHWAY}


def inside(network: Network) -> list[dict[str, Any]]:
    """Rank, weight and sign of the edges within the pathway."""
    edges = network.edges()
    edges["rank"] = np.arange(1, len(edges) + 1)
    own = edges[edges["source"].isin(PATHWAY) & edges["target"].isin(PATHWAY)]
    kept = [name for name in ("source", "target", "rank", "weight", "sign", "probability") if name in own]
    return [{str(key): value for key, value in row.items()} for row in own[kept].to_dict("records")]


# --------------------------------------------------------------------------------------------------- quality of cells
def quality(fitted: FittedCradle | FittedGpo, seed: int) -> dict[str, Any]:
    """Pass rates (8.3, mean(1 - q)) of held-out cells, of cells that the model made, and of cleaned held-out cells."""
    test = sides(seed)[1]
    rule = ArtefactRule()
    labels = artefact_labels(test, rule=rule)
    made = pass_rates(fitted, test, rule=rule, thresholds=THRESHOLDS, seed=seed)
    weight = {name: test.cells_of(Query(name, "")).size for name in set(made["condition"])}
    cleaned = clean_cells(fitted, test, failed=labels.failed, seed=seed)
    rows = []
    for at, part in made.groupby("threshold"):
        limits = artefact_labels(test, rule=replace(rule, threshold=float(str(at)), per_batch=False))
        after = limits.judge(cleaned.stored(np.arange(test.n_cells)), test.genes, scale=test.scale)
        bad = labels.failed
        share = np.average(part["generated"], weights=[weight[name] for name in part["condition"]])
        rows.append(
            {
                "threshold": float(str(at)),
                "observed": 1 - limits.share_failed,
                "generated": float(share),
                "cleaned": float(1 - after.mean()),
                "failing, before": float(1 - limits.failed[bad].mean()),
                "failing, cleaned": float(1 - after[bad].mean()),
            }
        )
    flags = {name: int(values.sum()) for name, values in labels.flags.items()}
    return {"rates": rows, "flags": flags, "notes": [*labels.notes, *fitted.notes], "n_cells": test.n_cells}
