"""Identification: is a prediction nearer to its own truth than to the others of the same context? (spec F.2)

A distance matrix d[p, q] is between prediction p and truth q. Distances closer than 1e-9 of the largest are ties, so
that rounding never decides a rank; spec 0.5 asks for mid-ranks, and the metrics that break ties otherwise say so.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.distance import cdist

from perturbcast._types import MaskByQuery, ProfileByQuery, ScoreByQuery
from perturbcast.metrics.base import Evaluation, MetricCard, MetricFunction, cached, register
from perturbcast.metrics.correlation import fold_changes
from perturbcast.metrics.gene_sets import own_targets

Distances = Float[np.ndarray, "query query"]
TIE = 1e-9  # of the largest distance


def distances(predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery, kind: str) -> Distances:
    """(query, query) distance of prediction p to truth q over the genes of p's mask.

    `kind`: "l1" and "l2" in units of the response, "cosine" 1 − cos in 0..2, and 1 where either is zero (F-10).
    """
    if kind == "cosine":
        return _cosine_distances(predicted, truth, mask)
    usual = mask.mean(axis=0) > 0.5  # genes of most rows at once, the others row by row
    power = 1 if kind == "l1" else 2
    total = np.zeros((len(mask), len(mask)))
    if usual.any():
        left, right = predicted[:, usual], truth[:, usual]
        total = cdist(left, right, "cityblock") if kind == "l1" else cdist(left, right, "sqeuclidean")
    for row in np.flatnonzero((mask != usual).any(axis=1)):
        for genes, sign in ((mask[row] & ~usual, 1.0), (usual & ~mask[row], -1.0)):
            total[row] += sign * (np.abs(predicted[row, genes] - truth[:, genes]) ** power).sum(axis=1)
    return total if kind == "l1" else np.sqrt(np.maximum(total, 0.0))


def midrank_accuracy(d: Distances) -> ScoreByQuery:
    """(query,) 1 − k/(n−1), k = #closer + ½ #ties: 1 own truth nearest, 0.5 by chance (F-10); NaN if n < 2."""
    closer, tied = _compare(d)
    return _share(len(d) - 1 - closer.sum(axis=1) - 0.5 * tied.sum(axis=1), len(d) - 1)


def strict_accuracy(d: Distances) -> ScoreByQuery:
    """(query,) share of other truths that are farther away; a tie is a loss (F-6, F-7); NaN if n < 2."""
    closer, tied = _compare(d)
    return _share(len(d) - 1.0 - closer.sum(axis=1) - tied.sum(axis=1), len(d) - 1)


def pds_2025(d: Distances) -> ScoreByQuery:
    """(query,) 1 − rank/n, rank from 0 in stable order of the queries (F-8), in [1/n, 1]; NaN if n < 2.

    Differs from cell-eval: its sort is unstable, so ties fall anyhow; here the earlier query goes first.
    """
    closer, tied = _compare(d)
    earlier = np.tril(np.ones(d.shape, dtype=bool), k=-1)
    return _share(len(d) - closer.sum(axis=1) - (tied & earlier).sum(axis=1), len(d) if len(d) > 1 else 0)


def perturbench_rank(d: Distances) -> ScoreByQuery:
    """(query,) place of the own prediction among all predictions, nearest to the truth first, over n (F-11), 0 best.

    Transposed: predictions are the candidates. Differs from the released code: it shuffles before sorting, here ties
    take their mean place, which is what shuffling gives on average. NaN if n < 2.
    """
    closer, tied = _compare(d.T)
    return _share(closer.sum(axis=1) + 0.5 * tied.sum(axis=1), len(d) if len(d) > 1 else 0)


def perturbench_rank_paper(d: Distances) -> ScoreByQuery:
    """(query,) share of other predictions at most as far from the truth as the own one (F-39), 0 best; NaN if n < 2.

    Ties count against, so the same prediction for every query scores 1.
    """
    closer, tied = _compare(d.T)
    return _share((closer | tied).sum(axis=1).astype(float), len(d) - 1)


