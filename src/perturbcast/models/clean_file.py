"""`perturbcast clean`: a copy of a file of cells in which those of low quality are without their artefacts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from perturbcast._files import written_whole
from perturbcast._progress import Progress
from perturbcast.data.artefacts import PUBLISHED, ArtefactLabels, ArtefactRule, artefact_labels, screen_quality
from perturbcast.data.csr_file import GrowingCsr
from perturbcast.data.readers import read
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.data.source import Source, open_file
from perturbcast.errors import MissingFile, NoPassingCell, OutputExists, UnknownColumn, UnknownFormat, WrongKind
from perturbcast.errors import did_you_mean as nearest_to
from perturbcast.models.base import FittedModel
from perturbcast.models.cleaning import check_cleanable, cleaned_blocks, network_with_artefacts

THRESHOLDS = (3.0, 4.0, 5.0)  # spec 8.3
MARK = "was_artefact"  # column of obs that says which cells were replaced
OBSERVED = "observed"  # layer with the cells as they were
LEFT_OUT = ("layers", "obsm", "varm", "obsp", "varp", "raw")  # of a file: they describe the cells as observed


@dataclass(frozen=True)
class Cleaned:
    """What `clean` wrote and changed."""

    path: Path
    n_cells: int
    n_failed: int
    flags: Mapping[str, int]  # cells that each flag fails
    pass_rates: pd.DataFrame  # threshold, before, after: share of cells within the limits of all observed cells
    notes: tuple[str, ...]  # what could not be told, and what was left out

    def lines(self) -> list[str]:
        """In words, a line each."""
        flags = ", ".join(f"{name} {number:,}" for name, number in self.flags.items() if number)
        failed = f"{self.n_failed:,} of {self.n_cells:,} cells fail"
        rates = [
            f"passing at {row.threshold:g} deviations: {row.before:.1%} before, {row.after:.1%} after"
            for row in self.pass_rates.itertuples()
        ]
        return [failed + (f" ({flags})" if flags else ""), *rates, *self.notes]


def clean(
    model: FittedModel | str | Path,
    file: str | Path,
    *,
    out: str | Path,
    quality: str | None = None,
    which: Literal["failing", "all"] = "failing",
    depth: Literal["passing", "own"] = "passing",
    reading: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Cleaned:
    """Writes the cells of a file without their artefacts to `out` (.h5ad), and says what changed.

    Failing cells (by the rule of the model, or true in the column `quality` of obs) get new values: drawn from the
    model given the cell, its perturbation and its artefacts, then decoded without these (spec 7.3). `which` all draws
    passing cells anew too. `depth`: molecules of failing cells, those of a passing cell at random or their own. X is
    the result, layer `observed` the values read, obs and var those of the file, obs `was_artefact` which cells failed,
    uns `cleaned` how. Pass rates are mean(1 - q) under the limits of all observed cells (spec 8.3, B15), doublets
    aside, of counts only. `reading`: arguments of `read`. Memory is one block of cells and a row per cell.

    Raises NoArtefactModel for a model that cannot clean, GenesDiffer, WrongScale, CannotPredict as `clean_cells`;
    NoPassingCell, UnknownColumn for `quality`; OutputExists, UnknownFormat, MissingFile, NotWritable; what `load`
    and `read` raise.
    """
    file, out = Path(file), Path(out)
    _check_out(out)
    fitted = model if isinstance(model, FittedModel) else _loaded(model)
    network_with_artefacts(fitted)
    screen = read(file, **(reading or {}))
    if not isinstance(screen, Screen):
        raise WrongKind(f"{file.name} holds responses, which have no cells to clean.", "Pass a file of cells.")
    source = open_file(file, name=screen.name)
    labels = _labels(fitted, screen, source, quality=quality, seed=seed, progress=progress)
    check_cleanable(fitted, screen, labels.failed)
    if labels.failed.all():
        raise NoPassingCell(f"all {screen.n_cells:,} cells of {file.name} fail the limits of quality.")
    limits = _limits(fitted, screen, progress=progress)
    counted = _Counted(limits, screen)
    blocks = cleaned_blocks(
        fitted, screen, failed=labels.failed, which=which, depth=depth, seed=seed, progress=progress
    )
    how = {"model": fitted.model.label, "which": which, "depth": depth, "seed": seed, "quality": quality or "rule"}
    with written_whole(out) as draft:
        _write(draft, screen, source, counted.passing_through(blocks), failed=labels.failed, how=how)
    notes = (*labels.notes, *_left_out(file, source, screen))
    flags = {name: int(values.sum()) for name, values in labels.flags.items()}
    return Cleaned(out, screen.n_cells, int(labels.failed.sum()), flags, counted.table(), notes)


def _check_out(out: Path) -> None:
    if out.suffix != ".h5ad":
        raise UnknownFormat(f"cannot write cells as {out.name!r}.", "Use .h5ad.")
    if not out.parent.is_dir():
        raise MissingFile(f"the folder {str(out.parent)!r} for the cells does not exist.")
    if out.exists():
        raise OutputExists(f"{str(out)!r} is there already.")


def _loaded(folder: str | Path) -> FittedModel:
    from perturbcast.models.artefact import load

    return load(Path(folder))


# ------------------------------------------------------------------------------------------------------------ quality
def _labels(
    fitted: FittedModel,
    screen: Screen,
    source: Source,
    *,
    quality: str | None,
    seed: int,
    progress: Progress | None,
) -> ArtefactLabels:
    """Which cells fail: by the column named, by the model's own labels, or by the rule its `quality` names."""
    column = quality or getattr(fitted.model, "quality_column", "")
    if column:
        if column not in source.obs:
            raise UnknownColumn(f"there is no column {column!r} in obs. {nearest_to(column, map(str, source.obs))}")
        return artefact_labels(screen, given=source.obs[column].to_numpy()[screen.row])
    return artefact_labels(screen, rule=_rule(fitted), seed=seed, progress=progress)


