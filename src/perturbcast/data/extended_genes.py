"""Extended genes of GPO-VAE: genes that respond to some perturbation without being a target themselves (spec 5.7)."""

from collections.abc import Collection

import numpy as np

from perturbcast.data.de import DifferentialExpression


def extended_genes(
    tested: DifferentialExpression,
    *,
    targets: Collection[str],
    fold: float = 3.0,
    alpha: float = 0.01,
    most: int | None = None,
) -> tuple[str, ...]:
    """Genes with |log2 fold change| > fold and adjusted p < alpha in any query, targets left out, by name.

    `most` keeps those with the lowest adjusted p, of equal ones those with the largest fold change. Differs from the
    published code, which takes one gene per perturbation and lets down-regulated genes pass without a test (B8).
    """
    passes = (np.abs(tested.log2_fold_change) > fold) & (tested.p_adjusted < alpha)
    is_target = np.isin(tested.genes.astype(str), list(targets))
    chosen = np.flatnonzero(passes.any(axis=0) & ~is_target)
    if most is not None and len(chosen) > most:
        best_p = np.where(passes, tested.p_adjusted, 1.0)[:, chosen].min(axis=0)
        largest = np.where(passes, np.abs(tested.log2_fold_change), 0.0)[:, chosen].max(axis=0)
        names = tested.genes[chosen].astype(str)
        chosen = chosen[np.lexsort((names, -largest, best_p))[:most]]
    return tuple(sorted(str(gene) for gene in tested.genes[chosen]))
