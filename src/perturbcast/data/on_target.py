"""The on-target effect of each query: how far its own target moved, where that is measured."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from perturbcast.data.conditions import CONTROL, Query, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen

WEAK_Z = 2.0  # standard errors that the difference to control must exceed


@dataclass(frozen=True)
class OnTarget:
    """What a perturbation did to one of its own targets."""

    query: Query
    target: str
    control: float  # mean expression in control cells of the context; NaN for responses
    difference: float  # mean expression, query minus control, in the unit of the table
    log2_fold_change: float  # of mean counts per 10,000, both plus 0.01; NaN where the scale does not tell
    z: float  # difference over its standard error (Welch); NaN for responses and single cells


def on_target_effects(data: Screen | ResponseTable, *, block: int = 4096) -> list[OnTarget]:
    """One entry per query and measured target; one streaming pass over the cells."""
    place = {gene: position for position, gene in enumerate(data.genes)}
    if isinstance(data, ResponseTable):
        return [
            OnTarget(query, target, np.nan, float(data.response[row, place[target]]), np.nan, np.nan)
            for row, query in enumerate(data.queries)
            for target in targets_of(query.condition)
            if target in place
        ]
    targets = sorted({t for condition in data.conditions for t in targets_of(condition) if t in place})
    if not targets:
        return []
    moments = _moments(data, np.array([place[target] for target in targets]), block=block)
    column = {target: position for position, target in enumerate(targets)}
    return [
        _effect(data, query, target, moments, column[target])
        for query in data.queries()
        for target in targets_of(query.condition)
        if target in column
    ]


@dataclass(frozen=True)
class _Moments:
    """Sums over the cells of each query code."""

    n: np.ndarray  # (code,)
    total: np.ndarray  # (code, target) of expression
    square: np.ndarray  # (code, target)
    linear: np.ndarray  # (code, target) of counts per 10,000


def _moments(screen: Screen, genes: np.ndarray, *, block: int) -> _Moments:
    n_codes = len(screen.conditions) * len(screen.contexts)
    code = screen.query_code
    sums = np.zeros((3, n_codes, len(genes)))
    for cells in screen.blocks(size=block):
        values = screen.expression(cells)[:, genes].astype(np.float64)
        member = sparse.csr_matrix((np.ones(len(cells)), (code[cells], np.arange(len(cells)))), (n_codes, len(cells)))
        squares, linear = values.copy(), values.copy()
        squares.data = values.data**2
        linear.data = np.expm1(np.minimum(values.data, 50.0))
        for position, part in enumerate((values, squares, linear)):
            sums[position] += (member @ part).toarray()
    return _Moments(np.bincount(code, minlength=n_codes), *sums)


def _effect(screen: Screen, query: Query, target: str, moments: _Moments, column: int) -> OnTarget:
    context = screen.contexts.index(query.context) * len(screen.conditions)
    own, control = context + screen.conditions.index(query.condition), context + screen.conditions.index(CONTROL)
    mean, error = zip(*(_mean_and_error(moments, code, column) for code in (own, control)), strict=True)
    difference, spread = mean[0] - mean[1], float(np.hypot(*error))
    fold = np.nan
    if screen.scale.of_expression in (Scale.LOG1P_CP10K, Scale.LOG1P_CPM):
        unit = 1.0 if screen.scale.of_expression is Scale.LOG1P_CP10K else 0.01
        linear = [unit * moments.linear[code, column] / max(1, moments.n[code]) + 0.01 for code in (own, control)]
        fold = float(np.log2(linear[0] / linear[1]))
    z = difference / spread if np.isfinite(spread) and spread > 0 else np.nan
    return OnTarget(query, target, mean[1], difference, fold, float(z))


def _mean_and_error(moments: _Moments, code: int, column: int) -> tuple[float, float]:
    n = int(moments.n[code])
    mean = float(moments.total[code, column]) / max(1, n)
    if n < 2:
        return mean, np.nan
    variance = max(0.0, (float(moments.square[code, column]) - n * mean**2) / (n - 1))
    return mean, float(np.sqrt(variance / n))


def is_weak(effect: OnTarget, kind: str) -> bool:
    """Whether the target did not move as the kind of perturbation says (CRISPRi down, CRISPRa up, else either way)."""
    if not np.isfinite(effect.z):
        return False
    signed = {"CRISPRi": -effect.z, "CRISPRa": effect.z}.get(kind, abs(effect.z))
    return signed < WEAK_Z
