"""Which matrix of a file is read, X, a layer or raw, and on what scale it is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perturbcast.data.columns import bare
from perturbcast.data.read_options import ReadOptions
from perturbcast.data.scale import Scale
from perturbcast.data.scale_detection import ScaleReading, check_scale, detect_scale
from perturbcast.data.scan import Scan, check_values, scan
from perturbcast.data.screen import CellMatrix, Decision, InMemory
from perturbcast.data.source import Source, StoredMatrix, cannot_stream
from perturbcast.errors import NoMatrix, ValuesError, did_you_mean

IN_MEMORY_LIMIT = 2**30  # bytes of values and indices above which a file is streamed unless told otherwise
_COUNT_LAYERS = ("counts", "count", "rawcounts", "umi", "umis", "umicounts", "raw", "spliced+unspliced")


@dataclass(frozen=True)
class Examined:
    """A matrix that was opened and scanned once, and its scale."""

    stored: StoredMatrix
    matrix: CellMatrix
    found: Scan
    reading: ScaleReading
    decisions: tuple[Decision, ...] = ()


def choose_matrix(source: Source, options: ReadOptions, *, libraries: Mapping[str, np.ndarray]) -> Examined:
    """The matrix named, or X; or a layer of counts where X is not counts; or raw where X is absent or standardised.

    Raises NoMatrix, CannotStream, and the errors of values and scale.
    """
    if options.layer is not None:
        stored = _named(source, options.layer)
        examined = _examine(source, stored, options, libraries)
        return _decided(examined, source, "given")
    first, *others = _candidates(source)
    try:
        examined = _examine(source, first, options, libraries)
    except ValuesError as error:
        for other in others:
            better = _counts_in(source, other, options, libraries)
            if better is not None:
                return _decided(better, source, f"it holds counts; {first.key} does not: {error.fact}")
        raise
    if examined.reading.scale is Scale.COUNTS or options.scale is not None:
        return _decided(examined, source, "it is there" if first.key != "X" else "it holds " + examined.reading.scale)
    for other in others:
        if other.key == "raw" and examined.reading.scale is not Scale.ZSCORE:
            continue  # raw often has more genes than X; a usable X is what the author chose
        better = _counts_in(source, other, options, libraries)
        if better is not None:
            return _decided(better, source, f"it holds counts, {first.key} {examined.reading.scale}")
    return _decided(examined, source, f"it holds {examined.reading.scale}; no layer of counts beside it")


def _named(source: Source, layer: str) -> StoredMatrix:
    if layer in source.matrices:
        return source.matrices[layer]
    held = list(source.matrices)
    near = did_you_mean(layer, held) if held else "It holds none."
    raise NoMatrix(f"{source.name} has no matrix {layer[:60]!r}. {near}", "Pass X, raw or a layer to --layer.")


def _candidates(source: Source) -> list[StoredMatrix]:
    """X, layers named as counts are, and raw, those that exist; without any of them the only other layer."""
    layers = [key for key in source.matrices if key not in ("X", "raw") and bare(key) in _COUNT_LAYERS]
    order = [key for key in ("X", *layers, "raw") if key in source.matrices]
    if not order and len(source.matrices) == 1:
        order = list(source.matrices)
    if not order:
        held = ", ".join(repr(key) for key in source.matrices) or "none"
        raise NoMatrix(f"{source.name} has no X and no raw; its layers: {held}.")
    return [source.matrices[key] for key in order]


def open_matrix(source: Source, stored: StoredMatrix, backed: bool | None) -> CellMatrix:
    """The matrix in memory, or streamed if asked for or large; CannotStream if that cannot be."""
    large = source.in_file and 8 * stored.n_stored > IN_MEMORY_LIMIT
    if backed and stored.stream is None:
        raise cannot_stream(stored, source)
    if stored.stream is not None and (backed or (backed is None and large)):
        return stored.stream()
    return InMemory(stored.load())


def _examine(
    source: Source, stored: StoredMatrix, options: ReadOptions, libraries: Mapping[str, np.ndarray]
) -> Examined:
    matrix = open_matrix(source, stored, options.backed)
    found = scan(matrix)
    check_values(found, genes=np.asarray(stored.var.index))
    log1p = source.uns.get("log1p") if stored.key in ("X", "raw") else None
    if options.scale is not None:
        reading = check_scale(Scale(options.scale), found, layer=stored.key)
    else:
        reading = detect_scale(found, libraries=libraries, log1p=log1p, layer=stored.key)
    return Examined(stored, matrix, found, reading)


def _counts_in(
    source: Source, stored: StoredMatrix, options: ReadOptions, libraries: Mapping[str, np.ndarray]
) -> Examined | None:
    """The matrix if it holds counts (or the scale asked for); None if it cannot be used."""
    try:
        examined = _examine(source, stored, options, libraries)
    except ValuesError:
        return None
    return examined if examined.reading.scale is Scale.COUNTS or options.scale else None


def _decided(examined: Examined, source: Source, why: str) -> Examined:
    where = "in memory" if isinstance(examined.matrix, InMemory) else "streamed from disk"
    others = [key for key in source.matrices if key != examined.stored.key]
    beside = f"; also there: {', '.join(others[:4])}" if others else ""
    decisions = (
        Decision("matrix", examined.stored.key, f"{why}; {where}{beside}", "--layer"),
        Decision("scale", examined.reading.scale.value, "; ".join(examined.reading.signs), "--scale"),
    )
    return Examined(examined.stored, examined.matrix, examined.found, examined.reading, decisions)
