"""Contexts among the dosage columns of a network: their names, and which context has which. Imports no torch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

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
