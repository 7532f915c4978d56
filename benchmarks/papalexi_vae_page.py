"""Writes the measured part of docs/RESULTS_VAE.md from the result files of benchmarks/papalexi_vae.py."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "RESULTS_VAE.md"
FIGURES = ROOT / "docs" / "figures"
MARK = "<!-- measured -->"
PATHWAY = ("IFNGR1", "IFNGR2", "JAK2", "STAT1", "IRF1")
EFFECTS = {
    "rho": "ATE-ρ",
    "r2": "R²",
    "jaccard 50": "Jaccard@50",
    "jaccard 20": "Jaccard@20",
    "rho of top 20": "ρ, top 20",
    "rho per target": "ρ per target",
    "l2": "L2",
}
TOPS = (20, 100, 500)

Result = dict[str, Any]


def write_page(out: Path) -> None:
    """The page: text above the mark stays, the rest is made anew."""
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))}
    chapters = [effects_chapter, unseen_chapter, cells_chapter, quality_chapter, network_chapter, pathway_chapter]
    lines = [line for chapter in [*chapters, settings_chapter] for line in chapter(results)]
    lines += figures_chapter(out)
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(head + MARK + "\n\n" + "\n".join(lines), encoding="utf-8")
    print(f"Page: {PAGE.relative_to(ROOT)}")


def by_name(results: dict[str, Result], part: str) -> dict[str, list[Result]]:
    """Results that have a part, by name without the seed; names in order of the files."""
    found: dict[str, list[Result]] = {}
    for stem, result in results.items():
        name, _, seed = stem.rpartition("-")
        if part in result and seed.isdigit():
            found.setdefault(shown(name), []).append(result)
    return found


def shown(name: str) -> str:
    """A file name as a model or baseline is called."""
    for profile in ("paper",):
        name = name.removesuffix(f"-{profile}") + f":{profile}" if name.endswith(f"-{profile}") else name
    return name if "vae" in name or name == "svae-plus" else name.replace("-", " ")


def mean(values: Sequence[float], digits: int = 3) -> str:
    """Mean over seeds, and their range where there are several."""
    kept = [value for value in values if value is not None and np.isfinite(value)]
    if not kept:
        return "–"
    text = f"{np.mean(kept):.{digits}f}"
    return text if len(kept) == 1 else f"{text} ({min(kept):.{digits}f} to {max(kept):.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


# ------------------------------------------------------------------------------------------------------------- effects
def effects_chapter(results: dict[str, Result]) -> list[str]:
    """Average effects of seen targets against both references."""
    found = {name: rows for name, rows in by_name(results, "effects").items() if name != "ceiling"}
    bare = [row for row in found.get("gpo-vae", []) if "without anchors" in row]
    if bare:
        found["gpo-vae, network alone (not anchored)"] = [row["without anchors"] for row in bare]
    ceilings = by_name(results, "effects").get("ceiling", [])
    lines = ["## Average effects of seen targets", ""]
    for reference in ("held-out cells", "all cells"):
        lines += [f"### Reference: {reference}", ""]
        order = sorted(found, key=lambda name: -score(found[name], reference, "r2"))
        rows = []
        for name in order:
            values = {key: [row["effects"][reference][key] for row in found[name]] for key in EFFECTS}
            rows.append([name, *(mean(values[key]) for key in EFFECTS)])
        known = ceilings[0]["effects"][reference] if ceilings else {}
        top = {key: [row["effects"][reference].get(key, np.nan) for row in ceilings] for key in EFFECTS}
        rows.append(["*a model without error*", *(mean(top[key]) for key in EFFECTS)])
        if known:
            half = [row["effects"][reference] for row in ceilings]
            halves = {"rho": [row["rho half on half"] for row in half]}
            halves["jaccard 50"] = [row["jaccard 50 half on half"] for row in half]
            rows.append(["*half of these cells on the other half*", *(mean(halves.get(key, [])) for key in EFFECTS)])
        lines += table(["", *EFFECTS.values()], rows)
    return lines


def score(rows: list[Result], reference: str, key: str) -> float:
    """Mean of a score over seeds; the lowest number where there is none."""
    value = float(np.mean([row["effects"][reference][key] for row in rows]))
    return value if np.isfinite(value) else -np.inf


def unseen_chapter(results: dict[str, Result]) -> list[str]:
    """Held-out targets: responses of all folds together."""
    parts: dict[str, list[Result]] = {}
    for stem, result in results.items():
        if stem.startswith("unseen-"):
            name = stem.removeprefix("unseen-").rpartition("-")[0]
            parts.setdefault(name, []).append(result)
    lines = ["## Targets that were held out", ""]
    if not parts:
        return []
    rows = []
    for name, folds in parts.items():
        told = np.concatenate([np.array(fold["told"]) for fold in folds])
        found = np.concatenate([np.array(fold["found"]) for fold in folds])[told]
        truth = np.concatenate([np.array(fold["truth"]) for fold in folds])[told]
        rho = np.corrcoef(truth.ravel(), found.ravel())[0, 1] if found.std() > 0 else np.nan
        r2 = 1 - ((truth - found) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
        l2 = np.linalg.norm(truth - found, axis=1)
        nothing = float(np.linalg.norm(truth, axis=1).mean())  # of no change, on the same targets
        answered = f"{told.sum()} of {len(told)}"
        rows.append((float(l2.mean()), [name, mean([rho]), mean([r2]), mean([l2.mean()]), mean([nothing]), answered]))
    lines += table(["", "ATE-ρ", "R²", "L2", "L2 of no change there", "answered"], [row for _, row in sorted(rows)])
    refused = sorted(name for name, of in by_name(results, "refusal").items() if of[0]["refusal"] and name not in parts)
    if refused:
        lines += [
            f"Refused, with E503, by {', '.join(refused)}: a target without a trained row has no effect to tell.",
            "",
        ]
    return lines


# --------------------------------------------------------------------------------------------------------------- cells
def cells_chapter(results: dict[str, Result]) -> list[str]:
    """Distances of generated to held-out cells."""
    found = by_name(results, "cells")
    rows = []
    for name, of in found.items():
        energy, mmd = (
            [float(np.mean([one[key] for one in row["cells"].values()])) for row in of] for key in ("energy", "mmd")
        )
        rows.append((float(np.mean(energy)), [name.removeprefix("cells "), mean(energy), mean(mmd, 4)]))
    head = ["cells", "energy distance", "MMD²"]
    return (
        ["## Generated cells against held-out cells", "", *table(head, [row for _, row in sorted(rows)])]
        if rows
        else []
    )


def quality_chapter(results: dict[str, Result]) -> list[str]:
    """Pass rates before and after."""
    found = by_name(results, "quality")
    if not found:
        return []
    rows = []
    for name, of in found.items():
        for place in range(len(of[0]["quality"]["rates"])):
            rates = [row["quality"]["rates"][place] for row in of]
            keys = ("observed", "generated", "cleaned", "failing, before", "failing, cleaned")
            rows.append([name, f"{rates[0]['threshold']:g}", *(mean([rate[key] for rate in rates]) for key in keys)])
    first = next(iter(found.values()))[0]["quality"]
    flags = ", ".join(f"{name} {number}" for name, number in first["flags"].items())
    head = [
        "",
        "deviations",
        "observed",
        "made by the model",
        "cleaned",
        "failing cells, before",
        "failing cells, cleaned",
    ]
    told = f"Flags at three deviations among the {first['n_cells']:,} held-out cells of the first split: {flags}."
    return ["## Pass rates of cells", "", told, "", *table(head, rows)]


# ------------------------------------------------------------------------------------------------------------ networks
def network_chapter(results: dict[str, Result]) -> list[str]:
    """CausalBench's scores at matched K, and AUPRC against references."""
    found: dict[str, list[list[Result]]] = {}
    for name, of in by_name(results, "networks").items():
        for key in of[0]["networks"]:
            kind = "its network" if key == "network" and "vae" in name else "its responses" if "vae" in name else ""
            label = f"{name.removeprefix('network ')}{f', {kind}' if kind else ''}"
            found[label] = [row["networks"][key] for row in of]
    if not found:
        return []
    lines = ["## Networks", "", "### Held-out cells: mean W1 / false-omission rate of the K strongest edges", ""]

    def at(rows: list[Result], name: str, k: int) -> float:
        kept = [
            row["value"]
            for row in rows
            if row["score"] == name and row["k"] == k and row["against"] == "held-out cells"
        ]
        return float(kept[0]) if kept else float("nan")

    def cell(seeds: list[list[Result]], k: int) -> str:
        w1 = [at(rows, "wasserstein", k) for rows in seeds]
        rate = [at(rows, "false_omission_rate", k) for rows in seeds]
        return f"{mean(w1)} / {mean(rate)}"

    order = sorted(found, key=lambda name: -np.nan_to_num(at(found[name][0], "wasserstein", 100), nan=-1))
    lines += table(["", *(f"K = {k}" for k in TOPS)], [[name, *(cell(found[name], k) for k in TOPS)] for name in order])
    return lines + reference_tables(found)


