"""Another screen's responses as gene knowledge: writes its embedding tables, and what they add on unseen singles.

Run: python benchmarks/transfer.py FROM.h5ad --out FOLDER                  (two .npz tables that --genes reads)
     python benchmarks/transfer.py FROM.h5ad --out FOLDER --into INTO.h5ad (and scores with and without them)
FROM may also be a long table of significant effects (.parquet: study_id, perturbation, gene, mean_perturbed,
mean_control), of which --screen names the study; what is not listed counts as unchanged.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import perturbcast
from perturbcast.benchmarking.paired import paired
from perturbcast.data.conditions import Query
from perturbcast.data.readers import read
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.genes.policies import write_table
from perturbcast.models.transfer import tables_from_responses

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
KNOWLEDGE = [SHARED / "genes", SHARED / "networks"]
N_BOOTSTRAP = 2000
SHOWN = ("l2", "pearson_delta_perturbed", "pds_cosine", "pds_cosine_perturbed")


def from_effects(file: Path, screen: str) -> ResponseTable:
    """Differences of log1p means, a row per single perturbation, 0 where no significant effect is listed."""
    rows = pd.read_parquet(file)
    rows = rows[(rows.study_id == screen) & ~rows.perturbation.str.contains("|", regex=False)]
    if rows.empty:
        raise SystemExit(f"--screen: {file.name} has no single perturbation of {screen!r}.")
    change = np.log1p(rows.mean_perturbed) - np.log1p(rows.mean_control)
    wide = rows.assign(change=change).pivot_table(index="perturbation", columns="gene", values="change", fill_value=0.0)
    return ResponseTable(
        name=screen,
        scale=Scale.RESPONSE,
        genes=wide.columns.to_numpy(dtype=object),
        queries=tuple(Query(str(target)) for target in wide.index),
        response=wide.to_numpy(dtype=np.float64),
        contexts=("",),
        control=np.full((1, wide.shape[1]), np.nan),
    )


def scores(into: Path, model: str, *, out: Path, knowledge: list[Path]) -> pd.DataFrame:
    """Scores of a model on unseen singles, all genes."""
    done = perturbcast.benchmark(
        [into], models=[model], splits=["singles"], out=out, knowledge=knowledge, metrics_profile="core"
    )
    found = done.scores[(done.scores.model == model) & (done.scores.gene_set == "all")]
    return found.pivot_table(index="condition", columns="metric", values="value")


def shown(given: pd.Series, without: pd.Series) -> str:
    """Means without and with the tables, and the paired difference with a 95 % bootstrap interval over conditions."""
    difference = paired(given.to_numpy(), without.to_numpy())
    drawn = np.random.default_rng(0).integers(len(difference), size=(N_BOOTSTRAP, len(difference)))
    low, high = np.percentile(difference[drawn].mean(axis=1), [2.5, 97.5])
    change = f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    decided = f"**{change}**" if low > 0 or high < 0 else change
    return f"{without.mean():.3f} → {given.mean():.3f} ({decided})"


def main() -> None:
    """Writes the tables; with --into also prints what they change, apart for targets perturbed in the other screen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FROM")
    parser.add_argument("--screen", default="", help="of a table of effects")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--model", default="spectral-ridge")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = from_effects(arguments.file, arguments.screen) if arguments.screen else read(arguments.file)
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
    known = given.index.isin(made.perturbed.genes)
    groups = {"all": np.ones(len(known), dtype=bool), "perturbed there too": known, "not perturbed there": ~known}
    print("| singles | " + " | ".join(SHOWN) + " |\n" + "|---" * (len(SHOWN) + 1) + "|")
    for name, rows in groups.items():
        if not rows.any():
            continue
        cells = [shown(given.loc[rows, metric], without.loc[rows, metric]) for metric in SHOWN]
        print(f"| {name} ({rows.sum()}) | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
