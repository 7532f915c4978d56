"""Small random evaluations for the tests of metrics: cells, moments, halves and differential expression that agree."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse, stats

from perturbcast.data.conditions import CONTROL, Query, condition_of, targets_of
from perturbcast.data.de import DifferentialExpression
from perturbcast.data.prediction import Prediction, Support
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.metrics.base import Evaluation


def make_evaluation(
    *,
    n_queries: int = 12,
    n_genes: int = 60,
    n_cells: int = 24,
    n_contexts: int = 1,
    seed: int = 0,
    cells: bool = True,
    responses_only: bool = False,
    prediction: str | np.ndarray = "noisy",
    on_target: float = -1.5,
) -> Evaluation:
    """An evaluation of a small counted screen: `n_queries` train and as many test in each context, doubles among both.

    `prediction` is "noisy", "perfect", "zero", "constant" or responses (query, gene). `cells=False` leaves out screen
    and differential expression; `responses_only` gives what a file of responses holds; `on_target` is the log effect of
    a perturbation on its own target.
    """
    counts, condition, context, queries = _counts(n_queries, n_genes, n_cells, n_contexts, seed, on_target)
    genes = np.array([f"G{gene:03d}" for gene in range(n_genes)], dtype=object)
    screen = _screen(counts, condition, context, genes, n_contexts)
    tables = _tables(screen, queries, seed)
    per_context = len(queries) // n_contexts
    is_test = np.array([position % per_context >= per_context // 2 for position in range(len(queries))])
    truth, training = tables.take(np.flatnonzero(is_test)), tables.take(np.flatnonzero(~is_test))
    if responses_only:
        truth, training = _only_responses(truth), _only_responses(training)
    de = _rank_sum(screen, truth) if cells and not responses_only else None
    return Evaluation(
        truth=truth,
        predicted=predict(truth, responses_of(truth, prediction, seed=seed)),
        training=training,
        de=de,
        screen=screen if cells and not responses_only else None,
        seed=seed,
    )


def responses_of(truth: ResponseTable, prediction: str | np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(query, gene) responses of a named kind of prediction."""
    if not isinstance(prediction, str):
        return prediction
    noise = np.random.default_rng(seed + 1000).normal(size=truth.response.shape)
    return {
        "noisy": 0.6 * truth.response + 0.1 * noise,
        "perfect": truth.response.copy(),
        "zero": np.zeros_like(truth.response),
        "constant": np.tile(0.2 * noise[:1], (truth.n_queries, 1)),
    }[prediction]


def predict(truth: ResponseTable, response: np.ndarray) -> Prediction:
    """A prediction of the truth's queries with those responses."""
    return Prediction(
        queries=truth.queries,
        genes=truth.genes,
        response=response,
        control=truth.control_by_query,
        support=(Support.NEIGHBOURS,) * truth.n_queries,
        reason=("",) * truth.n_queries,
        scale=truth.scale,
        model="test",
    )


def with_prediction(evaluation: Evaluation, response: np.ndarray) -> Evaluation:
    """The same evaluation of another prediction, with an empty cache."""
    return Evaluation(
        truth=evaluation.truth,
        predicted=predict(evaluation.truth, response),
        training=evaluation.training,
        de=evaluation.de,
        screen=evaluation.screen,
        seed=evaluation.seed,
    )


