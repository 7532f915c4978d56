"""Average expression of a dosage under a network, and cells of it (spec 7.1, 7.2)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from perturbcast.nn.counts import CountHead, ExpressionHead
from perturbcast.nn.latent import Decoder
from perturbcast.nn.noise import Noise
from perturbcast.nn.predictive import PER, MeanLogExpression, drawn_counts
from perturbcast.nn.trunk import Gaussian

CHUNK = 256  # particles decoded at a time; memory is a few times chunk x genes
DRAWS, HELD_CELLS = 12, 16  # of the global variables, and cells that share each, to tell how far means vary
HELD_CHUNK = 1_000_000  # number of their chunk, beyond those of means
PAPER_DEPTH = 1e4  # ℓ of equation (26)


@runtime_checkable
class Generator(Protocol):
    """A network that decodes a basal state and a dosage."""

    decoder: Decoder

    def decoder_input(self, dosage: Tensor, basal: Tensor, noise_of: Callable[[int], Noise]) -> tuple[Tensor, ...]:
        """What the decoder reads."""


def stream(*parts: int) -> int:
    """A seed for one purpose out of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


@dataclass
class Averages:
    """Mean expression per dosage. The same draws serve every dosage, so equal dosages have equal means bit for bit.

    `basal` are posteriors of cells to start from; None starts from the prior 𝒩(0, I). Every dosage is computed by
    itself, so its bits do not depend on what else is asked.
    """

    network: Any  # a Generator
    n_latent: int
    depths: Float[np.ndarray, " depth"]  # library sizes
    n_particles: int
    basal: Gaussian | None = None
    seed: int = 0
    held: float = 1.0  # share of a cell's molecules that `depths` count
    _chunks: dict[int, tuple[Tensor, MeanLogExpression | None]] = field(default_factory=dict)
    _references: dict[bytes, np.ndarray] = field(default_factory=dict)

    @torch.no_grad()
    def mean(self, dosage: Float[np.ndarray, " column"]) -> Float[np.ndarray, " gene"]:
        """Mean of ln(1 + CP10k), or of expression for normal heads; common random numbers."""
        total: Any = 0.0
        for number, n_here in enumerate(self._sizes()):
            basal, log_mean = self._chunk(number, n_here)
            decoder = self.network.decoder
            parts = self._parts(dosage, basal, number)
            if log_mean is None:
                found = decoder.mean(*parts).double().mean(dim=0)
            else:
                found = log_mean(decoder.log_share(*parts))
            total = total + found.numpy() * (n_here / self.n_particles)
        return np.asarray(total)

    @torch.no_grad()
    def spread(
        self, dosage: Float[np.ndarray, " column"], reference: Float[np.ndarray, " column"]
    ) -> Float[np.ndarray, " gene"]:
        """Standard deviation of the difference of two means over draws of the global variables (masks, embeddings).

        All draws start from the same cells, so cells that differ add nothing; 0 where a network draws nothing.
        """
        key = reference.tobytes()
        if key not in self._references:
            draws = range(DRAWS if reference.any() else 1)  # control without a context has nothing to draw
            self._references[key] = np.stack([self._held_mean(reference, draw) for draw in draws])
        means = np.stack([self._held_mean(dosage, draw) for draw in range(DRAWS)])
        return np.asarray(np.std(means - self._references[key], axis=0, ddof=1))

    def _held_mean(self, dosage: np.ndarray, draw: int) -> np.ndarray:
        """Mean over some cells that share one draw of the global variables."""
        basal, log_mean = self._chunk(HELD_CHUNK, HELD_CELLS)
        given = torch.from_numpy(np.asarray(dosage, dtype=np.float32))
        parts = self.network.decoder_input(
            given, basal, lambda column: HeldNoise(stream(self.seed, 10, draw, column), n_everywhere=0)
        )
        decoder = self.network.decoder
        found = decoder.mean(*parts).double().mean(dim=0) if log_mean is None else log_mean(decoder.log_share(*parts))
        return np.asarray(found.numpy())

    @torch.no_grad()
    def published(self, dosage: Float[np.ndarray, " column"], *, key: int) -> Float[np.ndarray, " gene"]:
        """Equation (26): independent draws per query `key`, counts drawn at ℓ = 10⁴; natural logarithm."""
        total: Any = 0.0
        for number, n_here in enumerate(self._sizes()):
            values = self._cells(dosage, n_here, np.full(n_here, PAPER_DEPTH), stream(self.seed, 1, key, number))
            if isinstance(self.network.decoder.head, CountHead):
                values = np.log1p(values * (PER * self.held / np.maximum(values.sum(axis=1, keepdims=True), 1.0)))
            total = total + values.sum(axis=0, dtype=np.float64) / self.n_particles
        return np.asarray(total)

    @torch.no_grad()
    def cells(self, dosage: Float[np.ndarray, " column"], *, n_cells: int, seed: int) -> Float[np.ndarray, "cell gene"]:
        """Counts (expression, for normal heads) of new cells, as deep as the training cells."""
        library = self.depths[np.random.default_rng(stream(seed, 2)).integers(0, len(self.depths), n_cells)]
        blocks = [
            self._cells(dosage, len(part), part, stream(seed, 3, number))
            for number, part in enumerate(np.split(library, range(CHUNK, n_cells, CHUNK)))
        ]
        return np.concatenate(blocks).astype(np.float32)

    def _cells(self, dosage: np.ndarray, n_cells: int, library: np.ndarray, seed: int) -> np.ndarray:
        decoder = self.network.decoder
        basal = self._basal(n_cells, seed)
        parts = self.network.decoder_input(
            torch.from_numpy(np.asarray(dosage, dtype=np.float32)), basal, lambda column: _noise(seed, 4, column)
        )
        rng = np.random.default_rng(stream(seed, 5))
        if isinstance(decoder.head, ExpressionHead):
            sd = torch.exp(decoder.head.log_sd).numpy()
            mean = decoder.mean(*parts).numpy()
            return mean + sd * rng.standard_normal(mean.shape)
        share = torch.exp(decoder.log_share(*parts)).numpy().astype(np.float64)
        return drawn_counts(share, library.astype(np.float64), torch.exp(decoder.head.log_dispersion).numpy(), rng)

    def _sizes(self) -> list[int]:
        full, rest = divmod(self.n_particles, CHUNK)
        return [CHUNK] * full + ([rest] if rest else [])

    def _chunk(self, number: int, n_here: int) -> tuple[Tensor, MeanLogExpression | None]:
        if number not in self._chunks:
            head = self.network.decoder.head
            log_mean = None
            if isinstance(head, CountHead):
                dispersion = torch.exp(head.log_dispersion).numpy()
                seed = stream(self.seed, 6, number)
                log_mean = MeanLogExpression(self.depths, dispersion, n_particles=n_here, seed=seed, held=self.held)
            self._chunks[number] = self._basal(n_here, stream(self.seed, 7, number)), log_mean
        return self._chunks[number]

    def _basal(self, n_particles: int, seed: int) -> Tensor:
        noise = _noise(seed, 8)
        drawn = noise.normal(n_particles, self.n_latent)
        if self.basal is None:
            return drawn
        pick = (noise.uniform(n_particles) * len(self.basal.mean)).long()
        return Gaussian(self.basal.mean[pick], self.basal.variance[pick]).draw(drawn)

    def _parts(self, dosage: np.ndarray, basal: Tensor, number: int) -> tuple[Tensor, ...]:
        given = torch.from_numpy(np.asarray(dosage, dtype=np.float32))
        parts: tuple[Tensor, ...] = self.network.decoder_input(
            given, basal, lambda column: _noise(self.seed, 9, number, column)
        )
        return parts


class HeldNoise(Noise):
    """One draw of each global variable, the same for all particles."""

    def normal(self, *shape: int) -> Float[Tensor, "..."]:
        """Standard normal numbers, equal along the first axis."""
        return super().normal(1, *shape[1:]).expand(shape)

    def uniform(self, *shape: int) -> Float[Tensor, "..."]:
        """Numbers in [0, 1), equal along the first axis."""
        return super().uniform(1, *shape[1:]).expand(shape)


def _noise(*parts: int) -> Noise:
    return Noise(stream(*parts), n_everywhere=0)
