"""SVAE+: a sparse shift of the prior mean of z for every condition (spec 3.4)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from perturbcast.nn.batch import Batch
from perturbcast.nn.divergences import importance_weighted_bound, normal_log_prob
from perturbcast.nn.latent import BasalEncoder, Decoder, Likelihood, draw_basal
from perturbcast.nn.masks import straight_through_mask
from perturbcast.nn.noise import Noise
from perturbcast.nn.plates import charged
from perturbcast.nn.standardise import Standardise
from perturbcast.nn.trunk import Gaussian, in_single

FIRST_SHIFT = 0.1  # standard deviation of the first prior means


@dataclass(frozen=True)
class SvaeShape:
    """Sizes and choices of the network."""

    n_columns: int  # one per condition
    n_latent: int
    encoder_width: int
    encoder_layers: int
    decoder_width: int
    decoder_layers: int
    likelihood: Likelihood
    sparsity: float = 5.0  # K of Beta(1, K)
    temperature: float = 1.0
    n_particles: int = 5
    analytic_kl: bool = True


class SvaeNet(nn.Module):
    """z ~ 𝒩(m_p ⊙ ε_p, I), m_pj ~ Bern(b_pj), b_pj ~ Beta(1, K), q(b) a point mass at σ(α), q(z | x̃).

    q(m | b) is the prior of m given b, so masks cost nothing beyond ln p(b).
    """

    def __init__(self, shape: SvaeShape, standardise: Standardise) -> None:
        super().__init__()
        self.shape = shape
        self.logits = nn.Parameter(torch.zeros(shape.n_columns, shape.n_latent))  # α
        self.shift = nn.Parameter(FIRST_SHIFT * torch.randn(shape.n_columns, shape.n_latent))  # ε
        self.encoder = BasalEncoder(
            standardise,
            n_extra=0,
            n_latent=shape.n_latent,
            width=shape.encoder_width,
            n_layers=shape.encoder_layers,
        )
        self.decoder = Decoder(
            shape.n_latent,
            len(standardise.mean),
            width=shape.decoder_width,
            n_layers=shape.decoder_layers,
            likelihood=shape.likelihood,
        )

    def terms(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """Reconstruction, KL of the cell's state to the shifted prior, and -ln Beta(b; 1, K) of the masks."""
        shape, noise, logits = self.shape, batch.noise(seed), self.logits[batch.present]
        mask = self._mask(logits, noise, n_particles=shape.n_particles)
        with in_single(mask):
            prior = batch.dosage @ (mask * self.shift[batch.present])
        posterior = self.encoder(batch.values)
        state = draw_basal(posterior, noise, n_particles=shape.n_particles)
        sparse = -(shape.sparsity - 1) * logsigmoid(-logits) - torch.log(torch.tensor(shape.sparsity))
        return {
            "reconstruction": -batch.mean(self.decoder.log_prob(batch, state)),
            "state_kl": batch.mean(self._state_kl(posterior, state, prior)),
            "mask_prior": batch.mean(charged(batch.share, sparse.sum(-1)[None])),
        }

    def _mask(self, logits: Tensor, noise: Noise, *, n_particles: int) -> Tensor:
        uniform = noise.uniform(n_particles, *logits.shape)
        return straight_through_mask(logits, uniform, temperature=self.shape.temperature)

    def _state_kl(self, posterior: Gaussian, state: Tensor, prior: Tensor) -> Float[Tensor, "particle cell"]:
        """KL(q(z | x) ‖ 𝒩(prior, I)), exact or at the states drawn."""
        unit = Gaussian(prior, torch.ones_like(prior))
        if not self.shape.analytic_kl:
            return (normal_log_prob(state, posterior) - normal_log_prob(state, unit)).sum(-1)
        square = (posterior.mean - prior) ** 2
        return 0.5 * (posterior.variance + square - 1 - torch.log(posterior.variance)).sum(-1)

    def bound(self, batch: Batch, *, seed: int, n_particles: int = 100) -> Float[Tensor, " cell"]:
        """Importance-weighted bound on ln p(x) per cell, equation (27); masks are drawn, not scored."""
        noise = batch.noise(seed)
        mask = self._mask(self.logits[batch.present], noise, n_particles=n_particles)
        prior = batch.dosage @ (mask * self.shift[batch.present])
        posterior = self.encoder(batch.values)
        state = draw_basal(posterior, noise, n_particles=n_particles)
        unit = Gaussian(prior, torch.ones_like(prior))
        ratio = normal_log_prob(state, unit) - normal_log_prob(state, posterior)
        return importance_weighted_bound(self.decoder.log_prob(batch, state) + ratio.sum(-1))

    def control_posterior(self, batch: Batch) -> Gaussian:
        """q(z) of control cells."""
        return self.encoder(batch.values)

    def decoder_input(
        self,
        dosage: Float[Tensor, " column"],
        basal: Float[Tensor, "particle latent"],
        noise_of: Callable[[int], Noise],
    ) -> tuple[Tensor, ...]:
        """The state of cells that received a dosage: their basal state, shifted."""
        state = basal
        for column in torch.nonzero(dosage).flatten():
            mask = self._mask(self.logits[column][None], noise_of(int(column)), n_particles=len(basal))[:, 0]
            state = state + dosage[column] * mask * self.shift[column]
        return (state,)
