"""The small worlds that models are checked in: responses from hidden features of targets, with knowledge of them."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import sparse

from perturbcast.data.conditions import CONTROL, Query, condition_of, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.genes.knowledge import EmbeddingTable, GeneGraph, GeneKnowledge, GeneSets
from perturbcast.models.base import TrainingData

N_GENES, N_TARGETS, N_FEATURES = 48, 30, 3
N_UNMEASURED = 6  # targets that are not among the measured genes
CELLS_EACH = 12
DAMPING = 0.8  # of the sum of two effects in a double


@dataclass(frozen=True)
class CheckWorld:
    """Training data, and responses of queries that were held out of it."""

    training: TrainingData
    test: ResponseTable

    @cached_property
    def with_cells(self) -> TrainingData:
        """The training data with cells whose mean expression is that of the table."""
        return replace(self.training, screen=_screen(self.training.responses))


def check_world(*, contexts: tuple[str, ...] = ("",), seed: int = 0) -> CheckWorld:
    """A world of 48 genes and 30 targets; 22 singles and 12 doubles per context train, the rest is held out."""
    rng = np.random.default_rng(seed)
    genes = [f"G{number:02d}" for number in range(N_GENES)]
    targets = genes[: N_TARGETS - N_UNMEASURED] + [f"U{number}" for number in range(N_UNMEASURED)]
    features = rng.normal(size=(N_TARGETS, N_FEATURES))
    effect = features @ rng.normal(size=(N_FEATURES, N_GENES)) * 0.3 + rng.normal(size=N_GENES) * 0.2
    shuffled = [targets[place] for place in rng.permutation(N_TARGETS)]
    doubles = [condition_of(pair) for pair in pairwise(shuffled[:22])]
    conditions = shuffled + doubles
    queries = tuple(Query(condition, context) for context in contexts for condition in conditions)
    column = {gene: place for place, gene in enumerate(genes)}
    row = {target: place for place, target in enumerate(targets)}
    response = np.empty((len(queries), N_GENES))
    for place, query in enumerate(queries):
        parts = targets_of(query.condition)
        response[place] = effect[[row[part] for part in parts]].sum(axis=0) * (DAMPING if len(parts) > 1 else 1.0)
        response[place, [column[part] for part in parts if part in column]] -= 1.0
    response += rng.normal(size=response.shape) * 0.05
    trains = set(shuffled[:22]) | set(doubles[:12])
    table = _table(genes, queries, response, contexts, rng)
    inside = np.array([query.condition in trains for query in queries])
    training = TrainingData(table.take(inside), knowledge=_knowledge(targets, features, rng), split_fingerprint="check")
    return CheckWorld(training, table.take(~inside))


def _table(
    genes: list[str],
    queries: tuple[Query, ...],
    response: np.ndarray,
    contexts: tuple[str, ...],
    rng: np.random.Generator,
) -> ResponseTable:
    return ResponseTable(
        name="check",
        scale=Scale.LOG1P_CP10K,
        genes=np.array(genes, dtype=object),
        queries=queries,
        response=response,
        contexts=contexts,
        control=rng.uniform(2.0, 4.0, size=(len(contexts), len(genes))),
        n_cells=rng.integers(20, 200, len(queries)),
        variance=np.full(response.shape, 0.3),
        n_control=np.full(len(contexts), 400),
        control_variance=np.full((len(contexts), len(genes)), 0.3),
    )


def _knowledge(targets: list[str], features: np.ndarray, rng: np.random.Generator) -> GeneKnowledge:
    """Knowledge of each kind, all of it partial: the last target is in none of it."""
    known = np.array(targets[:-1], dtype=object)
    hidden = features[:-1]
    likeness = hidden @ hidden.T
    likeness[likeness < np.quantile(likeness, 0.8)] = 0.0
    np.fill_diagonal(likeness, 0.0)
    signs = (hidden > 0).astype(np.float32)
    names = tuple(f"set {number}" for number in range(N_FEATURES))
    noisy = (hidden + rng.normal(size=hidden.shape) * 0.3).astype(np.float32)
    words = np.where(hidden > 0, "raises", "lowers")
    texts = {
        gene: " ".join(f"{word} pathway{place}" for place, word in enumerate(words[row]))
        for row, gene in enumerate(known)
    }
    return GeneKnowledge(
        embeddings={"features": EmbeddingTable("features", known, noisy)},
        graphs={"likeness": GeneGraph("likeness", known, sparse.csr_matrix(likeness))},
        gene_sets={"signs": GeneSets("signs", known, names, sparse.csr_matrix(signs))},
        texts=texts,
        sequences={gene: "".join(rng.choice(list("ACGT"), 60)) for gene in known},
    )


def _screen(table: ResponseTable) -> Screen:
    """Cells around the mean expression of each query and of control, in the scale of the table."""
    rng = np.random.default_rng(1)
    conditions = tuple(sorted({*table.conditions, CONTROL}))
    queries = [*table.queries, *(Query(CONTROL, context) for context in table.contexts)]
    means = np.vstack([table.expression, table.control])
    expression = np.repeat(means, CELLS_EACH, axis=0)
    expression = np.maximum(expression + rng.normal(size=expression.shape) * 0.3, 0.0)
    condition = np.array([conditions.index(query.condition) for query in queries], dtype=np.int32)
    context = np.array([table.contexts.index(query.context) for query in queries], dtype=np.int32)
    return Screen(
        name="check",
        matrix=InMemory(sparse.csr_matrix(expression.astype(np.float32))),
        scale=table.scale,
        genes=table.genes,
        conditions=conditions,
        contexts=table.contexts,
        condition_code=np.repeat(condition, CELLS_EACH),
        context_code=np.repeat(context, CELLS_EACH),
        row=np.arange(len(expression), dtype=np.int64),
    )
