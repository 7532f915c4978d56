"""Conditional VAE: the decoder reads [z ; d], the encoder [x̃ ; d] (spec 3.4)."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from perturbcast.nn.batch import Batch
from perturbcast.nn.divergences import importance_weighted_bound, standard_normal_log_ratio
from perturbcast.nn.latent import BasalEncoder, Decoder, Likelihood, basal_kl, draw_basal
from perturbcast.nn.noise import Noise
from perturbcast.nn.standardise import Standardise
from perturbcast.nn.trunk import Gaussian


@dataclass(frozen=True)
class ConditionalShape:
    """Sizes and choices of the network."""

    n_columns: int  # of the dosage
    n_latent: int
    encoder_width: int
    encoder_layers: int
    decoder_width: int
    decoder_layers: int
    likelihood: Likelihood
    n_particles: int = 5
    analytic_kl: bool = True


class ConditionalNet(nn.Module):
    """Network and objective: the ELBO without global variables."""

    def __init__(self, shape: ConditionalShape, standardise: Standardise) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = BasalEncoder(
            standardise,
            n_extra=shape.n_columns,
            n_latent=shape.n_latent,
            width=shape.encoder_width,
            n_layers=shape.encoder_layers,
        )
        self.decoder = Decoder(
            shape.n_latent + shape.n_columns,
            len(standardise.mean),
            width=shape.decoder_width,
            n_layers=shape.decoder_layers,
            likelihood=shape.likelihood,
        )

    def terms(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """Reconstruction and the KL of the basal state."""
        dosage = batch.whole_dosage(self.shape.n_columns)
        posterior = self.encoder(batch.values, dosage)
        basal = draw_basal(posterior, batch.noise(seed), n_particles=self.shape.n_particles)
        return {
            "reconstruction": -batch.mean(self.decoder.log_prob(batch, basal, dosage)),
            "basal_kl": batch.mean(basal_kl(posterior, basal, analytic=self.shape.analytic_kl)),
        }

    def bound(self, batch: Batch, *, seed: int, n_particles: int = 100) -> Float[Tensor, " cell"]:
        """Importance-weighted bound on ln p(x) per cell, equation (27)."""
        dosage = batch.whole_dosage(self.shape.n_columns)
        posterior = self.encoder(batch.values, dosage)
        basal = draw_basal(posterior, batch.noise(seed), n_particles=n_particles)
        log_prob = self.decoder.log_prob(batch, basal, dosage)
        return importance_weighted_bound(log_prob - standard_normal_log_ratio(basal, posterior).sum(-1))

    def control_posterior(self, batch: Batch) -> Gaussian:
        """q(z) of control cells."""
        return self.encoder(batch.values, batch.whole_dosage(self.shape.n_columns))

    def decoder_input(
        self,
        dosage: Float[Tensor, " column"],
        basal: Float[Tensor, "particle latent"],
        noise_of: Callable[[int], Noise],
    ) -> tuple[Tensor, ...]:
        """What the decoder reads for a dosage; nothing is drawn."""
        return basal, dosage.expand(len(basal), -1)
