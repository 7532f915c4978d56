"""Posteriors of which latent units a perturbation moves (mask) and by how much (embedding): equations (9) and (10)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from perturbcast.nn.divergences import (
    bernoulli_kl,
    bernoulli_log_ratio,
    drawn_log_ratio,
    standard_normal_kl,
)
from perturbcast.nn.masks import straight_through_mask
from perturbcast.nn.noise import Noise
from perturbcast.nn.trunk import FLOOR, Gaussian, GaussianHead, Trunk


@dataclass(frozen=True)
class MaskedEmbedding:
    """Masks and embeddings drawn for some perturbations, and the distributions they were drawn from."""

    mask: Float[Tensor, "particle row latent"]
    embedding: Float[Tensor, "particle row latent"]
    logits: Float[Tensor, "row latent"]  # of the mask
    posterior: Gaussian  # of the embedding
    noise: Float[Tensor, "particle row latent"]  # what the embedding was drawn with

    @property
    def offset(self) -> Float[Tensor, "particle row latent"]:
        """E ⊙ M, what one dose of each perturbation adds."""
        return self.mask * self.embedding

    def mask_kl(self, prior: float | Tensor, *, analytic: bool) -> Float[Tensor, "particle row"]:
        """KL of the masks to Bernoulli(prior) per perturbation; one particle if analytic. `prior` may be per edge."""
        if analytic:
            return bernoulli_kl(self.logits, prior).sum(-1).unsqueeze(0)
        return bernoulli_log_ratio(self.mask, self.logits, prior).sum(-1)

    def embedding_kl(self, *, scale: float, analytic: bool) -> Float[Tensor, "particle row"]:
        """KL of the embeddings to 𝒩(0, scale²) per perturbation, given the mask drawn."""
        if analytic:
            kl = standard_normal_kl(self.posterior, scale=scale)
        else:
            kl = drawn_log_ratio(self.embedding, self.posterior, self.noise, scale=scale)
        return (kl if kl.dim() == 3 else kl.unsqueeze(0)).sum(-1)


class MaskAndEmbedding(nn.Module, ABC):
    """q(M, E). Only the rows asked for are drawn: those of the conditions in a batch."""

    def __init__(self, n_rows: int, n_latent: int, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_rows, n_latent))  # α, and in GPO-VAE the network Ŵ
        self.temperature = temperature

    def draw(self, rows: Int[Tensor, " row"], noise: Noise, *, n_particles: int) -> MaskedEmbedding:
        """Masks by the straight-through draw (3), embeddings by the guide."""
        logits = self.logits[rows]
        shape = (n_particles, *logits.shape)
        mask = straight_through_mask(logits, noise.uniform(*shape), temperature=self.temperature)
        posterior, drawn = self.posterior(mask, rows), noise.normal(*shape)
        return MaskedEmbedding(mask, posterior.draw(drawn), logits, posterior, drawn)

    @abstractmethod
    def posterior(self, mask: Float[Tensor, "particle row latent"], rows: Int[Tensor, " row"]) -> Gaussian:
        """q(E) of those rows given their masks."""


class MeanFieldGuide(MaskAndEmbedding):
    """q(E) = Π 𝒩(λ, (exp ω + 10⁻⁴)²), λ = ω = 0 at first; the floor is on the standard deviation, equation (9)."""

    def __init__(self, n_rows: int, n_latent: int, *, temperature: float = 1.0) -> None:
        super().__init__(n_rows, n_latent, temperature=temperature)
        self.location = nn.Parameter(torch.zeros(n_rows, n_latent))
        self.log_scale = nn.Parameter(torch.zeros(n_rows, n_latent))

    def posterior(self, mask: Float[Tensor, "particle row latent"], rows: Int[Tensor, " row"]) -> Gaussian:
        """The same for every mask."""
        return Gaussian(self.location[rows], (torch.exp(self.log_scale[rows]) + FLOOR) ** 2)


class CorrelatedGuide(MaskAndEmbedding):
    """q(e_p | m_p) = Gaussian head of Trunk([m_p ; onehot_p]), one network for all perturbations, equation (10)."""

    def __init__(self, n_rows: int, n_latent: int, *, width: int, n_layers: int, temperature: float = 1.0) -> None:
        super().__init__(n_rows, n_latent, temperature=temperature)
        self.trunk = Trunk(n_latent + n_rows, width=width, n_layers=n_layers)
        self.head = GaussianHead(width, n_latent)

    def posterior(self, mask: Float[Tensor, "particle row latent"], rows: Int[Tensor, " row"]) -> Gaussian:
        """Given each drawn mask."""
        return self.head(self.trunk(mask, one_hot=rows))
