"""What each source of knowledge is worth on simulated worlds, and what it costs when its names are shuffled.

Every source is given alone, as it is and with its genes' names shuffled, and taken from all of them by shuffling. L2 to
the exact responses of unseen singles, five folds of every world, trained on measured ones. Also whether the synergy
and buffering of unseen doubles are found: true-positive rates at three false-discovery proportions (spec D-13). And
what promoters and biotypes could give at most: the truth that they carry a part of, given as gene sets.
Writes docs/KNOWLEDGE_SOURCES.md.

Run: python benchmarks/knowledge_sources.py [--models spectral-ridge] [--worlds 5] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from perturbcast.data.conditions import targets_of
from perturbcast.data.simulate import World, simulate
from perturbcast.data.simulation.annotations import DECOYS, SITE
from perturbcast.data.split_rules import design_of, half_of_doubles, singles_by_fold
from perturbcast.data.statistics import response_table
from perturbcast.genes.graphs import gene_sets_of
from perturbcast.genes.knowledge import GeneKnowledge, GeneSets
from perturbcast.genes.simulated import knowledge_of
from perturbcast.genes.sources import BIOTYPE, SEQUENCE, only, shuffled, sources_of
from perturbcast.metrics.interactions import detection_curve
from perturbcast.models.base import TrainingData
from perturbcast.models.registry import get_model

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "KNOWLEDGE_SOURCES.md"
SINGLES = {"n_cells": 8000, "n_genes": 200, "n_targets": 80, "n_doubles": 10}
DOUBLES = {"n_cells": 12000, "n_genes": 200, "n_targets": 40, "n_doubles": 120}
OF_DOUBLES = ("no-change", "kappa-additive", "lowrank-additive", "kernel-ridge", "spectral-ridge", "pair-ridge")
INTERACTING = 0.2  # ln units: |deviation from the sum| of the exact responses; spec D-11
PROPORTIONS = (0.1, 0.25, 0.5)
WORD = 8  # bases; a site has 10, of which 8 % are wrong
ALL, NONE = "all sources", "nothing"


def offers(knowledge: GeneKnowledge, *, seed: int) -> dict[tuple[str, str], GeneKnowledge]:
    """(source, how it is given) -> knowledge."""
    found = {(NONE, "as it is"): GeneKnowledge(), (ALL, "as it is"): knowledge}
    for source in sources_of(knowledge):
        found[source, "alone"] = only(knowledge, source)
        found[source, "alone, shuffled"] = only(shuffled(knowledge, source, seed=seed), source)
        found[source, "shuffled among all"] = shuffled(knowledge, source, seed=seed)
    return found


def truths(world: World, *, seed: int) -> dict[str, GeneKnowledge]:
    """What a perfect reader of the world's truth, or of its promoters and biotypes, would know of each gene."""
    network, rng = world.network, np.random.default_rng(seed)
    incoming, regulates = network.weights.tocsc(), np.flatnonzero(network.out_degree > 0)
    true, sites = {}, {}
    for node, gene in enumerate(network.genes):
        own = incoming.indices[incoming.indptr[node] : incoming.indptr[node + 1]]
        true[str(gene)] = [f"R{regulator}" for regulator in own]
        found = [*own[rng.random(len(own)) < SITE], *rng.choice(regulates, rng.poisson(DECOYS))]
        sites[str(gene)] = [f"R{regulator}" for regulator in found]
    kinds = zip(network.genes, network.role, network.module, strict=True)
    role, module = {}, {}
    for gene, own_role, own_module in kinds:
        role[str(gene)], module[str(gene)] = [str(own_role)], [f"M{own_module}"]
    words = {gene: sorted(words_of(dna)) for gene, dna in world.sequences.items()}
    labels = {
        "true module": module,
        "true regulators of each target": true,
        "sites of its promoter, read without error": sites,
        f"promoter: words of {WORD} bases that genes share": words,
        "true role (regulator, effector, non-coding)": role,
    }
    given = {name: GeneKnowledge(gene_sets={"truth": by_label(found)}) for name, found in labels.items()}
    kept = knowledge_of(world)
    return given | {"promoter, as given": only(kept, SEQUENCE), "biotype, as given": only(kept, BIOTYPE)}


