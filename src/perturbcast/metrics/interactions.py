"""Genetic interactions: how a double deviates from the sum of its singles (spec D.5), and its scores (spec C.8).

Everything is in responses: with m0 the control, the deviation m_AB − (m_A + m_B − m0) is r_AB − r_A − r_B. Singles are
the observed ones, of the training side or of the truth, for the prediction too (D-13); a double whose singles were
not both observed has no score.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.spatial.distance import cdist

from perturbcast._types import Profile
from perturbcast.data.conditions import Query, is_double, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import MetricNeeds, ValuesError
from perturbcast.metrics.base import Evaluation, cached
from perturbcast.metrics.empirical_null import EmpiricalNull, empirical_null

LABELS = ("additive", "synergy", "buffering", "other")
CLASSES = ("synergy", "suppression", "neomorphism", "redundancy", "epistasis")
MOST_GENES = 500  # of the scores of C.8, whose distance correlations grow with the square
N_SUBSETS = 20_000  # pairs of genes in the Theil-Sen fit (GEARS: 100,000)
REMEMBERED = 1024  # fits of observed doubles
SMALLEST_SHARE = 1e-3  # of a coefficient in the dominance, so that it stays finite
GRID = np.linspace(0.0, 1.0, 101)  # false discovery proportions of the detection curve


# -------------------------------------------------------------------------------------------- deviations and labels
def deviation(first: ndarray, second: ndarray, both: ndarray) -> ndarray:
    """r_AB − r_A − r_B, the deviation from additivity (D-11)."""
    return both - first - second


def interaction_labels(first: ndarray, second: ndarray, both: ndarray, *, lower: float, upper: float) -> ndarray:
    """Label of every gene from the responses of two singles and the double (D-12), object array of the same shape.

    `additive` within the thresholds; with all three responses of one sign, `synergy` if the double goes further than
    the sum, `buffering` if less far; `other` for the rest, crossing control included.
    """
    total, apart = first + second, deviation(first, second, both)
    outside = (apart < lower) | (apart > upper)
    same = (np.sign(first) == np.sign(second)) & (np.sign(second) == np.sign(both))
    further = ((total > 0) & (apart > upper)) | ((total < 0) & (apart < lower))
    back = ((total > 0) & (apart < lower)) | ((total < 0) & (apart > upper))
    labels = np.full(np.shape(apart), "additive", dtype=object)
    labels[outside] = "other"
    labels[same & further] = "synergy"
    labels[same & back] = "buffering"
    return labels


def label_fractions(labels: ndarray) -> dict[str, float]:
    """Share of every label."""
    return {label: float((labels == label).mean()) for label in LABELS}


def detection_curve(predicted: ndarray, is_true: ndarray, *, grid: ndarray = GRID) -> Float[ndarray, " grid"]:
    """True positive rate at false discovery proportions, of ranking by |predicted deviation| (D-13).

    Running maximum of the true positives, linear interpolation; equal |deviations| come together. NaN if none is true.
    """
    hits, calls = _by_threshold(np.abs(predicted).ravel(), np.asarray(is_true, dtype=bool).ravel())
    if len(hits) == 0 or hits[-1] == 0:
        return np.full(len(grid), np.nan)
    false = np.concatenate([[0.0], (calls - hits) / calls])
    found = np.concatenate([[0.0], hits / hits[-1]])
    order = np.lexsort((found, false))
    return np.interp(grid, false[order], np.maximum.accumulate(found[order]))


def average_precision(strength: Profile, is_true: Bool[ndarray, " gene"]) -> float:
    """Area under precision over recall of ranking by strength; equal strengths come together; NaN if none is true."""
    hits, calls = _by_threshold(strength, is_true)
    if len(hits) == 0 or hits[-1] == 0:
        return float("nan")
    return float((np.diff(hits, prepend=0.0) * hits / calls).sum() / hits[-1])


def _by_threshold(strength: ndarray, is_true: ndarray) -> tuple[ndarray, ndarray]:
    """True positives and calls at every distinct threshold, the strongest first."""
    order = np.argsort(-strength, kind="stable")
    ranked = strength[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, dtype=np.int64)
    return np.cumsum(is_true[order])[last].astype(float), (last + 1).astype(float)


# ----------------------------------------------------------------------------------------------------- scores of C.8
@dataclass(frozen=True)
class InteractionFit:
    """r_AB as c1 r_A + c2 r_B, and how alike the three responses are (C.8)."""

    first: float  # c1
    second: float  # c2
    fit: float  # correlation of the fit with r_AB
    singles_similarity: float  # distance correlations from here on
    double_similarity: float
    equality: float

    @property
    def magnitude(self) -> float:
        """sqrt(c1² + c2²): above √2 the singles strengthen each other, below they weaken each other."""
        return float(np.hypot(self.first, self.second))

    @property
    def dominance(self) -> float:
        """|log10 |c1 / c2||, at most 3."""
        sizes = np.maximum(np.abs([self.first, self.second]), SMALLEST_SHARE * max(self.magnitude, 1e-30))
        return float(abs(np.log10(sizes[0] / sizes[1])))


def interaction_fit(first: Profile, second: Profile, both: Profile, *, seed: int = 1000) -> InteractionFit:
    """The scores of one double from three responses over the same genes (C.8). Cost grows with genes squared."""
    c1, c2 = theil_sen(first, second, both, seed=seed)
    fitted = c1 * first + c2 * second
    a, b, ab = (_centered(values[:, None]) for values in (first, second, both))
    pair = _centered(np.column_stack([first, second]))
    shares = [_correlation(a, ab), _correlation(b, ab)]
    return InteractionFit(
        first=c1,
        second=c2,
        fit=float(np.corrcoef(fitted, both)[0, 1]) if np.ptp(fitted) > 0 and np.ptp(both) > 0 else 0.0,
        singles_similarity=_correlation(a, b),
        double_similarity=_correlation(pair, ab),
        equality=float(min(shares) / max(shares)) if max(shares) > 0 else 1.0,
    )


def observed_fit(first: Profile, second: Profile, both: Profile) -> InteractionFit:
    """`interaction_fit`, remembered: every model of a benchmark is held against the same observed doubles."""
    profiles = (np.ascontiguousarray(profile, dtype=np.float64) for profile in (first, second, both))
    return _remembered_fit(*(profile.tobytes() for profile in profiles))


@lru_cache(maxsize=REMEMBERED)
def _remembered_fit(first: bytes, second: bytes, both: bytes) -> InteractionFit:
    return interaction_fit(*(np.frombuffer(profile) for profile in (first, second, both)))


def theil_sen(first: Profile, second: Profile, both: Profile, *, seed: int = 1000) -> tuple[float, float]:
    """c1, c2 of both ≈ c1 first + c2 second: spatial median of the exact solutions of pairs of genes (Theil-Sen).

    All pairs if there are at most `N_SUBSETS`, random ones otherwise; (0, 0) where no pair can be solved.
    """
    n = len(both)
    if n * (n - 1) // 2 <= N_SUBSETS:
        i, j = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng(seed)
        i = rng.integers(0, n, N_SUBSETS)
        j = (i + rng.integers(1, n, N_SUBSETS)) % n
    determinant = first[i] * second[j] - first[j] * second[i]
    size = np.hypot(first[i], second[i]) * np.hypot(first[j], second[j])
    solved = np.abs(determinant) > 1e-9 * np.maximum(size, 1e-30)
    if not solved.any():
        return 0.0, 0.0
    i, j, determinant = i[solved], j[solved], determinant[solved]
    c1 = (both[i] * second[j] - both[j] * second[i]) / determinant
    c2 = (first[i] * both[j] - first[j] * both[i]) / determinant
    return _spatial_median(np.column_stack([c1, c2]))


def _spatial_median(points: ndarray, *, most: int = 200) -> tuple[float, float]:
    """The point with the least summed distance to all, by Weiszfeld's iteration."""
    median = np.median(points, axis=0)
    for _ in range(most):
        weight = 1 / np.maximum(np.hypot(*(points - median).T), 1e-9)
        moved = weight @ points / weight.sum()
        near = np.abs(moved - median).max() < 1e-7
        median = moved
        if near:
            break
    return float(median[0]), float(median[1])


