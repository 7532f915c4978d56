"""Metrics of differential expression: which genes are called, in which direction, by how much (spec F.3, F.4, C.7).

Truth is the rank-sum of all cells of a query (`Evaluation.de`). A prediction is turned into cells (metrics/cells.py),
as many as the query has but at most `MOST_CELLS`, tested against the same control cells in the same way. p-values fall
with the number of cells: where a query has more than `MOST_CELLS`, even a perfect mean calls fewer genes than truth
does. That holds for every model alike; compare models, not scores with 1.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import sparse, stats

from perturbcast._types import Profile, ProfileByQuery, ScoreByQuery
from perturbcast.data.de import PER_10K, PSEUDOCOUNT, DifferentialExpression
from perturbcast.data.scale import Scale
from perturbcast.errors import MetricNeeds
from perturbcast.metrics.base import Evaluation, MetricCard, register
from perturbcast.metrics.cells import MOST_CELLS, Cells, ControlCells, control_cells, n_drawn, predicted_cells
from perturbcast.metrics.rank_sum import Reference, rank_sum, reference

GeneMask = Bool[ndarray, " gene"]
Signs = Float[ndarray, " gene"]
REACH_PRECISION = 0.9  # F-21
LEAST_GATE = 10  # significant genes that lfc_nmae needs, F-23
N_RECALL = 20  # genes of deg_recall, F-40


# ------------------------------------------------------------------------------------------------ of one query
def significance_overlap(called: GeneMask, significant: GeneMask, log_fold: Profile, *, names: ndarray) -> float:
    """|S ∩ T| / |T|, with S cut to the |T| genes of largest |log fold| (DES, F-12); 0 if either is empty.

    `log_fold` is predicted. Equal |log fold| goes by gene name (spec: ordinal).
    """
    n_true = int(significant.sum())
    candidates = np.flatnonzero(called)
    if n_true == 0 or len(candidates) == 0:
        return 0.0
    order = np.lexsort((names[candidates].astype(str), -np.abs(log_fold[candidates])))
    return float(significant[candidates[order[:n_true]]].sum() / n_true)


def direction_fidelity(called: GeneMask, significant: GeneMask, predicted: Signs, observed: Signs) -> float:
    """k / max(n_called, n_significant): k called genes have the observed sign (F-20); NaN where both are none.

    `predicted`, `observed` are signed (log fold changes do); a called gene without a predicted sign is wrong, one whose
    observed log fold is 0 or undefined cannot be judged and is left out.
    """
    judged = called & np.isfinite(observed) & (observed != 0)
    most = max(int(judged.sum()), int(significant.sum()))
    right = judged & (np.sign(predicted) == np.sign(observed))
    return float(right.sum() / most) if most else float("nan")


def precision_reach(right: Bool[ndarray, " ranked"], *, precision: float = REACH_PRECISION) -> float:
    """The longest prefix of a ranking with at least that precision, as a share of all ranked (F-21); NaN if empty."""
    if len(right) == 0:
        return float("nan")
    share = np.cumsum(right) / np.arange(1, len(right) + 1)
    reached = np.flatnonzero(share >= precision - 1e-12)
    return float((reached[-1] + 1) / len(right)) if len(reached) else 0.0


def confidence_order(
    called: GeneMask, p_adjusted: Profile, p: Profile, log_fold: Profile, *, names: ndarray
) -> ndarray:
    """Genes by predicted confidence: called first, then adjusted p, p, |log fold| descending, name (F-21)."""
    return np.lexsort((names.astype(str), -np.abs(np.nan_to_num(log_fold)), p, p_adjusted, ~called))


def set_jaccard(called: GeneMask, significant: GeneMask) -> float:
    """|S ∩ T| / |S ∪ T|; 1 where both are empty (F-22)."""
    union = int((called | significant).sum())
    return float((called & significant).sum() / union) if union else 1.0


def log_fold_error(predicted: Profile, observed: Profile, *, gate: GeneMask, least: int = LEAST_GATE) -> float:
    """Σ |predicted − observed| / Σ |observed| over the gate (NMAE, F-23); NaN with fewer than `least` gate genes.

    A predicted value that is not finite counts as 0, so predicting nothing scores 1.
    """
    gate = gate & np.isfinite(observed)
    total = float(np.abs(observed[gate]).sum())
    if gate.sum() < least or total == 0:
        return float("nan")
    guess = np.where(np.isfinite(predicted), predicted, 0.0)
    return float(np.abs(guess[gate] - observed[gate]).sum() / total)


def welch_t(
    mean: Profile, variance: Profile, n: int, other_mean: Profile, other_variance: Profile, other_n: int
) -> Profile:
    """(gene,) Welch's t of two groups of cells; 0 where neither varies."""
    error = np.sqrt(variance / max(n, 1) + other_variance / max(other_n, 1))
    return np.divide(mean - other_mean, error, out=np.zeros_like(error), where=error > 0)


