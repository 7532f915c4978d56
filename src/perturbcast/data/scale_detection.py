"""Which scale a matrix has, decided by several signs that are stated; a doubtful one is an error, never a guess."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from perturbcast.data.scale import Scale
from perturbcast.data.scan import Scan
from perturbcast.errors import NegativeValues, UndecidedScale, WrongScale

_LOG_LIMIT = 20.0  # log2 of a million: no logarithm of expression is larger
_MOST_MOLECULES = 1e5  # in a cell; of more, float32 cannot tell a whole number from any other
_STEADY = 0.01  # relative spread of row sums that were all brought to one total


@dataclass(frozen=True)
class ScaleReading:
    """A scale and the signs that it was decided by."""

    scale: Scale
    signs: tuple[str, ...] = ()


@dataclass(frozen=True)
class LogSigns:
    """What undoing a logarithm of one base gives, over the sampled cells."""

    base: str
    total: float  # median sum of a cell after undoing it
    spread: float  # of these sums, relative
    two_totals: bool  # cells around two totals, such as CP10k and CPM
    whole: float  # share of cells whose values become whole multiples of their smallest
    unit: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (cell,) value of one molecule, NaN where unknown


_UNDO: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "e": np.expm1,
    "2": lambda x: np.exp2(x) - 1,
    "10": lambda x: np.power(10.0, x) - 1,
}


def detect_scale(
    found: Scan, *, libraries: Mapping[str, np.ndarray] | None = None, log1p: Any = None, layer: str = "X"
) -> ScaleReading:
    """The scale of the scanned matrix. `log1p` is ``uns["log1p"]``; `libraries` are columns of cell totals.

    Raises UndecidedScale when cells of several scales are mixed or the signs do not suffice, NegativeValues when a
    few values are negative in what otherwise is expression.
    """
    if found.n_negative:
        return _with_negatives(found)
    filled = found.row_stored > 0
    integer = found.row_integer[filled]
    if integer.all():
        return _counts(found, libraries or {}, log1p)
    sums = found.row_sum[filled]
    if found.high > 1 and np.std(sums) < 0.1 * _STEADY * np.mean(sums) and len(sums) > 1:
        raise UndecidedScale(
            f"Every cell of {layer} sums to {np.median(sums):,.6g}: brought to one total, but no logarithm was taken.",
            "Take log1p, name a layer of counts with --layer, or pass --scale counts.",
        )
    if integer.sum() >= max(1, 0.002 * len(integer)) and not _few_digits(found):
        raise UndecidedScale(
            f"{layer} mixes scales: {int(integer.sum()):,} cells hold only integers and"
            f" {int((~integer).sum()):,} do not, up to {found.high:.4g}."
        )
    if found.high > _LOG_LIMIT:
        raise UndecidedScale(
            f"{layer} holds values up to {found.high:.4g} that are no integers: normalised or corrected, but not a"
            " logarithm.", "Take log1p, name a layer of counts with --layer, or pass --scale counts."
        )  # fmt: skip
    return _logarithm(found, libraries or {}, log1p, layer)


def _few_digits(found: Scan) -> bool:
    """Values rounded to a few digits can be integers by chance."""
    values = found.sample.data[:20_000].astype(np.float64) * 1000
    return bool(np.abs(values - np.rint(values)).max(initial=0) < 1e-2)


def _counts(found: Scan, libraries: Mapping[str, np.ndarray], log1p: Any) -> ScaleReading:
    if found.high <= 1:
        raise UndecidedScale("Every value is 0 or 1: counts made binary, or few molecules.", "Pass --scale counts.")
    signs = [f"all {found.n_stored:,} values are integers", f"largest {found.high:,.0f}"]
    for name, library in libraries.items():
        if np.isfinite(library).all() and (library >= found.row_sum * (1 - 1e-6)).all():
            signs.append(f"no cell has more molecules than obs[{name!r}]")
    if log1p is not None:
        signs.append("against it: uns['log1p'] says that a logarithm was taken, but integers are no logarithms")
    return ScaleReading(Scale.COUNTS, tuple(signs))


def _with_negatives(found: Scan) -> ScaleReading:
    mean = found.gene_sum / found.shape[0]
    deviation = np.sqrt(found.gene_variance)
    varying = deviation > 0
    share = found.n_negative / found.n_stored
    if varying.any():
        centred = float((np.abs(mean[varying]) < 0.1).mean())
        unit = float(((deviation[varying] > 0.5) & (deviation[varying] < 1.5)).mean())
        if centred >= 0.9 and unit >= 0.8:
            signs = (
                f"{share:.0%} of values are negative",
                f"{centred:.0%} of genes have mean 0, {unit:.0%} deviation 1",
            )
            return ScaleReading(Scale.ZSCORE, signs)
    if share < 0.05 or found.row_integer.all():
        raise NegativeValues(
            f"{found.n_negative:,} of {found.n_stored:,} stored values are negative, to {found.low:.4g}."
        )
    raise UndecidedScale(
        f"{share:.0%} of values are negative, but genes are not standardised (mean 0, deviation 1).",
        "Name the counts with --layer, or pass --scale zscore, or --scale response for differences to control.",
    )


# ---------------------------------------------------------------------------------------------------------- logarithms
def _logarithm(found: Scan, libraries: Mapping[str, np.ndarray], log1p: Any, layer: str) -> ScaleReading:
    signs = [f"no integers, largest {found.high:.3g}", *_recorded(log1p)]
    readings = {base: log_signs(found.sample, base=base) for base in _UNDO}
    if any(reading.two_totals for reading in readings.values()):
        raise UndecidedScale(f"{layer} mixes cells that were brought to different totals before the logarithm.")
    steady = [reading for reading in readings.values() if reading.spread < _STEADY]
    if steady:
        best = min(steady, key=lambda reading: reading.spread)
        signs.append(f"undone (base {best.base}), every cell sums to {best.total:,.0f}")
        return ScaleReading(_scale_of(best.base, best.total), tuple(signs))
    whole = max(readings.values(), key=lambda reading: reading.whole)
    if whole.whole >= 0.95:
        signs.append(
            f"undone (base {whole.base}), {whole.whole:.0%} of cells are whole multiples of their smallest value"
        )
        total, why = _total_of_units(whole, found, libraries)
        return ScaleReading(_scale_of(whole.base, total), (*signs, *why))
    if whole.whole > 0.05:
        signs.append(f"only {whole.whole:.0%} of cells become whole multiples of one value")
    if _is_twice(found):
        raise UndecidedScale(f"{layer} looks like a logarithm taken twice: undone twice, its cells are counts.")
    if log1p is not None:
        return ScaleReading(Scale.LOG_OTHER, (*signs, "row sums vary: another total, or genes were left out"))
    raise UndecidedScale(f"The scale of {layer} cannot be told: {'; '.join(signs)}; undone, cells sum to no one total.")


def _recorded(log1p: Any) -> list[str]:
    if log1p is None:
        return []
    base = log1p.get("base") if isinstance(log1p, Mapping) else None
    return [f"uns['log1p'] is set{'' if base is None else f' (base {base})'}"]


def _scale_of(base: str, total: float) -> Scale:
    if base == "e" and abs(total / 1e4 - 1) < 0.03:
        return Scale.LOG1P_CP10K
    return Scale.LOG1P_CPM if base == "e" and abs(total / 1e6 - 1) < 0.03 else Scale.LOG_OTHER


def log_signs(sample: sparse.csr_matrix, *, base: str) -> LogSigns:
    """Row sums and whole multiples after undoing a logarithm of 1 + x."""
    filled = sample[np.diff(sample.indptr) > 0]
    values = _UNDO[base](np.minimum(filled.data.astype(np.float64), 60.0))
    starts = filled.indptr[:-1]
    sums = np.add.reduceat(values, starts)
    smallest = np.minimum.reduceat(values, starts)
    unit = _units(values, smallest, starts, logs=filled.data)
    varied = np.maximum.reduceat(values, starts) > 1.5 * smallest  # a cell of one value only is always whole
    whole = float(np.isfinite(unit[varied]).mean()) if varied.any() else 0.0
    total = float(np.quantile(sums, 0.5, method="lower"))  # the sum of a cell, not between two
    near = np.abs(sums / total - 1) < _STEADY
    far = ~near & (np.maximum(sums / total, total / sums) > 5)
    steady_far = far.any() and np.std(sums[far]) / np.mean(sums[far]) < _STEADY
    two = bool(near.mean() >= 0.2 and far.mean() >= 0.005 and near.mean() + far.mean() > 0.99 and steady_far)
    return LogSigns(base, total, float(np.std(sums) / np.mean(sums)), two, whole, unit)


def _units(values: np.ndarray, smallest: np.ndarray, starts: np.ndarray, *, logs: np.ndarray) -> np.ndarray:
    """(cell,) value of one molecule: the smallest value, or half or a third of it, if all are multiples; else NaN."""
    n_values = np.diff([*starts, len(values)])
    unit = np.full(len(smallest), np.nan)
    for molecules in (3, 2, 1):
        ratio = values / np.repeat(smallest / molecules, n_values)
        # float32 keeps seven digits of the logarithm, so large multiples are whole only to some digits
        off = np.abs(ratio - np.rint(ratio)) > 0.02 + 2e-6 * ratio * np.maximum(logs, 1)
        unit = np.where(np.add.reduceat(off.astype(np.int64), starts) == 0, smallest / molecules, unit)
    return unit


def _total_of_units(signs: LogSigns, found: Scan, libraries: Mapping[str, np.ndarray]) -> tuple[float, tuple[str, ...]]:
    """The total that cells were brought to: one molecule is worth total / molecules of the cell."""
    unit = signs.unit[np.isfinite(signs.unit)]
    for total in (1e4, 1e6):
        molecules = total / unit
        whole = np.abs(molecules - np.rint(molecules)) < 0.02 + 2e-6 * molecules
        tens = np.abs(molecules / 10 - np.rint(molecules / 10)) < 0.02
        plausible = 50 < float(np.median(molecules)) < _MOST_MOLECULES
        if plausible and whole.mean() >= 0.8 and tens.mean() < 0.8 and len(unit) >= 10:
            why = f"one molecule is {total:,.0f} / a whole number, {np.median(molecules):,.0f} in the median cell"
            return total, (why, *_library_sign(signs, found, libraries, total))
    for name, library in libraries.items():
        implied = _implied_totals(signs, found, library)
        if len(implied) and np.subtract(*np.percentile(implied, [75, 25])) < 0.05 * np.median(implied):
            total = float(np.median(implied))
            return total, (f"one molecule times obs[{name!r}] is {total:,.0f}",)
    return 0.0, ("the total that cells were brought to is not 10,000 or a million",)


def _implied_totals(signs: LogSigns, found: Scan, library: np.ndarray) -> np.ndarray:
    n_cells = found.shape[0]
    sampled = np.unique(np.linspace(0, n_cells - 1, found.sample.shape[0]).astype(np.int64))
    kept = library[sampled][np.diff(found.sample.indptr) > 0]
    implied = signs.unit * kept
    return implied[np.isfinite(implied)]


def _library_sign(signs: LogSigns, found: Scan, libraries: Mapping[str, np.ndarray], total: float) -> tuple[str, ...]:
    for name, library in libraries.items():
        implied = _implied_totals(signs, found, library)
        if len(implied) and abs(np.median(implied) / total - 1) < 0.05:
            return (f"one molecule times obs[{name!r}] agrees ({np.median(implied):,.0f})",)
    return ()


def _is_twice(found: Scan) -> bool:
    if found.high > 4:
        return False
    once = found.sample.copy()
    once.data = np.expm1(once.data.astype(np.float64))
    again = log_signs(once, base="e")
    return again.spread < _STEADY or again.whole >= 0.95


# ------------------------------------------------------------------------------------------------------ given by user
def check_scale(given: Scale, found: Scan, *, layer: str = "X") -> ScaleReading:
    """The scale that the user gave; WrongScale or NegativeValues where the numbers contradict it."""
    reason = _contradiction(given, found)
    if reason and found.n_negative and given in (Scale.COUNTS, Scale.LOG1P_CP10K, Scale.LOG1P_CPM, Scale.LOG_OTHER):
        raise NegativeValues(f"--scale {given} cannot be: {reason}.")
    if reason:
        raise WrongScale(f"--scale {given} contradicts {layer}: {reason}.", "Leave --scale out, or name another layer.")
    return ScaleReading(given, ("given",))


def _contradiction(given: Scale, found: Scan) -> str:
    if given in (Scale.ZSCORE, Scale.RESPONSE):
        return "" if found.n_negative else "no value is negative"
    if found.n_negative:
        return f"{found.n_negative:,} values are negative"
    whole = bool(found.row_integer.all())
    if given is Scale.COUNTS:
        return (
            f"values are no integers and none is above {found.high:.3g}"
            if not whole and found.high <= _LOG_LIMIT
            else ""
        )
    limit = {Scale.LOG1P_CP10K: np.log1p(1e4), Scale.LOG1P_CPM: np.log1p(1e6)}.get(given, 60.0)
    if found.high > limit * 1.0001:
        return f"the largest value, {found.high:.4g}, is above {limit:.4g}, where all of a cell is one gene"
    if whole:
        return "all values are integers, which are counts"
    total = {Scale.LOG1P_CP10K: 1e4, Scale.LOG1P_CPM: 1e6}.get(given)
    signs = log_signs(found.sample, base="e")
    if total and signs.spread < _STEADY and signs.total > 1.05 * total:
        return f"undone, every cell sums to {signs.total:,.0f}"
    return ""