def shares(expression: ProfileByQuery, *, total: float = 5e4) -> ProfileByQuery:
    """(query, gene) ln(1 + total x share of expected counts), from mean expression ln(1 + x) (F-10, VCC 2026).

    Differs from the source: the share is of expm1(mean), as counts of a mean profile are not known.
    """
    expected = np.maximum(np.expm1(expression), 0.0)
    return np.log1p(total * expected / np.maximum(expected.sum(axis=1, keepdims=True), 1e-12))


def _compare(d: Distances) -> tuple[Bool[np.ndarray, "query query"], Bool[np.ndarray, "query query"]]:
    """Whether the column is closer than the row's own, and whether it ties with it (the own one left out)."""
    tolerance = TIE * np.abs(d).max(initial=0.0)
    difference = d - np.diag(d)[:, None]
    tied = np.abs(difference) <= tolerance
    np.fill_diagonal(tied, False)
    return difference < -tolerance, tied


def _share(count: np.ndarray, of: int) -> np.ndarray:
    return np.asarray(count / of, dtype=float) if of > 0 else np.full(len(count), np.nan)


def _cosine_distances(predicted: ProfileByQuery, truth: ProfileByQuery, mask: MaskByQuery) -> Distances:
    keep = mask.astype(float)
    own = keep * predicted
    norm = np.sqrt((own**2).sum(axis=1))[:, None] * np.sqrt(keep @ (truth**2).T)
    return 1.0 - np.divide(own @ truth.T, norm, out=np.zeros(norm.shape), where=norm > 0)


