"""Figures of the report, as SVG text to be put into the page; the same functions make the PNGs of the docs."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
BEST, OTHER, FLOOR, CEILING = "#0b7285", "#9fb3c8", "#c92a2a", "#2b8a3e"
LONGEST_UNIT = 20  # characters that fit under a panel beside its name
N_NAMED = 4  # genes named in a scatter
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "perturbcast",
}


@dataclass(frozen=True)
class Interval:
    """One model's score in a panel."""

    model: str
    mean: float
    low: float
    high: float
    is_best: bool


@dataclass(frozen=True)
class Panel:
    """One metric: the models' intervals, the floor and the ceiling (NaN if unknown)."""

    title: str
    higher_is_better: bool
    intervals: tuple[Interval, ...]
    floor: float
    ceiling: float


@dataclass(frozen=True)
class Match:
    """Predicted against observed response of one query."""

    title: str
    observed: np.ndarray  # (gene,)
    predicted: np.ndarray  # (gene,)
    genes: np.ndarray  # (gene,) names


def to_svg(figure: "Figure") -> str:
    """The figure as an SVG element, without an XML head and the same every time."""
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def new_figure(n_rows: int, n_columns: int, *, width: float, height: float) -> tuple["Figure", np.ndarray]:
    """A figure with a grid of axes in the house style, made without pyplot's global state."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
    return figure, axes


def floor_to_ceiling(panels: Sequence[Panel]) -> "Figure":
    """Where each model stands between floor and ceiling: one panel a metric, one line a model, with 95 % intervals."""
    order = [interval.model for interval in panels[0].intervals]
    n_rows = (len(panels) + 1) // 2
    n_columns = min(len(panels), 2)
    height = n_rows * (0.24 * len(order) + 0.95)
    figure, axes = new_figure(n_rows, n_columns, width=4.6 * n_columns + 0.9, height=height)
    for position, axis in enumerate(axes.ravel()):
        if position >= len(panels):
            axis.set_axis_off()
            continue
        draw_panel(axis, panels[position], order, named=position % 2 == 0)
    return figure


def draw_panel(axis: "Axes", panel: Panel, order: Sequence[str], *, named: bool) -> None:
    """Intervals of one metric, in the order given, top to bottom."""
    place = {model: len(order) - 1 - position for position, model in enumerate(order)}
    for interval in panel.intervals:
        if interval.model not in place:
            continue
        colour = BEST if interval.is_best else OTHER
        y = place[interval.model]
        axis.plot([interval.low, interval.high], [y, y], color=colour, linewidth=3, solid_capstyle="round", zorder=2)
        axis.plot(interval.mean, y, "o", color=colour, markersize=6, markeredgecolor="white", zorder=3)
    for value, colour, name in ((panel.floor, FLOOR, "floor"), (panel.ceiling, CEILING, "ceiling")):
        if np.isfinite(value):
            axis.axvline(value, color=colour, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
            axis.annotate(
                name,
                (value, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                color=colour,
                fontsize=7.5,
            )
    axis.set_yticks(list(place.values()), list(place) if named else [""] * len(place))
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    better = "higher is better →" if panel.higher_is_better else "← lower is better"
    axis.set_xlabel(f"{panel.title}\n{better}")


def predicted_against_observed(matches: Sequence[Match], *, unit: str) -> "Figure":
    """Scatter of every gene for a few queries, the genes furthest from zero named; a long unit is not on the axes."""
    figure, axes = new_figure(1, len(matches), width=3.5 * len(matches), height=3.6)
    for axis, match in zip(axes[0], matches, strict=True):
        draw_match(axis, match)
    named = f" ({unit})" if len(unit) <= LONGEST_UNIT else ""
    axes[0, 0].set_ylabel(f"predicted response{named}")
    for axis in axes[0]:
        axis.set_xlabel(f"observed response{named}")
    return figure


def draw_match(axis: "Axes", match: Match) -> None:
    """One query: genes as points, the line of perfect prediction, the largest observed genes named."""
    values = np.concatenate([match.observed, match.predicted])
    values = values[np.isfinite(values)]
    margin = 0.08 * (np.ptp(values) or 1.0)
    low, high = values.min() - margin, values.max() + margin
    axis.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axis.axhline(0, color=GRID, linewidth=0.8)
    axis.axvline(0, color=GRID, linewidth=0.8)
    axis.scatter(match.observed, match.predicted, s=9, color=BEST, alpha=0.45, linewidths=0, rasterized=True)
    name_genes(axis, match, gap=0.055 * (high - low))
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.set_aspect("equal")
    axis.set_title(match.title, fontsize=9, color=INK)


def name_genes(axis: "Axes", match: Match, *, gap: float) -> None:
    """Names of the genes with the largest observed responses, pushed apart by at least `gap`."""
    largest = np.argsort(-np.abs(match.observed), kind="stable")[:N_NAMED]
    for rising in (True, False):
        chosen = [gene for gene in largest if (match.observed[gene] > 0) == rising]
        chosen.sort(key=lambda gene: match.predicted[gene])
        heights = spread([float(match.predicted[gene]) for gene in chosen], gap=gap)
        for gene, height in zip(chosen, heights, strict=True):
            x = float(match.observed[gene])
            axis.annotate(
                str(match.genes[gene]),
                (x, float(match.predicted[gene])),
                xytext=(x + (-0.6 if rising else 0.6) * gap, height),
                ha="right" if rising else "left",
                va="center",
                fontsize=7.5,
                color=INK,
            )


def spread(heights: list[float], *, gap: float) -> np.ndarray:
    """Ascending heights moved apart until neighbours differ by `gap`, about the same middle."""
    apart = np.array(heights, dtype=float)
    for position in range(1, len(apart)):
        apart[position] = max(apart[position], apart[position - 1] + gap)
    return apart - (apart - np.array(heights, dtype=float)).mean() if len(apart) else apart


def violins(values: dict[str, dict[str, np.ndarray]], *, titles: dict[str, str], best: str) -> "Figure":
    """Per-query scores: one panel a metric (outer key), one violin a model (inner key), the median marked."""
    models = list(next(iter(values.values())))
    width = 0.62 * len(models) + 1.2
    figure, axes = new_figure(len(values), 1, width=max(width, 6.0), height=2.3 * len(values) + 0.7)
    for axis, (metric, by_model) in zip(axes[:, 0], values.items(), strict=True):
        draw_violins(axis, by_model, best=best)
        axis.set_ylabel(titles[metric])
        axis.set_xlim(-0.7, len(models) - 0.3)
        axis.set_xticks(range(len(models)), [""] * len(models))
    axes[-1, 0].set_xticks(range(len(models)), models, rotation=35, ha="right")
    return figure


def draw_violins(axis: "Axes", by_model: dict[str, np.ndarray], *, best: str) -> None:
    """Violins of one metric; a constant is drawn as its median alone."""
    for position, (model, scores) in enumerate(by_model.items()):
        draw_violin(axis, scores, position, colour=BEST if model == best else OTHER)
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(axis="x", length=0)


def draw_violin(axis: "Axes", scores: np.ndarray, position: int, *, colour: str, lying: bool = False) -> None:
    """One violin, upright or lying, with its middle half and median; a constant is drawn as its median alone."""
    scores = scores[np.isfinite(scores)]
    if scores.size == 0:
        return
    if scores.size > 2 and np.ptp(scores) > 1e-12:
        way: Any = "horizontal" if lying else "vertical"
        drawn: Any = axis.violinplot([scores], [position], orientation=way, widths=0.85, showextrema=False)
        for body in drawn["bodies"]:
            body.set(facecolor=colour, edgecolor="none", alpha=0.55)
    low, middle, high = np.percentile(scores, [25, 50, 75])
    half, median = ([low, high], [position, position]), (middle, position)
    axis.plot(*(half if lying else half[::-1]), color=INK, linewidth=2.2)
    axis.plot(*(median if lying else median[::-1]), "o", color="white", markeredgecolor=INK, markersize=4.5, zorder=3)


def strata(table: pd.DataFrame, *, title: str, best: str) -> "Figure":
    """Mean score by effect-size stratum: rows of `table` are models, columns strata from weak to strong."""
    figure, axes = new_figure(1, 1, width=7.6, height=max(3.4, 0.24 * len(table)))
    axis = axes[0, 0]
    places = np.arange(table.shape[1])
    for model, row in table.iterrows():
        emphasised = model == best
        axis.plot(
            places,
            row.to_numpy(dtype=float),
            marker="o",
            color=BEST if emphasised else OTHER,
            linewidth=2.2 if emphasised else 1.2,
            zorder=3 if emphasised else 2,
        )
    name_lines(axis, table, at=float(places[-1]), best=best)
    axis.set_xticks(places, [str(name) for name in table.columns])
    axis.set_xlim(-0.2, places[-1] + 1.0)
    low, high = axis.get_ylim()
    axis.set_ylim(low - 0.06 * (high - low), high)
    axis.set_ylabel(title)
    axis.set_xlabel("size of the observed effect")
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    return figure


def name_lines(axis: "Axes", table: pd.DataFrame, *, at: float, best: str) -> None:
    """Names at the right end of the lines, pushed apart so that none covers another."""
    last = table.iloc[:, -1].dropna().sort_values()
    if last.empty:
        return
    low, high = axis.get_ylim()
    gap = (high - low) * 0.058
    heights = spread(list(last.to_numpy(dtype=float)), gap=gap)
    for model, height in zip(last.index, heights, strict=True):
        colour = BEST if model == best else MUTED
        axis.text(at + 0.06, height, str(model), va="center", fontsize=7.5, color=colour)
