"""Small response tables for the tests of models."""

import numpy as np

from perturbcast.data.conditions import Query
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.genes.knowledge import EmbeddingTable, GeneKnowledge
from perturbcast.models.base import TrainingData


def table_of(response, conditions, *, genes=None, contexts=("",), n_cells=None, control=None) -> ResponseTable:
    """A table with one row per condition (all conditions in each context, contexts outermost)."""
    response = np.asarray(response, dtype=float)
    n_genes = response.shape[1]
    names = [f"G{number}" for number in range(n_genes)] if genes is None else genes
    return ResponseTable(
        name="test",
        scale=Scale.LOG1P_CP10K,
        genes=np.array(names, dtype=object),
        queries=tuple(Query(condition, context) for context in contexts for condition in conditions),
        response=response,
        contexts=contexts,
        control=np.ones((len(contexts), n_genes)) if control is None else np.asarray(control, dtype=float),
        n_cells=None if n_cells is None else np.asarray(n_cells),
    )


def featured(*, n_train=30, n_test=15, n_genes=40, noise=0.1, seed=0, n_cells=None):
    """(training data, test table) of singles T0, T1, ... with responses linear in features that one table knows."""
    rng = np.random.default_rng(seed)
    n_targets = n_train + n_test
    features = rng.normal(size=(n_targets, 3))
    response = features @ rng.normal(size=(3, n_genes)) + 0.5 + noise * rng.normal(size=(n_targets, n_genes))
    targets = [f"T{number}" for number in range(n_targets)]
    names = np.array(targets, dtype=object)
    useless = rng.normal(size=(n_targets, 5)).astype(np.float32)
    knowledge = GeneKnowledge(
        embeddings={
            "telling": EmbeddingTable("telling", names, features.astype(np.float32)),
            "useless": EmbeddingTable("useless", names, useless),
        }
    )
    train = table_of(response[:n_train], targets[:n_train], n_cells=n_cells)
    return TrainingData(train, knowledge=knowledge), table_of(response[n_train:], targets[n_train:])


def combined(*, kappa=0.7, offset=0.0, n_targets=12, n_genes=30, noise=0.0, seed=0):
    """(training data, test table): all singles and half of the neighbouring doubles, y = offset + kappa * sum."""
    rng = np.random.default_rng(seed)
    targets = [f"T{number:02d}" for number in range(n_targets)]
    single = rng.normal(size=(n_targets, n_genes))
    pairs = [(first, second) for first in range(n_targets) for second in range(first + 1, n_targets)]
    pairs = [pairs[place] for place in rng.permutation(len(pairs))[:24]]
    double = np.array([offset + kappa * (single[first] + single[second]) for first, second in pairs])
    double = double + noise * rng.normal(size=double.shape)
    names = [f"{targets[first]}+{targets[second]}" for first, second in pairs]
    train = table_of(np.vstack([single, double[:12]]), targets + names[:12])
    return TrainingData(train), table_of(double[12:], names[12:])


def mean_l2(fitted, table) -> float:
    """Mean L2 of the predictions of a table's queries."""
    return float(np.linalg.norm(fitted.predict(table.queries).response - table.response, axis=1).mean())
