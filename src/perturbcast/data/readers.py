"""Reading screens: the one place that knows how files spell what was done to each cell.

Every decision is recorded with its evidence and the flag that overrides it; what cannot be decided is a coded error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from perturbcast.data.columns import PerturbationColumn, find_perturbation
from perturbcast.data.conditions import CONTROL
from perturbcast.data.covariates import (
    find_context,
    find_covariates,
    find_library,
    guide_quality,
    library_columns,
    perturbation_kind,
)
from perturbcast.data.gene_names import GeneNames, check_sum, name_genes
from perturbcast.data.matrix import GeneMapped, to_csr
from perturbcast.data.matrix_choice import Examined, choose_matrix
from perturbcast.data.read_options import ReadOptions
from perturbcast.data.read_responses import read_responses
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.scan import check_values
from perturbcast.data.screen import CellMatrix, Decision, InMemory, Screen
from perturbcast.data.source import Source, open_anndata, open_file
from perturbcast.errors import DuplicatedCells, EmptyScreen, NoControl, TooFewCells, WrongKind

if TYPE_CHECKING:
    from anndata import AnnData


def read(
    path: str | Path,
    *,
    perturbation: str | None = None,
    control: str | Sequence[str] | None = None,
    context: str | None = None,
    separator: str | None = None,
    layer: str | None = None,
    scale: str | None = None,
    kind: str | None = None,
    genes: str | None = None,
    guide_quality: bool = True,
    min_cells: int | None = None,
    duplicates: str | None = None,
    backed: bool | None = None,
    name: str | None = None,
) -> Screen | ResponseTable:
    """The screen (cells) or the table of responses in an ``.h5ad`` file.

    Everything is found by name and content unless given; `decisions` of the result says what was decided and why.

    perturbation, context: columns of obs (context also ``none``). control: label(s) of control cells. separator:
    between targets. layer: ``X``, ``raw`` or a layer. scale: a value of `Scale`. kind: ``cells`` or ``response``.
    genes: column of var with the names of genes, or ``index``. guide_quality: leave out cells with doubtful guides.
    min_cells: leave out queries with fewer cells. duplicates: ``sum`` or ``first``, for repeated gene names. backed:
    True streams rows from disk, False holds the matrix in memory, None streams above 1 GiB. name: of the result; the
    stem of the file otherwise.

    Raises the errors of families E1 (names), E2 (files) and E3 (values).
    """
    options = ReadOptions(
        perturbation,
        control,
        context,
        separator,
        layer,
        scale,
        kind,
        genes,
        guide_quality,
        min_cells,
        duplicates,
        backed,
    )
    options.check()
    path = Path(path)
    return read_source(open_file(path, name=name or path.stem), options)


def from_anndata(
    adata: "AnnData",
    *,
    perturbation: str | None = None,
    control: str | Sequence[str] | None = None,
    context: str | None = None,
    separator: str | None = None,
    layer: str | None = None,
    scale: str | None = None,
    kind: str | None = None,
    genes: str | None = None,
    guide_quality: bool = True,
    min_cells: int | None = None,
    duplicates: str | None = None,
    backed: bool | None = None,
    name: str | None = None,
) -> Screen | ResponseTable:
    """The screen or table of responses in an AnnData object or a view of one, which is not changed. As `read`."""
    options = ReadOptions(
        perturbation,
        control,
        context,
        separator,
        layer,
        scale,
        kind,
        genes,
        guide_quality,
        min_cells,
        duplicates,
        backed,
    )
    options.check()
    return read_source(open_anndata(adata, name=name or "adata"), options)


def read_source(source: Source, options: ReadOptions) -> Screen | ResponseTable:
    """The screen or table of responses of an opened source."""
    if len(source.obs) == 0 or len(source.var) == 0:
        raise EmptyScreen(f"{source.name} has {len(source.obs):,} rows and {len(source.var):,} genes.")
    if not source.obs.index.is_unique:
        twice = source.obs.index[source.obs.index.duplicated()]
        raise DuplicatedCells(
            f"{len(set(twice)):,} names of rows stand more than once, such as {str(twice[0])[:40]!r}."
        )
    stated = source.uns.get("kind")
    if (options.kind or stated) == "response":
        return read_responses(source, options)
    return _read_cells(source, options)


def _read_cells(source: Source, options: ReadOptions) -> Screen:
    column, column_decision = _perturbation_column(source, options)
    chosen = choose_matrix(source, options, libraries=library_columns(source.obs))
    genes = name_genes(chosen.stored.var, genes=options.genes, duplicates=options.duplicates)
    check_sum(options.duplicates if genes.mapping is not None else None, is_counts=chosen.reading.scale is Scale.COUNTS)
    check_values(chosen.found, genes=genes.names)
    kept = _kept_cells(source, options, column)
    is_control = column.condition == CONTROL
    codes, contexts, context_decision = find_context(
        source.obs.iloc[kept.cells], is_control=is_control[kept.cells], context=options.context
    )
    screen = _assemble(source, column, chosen, genes, kept.cells, codes, contexts, context_decision.value)
    decisions = (
        column_decision, *column.reading.decisions, *kept.decisions, context_decision, *chosen.decisions,
        *genes.decisions, *screen.decisions,
    )  # fmt: skip
    return _with_enough_cells(replace(screen, decisions=decisions), options.min_cells)


def _perturbation_column(source: Source, options: ReadOptions) -> tuple[PerturbationColumn, Decision]:
    try:
        return find_perturbation(
            source.obs,
            genes=_names_in_var(source),
            perturbation=options.perturbation,
            control=options.control,
            separator=options.separator,
        )
    except NoControl as error:
        if options.kind is None and _one_row_per_condition(source):
            raise WrongKind(
                f"{error.fact} Every row has its own label, as in a table of responses.",
                "If it is one, pass --kind response.",
            ) from error
        raise


def _one_row_per_condition(source: Source) -> bool:
    column, _ = find_perturbation(source.obs, genes=_names_in_var(source), needs_control=False)
    return len(column.labels) == len(source.obs) > 1


def _names_in_var(source: Source) -> set[str]:
    """Every name that a measured gene may go by."""
    names: set[str] = set()
    for var in (source.var, *(stored.var for stored in source.matrices.values() if stored.key == "raw")):
        for genes in (None, "index"):
            names.update(name_genes(var, genes=genes, duplicates="first").names)
    return names


@dataclass(frozen=True)
class _Kept:
    cells: np.ndarray  # rows of the file
    decisions: tuple[Decision, ...]


def _kept_cells(source: Source, options: ReadOptions, column: PerturbationColumn) -> _Kept:
    """Cells whose perturbation is known and whose guide is clear."""
    condition = column.condition
    known = np.array([c is not None for c in condition], dtype=bool)
    decisions = []
    if not known.all():
        evidence = f"{int((~known).sum()):,} of {len(known):,} cells have no label, or one such as unassigned"
        decisions.append(Decision("cells without label", "left out", evidence, "--perturbation"))
    quality = guide_quality(source.obs)
    if quality is not None and options.guide_quality:
        known &= quality[0]
        decisions.append(quality[1])
    elif quality is not None:
        decisions.append(Decision("guide quality", "not applied", "given", "--no-guide-quality"))
    cells = np.flatnonzero(known)
    if len(cells) == 0:
        raise EmptyScreen("No cell is left once those without a label or a clear guide are left out.")
    if not (condition[cells] == CONTROL).any():
        raise NoControl("No control cell is left after the filter of guide quality.", "Pass --no-guide-quality.")
    if (condition[cells] == CONTROL).all():
        raise EmptyScreen(
            "Every cell is control: nothing was perturbed.", "Name the perturbations with --perturbation."
        )
    return _Kept(cells, tuple(decisions))


def _assemble(
    source: Source,
    column: PerturbationColumn,
    chosen: Examined,
    genes: GeneNames,
    cells: np.ndarray,
    context_code: np.ndarray,
    contexts: tuple[str, ...],
    context_name: str,
) -> Screen:
    obs = source.obs.iloc[cells]
    conditions, code = np.unique(column.condition[cells].astype(str), return_inverse=True)
    is_counts = chosen.reading.scale is Scale.COUNTS
    library, decision = find_library(source.obs, chosen.found.row_sum) if is_counts else (None, None)
    if library is None and is_counts:
        library = chosen.found.row_sum
    kind = perturbation_kind(source.obs, source.uns.get("perturbation"))
    stated = str(source.uns.get("source") or source.name)
    return Screen(
        name=source.name,
        matrix=_with_genes(chosen.matrix, genes),
        scale=chosen.reading.scale,
        genes=genes.names,
        conditions=tuple(str(condition) for condition in conditions),
        contexts=contexts,
        condition_code=code.ravel().astype(np.int32),
        context_code=context_code.astype(np.int32),
        row=cells.astype(np.int64),
        library=None if library is None else library[cells],
        cells=np.array([str(barcode) for barcode in obs.index], dtype=object),
        covariates=find_covariates(obs, perturbation=column, context=context_name),
        gene_ids=genes.ids,
        decisions=() if decision is None else (decision,),
        uns={"source": stated, "perturbation": kind},
    )


def _with_genes(matrix: CellMatrix, genes: GeneNames) -> CellMatrix:
    if genes.mapping is None:
        return matrix
    if isinstance(matrix, InMemory):
        return InMemory(to_csr(sparse.csr_matrix(matrix.matrix @ genes.mapping)))
    return GeneMapped(matrix, genes.mapping)


def _with_enough_cells(screen: Screen, min_cells: int | None) -> Screen:
    """The screen without queries of fewer than `min_cells`; TooFewCells if that leaves nothing to compare."""
    code = screen.query_code
    n_by_cell = np.bincount(code)[code]
    if min_cells is not None:
        small = ~screen.is_control & (n_by_cell < min_cells)
        n_small = len(np.unique(code[small]))
        decision = Decision("conditions left out", str(n_small), f"fewer than {min_cells} cells", "--min-cells")
        screen = replace(_without(screen, small), decisions=(*screen.decisions, decision))
        n_by_cell = n_by_cell[~small]
    perturbed, control = n_by_cell[~screen.is_control], n_by_cell[screen.is_control]
    if perturbed.max(initial=0) < 2:
        most = "no condition is left" if len(perturbed) == 0 else "every condition has a single cell"
        raise TooFewCells(f"{screen.name}: {most}.")
    if control.max(initial=0) < 2:
        raise TooFewCells(f"{screen.name}: there is a single control cell.", "Give a screen with more control cells.")
    return screen


def _without(screen: Screen, left_out: np.ndarray) -> Screen:
    """The screen without some cells, and without the conditions and contexts that only they had."""
    view = screen.take(~left_out)
    conditions, condition_code = np.unique(view.condition_code, return_inverse=True)
    contexts, context_code = np.unique(view.context_code, return_inverse=True)
    named: dict[str, Any] = {
        "conditions": tuple(view.conditions[code] for code in conditions),
        "contexts": tuple(view.contexts[code] for code in contexts),
        "condition_code": condition_code.ravel().astype(np.int32),
        "context_code": context_code.ravel().astype(np.int32),
    }
    return replace(view, **named)
