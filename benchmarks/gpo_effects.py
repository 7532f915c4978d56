"""Does GPO-VAE lose what the data say of a condition, and what does it know of targets it never saw? Simulated worlds.

    python benchmarks/gpo_effects.py --seeds 3 [--papalexi]     (writes docs/GPO_VAE.md)

Seen: one cell in five is held out; L2 per condition of GPO-VAE `plus`, of its network without anchors (also trained
in bf16), and of the training mean, to the response of the held-out cells and to the exact response. Few and many:
conditions below and above the median number of training cells. Unseen: one target in five is held out; L2 to the
exact response of `plus`, kernel ridge, the mean training response and no change, with the simulated knowledge of
genes. `--papalexi`: the same on Papalexi 2021 (knock-outs of 25 genes in THP-1, counts), every target held out once
in five folds, with the knowledge in ../shared/data, against the response of the held-out cells.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from gpo_networks import PAGE, ROOT, interval, write_between

import perturbcast
from perturbcast.data.conditions import Query, is_single
from perturbcast.data.simulate import World
from perturbcast.genes.load import load_knowledge
from perturbcast.genes.simulated import knowledge_of
from perturbcast.models.base import TrainingData
from perturbcast.models.gpo_vae import GpoVae
from perturbcast.models.kernel_ridge import KernelRidge
from perturbcast.training.plan import RunOptions

SHARED = ROOT.parent / "shared" / "data"
EPOCHS_OF_PAPALEXI = 2  # the network is aligned before; answers for unseen targets hardly move with the cells
WORLD = {"n_cells": 4000, "n_genes": 150, "n_targets": 50, "n_doubles": 10}
NET = {"n_latent": 10, "encoder_width": 48, "decoder_width": 48, "n_particles": 2, "n_averaged": 128}
NET |= {"batch_size": 256, "lr": 3e-3, "max_epochs": 15, "patience": None}


def off(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(query,) L2."""
    return np.asarray(np.linalg.norm(found - truth, axis=1))


def seen(world: World, *, seed: int) -> dict[str, float]:
    """Mean L2 on conditions that were all trained on."""
    screen = world.screen
    held_out = np.random.default_rng(seed).random(screen.n_cells) < 0.2
    train, test = TrainingData.of(screen.take(~held_out)), TrainingData.of(screen.take(held_out)).responses
    queries = [query for query in train.responses.queries if query in test.queries]
    rows = train.responses.index(queries)
    anchored = GpoVae(**NET, unseen="refuse").fit(train, seed=seed).predict(queries).response
    bare = GpoVae(**NET, unseen="refuse", anchored=False).fit(train, seed=seed).predict(queries).response
    short = RunOptions(precision="bf16")
    in_short = GpoVae(**NET, unseen="refuse", anchored=False).fit(train, seed=seed, options=short)
    bare_in_short = in_short.predict(queries).response
    mean = train.responses.response[rows]
    cells, exact = test.response[test.index(queries)], world.responses.response[world.responses.index(queries)]
    assert train.responses.n_cells is not None
    n_cells = train.responses.n_cells[rows]
    few = n_cells <= np.median(n_cells)
    found = {}
    for name, answer in (
        ("plus", anchored),
        ("network alone", bare),
        ("network alone, bf16", bare_in_short),
        ("training mean", mean),
    ):
        found[f"{name}, to held-out cells"] = off(answer, cells).mean()
        found[f"{name}, to the truth, few cells"] = off(answer, exact)[few].mean()
        found[f"{name}, to the truth, many cells"] = off(answer, exact)[~few].mean()
    return found


