"""The correlation between genes over cells."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.screen import Screen
from perturbcast.networks.covariation import Cells, correlations
from perturbcast.networks.methods import MethodCard, NetworkMethod
from perturbcast.networks.network import Network
from perturbcast.networks.universe import genes_of, universe_of


@dataclass(frozen=True)
class Correlation(NetworkMethod):
    """Edge a -> b: |Pearson correlation| of expression over cells, signed; a and b are not told apart."""

    card: ClassVar[MethodCard] = MethodCard(
        name="correlation",
        title="Correlation",
        summary="Genes that vary together are linked; nothing tells cause from effect.",
        source="Pearson correlation of ln(1 + CP10k)",
        weight="|r|, 0 to 1",
        directed=False,
    )
    cells: Cells = "all"  # perturbed cells add variation that perturbations caused

    def infer(
        self, screen: Screen, *, seed: int = 0, progress: Progress | None = None, parts: Path | None = None
    ) -> Network:
        """The network; `seed` and `parts` change nothing, since nothing is drawn and it takes one pass."""
        universe = universe_of(screen)
        place = {str(gene): number for number, gene in enumerate(screen.genes)}
        rows = np.array([place[gene] for gene in universe.sources], dtype=np.int64)
        found = correlations(screen, rows=rows, cells=self.cells, progress=progress)
        return network_of_rows(screen, rows, np.abs(found.matrix), np.sign(found.matrix), method=self.card.name)


def network_of_rows(
    screen: Screen,
    rows: np.ndarray,
    size: Float[np.ndarray, "row gene"],
    sign: Float[np.ndarray, "row gene"],
    *,
    method: str,
) -> Network:
    """A network from the measured genes at positions `rows` to all measured genes."""
    genes, flags = genes_of(screen)
    start, end = np.nonzero(size > 0)
    return Network.of_edges(
        genes,
        np.asarray(rows, dtype=np.int64)[start],
        end.astype(np.int64),
        size[start, end],
        sign=sign[start, end],
        **flags,
        method=method,
        source=str(screen.uns.get("source", screen.name)),
    )
