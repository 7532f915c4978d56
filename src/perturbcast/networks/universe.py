"""Which pairs of genes a network can speak of: from perturbed genes to measured genes, never from a gene to itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Bool

from perturbcast.data.conditions import CONTROL, is_single, targets_of
from perturbcast.data.screen import Screen
from perturbcast.errors import NoEvaluablePair

LOSS, GAIN = "loss", "gain"
PERTURBATION = "perturbation"  # key of Screen.uns
GAINS = ("activation", "crispra", "overexpression")


class Flags(TypedDict):
    """Gene flags of a network, (gene,) bool each."""

    is_perturbed: np.ndarray
    is_measured: np.ndarray


@dataclass(frozen=True)
class Universe:
    """The pairs that are scored: every source with every target but itself."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def pairs(self) -> Bool[np.ndarray, "source target"]:
        """Whether a pair counts: all but self-loops."""
        return np.array(self.sources, dtype=object)[:, None] != np.array(self.targets, dtype=object)[None, :]

    @property
    def n_pairs(self) -> int:
        """How many pairs count."""
        return int(self.pairs.sum())

    def within(self, genes: set[str]) -> "Universe":
        """The part of it whose genes are all among some genes."""
        return Universe(
            tuple(gene for gene in self.sources if gene in genes), tuple(gene for gene in self.targets if gene in genes)
        )


def perturbed_genes(screen: Screen, *, min_cells: int = 1) -> dict[str, int]:
    """Targets of the single perturbations with at least that many cells, sorted, and their numbers of cells."""
    n_cells = np.bincount(screen.condition_code, minlength=len(screen.conditions))
    singles = {name: int(n) for name, n in zip(screen.conditions, n_cells, strict=True) if is_single(name)}
    return {targets_of(name)[0]: n for name, n in sorted(singles.items()) if n >= max(min_cells, 1)}


def universe_of(screen: Screen, *, min_cells: int = 1, measured_sources: bool = True) -> Universe:
    """From the genes perturbed singly in at least `min_cells` cells to all measured genes.

    `measured_sources`: leave out sources that are not measured themselves, which methods that learn from co-variation
    cannot rank. NoEvaluablePair if no source is left.
    """
    measured = {str(gene) for gene in screen.genes}
    perturbed = perturbed_genes(screen, min_cells=min_cells)
    sources = tuple(gene for gene in perturbed if gene in measured or not measured_sources)
    if not sources:
        raise NoEvaluablePair(
            f"None of {len(perturbed)} genes perturbed singly in {min_cells} cells or more is measured."
            if perturbed
            else f"No gene is perturbed singly in {min_cells} cells or more."
        )
    return Universe(sources, tuple(str(gene) for gene in screen.genes))


def genes_of(screen: Screen) -> tuple[list[str], Flags]:
    """Genes of a network of a screen (measured ones in order, then unmeasured targets) and their flags."""
    measured = [str(gene) for gene in screen.genes]
    perturbed = perturbed_genes(screen)
    genes = measured + [gene for gene in perturbed if gene not in set(measured)]
    flags = Flags(
        is_perturbed=np.array([gene in perturbed for gene in genes], dtype=bool),
        is_measured=np.arange(len(genes)) < len(measured),
    )
    return genes, flags


def direction_of(screen: Screen, *, own_effects: Mapping[str, float]) -> str:
    """Whether perturbations take a gene's function away ("loss") or add to it ("gain").

    Read from `uns["perturbation"]` where the screen says so, else from the mean response of the targets themselves:
    gain only if most of them rise. Knock-outs need not lower their own message, so loss is the default.
    """
    said = str(screen.uns.get(PERTURBATION, "")).casefold()
    if said:
        return GAIN if any(word in said for word in GAINS) else LOSS
    effects = np.array(list(own_effects.values()))
    return GAIN if len(effects) and np.median(effects) > 0.05 else LOSS


def control_and(screen: Screen, genes: list[str]) -> np.ndarray:
    """Positions of the control cells and of cells in which one of some genes was perturbed singly, ascending."""
    wanted = {CONTROL, *genes}
    codes = [code for code, name in enumerate(screen.conditions) if name in wanted]
    return np.flatnonzero(np.isin(screen.condition_code, codes))
