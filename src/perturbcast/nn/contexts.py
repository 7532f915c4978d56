"""Contexts as a network reads them: among its dosage columns, or as labels of cells. Imports no torch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

CONTEXT = "context="  # begins the names of dosage columns that stand for contexts


def context_columns(contexts: Sequence[str]) -> tuple[str, ...]:
    """The dosage columns of contexts."""
    return tuple(CONTEXT + context for context in contexts)


def context_rows(contexts: Sequence[str], columns: Sequence[str]) -> Float[np.ndarray, "context row"] | None:
    """1 in the column of each context, all 0 for one that has none; None where no column is of a context."""
    if not any(name.startswith(CONTEXT) for name in columns):
        return None
    own = [[name == column for column in columns] for name in context_columns(contexts)]
    return np.array(own, dtype=np.float32)


def context_labels(
    named: Sequence[str],
    code: Int[np.ndarray, " cell"],
    contexts: Sequence[str],
    *,
    train_cells: Int[np.ndarray, " train"],
) -> dict[str, np.ndarray]:
    """What a network with embeddings of contexts reads of cells; nothing where it knows fewer than two contexts.

    `context` (cell, context) is 1 for a cell's own context, and 0 everywhere for one that the network does not know;
    `context_share` what the cell bears of the context's global terms. `code` places cells among the contexts `named`.
    """
    if len(contexts) < 2:
        return {}
    own = np.array([[name == context for context in contexts] for name in named], dtype=np.float32)[code]
    return {"context": own, "context_share": own / np.maximum(own[train_cells].sum(axis=0), 1.0)}
