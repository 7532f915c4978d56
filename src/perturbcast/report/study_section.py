"""What a study adds to the report of its benchmark: differences, single conditions, and maps of genes."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from perturbcast.benchmarking.gene_maps import read_maps
from perturbcast.benchmarking.studies import TABLE, Study
from perturbcast.report.study_figures import biotype_maps, differences, violins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAPS = (
    "Measured genes by biotype, as given and as learned. Separation: how much more often than by chance the 10 nearest "
    "genes are of one kind, in 20 principal axes and not in the plane; in brackets what 95 % of shuffled labels stay "
    "below. A relation per biotype separates any labels: only what goes beyond the map with shuffled ones counts."
)


def study_views(folder: Path, scores: pd.DataFrame, *, dataset: str, split: str) -> Iterator[tuple[str, "Figure", str]]:
    """(title, figure, caption) of the study in the folder of a benchmark, for one data set and split; else nothing."""
    if not (folder / TABLE).is_file():
        return
    table = pd.read_parquet(folder / TABLE)
    table = table[(table["dataset"] == dataset) & (table["split"] == split)]
    compared = table.loc[table["baseline"].notna() & (table["baseline"] != ""), "baseline"]
    if not len(compared):
        return
    own = scores[(scores["dataset"] == dataset) & (scores["split"] == split)]
    study = Study(folder, str(compared.iloc[0]), own, table)
    caption = "Mean paired difference over held-out conditions, with 95 % interval; colours mark those that exclude 0."
    yield f"Change against {study.reference}", differences(study), caption
    yield (
        "Direction and correlation of single conditions",
        violins(study),
        ("Each violin is one model over all held-out conditions; the dot is the median, the bar the middle half."),
    )
    maps = read_maps(folder)
    if maps:
        yield "Genes by biotype", biotype_maps(maps), MAPS
