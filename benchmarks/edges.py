"""Whether edges from a target to a measured gene tell what `spectral-ridge` does not (docs/RESULTS_GRAPH.md, Edges).

Reads the predictions of unseen singles that benchmarks/graph_results.py left in its folder. Slopes of what is left
unexplained on an edge are learned on the other folds.

Run: python benchmarks/edges.py [--results out/graph-results]
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from best_mixture import predictions
from graph_results import ROOT, SHARED, STUDIES, Study

from perturbcast.data.readers import read
from perturbcast.data.responses import ResponseTable
from perturbcast.genes.knowledge import GeneGraph, GeneSets
from perturbcast.genes.load import load_knowledge

MODEL = "spectral-ridge"
ASKED = ("norman-singles", "replogle-singles")
SIGNED = ("collectri_human", "dorothea_abc_human")
UNSIGNED = ("trrust_human", "string_human")  # as they are here: of many edges the sign is not known
SETS = "encode_chea_consensus"


def edges(rest: pd.DataFrame) -> dict[str, np.ndarray]:
    """(target, gene) edges of every list of regulators, by its name; 0 from a target to itself."""
    knowledge = load_knowledge([SHARED / "networks"], genes=rest.columns, targets=rest.index)
    found = {name: from_graph(knowledge.graphs[name], rest, signed=name in SIGNED) for name in (*SIGNED, *UNSIGNED)}
    found[SETS] = from_sets(knowledge.gene_sets[SETS], rest)
    own = rest.index.to_numpy()[:, None] == rest.columns.to_numpy()
    return {name: np.where(own, 0.0, weight) for name, weight in found.items()}


def from_graph(graph: GeneGraph, rest: pd.DataFrame, *, signed: bool) -> np.ndarray:
    """Signs of edges where they are wanted, else 1 for every edge."""
    values = graph.signs if signed and graph.signs is not None else graph.weights.sign()
    outgoing, _ = replace(graph, weights=values).rows(rest.index)
    column = pd.Index(graph.genes).get_indexer(rest.columns)
    return np.where(column >= 0, outgoing[:, column].toarray(), 0.0)


def from_sets(sets: GeneSets, rest: pd.DataFrame) -> np.ndarray:
    """1 from a regulator to the members of its sets, which begin with its name."""
    members, _ = sets.rows(rest.columns)
    by_regulator = pd.DataFrame(members.T.toarray(), index=[name.split()[0] for name in sets.sets])
    return by_regulator.groupby(level=0).max().reindex(rest.index).fillna(0.0).to_numpy()


def unexplained(results: Path, study: Study) -> tuple[pd.DataFrame, np.ndarray]:
    """(target, gene) truth less prediction, own genes 0, and the fold of each row."""
    truth = read(SHARED / study.file)
    assert isinstance(truth, ResponseTable)
    row = {condition: place for place, condition in enumerate(truth.conditions)}
    found = predictions(results / study.name, MODEL)
    folds, targets = (np.array(names) for names in zip(*found, strict=True))
    rest = truth.response[[row[target] for target in targets]] - np.array(list(found.values()))
    rest[targets[:, None] == truth.genes] = 0.0
    return pd.DataFrame(rest, index=targets, columns=truth.genes), folds


def main() -> None:
    """Prints, per study and list: edges to measured genes, the slope, and the change of L2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "graph-results")
    results = parser.parse_args().results
    for study in STUDIES:
        if study.name not in ASKED:
            continue
        rest, folds = unexplained(results, study)
        before = np.linalg.norm(rest, axis=1)
        print(f"{study.name}: {len(rest)} targets, L2 {before.mean():.3f}")
        for name, weight in edges(rest).items():
            after, slopes = rest.to_numpy().copy(), []
            for fold in np.unique(folds):
                out = folds == fold
                slopes.append((weight * rest.to_numpy())[~out].sum() / max((weight[~out] ** 2).sum(), 1e-9))
                after[out] -= slopes[-1] * weight[out]
            change = np.linalg.norm(after, axis=1) - before
            error = 2 * change.std() / np.sqrt(len(change))
            shown = f"{np.mean(slopes):+.2f} ({min(slopes):+.2f} to {max(slopes):+.2f})"
            print(f"  {name}: {(weight != 0).sum()} edges, slope {shown}, L2 {change.mean():+.4f} ± {error:.4f}")


if __name__ == "__main__":
    main()
