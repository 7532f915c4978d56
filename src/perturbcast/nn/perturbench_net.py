"""Networks from a control cell and targets to a perturbed cell: PerturBench's reference models (spec E.4)."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from perturbcast.nn.cell_pairs import PairBatch, dense_layers
from perturbcast.nn.doses import Doses


class PairNet(nn.Module, ABC):
    """A network that predicts a cell from the control cell beside it; sub-classes say how.

    The first `n_own` inputs name the training targets one by one, the others hold what is known of them. In training
    the names are withheld from half of the cells where there is anything else, so that what is known is used.
    """

    def __init__(self, *, n_own: int, n_inputs: int, positive: bool) -> None:
        super().__init__()
        self.n_own, self.n_inputs, self.positive = n_own, n_inputs, positive

    @abstractmethod
    def level(self, basal: Float[Tensor, "cell gene"], dose: Doses) -> Float[Tensor, "cell gene"]:
        """Expression before it is made positive."""

    def expression(self, basal: Float[Tensor, "cell gene"], dose: Doses) -> Float[Tensor, "cell gene"]:
        """Predicted expression; above 0 where that of training is."""
        found = self.level(basal, dose)
        return softplus(found) if self.positive else found

    def terms(self, batch: PairBatch, *, seed: int) -> dict[str, Float[Tensor, ""]]:
        """Mean squared error."""
        dose = batch.dose.half_named(self.n_own) if self.training else batch.dose
        found = self.expression(batch.basal, dose)
        return {"error": batch.mean(((found - batch.values) ** 2).mean(dim=1))}


class LinearAdditiveNet(PairNet):
    """ŷ = softplus(softplus⁻¹(x) + A · targets)."""

    def __init__(self, *, n_genes: int, n_own: int, n_inputs: int, positive: bool) -> None:
        super().__init__(n_own=n_own, n_inputs=n_inputs, positive=positive)
        self.effect = nn.Linear(n_inputs, n_genes, bias=False)
        nn.init.zeros_(self.effect.weight)

    def level(self, basal: Float[Tensor, "cell gene"], dose: Doses) -> Float[Tensor, "cell gene"]:
        """The control cell and the sum of the effects."""
        start = inverse_softplus(basal) if self.positive else basal
        return start + dose.through(self.effect.weight)


class LatentAdditiveNet(PairNet):
    """ŷ = softplus(Dec(Enc(x) + Enc_P(targets))); the bias of the output starts at the level of `control`, if given."""

    def __init__(
        self,
        *,
        n_genes: int,
        n_own: int,
        n_inputs: int,
        positive: bool,
        width: int,
        n_latent: int,
        dropout: float,
        control: Float[Tensor, " gene"] | None = None,
    ) -> None:
        super().__init__(n_own=n_own, n_inputs=n_inputs, positive=positive)
        self.encoder = dense_layers([n_genes, width, n_latent], dropout=dropout)
        self.of_targets = dense_layers([n_inputs, width, n_latent], dropout=dropout)
        self.decoder = dense_layers([n_latent, width, n_genes], dropout=dropout)
        if control is not None:
            *_, bias = self.decoder.parameters()
            with torch.no_grad():
                bias.copy_(inverse_softplus(control) if positive else control)

    def level(self, basal: Float[Tensor, "cell gene"], dose: Doses) -> Float[Tensor, "cell gene"]:
        """The decoded sum of the latent cell and the latent targets."""
        found: Tensor = self.decoder(self.encoder(basal) + told(self.of_targets, dose))
        return found


class DecoderOnlyNet(PairNet):
    """ŷ = softplus(m + Dec(targets)): the control cell is not looked at, only m, the level of the mean of controls."""

    def __init__(
        self,
        *,
        n_genes: int,
        n_own: int,
        n_inputs: int,
        positive: bool,
        width: int,
        dropout: float,
        control: Float[Tensor, " gene"],
    ) -> None:
        super().__init__(n_own=n_own, n_inputs=n_inputs, positive=positive)
        self.decoder = dense_layers([n_inputs, width, n_genes], dropout=dropout)
        for parameter in self.decoder[-1].parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("start", inverse_softplus(control) if positive else control)

    def level(self, basal: Float[Tensor, "cell gene"], dose: Doses) -> Float[Tensor, "cell gene"]:
        """The decoded targets."""
        found: Tensor = self.get_buffer("start") + told(self.decoder, dose)
        return found


def told(layers: nn.Sequential, dose: Doses) -> Float[Tensor, "cell unit"]:
    """What the layers make of the inputs of each cell, the first of them applied once per condition."""
    first = layers[0]
    assert isinstance(first, nn.Linear)
    found: Tensor = layers[1:](dose.through(first.weight, first.bias))
    return found


def inverse_softplus(values: Float[Tensor, "... gene"]) -> Float[Tensor, "... gene"]:
    """What softplus makes the values of; values below 0.01 count as that."""
    raised = values.clamp(min=0.01)
    return raised + torch.log(-torch.expm1(-raised))
