"""AUPRC of direct edges in simulated worlds: GPO-VAE as published and `plus`, against mean differences and boosting.

    python benchmarks/gpo_networks.py --seeds 5

One row per method and size of world: mean over seeds with its 95 % interval (Student), and the paired difference from
|mean difference| and from boosted trees. The universe is that of docs/NETWORKS.md: from every perturbed, measured gene
to every measured gene. The seeds are not those on which the defaults of `plus` were chosen (0 to 3).
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence

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
FIRST_SEED = 10
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


def measured(size: dict[str, int], seeds: Sequence[int], *, steps: int) -> pd.DataFrame:
    """Scores of every method in every world."""
    rows = []
    for seed in seeds:
        world = perturbcast.simulate(**size, seed=seed)
        truth, universe = truth_of_world(world), universe_of(world.screen)
        for name, method in methods(steps).items():
            start = time.perf_counter()
            network = method(world.screen, seed)
            seconds = time.perf_counter() - start
            pairs = Pairs.of(network, truth, universe)
            direct = score_directness(network, truth, universe=universe)
            rows.append(
                {
                    "method": name,
                    "seed": seed,
                    "auprc": auprc(pairs),
                    "among linked": direct["auprc_direct_among_linked"],
                    "signs right": signed_accuracy(pairs),
                    "seconds": seconds,
                }
            )
            print(f"  seed {seed}  {name:42s} {rows[-1]['auprc']:.3f}  {seconds:6.1f} s", flush=True)
    return pd.DataFrame(rows)


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
            f"{own['among linked'].mean():.3f}",
            f"{own['signs right'].mean():.2f}",
            f"{own['seconds'].mean():.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Prints a table per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="how many of the sizes, smallest first")
    parser.add_argument("--steps", type=int, default=200, help="of training on cells")
    given = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(FIRST_SEED, FIRST_SEED + given.seeds)
    for label, size in list(SIZES.items())[: given.sizes]:
        print(label, flush=True)
        print(table(measured(size, seeds, steps=given.steps)), flush=True)


if __name__ == "__main__":
    main()
