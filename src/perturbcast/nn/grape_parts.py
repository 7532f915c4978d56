"""Parts of GRAPE: contrastive alignment, encoders of features, similarity of genes, and the direction loss (spec A)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from perturbcast.nn.grape_messages import edge_products

SQUASH = 0.1  # sd of the Gaussian in the released encoder; A.3
LEAST_NORM = 1e-8
LEAST_SUM = 1e-12  # of normalisations


def info_nce(
    anchor: Float[Tensor, "gene state"],
    candidate: Float[Tensor, "gene state"],
    *,
    temperature: Float[Tensor, ""] | float = 1.0,
    symmetric: bool = False,
) -> Float[Tensor, ""]:
    """Mean of -ln softmax(cosine / T) of each gene's own pair against all candidates (A-1 with its logarithm).

    One direction, from anchors to candidates, as in the released code; `symmetric` averages both. Oracle A1.
    """
    logits = functional.normalize(anchor, dim=1) @ functional.normalize(candidate, dim=1).T / temperature
    own = torch.arange(len(logits), device=logits.device)
    loss = functional.cross_entropy(logits, own)
    return (loss + functional.cross_entropy(logits.T, own)) / 2 if symmetric else loss


def tanh_huber(
    observed: Float[Tensor, "row gene"],
    predicted: Float[Tensor, "row gene"],
    *,
    delta: float = 0.7,
    squashed: bool = True,
) -> Float[Tensor, "row gene"]:
    """Huber loss of tanh of responses (A-15, A-16): the direction of change weighs most. Oracle A6.

    `squashed=False` is the camera-ready code: control cancels, and it is a second robust regression (A-F3).
    """
    if squashed:
        observed, predicted = torch.tanh(observed), torch.tanh(predicted)
    return functional.huber_loss(predicted, observed, delta=delta, reduction="none")


def error_and_ranks(predicted: Float[Tensor, "row gene"], target: Float[Tensor, "row gene"]) -> float:
    """Mean of L2 and of the failure to discriminate, each over that of predicting 0: 1 is no better than that.

    Discrimination (PDS) of a row is the share of other targets that are further from its prediction by cosine than its
    own is, ties counting half. A single row has none: L2 alone decides.

    Differs from A.13: values relative to those of no prediction are averaged, for ranks of both among all passes; ranks
    of passes already judged would change with every further pass.
    """
    length = float(target.norm(dim=1).mean().clamp(min=LEAST_SUM))
    error = float((predicted - target).norm(dim=1).mean()) / length
    if len(target) < 2:
        return error
    alike = functional.normalize(predicted, dim=1) @ functional.normalize(target, dim=1).T
    own = alike.diagonal()[:, None]
    closer = (alike > own).sum(dim=1) + ((alike == own).sum(dim=1) - 1) / 2
    missed = float(closer.double().mean()) / (len(target) - 1)
    return (error + 2 * missed) / 2


def gaussian_squash(values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """exp(-x² / (2 · 0.1²)): what the released code does to features; it keeps only whether they are near zero."""
    return torch.exp(-(values**2) / (2 * SQUASH**2))


class FeatureEncoder(nn.Module):
    """r = LayerNorm(Linear(GELU(p)) + p), p = Linear(x) of one modality (A.3)."""

    def __init__(self, n_in: int, width: int, *, squash: bool, normalise: bool) -> None:
        super().__init__()
        self.squash = squash
        self.before = nn.LayerNorm(n_in) if normalise else nn.Identity()
        self.project = nn.Linear(n_in, width)
        self.mix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Float[Tensor, "gene feature"]) -> Float[Tensor, "gene state"]:
        """The encoded genes."""
        given = gaussian_squash(features) if self.squash else self.before(features)
        projected = self.project(given)
        return self.norm(self.mix(functional.gelu(projected)) + projected)


def fusion(n_in: int, width: int, *, batch_norm: bool) -> nn.Sequential:
    """Ψ of A-2: Linear, norm, ReLU, Linear, norm. The paper's norms run over the genes."""
    norms = [nn.BatchNorm1d(width) if batch_norm else nn.LayerNorm(width) for _ in range(2)]
    return nn.Sequential(nn.Linear(n_in, width), norms[0], nn.ReLU(), nn.Linear(width, width), norms[1])


class SimilarityHeads(nn.Module):
    """S of A-4: the mean over heads of the cosine of projected genes. Oracle A2."""

    def __init__(self, n_in: int, *, n_heads: int, width: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.weight = nn.Parameter(torch.empty(n_in, n_heads * width))
        nn.init.xavier_normal_(self.weight)

    def unit(self, states: Float[Tensor, "gene state"]) -> Float[Tensor, "gene part"]:
        """Rows whose inner products are the similarities."""
        parts = (states @ self.weight).unflatten(1, (self.n_heads, -1))
        length = parts.norm(dim=2, keepdim=True).clamp(min=LEAST_NORM)
        return (parts / length).flatten(1) / self.n_heads**0.5

    def forward(
        self, states: Float[Tensor, "gene state"], source: Int[Tensor, " edge"], destination: Int[Tensor, " edge"]
    ) -> Float[Tensor, " edge"]:
        """The similarity of the ends of each edge, in [-1, 1]."""
        unit = self.unit(states)[:, None]
        return edge_products(unit, unit, torch.stack([source, destination]))[:, 0]


def divided(
    values: Float[Tensor, " edge"],
    ends: Int[Tensor, " edge"],
    *,
    order: int,
    counted: Float[Tensor, " edge"],
    n_nodes: int,
) -> Float[Tensor, " edge"]:
    """Values over the L1 or L2 norm (`order`) of those that share an end; edges with `counted` 0 have no part in norms.

    By destination it is the column normalisation of A-8, by source the row normalisation after A-5 and A-8.
    """
    sums = values.new_zeros(n_nodes).index_add(0, ends, values.abs() ** order * counted)
    norm = sums.clamp(min=LEAST_SUM**order) ** (1.0 / order)
    return values / norm[ends]


def relation_of(
    non_coding: Int[Tensor, " node"], source: Int[Tensor, " edge"], destination: Int[Tensor, " edge"]
) -> Int[Tensor, " edge"]:
    """0 for edges among coding genes (cc), 1 for mixed ones (cn), 2 among non-coding genes (nn)."""
    return non_coding[source] + non_coding[destination]
