"""AUPRC of direct edges in simulated worlds: GPO-VAE as published and `plus`, against mean differences and boosting.

    python benchmarks/gpo_networks.py --seeds 5     (about 40 minutes on one core; resumed; writes docs/GPO_VAE.md)

One row per method and size of world: mean over seeds with its 95 % interval (Student), and the paired difference from
|mean difference|, from boosted trees and from local response. The universe is that of docs/NETWORKS.md: from every
perturbed, measured gene to every measured gene. The seeds are not those on which the defaults of `plus` were chosen
(0 to 3).
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student

import perturbcast
from perturbcast.data.screen import Screen
from perturbcast.models.base import TrainingData
from perturbcast.models.gpo_vae import GpoVae
from perturbcast.networks.methods import infer
from perturbcast.networks.network import Network
from perturbcast.networks.scores import Pairs, auprc, score_directness, signed_accuracy, truth_of_world
from perturbcast.networks.universe import universe_of

SIZES = {
    "40 targets, 150 genes, 4,000 cells": {"n_cells": 4000, "n_genes": 150, "n_targets": 40, "n_doubles": 0},
    "60 targets, 300 genes, 6,000 cells": {"n_cells": 6000, "n_genes": 300, "n_targets": 60, "n_doubles": 0},
    "60 targets, 300 genes, 24,000 cells": {"n_cells": 24_000, "n_genes": 300, "n_targets": 60, "n_doubles": 0},
}
ROOT = Path(__file__).resolve().parents[1]
PAGE, START, END = ROOT / "docs" / "GPO_VAE.md", "<!-- networks -->", "<!-- /networks -->"
FIRST_SEED = 10
MOST_SEEDS = {"60 targets, 300 genes, 24,000 cells": 3}  # boosted trees take minutes there
NETS = {"n_latent": 10, "encoder_width": 64, "decoder_width": 64, "embedding_width": 64, "n_particles": 2}
NETS |= {"n_averaged": 64, "batch_size": 256, "anchored": False}
Method = Callable[[Screen, int], Network]


def gpo(profile: str, **changes: object) -> Method:
    """GPO-VAE as a method of network inference."""

    def found(screen: Screen, seed: int) -> Network:
        model = GpoVae.make(profile, **(NETS | changes))
        return model.fit(TrainingData.of(screen), seed=seed).network_of_genes()  # type: ignore[attr-defined]

    return found


def plain(name: str, **fields: object) -> Method:
    """A method of `perturbcast network`."""
    return lambda screen, seed: infer(screen, method=name, seed=seed, **fields)


def methods(steps: int) -> dict[str, Method]:
    """What is compared; `paper` has a learning rate at which its logits arrive within the steps."""
    trained = {"max_steps": steps, "max_epochs": 10_000, "patience": None}
    return {
        "gpo-vae:plus": gpo("plus", **trained),
        "gpo-vae:plus, likeness = 0": gpo("plus", likeness=0.0, **trained),
        "gpo-vae:plus, network not aligned first": gpo("plus", align_steps=0, lr=1e-2, **trained),
        "gpo-vae:plus, K = 0": gpo("plus", n_hops=0, **trained),
        "gpo-vae:plus, alignment reach": gpo("plus", alignment="reach", lr=1e-2, sparsity=0.1, **trained),
        "gpo-vae:paper": gpo("paper", lr=1e-2, extended_fold=0.0, **trained),
        "|mean difference|": plain("mean-difference"),
        "|t| of the mean difference": plain("mean-difference", weight="t"),
        "boosted trees (GRNBoost type)": plain("boosting"),
        "local response": plain("local-response"),
        "random": plain("random"),
    }


def measured(label: str, seeds: Sequence[int], *, steps: int, out: Path) -> pd.DataFrame:
    """Scores of every method in every world of a size; what was computed before is read."""
    rows = []
    for seed in seeds:
        for name, method in methods(steps).items():
            path = out / f"{label} {seed} {name}.json".replace(" ", "_").replace("|", "")
            if not path.exists():
                path.write_text(json.dumps(scored(SIZES[label], method, seed)), encoding="utf-8")
            rows.append({"method": name, "seed": seed, **json.loads(path.read_text(encoding="utf-8"))})
            print(f"  seed {seed}  {name:42s} {rows[-1]['auprc']:.3f}  {rows[-1]['seconds']:6.1f} s", flush=True)
    return pd.DataFrame(rows)


def scored(size: dict[str, int], method: Method, seed: int) -> dict[str, float]:
    """Scores of a method in a world."""
    world = perturbcast.simulate(**size, seed=seed)  # type: ignore[arg-type]
    truth, universe = truth_of_world(world), universe_of(world.screen)
    start = time.perf_counter()
    network = method(world.screen, seed)
    seconds = time.perf_counter() - start
    pairs = Pairs.of(network, truth, universe)
    direct = score_directness(network, truth, universe=universe)
    return {
        "auprc": auprc(pairs),
        "among linked": direct["auprc_direct_among_linked"],
        "signs right": signed_accuracy(pairs),
        "seconds": seconds,
    }


def interval(values: np.ndarray) -> str:
    """Mean and 95 % interval over seeds."""
    n = len(values)
    half = student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else float("nan")
    return f"{values.mean():.3f} [{values.mean() - half:.3f}, {values.mean() + half:.3f}]"


def table(scores: pd.DataFrame) -> str:
    """A markdown table."""
    wide = scores.pivot(index="seed", columns="method", values="auprc")
    head = [
        "method",
        "AUPRC",
        "minus mean difference",
        "minus boosting",
        "minus local response",
        "AUPRC among linked",
        "signs right",
        "seconds",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in dict.fromkeys(scores.method):
        own = scores[scores.method == name]
        cells = [
            name,
            interval(wide[name].to_numpy()),
            interval((wide[name] - wide["|mean difference|"]).to_numpy()),
            interval((wide[name] - wide["boosted trees (GRNBoost type)"]).to_numpy()),
            interval((wide[name] - wide["local response"]).to_numpy()),
            f"{own['among linked'].mean():.3f}",
            f"{own['signs right'].mean():.2f}",
            f"{own['seconds'].mean():.0f}",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def over_all_worlds(parts: Sequence[pd.DataFrame]) -> str:
    """Paired differences of `plus` over all networks; worlds of one network, with few and many cells, are one."""
    rows = pd.concat(parts)
    wide = rows.pivot(index=["genes", "seed", "cells"], columns="method", values="auprc")
    lines = []
    for rival in ("|mean difference|", "boosted trees (GRNBoost type)", "local response"):
        by_network = (wide["gpo-vae:plus"] - wide[rival]).groupby(["genes", "seed"]).mean()
        lines.append(f"{interval(by_network.to_numpy())} from {rival}".replace("|", ""))
    n_networks = len(wide.groupby(["genes", "seed"]))
    return f"Over all {n_networks} networks, AUPRC of `gpo-vae:plus` differs by " + ", ".join(lines) + "."


def write_between(page: Path, start: str, end: str, body: str) -> None:
    """Puts text between two marks of a page."""
    head, _, rest = page.read_text(encoding="utf-8").partition(start)
    page.write_text(f"{head}{start}\n\n{body}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def main() -> None:
    """Writes a table per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="how many of the sizes, smallest first")
    parser.add_argument("--steps", type=int, default=200, help="of training on cells")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpo_networks", help="keeps what is done")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    tables, parts = [], []
    for label in list(SIZES)[: given.sizes]:
        seeds = range(FIRST_SEED, FIRST_SEED + min(given.seeds, MOST_SEEDS.get(label, given.seeds)))
        print(label, flush=True)
        scores = measured(label, seeds, steps=given.steps, out=given.out)
        parts.append(scores.assign(genes=SIZES[label]["n_genes"], cells=SIZES[label]["n_cells"]))
        found = table(scores)
        tables.append(f"**{label}, {len(seeds)} worlds**\n\n{found}")
        print(found, flush=True)
    write_between(PAGE, START, END, "\n\n".join([*tables, over_all_worlds(parts)]))


if __name__ == "__main__":
    main()
