"""Direction of change and overlap of the genes that change most (spec A.6, F-4, C.7; family spec 8.2)."""

import math

import numpy as np

from perturbcast._types import MaskByQuery, ProfileByQuery, ScoreByQuery
from perturbcast.metrics.base import Evaluation, MetricCard, on_responses, register
from perturbcast.metrics.gene_sets import top_mask
from perturbcast.metrics.masked import ratio, row_mean, row_sum

CLIP = 0.01  # GRAPE's released code sets predicted expression below this to 0


def clipped_response(response: ProfileByQuery, control: ProfileByQuery) -> ProfileByQuery:
    """(query, gene) response after predicted expression below 0.01 is set to 0, as in GRAPE's code (A.6).

    Both in units of expression. A gene with control in (0, 0.01) becomes "down" whatever was predicted (oracle A7).
    """
    return np.where(control + response < CLIP, -control, response)


def sign_agreement(
    predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None
) -> ScoreByQuery:
    """(query,) share of genes with the same three-valued sign, exact zeros included, 0..1 (A.6); NaN if empty."""
    return row_mean((np.sign(predicted) == np.sign(truth)).astype(float), mask)


def direction_accuracy(
    predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None
) -> ScoreByQuery:
    """(query,) share of the genes whose truth is not 0 with the right sign; a predicted 0 is wrong (F-4), 0..1."""
    changes = (truth != 0).astype(float)
    return ratio(row_sum((predicted * np.sign(truth) > 0).astype(float), mask), row_sum(changes, mask))


def opposite_direction(
    predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None
) -> ScoreByQuery:
    """(query,) share of genes predicted to change the other way, sign difference 2 (C.7), 0..1; NaN if empty."""
    return row_mean((np.sign(predicted) * np.sign(truth) < 0).astype(float), mask)


def jaccard_top(predicted: ProfileByQuery, truth: ProfileByQuery, *, genes: np.ndarray, k: int) -> ScoreByQuery:
    """(query,) |A ∩ B| / |A ∪ B| of the k genes with the largest |response| on either side (8.2, eq. 29), 0..1.

    Ties by gene name. A gene with response 0 is in neither set, so predicting no change has no overlap; NaN where the
    truth has no change.
    """
    ours = top_mask(np.where(predicted != 0, np.abs(predicted), -np.inf), genes, k=k)
    theirs = top_mask(np.where(truth != 0, np.abs(truth), -np.inf), genes, k=k)
    either = (ours | theirs).sum(axis=1)
    return np.where(theirs.any(axis=1), (ours & theirs).sum(axis=1) / np.maximum(either, 1), np.nan)


def _dac(evaluation: Evaluation, mask: np.ndarray) -> np.ndarray:
    clipped = clipped_response(evaluation.predicted.response, evaluation.control)
    return sign_agreement(clipped, evaluation.truth.response, mask=mask)


def _register_jaccard(k: int) -> None:
    def score(evaluation: Evaluation, mask: np.ndarray) -> np.ndarray:
        predicted = np.where(mask, evaluation.predicted.response, 0.0)
        truth = np.where(mask, evaluation.truth.response, 0.0)
        return jaccard_top(predicted, truth, genes=evaluation.truth.genes, k=k)

    register(
        MetricCard(
            name=f"jaccard{k}",
            title=f"Overlap of the {k} genes that change most",
            formula=f"|A ∩ B| / |A ∪ B| of the {k} largest |response| predicted and observed",
            source="GPO-VAE; family spec 8.2 (29)",
            reads=frozenset({"response"}),
            higher_is_better=True,
            perfect=1.0,
            chance=math.nan,
            gene_sets=("all", "all-notarget") if k == 50 else ("all",),
            lowest=0.0,
            highest=1.0,
            core=k == 50,
            undefined="the truth has no change.",
            gameable_by=("perturbed mean", "inflated", "shrunk", "sign flipped"),
            note="Blind to sign and size.",
        )
    )(score)


for _k in (20, 50):
    _register_jaccard(_k)

register(
    MetricCard(
        name="dac",
        title="GRAPE's direction accuracy",
        formula="share of genes with sign(predicted, set to 0 below 0.01, − control) = sign(observed − control)",
        source="GRAPE released code; spec A.6",
        reads=frozenset({"response", "expression"}),
        higher_is_better=True,
        perfect=1.0,
        chance=math.nan,
        gene_sets=("all", "de20", "de40"),
        lowest=0.0,
        highest=1.0,
        undefined="the gene set is empty for this query.",
        gameable_by=("perturbed mean", "clipped", "inflated", "shrunk"),
        reaches_perfect=False,
        note="The clip alone moves it (oracle A7: 0.4 to 0.6), and the truth itself need not score 1.",
    )
)(_dac)
register(
    MetricCard(
        name="direction_accuracy",
        title="Direction accuracy",
        formula="share of genes with observed change whose predicted sign is right; predicted 0 is wrong",
        source="spec F-4 (recommended form)",
        reads=frozenset({"response"}),
        higher_is_better=True,
        perfect=1.0,
        chance=math.nan,
        gene_sets=("significant", "de20", "de40", "all"),
        lowest=0.0,
        highest=1.0,
        core=True,
        undefined="no gene of the set changes in the truth.",
        gameable_by=("perturbed mean", "inflated", "shrunk", "sign-only"),
    )
)(on_responses(direction_accuracy))
register(
    MetricCard(
        name="opposite_direction",
        title="Share of genes predicted to change the other way",
        formula="share of genes with sign difference 2",
        source="GEARS; spec C.7",
        reads=frozenset({"response"}),
        higher_is_better=False,
        perfect=0.0,
        chance=math.nan,
        gene_sets=("de20", "de20-nondropout"),
        lowest=0.0,
        highest=1.0,
        undefined="the gene set is empty for this query.",
        gameable_by=("control mean",),
        note="Predicting no change scores a perfect 0.",
    )
)(on_responses(opposite_direction))
