"""What each source of knowledge is worth on simulated worlds, and what it costs when its names are shuffled.

Every source is given alone, as it is and with its genes' names shuffled, and taken from all of them by shuffling. L2 to
the exact responses of unseen singles, five folds of every world, trained on measured ones. Also whether the synergy
and buffering of unseen doubles are found: true-positive rates at three false-discovery proportions (spec D-13). And
what could be known at most: the truth that promoters and biotypes carry a part of, given as gene sets. Biotypes are
given as gene sets too, so that every model reads them. Folds are kept in --out and not made again.
Writes docs/KNOWLEDGE_SOURCES.md.

Run: python benchmarks/knowledge_sources.py [--models spectral-ridge=8,app=3] [--worlds 16] [--out FOLDER]
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from perturbcast.data.conditions import targets_of
from perturbcast.data.simulate import World, simulate
from perturbcast.data.simulation.annotations import DECOYS, SITE
from perturbcast.data.split_rules import design_of, half_of_doubles, singles_by_fold
from perturbcast.data.statistics import response_table
from perturbcast.errors import NeedsKnowledge
from perturbcast.genes.graphs import gene_sets_of
from perturbcast.genes.knowledge import GeneKnowledge, GeneSets
from perturbcast.genes.motifs import motif_sets
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
RIVALS = ("kappa-additive", "no-change")  # of finding interactions: a scaled sum, and all doubles buffered
FOLDS = 5
FEW = {"grape": (SEQUENCE, BIOTYPE)}  # slow, and built on these
OF_TRUTHS = ("spectral-ridge",)
ALL, NONE = "all sources", "nothing"


def offers(model: str, knowledge: GeneKnowledge, *, seed: int) -> dict[tuple[str, str], GeneKnowledge]:
    """(source, how it is given) -> knowledge."""
    found = {(NONE, "as it is"): GeneKnowledge(), (ALL, "as it is"): with_biotype_sets(knowledge)}
    for source in FEW.get(model, sources_of(knowledge)):
        mixed = shuffled(knowledge, source, seed=seed)
        found[source, "alone"] = only(knowledge, source)
        found[source, "alone, shuffled"] = only(mixed, source)
        found[source, "shuffled among all"] = with_biotype_sets(mixed)
    return found


def with_biotype_sets(knowledge: GeneKnowledge) -> GeneKnowledge:
    """The knowledge, biotypes being gene sets as well."""
    return replace(knowledge, gene_sets={**knowledge.gene_sets, **only(knowledge, BIOTYPE).gene_sets})


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
    labels = {
        "true module": module,
        "true regulators of each target": true,
        "sites of its promoter, read without error": sites,
        "true role (regulator, effector, non-coding)": role,
    }
    given = {name: GeneKnowledge(gene_sets={"truth": by_label(found)}) for name, found in labels.items()}
    given["words that promoters share beyond chance"] = GeneKnowledge(gene_sets={"truth": motif_sets(world.sequences)})
    told = knowledge_of(world)
    plain = knowledge_of(simulate(**SINGLES, seed=world.settings.seed, promoter_code=0.0, telling_biotypes=0.0))
    for source in (SEQUENCE, BIOTYPE):
        given[f"{source}, as given"] = only(told, source)
        given[f"{source} of a world where it tells nothing of targets"] = only(plain, source)
    return given


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


def of_singles(model: str, *, seed: int, fold: int) -> pd.DataFrame:
    """L2 of every unseen single of a fold under every offer: columns model, seed, source, how, condition, l2."""
    world = simulate(**SINGLES, seed=seed)
    return errors_of(model, world, offers(model, knowledge_of(world), seed=seed), seed=seed, fold=fold)


def of_truths(model: str, *, seed: int, fold: int) -> pd.DataFrame:
    """L2 of every unseen single of a fold under every part of the truth, and under nothing; as `of_singles`."""
    world = simulate(**SINGLES, seed=seed)
    given = {(name, "alone"): knowledge for name, knowledge in truths(world, seed=seed).items()}
    return errors_of(model, world, {(NONE, "as it is"): GeneKnowledge()} | given, seed=seed, fold=fold)


def errors_of(
    model: str, world: World, given: dict[tuple[str, str], GeneKnowledge], *, seed: int, fold: int
) -> pd.DataFrame:
    """L2 of every unseen single of one fold, by what is given; nothing of what a model refuses."""
    rows = []
    train, test = sides(world, lambda design: singles_by_fold(design, seed=seed, folds=FOLDS))[fold]
    for (source, how), knowledge in given.items():
        try:
            found = get_model(model).fit(TrainingData(train, knowledge=knowledge), seed=seed).predict(test.queries)
        except NeedsKnowledge:
            continue
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
    """Mean difference of L2 in % of the right side, with twice its standard error over conditions; "" if not asked."""
    wide = found.pivot_table(index=["seed", "condition"], columns=["source", "how"], values="l2")
    if left not in wide or right not in wide:
        return ""
    difference = wide[left] - wide[right]
    unit = 100 / wide[right].mean()
    return marked(unit * difference.mean(), unit * difference.std() / np.sqrt(len(difference)), digits=1)


def marked(mean: float, error: float, *, digits: int) -> str:
    """A mean with twice its standard error, bold beyond it."""
    mark = "**" if abs(mean) > 2 * error else ""
    return f"{mark}{mean:+.{digits}f} ± {2 * error:.{digits}f}{mark}"


def table_of_sources(found: pd.DataFrame) -> list[str]:
    """One row per source: alone against nothing and shuffled, shuffled against nothing, shuffled among all."""
    lines = [
        "| source | alone, against nothing | alone, against shuffled | shuffled, against nothing "
        "| shuffled among all, against all |",
        "|---|---|---|---|---|",
    ]
    nothing, everything = (NONE, "as it is"), (ALL, "as it is")
    lines.append(f"| {ALL} | {paired(found, everything, nothing)} | | | |")
    for source in [name for name in dict.fromkeys(found.source) if name not in (ALL, NONE)]:
        alone, mixed = (source, "alone"), (source, "alone, shuffled")
        cells = [
            paired(found, alone, nothing),
            paired(found, alone, mixed),
            paired(found, mixed, nothing),
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
    """Means over worlds with twice their standard errors, and at 50 % false what is found beyond two rivals."""
    widest = found.pivot_table(index="seed", columns="model", values=str(PROPORTIONS[-1]))
    heads = [f"found at {100 * proportion:.0f} % false, %" for proportion in PROPORTIONS]
    heads += [f"of these beyond {rival}" for rival in RIVALS]
    lines = [f"| model | L2 | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for model, error in found.groupby("model")["l2"].mean().sort_values().items():
        own = found[found["model"] == model]
        cells = [over_worlds(own[str(proportion)]) for proportion in PROPORTIONS]
        cells += ["" if model == rival else over_worlds(widest[model] - widest[rival]) for rival in RIVALS]
        lines.append(f"| {model} | {error:.3f} | {' | '.join(cells)} |")
    return lines


def over_worlds(shares: pd.Series) -> str:
    """Mean of a number per world in %, with twice its standard error."""
    return marked(100 * shares.mean(), 100 * shares.std() / np.sqrt(len(shares)), digits=1)


def main() -> None:
    """Runs what is missing and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="spectral-ridge=8,kernel-ridge=8,app=3", help="NAME=WORLDS,...")
    parser.add_argument("--worlds", type=int, default=16, help="of doubles")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "knowledge-sources")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    page = PAGE.read_text().partition("<!-- measured -->")[0] if PAGE.is_file() else "# What knowledge is worth\n\n"
    lines = [f"{page}<!-- measured -->", ""]
    for entry in arguments.models.split(","):
        model, _, n_worlds = entry.partition("=")
        parts = folds_of(model, int(n_worlds), of_singles, arguments.out, model)
        lines += [f"## Unseen singles: {model} (worlds: {n_worlds})", "", *table_of_sources(parts), ""]
        if model in OF_TRUTHS:
            parts = folds_of(f"{model}-truths", int(n_worlds), of_truths, arguments.out, model)
            lines += [f"### What could be known at most: {model}", "", *table_of_truths(parts), ""]
    worlds = range(arguments.worlds)
    parts = pd.concat([kept(arguments.out / f"doubles-{seed}.csv", of_doubles, seed=seed) for seed in worlds])
    lines += [f"## Unseen doubles (worlds: {arguments.worlds})", "", *table_of_doubles(parts), ""]
    PAGE.write_text("\n".join(lines))


def folds_of(name: str, n_worlds: int, make: Callable[..., pd.DataFrame], out: Path, model: str) -> pd.DataFrame:
    """All folds of all worlds."""
    parts = [
        kept(out / f"{name}-{seed}-{fold}.csv", make, model, seed=seed, fold=fold)
        for seed in range(n_worlds)
        for fold in range(FOLDS)
    ]
    return pd.concat(parts)


def kept(file: Path, make: Callable[..., pd.DataFrame], *arguments: str, **numbers: int) -> pd.DataFrame:
    """The table of a file, made first where it is missing."""
    if not file.is_file():
        make(*arguments, **numbers).to_csv(file, index=False)
        print(f"{file.stem} done", flush=True)
    return pd.read_csv(file)


if __name__ == "__main__":
    main()
