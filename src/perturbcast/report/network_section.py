"""Networks that benchmarked models learned, as the report of a benchmark shows them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from perturbcast.benchmarking.learned_networks import FOLDER, TABLE, TRUTH, network_path
from perturbcast.networks.export import load_network
from perturbcast.networks.network import Network
from perturbcast.networks.stability import consensus
from perturbcast.networks.topology import degrees
from perturbcast.report.figures import to_svg
from perturbcast.report.network_figures import block_heatmap, subnetwork
from perturbcast.report.network_report import TABLE as EDGE_COLUMNS
from perturbcast.report.network_report import map_of
from perturbcast.report.summary import Tables, number

SHOWN = 300  # edges
HUBS = 3  # genes whose surroundings are drawn
SCORES = {
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "epr": "early precision / chance",
    "signed_accuracy": "right signs",
    "wasserstein": "mean W1 (ln)",
    "false_omission_rate": "false omissions",
}


@dataclass(frozen=True)
class NetworkView:
    """What a page shows of one network."""

    key: str  # unique on the page
    model: str
    about: str
    genes: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    figures: list[dict[str, str]]
    hubs: list[dict[str, Any]]
    columns: list[str]
    scores: list[dict[str, str]]


def network_views(tables: Tables, *, dataset: str, split: str, anchor: str) -> tuple[NetworkView, ...]:
    """A view per model that learned a network under a split; none where the folder holds none."""
    if not (tables.folder / FOLDER).is_dir():
        return ()
    here = tables.scores[(tables.scores.dataset == dataset) & (tables.scores.split == split)]
    fits = here[["model", "seed", "fold"]].drop_duplicates()
    views = []
    for place, (model, part) in enumerate(fits.groupby("model", sort=True)):
        at = {"dataset": dataset, "split": split, "model": str(model)}
        pairs = zip(part.seed, part.fold, strict=True)
        paths = [network_path(tables.folder, seed=int(seed), fold=int(fold), **at) for seed, fold in pairs]
        networks = [network for network in map(load_network, filter(Path.is_file, paths)) if network.n_edges]
        if networks:
            views.append(_view(networks, key=f"{anchor}-{place}", model=str(model), scores=_scores(tables, at)))
    return tuple(views)


def _view(networks: list[Network], *, key: str, model: str, scores: list[dict[str, str]]) -> NetworkView:
    whole = consensus(networks, top=SHOWN)
    shown = whole.top(SHOWN)
    table = degrees(shown)
    top = [str(gene) for gene in table["gene"][:HUBS]]
    genes, edges = map_of(shown)
    fits = (
        "one fit" if len(networks) == 1 else f"{len(networks)} fits; weights are means over the fits that know a source"
    )
    about = f"{whole.n_edges:,} edges of {fits}; the {shown.n_edges} strongest are shown."
    if len(networks) > 1:
        about += f" Stability: the share of those fits in which an edge is among the {SHOWN} strongest."
    around = "Solid: edges. Dotted: no edge, but a path of so many. The hubs are dark."
    figures = [
        _figure("Blocks of perturbed and extended genes", "From row to column.", block_heatmap(shown)),
        _figure(f"Around the top hubs: {', '.join(top)}", around, subnetwork(shown, top)),
    ]
    columns = [name for name in EDGE_COLUMNS if name in shown.columns]
    return NetworkView(key, model, about, genes, edges, figures, _rows(table), columns, scores)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _figure(title: str, caption: str, figure: Any) -> dict[str, str]:
    return {"title": title, "caption": caption, "svg": to_svg(figure)}


def _scores(tables: Tables, at: dict[str, str]) -> list[dict[str, str]]:
    """Scores against each reference, and of the K strongest edges on the cells, over all fits."""
    path = tables.folder / TABLE
    if not path.is_file():
        return []
    found = pd.read_parquet(path)
    for column, value in at.items():
        found = found[found[column] == value]
    found = found[found["score"].isin(SCORES) & found["value"].notna()]
    rows = []
    found = found.assign(k=found["k"].fillna(0).astype(int))  # 0: the whole ranking
    for _, part in found.groupby(["against", "score", "k"], sort=False):
        against, score, k = str(part["against"].iloc[0]), str(part["score"].iloc[0]), int(part["k"].iloc[0])
        name = SCORES[score] + (f" of the {k} strongest" if k else "")
        low, high, n_pairs = part["value"].min(), part["value"].max(), part["n_pairs"].iloc[0]
        rows.append(
            {
                "against": against if against != "cells" else "all cells of the screen",
                "score": name,
                "value": number(float(part["value"].mean())),
                "range": f"{number(float(low))} to {number(float(high))}" if len(part) > 1 else "",
                "chance": number(float(part["chance"].mean())),
                "pairs": "" if pd.isna(n_pairs) else f"{int(part['n_true'].iloc[0]):,} of {int(n_pairs):,}",
                "rank": str((against == "cells", against != TRUTH)),
            }
        )
    return sorted(rows, key=lambda row: row["rank"])