def _responses(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    return evaluation.predicted.response, evaluation.truth.response


def _centred_responses(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    return evaluation.against_perturbed_mean


def _share_responses(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    fold_changes(evaluation)  # refuses scales that are no ln(1 + counts)
    control = shares(evaluation.control)
    predicted, truth = (shares(evaluation.control + side) - control for side in _responses(evaluation))
    return predicted, truth


def _retrieval(
    rank: Callable[[np.ndarray], np.ndarray],
    *,
    kind: str,
    without_targets: bool = False,
    profiles: Callable[[Evaluation], tuple[np.ndarray, np.ndarray]] = _responses,
) -> MetricFunction:
    """A metric that ranks within each context, from distances computed once per kind and mask."""

    def blocks(evaluation: Evaluation, mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        genes = mask & ~own_targets(evaluation) if without_targets else mask
        predicted, truth = profiles(evaluation)
        code = evaluation.truth.context_code
        rows_by_context = [np.flatnonzero(code == context) for context in np.unique(code)]
        return [
            (rows, distances(predicted[rows], truth[rows], mask=genes[rows], kind=kind)) for rows in rows_by_context
        ]

    def score(evaluation: Evaluation, mask: np.ndarray) -> np.ndarray:
        name = f"distances {kind} {profiles.__name__} {without_targets}"
        values = np.full(evaluation.truth.n_queries, np.nan)
        for rows, d in cached(evaluation, name, mask, lambda: blocks(evaluation, mask)):
            values[rows] = rank(d)
        return values

    return score


def _card(**fields: Any) -> MetricCard:
    """The card of a retrieval metric, 1 best and 0.5 by chance unless said otherwise."""
    common: dict[str, Any] = {
        "reads": frozenset({"response"}),
        "higher_is_better": True,
        "perfect": 1.0,
        "chance": 0.5,
        "gene_sets": ("all",),
        "lowest": 0.0,
        "highest": 1.0,
        "undefined": "retrieval needs at least two queries in a context.",
    }
    return MetricCard(**(common | fields))


register(
    _card(
        name="pds_cosine",
        title="Perturbation discrimination, cosine, mid-rank",
        formula="1 − k/(n−1), k = truths nearer than the own one by cosine of responses + ½ ties; own targets left out",
        source="VCC 2026; spec F-10",
        gene_sets=("all", "top1000"),
        core=True,
        gameable_by=("inflated", "shrunk"),
        note="On responses as given, so that every scale can be scored; pds_cosine_share is the form on count shares. "
        "A constant prediction scores a little above 0.5, as the other truths keep their own targets.",
    )
)(_retrieval(midrank_accuracy, kind="cosine", without_targets=True))
register(
    _card(
        name="pds_cosine_perturbed",
        title="Perturbation discrimination against the perturbed mean",
        formula="as pds_cosine, the mean training response taken from prediction and truths",
        source="spec F-10 with the reference of F-2",
        reads=frozenset({"response", "training"}),
        gene_sets=("all", "top1000"),
        core=True,
        gameable_by=("evened",),
        note="Differs from F-10 by its reference: shrinking to or inflating from the mean changes nothing, a cautious "
        "prediction is not punished for the shift that all perturbations share. But it rises where strong patterns, in "
        "which errors are large, are made no stronger than weak ones: by .037 ± .007 on unseen singles of Replogle, "
        "whichever ridge predicts, while L2 and correlation get much worse.",
    )
)(_retrieval(midrank_accuracy, kind="cosine", without_targets=True, profiles=_centred_responses))
register(
    _card(
        name="pds_cosine_share",
        title="Perturbation discrimination, cosine of count shares, mid-rank",
        formula="as pds_cosine, responses of ln(1 + 50,000 x share of expected counts)",
        source="VCC 2026; spec F-10",
        reads=frozenset({"response", "expression"}),
        note="Shares of expm1(mean expression), as counts of a mean profile are not known.",
    )
)(_retrieval(midrank_accuracy, kind="cosine", without_targets=True, profiles=_share_responses))
register(
    _card(
        name="pds_l1",
        title="Perturbation discrimination, L1, mid-rank",
        formula="1 − k/(n−1), k = truths nearer by L1 of responses + ½ ties; own targets left out",
        source="spec F-9, F-10",
        gameable_by=("inflated",),
        note="Inflating effects raises it (oracle F4); prefer pds_cosine.",
    )
)(_retrieval(midrank_accuracy, kind="l1", without_targets=True))
register(
    _card(
        name="pds_l1_2025",
        title="Perturbation discrimination of the 2025 challenge",
        formula="1 − rank/n by L1 of responses, rank from 0, ties in order of the queries; own targets left out",
        source="cell-eval, VCC 2025; spec F-8",
        gameable_by=("inflated",),
        note="A constant prediction scores (n+1)/(2n), a zero prediction depends on the order of the queries.",
    )
)(_retrieval(pds_2025, kind="l1", without_targets=True))
register(
    _card(
        name="centroid_accuracy",
        title="Centroid accuracy, mid-rank",
        formula="share of other truths farther from the prediction than its own, Euclidean, ties ½",
        source="Systema; spec F-6 with the tie rule of 0.5",
        gene_sets=("all", "all-notarget"),
        core=True,
    )
)(_retrieval(midrank_accuracy, kind="l2"))
register(
    _card(
        name="centroid_accuracy_strict",
        title="Centroid accuracy, a tie is a loss",
        formula="share of other truths strictly farther from the prediction than its own, Euclidean",
        source="Systema; spec F-6",
        core=True,
        note="Candidates are the test truths of the same context; all ties score 0.",
    )
)(_retrieval(strict_accuracy, kind="l2"))
register(
    _card(
        name="nir",
        title="Normalised inverse rank",
        formula="share of other truths of the context with own distance < distance, Euclidean",
        source="Shift; spec F-7",
        note="Within a context the same number as centroid_accuracy_strict; kept under the name that papers report.",
    )
)(_retrieval(strict_accuracy, kind="l2"))
register(
    _card(
        name="perturbench_rank",
        title="PerturBench rank, as its code",
        formula="place of the own prediction among all predictions by distance to the truth, over n (RMSE)",
        source="PerturBench code; spec F-11",
        higher_is_better=False,
        perfect=0.0,
    )
)(_retrieval(perturbench_rank, kind="l2"))
register(
    _card(
        name="perturbench_rank_paper",
        title="PerturBench rank, as printed",
        formula="share of other predictions at most as far from the truth as the own one (RMSE)",
        source="PerturBench v4; spec F-39",
        higher_is_better=False,
        perfect=0.0,
        chance=1.0,
        note="A constant prediction scores 1, the worst.",
    )
)(_retrieval(perturbench_rank_paper, kind="l2"))
register(
    _card(
        name="perturbench_rank_cosine",
        title="PerturBench rank by cosine of log fold changes",
        formula="as perturbench_rank with 1 − cosine of log fold changes",
        source="PerturBench code; spec F-11, F.8",
        reads=frozenset({"response", "expression"}),
        higher_is_better=False,
        perfect=0.0,
    )
)(_retrieval(perturbench_rank, kind="cosine", profiles=fold_changes))
