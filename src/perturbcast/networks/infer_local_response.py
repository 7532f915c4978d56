"""Local responses: what perturbing a source does to a gene that its effects on the other sources do not explain."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from perturbcast._progress import Progress
from perturbcast.data.conditions import targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.statistics import response_table
from perturbcast.networks.infer_correlation import network_of_rows
from perturbcast.networks.methods import MethodCard, NetworkMethod, require
from perturbcast.networks.network import Network
from perturbcast.networks.universe import perturbed_genes, universe_of


@dataclass(frozen=True)
class LocalResponse(NetworkMethod):
    """Edge a -> b: |coefficient| of a's response in the ridge regression, over perturbations, of b's response on those
    of all perturbed, measured genes but b. The perturbation of b itself is left out.

    In modular response analysis global responses R and local ones r obey r_b = sum over c of w_cb R_c for every
    perturbation that does not act on b itself, so that an effect that runs over a measured, perturbed gene is not
    counted twice. Ridge instead of the inverse, since R is noisy. All conditions take part, doubles included. It sees a
    source by its message: a knock-out that leaves the message as it was has no edges.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="local-response",
        title="Local responses",
        summary="Regresses every gene's response on the responses of the perturbed genes: indirect effects drop out.",
        source="modular response analysis, Kholodenko et al. 2002, with a ridge",
        weight="|coefficient|, ln change of the target per ln change of the source",
        interventional=True,
    )
    ridge: float = 3.0  # squared ln units; AUPRC on simulated worlds is flat between 1 and 10, docs/NETWORKS.md
    centre: bool = True  # take off the mean response, which stress shares among all perturbations
    min_cells: int = 3  # of a condition

    def __post_init__(self) -> None:
        require(self.ridge > 0, f"ridge={self.ridge} is not above 0.")

    def infer(
        self, screen: Screen, *, seed: int = 0, progress: Progress | None = None, parts: Path | None = None
    ) -> Network:
        """The network; `seed` and `parts` change nothing, since nothing is drawn and it takes one pass."""
        universe = universe_of(screen, min_cells=self.min_cells)
        assert set(universe.sources) <= set(perturbed_genes(screen))
        table = response_table(screen, min_cells=self.min_cells, progress=progress)
        place = {str(gene): number for number, gene in enumerate(screen.genes)}
        rows = np.array([place[gene] for gene in universe.sources], dtype=np.int64)
        weights = local_responses(table, sources=rows, ridge=self.ridge, centre=self.centre)
        return network_of_rows(screen, rows, np.abs(weights), np.sign(weights), method=self.card.name)


def local_responses(
    table: ResponseTable, *, sources: Int[np.ndarray, " source"], ridge: float, centre: bool = True
) -> Float[np.ndarray, "source gene"]:
    """Coefficients of the genes at positions `sources` for every gene; 0 for the gene itself.

    Genes that are no target share one system of equations; each target has its own.
    """
    response = table.response - table.response.mean(axis=0) if centre else table.response
    coefficients = np.zeros((len(sources), table.n_genes))
    acted: dict[str, list[int]] = {}
    for row, query in enumerate(table.queries):
        for target in targets_of(query.condition):
            acted.setdefault(target, []).append(row)
    own = [column for column, gene in enumerate(table.genes) if str(gene) in acted or column in set(sources.tolist())]
    free = np.setdiff1d(np.arange(table.n_genes), own)
    everything = np.arange(len(sources))
    coefficients[:, free] = _ridge(response[:, sources], response[:, free], ridge)
    for column in own:
        rows = np.setdiff1d(np.arange(table.n_queries), acted.get(str(table.genes[column]), []))
        used = everything[sources != column]
        fitted = _ridge(response[np.ix_(rows, sources[used])], response[rows][:, [column]], ridge)
        coefficients[used, column] = fitted[:, 0]
    return coefficients


def _ridge(
    inputs: Float[np.ndarray, "query source"], outputs: Float[np.ndarray, "query gene"], ridge: float
) -> Float[np.ndarray, "source gene"]:
    gram = inputs.T @ inputs + ridge * np.eye(inputs.shape[1])
    return np.asarray(np.linalg.solve(gram, inputs.T @ outputs))
