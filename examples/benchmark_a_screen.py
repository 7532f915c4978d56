"""Benchmark the simple baselines on a screen, and read the result in Python.

Simulates a small screen so that it runs anywhere in seconds; replace the first lines by `perturbcast.read("my.h5ad")`.
"""

import sys
import tempfile
from pathlib import Path

import perturbcast


def main(folder: Path) -> None:
    """Simulates, benchmarks, prints the models by error, and writes a report."""
    world = perturbcast.simulate(n_cells=2400, n_genes=200, n_targets=30, n_doubles=10, seed=0)
    done = perturbcast.benchmark(
        world.screen, models=["no-change", "mean", "nearest"], splits=["singles"], folds=3, out=folder / "benchmark"
    )
    table = done.summary
    errors = table[(table.metric == "l2") & (table.gene_set == "all")]
    print(errors[["model", "mean", "ci_low", "ci_high", "verdict"]].sort_values("mean").to_string(index=False))
    print("report:", perturbcast.build_report(done.folder).name)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
