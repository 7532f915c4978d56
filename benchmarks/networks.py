"""Network inference on simulated worlds and on Papalexi 2021: writes the measured part of docs/NETWORKS.md.

Run: python benchmarks/networks.py [--out FOLDER]     (about 25 minutes on one core, most of it boosted trees; resumed)

The numbers that a learned network (GPO-VAE) must beat. Seeds 10 and above: the ridge of local-response was chosen on
worlds with seeds 4 to 6.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import perturbcast
from perturbcast.networks.causalbench import InterventionTests, curve, hold_out, intervention_tests
from perturbcast.networks.export import load_network, write_network
from perturbcast.networks.methods import all_methods, get_method, infer
from perturbcast.networks.network import Network
from perturbcast.networks.reference import read_reference
from perturbcast.networks.scores import score_against, score_directness, score_network, truth_of_world
from perturbcast.networks.universe import universe_of
from perturbcast.report.network_figures import block_heatmap, hubs, subnetwork

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "NETWORKS.md"
MARK = "<!-- measured -->"
SIZES = {  # name -> settings of the world, seeds
    "100 genes, 20 targets, 2,000 cells": ({"n_genes": 100, "n_targets": 20, "n_cells": 2000}, range(10, 15)),
    "200 genes, 40 targets, 4,000 cells": ({"n_genes": 200, "n_targets": 40, "n_cells": 4000}, range(10, 15)),
    "400 genes, 80 targets, 8,000 cells": ({"n_genes": 400, "n_targets": 80, "n_cells": 8000}, range(10, 13)),
}
SCORES = ("auprc", "auroc", "epr", "signed_accuracy", "auprc_direct_among_linked", "top_direct", "top_indirect")
REFERENCES = ("trrust_human.tsv", "collectri_human.csv", "dorothea_abc_human.tsv.gz", "string_human.csv")
PICTURES = {"blocks": "Blocks", "pathway": "Interferon-gamma pathway and its neighbours", "hubs": "Hubs"}
PATHWAY = ("IFNGR1", "IFNGR2", "JAK2", "STAT1", "IRF1")
TOPS = (20, 50, 100, 200, 500, 1000)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What a JSON file holds, or what `make` gives, which is then kept there."""
    if not path.exists():
        path.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def of_world(method: str, settings: dict[str, int], seed: int, perturbation: str) -> dict[str, float]:
    """All scores of a method on one world."""
    world = perturbcast.simulate(**settings, n_doubles=0, seed=seed, perturbation=perturbation)
    universe, truth = universe_of(world.screen), truth_of_world(world)
    start = time.perf_counter()
    network = infer(world.screen, method=method, seed=seed)
    seconds = time.perf_counter() - start
    scores = {score.score: score.value for score in score_network(network, truth, universe=universe)}
    pairs = {
        "n_pairs": universe.n_pairs,
        "chance": float((truth.between(*_ends(universe)) > 0).sum() / universe.n_pairs),
    }
    return scores | score_directness(network, truth, universe=universe) | pairs | {"seconds": seconds}


def _ends(universe: Any) -> tuple[Iterable[str], Iterable[str]]:
    return universe.sources, universe.targets


def mean_and_half_width(values: Iterable[float]) -> str:
    """Mean and half width of Student's 95 % interval over worlds."""
    from scipy.stats import t as student

    array = np.array(list(values))
    half = student.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    return f"{array.mean():.3f} ± {half:.3f}"


def simulated(out: Path) -> list[str]:
    """The chapter on simulated worlds."""
    lines = ["## Simulated worlds: direct edges", ""]
    for size, (settings, seeds) in SIZES.items():
        for perturbation in ("interference", "knock-out") if settings["n_genes"] == 200 else ("interference",):
            rows = {}
            for method in all_methods():
                name = f"{method}-{settings['n_genes']}-{perturbation}"
                rows[method] = [
                    kept(
                        out / f"{name}-{seed}.json",
                        partial(of_world, method, settings, seed, perturbation),
                    )
                    for seed in seeds
                ]
                print(name, mean_and_half_width(row["auprc"] for row in rows[method]), flush=True)
            lines += [f"### {size}, {perturbation}, {len(seeds)} worlds", "", *world_table(rows), ""]
    return lines


