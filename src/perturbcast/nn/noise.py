"""Random numbers as a function of a seed: the same whatever ran before, and whatever share of a batch a process has."""

import torch
from jaxtyping import Float
from torch import Tensor


class Noise:
    """Streams of random numbers for one step. `cells` is where this process's cells stand in the whole batch.

    Draws for cells are made for the whole batch and cut, so that processes that share a batch see the numbers that one
    process would see. Global draws (masks, embeddings) are equal in all processes. Draw in the same order everywhere.
    """

    def __init__(
        self, seed: int, *, n_everywhere: int, cells: slice | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self._generator = torch.Generator(device=self.device).manual_seed(seed)
        self._n_everywhere = n_everywhere
        self._cells = slice(None) if cells is None else cells

    def normal(self, *shape: int) -> Float[Tensor, "..."]:
        """Standard normal numbers, the same in every process."""
        return torch.randn(shape, generator=self._generator, device=self.device)

    def uniform(self, *shape: int) -> Float[Tensor, "..."]:
        """Numbers in [0, 1), the same in every process."""
        return torch.rand(shape, generator=self._generator, device=self.device)

    def normal_of_cells(self, n_particles: int, width: int) -> Float[Tensor, "particle cell latent"]:
        """Standard normal numbers for the cells of this process."""
        return self.normal(n_particles, self._n_everywhere, width)[:, self._cells]
