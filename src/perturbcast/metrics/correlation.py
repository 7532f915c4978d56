"""Agreement in shape: correlation, cosine and R² of responses, per query and over the flattened table.

Reference: "delta" against control, which the shift shared by all perturbations inflates; "delta_perturbed" against
the training perturbed mean, where predicting that mean has no variance and counts 0 (spec F-2, 0.6).
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from perturbcast._types import MaskByQuery, ProfileByQuery, ScoreByQuery
from perturbcast.data.scale import Scale
from perturbcast.errors import MetricNeeds
from perturbcast.metrics.base import Evaluation, MetricCard, on_responses, pack, register
from perturbcast.metrics.masked import FLAT, ratio, row_mean, row_ranks, row_sum

PSEUDOCOUNT = 0.1  # PerturBench's logFC


def pearson(predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None) -> ScoreByQuery:
    """(query,) Pearson correlation over the genes of the mask, -1..1; NaN where either side is constant (F-2)."""
    return _cosine(_centred(predicted, mask), _centred(truth, mask), mask)


def spearman(predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None) -> ScoreByQuery:
    """(query,) Spearman correlation with mid-ranks, -1..1; NaN where either side is constant."""
    return pearson(row_ranks(predicted, mask), row_ranks(truth, mask), mask=mask)


def cosine(predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None) -> ScoreByQuery:
    """(query,) cosine between the responses, -1..1; NaN where either is zero."""
    return _cosine(predicted, truth, mask)


def r2(predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None) -> ScoreByQuery:
    """(query,) 1 − Σ(Δ−Δ̂)²/Σ(Δ−mean Δ)², at most 1, unbounded below; NaN where the truth is constant (F-5)."""
    spread = row_sum(_centred(truth, mask) ** 2, mask)
    return 1.0 - ratio(row_sum((truth - predicted) ** 2, mask), spread)


def ate_rho(
    predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None
) -> Float[np.ndarray, " one"]:
    """(1,) Pearson correlation over all queries and genes flattened (family spec 8.2, eq. 28)."""
    return pearson(_flat(predicted, mask), _flat(truth, mask))


def ate_r2(
    predicted: ProfileByQuery, truth: ProfileByQuery, *, mask: MaskByQuery | None = None
) -> Float[np.ndarray, " one"]:
    """(1,) R² over all queries and genes flattened, the data as truth (family spec 8.2, eq. 28)."""
    return r2(_flat(predicted, mask), _flat(truth, mask))


def log_fold_change(expression: ProfileByQuery, control: ProfileByQuery) -> ProfileByQuery:
    """(query, gene) log2 of expected counts over those of control, pseudocount 0.1 (PerturBench, spec F.8).

    Takes means of ln(1 + x). Differs from the paper: expm1 of the mean, not the mean of expm1, so that a mean profile
    without cells can be scored; both sides are treated alike.
    """
    expected = np.maximum(np.expm1(expression), 0.0) + PSEUDOCOUNT
    return np.log2(expected / (np.maximum(np.expm1(control), 0.0) + PSEUDOCOUNT))


def fold_changes(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """(query, gene) log2 fold changes of prediction and truth; MetricNeeds on scales that are no ln(1 + x)."""
    if evaluation.truth.scale not in {Scale.LOG1P_CP10K, Scale.LOG1P_CPM}:
        raise MetricNeeds(f"fold changes need expression as ln(1 + counts); these data are {evaluation.truth.scale}.")
    held: Any = evaluation.cache.get("fold changes")
    if held is None:
        control, response = evaluation.control, (evaluation.predicted.response, evaluation.truth.response)
        held = tuple(log_fold_change(control + side, control) for side in response)
        evaluation.cache["fold changes"] = held
    return held


def _cosine_logfc(evaluation: Evaluation, mask: np.ndarray) -> np.ndarray:
    predicted, truth = fold_changes(evaluation)
    dense = pack(predicted, mask)
    if dense is None:
        return cosine(predicted, truth, mask=mask)
    truth_dense = pack(truth, mask)
    assert truth_dense is not None
    return cosine(dense, truth_dense)


def _cosine(left: ProfileByQuery, right: ProfileByQuery, mask: MaskByQuery | None) -> ScoreByQuery:
    norm = np.sqrt(row_sum(left**2, mask) * row_sum(right**2, mask))
    return np.clip(ratio(row_sum(left * right, mask), norm), -1.0, 1.0)


def _centred(values: ProfileByQuery, mask: MaskByQuery | None) -> ProfileByQuery:
    """Values minus their row mean, exactly 0 where a row is constant but for rounding."""
    centred = values - row_mean(values, mask)[:, None]
    flat = row_sum(centred**2, mask) <= FLAT * row_sum(values**2, mask)
    return np.where(flat[:, None], 0.0, centred)


def _flat(values: ProfileByQuery, mask: MaskByQuery | None) -> Float[np.ndarray, "one entry"]:
    return (values.ravel() if mask is None else values[mask])[None, :]


def _agreement_card(**fields: Any) -> MetricCard:
    """The card of a correlation: 1 is perfect, undefined counts 0."""
    common: dict[str, Any] = {
        "reads": frozenset({"response"}),
        "higher_is_better": True,
        "perfect": 1.0,
        "chance": math.nan,
        "lowest": -1.0,
        "highest": 1.0,
        "undefined": "prediction or truth does not vary over these genes; it counts 0.",
        "undefined_counts_as": 0.0,
    }
    return MetricCard(**(common | fields))


_TRAINING = frozenset({"response", "training"})
register(
    _agreement_card(
        name="pearson_delta",
        title="Pearson correlation of responses",
        formula="corr(predicted − control, observed − control)",
        source="GEARS; spec F-2, C.7; its mean is the per-perturbation ATE-rho of family spec 8.2",
        gene_sets=("all", "all-notarget", "top1000", "de20", "de40"),
        core=True,
        gameable_by=("perturbed mean", "inflated", "shrunk"),
        note="Inflated by the shift that all perturbations share; read it beside pearson_delta_perturbed.",
    )
)(on_responses(pearson))
register(
    _agreement_card(
        name="pearson_delta_perturbed",
        title="Pearson correlation against the perturbed mean",
        formula="corr(predicted − perturbed mean, observed − perturbed mean), perturbed mean of training",
        source="Systema; spec F-2",
        reads=_TRAINING,
        gene_sets=("all", "all-notarget", "top1000", "de20"),
        core=True,
        gameable_by=("inflated", "shrunk"),
    )
)(on_responses(pearson, reference="perturbed"))
register(
    _agreement_card(
        name="spearman_delta",
        title="Spearman correlation of responses",
        formula="rank correlation with mid-ranks of predicted and observed response",
        source="spec 0.5, F-2",
        gene_sets=("all", "de20"),
        gameable_by=("perturbed mean", "inflated", "shrunk"),
    )
)(on_responses(spearman))
register(
    _agreement_card(
        name="cosine",
        title="Cosine of responses",
        formula="<predicted, observed> / (|predicted| |observed|)",
        source="spec F.8, F-9",
        gene_sets=("all", "all-notarget", "top1000"),
        core=True,
        gameable_by=("perturbed mean", "inflated", "shrunk"),
    )
)(on_responses(cosine))
register(
    _agreement_card(
        name="cosine_perturbed",
        title="Cosine against the perturbed mean",
        formula="cosine of predicted and observed response, each minus the training perturbed mean",
        source="spec F-2, F-9",
        reads=_TRAINING,
        gene_sets=("all",),
        gameable_by=("inflated", "shrunk"),
    )
)(on_responses(cosine, reference="perturbed"))
register(
    _agreement_card(
        name="cosine_logfc",
        title="Cosine of log fold changes",
        formula="cosine of log2((expm1(mean) + 0.1) / (expm1(control) + 0.1))",
        source="PerturBench; spec F.8",
        reads=frozenset({"response", "expression"}),
        gene_sets=("all",),
        gameable_by=("perturbed mean",),
    )
)(_cosine_logfc)
register(
    _agreement_card(
        name="r2_delta",
        title="R² of responses",
        formula="1 − sum(observed − predicted)² / sum(observed − mean of observed)²",
        source="spec F-5; its mean is the per-perturbation ATE-R² of family spec 8.2",
        gene_sets=("all", "top1000", "de20"),
        lowest=-math.inf,
        gameable_by=("shrunk", "perturbed mean"),
    )
)(on_responses(r2))
register(
    _agreement_card(
        name="r2_delta_perturbed",
        title="R² against the perturbed mean",
        formula="R² of predicted and observed response, each minus the training perturbed mean",
        source="spec F-5",
        reads=_TRAINING,
        gene_sets=("all", "de20"),
        lowest=-math.inf,
        gameable_by=("shrunk",),
    )
)(on_responses(r2, reference="perturbed"))
register(
    _agreement_card(
        name="ate_rho",
        title="ATE-rho: correlation over all queries and genes at once",
        formula="corr(vec predicted, vec observed)",
        source="GPO-VAE; family spec 8.2 (28); reference = the truth table given (all cells or test cells)",
        gene_sets=("all", "delta20"),
        per="dataset",
        gameable_by=("perturbed mean",),
        note="Ruled by strong perturbations; its reference must not hold training cells.",
    )
)(on_responses(ate_rho))
register(
    _agreement_card(
        name="ate_r2",
        title="ATE-R²: R² over all queries and genes at once",
        formula="1 − sum(T − Y)² / sum(T − mean T)², T observed",
        source="GPO-VAE; family spec 8.2 (28); reference = the truth table given (all cells or test cells)",
        gene_sets=("all", "delta20"),
        per="dataset",
        lowest=-math.inf,
        gameable_by=("perturbed mean", "shrunk"),
    )
)(on_responses(ate_r2))