def world_table(rows: dict[str, list[dict[str, float]]]) -> list[str]:
    """Methods as a Markdown table, best AUPRC first, then their paired difference to mean-difference."""
    first = next(iter(rows.values()))
    chance = np.mean([row["chance"] for row in first])
    among = np.mean([row["chance_direct_among_linked"] for row in first])
    pairs = first[0]["n_pairs"]
    lines = [
        f"{pairs:,} pairs in the first world; chance AUPRC {chance:.3f}, and {among:.3f} among linked pairs.",
        "",
        "| method | AUPRC | AUPRC against mean-difference | AUROC | early precision ratio | right signs | "
        "AUPRC direct among linked | best pairs: direct | indirect | seconds |",
        "|---" * 10 + "|",
    ]
    order = sorted(rows, key=lambda method: -np.mean([row["auprc"] for row in rows[method]]))
    for method in order:
        values = {name: [row[name] for row in rows[method]] for name in (*SCORES, "seconds")}
        paired = [own - base["auprc"] for own, base in zip(values["auprc"], rows["mean-difference"], strict=True)]
        gain = "" if method == "mean-difference" else mean_and_half_width(paired)
        means = {name: f"{np.mean(of):.3f}" if np.isfinite(of).all() else "–" for name, of in values.items()}
        cells = [method, mean_and_half_width(values["auprc"]), gain, mean_and_half_width(values["auroc"])]
        cells += [means[name] for name in SCORES[2:]] + [f"{np.mean(values['seconds']):.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


# ----------------------------------------------------------------------------------------------------------- real data
def papalexi(out: Path) -> list[str]:
    """The chapter on Papalexi 2021."""
    screen = perturbcast.read(SHARED / "screens" / "papalexi2021_thp1_eccite.h5ad")
    train, test = hold_out(screen, seed=0)
    networks = {method: network_of(method, train, out) for method in all_methods()}
    lines = ["## Papalexi 2021, knock-out, THP-1", ""]
    for targets in ("measured", "perturbed"):
        tests = intervention_tests(test, targets=targets)
        lines += causalbench_chapter(networks, tests, targets=targets)
    return lines + reference_chapter(networks, screen) + pathway_chapter(networks["mean-difference"])


def network_of(method: str, train: Any, out: Path) -> Network:
    """The network of a method on the training cells, kept in a file."""
    path = out / f"papalexi-{method}.parquet"
    if not path.exists():
        write_network(get_method(method).infer(train, seed=0), path)
    return load_network(path)


def causalbench_chapter(networks: dict[str, Network], tests: InterventionTests, *, targets: str) -> list[str]:
    """Mean Wasserstein distance and false-omission rate at matched K on the held-out fifth of the cells."""
    universe = tests.universe
    share = tests.significant.sum() / universe.n_pairs
    tops = [k for k in TOPS if k < universe.n_pairs]
    lines = [
        f"### Held-out cells, targets: {targets} genes",
        "",
        f"{len(universe.sources)} sources, {len(universe.targets)} targets, {universe.n_pairs:,} pairs, {share:.1%} of "
        "them significant at 5 %. Mean W1 / share significant / FOR (paths up to 3) of the K strongest edges:",
        "",
        "| method | " + " | ".join(f"K = {k}" for k in tops) + " |",
        "|---" * (len(tops) + 1) + "|",
    ]
    for method, network in networks.items():
        found = curve(network, tests, tops=tops).set_index("k")
        cells = []
        for k in tops:
            if k not in found.index:
                cells.append("–")
                continue
            row = found.loc[k]
            rate = "–" if np.isnan(row["false_omission_rate"]) else f"{row['false_omission_rate']:.3f}"
            cells.append(f"{row['wasserstein']:.3f} / {row['significant']:.2f} / {rate}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def reference_chapter(networks: dict[str, Network], screen: Any) -> list[str]:
    """AUPRC against biological references, with bootstrap intervals over sources."""
    lines = [
        "### Against biological references",
        "",
        "AUPRC of the training cells' networks, 95 % interval over sources.",
        "",
    ]
    universe = universe_of(screen, measured_sources=False)
    table: dict[str, dict[str, str]] = {}
    for file in REFERENCES:
        reference = read_reference(SHARED / "networks" / file)
        for method, network in networks.items():
            found = score_against(
                network, reference.network, universe=universe, directed=reference.directed, n_bootstrap=300
            )
            row = found.set_index("score").loc["auprc"]
            head = (
                f"{reference.name} {reference.version}: {row['n_true']:.0f} of {row['n_pairs']:,.0f} pairs, "
                f"{row['n_sources']:.0f} sources, chance {row['chance']:.3f}"
            )
            cell = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            table.setdefault(method, {})[head] = cell
    heads = list(next(iter(table.values())))
    lines += ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {method} | " + " | ".join(cells[head] for head in heads) + " |" for method, cells in table.items()]
    return [*lines, ""]


def pathway_chapter(network: Network) -> list[str]:
    """The interferon-gamma pathway among the edges of the mean difference."""
    edges = network.edges()
    edges["rank"] = np.arange(1, len(edges) + 1)
    inside = edges[edges["source"].isin(PATHWAY) & edges["target"].isin(PATHWAY)]
    lines = ["### Interferon-gamma pathway (IFNGR1, IFNGR2, JAK2, STAT1, IRF1)", ""]
    lines += [f"Edges of mean-difference within the pathway, of {len(edges):,} ranked pairs; IFNGR1 and IRF1 are not"]
    lines += [
        "measured, so they can only be sources.",
        "",
        "| edge | rank | weight | sign | p |",
        "|---|---|---|---|---|",
    ]
    for row in inside.itertuples():
        lines.append(
            f"| {row.source} → {row.target} | {row.rank} | {row.weight:.3f} | {row.sign:+d} | {row.p_value:.1g} |"
        )
    sources = sorted(set(edges["source"]))
    best = {source: set(edges[edges["source"] == source]["target"].head(20)) for source in sources}
    overlap = pd.DataFrame(
        [[len(best[a] & best[b]) / 20 for b in sources] for a in sources], index=sources, columns=sources
    )
    lines += ["", "Share of the 20 strongest targets that two sources have in common:", ""]
    members = [gene for gene in PATHWAY if gene in sources]
    draw(network)
    lines += ["| | " + " | ".join(members) + " | nearest other source |", "|---" * (len(members) + 2) + "|"]
    for gene in members:
        others = overlap.loc[gene].drop(members).sort_values(ascending=False, kind="stable")
        cells = ["–" if gene == other else f"{overlap.loc[gene, other]:.2f}" for other in members]
        lines.append(f"| {gene} | " + " | ".join(cells) + f" | {others.index[0]} {others.iloc[0]:.2f} |")
    pictures = [f"![{title}](figures/network-papalexi-{name}.png)" for name, title in PICTURES.items()]
    return [*lines, "", "The 300 strongest edges of mean-difference:", "", *pictures, ""]


def draw(network: Network) -> None:
    """The pictures of the page."""
    shown = network.top(300)
    figures = {"blocks": block_heatmap(shown), "pathway": subnetwork(shown, PATHWAY), "hubs": hubs(shown)}
    for name, figure in figures.items():
        figure.savefig(ROOT / "docs" / "figures" / f"network-papalexi-{name}.png", dpi=90, bbox_inches="tight")


def main() -> None:
    """Runs both chapters and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "networks", help="keeps what is done")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chapters = simulated(arguments.out)
    if SHARED.is_dir():
        chapters += papalexi(arguments.out)
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(head + MARK + "\n\n" + "\n".join(chapters), encoding="utf-8")


if __name__ == "__main__":
    main()
