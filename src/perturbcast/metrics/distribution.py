"""Distances between distributions of cells: energy distance, its permutation test, MMD (spec F.7, F-40).

All work in principal components. Those of the E-distance and MMD are fitted on control and training cells only, those
of `energy_truth_pca` on the truth, as PerturBench does. Predicted cells are the model's own, where it generates cells,
and a mean prediction is turned into cells otherwise; both sides have the same number of cells. The squared E-distance
sees means only: its V form is exactly twice the squared distance of the two centroids (F-33). Differs from the spec:
one seeded subsample instead of five, because the mean over queries already averages.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import linalg, sparse, stats
from scipy.spatial.distance import cdist, pdist

from perturbcast._types import Profile, ScoreByQuery
from perturbcast.data.screen import Screen
from perturbcast.errors import MetricNeeds
from perturbcast.metrics.base import Evaluation, MetricCard, cached, register
from perturbcast.metrics.cells import cells_of, control_cells, draw_seed, generated_cells

N_COMPONENTS, N_TRUTH_COMPONENTS = 50, 256
MOST_FITTED = 1000  # cells that components are fitted on
MOST_COMPARED = 500  # cells of each side
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times 1 / median², F-35
GENES_AT_ONCE, CELLS_AT_ONCE = 2048, 128  # columns, or rows, made dense at a time
Coordinates = Float[ndarray, "cell component"]
OtherCoordinates = Float[ndarray, "other component"]


# ---------------------------------------------------------------------------------------- of two groups of cells
def energy_distance(x: Coordinates, y: OtherCoordinates, *, squared: bool = False, unbiased: bool = False) -> float:
    """2 mean d(x, y) − mean d(x, x') − mean d(y, y'), with d Euclidean or squared Euclidean (F-33).

    V form (all pairs, the diagonal too) or, unbiased, U form, which can be negative. NaN where U needs a second cell.
    """
    if unbiased and min(len(x), len(y)) < 2:
        return float("nan")
    kind: Literal["sqeuclidean", "euclidean"] = "sqeuclidean" if squared else "euclidean"
    lost = 1 if unbiased else 0
    within = [2 * pdist(side, kind).sum() / (len(side) * (len(side) - lost)) for side in (x, y)]
    return float(2 * cdist(x, y, kind).mean() - within[0] - within[1])


def mmd_squared(
    x: Coordinates, y: OtherCoordinates, *, gammas: Sequence[float] | None = None, unbiased: bool = False
) -> float:
    """Squared maximum mean discrepancy with a sum of Gaussian kernels exp(−γ d²) (F-35).

    γ default to (1/4 .. 4) / median² of the distances within `y`, the reference, so no prediction moves its own ruler.
    The biased form is never negative; the unbiased one needs two cells a side (NaN otherwise) and can be.
    """
    if unbiased and min(len(x), len(y)) < 2:
        return float("nan")
    gammas = gammas_of(y) if gammas is None else gammas
    distances = [cdist(a, b, "sqeuclidean") for a, b in ((x, x), (y, y), (x, y))]
    xx, yy, xy = (np.sum([np.exp(-gamma * squared) for gamma in gammas], axis=0) for squared in distances)
    lost = 1 if unbiased else 0
    on_diagonal = float(len(gammas)) * lost
    within = [(k.sum() - on_diagonal * len(k)) / (len(k) * (len(k) - lost)) for k in (xx, yy)]
    return float(within[0] + within[1] - 2 * xy.mean())


def gammas_of(reference: Coordinates) -> list[float]:
    """The bandwidths of F-35 for a reference group: multiples of 1 / median² of its distances (1 if it has none)."""
    apart = pdist(reference)
    median = float(np.median(apart)) if len(apart) else 0.0
    return [factor / median**2 if median > 0 else factor for factor in BANDWIDTHS]


def energy_test(x: Coordinates, y: OtherCoordinates, *, n_permutations: int = 1000, seed: int = 0) -> float:
    """p of the E-test (F-34): share of label permutations with an energy distance at least the observed one.

    (1 + number at least) / (1 + permutations), squared distances, V form (scPerturb). One-sided: near means large.
    """
    distance = cdist(np.vstack([x, y]), np.vstack([x, y]), "sqeuclidean")
    rng = np.random.default_rng(seed)
    first = np.zeros(len(distance))
    first[: len(x)] = 1.0
    labels = np.column_stack([first, *(rng.permutation(first) for _ in range(n_permutations))])
    n, m = float(len(x)), float(len(y))
    to_first = distance @ labels  # (cell, permutation) summed distance to the first group
    to_second = distance.sum(axis=1)[:, None] - to_first
    between = (labels * to_second).sum(axis=0) / (n * m)
    within = (labels * to_first).sum(axis=0) / n**2 + ((1 - labels) * to_second).sum(axis=0) / m**2
    energy = 2 * between - within
    return float((1 + (energy[1:] >= energy[0] - 1e-12 * abs(energy[0])).sum()) / (1 + n_permutations))


def holm(p: Float[ndarray, " test"]) -> Float[ndarray, " test"]:
    """Holm's adjusted p of a family of tests, in the order given (F-34; Benjamini-Hochberg is in scipy)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


