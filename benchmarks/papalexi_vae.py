"""The VAE family on Papalexi 2021 (THP-1, knock-out, 25 targets), beside simple baselines: docs/RESULTS_VAE.md.

    python benchmarks/papalexi_vae.py [--out FOLDER] [--models a,b] [--seeds 2] [--folds 5] [--epochs N] [--only-page]

One result file per model and seed (seen targets) and per model and fold (held-out targets); a repeat goes on where it
stopped, also within a training, and then writes the page. Seeds start at 1: settings were chosen on the split of seed
0. All models see the same four fifths of the cells of each target, and are scored on the other fifth.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from papalexi_vae_page import write_page
from papalexi_vae_scores import (
    BASELINES,
    ROOT,
    SHARED,
    SIMPLE_CELLS,
    baseline,
    ceiling,
    cell_distances,
    effects,
    generated,
    inside,
    neighbours,
    network_scores,
    quality,
    sides,
    simple_cells,
    table_of,
    whole,
)

import perturbcast
from perturbcast.data.conditions import Query
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.models.base import FittedModel, TrainingData
from perturbcast.models.capabilities import SamplesCells, fit_on
from perturbcast.models.cradle_vae import FittedCradle
from perturbcast.models.gpo_vae import FittedGpo
from perturbcast.networks.export import write_network
from perturbcast.networks.from_model import network_of_model
from perturbcast.networks.methods import infer
from perturbcast.training.plan import RunOptions

FIRST_SEED = 1
STEP = {"lr": 2e-3, "n_particles": 2, "patience": 15, "max_epochs": 200}  # chosen on seed 0; published: 3e-4, 5
SMALL = STEP | {"n_latent": 30}
SPARSE = {"embedding_layers": 2, "embedding_width": 100, "mask_prior": 0.1}
MODELS: dict[str, dict[str, Any]] = {
    "sams-vae": SMALL | SPARSE,
    "gpo-vae": STEP,
    "conditional-vae": SMALL,
    "cpa-vae": SMALL,
    "svae-plus": SMALL,
    "cradle-vae": SMALL | SPARSE,
    "sams-vae:paper": STEP,
    "cradle-vae:paper": STEP,
    "gpo-vae:paper": STEP,
}
NETWORKS = ("mean-difference", "local-response", "correlation", "partial-correlation", "lasso", "random")
GPO_OF_FOLDS = STEP | {"max_epochs": 2, "n_averaged": 256}  # its answers for unseen targets hardly depend on it
UNSEEN = ("gpo-vae", "kernel-ridge", "embedding-ridge", "mean", "no-change")


# ------------------------------------------------------------------------------------------------------------ the runs
def of_model(label: str, fields: dict[str, Any], seed: int, *, out: Path) -> dict[str, Any]:
    """Everything of one trained model on one split of cells."""
    train = sides(seed)[0]
    queries = list(table_of(seed, 0).queries)
    start = time.perf_counter()
    checkpoints = RunOptions(folder=out / "checkpoints" / f"{file_name(label)}-{seed}")
    fitted = fit_on(perturbcast.get_model(label, **fields), TrainingData.of(train), options=checkpoints, seed=seed)
    seconds = time.perf_counter() - start
    found = fitted.predict(queries).response
    result = seen(found, seed, queries)
    losses = fitted.losses.tolist()  # type: ignore[attr-defined]
    result |= {"fields": fields, "seconds": seconds, "n_epochs": len(losses), "losses": losses}
    result["refusal"] = fitted.predict(["GAPDH"]).reason[0]
    assert isinstance(fitted, SamplesCells)
    result["cells"] = cell_distances(seed, generated(fitted, seed), queries)
    networks = {"responses": network_of_model(fitted, train)}
    if isinstance(fitted, FittedGpo):
        result["without anchors"] = seen(without_anchors(fitted, seed).predict(queries).response, seed, queries)
        networks["network"] = fitted.network_of_genes()
        probability = networks["network"].column("probability")
        result["n_edges"] = {"found": int((probability > 0.5).sum()), "pairs": len(probability)}
        write_network(networks["network"], out / f"{file_name(label)}-{seed}-network.parquet")
    result["networks"] = {key: network_scores(network, seed) for key, network in networks.items()}
    result["inside"] = {key: inside(network) for key, network in networks.items()}
    if isinstance(fitted, FittedCradle | FittedGpo) and has_artefacts(fitted):
        result["quality"] = quality(fitted, seed)
    return result


def without_anchors(fitted: FittedGpo, seed: int) -> FittedGpo:
    """The network's own answers, not drawn to the training means."""
    state = {name: value for name, value in fitted.state().items() if name != "anchors"}
    return FittedGpo(fitted.model, table_of(seed, 0), state)


def has_artefacts(fitted: FittedModel) -> bool:
    """Whether the model learned what failing cells look like."""
    return bool(len(fitted.network.artefact.posterior().mean))  # type: ignore[attr-defined]


