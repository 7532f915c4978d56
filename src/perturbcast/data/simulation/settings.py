"""Everything that can be chosen about a simulated world, with ranges, and its random streams."""

from dataclasses import dataclass, fields
from typing import Any
from zlib import crc32

import numpy as np

from perturbcast.errors import BadOption, UnknownOption, did_you_mean

PERTURBATIONS = ("interference", "knock-out", "activation")

# Allowed values of each number: least, most. docs/SIMULATOR.md says where the defaults come from.
RANGES: dict[str, tuple[float, float]] = {
    "n_cells": (1, 100_000_000),
    "n_genes": (30, 30_000),
    "n_targets": (2, 20_000),
    "n_doubles": (0, 1_000_000),
    "n_contexts": (1, 50),
    "seed": (0, 2**63 - 1),
    "n_guides": (1, 20),
    "n_batches": (1, 50),
    "control_share": (0.01, 0.9),
    "guide_spread": (0.0, 1.0),
    "escape": (0.0, 0.9),
    "artefacts": (0.0, 0.9),
    "depth": (20.0, 1e6),
    "depth_spread": (0.0, 1.5),
    "dispersion": (0.001, 5.0),
    "effect": (0.0, 4.0),
    "stress": (0.0, 4.0),
    "interaction": (0.0, 4.0),
    "noncoding": (0.0, 0.5),
    "unmeasured": (0.0, 1.0),
    "batch_effect": (0.0, 1.0),
    "promoter_code": (0.0, 1.0),
    "telling_biotypes": (0.0, 1.0),
}


@dataclass(frozen=True)
class WorldSettings:
    """The choices that make a world; the same settings give the same numbers. BadOption if one is out of range."""

    n_cells: int = 6000
    n_genes: int = 500  # measured genes
    n_targets: int = 60  # single perturbations, each observed
    n_doubles: int = 40  # pairs of those targets
    n_contexts: int = 1  # cell lines; every condition is observed in each
    perturbation: str = "interference"  # or knock-out, activation
    seed: int = 0
    n_guides: int = 3  # per target; Papalexi 4, Replogle 1 to 2, Norman 2
    n_batches: int = 2
    control_share: float = 0.15  # of cells; Papalexi .12, Norman .09, Adamson pilot .17
    guide_spread: float = 0.2  # sd of the efficiency of guides around one
    escape: float = 0.1  # mean probability that a guide leaves its target alone in a cell
    artefacts: float = 0.03  # share of low-quality cells: shallow, half ambient, mitochondrial
    depth: float = 4000.0  # median molecules per cell over the measured genes
    depth_spread: float = 0.4  # sd of ln depth; Adamson .32, Papalexi .54
    dispersion: float = 0.2  # median NB dispersion: variance = mean + dispersion * mean^2
    effect: float = 1.0  # multiplies the strength of every regulation
    stress: float = 1.0  # multiplies the shift shared by all perturbations
    interaction: float = 1.0  # multiplies planted synergy and buffering; 0: none planted
    noncoding: float = 0.15  # share of genes that are long non-coding RNA
    unmeasured: float = 0.1  # share of targets that are not among the measured genes
    batch_effect: float = 0.1  # sd of the ln shift of a gene in a batch
    promoter_code: float = 0.6  # probability that a motif of its module stands in a gene's promoter; 0: no such motifs
    telling_biotypes: float = 0.4  # share of genes whose biotype tells something of what they do, where it could

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadOption(f"{name}={value} is outside {low:g} to {high:g}.")
        if self.perturbation not in PERTURBATIONS:
            raise BadOption(f"perturbation={self.perturbation!r} is none of {', '.join(PERTURBATIONS)}.")
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self.n_targets > (self.n_genes + self.n_unmeasured) * 0.8:
            raise BadOption(f"n_targets={self.n_targets} is more than 80 % of {self.n_genes} genes.")
        most = self.n_targets * (self.n_targets - 1) // 2
        if self.n_doubles > most:
            raise BadOption(f"n_doubles={self.n_doubles}, but {self.n_targets} targets make only {most} pairs.")
        queries = self.n_contexts * (1 + self.n_targets + self.n_doubles)
        if self.n_cells < queries:
            raise BadOption(
                f"n_cells={self.n_cells} is fewer than the {queries} conditions, control and contexts included."
            )

    @property
    def n_unmeasured(self) -> int:
        """Targets that are nodes of the network but not measured."""
        return round(self.unmeasured * self.n_targets)

    @property
    def n_nodes(self) -> int:
        """Genes of the network: the measured ones first, then the unmeasured targets."""
        return self.n_genes + self.n_unmeasured

    def stream(self, *names: str | int) -> np.random.Generator:
        """A random stream of its own for each part, so that one part can grow without moving the others."""
        return np.random.default_rng([self.seed, *(crc32(str(name).encode()) for name in names)])


def settings_of(**chosen: Any) -> WorldSettings:
    """Settings with some fields chosen; UnknownOption names the nearest field if there is none of that name."""
    known = [field.name for field in fields(WorldSettings)]
    for name in chosen:
        if name not in known:
            raise UnknownOption(f"The simulated world has no setting {name!r}. {did_you_mean(name, known)}")
    return WorldSettings(**chosen)
