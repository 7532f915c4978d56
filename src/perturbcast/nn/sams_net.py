"""SAMS-VAE: z + Σ_p dose · (E ⊙ M)_p, decoded (spec 3), and CPA-VAE, which is the same without masks (spec 3.4)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from perturbcast.nn.batch import Batch
from perturbcast.nn.divergences import importance_weighted_bound, standard_normal_log_ratio
from perturbcast.nn.guides import CorrelatedGuide, MaskAndEmbedding, MaskedEmbedding, MeanFieldGuide
from perturbcast.nn.latent import BasalEncoder, Decoder, Likelihood, basal_kl, draw_basal
from perturbcast.nn.noise import Noise
from perturbcast.nn.plates import charged
from perturbcast.nn.standardise import Standardise
from perturbcast.nn.trunk import Gaussian


@dataclass(frozen=True)
class SamsShape:
    """Sizes and choices of the network."""

    n_targets: int
    n_latent: int
    encoder_width: int
    encoder_layers: int
    decoder_width: int
    decoder_layers: int
    guide: Literal["correlated", "mean-field", "unmasked"]  # unmasked: CPA-VAE
    likelihood: Likelihood
    embedding_width: int = 400  # of the correlated guide
    embedding_layers: int = 4
    correlated_basal: bool = True  # the encoder also reads the offset, equation (11)
    mask_prior: float = 0.01  # π
    embedding_scale: float = 1.0  # s_e
    temperature: float = 1.0  # τ
    n_particles: int = 5  # S
    analytic_kl: bool = True


class UnmaskedGuide(MeanFieldGuide):
    """q(E) of equation (9) with every mask at 1."""

    def __init__(self, n_rows: int, n_latent: int) -> None:
        super().__init__(n_rows, n_latent)
        del self.logits
        self.register_buffer("logits", torch.full((n_rows, n_latent), math.inf), persistent=False)

    def draw(self, rows: Int[Tensor, " row"], noise: Noise, *, n_particles: int) -> MaskedEmbedding:
        """Embeddings by the guide; nothing is drawn for the masks."""
        shape = (n_particles, len(rows), self.location.shape[1])
        mask = torch.ones(shape, device=rows.device)
        posterior, drawn = self.posterior(mask, rows), noise.normal(*shape)
        return MaskedEmbedding(mask, posterior.draw(drawn), self.logits[rows], posterior, drawn)


class SamsNet(nn.Module):
    """Network and objective, equation (12). The engine trains it; models predict with it."""

    def __init__(self, shape: SamsShape, standardise: Standardise) -> None:
        super().__init__()
        self.shape = shape
        n_genes = len(standardise.mean)
        self.guide = _guide(shape)
        self.encoder = BasalEncoder(
            standardise,
            n_extra=shape.n_latent if shape.correlated_basal else 0,
            n_latent=shape.n_latent,
            width=shape.encoder_width,
            n_layers=shape.encoder_layers,
        )
        self.decoder = Decoder(
            shape.n_latent,
            n_genes,
            width=shape.decoder_width,
            n_layers=shape.decoder_layers,
            likelihood=shape.likelihood,
        )

    def terms(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """Terms of (12): reconstruction, and the KLs of basal state, masks and embeddings."""
        shape = self.shape
        drawn = self.guide.draw(batch.present, noise := batch.noise(seed), n_particles=shape.n_particles)
        offset = batch.dosage @ drawn.offset  # (cell, row) @ (particle, row, latent) -> (particle, cell, latent)
        posterior, basal, log_prob = self._cells(batch, offset, noise)
        embedding = drawn.embedding_kl(scale=shape.embedding_scale, analytic=shape.analytic_kl)
        terms = {
            "reconstruction": -batch.mean(log_prob),
            "basal_kl": batch.mean(basal_kl(posterior, basal, analytic=shape.analytic_kl)),
            "embedding_kl": batch.mean(charged(batch.share, embedding)),
        }
        if shape.guide != "unmasked":
            mask = drawn.mask_kl(shape.mask_prior, analytic=shape.analytic_kl)
            terms["mask_kl"] = batch.mean(charged(batch.share, mask))
        return terms

    def _cells(
        self, batch: Batch, offset: Float[Tensor, "particle cell latent"], noise: Noise
    ) -> tuple[Gaussian, Float[Tensor, "particle cell latent"], Float[Tensor, "particle cell"]]:
        given = (offset,) if self.shape.correlated_basal else ()
        posterior = self.encoder(batch.values, *given)
        basal = draw_basal(posterior, noise, n_particles=offset.shape[0])
        return posterior, basal, self.decoder.log_prob(batch, basal + offset)

    def bound(self, batch: Batch, *, seed: int, n_particles: int = 100) -> Float[Tensor, " cell"]:
        """Importance-weighted bound on ln p(x) per cell, equation (27); global variables are drawn, not scored."""
        drawn = self.guide.draw(batch.present, noise := batch.noise(seed), n_particles=n_particles)
        posterior, basal, log_prob = self._cells(batch, batch.dosage @ drawn.offset, noise)
        return importance_weighted_bound(log_prob - standard_normal_log_ratio(basal, posterior).sum(-1))

    def control_posterior(self, batch: Batch) -> Gaussian:
        """q(z) of control cells, whose only offset, if any, is that of their context: one draw of it."""
        if not self.shape.correlated_basal:
            return self.encoder(batch.values)
        offset = batch.values.new_zeros(len(batch.values), self.shape.n_latent)
        if len(batch.present):
            drawn = self.guide.draw(batch.present, batch.noise(0), n_particles=1)
            offset = (batch.dosage @ drawn.offset)[0]
        return self.encoder(batch.values, offset)

    def decoder_input(
        self,
        dosage: Float[Tensor, " target"],
        basal: Float[Tensor, "particle latent"],
        noise_of: Callable[[int], Noise],
    ) -> tuple[Float[Tensor, "particle latent"]]:
        """What the decoder reads for a dosage. Each target's draws are its own, whatever else is in the dosage."""
        hidden = basal
        for target in torch.nonzero(dosage).flatten():
            drawn = self.guide.draw(target[None], noise_of(int(target)), n_particles=len(basal))
            hidden = hidden + dosage[target] * drawn.offset[:, 0]
        return (hidden,)


def _guide(shape: SamsShape) -> MaskAndEmbedding:
    n_rows, n_latent = shape.n_targets, shape.n_latent
    if shape.guide == "unmasked":
        return UnmaskedGuide(n_rows, n_latent)
    if shape.guide == "mean-field":
        return MeanFieldGuide(n_rows, n_latent, temperature=shape.temperature)
    return CorrelatedGuide(
        n_rows,
        n_latent,
        width=shape.embedding_width,
        n_layers=shape.embedding_layers,
        temperature=shape.temperature,
    )