def seen(found: np.ndarray, seed: int, queries: list[Query]) -> dict[str, Any]:
    """Average effects against both references, and neighbours by predicted responses."""
    truths = {name: table_of(seed, side) for name, side in (("held-out cells", 1), ("all cells", 2))}
    scores = {name: effects(table.response[table.index(queries)], found) for name, table in truths.items()}
    like = {query.condition: row for query, row in zip(queries, found, strict=True)}
    return {"effects": scores, "neighbours": neighbours(like) if found.any() else {}}


def of_baseline(name: str, seed: int) -> dict[str, Any]:
    """Average effects of a simple baseline."""
    queries = list(table_of(seed, 0).queries)
    return seen(baseline(name, seed, queries), seed, queries)


def of_network(method: str, seed: int) -> dict[str, Any]:
    """Scores of a plain method of network inference."""
    network = infer(sides(seed)[0], method=method, seed=seed)
    return {"networks": {"network": network_scores(network, seed)}, "inside": {"network": inside(network)}}


def of_cells(name: str, seed: int) -> dict[str, Any]:
    """Distances of cells made without a model."""
    return {"cells": cell_distances(seed, simple_cells(name, seed), list(table_of(seed, 0).queries))}


def of_ceiling(seed: int) -> dict[str, Any]:
    """Ceilings of both references, and what the screen is."""
    rows = {name: table_of(seed, side) for name, side in (("held-out cells", 1), ("all cells", 2))}
    queries = list(table_of(seed, 0).queries)
    return {"effects": {name: ceiling(table, table.index(queries)) for name, table in rows.items()}}


@cache
def known() -> GeneKnowledge:
    """What the files beside the screen know of its genes."""
    targets = [query.condition for query in whole().queries()]
    return perturbcast.load_knowledge([SHARED / "genes", SHARED / "networks"], genes=whole().genes, targets=targets)


def of_fold(name: str, fold: int, n_folds: int, fields: dict[str, Any]) -> dict[str, Any]:
    """Average effects on held-out targets, all their cells."""
    targets = [query.condition for query in table_of(FIRST_SEED, 2).queries]
    held = np.random.default_rng(0).permutation(targets)[fold::n_folds].tolist()
    screen = whole()
    kept = np.array([condition not in held for condition in screen.conditions])[screen.condition_code]
    training = TrainingData.of(screen.take(kept), knowledge=known())
    fitted = perturbcast.get_model(name, **fields).fit(training, seed=fold)
    answer = fitted.predict(held)
    told = answer.predicted
    truth = table_of(FIRST_SEED, 2)
    rows = truth.response[truth.index([Query(condition, "") for condition in held])]
    return {
        "targets": held,
        "found": np.nan_to_num(answer.response).tolist(),
        "truth": rows.tolist(),
        "told": told.tolist(),
        "reasons": [reason for reason in answer.reason if reason],
    }


def file_name(label: str) -> str:
    """A name for files."""
    return label.replace(":", "-").replace(", ", "-").replace(" ", "-")


def kept(out: Path, name: str, make: Callable[[], dict[str, Any]]) -> None:
    """Makes a result unless its file is there."""
    path = out / f"{file_name(name)}.json"
    if path.exists():
        return
    start = time.perf_counter()
    text = json.dumps(make(), default=float)
    draft = path.with_suffix(".unfinished")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    print(f"{name:50s} {time.perf_counter() - start:6.0f} s", flush=True)


def run(given: argparse.Namespace) -> None:
    """Everything that is not there yet: what takes seconds, our profiles, held-out targets, published profiles."""
    chosen = [name for name in MODELS if given.models is None or name in given.models.split(",")]
    seeds = range(FIRST_SEED, FIRST_SEED + given.seeds)
    for seed in seeds:
        without_training(given.out, seed)
    for published in (False, True):
        for seed in seeds:
            for name in chosen:
                if name.endswith(":paper") is published:
                    fields = MODELS[name] | ({} if given.epochs is None else {"max_epochs": given.epochs})
                    kept(given.out, f"{name}-{seed}", lambda n=name, f=fields, s=seed: of_model(n, f, s, out=given.out))
        for fold in range(0 if published else given.folds):
            for name in [name for name in UNSEEN if name in chosen or name not in MODELS]:
                fields = GPO_OF_FOLDS if name == "gpo-vae" else {}
                kept(given.out, f"unseen {name} {fold}", lambda n=name, f=fields, k=fold: of_fold(n, k, given.folds, f))


def without_training(out: Path, seed: int) -> None:
    """Ceilings, simple baselines, cells without a model, plain methods of network inference."""
    kept(out, f"ceiling-{seed}", lambda: of_ceiling(seed))
    for name in BASELINES:
        kept(out, f"{name}-{seed}", lambda n=name: of_baseline(n, seed))
    for name in SIMPLE_CELLS:
        kept(out, f"cells {name}-{seed}", lambda n=name: of_cells(n, seed))
    for name in NETWORKS:
        kept(out, f"network {name}-{seed}", lambda n=name: of_network(n, seed))


def main() -> None:
    """Runs what is missing and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "papalexi_vae")
    parser.add_argument("--models", help="Trained models, joined by commas; none for what takes seconds.")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="At most so many, for all models.")
    parser.add_argument("--only-page", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.only_page:
        run(given)
    write_page(given.out)


if __name__ == "__main__":
    main()
