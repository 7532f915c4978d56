"""Cells of a simulated world, counted in blocks that each have a random stream of their own."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from perturbcast.data.simulation.design import CellPlan
from perturbcast.data.simulation.observation import Observation

BLOCK = 1000  # cells that share a random stream: chunks are whole blocks, so chunking never changes a count


@dataclass(frozen=True, eq=False)
class CellSampler:
    """Draws the counts of planned cells: Poisson(depth * share * gamma noise), which is negative binomial."""

    plan: CellPlan
    observation: Observation
    level: np.ndarray  # (context, state, gene) ln abundance
    state: np.ndarray  # (cell,) int64 into the states of `level`

    @property
    def n_cells(self) -> int:
        """How many cells are planned."""
        return len(self.state)

    def chunks(self, *, size: int) -> Iterator[tuple[Int[np.ndarray, " cell"], sparse.csr_matrix]]:
        """Positions and int32 counts of cells, at least one block and about `size` cells at a time, in order."""
        blocks = max(1, size // BLOCK)
        n_blocks = -(-self.n_cells // BLOCK)
        for first in range(0, n_blocks, blocks):
            numbers = range(first, min(first + blocks, n_blocks))
            cells = np.arange(first * BLOCK, min((numbers[-1] + 1) * BLOCK, self.n_cells))
            yield cells, sparse.csr_matrix(sparse.vstack([self.block(number) for number in numbers], format="csr"))

    def block(self, number: int) -> sparse.csr_matrix:
        """Counts of one block of cells, int32 CSR."""
        cells = np.arange(number * BLOCK, min((number + 1) * BLOCK, self.n_cells))
        rng = self.observation.kinetics.settings.stream("cells", number)
        mean = self._mean(cells)
        shape = 1 / self.observation.dispersion
        noise = rng.standard_gamma(np.broadcast_to(shape, mean.shape)) / shape
        return sparse.csr_matrix(rng.poisson(mean * noise).astype(np.int32))

    def _mean(self, cells: Int[np.ndarray, " cell"]) -> Float[np.ndarray, "cell gene"]:
        """Expected molecules of each gene in each cell."""
        plan = self.plan
        share = self.observation.log_share(
            self.level[plan.context[cells], self.state[cells]],
            background=plan.background[cells],
            is_artefact=plan.is_artefact[cells],
            context=plan.context[cells],
        )
        return plan.depth[cells, None] * np.exp(share)
