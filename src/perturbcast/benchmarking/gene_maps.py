"""Maps of genes by biotype, as given and as learned, with a control of shuffled biotypes (GRAPE, Fig. 3)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from perturbcast.benchmarking.store import write_table
from perturbcast.errors import BadOption, MissingExtra, did_you_mean
from perturbcast.models.base import Model, TrainingData

Layout = Literal["pca", "tsne", "umap"]  # of a map: principal axes, t-SNE, or UMAP, which needs the extra `umap`
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
NEIGHBOURS = 10
AXES = 20  # leading principal axes in which neighbours are looked for
N_SHUFFLES, UPPER = 200, 0.95  # of labels, for the separation that chance alone reaches
TABLE = "gene_maps.parquet"


@runtime_checkable
class KnowsGenes(Protocol):
    """A fitted model with states of the measured genes, in order of name, and the genes that it reasons over."""

    nodes: Any

    def gene_states(self) -> dict[str, np.ndarray]:
        """(gene, feature) by name: as given, and `learned`."""


@dataclass(frozen=True)
class GeneMap:
    """Genes in a plane, and how far the genes next to each other are of one biotype, whatever the plane shows."""

    title: str
    place: Float[np.ndarray, "gene 2"]
    non_coding: Bool[np.ndarray, " gene"]
    separation: float  # 1: neighbours always agree; 0: as often as by chance
    by_chance: float  # 95 % of shuffled labels on the same places separate less
    layout: str = "pca"


def gene_maps(
    model: Model, training: TrainingData, *, seed: int = 0, out: Path | None = None, layout: Layout = "pca"
) -> list[GeneMap]:
    """Maps of a model's genes before and after training, and after training with shuffled biotypes.

    Separation of given features says what they tell of biotypes. Relations by biotype give coding and other genes
    different weights, so learned states separate whatever labels they are given: the control shows how much of it that
    is. Empty for models without states or biotypes, or if one kind has no measured gene. `out` is a folder for a table
    of all places. MissingExtra for `umap` without the package umap-learn.
    """
    require_layout(layout)
    if not any(entry == "biotypes" for entry in model.__dataclass_fields__) or training.knowledge.table is None:
        return []
    maps: list[GeneMap] = []
    genes: Sequence[str] = ()
    for title, kind in (("learned", "real"), ("learned, shuffled biotypes", "shuffled")):
        fitted = replace(model, **{"biotypes": kind}).fit(training, seed=seed)
        assert isinstance(fitted, KnowsGenes)
        marked = np.asarray(fitted.nodes.non_coding)[: fitted.nodes.n_measured]
        if marked.all() or not marked.any():
            return []
        states, genes = fitted.gene_states(), fitted.nodes.names[: fitted.nodes.n_measured]
        if kind == "real":
            given = [name for name in states if name != "learned"]
            maps += [gene_map(name, states[name], marked, layout=layout, seed=seed) for name in given]
        maps.append(gene_map(title, states["learned"], marked, layout=layout, seed=seed))
    if out is not None:
        write_table(pd.concat([_rows(found, genes) for found in maps], ignore_index=True), out / TABLE)
    return maps


def _rows(found: GeneMap, genes: Sequence[str]) -> pd.DataFrame:
    """A row per gene: which map, where, and of which kind; what holds for the map is repeated."""
    x, y = found.place.T
    rows = pd.DataFrame({"map": found.title, "gene": list(genes), "x": x, "y": y, "non_coding": found.non_coding})
    return rows.assign(separation=found.separation, by_chance=found.by_chance, layout=found.layout)


def read_maps(folder: Path) -> list[GeneMap]:
    """The maps whose table is in a folder; none where there is no such table."""
    if not (folder / TABLE).is_file():
        return []
    maps = []
    for title, rows in pd.read_parquet(folder / TABLE).groupby("map", sort=False):
        place, first = rows[["x", "y"]].to_numpy(), rows.iloc[0]
        held = float(first["separation"]), float(first["by_chance"]), str(first["layout"])
        maps.append(GeneMap(str(title), place, rows["non_coding"].to_numpy(dtype=bool), *held))
    return maps


def require_layout(name: str) -> Layout:
    """The layout of that name; BadOption where there is none, MissingExtra where its package is not installed."""
    for layout in LAYOUTS:
        if layout == name:
            if layout == "umap" and find_spec("umap") is None:
                raise MissingExtra("maps by UMAP need umap-learn.", "pip install 'perturbcast[umap]', or ask for tsne.")
            return layout
    raise BadOption(f"there is no layout {name!r} of gene maps. {did_you_mean(name, LAYOUTS)}")


def gene_map(
    title: str, states: np.ndarray, non_coding: Bool[np.ndarray, " gene"], *, layout: Layout = "pca", seed: int = 0
) -> GeneMap:
    """The map of some states. Separation is measured in 20 principal axes: t-SNE and UMAP make gaps of their own."""
    centred = np.asarray(states, dtype=np.float64) - np.mean(states, axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    axes = left[:, :AXES] * size[:AXES]
    place = placed(axes, layout=layout, seed=seed)
    near = nearest_genes(axes)
    rng = np.random.default_rng(seed)
    shuffled = [agreement(near, rng.permutation(non_coding)) for _ in range(N_SHUFFLES)]
    return GeneMap(title, place, non_coding, agreement(near, non_coding), float(np.quantile(shuffled, UPPER)), layout)


def placed(axes: Float[np.ndarray, "gene axis"], *, layout: Layout, seed: int) -> Float[np.ndarray, "gene 2"]:
    """Genes in a plane: the first two axes, or what t-SNE or UMAP make of all."""
    if layout == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(axes) - 1) / 3)  # 30 is the usual one; it must be below the number of genes
        return np.asarray(TSNE(perplexity=perplexity, random_state=seed).fit_transform(axes), dtype=np.float64)
    if layout == "umap":
        return _by_umap(axes, seed=seed)
    return np.pad(axes[:, :2], ((0, 0), (0, max(2 - axes.shape[1], 0))))


def _by_umap(axes: np.ndarray, *, seed: int) -> np.ndarray:
    require_layout("umap")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        import umap
    found = umap.UMAP(n_neighbors=min(15, len(axes) - 1), random_state=seed, n_jobs=1).fit_transform(axes)
    return np.asarray(found, dtype=np.float64)


def separation(states: Float[np.ndarray, "gene axis"], non_coding: Bool[np.ndarray, " gene"]) -> float:
    """How much more often than by chance the 10 nearest genes are of one's own kind, both kinds weighing the same."""
    return agreement(nearest_genes(states), non_coding)


def nearest_genes(states: Float[np.ndarray, "gene axis"]) -> Int[np.ndarray, "gene near"]:
    """The 10 nearest other genes of every gene, in no order."""
    square = (states**2).sum(axis=1)
    distance = square[:, None] + square[None, :] - 2 * states @ states.T
    np.fill_diagonal(distance, np.inf)
    kept = min(NEIGHBOURS, len(states) - 1)
    return np.argpartition(distance, kept - 1, axis=1)[:, :kept]


def agreement(near: Int[np.ndarray, "gene near"], non_coding: Bool[np.ndarray, " gene"]) -> float:
    """Share of neighbours of a gene's own kind, above chance and over what is left to reach; mean of both kinds."""
    same = (non_coding[near] == non_coding[:, None]).mean(axis=1)
    found = []
    for kind in (False, True):
        own = non_coding == kind
        chance = max(own.sum() - 1, 0) / max(len(own) - 1, 1)
        found.append((same[own].mean() - chance) / (1 - chance))
    return float(np.mean(found))
