"""Hostile inputs: name -> (builder(folder) -> (path, arguments of `read`), error). Shared by the CLI tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from h5ad_files import GENES, LABELS, counts, log1p_of, response_adata, screen_adata, written
from hostile_files import FILE_CASES, Built, Case
from scipy import sparse

from perturbcast.errors import (
    BadCondition,
    BadOption,
    EmptyScreen,
    NegativeValues,
    NoControl,
    NoPerturbationColumn,
    NotFinite,
    NoVariance,
    TooFewCells,
    UndecidedScale,
    UnknownColumn,
    UnknownControl,
    UnknownOption,
    WrongKind,
    WrongScale,
)

Make = Callable[[], anndata.AnnData]


def _file(make: Make, **arguments: Any) -> Callable[[Path], Built]:
    return lambda folder: (written(folder, make()), arguments)


def _screen(labels: list[str] | None = None, **parts: Any) -> Make:
    return lambda: screen_adata(labels, **parts)


def _with(position: int, value: float, *, dense: bool = False) -> Make:
    """Counts with one stored value replaced."""
    matrix = counts(60).astype(np.float64)
    matrix.data[position] = value
    return _screen(X=matrix.toarray() if dense else matrix)


def _mixed(totals: dict[int, float | None]) -> Make:
    """Cells from each position on brought to a total and logged, or left as counts (None)."""
    parts = []
    bounds = [*totals, 60]
    for start, stop, total in zip(bounds[:-1], bounds[1:], totals.values(), strict=True):
        part = counts(60)[start:stop]
        parts.append(part if total is None else log1p_of(part, total))
    return _screen(X=sparse.vstack(parts, format="csr"))


def _of_data(change: Callable[[np.ndarray], np.ndarray], matrix: sparse.csr_matrix | None = None) -> Make:
    values = (counts(60) if matrix is None else matrix).copy()
    values.data = change(values.data.astype(np.float64))
    return _screen(X=values)


def _noise(folder: Path) -> Built:
    values = np.random.default_rng(3).uniform(0.1, 5.0, size=(60, len(GENES)))
    return written(folder, screen_adata(X=sparse.csr_matrix(values))), {}


def _scaled(center: float, spread: float) -> Make:
    values = np.random.default_rng(3).normal(center, spread, size=(60, len(GENES)))
    return _screen(X=values.astype(np.float32))


_TOTAL = np.repeat(np.asarray(counts(60).sum(axis=1)).ravel(), np.diff(counts(60).indptr))
_CP10K = log1p_of(counts(60))
_CPM = log1p_of(counts(60), 1e6)
_OTHER = ["control", "MYC", "SPI1", "GENE1", "GENE2"]

NAME_CASES: dict[str, Case] = {
    "no control": (_file(_screen(["STAT1", "JAK2", "SPI1"])), NoControl),
    "control misspelt in the file": (_file(_screen(["contrl", "STAT1", "JAK2"])), NoControl),
    "labels of several lines": (_file(_screen(["STAT1\nJAK2", "SPI1\r\nE999 Fine: go on", "MYC"])), NoControl),
    "labels that move the cursor": (_file(_screen(["\x1b[2J\x1b[31mSTAT1", "JAK2", "MYC"])), NoControl),
    "labels of ten thousand letters": (_file(_screen(["S" * 10_000, "JAK2", "MYC"])), NoControl),
    "control misspelt in the argument": (_file(_screen(), control="contrl"), UnknownControl),
    "control that is not there": (_file(_screen(), control="non-targeting"), UnknownControl),
    "one of two controls not there": (_file(_screen(), control="control,NTC"), UnknownControl),
    "blank control": (_file(_screen(), control=" "), BadOption),
    "unknown perturbation column": (_file(_screen(), perturbation="perturbaton"), UnknownColumn),
    "unknown context column": (_file(_screen(), context="cell_lnie"), UnknownColumn),
    "unknown gene column": (_file(_screen(), genes="symbol"), UnknownColumn),
    "no perturbation column": (_file(_screen(["a", "b", "c"], column="cluster")), NoPerturbationColumn),
    "two columns that disagree": (
        _file(_screen(obs={"condition": [label for label in _OTHER for _ in range(12)][::-1]})), NoPerturbationColumn,
    ),
    "column of nothing": (_file(_screen(obs={"empty": np.nan}), perturbation="empty"), NoPerturbationColumn),
    "label that ends in a plus": (_file(_screen(["control", "STAT1+", "JAK2"])), BadCondition),
    "label with two plus signs": (_file(_screen(["control", "STAT1++JAK2", "JAK2"])), BadCondition),
    "label of a plus": (_file(_screen(["control", "+", "JAK2"])), BadCondition),
    "plus inside a target": (_file(_screen(["control", "STAT1+JAK2|SPI1"]), separator="|"), BadCondition),
    "blank separator": (_file(_screen(), separator=" "), BadOption),
    "unknown scale": (_file(_screen(), scale="log1p_cp10"), UnknownOption),
    "unknown kind": (_file(_screen(), kind="responses"), UnknownOption),
    "unknown way with duplicates": (_file(_screen(), duplicates="mean"), UnknownOption),
    "no cells at least": (_file(_screen(), min_cells=0), BadOption),
    "context without control": (_file(_screen(obs={"cell_line": ["K562"] * 50 + ["RPE1"] * 10})), NoControl),
    "chosen context without control": (
        _file(_screen(obs={"lot": ["one"] * 50 + ["two"] * 10}), context="lot"), NoControl,
    ),
    "context with holes": (_file(_screen(obs={"lot": ["one"] * 50 + [None] * 10}), context="lot"), BadOption),
    "control lost by guide quality": (
        _file(_screen(obs={"grna_frac": [0.1] * 12 + [0.9] * 48, "grna_umi": [9.0] * 60})), NoControl,
    ),
}  # fmt: skip

VALUE_CASES: dict[str, Case] = {
    "no cells": (_file(lambda: screen_adata()[:0].copy()), EmptyScreen),
    "no genes": (_file(lambda: screen_adata()[:, :0].copy()), EmptyScreen),
    "no molecule": (_file(_screen(X=sparse.csr_matrix((60, 20), dtype=np.float32))), EmptyScreen),
    "zeros that are stored": (_file(_of_data(np.zeros_like)), EmptyScreen),
    "only control cells": (_file(_screen(["control", "NTC"]), perturbation="perturbation"), EmptyScreen),
    "no clear guide": (_file(_screen(obs={"grna_frac": [0.1] * 60})), EmptyScreen),
    "NaN": (_file(_with(5, np.nan)), NotFinite),
    "NaN in a dense matrix": (_file(_with(5, np.nan, dense=True)), NotFinite),
    "infinite": (_file(_with(5, np.inf)), NotFinite),
    "too large to hold": (_file(_with(5, 1e300)), NotFinite),
    "one negative count": (_file(_with(5, -1)), NegativeValues),
    "negative log": (_file(_of_data(lambda x: np.where(np.arange(len(x)) == 5, -0.1, x), _CP10K)), NegativeValues),
    "no variance": (_file(_screen(X=np.full((60, 20), 2.0, dtype=np.float32))), NoVariance),
    "counts and logs mixed": (_file(_mixed({0: None, 30: 1e4})), UndecidedScale),
    "one logged cell among counts": (_file(_mixed({0: None, 59: 1e4})), UndecidedScale),
    "one cell of counts among logs": (_file(_mixed({0: 1e4, 59: None})), UndecidedScale),
    "two totals mixed": (_file(_mixed({0: 1e4, 30: 1e6})), UndecidedScale),
    "one cell of another total": (_file(_mixed({0: 1e4, 59: 1e6})), UndecidedScale),
    "brought to a total, not logged": (_file(_of_data(lambda x: x / _TOTAL * 1e4)), UndecidedScale),
    "logged twice": (_file(_of_data(np.log1p, _CP10K)), UndecidedScale),
    "binary": (_file(_of_data(np.sign)), UndecidedScale),
    "centred but not scaled": (_file(_scaled(0.0, 4.0)), UndecidedScale),
    "shifted and signed": (_file(_scaled(0.7, 1.0)), UndecidedScale),
    "numbers that say nothing": (_noise, UndecidedScale),
    "logs said to be counts": (_file(_screen(X=_CP10K), scale="counts"), WrongScale),
    "counts said to be logs": (_file(_screen(), scale="log1p_cp10k"), WrongScale),
    "counts said to be other logs": (_file(_screen(), scale="log_other"), WrongScale),
    "CPM said to be CP10k": (_file(_screen(X=_CPM), scale="log1p_cp10k"), WrongScale),
    "counts said to be z-scores": (_file(_screen(), scale="zscore"), WrongScale),
    "z-scores said to be logs": (_file(_scaled(0.0, 1.0), scale="log1p_cp10k"), NegativeValues),
    "sums of repeated logs": (
        _file(_screen(X=_CP10K, var={"symbol": ["A1", "A1", *GENES[2:]]}), genes="symbol", duplicates="sum"), BadOption,
    ),
    "one cell per condition": (_file(_screen(n_each=1, X=counts(5))), TooFewCells),
    "one control cell": (
        _file(lambda: screen_adata()[[0, *range(12, 60)]].copy()), TooFewCells,
    ),
    "fewer cells than asked for": (_file(_screen(), min_cells=13), TooFewCells),
    "responses that do not say so": (_file(lambda: response_adata(kind=None)), WrongKind),
    "counts said to be responses": (_file(_screen(), kind="response"), WrongKind),
    "responses with a control that moved": (_file(lambda: response_adata(["ctrl", *LABELS[1:]])), WrongKind),
    "responses with NaN": (_file(lambda: response_adata(X=np.full((4, 20), np.nan, dtype=np.float32))), NotFinite),
    "responses without effect": (_file(lambda: response_adata(X=np.zeros((4, 20), dtype=np.float32))), EmptyScreen),
    "responses said to be counts": (_file(response_adata, scale="counts"), WrongScale),
    "responses with too few cells": (_file(response_adata, min_cells=5), BadOption),
    "responses with a label in pieces": (_file(lambda: response_adata(["STAT1", "JAK2+", "MYC"])), BadCondition),
    "responses read from a layer not there": (
        _file(lambda: response_adata(), layer="response"), FILE_CASES["unknown layer"][1],
    ),
}  # fmt: skip

HOSTILE_CASES: dict[str, Case] = {**FILE_CASES, **NAME_CASES, **VALUE_CASES}
