"""Scores of predicted genetic interactions, one per double (spec C.8, D.5). Queries that are no doubles have none."""

from functools import partial

import numpy as np

from perturbcast._types import ScoreByQuery
from perturbcast.metrics.base import Evaluation, MetricCard, MetricFunction, cached, register
from perturbcast.metrics.interactions import (
    LABELS,
    MOST_GENES,
    InteractionFit,
    average_precision,
    class_thresholds,
    deviation,
    deviation_null,
    interaction_classes,
    interaction_fit,
    interaction_labels,
    observed_fit,
    scored_doubles,
)

LEAST_DOUBLES = 3  # whose scores set the thresholds of the classes
_NO_DOUBLE = "the query is no double, or its singles were not both observed"
_SINGLES = "Singles are the observed ones on both sides (D-13)."


def _card(name: str, title: str, formula: str, source: str, **more: object) -> MetricCard:
    fields: dict[str, object] = {
        "reads": frozenset({"response"}),
        "higher_is_better": True,
        "perfect": 1.0,
        "chance": float("nan"),
        "gene_sets": ("all", "top1000"),
        "lowest": 0.0,
        "highest": 1.0,
        "undefined": _NO_DOUBLE + ".",
        "note": _SINGLES,
    }
    return MetricCard(name=name, title=title, formula=formula, source=source, **(fields | more))  # type: ignore[arg-type]