def reference_tables(found: dict[str, list[list[Result]]]) -> list[str]:
    """AUPRC with its interval against each reference, first seed."""
    first = {name: [row for row in seeds[0] if row["score"] == "auprc"] for name, seeds in found.items()}
    names = list(dict.fromkeys(row["against"] for rows in first.values() for row in rows))
    heads = []
    for name in names:
        row = next(row for rows in first.values() for row in rows if row["against"] == name)
        heads.append(
            f"{name.split()[0]}: {row['n_true']:.0f} of {row['n_pairs']:,.0f} pairs, chance {row['chance']:.3f}"
        )
    rows = []
    for label, own in first.items():
        by = {row["against"]: row for row in own}
        cells = [by.get(name) for name in names]
        rows.append(
            [label, *("–" if c is None else f"{c['value']:.3f} ({c['low']:.3f} to {c['high']:.3f})" for c in cells)]
        )
    told = ["### Against biological references", "", "AUPRC of the first split, 95 % interval over sources.", ""]
    return [*told, *table(["", *heads], rows)]


def pathway_chapter(results: dict[str, Result]) -> list[str]:
    """Nearest targets of the interferon-gamma genes, and edges within the pathway."""
    found = {name: of[0]["neighbours"] for name, of in by_name(results, "neighbours").items() if of[0]["neighbours"]}
    found.pop("mean of all targets", None)  # the same for every target
    lines = ["## Interferon-gamma pathway", "", "Targets whose response is most like (cosine) that of:", ""]
    rows = [
        [name, *(", ".join(mark(gene) for gene in near[target][:3]) for target in PATHWAY)]
        for name, near in found.items()
    ]
    lines += table(["", *PATHWAY], rows)
    inside = {name: of[0]["inside"] for name, of in by_name(results, "inside").items()}
    rows = []
    for name, kinds in inside.items():
        for key, edges in kinds.items():
            best = sorted(edges, key=lambda edge: edge["rank"])[:6]
            text = ", ".join(f"{edge['source']} → {edge['target']} ({edge['rank']})" for edge in best)
            kind = f", its {key}" if "vae" in name else ""
            rows.append([name.removeprefix("network ") + kind, text or "none"])
    return [*lines, "Edges within the pathway and their rank among all edges:", "", *table(["", "edges"], rows)]


