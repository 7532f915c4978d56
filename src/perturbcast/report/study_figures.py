"""Figures of the studies: what each part is worth, conditions as violins, spoilt graphs, and maps of genes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perturbcast._files import written_whole
from perturbcast.benchmarking.compare import CEILING
from perturbcast.benchmarking.gene_maps import GeneMap
from perturbcast.benchmarking.paired import NO_CHANGE
from perturbcast.benchmarking.studies import INTACT, SHOWN, Study, short_name
from perturbcast.report.figures import BEST, FLOOR, GRID, INK, MUTED, OTHER, STYLE, draw_violin, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIRECTION = (("dac", "all"), ("direction_accuracy", "all"))  # the first that is scored; DAC needs expression
PEARSON = ("pearson_delta", "all-notarget")
N_PANELS = 3  # metrics in a figure
LAYOUT_NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def write_figure(figure: "Figure", path: Path) -> None:
    """Writes a PNG, whole or not at all."""
    import matplotlib as mpl

    with written_whole(path) as draft, mpl.rc_context(STYLE):
        figure.savefig(draft, format="png", dpi=150, bbox_inches="tight", facecolor="white")


def differences(study: Study) -> "Figure":
    """Paired differences to the reference with 95 % intervals, one panel a metric, one line a model."""
    table = study.table[(study.table["baseline"] == study.reference) & (study.table["model"] != study.reference)]
    table = table[~table["model"].str.startswith(CEILING) & (table["model"] != NO_CHANGE)]  # far off the scale
    order = list(dict.fromkeys(table["model"]))
    shown = _scored(table)[:N_PANELS]
    figure, axes = new_figure(1, len(shown), width=2.6 * len(shown) + 2.6, height=0.26 * len(order) + 1.2)
    for number, (axis, pair) in enumerate(zip(axes[0], shown, strict=True)):
        _draw_differences(axis, _of(table, pair), order, title=SHOWN[pair])
        _name_lines(axis, order, reference=study.reference, named=number == 0)
    figure.suptitle(f"Change against {study.reference}", color=INK, fontsize=10)
    return figure


def _of(table: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    return table[(table["metric"] == pair[0]) & (table["gene_set"] == pair[1])]


def _scored(table: pd.DataFrame) -> list[tuple[str, str]]:
    return [pair for pair in SHOWN if _of(table, pair)["mean"].notna().any()]


def _draw_differences(axis: "Axes", table: pd.DataFrame, order: Sequence[str], *, title: str) -> None:
    place = {model: len(order) - 1 - number for number, model in enumerate(order)}
    for row in table.to_dict("records"):
        y, colour = place[row["model"]], {"better": BEST, "worse": FLOOR}.get(row["verdict"], OTHER)
        axis.plot([row["diff_low"], row["diff_high"]], [y, y], color=colour, linewidth=2.5, solid_capstyle="round")
        axis.plot(row["difference"], y, "o", color=colour, markersize=6, markeredgecolor="white")
    higher = bool(table["higher_is_better"].iloc[0])
    axis.axvline(0, color=INK, linewidth=0.9)
    axis.set_xlabel(f"{title}\n{'higher is better →' if higher else '← lower is better'}")


def _name_lines(axis: "Axes", order: Sequence[str], *, reference: str, named: bool) -> None:
    """One line a model, the first on top, with few marks along the other axis."""
    names = [short_name(model, reference=reference) if named else "" for model in order]
    axis.set_yticks(range(len(order) - 1, -1, -1), names)
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.tick_params(axis="y", length=0)
    axis.locator_params(axis="x", nbins=5)
    axis.grid(axis="x", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)


def violins(study: Study) -> "Figure":
    """Scores of single conditions under every model (GRAPE, Fig. 4): their spread, middle half (line) and median."""
    scores = study.scores[~study.scores["model"].str.startswith(CEILING) & study.scores["value"].notna()]
    scores = scores[scores["model"] != NO_CHANGE]  # it has no direction
    direction = [pair for pair in DIRECTION if len(_of(scores, pair))][:1]
    shown = [pair for pair in [*direction, PEARSON] if len(_of(scores, pair))]
    order = [model for model in dict.fromkeys(scores["model"]) if len(_of(scores[scores["model"] == model], shown[0]))]
    height = 0.38 * len(order) + 0.9
    figure, axes = new_figure(1, len(shown), width=3.4 * len(shown) + 2.4, height=height)
    for number, (axis, pair) in enumerate(zip(axes[0], shown, strict=True)):
        part = _of(scores, pair)
        for line, model in enumerate(order):
            values = part.loc[part["model"] == model, "value"].to_numpy()
            colour = BEST if model == study.reference else OTHER
            draw_violin(axis, values, len(order) - 1 - line, colour=colour, lying=True)
        _name_lines(axis, order, reference=study.reference, named=number == 0)
        axis.set_xlabel(f"{SHOWN[pair]} of a condition")
    return figure


def spoilt_graphs(study: Study) -> "Figure":
    """Paired change with the share of the graph that is spoilt, a line a way, one panel a metric."""
    table = study.table[study.table["model"] != INTACT].copy()
    named = table["model"].str.extract(r"^(?P<way>\w+) (?P<share>\d+)%$")
    table = table.assign(way=named["way"], share=named["share"].astype(float)).dropna(subset=["share"])
    shown = _scored(table)[:N_PANELS]
    ways = list(dict.fromkeys(table["way"]))
    figure, axes = new_figure(1, len(shown), width=2.9 * len(shown) + 1.2, height=3.0)
    for axis, pair in zip(axes[0], shown, strict=True):
        part = _of(table, pair)
        for way, colour, shift in zip(ways, (BEST, FLOOR, "#e67700", "#5f3dc4"), (-2.1, -0.7, 0.7, 2.1), strict=False):
            line = part[part["way"] == way].sort_values("share")
            error = np.abs(line[["diff_low", "diff_high"]].to_numpy().T - line["difference"].to_numpy())
            axis.errorbar(line["share"] + shift, line["difference"], error, marker="o", color=colour, label=way)
        axis.axhline(0, color=INK, linewidth=0.9)
        higher = "higher is better" if part["higher_is_better"].iloc[0] else "lower is better"
        axis.set_title(f"change of {SHOWN[pair]}\n({higher})", fontsize=9)
        axis.set_xticks(sorted(set(part["share"])))
        axis.set_xlabel("share spoilt, %")
        axis.locator_params(axis="y", nbins=5)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right center")
    return figure


def biotype_maps(maps: Sequence[GeneMap]) -> "Figure":
    """Genes in the plane by biotype, and how far neighbours agree."""
    figure, axes = new_figure(1, len(maps), width=2.9 * len(maps), height=3.1)
    for axis, found in zip(axes[0], maps, strict=True):
        for kind, colour, size in ((False, OTHER, 4), (True, FLOOR, 7)):
            rows = found.non_coding == kind
            axis.scatter(*found.place[rows].T, s=size, color=colour, label="non-coding" if kind else "coding", lw=0)
        axis.set_title(f"{found.title}\nseparation {found.separation:.2f} (chance {found.by_chance:.2f})", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel(f"first axis of {LAYOUT_NAMES[found.layout]}", color=MUTED)
    axes[0, 0].set_ylabel("second axis", color=MUTED)
    axes[0, -1].legend(frameon=False, fontsize=8, markerscale=2)
    return figure
