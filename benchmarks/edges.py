"""Whether edges from a target to a measured gene tell what `spectral-ridge` does not (docs/RESULTS_GRAPH.md, Edges).

Reads the predictions of unseen singles that benchmarks/graph_results.py left in its folder. Slopes of what is left
unexplained on an edge are learned on the other folds.

Run: python benchmarks/edges.py [--results out/graph-results]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import read_h5ad

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ROOT.parent / "shared" / "data" / "networks"
MODEL = "spectral-ridge"
STUDIES = ("norman-singles", "replogle-singles")


def edges() -> dict[str, pd.DataFrame]:
    """Columns source, target, weight of every list of regulators."""
    columns = ["source", "target", "weight"]
    dorothea = pd.read_csv(NETWORKS / "dorothea_abc_human.tsv.gz", sep="\t")[["tf", "target", "mor"]]
    trrust = pd.read_csv(NETWORKS / "trrust_human.tsv", sep="\t", header=None)[[0, 1]].assign(weight=1.0)
    string = pd.read_csv(NETWORKS / "string_human.csv").assign(weight=1.0)
    both = pd.concat([string, string.iloc[:, [1, 0, 2]].set_axis(string.columns, axis=1)])
    chea = [
        (line.split()[0], gene, 1.0)
        for line in (NETWORKS / "encode_chea_consensus.gmt").read_text().splitlines()
        for gene in line.split("\t")[2:]
    ]
    return {
        "CollecTRI": pd.read_csv(NETWORKS / "collectri_human.csv"),
        "DoRothEA": dorothea.set_axis(columns, axis=1),
        "TRRUST": trrust.set_axis(columns, axis=1),
        "ENCODE and ChEA": pd.DataFrame(chea, columns=columns),
        "STRING": both.set_axis(columns, axis=1),
    }


def unexplained(results: Path, study: str) -> tuple[pd.DataFrame, np.ndarray]:
    """(target, gene) truth less prediction, own genes 0, and the fold of each row."""
    parts, folds = [], []
    for file in sorted((results / study / MODEL).glob(f"predictions/*/*/*/{MODEL}.h5ad")):
        found, truth = read_h5ad(file), read_h5ad(file.parent / "truth.h5ad")
        targets = truth.obs["condition"].astype(str).to_numpy()
        rest = np.asarray(truth.X, dtype=float) - np.asarray(found.X, dtype=float)
        rest[targets[:, None] == truth.var_names.to_numpy()] = 0.0
        parts.append(pd.DataFrame(rest, index=targets, columns=truth.var_names))
        folds += [file.parent.name] * len(targets)
    return pd.concat(parts), np.array(folds)


def main() -> None:
    """Prints, per study and list: edges to measured genes, the slope, and the change of L2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "graph-results")
    results = parser.parse_args().results
    for study in STUDIES:
        rest, folds = unexplained(results, study)
        before = np.linalg.norm(rest, axis=1)
        print(f"{study}: {len(rest)} targets, L2 {before.mean():.3f}")
        for name, listed in edges().items():
            known = listed[listed.source.isin(rest.index) & listed.target.isin(rest.columns)]
            wide = known[known.source != known.target].drop_duplicates(["source", "target"])
            wide = wide.pivot(index="source", columns="target", values="weight")
            weight = wide.reindex(index=rest.index, columns=rest.columns).fillna(0.0).to_numpy()
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
