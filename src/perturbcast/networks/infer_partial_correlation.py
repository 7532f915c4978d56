"""The partial correlation: what is left of a correlation when all other genes are held fixed."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.screen import Screen
from perturbcast.errors import BadOption
from perturbcast.networks.covariation import Cells, correlations
from perturbcast.networks.infer_correlation import network_of_rows
from perturbcast.networks.methods import MethodCard, NetworkMethod, require
from perturbcast.networks.network import Network
from perturbcast.networks.universe import universe_of


@dataclass(frozen=True)
class PartialCorrelation(NetworkMethod):
    """Edge a -> b: |partial correlation| given all other measured genes, from a regularised inverse correlation.

    `shrinkage`: towards the identity by the oracle approximating rule, from correlations alone; closed form, but the
    matrix of all genes must fit (8,000 genes: 0.5 GB). `graphical-lasso`: sparse, slow above some hundred genes.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="partial-correlation",
        title="Partial correlation",
        summary="Genes that vary together when all others are held fixed are linked.",
        source="Chen, Wiesel, Eldar and Hero 2010 (shrinkage); Friedman, Hastie and Tibshirani 2008 (graphical lasso)",
        weight="|partial r|, 0 to 1",
        directed=False,
    )
    estimator: Literal["shrinkage", "graphical-lasso"] = "shrinkage"
    alpha: float = 0.05  # graphical lasso: L1 penalty on the inverse correlation
    cells: Cells = "all"

    def __post_init__(self) -> None:
        require(0 < self.alpha <= 1, f"alpha={self.alpha} is outside 0 to 1.")

    def infer(
        self, screen: Screen, *, seed: int = 0, progress: Progress | None = None, parts: Path | None = None
    ) -> Network:
        """The network; `seed` and `parts` change nothing, since nothing is drawn."""
        universe = universe_of(screen)
        found = correlations(screen, rows=np.arange(screen.n_genes), cells=self.cells, progress=progress)
        alive = np.flatnonzero(found.varies)
        matrix = found.matrix[np.ix_(alive, alive)]
        if self.estimator == "shrinkage":
            precision = np.linalg.inv(shrunken(matrix, n_cells=found.n_cells))
        else:
            precision = _graphical_lasso(matrix, alpha=self.alpha)
        scale = np.sqrt(np.diag(precision))
        partial = np.zeros((screen.n_genes, screen.n_genes))
        partial[np.ix_(alive, alive)] = -precision / scale[:, None] / scale[None, :]
        place = {str(gene): number for number, gene in enumerate(screen.genes)}
        rows = np.array([place[gene] for gene in universe.sources], dtype=np.int64)
        return network_of_rows(screen, rows, np.abs(partial[rows]), np.sign(partial[rows]), method=self.card.name)


def shrunken(correlation: Float[np.ndarray, "gene gene"], *, n_cells: int) -> Float[np.ndarray, "gene gene"]:
    """A correlation matrix shrunk towards the identity (oracle approximating shrinkage, Chen et al. 2010, eq. 23)."""
    n_genes = len(correlation)
    if n_genes == 1:
        return correlation
    mean_square = float((correlation**2).mean())
    mean = float(np.trace(correlation)) / n_genes
    above = mean_square + mean**2
    below = (n_cells + 1) * (mean_square - mean**2 / n_genes)
    share = min(above / below, 1.0) if below > 0 else 1.0
    return (1 - share) * correlation + share * mean * np.eye(n_genes)


def _graphical_lasso(correlation: Float[np.ndarray, "gene gene"], *, alpha: float) -> Float[np.ndarray, "gene gene"]:
    from sklearn.covariance import graphical_lasso
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return np.asarray(graphical_lasso(correlation, alpha=alpha)[1])
        except (FloatingPointError, ConvergenceWarning) as error:
            raise BadOption(f"the graphical lasso did not converge at alpha={alpha}.", "Use a larger alpha.") from error
