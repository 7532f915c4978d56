"""Alignment of texts and sequences before training: two discriminators and InfoNCE (spec A-1)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from perturbcast.nn.condition_rows import RowBatch
from perturbcast.nn.grape_parts import info_nce


class Alignment(nn.Module):
    """Draws the encodings of a gene's text and sequence together; rows of a batch are genes of which both are known.

    `plus` learns the temperature, from .07 on, and goes both ways; otherwise T = 1 and texts alone are anchors.
    """

    def __init__(
        self,
        of_text: nn.Module,
        of_sequence: nn.Module,
        text: Float[Tensor, "gene word"],
        sequence: Float[Tensor, "gene kmer"],
        *,
        width: int,
        symmetric: bool,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([of_text, of_sequence])
        self.heads = nn.ModuleList(_discriminator(width) for _ in self.encoders)
        self.log_temperature = nn.Parameter(torch.tensor(0.07).log()) if symmetric else None
        self.register_buffer("anchors", text)
        self.register_buffer("candidates", sequence)

    def terms(self, batch: RowBatch, *, seed: int) -> dict[str, Tensor]:
        """The contrastive loss over the genes of a batch, its other genes being the negatives."""
        encoded = []
        for name, encoder, head in zip(("anchors", "candidates"), self.encoders, self.heads, strict=True):
            encoded.append(head(functional.relu(encoder(self.get_buffer(name)[batch.rows]))))
        temperature = 1.0 if self.log_temperature is None else self.log_temperature.exp()
        loss = info_nce(*encoded, temperature=temperature, symmetric=self.log_temperature is not None)
        return {"alignment": loss * (batch.n_parts * len(batch.rows) / batch.n_everywhere)}


def _discriminator(width: int) -> nn.Sequential:
    """width -> width -> width / 2. Batch norm needs two genes; the engine may leave one over, so layers are normalised.

    Differs from the released code: LayerNorm for BatchNorm1d, so that a gene's encoding is its own.
    """
    hidden = nn.Linear(width, width)
    return nn.Sequential(hidden, nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, max(width // 2, 1)))