def distance_correlation(x: Float[ndarray, "gene dim"], y: Float[ndarray, "gene other_dim"]) -> float:
    """Distance correlation of two sets of coordinates (Székely), between 0 and 1; 0 where one is constant."""
    return _correlation(_centered(x), _centered(y))


def _centered(x: ndarray) -> ndarray:
    distance = cdist(x, x)
    along = distance.mean(axis=0)
    return distance - along - along[:, None] + along.mean()


def _correlation(a: ndarray, b: ndarray) -> float:
    own = np.sqrt(float(np.vdot(a, a)) * float(np.vdot(b, b)))
    return float(np.sqrt(max(float(np.vdot(a, b)), 0.0) / own)) if own > 0 else 0.0


def class_thresholds(observed: list[InteractionFit], *, tail: float = 0.2) -> dict[str, float]:
    """Thresholds of the interaction classes: the outer `tail` of observed doubles on each score.

    Differs from GEARS, which calibrates them on pairs annotated by hand (Norman et al.); most screens have none.
    """
    scores = {name: np.array([getattr(fit, name) for fit in observed]) for name in _CLASS_SCORES}
    return {
        f"{name} {side}": float(np.quantile(scores[name], tail if side == "low" else 1 - tail)) for name, side in _CUTS
    }


def interaction_classes(fit: InteractionFit, thresholds: dict[str, float]) -> frozenset[str]:
    """Which of `CLASSES` a double belongs to; none, one or several (C.8)."""
    found = {
        "synergy": fit.magnitude > thresholds["magnitude high"],
        "suppression": fit.magnitude < thresholds["magnitude low"],
        "neomorphism": fit.fit < thresholds["fit low"],
        "redundancy": fit.singles_similarity > thresholds["singles_similarity high"],
        "epistasis": fit.equality < thresholds["equality low"] and fit.dominance > thresholds["dominance high"],
    }
    return frozenset(name for name, true in found.items() if true)