def unseen(world: World, *, seed: int) -> dict[str, float]:
    """Mean L2 on targets that were held out."""
    screen = world.screen
    singles = [query for query in screen.queries() if is_single(query.condition)]
    rng = np.random.default_rng(seed)
    chosen = {singles[place].condition for place in rng.permutation(len(singles))[: len(singles) // 5]}
    kept = [not chosen & set(condition.split("+")) for condition in screen.conditions]
    train = TrainingData.of(screen.take(np.array(kept)[screen.condition_code]), knowledge=knowledge_of(world))
    queries = [Query(condition, screen.contexts[0]) for condition in sorted(chosen)]
    exact = world.responses.response[world.responses.index(queries)]
    answers = answered(train, queries, seed=seed)
    told = np.isfinite(answers["plus"]).all(axis=1)
    return {f"{name}, unseen targets": off(answer[told], exact[told]).mean() for name, answer in answers.items()}


def answered(train: TrainingData, queries: list[Query], *, seed: int, **net: int) -> dict[str, np.ndarray]:
    """Responses to unseen targets by each; `net` are further fields of the networks."""
    shape, fields = (len(queries), train.responses.n_genes), NET | net
    return {
        "plus": GpoVae(**fields).fit(train, seed=seed).predict(queries).response,
        "plus, unseen=rows": GpoVae(**fields, unseen="rows").fit(train, seed=seed).predict(queries).response,
        "plus, likeness=0": GpoVae(**fields, likeness=0.0).fit(train, seed=seed).predict(queries).response,
        "kernel ridge": KernelRidge().fit(train).predict(queries).response,
        "mean response": np.broadcast_to(train.responses.perturbed_mean(), shape),
        "no change": np.zeros(shape),
    }


def papalexi(*, n_folds: int = 5) -> tuple[dict[str, list[float]], int]:
    """L2 of each to every held-out target, and how many `plus` refuses, which are left out of all."""
    screen = perturbcast.read(SHARED / "screens" / "papalexi2021_thp1_eccite.h5ad")
    responses = TrainingData.of(screen).responses
    knowledge = load_knowledge(
        [SHARED / "genes", SHARED / "networks"],
        genes=[str(gene) for gene in screen.genes],
        targets=list(responses.targets),
    )
    order = np.random.default_rng(0).permutation(np.array(responses.targets, dtype=object))
    found: dict[str, list[float]] = {}
    n_refused = 0
    for fold in range(n_folds):
        chosen = set(order[fold::n_folds])
        kept = np.array([condition not in chosen for condition in screen.conditions])
        train = TrainingData.of(screen.take(kept[screen.condition_code]), knowledge=knowledge)
        queries = [Query(condition, screen.contexts[0]) for condition in sorted(chosen)]
        truth = responses.response[responses.index(queries)]
        answers = answered(train, queries, seed=fold, max_epochs=EPOCHS_OF_PAPALEXI)
        told = np.isfinite(answers["plus"]).all(axis=1)
        n_refused += int((~told).sum())
        for name, answer in answers.items():
            found.setdefault(name, []).extend(off(answer[told], truth[told]))
        print(f"fold {fold}", {name: round(float(np.mean(values)), 3) for name, values in found.items()}, flush=True)
    return found, n_refused


def table_of_papalexi() -> str:
    """Markdown: mean L2 over targets, and the paired difference from kernel ridge."""
    found, n_refused = papalexi()
    lines = ["| Papalexi, held-out targets | L2 | minus kernel ridge |", "|---|---|---|"]
    for name, values in found.items():
        difference = np.array(values) - np.array(found["kernel ridge"])
        lines.append(f"| {name} | {np.mean(values):.3f} | {'' if name == 'kernel ridge' else interval(difference)} |")
    n_told = len(found["plus"])
    return "\n".join(lines) + f"\n\n{n_told} targets told, {n_refused} refused; intervals over targets."


def main() -> None:
    """Writes a line per quantity: mean over worlds, and each world's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--papalexi", action="store_true", help="real targets instead of simulated worlds")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.papalexi:
        write_between(PAGE, "<!-- papalexi -->", "<!-- /papalexi -->", table_of_papalexi())
        return
    rows = []
    for seed in range(20, 20 + given.seeds):
        world = perturbcast.simulate(**WORLD, seed=seed)
        rows.append(seen(world, seed=seed) | unseen(world, seed=seed))
        print(seed, {name: round(float(value), 3) for name, value in rows[-1].items()}, flush=True)
    lines = ["| L2 | mean | each world |", "|---|---|---|"]
    for name in rows[0]:
        values = [float(row[name]) for row in rows]
        lines.append(f"| {name} | {np.mean(values):.3f} | {' '.join(f'{value:.3f}' for value in values)} |")
    write_between(PAGE, "<!-- effects -->", "<!-- /effects -->", "\n".join(lines))


if __name__ == "__main__":
    main()
