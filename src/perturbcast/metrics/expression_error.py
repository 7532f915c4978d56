"""Unbiased expression error: squared error of pseudobulks with the sampling noise of both sides taken off (spec F-18).

N_p = (‖b̂_p − b_p‖² − min(Ĉ_p, C_p) − C_p) / G_p and D_p = (‖b_p − b_ctrl‖² − C_p − C_ctrl) / G_p, with
b = log1p(5e4 · molecules of the gene / molecules of all genes) and C its delete-one jackknife variance summed over
genes. The score of a data set is Σ N / Σ D: 0 for the exact profile, 1 for control. The score of a query here is
N_p over the *mean* D of all queries scored, so that the mean over queries is exactly Σ N / Σ D.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import sparse

from perturbcast._types import Profile, ScoreByQuery
from perturbcast.errors import MetricNeeds
from perturbcast.metrics.base import Evaluation, MetricCard, register
from perturbcast.metrics.cells import Cells, cells_of, control_cells, predicted_linear

TOTAL = 5e4  # molecules that every pseudobulk is brought to, F-10
AT_ONCE = 256  # cells made dense at a time in the jackknife


def log_pseudobulk(molecules: Profile, *, total: float = TOTAL) -> Profile:
    """(gene,) ln(1 + total · share); zeros where there is no molecule at all."""
    everything = float(molecules.sum())
    return np.log1p(molecules * (total / everything)) if everything > 0 else np.zeros(len(molecules))


def jackknife_by_gene(counts: sparse.csr_matrix, *, total: float = TOTAL) -> Profile:
    """(gene,) delete-one jackknife variance of the log pseudobulk of some cells (F-18); 0 with fewer than two cells."""
    n, n_genes = counts.shape
    library = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    molecules = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
    rest = molecules.sum() - library  # molecules without each cell
    if n < 2 or (rest <= 0).any():
        return np.zeros(n_genes)
    center = log_pseudobulk(molecules, total=total)  # near every deleted value: sums of squares lose no digits
    first, second = np.zeros(n_genes), np.zeros(n_genes)
    for start in range(0, n, AT_ONCE):
        block = slice(start, start + AT_ONCE)
        without = counts[block].toarray().astype(np.float64)
        np.subtract(molecules, without, out=without)
        without *= (total / rest[block])[:, None]
        deviation = np.log1p(without, out=without) - center
        first += deviation.sum(axis=0)
        second += (deviation**2).sum(axis=0)
    return (n - 1) / n * np.maximum(second - first**2 / n, 0.0)


def jackknife_variance(counts: sparse.csr_matrix, *, total: float = TOTAL) -> float:
    """The jackknife variance summed over genes, C of F-18."""
    return float(jackknife_by_gene(counts, total=total).sum())


def error_terms(
    predicted: Profile,
    observed: Profile,
    control: Profile,
    *,
    noise: float,
    control_noise: float,
    predicted_noise: float = 0.0,
) -> tuple[float, float]:
    """N and D of one query (F-18), of log pseudobulks over the same genes and their summed jackknife variances.

    A mean that is predicted without drawing cells has no sampling noise: `predicted_noise` 0.
    """
    n_genes = max(len(observed), 1)
    error = float(((predicted - observed) ** 2).sum()) - min(predicted_noise, noise) - noise
    effect = float(((observed - control) ** 2).sum()) - noise - control_noise
    return error / n_genes, effect / n_genes


def unbiased_expression_error(error: Float[ndarray, " query"], effect: Float[ndarray, " query"]) -> float:
    """Σ N / Σ D of F-18; NaN where the effects sum to nothing."""
    total = float(effect.sum())
    return float(error.sum()) / total if total > 0 else float("nan")


def _pseudobulks(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Log pseudobulk and its jackknife variance of every query in truth, (query, gene) each, once per evaluation."""
    key = "truth pseudobulks"
    if key not in evaluation.cache:
        screen, truth = evaluation.screen, evaluation.truth
        if screen is None:
            raise MetricNeeds("this metric reads cells, and these data are responses.")
        profile, noise = np.empty(truth.response.shape), np.empty(truth.response.shape)
        for row, query in enumerate(truth.queries):
            profile[row], noise[row] = _of_cells(cells_of(screen, screen.cells_of(query)))
        evaluation.cache[key] = (profile, noise)
    held = evaluation.cache[key]
    assert isinstance(held, tuple)
    return held


def _control_pseudobulk(evaluation: Evaluation, context: str) -> tuple[np.ndarray, np.ndarray]:
    key = ("control pseudobulk", context)
    if key not in evaluation.cache:
        evaluation.cache[key] = _of_cells(control_cells(evaluation, context).cells)
    held = evaluation.cache[key]
    assert isinstance(held, tuple)
    return held


def _of_cells(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    molecules = np.asarray(cells.counts.sum(axis=0), dtype=np.float64).ravel()
    return log_pseudobulk(molecules), jackknife_by_gene(cells.counts)


def predicted_pseudobulk(evaluation: Evaluation, row: int) -> Profile:
    """(gene,) log pseudobulk of a predicted mean: control's molecules times the predicted change, as shares again."""
    control = control_cells(evaluation, evaluation.truth.queries[row].context)
    linear = predicted_linear(control, np.asarray(evaluation.predicted.response[row], dtype=np.float64))
    molecules = np.asarray(control.cells.counts.sum(axis=0), dtype=np.float64).ravel()
    scale = molecules.sum() / max(float(control.linear.sum()), 1e-12)
    fold = np.divide(linear, control.linear, out=np.zeros_like(linear), where=control.linear > 0)
    return log_pseudobulk(np.where(control.linear > 0, molecules * fold, linear * scale))


@register(
    MetricCard(
        name="expression_error",
        title="Unbiased expression error",
        formula="N / mean D; N = (‖b̂ − b‖² − noise)/G, D = (‖b − control‖² − noise)/G, b = log1p(5e4 · share)",
        source="VCC 2026, cell-eval2; spec F-18",
        reads=frozenset({"response", "cells"}),
        higher_is_better=False,
        perfect=0.0,
        chance=float("nan"),
        gene_sets=("all", "all-notarget"),
        undefined="the observed effects are no larger than their sampling noise.",
        reaches_perfect=False,
        gameable_by=("shrunk", "perturbed mean", "control mean"),
        note="1 is the score of control. Noise is taken off, so a query of a very good prediction can be below 0; the "
        "mean over queries is the published ratio of sums. A mean response is turned into molecules by the ratio "
        "expm1(predicted) / expm1(control), which is exact only for sparse or for abundant genes.",
    )
)
def _expression_error(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    profile, noise = _pseudobulks(evaluation)
    error, effect = (np.empty(len(profile)) for _ in range(2))
    for row, query in enumerate(evaluation.truth.queries):
        genes = mask[row]
        control, control_noise = _control_pseudobulk(evaluation, query.context)
        error[row], effect[row] = error_terms(
            predicted_pseudobulk(evaluation, row)[genes],
            profile[row, genes],
            control[genes],
            noise=float(noise[row, genes].sum()),
            control_noise=float(control_noise[genes].sum()),
        )
    typical = effect.mean() if len(effect) else 0.0
    return error / typical if typical > 0 else np.full(len(error), np.nan)
