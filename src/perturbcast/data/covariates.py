"""What else obs says of each cell: context, batch, replicate, guide, guide quality, library size."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from perturbcast.data.columns import GUIDE_NAMES, PerturbationColumn, bare, column
from perturbcast.data.labels import labels_of
from perturbcast.data.screen import Decision
from perturbcast.errors import BadOption, NoControl

_CONTEXTS = ("cellline", "celllinename", "line", "donor", "donorid", "patient", "individual", "strain")
_CONTEXTS_BY_ANNOTATION = ("celltype", "celltypes")  # may come from clustering, so only where it can carry one
_BATCHES = ("batch", "batchid", "gemgroup", "gemwell", "lane", "channel", "plate", "library", "libraryid", "run")
_REPLICATES = ("replicate", "biorep", "bioreplicate", "rep", "biologicalreplicate")
_GUIDE_FRACTIONS = ("grnafrac", "grnafraction", "guidefrac", "guidefraction", "sgrnafrac", "sgrnafraction")
_GUIDE_UMIS = ("grnaumi", "grnaumis", "guideumi", "guideumis", "guideumicount", "sgrnaumi", "grnaumicount")
# fmt: off
_LIBRARIES = (
    "ncounts", "totalcounts", "ncountrna", "numis", "numi", "totalumis", "totalumi", "nreads", "librarysize",
    "umicountrna", "sumcounts",
)
# fmt: on
MIN_GUIDE_FRACTION = 0.8  # of the guide molecules of a cell that are of its guide; Papalexi et al. 2021
MIN_GUIDE_UMIS = 5  # guide molecules; Papalexi et al. 2021


def find_context(
    obs: pd.DataFrame, *, is_control: np.ndarray, context: str | None = None, needs_control: bool = True
) -> tuple[np.ndarray, tuple[str, ...], Decision]:
    """(cell,) code, the contexts, and why. Every context has control cells, or NoControl says which has none."""
    if context is not None and context != "none":
        codes, labels = _context_labels(column(obs, context, flag="--context"), context)
        if needs_control:
            _check_controls(codes, labels, is_control, context)
        return codes, tuple(labels), Decision("context", context, f"given; {_listed(labels)}", "--context")
    if context is None:
        found = _candidate_contexts(obs, is_control, needs_control=needs_control)
        if found is not None:
            return found
    nothing = "given" if context == "none" else "no column names a cell line, cell type or donor"
    return np.zeros(len(obs), dtype=np.int64), ("",), Decision("context", "one", nothing, "--context")


def _candidate_contexts(
    obs: pd.DataFrame, is_control: np.ndarray, *, needs_control: bool
) -> tuple[np.ndarray, tuple[str, ...], Decision] | None:
    """The first column that varies, of cell line, donor, cell type; else the first that names the one context."""
    by_name = {bare(name): str(name) for name in reversed(list(obs.columns))}
    constant = None
    for short in (*_CONTEXTS, *_CONTEXTS_BY_ANNOTATION):
        name = by_name.get(short)
        if name is None or obs[name].isna().any():
            continue
        codes, labels = labels_of(obs[name])
        decision = Decision("context", name, f"name; {_listed(labels)}", "--context")
        if len(labels) == 1:
            constant = constant or (codes, tuple(labels), decision)
            continue
        lacking = needs_control and len(_without_control(codes, labels, is_control)) > 0
        if lacking and short in _CONTEXTS_BY_ANNOTATION:
            continue
        if lacking:
            _check_controls(codes, labels, is_control, name)
        return codes, tuple(labels), decision
    return constant


def _context_labels(values: pd.Series, name: str) -> tuple[np.ndarray, list[str]]:
    codes, labels = labels_of(values)
    if (codes < 0).any():
        raise BadOption(
            f"obs[{name!r}] names no context for {int((codes < 0).sum()):,} cells.",
            "Fill it, or pass another --context.",
        )
    return codes, labels


def _without_control(codes: np.ndarray, labels: list[str], is_control: np.ndarray) -> list[str]:
    return [label for position, label in enumerate(labels) if not (is_control & (codes == position)).any()]


def _check_controls(codes: np.ndarray, labels: list[str], is_control: np.ndarray, name: str) -> None:
    lacking = _without_control(codes, labels, is_control)
    if lacking:
        raise NoControl(
            f"{len(lacking)} of {len(labels)} contexts in obs[{name!r}] have no control cell: {_listed(lacking)}.",
            "Pass another column to --context, or --context none.",
        )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(label[:40] for label in labels[:4]) + (f", ... ({len(labels)})" if len(labels) > 4 else "")


# ------------------------------------------------------------------------------------------- covariates and quality
def find_covariates(obs: pd.DataFrame, *, perturbation: PerturbationColumn, context: str) -> pd.DataFrame:
    """One row per cell: `guide`, `batch`, `replicate` where there are such columns, and quality columns by name."""
    found: dict[str, pd.Series] = {}
    if perturbation.reading.guide_styles:
        found["guide"] = obs[perturbation.name].astype("category")
    guides = tuple(name for name in GUIDE_NAMES if "gene" not in name and "target" not in name)
    for role, names in {"guide": guides, "batch": _BATCHES, "replicate": _REPLICATES}.items():
        match = [name for short in names for name in obs.columns if bare(name) == short]
        match = [name for name in match if name not in (perturbation.name, context)]
        if match and role not in found:
            found[role] = obs[match[0]].astype("category")
    quality = re.compile(r"mito|ribo|^pctcounts|^percent")
    for name in obs.columns:
        short = bare(name)
        if pd.api.types.is_numeric_dtype(obs[name]) and (
            quality.search(short) or short in (*_GUIDE_FRACTIONS, *_GUIDE_UMIS)
        ):
            found.setdefault(str(name), obs[name])
    return pd.DataFrame(found, index=obs.index)


def guide_quality(obs: pd.DataFrame) -> tuple[np.ndarray, Decision] | None:
    """(cell,) bool of clearly assigned guides and the rule; None where obs says nothing about guide molecules."""
    kept = np.ones(len(obs), dtype=bool)
    rules = []
    for names, limit, strict in ((_GUIDE_FRACTIONS, MIN_GUIDE_FRACTION, True), (_GUIDE_UMIS, MIN_GUIDE_UMIS, False)):
        match = [name for name in obs.columns if bare(name) in names and pd.api.types.is_numeric_dtype(obs[name])]
        if not match:
            continue
        values = obs[match[0]].to_numpy(dtype=np.float64, na_value=np.nan)
        if strict and not ((values >= 0) & (values <= 1)).any():
            continue
        kept &= np.greater(values, limit) if strict else np.greater_equal(values, limit)
        rules.append(f"{match[0]} {'>' if strict else '>='} {limit}")
    if not rules:
        return None
    counts = f"{int(kept.sum()):,} of {len(kept):,} cells kept"
    return kept, Decision("guide quality", " and ".join(rules), counts, "--no-guide-quality")


def find_library(obs: pd.DataFrame, row_sum: np.ndarray) -> tuple[np.ndarray | None, Decision]:
    """(cell,) total molecules from obs where no cell has more in the matrix; None (row sums) otherwise."""
    for name in obs.columns:
        if bare(name) not in _LIBRARIES or not pd.api.types.is_numeric_dtype(obs[name]):
            continue
        values = obs[name].to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isfinite(values).all() and (values > 0).all() and (values >= row_sum * (1 - 1e-6)).all():
            share = float(row_sum.sum() / values.sum())
            evidence = f"at least the sum of each cell; the matrix holds {share:.0%} of it"
            return values, Decision("library size", str(name), evidence, "")
    return None, Decision("library size", "row sums", "no column of obs holds the molecules of each whole cell", "")


def library_columns(obs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Columns of obs that by name hold the molecules of each cell: one of the signs of a scale."""
    names = [name for name in obs.columns if bare(name) in _LIBRARIES and pd.api.types.is_numeric_dtype(obs[name])]
    return {str(name): obs[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in names}


def perturbation_kind(obs: pd.DataFrame, stated: object) -> str:
    """CRISPRa, CRISPRi or knock-out as the file states it, or ""."""
    values = [str(stated)] if isinstance(stated, str) else []
    for name in obs.columns:
        if bare(name) in ("perturbationtype", "perttype", "crisprtype", "modality"):
            values.extend(labels_of(obs[name])[1])
    kinds = {kind for value in values if (kind := _kind_in(value))}
    return kinds.pop() if len(kinds) == 1 else ""


def _kind_in(text: str) -> str:
    folded = re.sub(r"[^a-z]", "", text.casefold())
    if re.search(r"crispra|activation|overexpression", folded) and "crispri" not in folded:
        return "CRISPRa"
    if re.search(r"crispri|interference|knockdown", folded):
        return "CRISPRi"
    return "knock-out" if re.search(r"knockout|crisprko|cutting|cas9|crisprcas", folded) else ""