_CLASS_SCORES = ("magnitude", "fit", "singles_similarity", "equality", "dominance")
_CUTS = (
    ("magnitude", "high"),
    ("magnitude", "low"),
    ("fit", "low"),
    ("singles_similarity", "high"),
    ("equality", "low"),
    ("dominance", "high"),
)


# ------------------------------------------------------------------------------------------- of a whole evaluation
@dataclass(frozen=True)
class Doubles:
    """Rows of doubles whose singles were observed, and the observed singles."""

    rows: ndarray  # (double,) into the truth
    first: Float[ndarray, "double gene"]
    second: Float[ndarray, "double gene"]


def doubles_of(table: ResponseTable, singles: dict[Query, Profile]) -> Doubles:
    """The doubles of a table with both singles known."""
    rows, first, second = [], [], []
    for row, query in enumerate(table.queries):
        if not is_double(query.condition):
            continue
        parts = [Query(target, query.context) for target in targets_of(query.condition)]
        if all(part in singles for part in parts):
            rows.append(row)
            first.append(singles[parts[0]])
            second.append(singles[parts[1]])
    shape = (len(rows), table.n_genes)
    return Doubles(np.array(rows, dtype=np.int64), np.array(first).reshape(shape), np.array(second).reshape(shape))


def observed_singles(evaluation: Evaluation) -> dict[Query, Profile]:
    """Observed responses of single targets, of the training side and else of the truth."""
    tables = (evaluation.truth, evaluation.training)
    return {
        query: table.response[row]
        for table in tables
        for row, query in enumerate(table.queries)
        if len(targets_of(query.condition)) == 1
    }


def scored_doubles(evaluation: Evaluation) -> Doubles:
    """The doubles of the truth whose singles were observed; MetricNeeds where there are none."""
    found = doubles_of(evaluation.truth, observed_singles(evaluation))
    if len(found.rows) == 0:
        raise MetricNeeds("no scored double has both singles observed.")
    return found


def deviation_null(evaluation: Evaluation, mask: np.ndarray) -> EmpiricalNull | None:
    """Empirical null of the deviations of all observed doubles, of training and truth, over the genes of the mask.

    None where there are fewer than 100 deviations, or where most are equal.
    """

    def compute() -> EmpiricalNull | None:
        singles, values = observed_singles(evaluation), []
        genes = mask.any(axis=0)
        for table in (evaluation.training, evaluation.truth):
            found = doubles_of(table, singles)
            both = table.response[found.rows]
            values.append(deviation(found.first, found.second, both)[:, genes].ravel())
        try:
            return empirical_null(np.concatenate(values))
        except ValuesError:
            return None

    return cached(evaluation, "deviation null", mask, compute)


def observed_labels(evaluation: Evaluation, mask: np.ndarray) -> dict[Query, np.ndarray]:
    """Labels of the genes of the mask (D-12) of every scored double whose singles were observed.

    Empty where there are too few deviations to say which are large.
    """
    null, found = deviation_null(evaluation, mask), scored_doubles(evaluation)
    if null is None:
        return {}
    both = evaluation.truth.response[found.rows]
    labels = interaction_labels(found.first, found.second, both, lower=null.lower, upper=null.upper)
    rows = zip(found.rows, labels, strict=True)
    return {evaluation.truth.queries[row]: of_row[mask[row]] for row, of_row in rows}
