"""What prior knowledge of edges is worth to GPO-VAE (spec 5.6): informative, useless and misleading graphs.

    python benchmarks/gpo_prior.py [--seeds 5]     (about 4 minutes on one core; writes docs/GPO_VAE.md)

Simulated worlds. Informative: half of the true edges from targets, as many false ones, all of weight 0.9. Permuted:
the same graph with its genes renamed at random, so that it has the same degrees and says nothing. AUPRC of direct
edges, and AUPRC over the pairs that the informative graph does not list, which tells whether what is known of some
edges helps to find others. Differences from no prior are paired by world, with Student's 95 % interval.
"""

import argparse
import os
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from gpo_networks import NETS, PAGE, interval, write_between

import perturbcast
from perturbcast.data.simulate import World
from perturbcast.genes.graphs import graph_of_edges
from perturbcast.genes.knowledge import GeneGraph, GeneKnowledge
from perturbcast.models.base import TrainingData
from perturbcast.models.gpo_vae import GpoVae
from perturbcast.networks.network import Network
from perturbcast.networks.scores import Pairs, auprc, truth_of_world
from perturbcast.networks.universe import universe_of

START, END = "<!-- prior -->", "<!-- /prior -->"
WORLD = {"n_cells": 3000, "n_genes": 120, "n_targets": 30, "n_doubles": 0}
FIRST_SEED, WEIGHT = 60, 0.9
Edge = tuple[str, str]


def listed_edges(world: World, *, seed: int) -> list[Edge]:
    """Half of the true edges from targets, and as many false ones."""
    rng = np.random.default_rng(seed)
    truth = truth_of_world(world).edges()
    genes, targets = [str(gene) for gene in world.screen.genes], set(world.targets)
    true = [(str(a), str(b)) for a, b in zip(truth["source"], truth["target"], strict=True) if a in targets]
    kept = [true[place] for place in rng.permutation(len(true))[: len(true) // 2]]
    known, false = set(true), set[Edge]()
    while len(false) < len(kept):
        pair = str(rng.choice(sorted(targets))), str(rng.choice(genes))
        if pair not in known and pair[0] != pair[1]:
            false.add(pair)
    return kept + sorted(false)


def graph(edges: list[Edge]) -> GeneGraph:
    """The edges as a directed gene graph."""
    sources, targets = zip(*edges, strict=True)
    weights = np.full(len(edges), WEIGHT)
    return graph_of_edges("regulators", sources, targets, weights=weights, directed=True)


def permuted(world: World, edges: list[Edge], *, seed: int) -> list[Edge]:
    """The edges with targets renamed among themselves, and the other genes among themselves."""
    rng = np.random.default_rng(seed + 1)
    targets = sorted(world.targets)
    others = sorted(set(map(str, world.screen.genes)) - set(targets))
    name = dict(zip(targets, rng.permutation(targets), strict=True))
    name |= dict(zip(others, rng.permutation(others), strict=True))
    return [(str(name[a]), str(name[b])) for a, b in edges if name[a] != name[b]]


def networks(world: World, *, seed: int, steps: int = 60) -> dict[str, Network]:
    """Networks learned without a prior and with either."""
    edges = listed_edges(world, seed=seed)
    graphs = {"none": None, "informative": graph(edges), "permuted": graph(permuted(world, edges, seed=seed))}
    found = {}
    for name, prior in graphs.items():
        fields = NETS | {"max_steps": steps, "max_epochs": 1000, "patience": None, "unseen": "refuse"}
        model = GpoVae(**fields, prior_graph="regulators" if prior else "")
        training = TrainingData.of(world.screen)
        if prior is not None:
            training = replace(training, knowledge=GeneKnowledge(graphs={"regulators": prior}))
        found[name] = model.fit(training, seed=seed).network_of_genes()
    return found


def scored(world: World, *, seed: int) -> dict[str, float]:
    """AUPRC of each, over all pairs and over those that the informative graph does not list."""
    truth, universe = truth_of_world(world), universe_of(world.screen)
    listed = set(listed_edges(world, seed=seed))
    rows: dict[str, float] = {}
    for name, network in networks(world, seed=seed).items():
        pairs = Pairs.of(network, truth, universe)
        rows[name] = auprc(pairs)
        rows[f"{name}, not listed"] = auprc(Pairs.of(without(network, listed), without(truth, listed), universe))
    return rows


def without(network: Network, listed: set[Edge]) -> Network:
    """The network without those edges, which then rank last."""
    names = network.genes.astype(str)
    pairs = zip(names[network.source_code], names[network.target_code], strict=True)
    kept = np.array([pair not in listed for pair in pairs])
    return Network.of_edges(list(names), network.source_code[kept], network.target_code[kept], network.weight[kept])


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + given.seeds):
        rows.append(scored(perturbcast.simulate(**WORLD, seed=seed), seed=seed))  # type: ignore[arg-type]
        print(seed, {name: round(value, 3) for name, value in rows[-1].items()}, flush=True)
    table = pd.DataFrame(rows)
    lines = ["| prior graph | AUPRC | minus none | AUPRC, pairs not listed | minus none |", "|---|---|---|---|---|"]
    for name in ("none", "informative", "permuted"):
        cells = [name]
        for ending in ("", ", not listed"):
            own, base = table[name + ending], table["none" + ending]
            cells += [f"{own.mean():.3f}", "" if name == "none" else interval((own - base).to_numpy())]
        lines.append("| " + " | ".join(cells) + " |")
    body = f"{given.seeds} worlds.\n\n" + "\n".join(lines)
    print(body, flush=True)
    write_between(PAGE, START, END, body)


if __name__ == "__main__":
    main()
