"""From a mean prediction to cells (spec F.12): what metrics of whole cells need of a model that predicts means.

Three ways, all starting from real control cells of the query's context. `shift` is F-36: add the response in log space,
clip at 0, go back to molecules by stochastic rounding. `nb` is F-37: fresh Gamma-Poisson draws at the depth of control
cells. `coupled`, the default, draws from the distribution of F-37 *given* a control cell: molecules of a gene that goes
down are thinned, those of a gene that goes up are added to, so that mean and variance are those of F-37 and the
correlation between genes is that of control. A model that generates cells has its own (`generated_cells`), which
metrics of distributions compare; tests of differential expression take cells drawn from its mean, as of any other
model, because they compare with real control cells. `shift` clips the zeros and so hardly lowers a sparse gene: on
sparse screens it misses most genes that go down (measured in docs/METRICS.md). No dense matrix of more than one query
is made.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import sparse

from perturbcast._types import Profile
from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.errors import BadOption, CannotPredict, MetricNeeds
from perturbcast.metrics.base import Evaluation

MOST_CELLS = 128  # drawn per query; p-values depend on n, so every model is given the same n (F-12, F-37)
MOST_CONTROL = 4096  # control cells used per context
MOST_STORED = 15_000_000  # non-zero entries of drawn cells kept per evaluation (120 MB); beyond it they are drawn again
LOWEST_DISPERSION, HIGHEST_DISPERSION = 0.1, 1e4  # theta, F-37
LARGEST_FOLD = 1e3  # of a gene that control expresses; guards against responses on a wrong scale

WAYS = ("coupled", "shift", "nb")


@dataclass(frozen=True)
class Cells:
    """Some cells in molecules. `unit` is what one molecule of each cell is worth, in counts per 10,000 (or million)."""

    counts: sparse.csr_matrix  # (cell, gene) float32
    unit: Float[ndarray, " cell"]

    @property
    def linear(self) -> sparse.csr_matrix:
        """(cell, gene) counts per 10,000 (or the total that the screen's logarithm was taken of)."""
        return self._with(self._linear_entries())

    @property
    def expression(self) -> sparse.csr_matrix:
        """(cell, gene) natural log of 1 + linear, rounded as `Screen.expression` rounds, so that ties are the same."""
        return self._with(np.log1p(self._linear_entries()))

    def _linear_entries(self) -> ndarray:
        return self.counts.data * np.repeat(self.unit, np.diff(self.counts.indptr))

    def _with(self, entries: ndarray) -> sparse.csr_matrix:
        parts = (entries.astype(np.float32), self.counts.indices, self.counts.indptr)
        return sparse.csr_matrix(parts, shape=self.counts.shape)


@dataclass(frozen=True)
class ControlCells:
    """Control cells of one context and the moments that draws start from."""

    cells: Cells
    expression: Profile  # mean log expression
    linear: Profile  # mean of the linear scale
    dispersion: Profile  # theta of the negative binomial, F-37


def cells_of(screen: Screen, index: ndarray) -> Cells:
    """Some cells of a screen in molecules.

    Where the screen holds a logarithm of normalised counts, the smallest non-zero value of a cell is taken as one
    molecule of it. MetricNeeds for z-scores and responses, which have no molecules.
    """
    stored = screen.stored(index).astype(np.float32)
    stored.eliminate_zeros()
    if screen.scale in (Scale.ZSCORE, Scale.RESPONSE) or (stored.nnz and stored.data.min() < 0):
        raise MetricNeeds(f"cells on the scale {screen.scale} have no molecules to draw.")
    per_cell = np.diff(stored.indptr)
    if screen.scale is Scale.COUNTS:
        library = np.asarray(stored.sum(axis=1)).ravel() if screen.library is None else screen.library[index]
        return Cells(stored, np.divide(1e4, library, out=np.zeros(len(index)), where=np.asarray(library) > 0))
    stored.data = np.expm1(stored.data)
    unit = np.ones(len(index))
    occupied = per_cell > 0
    if stored.nnz:
        unit[occupied] = np.minimum.reduceat(stored.data, stored.indptr[:-1][occupied])
    stored.data = np.rint(stored.data / np.repeat(unit, per_cell)).astype(np.float32)
    return Cells(stored, unit)


def negative_binomial_dispersion(cells: Cells) -> Profile:
    """(gene,) theta by moments, at the depth of the cells: mu^2 / (variance - mu), floor 0.1, cap 10,000 (F-37)."""
    depth = np.divide(1.0, cells.unit, out=np.zeros(len(cells.unit)), where=cells.unit > 0)
    even = cells.linear  # molecules at the mean depth, so that uneven depth does not look like dispersion
    even.data = even.data * np.float32(depth.mean())
    mean = np.asarray(even.mean(axis=0)).ravel()
    square = even.copy()
    square.data = square.data**2
    variance = np.asarray(square.mean(axis=0)).ravel() - mean**2
    typical = depth.mean() * np.divide(1.0, depth, out=np.zeros(len(depth)), where=depth > 0).mean()
    theta = mean**2 / np.maximum(variance - mean * typical, 1e-12)
    return np.clip(theta, LOWEST_DISPERSION, HIGHEST_DISPERSION).astype(np.float64)


def control_cells(evaluation: Evaluation, context: str) -> ControlCells:
    """Control cells of a context, at most `MOST_CONTROL`, chosen once per evaluation; MetricNeeds if there are none."""
    key = ("control cells", context)
    if key not in evaluation.cache:
        screen = evaluation.screen
        if screen is None:
            raise MetricNeeds("this metric reads cells, and these data are responses.")
        index = screen.cells_of(Query(CONTROL, context))
        if len(index) < 2:
            raise MetricNeeds(f"there are {len(index)} control cells in context {context!r}; at least 2 are needed.")
        if len(index) > MOST_CONTROL:
            index = np.sort(np.random.default_rng(evaluation.seed).choice(index, MOST_CONTROL, replace=False))
        cells = cells_of(screen, index)
        evaluation.cache[key] = ControlCells(
            cells=cells,
            expression=np.asarray(cells.expression.mean(axis=0), dtype=np.float64).ravel(),
            linear=np.asarray(cells.linear.mean(axis=0), dtype=np.float64).ravel(),
            dispersion=negative_binomial_dispersion(cells),
        )
    held = evaluation.cache[key]
    assert isinstance(held, ControlCells)
    return held


def predicted_linear(control: ControlCells, response: Profile) -> Profile:
    """(gene,) predicted mean on the linear scale: control's, times expm1(m0 + response) / expm1(m0).

    So no response gives control exactly; for sparse genes (mean log proportional to the mean) and for abundant ones
    (response = log ratio) the mapping is right. A gene silent in control gets expm1(response).
    """
    predicted = np.expm1(np.clip(control.expression + response, 0.0, 30.0))
    base = np.expm1(control.expression)
    fold = np.divide(predicted, base, out=np.zeros_like(base), where=base > 0)
    return np.where(base > 0, control.linear * np.minimum(fold, LARGEST_FOLD), predicted)


def shift_cells(control: Cells, response: Profile, *, seed: int, silent: Profile | None = None) -> Cells:
    """The cells with the response added to log expression, in molecules again (F-36); same depth per cell.

    Clip at 0, invert the logarithm, stochastic rounding. Genes silent in all these cells get Poisson molecules of
    linear mean `silent` (default expm1 of the response).
    """
    rng = np.random.default_rng(seed)
    logged = control.expression.toarray().astype(np.float64)
    mean = np.expm1(np.minimum(np.maximum(logged + response, 0.0), 30.0)) / np.maximum(control.unit, 1e-12)[:, None]
    molecules = np.floor(mean + rng.random(mean.shape))
    never = np.asarray(control.counts.getnnz(axis=0) == 0)
    level = np.expm1(np.clip(response, 0.0, 30.0)) if silent is None else silent
    depth = 1 / np.maximum(control.unit, 1e-12)
    molecules[:, never] = rng.poisson(np.minimum(depth[:, None] * level[never], 1e9))
    return Cells(sparse.csr_matrix(molecules.astype(np.float32)), control.unit)


def negative_binomial_cells(linear: Profile, dispersion: Profile, *, unit: ndarray, seed: int) -> Cells:
    """Fresh cells of depth 1 / unit with linear mean `linear`: mean mu, variance mu + mu^2 / theta (F-37)."""
    rng = np.random.default_rng(seed)
    depth = np.divide(1.0, unit, out=np.zeros(len(unit)), where=unit > 0)
    mean = np.minimum(depth[:, None] * linear, 1e9)
    molecules = rng.poisson(rng.gamma(dispersion, 1.0, size=mean.shape) * (mean / dispersion))
    return Cells(sparse.csr_matrix(molecules.astype(np.float32)), unit)


def coupled_cells(cells: Cells, control: ControlCells, linear: Profile, *, seed: int) -> Cells:
    """The cells with molecules removed or added so that the linear mean is `linear`; correlations stay.

    If molecules are Gamma-Poisson with mean mu and dispersion theta, thinning by r <= 1 gives mean r mu, and adding
    Poisson((r - 1) rate), rate drawn from its posterior given the molecules seen, gives mean r mu too, both with
    variance r mu + (r mu)^2 / theta: the marginals of F-37.
    """
    rng = np.random.default_rng(seed)
    base = control.linear
    ratio = np.divide(linear, base, out=np.ones_like(base), where=base > 0)
    counts = cells.counts.copy()
    keep = ratio[counts.indices] < 1
    counts.data[keep] = rng.binomial(counts.data[keep].astype(np.int64), ratio[counts.indices[keep]])
    up = np.flatnonzero((linear > base) & (linear > 0))
    if len(up):
        counts = counts + _added(cells, control, linear, up, rng)
    counts.eliminate_zeros()
    return Cells(counts.tocsr(), cells.unit)


def _added(
    cells: Cells, control: ControlCells, linear: Profile, up: ndarray, rng: np.random.Generator
) -> sparse.csr_matrix:
    """(cell, gene) molecules to add in the genes `up`."""
    depth = np.divide(1.0, cells.unit, out=np.zeros(len(cells.unit)), where=cells.unit > 0)
    theta, base = control.dispersion[up], control.linear[up]
    mean = depth[:, None] * base
    seen = cells.counts[:, up].toarray()
    # posterior of the rate: Gamma(theta + seen) / (theta / mean + 1); times (r - 1) = (linear - base) / base
    scale = depth[:, None] * (linear[up] - base) / (theta + mean)
    extra = rng.poisson(np.minimum(rng.standard_gamma(theta + seen) * scale, 1e9)).astype(np.float32)
    cell, gene = np.nonzero(extra)
    return sparse.csr_matrix((extra[cell, gene], (cell, up[gene])), shape=cells.counts.shape)


def draw_seed(seed: int, query: Query) -> int:
    """A seed of this query alone, so that draws do not depend on which other queries are scored."""
    return (seed * 1_000_003 + zlib.crc32(f"{query.condition}|{query.context}".encode())) % 2**63


def predicted_cells(evaluation: Evaluation, row: int, *, n: int | None = None, way: str = "coupled") -> Cells:
    """Cells as the prediction of one query would have them; the same for the same seed, prediction and query.

    `n` defaults to the cells of the query in truth, at most `MOST_CELLS`. MetricNeeds where there are no control
    cells to start from, BadOption for an unknown way.
    """
    if way not in WAYS:
        raise BadOption(f"no way of drawing cells is called {way!r}. Known: {', '.join(WAYS)}.")
    key = ("predicted cells", row, n, way)
    held = evaluation.cache.get(key)
    if isinstance(held, Cells):
        return held
    query = evaluation.truth.queries[row]
    control = control_cells(evaluation, query.context)
    many = n_drawn(evaluation, row) if n is None else n
    drawn = _draw(control, evaluation.predicted.response[row], way, n=many, seed=draw_seed(evaluation.seed, query))
    stored = evaluation.cache.get("stored entries", 0)
    assert isinstance(stored, int)
    if stored + drawn.counts.nnz <= MOST_STORED:
        evaluation.cache["stored entries"] = stored + int(drawn.counts.nnz)
        evaluation.cache[key] = drawn
    return drawn


def generated_cells(evaluation: Evaluation, row: int) -> Cells:
    """Cells of one query as the model generates them, where it does; else those that `predicted_cells` draws.

    As many as `predicted_cells` gives. Where the screen counts molecules of more genes than it holds, generated cells
    are taken to hold the same share of theirs as control cells do.
    """
    if evaluation.sampler is None:
        return predicted_cells(evaluation, row)
    key = ("generated cells", row)
    held = evaluation.cache.get(key)
    if isinstance(held, Cells):
        return held
    query = evaluation.truth.queries[row]
    control = control_cells(evaluation, query.context)
    seed = draw_seed(evaluation.seed, query)
    try:
        values = evaluation.sampler(query, n_cells=n_drawn(evaluation, row), seed=seed)
    except CannotPredict:
        return predicted_cells(evaluation, row)
    assert evaluation.screen is not None
    drawn = _in_molecules(values, control.cells, scale=evaluation.screen.scale)
    evaluation.cache[key] = drawn
    return drawn


def _in_molecules(values: Float[ndarray, "cell gene"], control: Cells, *, scale: Scale) -> Cells:
    """Generated values as cells; expression that is negative counts as none."""
    if scale is not Scale.COUNTS:
        linear = sparse.csr_matrix(np.expm1(np.clip(values, 0.0, 30.0)).astype(np.float32))
        return Cells(linear, np.ones(len(values)))
    held = np.asarray(control.counts.sum(axis=1)).ravel()
    share = float(held.sum() / np.divide(1e4, control.unit, out=np.zeros(len(held)), where=control.unit > 0).sum())
    counts = sparse.csr_matrix(np.asarray(values, dtype=np.float32))
    library = np.asarray(counts.sum(axis=1)).ravel() / max(share, 1e-12)
    return Cells(counts, np.divide(1e4, library, out=np.zeros(len(library)), where=library > 0))


def n_drawn(evaluation: Evaluation, row: int) -> int:
    """How many cells are drawn for a query: as many as truth has, at most `MOST_CELLS`, at least 2."""
    known = evaluation.truth.n_cells
    return MOST_CELLS if known is None else int(np.clip(known[row], 2, MOST_CELLS))


def _draw(control: ControlCells, response: Profile, way: str, *, n: int, seed: int) -> Cells:
    rng = np.random.default_rng(seed)
    many = control.cells.counts.shape[0]
    chosen = rng.choice(many, n, replace=n > many)
    start = Cells(control.cells.counts[chosen], control.cells.unit[chosen])
    linear = predicted_linear(control, np.asarray(response, dtype=np.float64))
    following = int(rng.integers(2**62))
    if way == "shift":
        return shift_cells(start, np.asarray(response, dtype=np.float64), seed=following, silent=linear)
    if way == "nb":
        return negative_binomial_cells(linear, control.dispersion, unit=start.unit, seed=following)
    return coupled_cells(start, control, linear, seed=following)


def calibration_factor(size_ratio: Callable[[float], ndarray], *, lowest: float = 0.25, highest: float = 8.0) -> float:
    """The scalar c by which to multiply responses so that the median of |S| / |T| is 1 (F-38).

    `size_ratio(c)` gives |S| / |T| per *training* query with responses times c. Bisection in log c between the bounds,
    to 2 %; a bound where even that does not reach 1. It trades error for the number of called genes: report it apart.
    """
    below, above = np.log(lowest), np.log(highest)
    if np.nanmedian(size_ratio(lowest)) >= 1:
        return lowest
    if np.nanmedian(size_ratio(highest)) <= 1:
        return highest
    while above - below > 0.02:
        middle = (below + above) / 2
        if np.nanmedian(size_ratio(float(np.exp(middle)))) < 1:
            below = middle
        else:
            above = middle
    return float(np.exp((below + above) / 2))