def _rule(fitted: FittedModel) -> ArtefactRule:
    """The limits by which the model told its training cells."""
    rule = PUBLISHED if getattr(fitted.model, "quality", "rule") == "published" else ArtefactRule()
    if rule is PUBLISHED and not getattr(fitted.model, "doublets", True):
        rule = replace(rule, flags=tuple(flag for flag in rule.flags if flag != "doublet"))
    return replace(rule, threshold=float(getattr(fitted.model, "quality_threshold", rule.threshold)))


def _limits(fitted: FittedModel, screen: Screen, *, progress: Progress | None) -> dict[float, ArtefactLabels]:
    """Limits over all cells of a screen of counts, by threshold; none for a screen of expression."""
    if screen.scale is not Scale.COUNTS:
        return {}
    rule = _rule(fitted)
    told = tuple(flag for flag in rule.flags if flag != "doublet")
    found = screen_quality(screen, names=rule.names, progress=progress)
    rules = {at: replace(rule, threshold=at, flags=told, per_batch=False) for at in THRESHOLDS}
    return {at: artefact_labels(screen, rule=by, quality=found) for at, by in rules.items()}


class _Counted:
    """Counts the cells that pass while blocks go by."""

    def __init__(self, limits: Mapping[float, ArtefactLabels], screen: Screen) -> None:
        self.limits, self.screen = limits, screen
        self.failed = dict.fromkeys(limits, 0)

    def passing_through(self, blocks: Any) -> Any:
        """The blocks unchanged."""
        for block in blocks:
            for at, labels in self.limits.items():
                self.failed[at] += int(labels.judge(block, self.screen.genes, scale=self.screen.scale).sum())
            yield block

    def table(self) -> pd.DataFrame:
        """A row per threshold."""
        rows = [
            {"threshold": at, "before": 1 - labels.share_failed, "after": 1 - self.failed[at] / self.screen.n_cells}
            for at, labels in self.limits.items()
        ]
        return pd.DataFrame(rows, columns=["threshold", "before", "after"])


# ------------------------------------------------------------------------------------------------------------ writing
def _write(
    draft: Path, screen: Screen, source: Source, blocks: Any, *, failed: np.ndarray, how: Mapping[str, Any]
) -> None:
    import h5py
    from anndata.io import write_elem

    obs = source.obs.iloc[screen.row].copy()
    obs[MARK] = failed
    with h5py.File(draft, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        cleaned = GrowingCsr(file, "X", n_columns=screen.n_genes)
        layers = file.create_group("layers")
        layers.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        observed = GrowingCsr(layers, OBSERVED, n_columns=screen.n_genes)
        done = 0
        for block in blocks:
            cleaned.append(sparse.csr_matrix(block))
            observed.append(screen.stored(np.arange(done, done + block.shape[0])))
            done += block.shape[0]
        cleaned.close()
        observed.close()
        write_elem(file, "obs", obs)
        write_elem(file, "var", _var(screen, source))
        write_elem(file, "uns", {"scale": str(screen.scale), "cleaned": dict(how)})


def _var(screen: Screen, source: Source) -> pd.DataFrame:
    """The table of genes of the file, or the genes of the screen where they are others (raw, summed duplicates)."""
    read_from = next((d.value for d in screen.decisions if d.what == "matrix"), "X")
    if read_from != "raw" and len(source.var) == screen.n_genes:
        return source.var
    return pd.DataFrame(index=pd.Index(screen.genes.astype(str), dtype=object))


def _left_out(file: Path, source: Source, screen: Screen) -> list[str]:
    """What of the file is not in the copy."""
    import h5py

    said = []
    n_without = len(source.obs) - screen.n_cells
    if n_without:
        said.append(f"{n_without:,} cells of the file were not read (no label, or a doubtful guide), so are left out.")
    with h5py.File(file, "r") as opened:
        parts = [name for name in LEFT_OUT if name in opened and len(opened[name])]
    if parts:
        said.append(f"{', '.join(parts)} left out of the copy: they describe the cells as observed.")
    return said
