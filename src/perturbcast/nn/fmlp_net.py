"""The network of fMLP: an MLP per target, summed, then an MLP to all genes (spec D-16)."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from perturbcast.nn.nodes import NodeTable
from perturbcast.nn.response_net import ResponseNet, Rows, of_targets

SLOPE = 0.2  # of LeakyReLU; D-16


class FmlpNet(ResponseNet):
    """Features of each target through one MLP, latents summed, and a second MLP to the response."""

    def __init__(
        self, nodes: NodeTable, *, n_genes: int, width: int, n_latent: int, dropout: float, rows: Rows | None = None
    ) -> None:
        super().__init__({"features": nodes.features}, rows)
        self.encoder = mlp(nodes.features.shape[1], width, n_latent, dropout=dropout)
        self.decoder = mlp(n_latent, width, n_genes, dropout=dropout)

    def respond(self, slots: Int[Tensor, "row slot"]) -> Float[Tensor, "row gene"]:
        """The decoded sum of the latents of the targets."""
        features = of_targets(self.data("features"), slots)
        present = (slots >= 0).to(features.dtype)[..., None]
        latent = (self.encoder(features) * present).sum(dim=1)  # (row, slot, latent) -> (row, latent)
        return self.decoder(latent)


def mlp(n_in: int, width: int, n_out: int, *, dropout: float) -> nn.Sequential:
    """Three linear layers, the hidden ones of one width."""
    layers = [nn.Linear(n_in, width), nn.LeakyReLU(SLOPE), nn.Dropout(dropout)]
    layers += [nn.Linear(width, width), nn.LeakyReLU(SLOPE), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width, n_out))
