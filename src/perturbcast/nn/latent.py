"""What the family shares: standardised input, basal encoder, decoder with its head, and priors of the latent cell."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from perturbcast.nn.batch import Batch
from perturbcast.nn.counts import CountHead, ExpressionHead
from perturbcast.nn.divergences import standard_normal_kl, standard_normal_log_ratio
from perturbcast.nn.noise import Noise
from perturbcast.nn.standardise import Standardise
from perturbcast.nn.trunk import Gaussian, GaussianHead, Part, Trunk

Likelihood = Literal["counts", "normal"]


class BasalEncoder(nn.Module):
    """q(z | x, ...) = Gaussian head of Trunk([x̃ ; what else is given]), equation (11)."""

    def __init__(self, standardise: Standardise, *, n_extra: int, n_latent: int, width: int, n_layers: int) -> None:
        super().__init__()
        self.standardise = standardise
        self.trunk = Trunk(len(standardise.mean) + n_extra, width=width, n_layers=n_layers)
        self.head = GaussianHead(width, n_latent)

    def forward(self, values: Float[Tensor, "cell gene"], *given: Part) -> Gaussian:
        """Posterior of each cell's basal state; with parts that have particles, one per particle."""
        return self.head(self.trunk(self.standardise(values), *given))


class Decoder(nn.Module):
    """p(x | h) = head of Trunk(h), h given in parts that stand one after another."""

    def __init__(self, n_in: int, n_genes: int, *, width: int, n_layers: int, likelihood: Likelihood) -> None:
        super().__init__()
        self.trunk = Trunk(n_in, width=width, n_layers=n_layers)
        self.head = CountHead(width, n_genes) if likelihood == "counts" else ExpressionHead(width, n_genes)

    def log_prob(self, batch: Batch, *parts: Part) -> Float[Tensor, "particle cell"]:
        """ln p of each cell of a batch, summed over genes."""
        found: Tensor = self.head.log_prob(self.trunk(*parts), batch.values, batch.library)
        return found

    def log_share(self, *parts: Part) -> Float[Tensor, "... gene"]:
        """ln of each gene's share of the molecules; for count heads."""
        assert isinstance(self.head, CountHead)
        return self.head.log_share(self.trunk(*parts))

    def mean(self, *parts: Part) -> Float[Tensor, "... gene"]:
        """Mean expression; for normal heads."""
        assert isinstance(self.head, ExpressionHead)
        found: Tensor = self.head.mean(self.trunk(*parts))
        return found


def draw_basal(posterior: Gaussian, noise: Noise, *, n_particles: int) -> Float[Tensor, "particle cell latent"]:
    """A basal state per particle and cell; particles share a posterior without particles."""
    return posterior.draw(noise.normal_of_cells(n_particles, posterior.mean.shape[-1]))


def basal_kl(
    posterior: Gaussian, drawn: Float[Tensor, "particle cell latent"], *, analytic: bool
) -> Float[Tensor, "one_or_particle cell"]:
    """KL of the basal posterior to 𝒩(0, I), per cell; one particle where that is exact."""
    kl = standard_normal_kl(posterior) if analytic else standard_normal_log_ratio(drawn, posterior)
    kl = kl.sum(-1)
    return kl if kl.dim() == 2 else kl.unsqueeze(0)


def standardiser(
    mean: Float[np.ndarray, " gene"], sd: Float[np.ndarray, " gene"], likelihood: Likelihood
) -> Standardise:
    """ln(1 + x) standardised for counts, x standardised for expression."""
    return Standardise(mean, sd, logarithm=likelihood == "counts")


def zeros_like_cells(batch: Batch) -> Float[Tensor, " cell"]:
    """A zero per cell."""
    return torch.zeros(len(batch.values), device=batch.values.device)
