"""Maps of genes by biotype, as given and as learned, with a control of shuffled biotypes (GRAPE, Fig. 3)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from perturbcast.benchmarking.store import write_table
from perturbcast.models.base import Model, TrainingData

NEIGHBOURS = 10
AXES = 20  # leading principal axes in which neighbours are looked for


@runtime_checkable
class KnowsGenes(Protocol):
    """A fitted model with states of the measured genes, in order of name, and the genes that it reasons over."""

    nodes: Any

    def gene_states(self) -> dict[str, np.ndarray]:
        """(gene, feature) by name: as given, and `learned`."""


@dataclass(frozen=True)
class GeneMap:
    """Genes in two principal axes, and how far the genes next to each other are of one biotype."""

    title: str
    place: Float[np.ndarray, "gene 2"]
    non_coding: Bool[np.ndarray, " gene"]
    separation: float  # 1: neighbours always agree; 0: as often as by chance


def gene_maps(model: Model, training: TrainingData, *, seed: int = 0, out: Path | None = None) -> list[GeneMap]:
    """Maps of a model's genes before and after training, and after training with shuffled biotypes.

    Separation of given features says what they tell of biotypes. Relations by biotype give coding and other genes
    different weights, so learned states separate whatever labels they are given: the control shows how much of it that
    is. Empty for models without states or biotypes, or if one kind has no measured gene. `out` is a folder for a table.
    """
    if not any(entry == "biotypes" for entry in model.__dataclass_fields__) or training.knowledge.table is None:
        return []
    maps: list[GeneMap] = []
    for title, kind in (("learned", "real"), ("learned, shuffled biotypes", "shuffled")):
        fitted = replace(model, **{"biotypes": kind}).fit(training, seed=seed)
        assert isinstance(fitted, KnowsGenes)
        marked = np.asarray(fitted.nodes.non_coding)[: fitted.nodes.n_measured]
        if marked.all() or not marked.any():
            return []
        states = fitted.gene_states()
        if kind == "real":
            maps += [gene_map(name, states[name], marked) for name in states if name != "learned"]
        maps.append(gene_map(title, states["learned"], marked))
    if out is not None:
        table = pd.DataFrame({"map": [entry.title for entry in maps], "separation": [m.separation for m in maps]})
        write_table(table, out / "gene_maps.parquet")
    return maps


def gene_map(title: str, states: np.ndarray, non_coding: Bool[np.ndarray, " gene"]) -> GeneMap:
    """The map of some states, in their principal axes."""
    centred = np.asarray(states, dtype=np.float64) - np.mean(states, axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    axes = left[:, :AXES] * size[:AXES]
    place = np.pad(axes[:, :2], ((0, 0), (0, max(2 - axes.shape[1], 0))))
    return GeneMap(title, place, non_coding, separation(axes, non_coding))


def separation(states: Float[np.ndarray, "gene axis"], non_coding: Bool[np.ndarray, " gene"]) -> float:
    """How much more often than by chance the 10 nearest genes are of one's own kind, both kinds weighing the same."""
    square = (states**2).sum(axis=1)
    distance = square[:, None] + square[None, :] - 2 * states @ states.T
    np.fill_diagonal(distance, np.inf)
    kept = min(NEIGHBOURS, len(states) - 1)
    near = np.argpartition(distance, kept - 1, axis=1)[:, :kept]
    same = (non_coding[near] == non_coding[:, None]).mean(axis=1)
    found = []
    for kind in (False, True):
        own = non_coding == kind
        chance = max(own.sum() - 1, 0) / max(len(own) - 1, 1)
        found.append((same[own].mean() - chance) / (1 - chance))
    return float(np.mean(found))