# --------------------------------------------------------------------------------------------------- components
@dataclass(frozen=True)
class Projection:
    """Principal components of some cells."""

    mean: Profile
    components: Float[ndarray, "gene component"]

    def __call__(self, cells: sparse.csr_matrix, genes: ndarray) -> ndarray:
        """(cell, component) coordinates, from the genes of a mask only: the others are taken to be at their mean."""
        axes = self.components[genes].astype(np.float32)
        origin = self.mean[genes].astype(np.float32) @ axes
        parts = []
        for start in range(0, cells.shape[0], CELLS_AT_ONCE):
            block = cells[start : start + CELLS_AT_ONCE]
            dense = (block if genes.all() else block[:, genes]).toarray()  # faster than sparse by many components
            parts.append(dense @ axes - origin)
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros((0, axes.shape[1]))


def fit_projection(cells: sparse.csr_matrix, *, n_components: int = N_COMPONENTS) -> Projection:
    """Exact principal components of log expression, from the Gram matrix of the cells; signs are arbitrary.

    Fewer components than asked where there are fewer cells or directions of variance.
    """
    n = cells.shape[0]
    mean = np.asarray(cells.mean(axis=0), dtype=np.float64).ravel()
    gram = np.zeros((n, n))
    by_gene = cells.tocsc()
    for start in range(0, cells.shape[1], GENES_AT_ONCE):
        block = by_gene[:, start : start + GENES_AT_ONCE].toarray().astype(np.float64)
        gram += block @ block.T
    gram -= gram.mean(axis=0)
    gram -= gram.mean(axis=1)[:, None]
    most = min(n_components, max(n - 1, 1))
    value, vector = linalg.eigh(gram, subset_by_index=[n - most, n - 1])
    real = value > 1e-9 * max(float(value[-1]), 1e-30)
    value, vector = value[real][::-1], vector[:, real][:, ::-1]
    return Projection(mean, np.asarray(cells.T @ (vector / np.sqrt(value)), dtype=np.float64))


def training_projection(evaluation: Evaluation) -> Projection:
    """50 components of control and training cells, none of a query that is scored; once per evaluation."""
    screen, scored = _screen(evaluation), set(evaluation.truth.queries)
    trained = set(evaluation.training.queries) - scored
    codes = [query for query in screen.queries() if query in trained]
    allowed = np.concatenate([np.flatnonzero(screen.is_control), *(screen.cells_of(query) for query in codes)])
    return _projection(evaluation, "training components", screen, allowed, N_COMPONENTS)


def truth_projection(evaluation: Evaluation) -> Projection:
    """256 components of the cells of the scored queries (F-40); once per evaluation."""
    screen = _screen(evaluation)
    allowed = [screen.cells_of(query) for query in evaluation.truth.queries]
    together = np.concatenate(allowed) if allowed else np.zeros(0, dtype=np.int64)
    return _projection(evaluation, "truth components", screen, together, N_TRUTH_COMPONENTS)


def _screen(evaluation: Evaluation) -> Screen:
    if evaluation.screen is None:
        raise MetricNeeds("this metric reads cells, and these data are responses.")
    return evaluation.screen


def _projection(evaluation: Evaluation, key: str, screen: Screen, allowed: np.ndarray, n_components: int) -> Projection:
    if key not in evaluation.cache:
        if len(allowed) < 2:
            raise MetricNeeds(f"{len(allowed)} cells are too few for principal components; at least 2 are needed.")
        if len(allowed) > MOST_FITTED:
            allowed = np.random.default_rng(evaluation.seed).choice(allowed, MOST_FITTED, replace=False)
        cells = cells_of(screen, np.sort(allowed)).expression
        evaluation.cache[key] = fit_projection(cells, n_components=n_components)
    held = evaluation.cache[key]
    assert isinstance(held, Projection)
    return held


# ------------------------------------------------------------------------------------------- of a whole evaluation
_FITS = {"training": training_projection, "truth": truth_projection}
Pairs = list[tuple[np.ndarray, np.ndarray]]


def coordinates(evaluation: Evaluation, mask: np.ndarray, *, basis: str = "training") -> Pairs:
    """(predicted, observed) coordinates of every query, equally many cells a side, in one basis; once per mask.

    An observed side without cells is empty.
    """

    def compute() -> Pairs:
        projection, screen = _FITS[basis](evaluation), _screen(evaluation)
        pairs = []
        for row, query in enumerate(evaluation.truth.queries):
            drawn, real = generated_cells(evaluation, row).expression, screen.cells_of(query)
            n = min(drawn.shape[0], len(real), MOST_COMPARED)
            rng = np.random.default_rng(draw_seed(evaluation.seed, query) + 1)
            chosen = np.sort(rng.choice(real, n, replace=False)) if len(real) else real
            observed = cells_of(screen, chosen).expression
            pairs.append((projection(drawn[:n], mask[row]), projection(observed, mask[row])))
        return pairs

    return cached(evaluation, f"coordinates {basis}", mask, compute)


_DRAWN = "Cells are those that the model generates, or are drawn from its mean prediction around real control cells."