def words_of(dna: str) -> set[str]:
    """Every run of eight bases."""
    return {dna[start : start + WORD] for start in range(len(dna) - WORD + 1)}


def by_label(labels: dict[str, list[str]]) -> GeneSets:
    """Gene sets of the genes that share a label; labels of one gene only say nothing."""
    members: dict[str, list[str]] = {}
    for gene, own in labels.items():
        for label in own:
            members.setdefault(label, []).append(gene)
    return gene_sets_of("truth", [(label, genes) for label, genes in sorted(members.items()) if len(genes) > 1])


def sides(world: World, splits) -> list:
    """(training rows measured, test rows exact) of splits of a world."""
    measured, exact = response_table(world.screen), world.responses
    row = {query: place for place, query in enumerate(measured.queries)}
    true = {query: place for place, query in enumerate(exact.queries)}
    return [
        (
            measured.take(np.array([row[query] for query in split.train])),
            exact.take(np.array([true[query] for query in split.test])),
        )
        for split in splits(design_of(measured))
    ]


def of_singles(model: str, *, seed: int) -> pd.DataFrame:
    """L2 of every unseen single under every offer: columns model, seed, source, how, condition, l2."""
    world = simulate(**SINGLES, seed=seed)
    return errors_of(model, world, offers(knowledge_of(world), seed=seed), seed=seed)


def of_truths(model: str, *, seed: int) -> pd.DataFrame:
    """L2 of every unseen single under every part of the truth, and under nothing; columns as in `of_singles`."""
    world = simulate(**SINGLES, seed=seed)
    given = {(name, "alone"): knowledge for name, knowledge in truths(world, seed=seed).items()}
    return errors_of(model, world, {(NONE, "as it is"): GeneKnowledge()} | given, seed=seed)


def errors_of(model: str, world: World, given: dict[tuple[str, str], GeneKnowledge], *, seed: int) -> pd.DataFrame:
    """L2 of every unseen single of a world, by what is given; five folds."""
    rows = []
    for train, test in sides(world, lambda design: singles_by_fold(design, seed=seed, folds=5)):
        for (source, how), knowledge in given.items():
            found = get_model(model).fit(TrainingData(train, knowledge=knowledge), seed=seed).predict(test.queries)
            errors = np.linalg.norm(found.response - test.response, axis=1)
            rows += [
                (model, seed, source, how, query.condition, error)
                for query, error in zip(test.queries, errors, strict=True)
            ]
    return pd.DataFrame(rows, columns=["model", "seed", "source", "how", "condition", "l2"])


def of_doubles(*, seed: int) -> pd.DataFrame:
    """L2 and detection of one world's unseen doubles: columns model, seed, l2, tpr at each proportion."""
    world = simulate(**DOUBLES, seed=seed)
    knowledge, rows = knowledge_of(world), []
    ((train, test),) = sides(world, lambda design: [half_of_doubles(design, seed=seed)])
    measured = {query.condition: response for query, response in zip(train.queries, train.response, strict=True)}
    exact = {query.condition: row for query, row in zip(world.responses.queries, world.responses.response, strict=True)}
    parts = [targets_of(query.condition) for query in test.queries]
    added = np.array([sum(measured[name] for name in names) for names in parts])
    truth = np.abs(test.response - np.array([sum(exact[name] for name in names) for names in parts])) > INTERACTING
    for model in OF_DOUBLES:
        found = get_model(model).fit(TrainingData(train, knowledge=knowledge), seed=seed).predict(test.queries).response
        curve = detection_curve((found - added).ravel(), truth.ravel(), grid=np.array(PROPORTIONS))
        rows.append((model, seed, np.linalg.norm(found - test.response, axis=1).mean(), *curve))
    rows.append(("additive", seed, np.linalg.norm(added - test.response, axis=1).mean(), *(0.0,) * len(PROPORTIONS)))
    return pd.DataFrame(rows, columns=["model", "seed", "l2", *map(str, PROPORTIONS)])


