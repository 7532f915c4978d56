"""Studies of one model: what it loses with each of its parts (spec A.8, B.3), and with a spoilt graph (B.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbcast._progress import Progress
from perturbcast.benchmarking.compare import summarise
from perturbcast.benchmarking.dataset import Data, load_datasets
from perturbcast.benchmarking.panel import REFUSED
from perturbcast.benchmarking.plan import NamedModel, named_models
from perturbcast.benchmarking.run import benchmark
from perturbcast.benchmarking.store import write_table, write_text
from perturbcast.errors import BadOption, NeedsKnowledge, NotABenchmark, did_you_mean
from perturbcast.genes.degrade import degraded
from perturbcast.genes.graphs import jaccard_graph
from perturbcast.genes.knowledge import GeneKnowledge

PERMUTE = "permute"
WAYS = ("remove", "add", "rewire", PERMUTE)  # B.4 a to d
SHARES = (0.10, 0.25, 0.50)  # B.4
INTACT = "intact"
TABLE = "study.parquet"
EDGES_EACH, LEAST_JACCARD = 20, 0.1  # of graphs made from gene sets; spec C-1
SHOWN = {  # metric and gene set of the tables and figures, with a short title
    ("l2", "all-notarget"): "L2 error",
    ("pearson_delta_perturbed", "all-notarget"): "Pearson Δ against mean",
    ("pds_cosine_perturbed", "all"): "Discrimination, mean out",
    ("pearson_delta", "all-notarget"): "Pearson Δ",
    ("direction_accuracy", "all"): "Direction accuracy",
    ("dac", "all"): "DAC",
}


@dataclass(frozen=True)
class Study:
    """The scores of a study, and their differences to `reference`, which are paired by query."""

    folder: Path
    reference: str
    scores: pd.DataFrame
    table: pd.DataFrame  # as of `summarise`; baseline and difference are against the reference


def ablations_of(name: str, *, fields: Mapping[str, Any] | None = None) -> list[NamedModel]:
    """A model and one for each of the ablations of its card; parts that a profile lacks anyway are left out.

    BadOption for a model without any.
    """
    (full,) = named_models([name], fields=fields)
    card = full.model.card
    changed = {what: replace(full.model, **changes) for what, changes in card.ablations.items()}
    found = [NamedModel(f"{full.label}, {what}", model) for what, model in changed.items() if model != full.model]
    if not found:
        raise BadOption(f"model {name!r} names nothing that can be taken away.", "Name another model, such as grape.")
    return [full, *found]


def ablate(
    data: Data,
    *,
    model: str,
    out: str | Path,
    knowledge: GeneKnowledge | Sequence[str | Path] | None = None,
    fields: Mapping[str, Any] | None = None,
    metrics_profile: str = "full",
    **options: Any,
) -> Study:
    """A model beside itself without each of its parts, on the same splits; resumable. `options` are of `benchmark`.

    Raises what `ablations_of` and `benchmark` raise.
    """
    models = ablations_of(model, fields=fields)
    done = benchmark(data, models=models, out=out, knowledge=knowledge, metrics_profile=metrics_profile, **options)
    return studied(Path(out), done.scores, reference=models[0].label)


def degrade(
    data: Data,
    *,
    model: str,
    out: str | Path,
    knowledge: GeneKnowledge | Sequence[str | Path] | None = None,
    ways: Sequence[str] = WAYS,
    shares: Sequence[float] = SHARES,
    graph_seeds: int = 5,
    graphs_only: bool = True,
    fields: Mapping[str, Any] | None = None,
    metrics_profile: str = "core",
    progress: Progress | None = None,
    **options: Any,
) -> Study:
    """A model with its gene graphs spoilt in every way, by every share and graph seed; training and test see the same.

    Names are also permuted among all genes (share 1), the control of a graph that says nothing (B.4 d). Gene sets
    become graphs of their Jaccard index first. With `graphs_only` the model is given these graphs and nothing else, so
    that it cannot go by other knowledge. Every spoilt graph has a folder of its own; the whole is resumable.
    Raises NeedsKnowledge without graphs and gene sets, and what `degraded` and `benchmark` raise.
    """
    (dataset,) = load_datasets(data, knowledge=knowledge, reading=options.pop("reading", None), progress=progress)
    known = with_graphs(dataset.knowledge, alone=graphs_only)
    by_way = {way: sorted({*shares, 1.0} if way == PERMUTE else {*shares}) for way in ways}
    spoilings = [(way, share, seed) for way in ways for share in by_way[way] for seed in range(graph_seeds)]
    parts = []
    for way, share, seed in [(INTACT, 0.0, 0), *spoilings]:
        given = known if way == INTACT else spoilt(known, way, share, seed=seed)
        name = INTACT if way == INTACT else f"{way} {share:.0%}"
        done = benchmark(
            dataset.data,
            models=[model],
            out=Path(out) / f"{name.replace(' ', '-').replace('%', '')}-{seed}",
            knowledge=given,
            fields=fields,
            metrics_profile=metrics_profile,
            progress=progress,
            **options,
        )
        parts += [_labelled(done.scores, name, seed=each) for each in (range(graph_seeds) if way == INTACT else [seed])]
    return studied(Path(out), pd.concat(parts, ignore_index=True), reference=INTACT)


def with_graphs(knowledge: GeneKnowledge, *, alone: bool) -> GeneKnowledge:
    """The knowledge with its gene sets turned to graphs, and with nothing but graphs if `alone`; or NeedsKnowledge."""
    graphs = dict(knowledge.graphs)
    for name, sets in knowledge.gene_sets.items():
        graphs[name] = jaccard_graph(sets, top=EDGES_EACH, minimum=LEAST_JACCARD)
    if not graphs:
        raise NeedsKnowledge("there is no gene graph to degrade.", "Pass --networks, or gene sets with --genes.")
    if alone:
        return GeneKnowledge(table=knowledge.table, graphs=graphs)
    return replace(knowledge, graphs=graphs, gene_sets={})


def spoilt(knowledge: GeneKnowledge, way: str, share: float, *, seed: int) -> GeneKnowledge:
    """The knowledge with every graph spoilt, under the names that they had."""
    graphs = {
        name: replace(degraded(graph, way, share, seed=seed), name=name) for name, graph in knowledge.graphs.items()
    }
    return replace(knowledge, graphs=graphs)


def conditions(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    reference: str = "mean",
    split: str | None = None,
    models: Sequence[str] | None = None,
) -> Study:
    """A finished benchmark as a study of single conditions: every model beside `reference`, in pairs.

    Written into `out`, or into the benchmark's folder. `split` is one of the rules that were benchmarked; by default
    the first; `models` are those to show beside the reference, by default all. NotABenchmark where the folder has no
    scores, BadOption for a split or model that it does not have.
    """
    file = Path(folder) / "scores.parquet"
    if not file.is_file():
        raise NotABenchmark(f"{str(folder)!r} has no {file.name}.")
    scores = pd.read_parquet(file)
    rules = [str(rule) for rule in dict.fromkeys(scores["split"])]
    scores = scores[scores["split"] == _one_of(rules, split or rules[0], "split")]
    names = [str(model) for model in dict.fromkeys(scores["model"])]
    kept = [_one_of(names, name, "model") for name in [reference, *(names if models is None else models)]]
    scores = scores[scores["model"].isin(kept)]
    target = Path(folder) if out is None else Path(out)
    target.mkdir(parents=True, exist_ok=True)
    return studied(target, scores, reference=reference)


def _one_of(names: Sequence[str], name: str, what: str) -> str:
    if name not in names:
        raise BadOption(f"no {what} {name!r} was benchmarked. {did_you_mean(name, names)}")
    return name


def _labelled(scores: pd.DataFrame, label: str, *, seed: int) -> pd.DataFrame:
    """The scores of the one model that is no reference, under another name; seeds are told apart by graph."""
    simple = scores["model"].isin(["no-change", "mean", "additive"]) | scores["model"].str.startswith("ceiling:")
    part = scores[~simple]
    return part.assign(model=label, seed=part["seed"] * 1000 + seed)


def studied(folder: Path, scores: pd.DataFrame, *, reference: str) -> Study:
    """The study, its table written as parquet and as text; other profiles of the reference are other models."""
    profile = scores["model"].str.startswith(f"{reference}:")
    scores = scores.assign(model=scores["model"].where(~profile, scores["model"].str.replace(":", " as ", n=1)))
    shown = pd.Series(list(zip(scores["metric"], scores["gene_set"], strict=True)), index=scores.index).isin(SHOWN)
    table = summarise(scores[shown | (scores["metric"] == REFUSED)], baselines=(reference,))
    write_table(table, folder / TABLE)
    write_text(markdown(table, reference=reference), folder / "study.md")
    return Study(folder, reference, scores, table)


def markdown(table: pd.DataFrame, *, reference: str) -> str:
    """The means by model with the paired difference to the reference and its 95 % interval; bold excludes 0."""
    lines = []
    for (dataset, split), part in table.groupby(["dataset", "split"], sort=False):
        part = part[~part["model"].str.startswith("ceiling:")]
        cells = [pair for pair in SHOWN if _of(part, pair)["mean"].notna().any()]
        lines += [f"## {dataset}, {split}", "", f"Differences are to `{reference}`, in pairs.", ""]
        lines += ["| | " + " | ".join(_title(_of(part, pair), SHOWN[pair]) for pair in cells) + " |"]
        lines += ["|---" * (len(cells) + 1) + "|"]
        for model in dict.fromkeys(part["model"]):
            row = part[part["model"] == model].set_index(["metric", "gene_set"])
            named = short_name(model, reference=reference)
            lines.append(f"| {named} | " + " | ".join(_cell(row, pair, reference) for pair in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def short_name(model: str, *, reference: str) -> str:
    """The name of a model in a study of `reference`: of an ablation only what was taken away."""
    return model.removeprefix(f"{reference}, ")


def _of(table: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    return table[(table["metric"] == pair[0]) & (table["gene_set"] == pair[1])]


def _title(rows: pd.DataFrame, title: str) -> str:
    return f"{title} {'↑' if rows['higher_is_better'].iloc[0] else '↓'}"


def _cell(row: pd.DataFrame, pair: tuple[str, str], reference: str) -> str:
    entry: Any = row.loc[[pair]].iloc[0] if pair in row.index else None
    if entry is None or not np.isfinite(entry["mean"]):
        return "–"
    if entry["baseline"] != reference or not np.isfinite(entry["difference"]):
        return f"{entry['mean']:.3f}"
    change = f"{entry['difference']:+.3f} [{entry['diff_low']:+.3f}, {entry['diff_high']:+.3f}]"
    decided = entry["verdict"] in ("better", "worse")
    return f"{entry['mean']:.3f} ({f'**{change}**' if decided else change})"
