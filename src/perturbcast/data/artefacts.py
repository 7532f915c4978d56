"""Which cells are of low quality: limits by median absolute deviation, or labels that are given (spec 4.3)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import sparse

from perturbcast._progress import Progress
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.errors import BadOption, ShapesDiffer, UnknownColumn, did_you_mean

FLAGS = ("molecules", "genes", "mitochondrial", "ribosomal", "haemoglobin", "doublet")
LOW = ("molecules", "genes")  # fail below the limit; the others fail above
SHARES = ("mitochondrial", "ribosomal", "haemoglobin")
DEFAULT_FLAGS = ("molecules", "genes", "mitochondrial")
NORMAL = 1.4826  # median absolute deviations in a standard deviation of normal values
TOLD = (Scale.COUNTS, Scale.LOG1P_CP10K, Scale.LOG1P_CPM)  # from which shares of molecules can be told
MANY_DOUBLETS = 0.15  # more than loading of any usual depth gives
LEAST_CELLS = 30  # of a batch with limits of its own
ALL = "all cells"
FIRST_LETTERS: Mapping[str, Mapping[str, str]] = {
    "published": {"mitochondrial": r"^MT-", "ribosomal": r"^(RPS|RPL)", "haemoglobin": r"^HB[^P]"},
    # without kinases such as RPS6KA1, pseudogenes, HBEGF and HBS1L; mouse names differ in case only
    "strict": {
        "mitochondrial": r"^MT-",
        "ribosomal": r"^RP(S|L)(\d+[AXYL]?\d*|A|P\d)(L\d?)?$",
        "haemoglobin": r"^HB(A|B|D|E|G|M|Q|Z)\d?$",
    },
}


@dataclass(frozen=True)
class ArtefactRule:
    """When a cell fails. `PUBLISHED` is the rule of the CRADLE-VAE and GPO-VAE code, equation (14).

    Haemoglobin and ribosomal genes are off at first: in erythroid lines and under perturbations of ribosomal genes
    they are biology. Doublets are off because Scrublet takes about a minute per 10,000 cells.
    """

    threshold: float = 3.0  # t, in median absolute deviations; published 3, 4, 5
    flags: tuple[str, ...] = DEFAULT_FLAGS
    normal: bool = False  # deviations times 1.4826; published without
    floor: float = 0.05  # least deviation of molecules and genes, as a share of the median
    share_floor: float = 0.5  # least deviation of shares, in per cent of molecules
    per_batch: bool = True  # limits per context and batch
    names: Literal["strict", "published"] = "strict"  # how genes of a kind are recognised

    def __post_init__(self) -> None:
        for flag in self.flags:
            if flag not in FLAGS:
                raise BadOption(f"there is no quality flag {flag!r}. {did_you_mean(flag, FLAGS)}")
        if not (self.threshold > 0 and self.floor >= 0 and self.share_floor >= 0):
            raise BadOption("the threshold of quality must be above 0, its floors at least 0.")


PUBLISHED = ArtefactRule(flags=FLAGS, floor=0.0, share_floor=0.0, per_batch=False, names="published")


@dataclass(frozen=True)
class ArtefactLabels:
    """What `artefact_labels` found. `limits` has a row per batch and, last, one over all cells."""

    failed: Bool[np.ndarray, " cell"]  # any flag
    flags: Mapping[str, np.ndarray]  # flag -> (cell,) bool
    limits: pd.DataFrame  # batch x flag; NaN where there is none
    notes: tuple[str, ...]  # what could not be told, and why
    rule: ArtefactRule = field(default_factory=ArtefactRule)

    @property
    def share_failed(self) -> float:
        """Share of failing cells: mean(q), explicit, whichever kind is the larger (B16)."""
        return float(self.failed.mean()) if len(self.failed) else 0.0

    def judge(
        self,
        counts: Float[np.ndarray, "cell gene"] | sparse.csr_matrix,
        genes: np.ndarray,
        *,
        scale: Scale = Scale.COUNTS,
    ) -> Bool[np.ndarray, " cell"]:
        """Which of other cells, such as generated ones, fail the limits over all cells; doublets are not looked for."""
        quality = cell_quality(sparse.csr_matrix(counts), genes, names=self.rule.names, scale=scale)
        failed = np.zeros(len(quality), dtype=bool)
        for flag in self.limits.columns.intersection(quality.columns):
            failed |= _beyond(flag, quality[flag].to_numpy(), float(self.limits[flag].iloc[-1]))
        return failed


def artefact_labels(
    screen: Screen,
    *,
    rule: ArtefactRule | None = None,
    given: str | Bool[np.ndarray, " cell"] | None = None,
    quality: pd.DataFrame | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ArtefactLabels:
    """Which cells of a screen are of low quality.

    `given` are labels, or the covariate that holds them (true, or not 0: fails); they replace the rule. Otherwise a
    cell fails if any flag of the rule is beyond median ± threshold · deviation of its batch (14). Flags that cannot be
    told, such as mitochondrial genes where none is measured, are left out and named in `notes`. `quality` is what
    `screen_quality` gave for the screen, so that it is not computed again.
    Raises UnknownColumn and ShapesDiffer for `given`, BadOption for what is not true or false.
    Differs from the published code: limits per batch of 30 cells or more, deviations with a floor, so that a single
    molecule of haemoglobin fails no cell, doublets over all cells of a batch instead of eleven chunks.
    """
    if given is not None:
        failed = _given_labels(screen, given)
        note = f"labels were given: {int(failed.sum()):,} of {screen.n_cells:,} cells fail."
        return ArtefactLabels(failed, {"given": failed}, pd.DataFrame(index=[ALL]), (note,), rule or ArtefactRule())
    rule = rule or ArtefactRule()
    if quality is None:
        quality = screen_quality(screen, names=rule.names, progress=progress)
    batch, names = _batches(screen) if rule.per_batch else (np.zeros(screen.n_cells, dtype=np.int64), [])
    flags, limits, notes = {}, {}, []
    for flag in rule.flags:
        if flag == "doublet":
            flags[flag], said = doublets(screen, batch=batch, seed=seed)
            notes += said
        elif flag in quality:
            limits[flag] = _limits(flag, quality[flag].to_numpy(), batch, len(names), rule)
            flags[flag] = _beyond(flag, quality[flag].to_numpy(), limits[flag][batch])
            notes += _rests_on_one_gene(flag, screen, rule)
        else:
            notes.append(_why_not(flag, screen))
    failed = np.any(list(flags.values()), axis=0) if flags else np.zeros(screen.n_cells, dtype=bool)
    table = pd.DataFrame(limits, index=[*(names or [ALL]), ALL][: 1 + len(names)])
    return ArtefactLabels(failed, flags, table, tuple(notes), rule)


def screen_quality(
    screen: Screen, *, names: Literal["strict", "published"] = "strict", progress: Progress | None = None
) -> pd.DataFrame:
    """One row per cell with the columns that can be told: see `cell_quality`. One pass over the matrix, in blocks."""
    if screen.scale not in TOLD:
        return pd.DataFrame(index=range(screen.n_cells))
    blocks = list(screen.blocks())
    steps = (progress or Progress()).track(blocks, label="quality of cells", total=len(blocks))
    parts = [cell_quality(screen.stored(cells), screen.genes, names=names, scale=screen.scale) for cells in steps]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(index=range(0))


def cell_quality(
    values: sparse.csr_matrix, genes: np.ndarray, *, names: Literal["strict", "published"], scale: Scale
) -> pd.DataFrame:
    """Molecules (of counts only), genes, and the percentage of molecules in genes of each kind that is measured."""
    amounts = sparse.csr_matrix(values).astype(np.float64)
    if scale is not Scale.COUNTS:
        amounts.data = np.expm1(amounts.data)
    amounts.eliminate_zeros()
    total = np.asarray(amounts.sum(axis=1)).ravel()
    found = {"molecules": total} if scale is Scale.COUNTS else {}
    found["genes"] = np.diff(amounts.indptr).astype(np.float64)
    for kind, pattern in FIRST_LETTERS[names].items():
        chosen = _of_kind(genes, pattern)
        if chosen.any():
            part = np.asarray(amounts[:, chosen].sum(axis=1)).ravel()
            found[kind] = 100 * np.divide(part, total, out=np.zeros_like(total), where=total > 0)
    return pd.DataFrame(found)


def _of_kind(genes: np.ndarray, pattern: str) -> Bool[np.ndarray, " gene"]:
    """Whether the name of a gene begins as those of the kind do."""
    return np.array([re.match(pattern, str(gene).upper()) is not None for gene in genes], dtype=bool)


def _rests_on_one_gene(flag: str, screen: Screen, rule: ArtefactRule) -> list[str]:
    """What to say of a share that is that of a single gene, as in screens of few genes."""
    if flag not in SHARES:
        return []
    own = screen.genes[_of_kind(screen.genes, FIRST_LETTERS[rule.names][flag])]
    return [f"{flag}: told from one gene, {own[0]}, so a weak sign of damage."] if len(own) == 1 else []


def deviation_limit(
    values: Float[np.ndarray, " cell"], *, threshold: float, low: bool, floor: float = 0.0, normal: bool = False
) -> float:
    """median ∓ threshold · MAD, the MAD at least `floor` and raw unless `normal` (oracle O19)."""
    median = float(np.median(values))
    deviation = float(np.median(np.abs(values - median))) * (NORMAL if normal else 1.0)
    reach = threshold * max(deviation, floor)
    return median - reach if low else median + reach


def _limits(flag: str, values: np.ndarray, batch: np.ndarray, n_batches: int, rule: ArtefactRule) -> np.ndarray:
    """(batch + 1,) limits, over all cells last; small batches have those too."""

    def limit(some: np.ndarray) -> float:
        if not len(some):
            return float("nan")
        floor = rule.share_floor if flag in SHARES else rule.floor * float(np.median(some))
        return deviation_limit(some, threshold=rule.threshold, low=flag in LOW, floor=floor, normal=rule.normal)

    whole = limit(values)
    own = [values[batch == number] for number in range(n_batches)]
    return np.array([limit(part) if len(part) >= LEAST_CELLS else whole for part in own] + [whole])


def _beyond(flag: str, values: np.ndarray, limit: np.ndarray | float) -> np.ndarray:
    return np.asarray(values < limit if flag in LOW else values > limit)


def _batches(screen: Screen) -> tuple[Int[np.ndarray, " cell"], list[str]]:
    """(cell,) batch within context, and their names; batches without a label are one of their own."""
    labels = np.array(screen.contexts, dtype=object)[screen.context_code].astype(str)
    if "batch" in screen.covariates:
        own = screen.covariates["batch"].astype(str).to_numpy().astype(str)
        labels = np.char.add(np.char.add(labels, "/"), own)
    names, code = np.unique(labels, return_inverse=True)
    return code.reshape(-1).astype(np.int64), [str(name).strip("/") or ALL for name in names]


def _why_not(flag: str, screen: Screen) -> str:
    if screen.scale is not Scale.COUNTS and (flag == "molecules" or screen.scale not in TOLD):
        return f"{flag}: not told, because the screen holds {screen.scale.value} instead of counts."
    return f"{flag}: not told, because no such gene is measured."


def _given_labels(screen: Screen, given: str | np.ndarray) -> np.ndarray:
    if isinstance(given, str):
        if given not in screen.covariates:
            known = did_you_mean(given, map(str, screen.covariates.columns)) if len(screen.covariates.columns) else ""
            raise UnknownColumn(f"there is no column {given!r} with quality labels. {known}")
        values = screen.covariates[given].to_numpy()
    else:
        values = np.asarray(given)
    if values.shape != (screen.n_cells,):
        raise ShapesDiffer(f"{values.shape[0]:,} quality labels were given for {screen.n_cells:,} cells.")
    if pd.isna(values).any() or not set(np.unique(values.astype(str))) <= {"0", "1", "0.0", "1.0", "False", "True"}:
        raise BadOption("quality labels must be true (1, fails) or false (0), for every cell.")
    return np.isin(values.astype(str), ["1", "1.0", "True"])


# ---------------------------------------------------------------------------------------------------------- doublets
def doublets(
    screen: Screen, *, batch: Int[np.ndarray, " cell"], seed: int = 0
) -> tuple[Bool[np.ndarray, " cell"], list[str]]:
    """Doublets by Scrublet (through scanpy), batch by batch, and what is to be said.

    A cell is one where its score is above the valley between the two modes of simulated doublets' scores. In a batch
    where there is no valley, or of under 100 cells, none is called.
    """
    found = np.zeros(screen.n_cells, dtype=bool)
    if screen.scale is not Scale.COUNTS:
        return found, ["doublet: not told, because Scrublet needs counts."]
    without = 0
    for number in np.unique(batch):
        cells = np.flatnonzero(batch == number)
        scores, simulated = _scrublet(screen.stored(cells), seed=seed) if len(cells) >= 100 else (None, None)
        valley = None if simulated is None else valley_between_modes(simulated)
        if scores is None or valley is None:
            without += len(cells)
        else:
            found[cells] = scores > valley
    said = [f"doublet: not told for {without:,} cells, whose scores have no two modes."] if without else []
    if found.mean() > MANY_DOUBLETS:
        said.append(
            f"doublet: {found.mean():.0%} of the cells are called, more than is likely; look before you trust it."
        )
    return found, said


def _scrublet(counts: sparse.csr_matrix | sparse.csr_array, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(cell,) scores, and those of simulated doublets.

    Neighbours are exact: the approximate ones of pynndescent 0.7 come as sparse arrays, which scanpy 1.11 cannot read,
    from 8,192 observed and simulated cells. Nor can it normalise sparse arrays, hence the matrix.
    """
    import anndata
    import scanpy

    data = anndata.AnnData(sparse.csr_matrix(counts).astype(np.float32))
    components = max(2, min(30, counts.shape[0] - 2, counts.shape[1] // 10))  # scanpy keeps some of the genes
    with np.errstate(invalid="ignore"):  # scanpy's rates at a threshold that no score passes
        scanpy.pp.scrublet(
            data,
            random_state=seed,
            n_prin_comps=components,
            threshold=1.0,
            use_approx_neighbors=False,
            verbose=False,
        )
    simulated = np.asarray(data.uns["scrublet"]["doublet_scores_sim"])
    return data.obs["doublet_score"].to_numpy(), simulated


def valley_between_modes(values: Float[np.ndarray, " value"], *, n_bins: int = 256) -> float | None:
    """The lowest point between the two modes of a histogram, smoothed until it has two; None where it never has.

    Prewitt and Mendelsohn 1966; what Scrublet calls its automatic threshold.
    """
    counts, edges = np.histogram(values, bins=n_bins)
    height = counts.astype(np.float64)
    for _ in range(10_000):
        padded = np.pad(height, 1, mode="edge")
        height = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
        rising = np.diff(height) > 0
        peaks = np.flatnonzero(rising[:-1] & ~rising[1:]) + 1
        if len(peaks) <= 2:
            break
    if len(peaks) != 2:
        return None
    lowest = peaks[0] + int(np.argmin(height[peaks[0] : peaks[1] + 1]))
    return float((edges[lowest] + edges[lowest + 1]) / 2)