def top_overlap(predicted: Profile, observed: Profile, *, names: ndarray, k: int = N_RECALL) -> float:
    """Share of the k genes of largest |observed| among the k of largest |predicted|, ties by name (F-40)."""
    k = min(k, len(names))
    if k == 0:
        return float("nan")
    guess, real = (set(np.lexsort((names.astype(str), -np.abs(score)))[:k]) for score in (predicted, observed))
    return len(guess & real) / k


# ------------------------------------------------------------------------------------- of a whole evaluation
def control_reference(evaluation: Evaluation, context: str) -> Reference:
    """Control cells of a context, sorted for rank-sum tests, once per evaluation."""
    key = ("rank-sum reference", context)
    if key not in evaluation.cache:
        evaluation.cache[key] = reference(control_cells(evaluation, context).cells.expression)
    held = evaluation.cache[key]
    assert isinstance(held, Reference)
    return held


@dataclass(frozen=True)
class PredictedCells:
    """What the metrics here need of the predicted cells of every query, after one pass over them."""

    de: DifferentialExpression
    mean: ProfileByQuery  # of log expression
    variance: ProfileByQuery


def predicted_de(evaluation: Evaluation) -> DifferentialExpression:
    """Rank-sum of the predicted cells of every query against control; BH within query over all genes (F-19, F-36).

    MetricNeeds where there are no cells.
    """
    return pass_over_cells(evaluation).de


def pass_over_cells(evaluation: Evaluation) -> PredictedCells:
    """Tests and moments of the predicted cells, one query at a time: memory holds the cells of one query."""
    key = "pass over predicted cells"
    if key not in evaluation.cache:
        truth = evaluation.truth
        z, p, fold, mean, variance = (np.empty(truth.response.shape) for _ in range(5))
        for row, query in enumerate(truth.queries):
            cells = predicted_cells(evaluation, row)
            expression = cells.expression
            z[row], p[row] = rank_sum(control_reference(evaluation, query.context), expression)
            fold[row] = _log2_fold(cells, control_cells(evaluation, query.context), truth.scale)
            mean[row], variance[row] = _moments(expression)
        adjusted = stats.false_discovery_control(p, axis=1) if p.size else p
        de = DifferentialExpression(truth.queries, truth.genes, z, p, adjusted, fold)
        evaluation.cache[key] = PredictedCells(de, mean, variance)
    held = evaluation.cache[key]
    assert isinstance(held, PredictedCells)
    return held


def _log2_fold(cells: Cells, control: ControlCells, scale: Scale) -> Profile:
    """(gene,) as data/de.py has it: of mean counts per 10,000, or of mean expression where those are unknown."""
    if scale not in PER_10K:
        mean = np.asarray(cells.expression.mean(axis=0), dtype=np.float64).ravel()
        return (mean - control.expression) / np.log(2)
    mean = np.asarray(cells.linear.mean(axis=0), dtype=np.float64).ravel()
    return np.log2((mean / PER_10K[scale] + PSEUDOCOUNT) / (control.linear / PER_10K[scale] + PSEUDOCOUNT))


def truth_de(evaluation: Evaluation) -> DifferentialExpression:
    """The observed differential expression; MetricNeeds where the data are responses."""
    if evaluation.de is None:
        raise MetricNeeds("this metric reads differential expression, which needs cells.")
    return evaluation.de


def de_size_ratio(evaluation: Evaluation, mask: np.ndarray) -> np.ndarray:
    """(query,) called genes per significant gene, |S| / |T|: what F-38 brings to 1. NaN where T is empty."""
    called = (predicted_de(evaluation).significant() & mask).sum(axis=1).astype(float)
    significant = (truth_de(evaluation).significant() & mask).sum(axis=1)
    return np.divide(called, significant, out=np.full(len(called), np.nan), where=significant > 0)


_DRAWN = (
    f"Cells are drawn from the mean: as many as the query has, at most {MOST_CELLS}; p-values depend on that number."
)
_READS = frozenset({"response", "de", "cells"})


def _card(name: str, title: str, formula: str, source: str, **more: object) -> MetricCard:
    fields: dict[str, object] = {
        "reads": _READS,
        "higher_is_better": True,
        "perfect": 1.0,
        "chance": float("nan"),
        "gene_sets": ("all-notarget",),
        "lowest": 0.0,
        "highest": 1.0,
        "samples": True,
        "reaches_perfect": False,
        "note": _DRAWN,
    }
    return MetricCard(name=name, title=title, formula=formula, source=source, **(fields | more))  # type: ignore[arg-type]


