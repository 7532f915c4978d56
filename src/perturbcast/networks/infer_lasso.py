"""LASSO: each gene as a sparse linear combination of the perturbed genes."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.screen import Screen
from perturbcast.networks.covariation import Cells, correlations
from perturbcast.networks.infer_correlation import network_of_rows
from perturbcast.networks.methods import MethodCard, NetworkMethod
from perturbcast.networks.network import Network
from perturbcast.networks.universe import universe_of


@dataclass(frozen=True)
class Lasso(NetworkMethod):
    """Edge a -> b: |standardised coefficient| of a in the LASSO of b on all perturbed, measured genes but b.

    The penalty of each gene is that of the least BIC on its path (least-angle regression on correlations, so that cells
    are read once).
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="lasso",
        title="LASSO",
        summary="Each gene is explained by few perturbed genes at a time; those with a coefficient are linked to it.",
        source="Tibshirani 1996; Efron et al. 2004; CausalBench's LASSO takes a fixed penalty",
        weight="|coefficient|, standard deviations per standard deviation",
    )
    cells: Cells = "all"

    def infer(
        self, screen: Screen, *, seed: int = 0, progress: Progress | None = None, parts: Path | None = None
    ) -> Network:
        """The network; `seed` and `parts` change nothing, since nothing is drawn."""
        progress = progress or Progress()
        universe = universe_of(screen)
        place = {str(gene): number for number, gene in enumerate(screen.genes)}
        rows = np.array([place[gene] for gene in universe.sources], dtype=np.int64)
        found = correlations(screen, rows=rows, cells=self.cells, progress=progress)
        weights = np.zeros((len(rows), screen.n_genes))
        targets = np.flatnonzero(found.varies)
        for gene in progress.track(targets, label="lasso", total=len(targets)):
            used = np.flatnonzero((rows != gene) & found.varies[rows])
            gram, with_gene = found.matrix[np.ix_(used, rows[used])], found.matrix[used, gene]
            weights[used, gene] = best_coefficients(gram, with_gene, n_cells=found.n_cells)
        return network_of_rows(screen, rows, np.abs(weights), np.sign(weights), method=self.card.name)


def best_coefficients(
    gram: Float[np.ndarray, "row row"], with_gene: Float[np.ndarray, " row"], *, n_cells: int
) -> Float[np.ndarray, " row"]:
    """Coefficients of least BIC on the LASSO path, from correlations among regressors and with the regressed."""
    from sklearn.linear_model import lars_path_gram

    if len(with_gene) == 0:
        return np.zeros(0)
    path = lars_path_gram(Xy=with_gene * n_cells, Gram=gram * n_cells, n_samples=n_cells, method="lasso")[2]
    left = 1 - 2 * with_gene @ path + np.einsum("rk,rs,sk->k", path, gram, path)  # residual variance along the path
    bic = n_cells * np.log(np.maximum(left, 1e-12)) + np.log(n_cells) * (path != 0).sum(axis=0)
    return np.asarray(path[:, int(np.argmin(bic))])
