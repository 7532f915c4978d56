"""Pictures of networks: blocks of perturbed and extended genes, the surroundings of chosen genes, and hubs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from perturbcast.errors import BadOption, UnknownGenes, did_you_mean
from perturbcast.networks.network import Network
from perturbcast.networks.topology import degrees, hops, neighbourhood
from perturbcast.report.figures import BEST, CEILING, FLOOR, GRID, INK, MUTED, OTHER, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 90  # genes whose names fit beside a heat-map
ACTIVATES, REPRESSES, UNSIGNED = CEILING, FLOOR, MUTED
PAPER: Any = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"}
ABSENT, UNTOUCHED, PRESENT = "#f8f9fa", "#ffe8a3", BEST  # of probabilities below, at and above one half


# -------------------------------------------------------------------------------------------------------- the heat-map
def blocks_of(network: Network, *, most_other: int = 40) -> dict[str, list[int]]:
    """Genes by block, strongest first: perturbed, extended, and the `most_other` others with the strongest edges."""
    size = np.zeros(network.n_genes)
    for code in (network.source_code, network.target_code):
        np.add.at(size, code, network.weight)
    order = np.argsort(-size, kind="stable")
    others = ~(network.is_perturbed | network.is_extended)
    found = {
        "perturbed": [int(gene) for gene in order if network.is_perturbed[gene]],
        "extended": [int(gene) for gene in order if network.is_extended[gene] and not network.is_perturbed[gene]],
        "other measured": [int(gene) for gene in order if others[gene] and size[gene] > 0][:most_other],
    }
    return {name: genes for name, genes in found.items() if genes}


def block_heatmap(network: Network, *, most_other: int = 40) -> "Figure":
    """Every edge from row to column, by blocks of perturbed, extended and other genes (GPO-VAE, figure 3).

    Probabilities, where the network has them, in three colours: below, at (never moved from its start) and above one
    half; else weights, green where the source raises its target and red where it lowers it. BadOption without an edge.
    """
    if network.n_edges == 0:
        raise BadOption("the network has no edge to draw.", "Lower the threshold.")
    blocks = blocks_of(network, most_other=most_other)
    struck = network.is_measured.copy()
    struck[network.target_code] = True
    blocks = {name: [gene for gene in genes if struck[gene]] for name, genes in blocks.items()}
    columns = [gene for genes in blocks.values() for gene in genes]
    acting = set(network.source_code.tolist())
    rows = [gene for genes in blocks_of(network, most_other=most_other).values() for gene in genes if gene in acting]
    names = [str(gene) for gene in network.genes]
    width = 2.4 + min(0.16 * len(columns), 11.0)
    height = 1.6 + min(max(0.16 * len(rows), 1.6), 10.0)
    figure, axes = new_figure(1, 1, width=width, height=height)
    axis = axes[0, 0]
    if "probability" in network.columns:
        _draw_probabilities(axis, network, [names[gene] for gene in rows], [names[gene] for gene in columns])
    else:
        _draw_weights(figure, axis, network, [names[gene] for gene in rows], [names[gene] for gene in columns])
    _draw_blocks(axis, blocks, columns)
    _draw_row_blocks(axis, network, rows)
    for set_ticks, genes in ((axis.set_xticks, columns), (axis.set_yticks, rows)):
        shown = range(len(genes)) if len(genes) <= MOST_NAMED else []
        set_ticks(list(shown), [names[genes[place]] for place in shown], fontsize=6.5)
    axis.tick_params(axis="x", rotation=90, length=0)
    axis.tick_params(axis="y", length=0)
    axis.set_ylabel("source")
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


def _draw_weights(figure: "Figure", axis: "Axes", network: Network, rows: list[str], columns: list[str]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    weight = network.between(rows, columns)
    sign = network.between(rows, columns, column="sign")
    values = weight * np.where(sign == 0, 1.0, sign)
    limit = float(np.quantile(weight[weight > 0], 0.98)) if (weight > 0).any() else 1.0
    colours = LinearSegmentedColormap.from_list("signed", [REPRESSES, "#ffffff", ACTIVATES if sign.any() else BEST])
    drawn = axis.imshow(values, cmap=colours, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    label = "signed weight" if sign.any() else "weight"
    figure.colorbar(drawn, ax=axis, shrink=0.7, pad=0.01, label=label)


def _draw_probabilities(axis: "Axes", network: Network, rows: list[str], columns: list[str]) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    values = network.between(rows, columns, column="probability")
    states = np.where(values > 0.5, 2, np.where(values == 0.5, 1, 0))
    axis.imshow(states, cmap=ListedColormap([ABSENT, UNTOUCHED, PRESENT]), vmin=0, vmax=2, aspect="auto")
    names = ("below one half", "exactly one half: untouched", "above one half: edge")
    handles = [
        Patch(color=colour, label=name) for colour, name in zip((ABSENT, UNTOUCHED, PRESENT), names, strict=True)
    ]
    axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)


def _draw_blocks(axis: "Axes", blocks: dict[str, list[int]], columns: list[int]) -> None:
    """Lines between the blocks of columns, and their names above."""
    start = 0
    for name, genes in blocks.items():
        end = start + len(genes)
        axis.text((start + end - 1) / 2, -0.9, name, ha="center", va="bottom", color=INK, fontsize=8.5)
        if end < len(columns):
            axis.axvline(end - 0.5, color=INK, linewidth=0.9)
        start = end


def _draw_row_blocks(axis: "Axes", network: Network, rows: list[int]) -> None:
    """Lines between perturbed, extended and other sources."""
    kind = [0 if network.is_perturbed[gene] else 1 if network.is_extended[gene] else 2 for gene in rows]
    for place in range(1, len(rows)):
        if kind[place] != kind[place - 1]:
            axis.axhline(place - 0.5, color=INK, linewidth=0.9)


# ----------------------------------------------------------------------------------------------------- the sub-network
def subnetwork(network: Network, genes: Sequence[str], *, n_neighbours: int = 8, most_hops: int = 3) -> "Figure":
    """Some genes and their strongest neighbours (GPO-VAE, figure 4).

    Solid: edges; an arrow raises, a bar lowers its target. Dotted: chosen genes that no edge joins, but a path of two
    or three edges of the whole network does, its length beside it. Chosen genes are dark, extended ones dashed.
    UnknownGenes for a gene that the network does not have; BadOption without genes or for most_hops < 1.
    """
    if not genes:
        raise BadOption("no gene was chosen.", "Name some with --around.")
    missing = [gene for gene in genes if gene not in network.place]
    if missing:
        raise UnknownGenes(f"{missing[0]!r} is no gene of the network.", did_you_mean(missing[0], network.place))
    near = neighbourhood(network, genes, n_neighbours=n_neighbours)
    starts = np.array([network.place[gene] for gene in genes], dtype=np.int64)
    paths = hops(network.weights, sources=starts, most=most_hops)
    far = [
        (a, b, int(paths[row, network.place[b]]))
        for row, a in enumerate(genes)
        for b in genes
        if paths[row, network.place[b]] > 1
    ]
    joined = np.asarray((near.weights + near.weights.T).toarray(), dtype=np.float64)
    for a, b, length in far:
        joined[near.place[a], near.place[b]] = near.weight.mean() / length if near.n_edges else 1.0
    place = layout(joined)
    figure, axes = new_figure(1, 1, width=7.2, height=5.6)
    axis = axes[0, 0]
    _draw_paths(axis, near, place, far)
    _draw_edges(axis, near, place)
    _draw_genes(axis, near, place, set(genes))
    _draw_key(axis, near, with_paths=bool(far))
    axis.set_axis_off()
    axis.set_aspect("equal")
    axis.margins(0.12)
    return figure


def layout(weights: Float[np.ndarray, "gene gene"], *, steps: int = 300) -> Float[np.ndarray, "gene xy"]:
    """Places of genes in the unit square by springs and repulsion (Fruchterman and Reingold 1991), always the same."""
    n = len(weights)
    angle = 2 * np.pi * np.arange(n) * 0.618034  # spread evenly, neighbours in the list apart
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.sqrt((np.arange(n) + 1) / max(n, 1))[:, None]
    strength = weights + weights.T
    strength = strength / strength.max() if strength.max() > 0 else strength
    strength = np.where(strength > 0, 0.3 + 0.7 * strength, 0.0)
    ideal = 1.0 / np.sqrt(max(n, 1))
    for step in range(steps):
        apart = place[:, None] - place[None, :]
        distance = np.maximum(np.sqrt((apart**2).sum(axis=2)), 1e-3)
        push = ideal**2 / distance - strength * distance**2 / ideal
        np.fill_diagonal(push, 0.0)
        move = (apart / distance[:, :, None] * push[:, :, None]).sum(axis=1) - 0.05 * place
        length = np.maximum(np.sqrt((move**2).sum(axis=1, keepdims=True)), 1e-9)
        place = place + move / length * np.minimum(length, 0.15 * (1 - step / steps))
    low, high = place.min(axis=0), place.max(axis=0)
    return (place - low) / np.maximum(high - low, 1e-9)


def _draw_edges(axis: "Axes", near: Network, place: np.ndarray) -> None:
    from matplotlib.patches import FancyArrowPatch

    strongest = near.weight.max() if near.n_edges else 1.0
    colours = {1: ACTIVATES, -1: REPRESSES, 0: UNSIGNED}
    both = set(zip(near.source_code.tolist(), near.target_code.tolist(), strict=True))
    for start, end, sign, weight in zip(near.source_code, near.target_code, near.sign, near.weight, strict=True):
        style: Any = "|-|,widthA=0,widthB=0.35,angleB=0" if sign < 0 else "-|>,head_length=0.5,head_width=0.25"
        bend = 0.16 if (int(end), int(start)) in both else 0.04
        patch = FancyArrowPatch(
            tuple(place[start]),
            tuple(place[end]),
            arrowstyle=style,
            connectionstyle=f"arc3,rad={bend}",
            shrinkA=13,
            shrinkB=15,
            mutation_scale=11,
            linewidth=0.7 + 2.0 * float(weight) / strongest,
            color=colours[int(sign)],
            alpha=0.35 + 0.6 * float(weight) / strongest,
            zorder=2,
        )
        axis.add_patch(patch)


def _draw_paths(axis: "Axes", near: Network, place: np.ndarray, far: list[tuple[str, str, int]]) -> None:
    from matplotlib.patches import FancyArrowPatch

    for a, b, length in far:
        start, end = place[near.place[a]], place[near.place[b]]
        path = FancyArrowPatch(
            tuple(start),
            tuple(end),
            arrowstyle="-|>,head_length=0.4,head_width=0.2",
            connectionstyle="arc3,rad=-0.18",
            linestyle=(0, (1, 2.5)),
            shrinkA=13,
            shrinkB=15,
            mutation_scale=9,
            linewidth=1.3,
            color=INK,
            zorder=1,
        )
        axis.add_patch(path)
        across = np.array([end[1] - start[1], start[0] - end[0]])
        middle = (start + end) / 2 - 0.11 * across  # beside the bend of the arc
        axis.text(
            middle[0], middle[1], str(length), fontsize=7.5, color=INK, ha="center", va="center", zorder=4, bbox=PAPER
        )


def _draw_genes(axis: "Axes", near: Network, place: np.ndarray, chosen: set[str]) -> None:
    for number, gene in enumerate(near.genes):
        dark = str(gene) in chosen
        box: Any = {
            "boxstyle": "round,pad=0.32",
            "facecolor": BEST if dark else "white",
            "edgecolor": BEST if dark or near.is_perturbed[number] else OTHER,
            "linewidth": 1.2,
            "linestyle": "--" if near.is_extended[number] else "-",
        }
        colour = "white" if dark else INK
        x, y = place[number]
        axis.text(x, y, str(gene), ha="center", va="center", fontsize=8, color=colour, bbox=box, zorder=3)
    axis.plot(*place.T, ".", alpha=0.0)  # lets the axis know how far the genes reach


def _draw_key(axis: "Axes", near: Network, *, with_paths: bool) -> None:
    from matplotlib.lines import Line2D

    signs = set(near.sign.tolist())
    named = [(1, ACTIVATES, "raises its target"), (-1, REPRESSES, "lowers its target"), (0, UNSIGNED, "edge, no sign")]
    handles = [Line2D([], [], color=colour, linewidth=2, label=name) for sign, colour, name in named if sign in signs]
    if with_paths:
        handles.append(Line2D([], [], color=INK, linestyle=(0, (1, 2.5)), label="path of so many edges only"))
    if handles:
        axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False, fontsize=8)


# ---------------------------------------------------------------------------------------------------------------- hubs
def hubs(network: Network, *, most: int = 20) -> "Figure":
    """The genes with most outgoing edges, by sign, and how many genes have how many edges; BadOption without one."""
    table = degrees(network)
    if table.empty:
        raise BadOption("the network has no edge to draw.", "Lower the threshold.")
    top = table[table["out_degree"] > 0].head(most).iloc[::-1]
    figure, axes = new_figure(1, 2, width=8.4, height=1.4 + 0.2 * len(top))
    axis = axes[0, 0]
    places = np.arange(len(top))
    left = np.zeros(len(top))
    rest = top["out_degree"] - top["activates"] - top["represses"]
    named = [("activates", ACTIVATES, "raises"), ("represses", REPRESSES, "lowers"), ("", UNSIGNED, "no sign")]
    for column, colour, label in named:
        values = (top[column] if column else rest).to_numpy(dtype=float)
        if values.any():
            axis.barh(places, values, left=left, color=colour, height=0.72, label=label)
        left = left + values
    axis.set_yticks(places, [str(gene) for gene in top["gene"]], fontsize=7.5)
    axis.set_xlabel("outgoing edges")
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    _draw_degrees(axes[0, 1], table["out_degree"].to_numpy(), table["in_degree"].to_numpy())
    return figure


def _draw_degrees(axis: "Axes", out_degree: np.ndarray, in_degree: np.ndarray) -> None:
    """How many genes have at least so many edges."""
    for values, colour, label in ((out_degree, BEST, "outgoing"), (in_degree, OTHER, "incoming")):
        ordered = np.sort(values[values > 0])[::-1]
        if len(ordered):
            axis.step(ordered, np.arange(1, len(ordered) + 1), where="post", color=colour, linewidth=2, label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    for side, largest in ((axis.xaxis, max(out_degree.max(), in_degree.max())), (axis.yaxis, len(out_degree))):
        powers = [10**power for power in range(int(np.log10(max(largest, 1))) + 1)]
        side.set_ticks(powers, [f"{power:,}" for power in powers])  # the house style draws no powers of ten
    axis.set_xlabel("edges")
    axis.set_ylabel("genes with at least so many")
    axis.grid(color=GRID, linewidth=0.8)
    axis.legend(frameon=False, fontsize=8)