@register(
    _card(
        "des",
        "Differential expression score",
        "|S ∩ T| / |T|, S cut to the |T| called genes of largest |log fold|",
        "VCC 2025, cell-eval; spec F-12",
        gene_sets=("all", "all-notarget"),
        gameable_by=("inflated", "sign flipped"),
        note=_DRAWN + " 0 where truth has no significant gene, as cell-eval does.",
    )
)
def _des(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    called, true, fold = _called(evaluation, mask)
    names = evaluation.truth.genes
    rows = [significance_overlap(c, t, f, names=names) for c, t, f in zip(called, true, fold, strict=True)]
    return np.array(rows, dtype=float)


@register(
    _card(
        "direction_fidelity",
        "Direction fidelity",
        "called genes with the observed sign / max(called, significant)",
        "VCC 2026; spec F-20",
        undefined="neither truth nor prediction has a significant gene.",
        gameable_by=("inflated",),
    )
)
def _direction_fidelity(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    called, true, fold = _called(evaluation, mask)
    observed = truth_de(evaluation).log2_fold_change
    rows = [direction_fidelity(c, t, f, o) for c, t, f, o in zip(called, true, fold, observed, strict=True)]
    return np.array(rows, dtype=float)


@register(
    _card(
        "direction_reach",
        "Direction reach",
        "longest prefix of the significant genes, most confident first, with 90 % right signs / significant genes",
        "VCC 2026; spec F-21",
        undefined="truth has no significant gene.",
        gameable_by=("inflated", "sign-only"),
    )
)
def _direction_reach(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    guess, real = predicted_de(evaluation), truth_de(evaluation)
    called, true, fold = _called(evaluation, mask)
    scores = []
    for row, significant in enumerate(true):
        names = evaluation.truth.genes[significant]
        of_row = [values[row, significant] for values in (called, guess.p_adjusted, guess.p, fold)]
        order = confidence_order(*of_row, names=names)
        right = np.sign(fold[row, significant]) == np.sign(real.log2_fold_change[row, significant])
        scores.append(precision_reach(right[order]))
    return np.array(scores, dtype=float)


@register(
    _card(
        "significant_jaccard",
        "Jaccard of the significant sets",
        "|S ∩ T| / |S ∪ T|, 1 where both are empty",
        "VCC 2026; spec F-22",
        gameable_by=("sign flipped", "control mean"),
    )
)
def _significant_jaccard(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    called, true, _ = _called(evaluation, mask)
    return np.array([set_jaccard(c, t) for c, t in zip(called, true, strict=True)], dtype=float)


@register(
    _card(
        "lfc_nmae",
        "Error of log fold changes",
        "Σ|predicted − observed| / Σ|observed| over the significant genes, log2",
        "VCC 2026; spec F-23",
        higher_is_better=False,
        perfect=0.0,
        highest=float("inf"),
        undefined=f"truth has fewer than {LEAST_GATE} significant genes.",
        gameable_by=("shrunk", "mean in disguise", "sign-only"),
        note=_DRAWN + " 1 is the score of predicting no change.",
    )
)
def _lfc_nmae(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    _, true, fold = _called(evaluation, mask)
    observed = truth_de(evaluation).log2_fold_change
    return np.array([log_fold_error(f, o, gate=t) for f, o, t in zip(fold, observed, true, strict=True)], dtype=float)


@register(
    _card(
        "deg_recall",
        "Recall of the top 20 genes by |t|",
        "|top-20 by |t| of predicted cells ∩ top-20 of observed cells| / 20, Welch's t against control",
        "PerturBench v4; spec F-40",
        reads=frozenset({"response", "variance", "expression", "cells"}),
        gene_sets=("all", "all-notarget"),
        undefined="the gene set is empty for this query.",
        gameable_by=("inflated", "sign flipped", "extremes only"),
        note=_DRAWN + " Compared with control, where scanpy's default compares with all other cells.",
    )
)
def _deg_recall(evaluation: Evaluation, mask: np.ndarray) -> ScoreByQuery:
    truth, drawn, scores = evaluation.truth, pass_over_cells(evaluation), []
    assert truth.variance is not None
    assert truth.n_cells is not None
    for row, query in enumerate(truth.queries):
        genes = np.flatnonzero(mask[row])
        base, spread, n_base = control_moments(evaluation, query.context)
        control = (base[genes], spread[genes], n_base)
        guess = welch_t(drawn.mean[row, genes], drawn.variance[row, genes], n_drawn(evaluation, row), *control)
        real = welch_t(truth.expression[row, genes], truth.variance[row, genes], int(truth.n_cells[row]), *control)
        scores.append(top_overlap(guess, real, names=truth.genes[genes]))
    return np.array(scores, dtype=float)


def control_moments(evaluation: Evaluation, context: str) -> tuple[Profile, Profile, int]:
    """Mean and variance of log expression of the control cells of a context, and how many they are."""
    key = ("control moments", context)
    if key not in evaluation.cache:
        cells = control_cells(evaluation, context).cells.expression
        evaluation.cache[key] = (*_moments(cells), cells.shape[0])
    held = evaluation.cache[key]
    assert isinstance(held, tuple)
    return held


def _called(evaluation: Evaluation, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Called genes, significant genes, predicted log fold changes; each (query, gene)."""
    guess = predicted_de(evaluation)
    return guess.significant() & mask, truth_de(evaluation).significant() & mask, guess.log2_fold_change


def _moments(cells: sparse.csr_matrix) -> tuple[Profile, Profile]:
    """Mean and variance (n − 1) of every gene of sparse cells."""
    n, n_genes = cells.shape
    entries = cells.data.astype(np.float64)
    mean = np.bincount(cells.indices, weights=entries, minlength=n_genes) / n
    square = np.bincount(cells.indices, weights=entries**2, minlength=n_genes) / n
    return mean, np.maximum(square - mean**2, 0.0) * n / max(n - 1, 1)