def _conditions(n_queries: int) -> list[str]:
    """Training conditions, then as many test conditions; test doubles are of singles that train."""
    target = [f"G{number:03d}" for number in range(2 * n_queries)]
    training = target[:n_queries]
    for number in range(n_queries // 4):
        training[-1 - number] = condition_of([target[number], target[number + 2]])
    test = [condition_of(target[2 * number : 2 * number + 2]) for number in range(n_queries // 3)]
    return training + test + target[n_queries : 2 * n_queries - len(test)]


def _effects(conditions: list[str], n_genes: int, rng: np.random.Generator, on_target: float) -> np.ndarray:
    """(condition, gene) log effects: a shared shift, sparse effects that add up, own targets lowered, interactions."""
    shared = rng.normal(0, 0.3, n_genes) * (rng.random(n_genes) < 0.3)
    targets = sorted({target for name in conditions for target in targets_of(name)})
    effect = {target: rng.normal(0, 1.0, n_genes) * (rng.random(n_genes) < 0.3) for target in targets}
    for target in targets:
        if int(target[1:]) < n_genes:
            effect[target][int(target[1:])] = on_target
    rows = []
    for name in conditions:
        acting = targets_of(name)
        interaction = rng.normal(0, 0.6, n_genes) * (rng.random(n_genes) < 0.1) * (len(acting) - 1)
        rows.append(shared + sum(effect[target] for target in acting) + interaction)
    return np.array(rows)


def _counts(
    n_queries: int, n_genes: int, n_cells: int, n_contexts: int, seed: int, on_target: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[str, int]]]:
    rng = np.random.default_rng(seed)
    share = rng.gamma(0.7, 1.0, n_genes) + 0.02
    names = _conditions(n_queries)
    condition, context, means = [], [], []
    for number in range(n_contexts):
        base = share * rng.lognormal(0, 0.2, n_genes)
        means.append(np.vstack([base, base * np.exp(_effects(names, n_genes, rng, on_target))]))
        condition += [CONTROL, *names]
        context += [number] * (len(names) + 1)
    repeats = [n_cells * (3 if name == CONTROL else 1) for name in condition]
    mean = np.repeat(np.vstack(means), repeats, axis=0)
    depth = rng.lognormal(np.log(8 * n_genes), 0.2, len(mean))
    counts = rng.poisson(depth[:, None] * mean / mean.sum(axis=1, keepdims=True)).astype(np.float32)
    queries = [(name, number) for number in range(n_contexts) for name in names]
    return counts, np.repeat(condition, repeats), np.repeat(context, repeats), queries


def _screen(
    counts: np.ndarray, condition: np.ndarray, context: np.ndarray, genes: np.ndarray, n_contexts: int
) -> Screen:
    conditions = tuple(sorted(set(condition)))
    code = {name: position for position, name in enumerate(conditions)}
    return Screen(
        name="world",
        matrix=InMemory(sparse.csr_matrix(counts)),
        scale=Scale.COUNTS,
        genes=genes,
        conditions=conditions,
        contexts=("",) if n_contexts == 1 else tuple(f"line{number}" for number in range(n_contexts)),
        condition_code=np.array([code[name] for name in condition], dtype=np.int32),
        context_code=context.astype(np.int32),
        row=np.arange(len(counts)),
        library=counts.sum(axis=1).astype(np.float64),
        cells=np.array([f"cell{number}" for number in range(len(counts))], dtype=object),
        covariates=pd.DataFrame(),
    )


def _expression(screen: Screen, query: Query) -> np.ndarray:
    return np.asarray(screen.expression(screen.cells_of(query)).todense(), dtype=np.float64)


def _tables(screen: Screen, asked: Sequence[tuple[str, int]], seed: int) -> ResponseTable:
    rng = np.random.default_rng(seed + 7)
    queries = tuple(Query(name, screen.contexts[context]) for name, context in asked)
    control = [_expression(screen, Query(CONTROL, context)) for context in screen.contexts]
    cells = [_expression(screen, query) for query in queries]
    of_context = [screen.contexts.index(query.context) for query in queries]
    control_order = [rng.permutation(len(part)) for part in control]
    halves = []
    for half in (0, 1):
        own = [part[half::2] for part in cells]
        reference = [part[order[half::2]].mean(axis=0) for part, order in zip(control, control_order, strict=True)]
        halves.append([part.mean(axis=0) - reference[row] for part, row in zip(own, of_context, strict=True)])
    return ResponseTable(
        name="world",
        scale=Scale.LOG1P_CP10K,
        genes=screen.genes,
        queries=queries,
        response=np.array([part.mean(0) - control[row].mean(0) for part, row in zip(cells, of_context, strict=True)]),
        contexts=screen.contexts,
        control=np.array([part.mean(axis=0) for part in control]),
        n_cells=np.array([len(part) for part in cells], dtype=np.int64),
        variance=np.array([part.var(axis=0, ddof=1) for part in cells]),
        n_control=np.array([len(part) for part in control], dtype=np.int64),
        control_variance=np.array([part.var(axis=0, ddof=1) for part in control]),
        response_halves=np.array(halves),
    )


def _only_responses(table: ResponseTable) -> ResponseTable:
    return ResponseTable(
        name=table.name,
        scale=Scale.RESPONSE,
        genes=table.genes,
        queries=table.queries,
        response=table.response,
        contexts=table.contexts,
        control=np.full_like(table.control, np.nan),
    )


def _rank_sum(screen: Screen, truth: ResponseTable) -> DifferentialExpression:
    z, p, fold = [], [], []
    for query in truth.queries:
        own, control = _expression(screen, query), _expression(screen, Query(CONTROL, query.context))
        ranks = stats.rankdata(np.concatenate([own, control]), axis=0)
        n, m = len(own), len(control)
        ties = np.array([(np.unique(column, return_counts=True)[1] ** 3.0).sum() for column in ranks.T]) - (n + m)
        spread = np.sqrt(np.maximum(n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1))), 1e-12))
        z.append((ranks[:n].sum(axis=0) - n * (n + m + 1) / 2) / spread)
        p.append(2 * stats.norm.sf(np.abs(z[-1])))
        fold.append(np.log2((np.expm1(own).mean(axis=0) + 1e-9) / (np.expm1(control).mean(axis=0) + 1e-9)))
    adjusted = stats.false_discovery_control(np.array(p), axis=1)
    return DifferentialExpression(truth.queries, truth.genes, np.array(z), np.array(p), adjusted, np.array(fold))
