"""Gene sets: which genes of each query a metric looks at, by name.

`all`; `top1000` the most expressed in control (D-10); `de20` the most differential by rank-sum |z| where cells are
known, by |response| otherwise (F-3); `delta20` always by |response| (family spec 8.2); `hvg1000` the most variable on
the training side; `significant` those with adjusted p < 0.05. Any number may stand for these numbers. Endings:
`-nondropout` and `-notarget` restrict the candidates before ranking, as in `de20-nondropout` or `all-notarget`.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

from perturbcast._types import MaskByQuery, ProfileByQuery
from perturbcast.data.conditions import targets_of
from perturbcast.errors import MetricNeeds, UnknownOption
from perturbcast.metrics.base import Evaluation

SILENT = 1e-9  # a mean expression below this is zero: one molecule in 10,000 cells already gives 1e-5
N_VARIABLE = 1000  # genes of `hvg` without a number
ENDINGS = ("nondropout", "notarget")


def gene_set_masks(evaluation: Evaluation, names: Sequence[str]) -> dict[str, MaskByQuery]:
    """(query, gene) bool mask of every named gene set that these data can give.

    Those that need something unknown are left out; `gene_set_reasons` says why. UnknownOption for an unknown name.
    """
    masks = {}
    for name in names:
        try:
            masks[name] = gene_set_mask(evaluation, name)
        except MetricNeeds:
            continue
    return masks


def gene_set_reasons(evaluation: Evaluation, names: Sequence[str]) -> dict[str, str]:
    """Coded reason of every named gene set that these data cannot give."""
    reasons = {}
    for name in names:
        try:
            gene_set_mask(evaluation, name)
        except MetricNeeds as missing:
            reasons[name] = str(missing)
    return reasons


def gene_set_mask(evaluation: Evaluation, name: str) -> MaskByQuery:
    """(query, gene) bool mask of one gene set, computed once per evaluation.

    Raises MetricNeeds where the data lack what it is made from, UnknownOption for an unknown name.
    """
    key = ("gene set", name)
    if key not in evaluation.cache:
        base, number, endings = _parse(name)
        candidates = np.ones(evaluation.truth.response.shape, dtype=bool)
        if "nondropout" in endings:
            candidates &= _not_dropped_out(evaluation)
        if "notarget" in endings:
            candidates &= ~own_targets(evaluation)
        evaluation.cache[key] = _BASES[base](evaluation, number, candidates)
    mask = evaluation.cache[key]
    assert isinstance(mask, np.ndarray)
    return mask


def describe_gene_set(evaluation: Evaluation, name: str) -> str:
    """One sentence: how the set is chosen in these data. UnknownOption for an unknown name."""
    base, number, endings = _parse(name)
    by = "rank-sum |z| against control" if evaluation.de is not None else "|response|"
    text = {
        "all": "all measured genes",
        "top": f"the {number} genes with the highest mean in control",
        "de": f"the {number} most differential genes of each query by {by}",
        "delta": f"the {number} genes of each query with the largest |response|",
        "hvg": f"the {number} most variable genes of the training side",
        "significant": "the genes of each query with adjusted p below 0.05 against control",
    }[base]
    if "nondropout" in endings:
        text += ", without genes that fall silent in the query"
    if "notarget" in endings:
        text += ", without the query's own targets"
    return text + "."


def own_targets(evaluation: Evaluation) -> MaskByQuery:
    """(query, gene) bool: the gene is a target of the query."""
    key = "own targets"
    if key not in evaluation.cache:
        column = {gene: position for position, gene in enumerate(evaluation.truth.genes)}
        mask = np.zeros(evaluation.truth.response.shape, dtype=bool)
        for row, query in enumerate(evaluation.truth.queries):
            mask[row, [column[target] for target in targets_of(query.condition) if target in column]] = True
        evaluation.cache[key] = mask
    held = evaluation.cache[key]
    assert isinstance(held, np.ndarray)
    return held


def top_mask(importance: ProfileByQuery, genes: np.ndarray, *, k: int) -> MaskByQuery:
    """(query, gene) bool: the k most important genes of each row, ties by gene name, NaN and -inf never."""
    by_name = np.argsort(genes.astype(str), kind="stable")
    named = np.nan_to_num(importance[:, by_name], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    best = np.argsort(-named, axis=1, kind="stable")[:, :k]
    mask = np.zeros(importance.shape, dtype=bool)
    np.put_along_axis(mask, by_name[best], True, axis=1)
    return mask & np.isfinite(importance)


def _parse(name: str) -> tuple[str, int, tuple[str, ...]]:
    stem, *endings = name.split("-")
    found = re.fullmatch(r"(all|significant|hvg)|(top|de|delta|hvg)([1-9]\d*)", stem)
    if found is None or any(ending not in ENDINGS for ending in endings):
        raise UnknownOption(
            f"no gene set is called {name!r}. Known: all, top1000, de20, delta20, hvg1000 (any number), "
            "significant, and the endings -nondropout, -notarget."
        )
    return found[1] or found[2], int(found[3] or N_VARIABLE), tuple(endings)


def _all(evaluation: Evaluation, number: int, candidates: np.ndarray) -> np.ndarray:
    return candidates


def _most_expressed(evaluation: Evaluation, number: int, candidates: np.ndarray) -> np.ndarray:
    if not evaluation.truth.has_control:
        raise MetricNeeds("this gene set needs the control mean, which a file of responses does not have.")
    importance = np.where(candidates, evaluation.control, -np.inf)
    best = np.argsort(-importance, axis=1, kind="stable")[:, :number]  # ties by order of appearance (D-10)
    mask = np.zeros(candidates.shape, dtype=bool)
    np.put_along_axis(mask, best, True, axis=1)
    return mask & candidates


def _most_differential(evaluation: Evaluation, number: int, candidates: np.ndarray) -> np.ndarray:
    if evaluation.de is None:
        return _most_changed(evaluation, number, candidates)
    strength = np.where(candidates, np.abs(evaluation.de.z), -np.inf)
    return top_mask(strength, evaluation.truth.genes, k=number)


def _most_changed(evaluation: Evaluation, number: int, candidates: np.ndarray) -> np.ndarray:
    strength = np.where(candidates, np.abs(evaluation.truth.response), -np.inf)
    return top_mask(strength, evaluation.truth.genes, k=number)


def _most_variable(evaluation: Evaluation, number: int, candidates: np.ndarray) -> np.ndarray:
    """Variance over mean between training cells; where cells are unknown, variance between training responses."""
    training = evaluation.training
    if training.n_queries < 2:
        raise MetricNeeds("the most variable genes need at least two training queries.")
    if training.variance is not None and training.has_control:
        spread, level = training.variance.mean(axis=0), np.abs(training.expression).mean(axis=0)
        dispersion = np.divide(spread, level, out=np.zeros_like(spread), where=level > SILENT)
    else:
        dispersion = training.response.var(axis=0, ddof=1)
    return top_mask(np.where(candidates, dispersion, -np.inf), evaluation.truth.genes, k=number)


def _significant(evaluation: Evaluation, number: int, candidates: np.ndarray) -> np.ndarray:
    if evaluation.de is None:
        raise MetricNeeds("the significant genes need differential expression, which needs cells.")
    return candidates & evaluation.de.significant()


def _not_dropped_out(evaluation: Evaluation) -> np.ndarray:
    """GEARS (C.1): not silent in the query, or silent in the query and in control."""
    if not evaluation.truth.has_control:
        raise MetricNeeds("non-dropout genes need the control mean, which a file of responses does not have.")
    silent = np.abs(evaluation.truth.expression) < SILENT
    return ~silent | (np.abs(evaluation.control) < SILENT)


_BASES: dict[str, Callable[[Evaluation, int, np.ndarray], np.ndarray]] = {
    "all": _all,
    "top": _most_expressed,
    "de": _most_differential,
    "delta": _most_changed,
    "hvg": _most_variable,
    "significant": _significant,
}