def mark(gene: str) -> str:
    """Members of the pathway in bold."""
    return f"**{gene}**" if gene in PATHWAY else gene


def settings_chapter(results: dict[str, Result]) -> list[str]:
    """What each model was trained with."""
    rows = []
    for name, of in by_name(results, "fields").items():
        fields = ", ".join(f"{key} {value}" for key, value in of[0]["fields"].items())
        epochs = ", ".join(str(row["n_epochs"]) for row in of)
        edges = "" if "n_edges" not in of[0] else f"{of[0]['n_edges']['found']} of {of[0]['n_edges']['pairs']:,}"
        rows.append([name, fields, epochs, mean([row["seconds"] for row in of], 0), edges])
    head = [
        "",
        "fields other than the profile's",
        "epochs run",
        "seconds of training",
        "edges with probability above 1/2",
    ]
    return ["## Settings", "", *table(head, rows)] if rows else []


# ------------------------------------------------------------------------------------------------------------- figures
def figures_chapter(out: Path) -> list[str]:
    """The network of GPO-VAE drawn, from its file."""
    path = out / "gpo-vae-1-network.parquet"
    if not path.is_file():
        return []
    from perturbcast.networks.export import load_network
    from perturbcast.report.network_figures import block_heatmap, subnetwork

    network = load_network(path)
    top = network.top(120)
    draw: dict[str, tuple[str, Callable[[], Any]]] = {
        "blocks": ("Perturbed and extended genes", lambda: block_heatmap(top)),
        "pathway": (
            "Interferon-gamma pathway: solid edges, dotted paths of two or three",
            lambda: subnetwork(top, PATHWAY),
        ),
    }
    lines = [
        "## The network of gpo-vae",
        "",
        "Its 120 strongest edges. Dashed genes were never perturbed, so they regulate nothing (register B7).",
        "",
    ]
    for name, (title, make) in draw.items():
        file = f"gpo-papalexi-{name}.png"
        make().savefig(FIGURES / file, dpi=90, bbox_inches="tight")
        lines += [f"![{title}](figures/{file})", ""]
    return lines
