"""Another screen's responses as gene knowledge: writes its embedding tables, and what they add on unseen singles.

Run: python benchmarks/transfer.py FROM.h5ad --out FOLDER                  (two .npz tables that --genes reads)
     python benchmarks/transfer.py FROM.h5ad --out FOLDER --into INTO.h5ad (and scores with and without them)
"""

import argparse
from pathlib import Path

import numpy as np

import perturbcast
from perturbcast.benchmarking.paired import paired
from perturbcast.data.readers import read
from perturbcast.data.responses import ResponseTable
from perturbcast.genes.policies import write_table
from perturbcast.models.transfer import tables_from_responses

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
KNOWLEDGE = [SHARED / "genes", SHARED / "networks"]
SHOWN = ("l2", "pearson_delta_perturbed", "pds_cosine", "pds_cosine_perturbed")


def scores(into: Path, model: str, *, out: Path, knowledge: list[Path]):
    """Scores of a model on unseen singles, all genes."""
    done = perturbcast.benchmark(
        [into], models=[model], splits=["singles"], out=out, knowledge=knowledge, metrics_profile="core"
    )
    found = done.scores[(done.scores.model == model) & (done.scores.gene_set == "all")]
    return found.pivot_table(index="condition", columns="metric", values="value")


def main() -> None:
    """Writes the tables; with --into also prints the paired differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("screen", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--model", default="spectral-ridge")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = read(arguments.screen)
    assert isinstance(table, ResponseTable)
    made = tables_from_responses(table)
    files = [arguments.out / f"{one.name}.npz" for one in (made.perturbed, made.measured)]
    for one, file in zip((made.perturbed, made.measured), files, strict=True):
        write_table(one, file)
        print(f"{file.name}: {len(one.genes):,} genes x {one.matrix.shape[1]} features")
    if arguments.into is None:
        return
    other = read(arguments.into)
    for one in (made.perturbed, made.measured):
        print(f"{one.name}: knows {len(set(one.genes) & set(other.targets))} of {len(other.targets)} targets")
    without = scores(arguments.into, arguments.model, out=arguments.out / "without", knowledge=KNOWLEDGE)
    given = scores(arguments.into, arguments.model, out=arguments.out / "with", knowledge=[*KNOWLEDGE, *files])
    for metric in SHOWN:
        difference = paired(given[metric].to_numpy(), without[metric].to_numpy())
        error = 1.96 * difference.std() / np.sqrt(len(difference))
        print(f"{metric}: {without[metric].mean():.4f} without, {given[metric].mean():.4f} with,"
              f" difference {difference.mean():+.4f} ± {error:.4f}")  # fmt: skip


if __name__ == "__main__":
    main()