def paired(found: pd.DataFrame, left: tuple[str, str], right: tuple[str, str]) -> str:
    """Mean difference of L2 in % of the right side, with twice its standard error over conditions."""
    wide = found.pivot_table(index=["seed", "condition"], columns=["source", "how"], values="l2")
    difference = wide[left] - wide[right]
    unit = 100 / wide[right].mean()
    mean, error = unit * difference.mean(), unit * difference.std() / np.sqrt(len(difference))
    mark = "**" if abs(mean) > 2 * error else ""
    return f"{mark}{mean:+.1f} ± {2 * error:.1f}{mark}"


def table_of_sources(found: pd.DataFrame) -> list[str]:
    """One row per source: alone against nothing, shuffled against nothing, shuffled among all against all."""
    lines = [
        "| source | alone, against nothing | alone and shuffled, against nothing | shuffled among all, against all |",
        "|---|---|---|---|",
    ]
    nothing, everything = (NONE, "as it is"), (ALL, "as it is")
    lines.append(f"| {ALL} | {paired(found, everything, nothing)} | | |")
    for source in [name for name in dict.fromkeys(found.source) if name not in (ALL, NONE)]:
        cells = [
            paired(found, (source, "alone"), nothing),
            paired(found, (source, "alone, shuffled"), nothing),
            paired(found, (source, "shuffled among all"), everything),
        ]
        lines.append(f"| {source} | " + " | ".join(cells) + " |")
    return lines


def table_of_truths(found: pd.DataFrame) -> list[str]:
    """One row per part of the truth, alone against nothing."""
    lines = ["| known of each gene | against nothing |", "|---|---|"]
    for name in [name for name in dict.fromkeys(found.source) if name != NONE]:
        lines.append(f"| {name} | {paired(found, (name, 'alone'), (NONE, 'as it is'))} |")
    return lines


def table_of_doubles(found: pd.DataFrame) -> list[str]:
    """Means over worlds."""
    means = found.groupby("model", sort=False)[["l2", *map(str, PROPORTIONS)]].mean().sort_values("l2")
    head = " | ".join(f"found at {100 * proportion:.0f} % false" for proportion in PROPORTIONS)
    lines = [f"| model | L2 | {head} |", "|---" * (2 + len(PROPORTIONS)) + "|"]
    for model, row in means.iterrows():
        rates = " | ".join(f"{100 * row[str(proportion)]:.1f} %" for proportion in PROPORTIONS)
        lines.append(f"| {model} | {row['l2']:.3f} | {rates} |")
    return lines


def main() -> None:
    """Runs what is missing and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="spectral-ridge")
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "knowledge-sources")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    page = PAGE.read_text().partition("<!-- measured -->")[0] if PAGE.is_file() else "# What knowledge is worth\n\n"
    lines = [f"{page}<!-- measured -->", ""]
    for model in arguments.models.split(","):
        parts = [
            kept(arguments.out / f"{model}-{seed}.csv", of_singles, model, seed=seed)
            for seed in range(arguments.worlds)
        ]
        lines += [
            f"## Unseen singles: {model} ({arguments.worlds} worlds)",
            "",
            *table_of_sources(pd.concat(parts)),
            "",
        ]
        parts = [
            kept(arguments.out / f"{model}-truths-{seed}.csv", of_truths, model, seed=seed)
            for seed in range(arguments.worlds)
        ]
        lines += [f"### What could be known at most: {model}", "", *table_of_truths(pd.concat(parts)), ""]
    parts = [kept(arguments.out / f"doubles-{seed}.csv", of_doubles, seed=seed) for seed in range(arguments.worlds)]
    lines += [f"## Unseen doubles ({arguments.worlds} worlds)", "", *table_of_doubles(pd.concat(parts)), ""]
    PAGE.write_text("\n".join(lines))


def kept(file: Path, make, *arguments, seed: int) -> pd.DataFrame:
    """The table of a file, made first where it is missing."""
    if not file.is_file():
        make(*arguments, seed=seed).to_csv(file, index=False)
        print(f"{file.stem} done", flush=True)
    return pd.read_csv(file)


if __name__ == "__main__":
    main()
