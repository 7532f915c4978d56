"""The folder of `perturbcast explain`: genes, nearest conditions and a summary as tables, a figure per query."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from perturbcast._files import written_whole
from perturbcast.data.readers import read
from perturbcast.errors import OutputExists
from perturbcast.models.artefact import load
from perturbcast.models.explain import Explanation, dependence, enrichment, even_shares, explain, observed_in
from perturbcast.report.explain_figure import explanation_figure

CLEAR = 2.0  # even shares of the leading gene, below which no gene is named


def explain_into(
    model: Path,
    conditions: Sequence[str],
    *,
    out: Path,
    data: Path | None = None,
    ending: str = "tsv",
    reading: Mapping[str, Any] | None = None,
) -> list[str]:
    """Writes the folder; what was found, a line per condition.

    `genes`, `nearest` and `summary` are tables of all conditions, and `CONDITION.png` the figure of each. Raises what
    loading the model, reading the data and `explain` raise, OutputExists for a folder that holds anything.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputExists(f"{str(out)!r} is there already.")
    fitted = load(model)
    asked = list(dict.fromkeys(fitted.query_of(condition) for condition in conditions))
    observed = None if data is None else observed_in(read(data, **(reading or {})), fitted, asked)
    found = [explain(fitted, query, observed=observed) for query in asked]
    summary = enrichment(found, fitted)
    out.mkdir(parents=True, exist_ok=True)
    write_table(_stacked(found, "genes"), out / f"genes.{ending}")
    write_table(_stacked(found, "nearest"), out / f"nearest.{ending}")
    write_table(summary, out / f"summary.{ending}")
    for explanation in found:
        _draw(explanation, out / f"{explanation.query.condition.replace('/', '_')}.png")
    return [*map(_line, found), *_together(found), f"Explained: {out}"]


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes a table as .tsv or .parquet by its ending."""
    with written_whole(path) as draft:
        if path.suffix == ".parquet":
            table.to_parquet(draft, index=False)
        else:
            table.to_csv(draft, sep="\t", index=False, float_format="%.6g")


def _stacked(found: Sequence[Explanation], part: str) -> pd.DataFrame:
    tables = []
    for explanation in found:
        table = getattr(explanation, part).rename(columns={"condition": "neighbour", "context": "neighbour_context"})
        table.insert(0, "condition", explanation.query.condition)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _draw(found: Explanation, path: Path) -> None:
    with written_whole(path) as draft:
        explanation_figure(found).savefig(draft, format="png", dpi=150)


def _line(found: Explanation) -> str:
    near = ", ".join(found.nearest["condition"].head(3)) or "none"
    return f"{found.query.condition}: {_leading(found)}; nearest in training: {near}"


def _leading(found: Explanation) -> str:
    """The genes that count most, and by how much; or that none does."""
    genes = list(found.genes["gene"].head(5))
    if pd.isna(found.evenness):
        return f"largest predicted responses {', '.join(genes)}"
    share = even_shares(found).head(5)
    if share.iloc[0] < CLEAR:
        return f"goes by no gene in particular ({genes[0]} has {share.iloc[0]:.2f} of an even share)"
    named = ", ".join(f"{gene} ({times:.3g})" for gene, times in zip(genes, share, strict=True))
    return f"goes by {named}, in even shares (evenness {found.evenness:.3f})"


def _together(found: Sequence[Explanation]) -> list[str]:
    """How far scores depend on the query, where there are several and the model scores genes."""
    share = dependence([explanation for explanation in found if explanation.genes["score"].notna().any()])
    return [] if pd.isna(share) else [f"Of the scores, {share:.1%} depends on the condition."]