def _card(name: str, title: str, formula: str, source: str, **more: object) -> MetricCard:
    fields: dict[str, object] = {
        "reads": frozenset({"response", "cells"}),
        "higher_is_better": False,
        "perfect": 0.0,
        "chance": float("nan"),
        "gene_sets": ("all",),
        "lowest": 0.0,
        "samples": True,
        "reaches_perfect": False,
        "undefined": "there are no observed cells of this query.",
        "gameable_by": ("perturbed mean", "shrunk", "clipped", "sign-only"),
        "note": _DRAWN,
    }
    return MetricCard(name=name, title=title, formula=formula, source=source, **(fields | more))  # type: ignore[arg-type]


def _register(
    card: MetricCard, distance: Callable[[np.ndarray, np.ndarray], float], *, basis: str = "training"
) -> None:
    @register(card)
    def score(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
        pairs = coordinates(evaluation, mask, basis=basis)
        rows = [distance(guess, real) if len(real) else float("nan") for guess, real in pairs]
        return np.array(rows, dtype=float)


_MEANS_ONLY = " It sees the centroids only, not the spread or shape of the cells."
_register(
    _card(
        "edistance",
        "E-distance, Euclidean",
        "2 E|x−y| − E|x−x'| − E|y−y'| in 50 components of control and training cells, all pairs",
        "cell-eval; spec F-33",
    ),
    energy_distance,
)
_register(
    _card(
        "edistance_squared",
        "E-distance, squared Euclidean, V form",
        "2 E|x−y|² − E|x−x'|² − E|y−y'|² = 2 |mean x − mean y|², 50 components",
        "scPerturb; spec F-33",
        note=_DRAWN + _MEANS_ONLY,
    ),
    lambda x, y: energy_distance(x, y, squared=True),
)
_register(
    _card(
        "edistance_squared_unbiased",
        "E-distance, squared Euclidean, U form",
        "as edistance_squared, within-group means over n (n − 1) pairs",
        "scPerturb; spec F-33",
        lowest=float("-inf"),
        note="Can be negative; 0 on average for cells of the same distribution." + _MEANS_ONLY,
        undefined="fewer than two cells on a side.",
    ),
    lambda x, y: energy_distance(x, y, squared=True, unbiased=True),
)
_register(
    _card(
        "mmd",
        "Squared maximum mean discrepancy",
        "mean k(x,x') + mean k(y,y') − 2 mean k(x,y), k = Σ exp(−γ d²), γ = (¼..4)/median² of the observed cells",
        "spec F-35",
        highest=10.0,
    ),
    mmd_squared,
)
_register(
    _card(
        "mmd_unbiased",
        "Squared maximum mean discrepancy, unbiased",
        "as mmd without the diagonals",
        "spec F-35",
        lowest=float("-inf"),
        highest=10.0,
        undefined="fewer than two cells on a side.",
        note="Can be negative; 0 on average for cells of the same distribution.",
    ),
    lambda x, y: mmd_squared(x, y, unbiased=True),
)
_register(
    _card(
        "energy_truth_pca",
        "Energy distance in components of the truth",
        "2 E|x−y| − E|x−x'| − E|y−y'| in 256 components of the observed cells",
        "PerturBench v4 ('MMD PCA'); spec F-40",
    ),
    energy_distance,
    basis="truth",
)


@register(
    _card(
        "edistance_correlation",
        "Correlation of effect sizes by E-distance",
        "Pearson over queries of E(observed, control) and E(predicted, control), Euclidean, 50 components",
        "cell-eval; spec F-33",
        higher_is_better=True,
        perfect=1.0,
        chance=0.0,
        lowest=-1.0,
        highest=1.0,
        per="dataset",
        gameable_by=("inflated", "sign flipped"),
        undefined="fewer than three queries, or effects of equal size.",
        undefined_counts_as=0.0,
        note="Compares how strong effects are, not which genes they touch.",
    )
)
def _edistance_correlation(evaluation: Evaluation, mask: np.ndarray) -> np.ndarray:
    sizes = []
    for row, (guess, real) in enumerate(coordinates(evaluation, mask)):
        control = _control_coordinates(evaluation, row, mask)
        if len(real):
            sizes.append([energy_distance(side, control) for side in (guess, real)])
    predicted, observed = np.array(sizes).reshape(-1, 2).T
    if len(predicted) < 3 or np.ptp(predicted) == 0 or np.ptp(observed) == 0:
        return np.array([np.nan])
    return np.array([stats.pearsonr(predicted, observed).statistic])


def _control_coordinates(evaluation: Evaluation, row: int, mask: np.ndarray) -> np.ndarray:
    """(cell, component) of at most `MOST_COMPARED` control cells of the query's context, in the genes of its mask."""
    context, genes = evaluation.truth.queries[row].context, mask[row]
    key = ("control coordinates", context, genes.tobytes())
    if key not in evaluation.cache:
        cells = control_cells(evaluation, context).cells.expression[:MOST_COMPARED]
        evaluation.cache[key] = training_projection(evaluation)(cells, genes)
    held = evaluation.cache[key]
    assert isinstance(held, np.ndarray)
    return held
