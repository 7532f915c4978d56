"""Another screen as knowledge: its responses as embedding tables of perturbed and of measured genes.

The tables may be given to any model with `--genes`. They are measurements of another screen, so nothing of the test
side of the screen at hand is in them; but they may hold that other screen's response to a target that is tested here.
That is legitimate knowledge, and another question than prediction from descriptions alone: report it separately.
"""

from dataclasses import dataclass

import numpy as np

from perturbcast.data.conditions import is_single
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import NotEnoughTraining
from perturbcast.genes.knowledge import EmbeddingTable
from perturbcast.models.on_target import OnTarget

WIDTH = 50
FEWEST_QUERIES = 4
PERTURBED, MEASURED = "as-perturbed", "as-measured"


@dataclass(frozen=True)
class Transferred:
    """Genes as they were perturbed elsewhere, and as they responded there, in the same principal axes."""

    perturbed: EmbeddingTable
    measured: EmbeddingTable


def tables_from_responses(table: ResponseTable, *, width: int = WIDTH) -> Transferred:
    """Both tables of a screen, in at most `width` principal axes of the responses of its singles.

    `perturbed`: the response to each target, mean over contexts, own genes set aside (spec D-17: correlation of
    responses in another screen). `measured`: how each gene responds along these axes. Raises NotEnoughTraining with
    fewer than four singles.
    """
    rows = np.array([row for row, query in enumerate(table.queries) if is_single(query.condition)], dtype=np.int64)
    if len(rows) < FEWEST_QUERIES:
        raise NotEnoughTraining(f"{table.name} has {len(rows)} single perturbations, {FEWEST_QUERIES} are needed.")
    single = table.take(rows)
    response, _ = OnTarget.set_aside(single)
    targets = sorted(set(single.targets))
    mean = np.array([response[[q.condition == target for q in single.queries]].mean(axis=0) for target in targets])
    left, size, right = np.linalg.svd(mean - mean.mean(axis=0), full_matrices=False)
    kept = min(width, int((size > 1e-9 * size[0]).sum()))
    source = f"responses of {table.name}"
    coordinates = (left[:, :kept] * size[:kept]).astype(np.float32)
    loading = (right[:kept].T * size[:kept]).astype(np.float32)
    return Transferred(
        EmbeddingTable(f"{table.name}-{PERTURBED}", np.array(targets, dtype=object), coordinates, source),
        EmbeddingTable(f"{table.name}-{MEASURED}", np.asarray(table.genes, dtype=object), loading, source),
    )
