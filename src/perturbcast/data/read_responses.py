"""Tables of responses: one row per condition, already a difference to control."""

import re

import numpy as np
from scipy import sparse

from perturbcast.data.columns import PerturbationColumn, find_perturbation
from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.covariates import find_context, perturbation_kind
from perturbcast.data.gene_names import check_sum, name_genes
from perturbcast.data.matrix_choice import open_matrix
from perturbcast.data.read_options import ReadOptions
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.scan import Scan, check_values, scan
from perturbcast.data.screen import Decision
from perturbcast.data.source import Source, StoredMatrix
from perturbcast.errors import BadOption, EmptyScreen, NoMatrix, WrongKind, WrongScale, did_you_mean


def read_responses(source: Source, options: ReadOptions) -> ResponseTable:
    """The table of responses of a source. Raises WrongKind or WrongScale if its numbers are no differences."""
    if options.min_cells is not None:
        raise BadOption("A table of responses has no cells for min_cells to count.", "Leave --min-cells out.")
    stored = _response_matrix(source, options.layer)
    genes = name_genes(stored.var, genes=options.genes, duplicates=options.duplicates)
    check_sum(options.duplicates if genes.mapping is not None else None, is_counts=False)
    column, column_decision = find_perturbation(
        source.obs,
        genes=set(genes.names),
        perturbation=options.perturbation,
        control=options.control,
        separator=options.separator,
        needs_control=False,
    )
    matrix = open_matrix(source, stored, options.backed)
    found = scan(matrix)
    check_values(found, genes=genes.names)
    unit, scale, scale_decision = _unit_and_scale(source, options, found)
    values = matrix.rows(np.arange(matrix.shape[0]))
    response = np.asarray((values if genes.mapping is None else values @ genes.mapping).toarray(), dtype=np.float64)
    queries, mean, contexts, row_decisions = _rows_to_queries(source, options, column, response)
    kind = Decision("kind", "response", "uns['kind']" if options.kind is None else "given", "--kind")
    return ResponseTable(
        name=source.name,
        scale=scale,
        genes=genes.names,
        queries=tuple(queries),
        response=mean,
        contexts=contexts,
        control=np.full((len(contexts), len(genes.names)), np.nan),
        unit=unit,
        decisions=(
            kind,
            column_decision,
            *column.reading.decisions,
            *row_decisions,
            scale_decision,
            *genes.decisions,
        ),
        uns={
            "source": str(source.uns.get("source") or source.name),
            "perturbation": perturbation_kind(source.obs, source.uns.get("perturbation")),
        },
    )


def _rows_to_queries(
    source: Source, options: ReadOptions, column: PerturbationColumn, response: np.ndarray
) -> tuple[list[Query], np.ndarray, tuple[str, ...], list[Decision]]:
    """The queries, their responses, the contexts, and what was decided of rows. Control rows must be zero."""
    condition = column.condition
    perturbed = np.array([c is not None and c != CONTROL for c in condition], dtype=bool)
    _check_control_rows(response[condition == CONTROL])
    if not perturbed.any():
        raise EmptyScreen(f"{source.name} has no row of a perturbed condition.")
    codes, contexts, decision = find_context(
        source.obs, is_control=~perturbed, context=options.context, needs_control=False
    )
    rows = np.flatnonzero(perturbed)
    queries, mean = _united([Query(str(condition[row]), contexts[codes[row]]) for row in rows], response[rows])
    return queries, mean, contexts, [decision, *_rows_decisions(len(rows), len(queries), len(response))]


def _response_matrix(source: Source, layer: str | None) -> StoredMatrix:
    key = layer or ("X" if "X" in source.matrices else "response")
    if key not in source.matrices:
        near = did_you_mean(key, source.matrices) if source.matrices else "It holds none."
        raise NoMatrix(f"{source.name} has no matrix {key[:60]!r}. {near}")
    return source.matrices[key]


def _unit_and_scale(source: Source, options: ReadOptions, found: Scan) -> tuple[str, Scale, Decision]:
    """Unit as stated, scale from it. Differences to control have both signs, or they are no differences."""
    stated = source.uns.get("unit")
    unit = stated if isinstance(stated, str) and stated else "unstated"
    if found.n_negative == 0:
        raise WrongKind(
            f"No value of {source.name} is negative (0 to {found.high:.4g}), so these are no differences to control.",
            "Pass --kind cells if its rows are cells.",
        )
    if options.scale not in (None, Scale.RESPONSE, Scale.ZSCORE):
        raise WrongScale(f"--scale {options.scale} cannot be the scale of responses.", "Pass response or zscore.")
    standardised = bool(re.search(r"z[- ]?scor", unit.casefold()))
    scale = Scale(options.scale) if options.scale else Scale.ZSCORE if standardised else Scale.RESPONSE
    share = found.n_negative / found.n_stored
    evidence = (
        f"{'given' if options.scale else 'unit: ' + unit}; {found.low:.3g} to {found.high:.3g}, {share:.0%} negative"
    )
    return unit, scale, Decision("scale", scale.value, evidence, "--scale")


def _check_control_rows(rows: np.ndarray) -> None:
    if len(rows) and np.abs(rows).max() > 1e-6:
        raise WrongKind(
            "The row of the control is not zero, so the rows are expression, not differences to control.",
            "Subtract the control first, or pass the cells.",
        )


def _united(queries: list[Query], response: np.ndarray) -> tuple[list[Query], np.ndarray]:
    """Each query once, in order of appearance; rows of the same query are averaged with one vote each."""
    order = list(dict.fromkeys(queries))
    place = {query: position for position, query in enumerate(order)}
    codes = np.array([place[query] for query in queries], dtype=np.int64)
    ones = np.ones(len(codes))
    sums = sparse.csr_matrix((ones, (codes, np.arange(len(codes)))), shape=(len(order), len(codes))) @ response
    return order, sums / np.bincount(codes, minlength=len(order))[:, None]


def _rows_decisions(n_perturbed: int, n_queries: int, n_rows: int) -> list[Decision]:
    decisions = []
    if n_perturbed > n_queries:
        evidence = f"{n_perturbed} rows make {n_queries} queries; rows of the same query are averaged"
        decisions.append(Decision("repeated rows", "averaged", evidence, "--context"))
    if n_rows > n_perturbed:
        evidence = f"{n_rows - n_perturbed} rows of control or without a label"
        decisions.append(Decision("rows left out", str(n_rows - n_perturbed), evidence, ""))
    return decisions
