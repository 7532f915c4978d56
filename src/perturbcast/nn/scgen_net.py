"""The autoencoder of scGen (spec E.2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perturbcast.nn.cell_pairs import PairBatch
from perturbcast.nn.divergences import standard_normal_kl
from perturbcast.nn.trunk import Gaussian

KL_WEIGHT = 5e-5  # E.2
LEAST_VARIANCE = 1e-4


class ScgenNet(nn.Module):
    """Two hidden layers each way with normalisation and dropout, a normal latent cell, squared error."""

    def __init__(self, *, n_genes: int, width: int, n_latent: int, dropout: float) -> None:
        super().__init__()
        self.encoder = _layers(n_genes, width, dropout=dropout)
        self.mean, self.log_variance = nn.Linear(width, n_latent), nn.Linear(width, n_latent)
        self.decoder = nn.Sequential(_layers(n_latent, width, dropout=dropout), nn.Linear(width, n_genes))

    def encode(self, values: Float[Tensor, "cell gene"]) -> Gaussian:
        """The posterior of the latent cell."""
        unit = self.encoder(values)
        return Gaussian(self.mean(unit), torch.exp(self.log_variance(unit).clamp(-10.0, 10.0)) + LEAST_VARIANCE)

    def terms(self, batch: PairBatch, *, seed: int) -> dict[str, Float[Tensor, ""]]:
        """Half the squared error summed over genes, and the weighted divergence."""
        posterior = self.encode(batch.values)
        z = posterior.draw(torch.randn_like(posterior.mean)) if self.training else posterior.mean
        error = 0.5 * ((batch.values - self.decoder(z)) ** 2).sum(dim=1)
        divergence = standard_normal_kl(posterior).sum(dim=1)
        return {"error": batch.mean(error), "divergence": 0.5 * KL_WEIGHT * batch.mean(divergence)}


def _layers(n_in: int, width: int, *, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_from in (n_in, width):
        layers += [nn.Linear(n_from, width), nn.BatchNorm1d(width), nn.LeakyReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)