@register(
    _card(
        "interaction_pearson",
        "Correlation of deviations from additivity",
        "Pearson over genes of predicted and observed r_AB − r_A − r_B",
        "spec D-11",
        lowest=-1.0,
        gameable_by=("shrunk", "clipped", "perturbed mean"),
        note=_SINGLES + " The additive model predicts no deviation and scores 0. Observed singles are part of both "
        "deviations, so their noise correlates them: no change scores well above 0; compare with its score.",
    )
)
def _interaction_pearson(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    scores, found = _empty(evaluation), scored_doubles(evaluation)
    for row, first, second in zip(found.rows, found.first, found.second, strict=True):
        genes = mask[row]
        guess, real = (
            deviation(first, second, table.response[row])[genes] for table in (evaluation.predicted, evaluation.truth)
        )
        scores[row] = 0.0 if _flat(guess) else (np.nan if _flat(real) else np.corrcoef(guess, real)[0, 1])
    return scores


def _flat(values: np.ndarray) -> bool:
    """Whether nothing but rounding is left."""
    return len(values) < 2 or float(np.ptp(values)) < 1e-9


@register(
    _card(
        "interaction_average_precision",
        "Average precision of finding interactions",
        "area under precision over recall, genes ranked by |predicted deviation|, true: observed local fdr < 0.05",
        "Ahlmann-Eltze et al. 2025; spec D-11, D-13",
        undefined=_NO_DOUBLE + ", or none of its genes deviates, or there are too few to tell.",
        reaches_perfect=False,
        gameable_by=("shrunk", "perturbed mean", "sign flipped"),
        note=_SINGLES + " No deviation predicted scores the share of true genes. The curve of D-13 over all doubles is "
        "`detection_curve`.",
    )
)
def _interaction_average_precision(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    scores, found, null = _empty(evaluation), scored_doubles(evaluation), deviation_null(evaluation, mask)
    if null is None:
        return scores
    for row, first, second in zip(found.rows, found.first, found.second, strict=True):
        genes = mask[row]
        guess = np.abs(deviation(first, second, evaluation.predicted.response[row]))[genes]
        real = null.significant(deviation(first, second, evaluation.truth.response[row])[genes])
        scores[row] = average_precision(np.round(guess, 9), real)  # rounding: an additive prediction is all ties
    return scores


@register(
    _card(
        "interaction_label_accuracy",
        "Balanced accuracy of interaction labels",
        "mean over observed labels (additive, synergy, buffering, other) of the share of genes given that label",
        "spec D-12",
        undefined=_NO_DOUBLE + ", or there are too few deviations to tell which are large.",
        gameable_by=("clipped", "sign-only", "shrunk"),
        note=_SINGLES + " Thresholds: empirical null of all observed deviations, local fdr 0.05 (D-11).",
    )
)
def _interaction_label_accuracy(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    scores, found, null = _empty(evaluation), scored_doubles(evaluation), deviation_null(evaluation, mask)
    if null is None:
        return scores
    label = partial(interaction_labels, lower=null.lower, upper=null.upper)
    guess = label(found.first, found.second, evaluation.predicted.response[found.rows])
    real = label(found.first, found.second, evaluation.truth.response[found.rows])
    for row, guess_row, real_row in zip(found.rows, guess, real, strict=True):
        right = (guess_row == real_row)[mask[row]]
        shares = [right[real_row[mask[row]] == name] for name in LABELS]
        scores[row] = np.mean([share.mean() for share in shares if len(share)]) if len(right) else np.nan
    return scores


Fits = list[tuple[int, InteractionFit, InteractionFit]]


def fits_of(evaluation: Evaluation, mask: np.ndarray) -> Fits:
    """(row, predicted, observed) scores of C.8 of every double, over at most `MOST_GENES` genes of its mask.

    Those are the genes with the highest control mean, or where control is unknown, the largest mean |response| of the
    training side.
    """

    def compute() -> Fits:
        found, result = scored_doubles(evaluation), []
        level = evaluation.control if evaluation.truth.has_control else None
        for row, first, second in zip(found.rows, found.first, found.second, strict=True):
            height = np.abs(evaluation.training.response).mean(axis=0) if level is None else level[row]
            candidates = np.flatnonzero(mask[row])
            genes = candidates[np.argsort(-height[candidates], kind="stable")[:MOST_GENES]]
            if len(genes) < 3:
                continue
            guess = interaction_fit(first[genes], second[genes], evaluation.predicted.response[row, genes])
            real = observed_fit(first[genes], second[genes], evaluation.truth.response[row, genes])
            result.append((int(row), guess, real))
        return result

    return cached(evaluation, "interaction fits", mask, compute)


def _fit_error(score: str) -> MetricFunction:
    def error(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
        scores = _empty(evaluation)
        for row, guess, real in fits_of(evaluation, mask):
            scores[row] = abs(getattr(guess, score) - getattr(real, score))
        return scores

    return error


_FIT_SCORES = {
    "magnitude": ("magnitude", "sqrt(c1² + c2²), r_AB ≈ c1 r_A + c2 r_B by Theil-Sen", float("inf")),
    "dominance": ("dominance", "|log10 |c1/c2||, at most 3", 3.0),
    "model_fit": ("fit", "correlation of c1 r_A + c2 r_B with r_AB", 2.0),
    "double_similarity": ("double_similarity", "distance correlation of (r_A, r_B) with r_AB", 1.0),
    "equality": ("equality", "smaller over larger distance correlation of r_A and r_B with r_AB", 1.0),
}
for _name, (_score, _formula, _most) in _FIT_SCORES.items():
    register(
        _card(
            f"gi_{_name}_error",
            f"Error of the interaction score '{_name.replace('_', ' ')}'",
            f"|predicted − observed|; {_formula}",
            "Norman et al. 2019, GEARS; spec C.8",
            higher_is_better=False,
            perfect=0.0,
            highest=_most,
            gene_sets=("all",),
            gameable_by=("sign flipped", "clipped", "sign-only"),
            note=_SINGLES + f" Over at most {MOST_GENES} genes, the most expressed.",
        )
    )(_fit_error(_score))


@register(
    _card(
        "gi_class_jaccard",
        "Jaccard of interaction classes",
        "|predicted ∩ observed| / |predicted ∪ observed| of synergy, suppression, neomorphism, redundancy, epistasis",
        "Norman et al. 2019, GEARS; spec C.8",
        gene_sets=("all",),
        undefined=_NO_DOUBLE + ", or fewer than three doubles are scored.",
        gameable_by=("sign flipped", "inflated"),
        note=_SINGLES + " Thresholds are the outer fifths of the observed doubles that are scored; no class on both "
        "sides counts as 1.",
    )
)
def _gi_class_jaccard(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    scores, fits = _empty(evaluation), fits_of(evaluation, mask)
    if len(fits) < LEAST_DOUBLES:
        return scores
    thresholds = class_thresholds([real for _, _, real in fits])
    for row, guess, real in fits:
        found = [interaction_classes(fit, thresholds) for fit in (guess, real)]
        union = found[0] | found[1]
        scores[row] = len(found[0] & found[1]) / len(union) if union else 1.0
    return scores


def _empty(evaluation: Evaluation) -> ScoreByQuery:
    return np.full(evaluation.truth.n_queries, np.nan)
