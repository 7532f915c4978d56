"""Small screens with planted effects, made with numpy alone, for the tests of statistics, splits and audit."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from perturbcast.data.conditions import CONTROL
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.data.statistics import response_table


def make_screen(
    conditions: Sequence[str],
    *,
    contexts: Sequence[str] = ("",),
    n_per_query: int = 20,
    n_control: int = 40,
    n_genes: int = 40,
    effect: float = 0.5,
    seed: int = 0,
) -> Screen:
    """Poisson counts; each target multiplies every gene by its own log-normal factor; cells shuffled."""
    rng = np.random.default_rng(seed)
    names = tuple(sorted({*conditions, CONTROL}))
    targets = sorted({target for name in names for target in name.split("+")})
    factor = {target: np.exp(effect * rng.normal(size=n_genes)) for target in targets} | {CONTROL: np.ones(n_genes)}
    base = rng.gamma(2.0, 0.8, size=n_genes)
    rows, condition_code, context_code = [], [], []
    for context in range(len(contexts)):
        shift = np.exp(0.3 * rng.normal(size=n_genes))
        for code, name in enumerate(names):
            n_cells = n_control if name == CONTROL else n_per_query
            rate = base * shift * np.prod([factor[target] for target in name.split("+")], axis=0)
            rows.append(rng.poisson(rate, size=(n_cells, n_genes)))
            condition_code += [code] * n_cells
            context_code += [context] * n_cells
    order = rng.permutation(len(condition_code))
    counts = np.concatenate(rows)[order].astype(np.float32)
    return from_counts(
        counts,
        conditions=names,
        contexts=tuple(contexts),
        condition_code=np.array(condition_code, dtype=np.int32)[order],
        context_code=np.array(context_code, dtype=np.int32)[order],
    )


def from_counts(
    counts: np.ndarray,
    *,
    conditions: tuple[str, ...],
    condition_code: np.ndarray,
    contexts: tuple[str, ...] = ("",),
    context_code: np.ndarray | None = None,
    covariates: pd.DataFrame | None = None,
    scale: Scale = Scale.COUNTS,
) -> Screen:
    """A screen held in memory."""
    n_cells, n_genes = counts.shape
    return Screen(
        name="small",
        matrix=InMemory(sparse.csr_matrix(counts)),
        scale=scale,
        genes=np.array([f"GENE{gene:03d}" for gene in range(n_genes)], dtype=object),
        conditions=conditions,
        contexts=contexts,
        condition_code=condition_code,
        context_code=np.zeros(n_cells, dtype=np.int32) if context_code is None else context_code,
        row=np.arange(n_cells),
        cells=np.array([f"cell{cell}" for cell in range(n_cells)], dtype=object),
        covariates=pd.DataFrame(index=range(n_cells)) if covariates is None else covariates,
    )


def make_table(conditions: Sequence[str], **options: object) -> ResponseTable:
    """The response table of such a screen."""
    return response_table(make_screen(conditions, **options))  # type: ignore[arg-type]
