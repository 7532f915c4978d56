"""One query explained, as a picture: the genes its answer goes by, and the training conditions most like it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from perturbcast.models.explain import N_TOP, Explanation, even_shares
from perturbcast.report.figures import BEST, CEILING, FLOOR, INK, MUTED, OTHER, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def explanation_figure(found: Explanation) -> "Figure":
    """Left the leading genes, right the nearest conditions."""
    shown = found.genes.head(N_TOP)
    height = 1.3 + 0.21 * max(len(shown), len(found.nearest))
    figure, axes = new_figure(1, 2, width=9.0, height=height)
    draw_genes(axes[0, 0], found)
    draw_nearest(axes[0, 1], found)
    place = f" in {found.query.context}" if found.query.context else ""
    figure.suptitle(f"{found.query.condition}{place}, by {found.model}", color=INK, fontsize=11)
    return figure


def draw_genes(axis: "Axes", found: Explanation) -> None:
    """Bars of the scores in even shares, or of predicted responses where the model scores no genes."""
    shown = found.genes.head(N_TOP).iloc[::-1]
    scored = bool(shown["score"].notna().any())
    changed = shown["differential"] if "differential" in shown else np.zeros(len(shown), dtype=bool)
    kinds = [
        "target" if target else "differential in the data" if differs else ""
        for target, differs in zip(shown["is_target"], changed, strict=True)
    ]
    colours = {"target": FLOOR, "differential in the data": CEILING, "": OTHER}
    values = even_shares(found).head(N_TOP).iloc[::-1] if scored else shown["predicted"]
    axis.barh(np.arange(len(shown)), values.fillna(0.0), color=[colours[kind] for kind in kinds])
    axis.set_yticks(np.arange(len(shown)), list(shown["gene"]))
    if scored:
        axis.axvline(1.0, color=MUTED, linewidth=0.8, linestyle=":", label="all genes alike")
    axis.set_xlabel("score, in even shares" if scored else f"predicted response, {found.unit}")
    title = f"Genes it goes by, evenness {found.evenness:.3f}" if scored else "Largest predicted responses"
    axis.set_title(title, loc="left", color=INK)
    _key(axis, {kind: colours[kind] for kind in dict.fromkeys(kinds) if kind})


def _key(axis: "Axes", colours: dict[str, str]) -> None:
    """A legend below the axes, of what is drawn there."""
    from matplotlib.patches import Patch

    handles = [*axis.get_legend_handles_labels()[0], *(Patch(color=own, label=text) for text, own in colours.items())]
    if handles:
        below: Any = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.12), "ncols": 3, "borderaxespad": 0.0}
        axis.legend(handles=handles, frameon=False, fontsize=8, **below)


def draw_nearest(axis: "Axes", found: Explanation) -> None:
    """Bars of the likeness of the nearest training conditions."""
    near = found.nearest.iloc[::-1]
    if near.empty:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no training condition to compare with", ha="center", color=MUTED)
        return
    colours = {"no target in common": BEST, "a target in common": OTHER}
    kinds = ["a target in common" if shared else "no target in common" for shared in near["shared_targets"]]
    axis.barh(np.arange(len(near)), near["likeness"].astype(float), color=[colours[kind] for kind in kinds])
    several = near["context"].nunique() > 1
    pairs = zip(near["condition"].astype(str), near["context"].astype(str), strict=True)
    names = [f"{condition} ({context})" if several else condition for condition, context in pairs]
    axis.set_yticks(np.arange(len(near)), names)
    axis.set_xlabel("likeness (cosine)")
    axis.set_title("Nearest training conditions", loc="left", color=INK)
    _key(axis, {kind: colours[kind] for kind in dict.fromkeys(kinds)})
