"""The network report: one self-contained page with a map to zoom and search, heat-map, sub-network, hubs and edges."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perturbcast._files import written_whole
from perturbcast.errors import BadOption, MissingFile
from perturbcast.networks.network import Network
from perturbcast.networks.topology import degrees
from perturbcast.report.figures import to_svg
from perturbcast.report.network_figures import block_heatmap, hubs, layout, subnetwork

VERB = {1: "raises", -1: "lowers", 0: "regulates"}
KIND = {1: "up", -1: "down", 0: ""}
TABLE = ("probability", "stability", "ci_low", "ci_high", "p_value")


def build_network_report(
    network: Network, out: Path, *, around: Sequence[str] = (), top: int = 300, title: str = "Network"
) -> Path:
    """Writes the page of the `top` strongest edges to `out` (.html) and returns its path.

    `around`: chosen genes whose surroundings are drawn, with dotted paths where no edge joins them. Nothing is loaded
    from elsewhere. BadOption for an empty network or top < 1, UnknownGenes for a gene that it lacks, MissingFile for
    the folder.
    """
    if top < 1:
        raise BadOption(f"top={top} is below 1.")
    if not out.parent.is_dir():
        raise MissingFile(f"the folder {str(out.parent)!r} for the report does not exist.")
    shown = network.top(top)
    figures = [_figure("Blocks", "From row to column.", block_heatmap(shown))]
    if around:
        caption = "Solid: edges. Dotted: no edge, but a path of so many. Chosen genes are dark."
        figures.append(_figure(f"Around {', '.join(around)}", caption, subnetwork(shown, around)))
    figures.append(_figure("Degrees", "Genes with most outgoing edges, and how degrees are spread.", hubs(shown)))
    genes, edges = map_of(shown)
    text = _page(
        title=title,
        about=f"{network.method or 'network'} · {network.source} · {network.n_edges:,} edges, {len(genes)} genes shown",
        genes=genes,
        edges=edges,
        figures=figures,
        hubs=degrees(shown).head(200).to_dict("records"),
        columns=[name for name in TABLE if name in shown.columns],
    )
    with written_whole(out) as draft:
        draft.write_text(text, encoding="utf-8")
    return out


def _figure(title: str, caption: str, figure: Any) -> dict[str, str]:
    return {"title": title, "caption": caption, "svg": to_svg(figure)}


def _page(**values: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("perturbcast.report"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return pages.get_template("network.html.j2").render(**values)


def map_of(network: Network) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Genes and edges of the map, with their places in the unit square; genes without an edge are left out."""
    table = degrees(network)
    near = network.among(table["gene"], unknown="drop")
    place = layout(np.asarray(near.weights.toarray(), dtype=np.float64), steps=200)
    radius = 0.006 + 0.012 * np.sqrt(table["out_degree"] / max(int(table["out_degree"].max()), 1)).to_numpy()
    genes = [
        {
            "name": str(row.gene),
            "x": f"{place[number, 0]:.4f}",
            "y": f"{place[number, 1]:.4f}",
            "label_y": f"{place[number, 1] - radius[number] - 0.004:.4f}",
            "r": f"{radius[number]:.4f}",
            "kind": " ".join(name for name in ("perturbed", "extended") if getattr(row, f"is_{name}")),
            "out": f"{row.out_degree}",
            "into": f"{row.in_degree}",
        }
        for number, row in enumerate(table.itertuples())
    ]
    return genes, [_edge(near, number, place, radius) for number in range(near.n_edges)]


def _edge(near: Network, number: int, place: np.ndarray, radius: np.ndarray) -> dict[str, Any]:
    start, end = int(near.source_code[number]), int(near.target_code[number])
    along = place[end] - place[start]
    length = max(float(np.hypot(*along)), 1e-9)
    tip = place[end] - along / length * (radius[end] + 0.002)  # the arrow ends at the circle
    sign = int(near.sign[number])
    return {
        "x1": f"{place[start, 0]:.4f}",
        "y1": f"{place[start, 1]:.4f}",
        "x2": f"{tip[0]:.4f}",
        "y2": f"{tip[1]:.4f}",
        "width": f"{0.0008 + 0.002 * near.weight[number] / near.weight[0]:.5f}",
        "kind": KIND[sign],
        "verb": VERB[sign],
        "source": str(near.genes[start]),
        "target": str(near.genes[end]),
        "weight": f"{near.weight[number]:.3g}",
        "more": [_shown(near.column(name)[number]) for name in TABLE if name in near.columns],
    }


def _shown(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2g}"
