"""The default simulated world beside the real screens of ../shared: a figure, and the table in docs/SIMULATOR.md.

Run: python benchmarks/simulated_vs_real.py
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

import perturbcast
from perturbcast.data.conditions import Query, is_double, targets_of
from perturbcast.data.de import differential_expression
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.data.simulate import World, simulate
from perturbcast.data.statistics import response_table
from perturbcast.metrics.empirical_null import empirical_null
from perturbcast.metrics.interactions import interaction_labels, label_fractions

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
FIGURE = ROOT / "docs" / "figures" / "simulated_vs_real.png"
PAGE = ROOT / "docs" / "SIMULATOR.md"
BEGIN, END = "<!-- table: begin, written by benchmarks/simulated_vs_real.py -->", "<!-- table: end -->"

MOST_CELLS = 60  # per condition, where the number of cells matters (the Adamson pilot has 60)
FEWEST_CELLS = 30
PUBLISHED = {"buffering": 0.0232, "synergy": 0.0061, "other": 0.0113}  # Norman, top-1000 genes; spec D.5
# L2 over the 1,000 genes highest in control, per root of genes, noise included; spec D.6 (published source data)
PUBLISHED_EFFECT = {
    "Norman doubles, no change": 5.616 / np.sqrt(1000),
    "K562 essential, mean": 4.193 / np.sqrt(1000),
    "RPE1 essential, mean": 5.534 / np.sqrt(1000),
    "Adamson, mean": 3.936 / np.sqrt(1000),
}
LOWER, UPPER = -0.205, 0.195  # spec D-11
COLOURS = {
    "simulated": "#d9480f",
    "Papalexi": "#1971c2",
    "Adamson": "#2f9e44",
    "Norman": "#7048e8",
    "Replogle": "#868e96",
}
LABELS = {
    "simulated": "simulated, default world (seed 0)",
    "Papalexi": "Papalexi 2021, THP-1 knock-out",
    "Adamson": "Adamson 2016 pilot, K562 interference",
    "Norman": "Norman 2019, K562 activation",
    "Replogle": "Replogle 2022, K562 interference (z-scores)",
}


@dataclass(frozen=True)
class Sample:
    """What is drawn of one data set; empty where it cannot be had."""

    name: str
    depth: np.ndarray = field(default_factory=lambda: np.zeros(0))  # molecules per cell, measured genes
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (gene,) of control counts
    variance: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (gene,) of control counts at equal depth
    zeros: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (gene,) share of control cells
    effect: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (single,) rms change per gene beyond noise
    de_share: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (single,) of genes
    shift: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (query,) cosine with the mean of the others


def sample_of_screen(name: str, screen: Screen) -> Sample:
    """All statistics of a screen of cells; counts only where it holds counts."""
    counted = counts_of_control(screen) if screen.scale is Scale.COUNTS else {}
    table = response_table(screen, min_cells=FEWEST_CELLS)
    few = screen.take(thinned(screen))
    singles = np.array([not is_double(condition) for condition in table.conditions])
    de = differential_expression(few, queries=[query for query in table.queries if not is_double(query.condition)])
    return Sample(
        name=name,
        effect=beyond_noise(table.take(singles)),
        de_share=de.significant().mean(axis=1),
        shift=shared_shift(table),
        **counted,
    )


def counts_of_control(screen: Screen) -> dict[str, np.ndarray]:
    """Depth of all cells; per gene mean, variance at equal depth and zeros of control cells."""
    depth = np.asarray(screen.stored(np.arange(screen.n_cells)).sum(axis=1), dtype=np.float64).ravel()
    control = np.flatnonzero(screen.is_control)
    counts = screen.stored(control).toarray().astype(np.float64)
    level = counts / depth[control, None] * np.median(depth[control])
    return {
        "depth": depth,
        "mean": level.mean(axis=0),
        "variance": level.var(axis=0, ddof=1),
        "zeros": (counts == 0).mean(axis=0),
    }


def thinned(screen: Screen) -> np.ndarray:
    """Positions of at most 60 cells of each condition, drawn with seed 0; controls at most 300."""
    rng = np.random.default_rng(0)
    kept = []
    for code in np.unique(screen.query_code):
        cells = rng.permutation(np.flatnonzero(screen.query_code == code))
        kept.append(cells[: 5 * MOST_CELLS if screen.is_control[cells[0]] else MOST_CELLS])
    return np.sort(np.concatenate(kept))


def beyond_noise(table: ResponseTable) -> np.ndarray:
    """(query,) root mean square response per gene, from the product of independent halves; 0 where below noise."""
    assert table.response_halves is not None
    first, second = table.response_halves
    return np.sqrt(np.maximum(np.nanmean(first * second, axis=1), 0.0))


def shared_shift(table: ResponseTable) -> np.ndarray:
    """(query,) cosine of one half of a query with the mean of the other half of all other queries: no shared cell."""
    assert table.response_halves is not None
    first, second = table.response_halves
    return cosine(first, others(second))


def others(rows: np.ndarray) -> np.ndarray:
    """Mean of all other rows, for each row."""
    return (rows.sum(axis=0) - rows) / (len(rows) - 1)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Row by row."""
    return (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


@dataclass(frozen=True)
class Doubles:
    """Shares of (double, gene) pairs that are not additive, and the slope of doubles on sums of singles."""

    label: str
    shares: dict[str, float]
    slope: np.ndarray  # (double,)


def doubles_of(label: str, table: ResponseTable, *, thresholds: tuple[float, float] | None) -> Doubles:
    """By fixed thresholds, or by those of an empirical null fitted to the deviations (spec D-11)."""
    row = {query: place for place, query in enumerate(table.queries)}
    found = []
    for query in table.queries:
        singles = [Query(target, query.context) for target in targets_of(query.condition)]
        if is_double(query.condition) and all(single in row for single in singles):
            found.append([row[query], *(row[single] for single in singles)])
    both, first, second = (table.response[list(rows)] for rows in zip(*found, strict=True))
    if thresholds is None:
        null = empirical_null(both - first - second)
        thresholds = (null.lower, null.upper)
    total = first + second
    shares = label_fractions(interaction_labels(first, second, both, lower=thresholds[0], upper=thresholds[1]))
    return Doubles(label, shares, (both * total).sum(axis=1) / (total**2).sum(axis=1))


def real_samples() -> tuple[list[Sample], ResponseTable]:
    """The five real files; Norman twice over: cells for effects, responses for the shift and the doubles."""
    folder = SHARED / "screens"
    papalexi = perturbcast.read(folder / "papalexi2021_thp1_eccite.h5ad")
    adamson = perturbcast.read(folder / "adamson2016_k562_pilot.h5ad")
    norman = perturbcast.read(folder / "norman2019_k562_crispra_cells.h5ad")
    responses = perturbcast.read(SHARED / "responses" / "norman2019_k562_crispra.h5ad")
    replogle = perturbcast.read(SHARED / "responses" / "replogle2022_k562_crispri_censored.h5ad")
    cells = [("Papalexi", papalexi), ("Adamson", adamson), ("Norman", norman)]
    samples = [sample_of_screen(name, screen) for name, screen in cells]
    moved = replogle.response[np.abs(replogle.response).sum(axis=1) > 0]
    samples.append(Sample("Replogle", shift=cosine(moved, others(moved))))
    return samples, responses


def all_doubles(world: World, norman: ResponseTable) -> list[Doubles]:
    """Published, real, and simulated without and with noise."""
    deep = simulate(n_cells=400 * (len(world.design.conditions) + 5))  # the same world, about as many cells as Norman
    return [
        Doubles("Norman, published\n(thresholds −0.205, 0.195)", PUBLISHED, np.zeros(0)),
        doubles_of("simulated, noise-free\n(same thresholds)", world.responses, thresholds=(LOWER, UPPER)),
        doubles_of("Norman responses\n(empirical null)", norman, thresholds=None),
        doubles_of("simulated, 400 cells each\n(empirical null)", response_table(deep.screen), thresholds=None),
    ]


# ------------------------------------------------------------------------------------------------------------ drawing
def draw(samples: list[Sample], doubles: list[Doubles], path: Path) -> None:
    """Eight panels with one legend."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}
    with plt.rc_context(style):
        figure, axes = plt.subplots(2, 4, figsize=(15, 7.4), layout="constrained")
        of_samples: list[Callable] = [depth_panel, zeros_panel, variance_panel, effect_panel, de_panel, shift_panel]
        for panel, axis in zip(of_samples, [*axes[0], axes[1, 2], axes[1, 3]], strict=True):
            panel(axis, samples)
        kinds_panel(axes[1, 0], doubles)
        slope_panel(axes[1, 1], doubles)
        for letter, axis in zip("abcdefgh", axes.ravel(), strict=True):
            axis.set_title(f"{letter}  {axis.get_title()}", loc="left", fontweight="bold")
            axis.set_title("")
        handles = [plt.Line2D([], [], color=COLOURS[name], lw=width(name), label=LABELS[name]) for name in LABELS]
        figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
        plt.close(figure)


def width(name: str) -> float:
    """The simulated world stands out."""
    return 2.6 if name == "simulated" else 1.6


def ecdf(axis, samples: list[Sample], attribute: str) -> None:
    """Cumulative shares of one statistic in each data set that has it, simulated on top."""
    for sample in reversed(samples):
        values = np.sort(getattr(sample, attribute))
        if len(values):
            axis.step(values, np.arange(1, len(values) + 1) / len(values), where="post",
                      color=COLOURS[sample.name], lw=width(sample.name))  # fmt: skip
    axis.set_ylim(0, 1.02)


def trend(axis, samples: list[Sample], attribute: str) -> None:
    """Median of one statistic over genes in bins of mean count."""
    for sample in reversed(samples):
        if not len(sample.mean):
            continue
        seen = sample.mean > 0.01
        mean, values = sample.mean[seen], getattr(sample, attribute)[seen]
        group = np.floor(np.log10(mean) * 4).astype(int)
        filled = [number for number in np.unique(group) if (group == number).sum() >= 4]
        at = [np.exp(np.log(mean[group == number]).mean()) for number in filled]
        axis.plot(at, [np.median(values[group == number]) for number in filled], "o-", ms=3.5,
                  color=COLOURS[sample.name], lw=width(sample.name))  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlabel("mean count per control cell")


def depth_panel(axis, samples: list[Sample]) -> None:
    ecdf(axis, samples, "depth")
    axis.set(xscale="log", xlabel="molecules per cell, measured genes", ylabel="share of cells", title="Depth")
    axis.set_xlim(30, 30_000)


def zeros_panel(axis, samples: list[Sample]) -> None:
    trend(axis, samples, "zeros")
    at = np.logspace(-2, 2, 100)
    axis.plot(at, np.exp(-at), ":", color="black", lw=1)
    axis.annotate("Poisson", (0.35, 0.45), color="black", ha="right")
    axis.set(ylabel="share of cells with zero", title="Zeros", ylim=(-0.02, 1.02))


def variance_panel(axis, samples: list[Sample]) -> None:
    trend(axis, samples, "variance")
    at = np.logspace(-2, 2.5, 10)
    axis.plot(at, at, ":", color="black", lw=1)
    axis.annotate("Poisson", (60, 18), color="black")
    axis.set(yscale="log", ylabel="variance at equal depth", title="Mean and variance")


def effect_panel(axis, samples: list[Sample]) -> None:
    ecdf(axis, samples, "effect")
    for place, (label, effect) in enumerate(PUBLISHED_EFFECT.items()):
        axis.plot([effect], [0.08 + 0.07 * place], "v", color="black", ms=4)
        axis.annotate(label, (effect + 0.008, 0.08 + 0.07 * place), va="center", fontsize=7)
    axis.set(xlabel="rms change per gene, ln(1 + CP10k)\n(curves: beyond noise; ▾ published L2/√1000)")
    axis.set(ylabel="share of singles")
    axis.set(title="Effect size", xlim=(0, 0.4))


def de_panel(axis, samples: list[Sample]) -> None:
    ecdf(axis, samples, "de_share")
    axis.set(xlabel=f"share of genes called changed\n(rank-sum, BH 5 %, at most {MOST_CELLS} cells)")
    axis.set(ylabel="share of singles", title="Changed genes", xlim=(-0.005, 0.3))


def shift_panel(axis, samples: list[Sample]) -> None:
    ecdf(axis, samples, "shift")
    axis.set(xlabel="cosine with mean response of the others\n(halves without a cell in common)")
    axis.set(ylabel="share of conditions", title="Shift shared by all", xlim=(-0.5, 1))


def kinds_panel(axis, doubles: list[Doubles]) -> None:
    colours = {"buffering": "#0c8599", "synergy": "#f08c00", "other": "#adb5bd"}
    places = np.arange(len(doubles))[::-1]
    left = np.zeros(len(doubles))
    for kind, colour in colours.items():
        share = 100 * np.array([double.shares[kind] for double in doubles])
        axis.barh(places, share, left=left, color=colour, height=0.6, label=kind)
        left += share
    for place, total in zip(places, left, strict=True):
        axis.annotate(f"{total:.1f} %", (total + 0.1, place), va="center")
    axis.set_yticks(places, [double.label for double in doubles])
    axis.set(xlabel="% of (double, gene) pairs", title="Not additive", xlim=(0, left.max() * 1.3))
    axis.set_ylim(-0.6, len(doubles) + 0.1)
    axis.legend(frameon=False, ncols=3, loc="upper left", fontsize=8, handlelength=1, columnspacing=0.8)


def slope_panel(axis, doubles: list[Doubles]) -> None:
    styles = {1: ("simulated", "-"), 2: ("Norman", "-"), 3: ("simulated", "--")}
    for number, (name, line) in styles.items():
        slope = np.sort(doubles[number].slope)
        label = doubles[number].label.split("\n")[0]
        axis.step(slope, np.arange(1, len(slope) + 1) / len(slope), line, where="post",
                  color=COLOURS[name], lw=width(name), label=label)  # fmt: skip
    axis.legend(frameon=False, loc="lower right", fontsize=8, handlelength=1.2)
    axis.set(xlabel="slope of double on sum of its singles", ylabel="share of doubles", title="Doubles and sums")
    axis.set(xlim=(0, 2.3), ylim=(0, 1.02))


# -------------------------------------------------------------------------------------------------------------- table
def table_of(samples: list[Sample], doubles: list[Doubles]) -> str:
    """A Markdown table: one column per data set, one row per statistic."""
    rows = {
        "molecules per cell, median": lambda s: number(np.median(s.depth), 0) if len(s.depth) else "",
        "sd of ln molecules": lambda s: number(np.log(s.depth[s.depth > 0]).std(), 2) if len(s.depth) else "",
        "zeros, share of control values": lambda s: number(s.zeros.mean(), 2) if len(s.zeros) else "",
        "over-dispersion of genes above 1 count, median": overdispersion,
        "rms change per gene beyond noise, median (5 %, 95 %)": lambda s: spread(s.effect, 3),
        "genes changed per single at ≤ 60 cells, median (5 %, 95 %)": lambda s: spread(100 * s.de_share, 1, " %"),
        "cosine with mean of others, median (5 %, 95 %)": lambda s: spread(s.shift, 2),
    }
    frame = pd.DataFrame({s.name: {row: value(s) for row, value in rows.items()} for s in samples})
    lines = [markdown("", *frame.columns), markdown(*["---"] * (len(frame.columns) + 1))]
    lines += [markdown(row, *values) for row, values in zip(frame.index, frame.to_numpy(), strict=True)]
    lines += ["", markdown("doubles", "buffering %", "synergy %", "other %", "not additive %", "slope, median")]
    lines.append(markdown(*["---"] * 6))
    for double in doubles:
        shares = [100 * double.shares[kind] for kind in ("buffering", "synergy", "other")]
        slope = number(np.median(double.slope), 2) if len(double.slope) else ""
        label = double.label.replace("\n", " ")
        lines.append(markdown(label, *(number(share, 2) for share in (*shares, sum(shares))), slope))
    return "\n".join(lines)


def overdispersion(sample: Sample) -> str:
    """Median over genes of (variance - mean) / mean^2."""
    seen = sample.mean > 1
    excess = (sample.variance[seen] - sample.mean[seen]) / sample.mean[seen] ** 2
    return number(np.median(excess), 2) if len(excess) else ""


def markdown(*cells: str) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def number(value: float, digits: int) -> str:
    """With so many decimals, thousands separated."""
    return f"{value:,.{digits}f}"


def spread(values: np.ndarray, digits: int, unit: str = "") -> str:
    """Median (5 %, 95 %)."""
    if not len(values):
        return ""
    middle, low, high = np.quantile(values, [0.5, 0.05, 0.95])
    return f"{number(middle, digits)} ({number(low, digits)}, {number(high, digits)}){unit}"


def main() -> None:
    """Draws the figure and renews the table of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args()
    world = simulate()
    real, norman = real_samples()
    samples = [sample_of_screen("simulated", world.screen), *real]
    place = [sample.name for sample in samples].index("Norman")
    shift = cosine(norman.response, others(norman.response))
    samples[place] = Sample(**{**vars(samples[place]), "shift": shift})
    doubles = all_doubles(world, norman)
    draw(samples, doubles, chosen.figure)
    table = table_of(samples, doubles)
    print(table)
    if chosen.page.exists():
        before, _, rest = chosen.page.read_text().partition(BEGIN)
        chosen.page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
