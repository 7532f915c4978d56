"""The random network: what chance alone reaches under every score."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from perturbcast._progress import Progress
from perturbcast.data.screen import Screen
from perturbcast.networks.methods import MethodCard, NetworkMethod
from perturbcast.networks.network import Network
from perturbcast.networks.universe import genes_of, universe_of


@dataclass(frozen=True)
class RandomNetwork(NetworkMethod):
    """Every pair of a perturbed and a measured gene has a uniform weight."""

    card: ClassVar[MethodCard] = MethodCard(
        name="random",
        title="Random network",
        summary="Weights drawn at random: the floor of every score.",
        source="CausalBench, random-k",
        weight="uniform between 0 and 1",
    )

    def infer(
        self, screen: Screen, *, seed: int = 0, progress: Progress | None = None, parts: Path | None = None
    ) -> Network:
        """The network of the seed; `parts` changes nothing, since nothing takes time."""
        universe = universe_of(screen, measured_sources=False)
        genes, flags = genes_of(screen)
        weights = np.zeros((len(genes), len(genes)))
        rows = [genes.index(source) for source in universe.sources]
        shape = (len(rows), screen.n_genes)
        weights[rows, : screen.n_genes] = 1.0 - np.random.default_rng(seed).random(shape)  # never 0
        return Network.of_matrix(
            genes, weights, **flags, method=self.card.name, source=str(screen.uns.get("source", screen.name))
        )
