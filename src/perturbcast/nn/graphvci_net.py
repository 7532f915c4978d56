"""The network of GraphVCI: a gene graph with learned edges, an encoder, a product decoder, counterfactuals (E.1)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from perturbcast.nn.cell_pairs import PairBatch
from perturbcast.nn.divergences import normal_kl
from perturbcast.nn.doses import Doses
from perturbcast.nn.trunk import Gaussian

LEAST_SD = 1e-3  # E-2, E-3
HALF_LOG_2_PI = 0.9189385332046727
CONTEXT_WIDTH = 16  # E-2


class GivenGroups(NamedTuple):
    """What the counterfactual term compares with: mean and variance of the cells of each training query, of control."""

    mean: Float[Tensor, "query gene"]
    variance: Float[Tensor, "query gene"]
    dose: Float[Tensor, "query input"]
    context: Int[Tensor, " query"]
    control: Bool[Tensor, " query"]


class GeneGraphLayer(nn.Module):
    """g_i = ReLU(Σ_j a_ij F_j Θ + b), a the softmax over the edges into i of learned logits (E-1)."""

    def __init__(self, source: Int[Tensor, " edge"], destination: Int[Tensor, " edge"], *, n_genes: int, width: int):
        super().__init__()
        self.register_buffer("given_source", source, persistent=False)
        self.register_buffer("given_destination", destination, persistent=False)
        self.features = nn.Parameter(torch.randn(n_genes, width))
        self.logits = nn.Parameter(torch.zeros(len(source)))
        self.layer = nn.Linear(width, width)

    def attention(self) -> Float[Tensor, " edge"]:
        """Weight of each edge; those into one gene sum to 1."""
        from torch_geometric.utils import softmax

        return softmax(self.logits, self.get_buffer("given_destination"), num_nodes=len(self.features))

    def forward(self) -> Float[Tensor, "gene state"]:
        """State of each gene."""
        states = self.layer(self.features)
        message = states[self.get_buffer("given_source")] * self.attention()[:, None]
        total = torch.zeros_like(states).index_add(0, self.get_buffer("given_destination"), message)
        return torch.relu(total)


class GraphVciNet(nn.Module):
    """Encoder, decoder and the three terms of E-4 with the counterfactual in `match` mode.

    In training the names of targets are withheld from half of the cells where more is known of them, so that targets
    never seen can be asked. With `start` the decoder's mean is that at first, whatever the targets: with another start
    the first steps go into silencing it, and units with a ReLU stay silent.
    """

    def __init__(
        self,
        *,
        edges: tuple[Int[Tensor, " edge"], Int[Tensor, " edge"]],
        n_genes: int,
        n_own: int,
        n_inputs: int,
        n_contexts: int,
        width: int,
        n_samples: int,
        weights: tuple[float, float, float],
        smooth: bool = False,
        match_control: float = 0.0,
        start: Float[Tensor, " gene"] | None = None,
        groups: GivenGroups | None = None,
    ) -> None:
        super().__init__()
        self.n_own, self.n_inputs, self.width, self.weights = n_own, n_inputs, width, weights
        self.n_samples, self.match_control = n_samples, match_control
        activation = nn.SiLU if smooth else nn.ReLU
        self.graph = GeneGraphLayer(*edges, n_genes=n_genes, width=width)
        self.of_cell = nn.Sequential(nn.Linear(n_genes, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2 * width))
        self.of_context = nn.Embedding(n_contexts, CONTEXT_WIDTH)
        self.of_given = nn.Linear(2 * width + n_inputs + CONTEXT_WIDTH, width)
        self.trunk = nn.Sequential(activation(), nn.Linear(width, width), activation(), nn.Linear(width, width))
        self.of_graph = nn.Linear(width, width)
        self.heads = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.joined = nn.Linear(width + n_inputs, width)
        last = nn.Linear(width, width)
        self.reader = nn.Sequential(activation(), last)
        self._begin_without_effect(last, from_start=start is not None)
        self.readouts = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2))
        self.register_buffer("start", torch.zeros(n_genes) if start is None else start)
        for name, tensor in ({} if groups is None else groups._asdict()).items():
            self.register_buffer(f"given_group_{name}", tensor, persistent=False)

    @torch.no_grad()
    def _begin_without_effect(self, last: nn.Linear, *, from_start: bool) -> None:
        """Treatments have none at first; with a start, nothing else has."""
        if not from_start:
            self.joined.weight[:, self.width :] = 0.0
            return
        self.joined.weight[:, self.width :].normal_()  # inputs of a target have a length of about 1
        for parameter in last.parameters():
            parameter.zero_()

    def posterior(
        self,
        values: Float[Tensor, "cell gene"],
        dose: Doses,
        context: Int[Tensor, " cell"],
        genes: Float[Tensor, "gene state"],
    ) -> Gaussian:
        """q(z | y, t, x), means not below 0 (E-2)."""
        n_cell, n_inputs = 2 * self.width, self.n_inputs
        of_cell, of_dose, of_context = torch.split(self.of_given.weight, [n_cell, n_inputs, CONTEXT_WIDTH], dim=1)
        first = linear(self.of_cell(values), of_cell) + dose.through(of_dose, self.of_given.bias)
        first = first + linear(self.of_context.weight, of_context)[context]
        unit = self.trunk(first) + self.of_graph(genes.mean(dim=0))
        mean, spread = (torch.relu(head(unit)) for head in self.heads)
        return Gaussian(mean, (softplus(spread) + LEAST_SD) ** 2)

    def readings(self, genes: Float[Tensor, "gene state"]) -> list[Float[Tensor, "gene state"]]:
        """What mean and spread are read from."""
        return [readout(genes) for readout in self.readouts]

    def read(self, z: Float[Tensor, "cell state"], dose: Doses) -> Float[Tensor, "cell state"]:
        """The latent cell with its targets, as the decoder has it."""
        of_cell, of_dose = torch.split(self.joined.weight, [self.width, self.n_inputs], dim=1)
        found: Tensor = self.reader(linear(z, of_cell) + dose.through(of_dose, self.joined.bias))
        return found

    def decoded(
        self, z: Float[Tensor, "cell state"], dose: Doses, readings: Sequence[Float[Tensor, "gene state"]]
    ) -> Gaussian:
        """p(y | z, t): products of the cell's state with two readings of each gene's (E-3)."""
        cell = self.read(z, dose)
        mean, spread = (cell @ reading.T for reading in readings)
        return Gaussian(mean + self.get_buffer("start"), (softplus(spread) + LEAST_SD) ** 2)

    def imagined(
        self, z: Float[Tensor, "cell state"], dose: Doses, readings: Sequence[Float[Tensor, "gene state"]]
    ) -> Float[Tensor, "cell gene"]:
        """The mean of p(y | z, t)."""
        found: Tensor = self.read(z, dose) @ readings[0].T + self.get_buffer("start")
        return found

    def expression(
        self, basal: Float[Tensor, "cell gene"], dose: Doses, context: Int[Tensor, " cell"]
    ) -> Float[Tensor, "cell gene"]:
        """What control cells of some contexts would be with the targets; mean of the latent cell."""
        return self.counterfactual(basal, dose.none(), dose, context)

    def counterfactual(
        self,
        values: Float[Tensor, "cell gene"],
        dose: Doses,
        other: Doses,
        context: Int[Tensor, " cell"],
    ) -> Float[Tensor, "cell gene"]:
        """What cells that got `dose` would be with `other` instead."""
        genes = self.graph()
        return self.imagined(self.posterior(values, dose, context, genes).mean, other, self.readings(genes))

    def terms(self, batch: PairBatch, *, seed: int) -> dict[str, Float[Tensor, ""]]:
        """ω0 times the negative log likelihood, ω1 times the counterfactual's misfit, ω2 times the divergence (E-4)."""
        genes = self.graph()
        readings = self.readings(genes)
        dose = self._withheld(batch.dose)
        posterior = self.posterior(batch.values, dose, batch.context, genes)
        likelihood = torch.zeros(())
        n_samples = self.n_samples if self.training else 1
        for _ in range(n_samples):
            z = posterior.draw(torch.randn_like(posterior.mean))
            likelihood = likelihood + batch.mean(normal_nll(batch.values, self.decoded(z, dose, readings)).mean(dim=1))
        found = {"likelihood": self.weights[0] * likelihood / n_samples}
        other = self._others(batch.context)
        wanted = self._withheld(Doses(self.get_buffer("given_group_dose"), other))
        imagined = self.imagined(z, wanted, readings)
        mean, variance = (self.get_buffer(f"given_group_{part}")[other] for part in ("mean", "variance"))
        found["match"] = self.weights[1] * batch.mean(match_nll(imagined, mean, variance).mean(dim=1))
        back = self.posterior(imagined, wanted, batch.context, genes)
        divergence = normal_kl(posterior, Gaussian(back.mean.detach(), back.variance.detach()))
        found["divergence"] = self.weights[2] * batch.mean(divergence.mean(dim=1))
        return found

    def _others(self, context: Int[Tensor, " cell"]) -> Int[Tensor, " cell"]:
        """For each cell a training query of its context at random, or control for a share of cells."""
        control = self.get_buffer("given_group_control")[None]
        same = self.get_buffer("given_group_context")[None] == context[:, None]
        others = same & ~control
        others = others | ~others.any(dim=1, keepdim=True) & ~control  # a context of control alone borrows from all
        chance = (1.0 - self.match_control) * others / others.sum(dim=1, keepdim=True)
        return torch.multinomial(chance + self.match_control * (same & control), 1)[:, 0]

    def _withheld(self, dose: Doses) -> Doses:
        return dose.half_named(self.n_own) if self.training else dose


def normal_nll(values: Float[Tensor, "cell gene"], given: Gaussian) -> Float[Tensor, "cell gene"]:
    """-ln N(y; mean, variance) of each entry."""
    return 0.5 * ((values - given.mean) ** 2 / given.variance + torch.log(given.variance)) + HALF_LOG_2_PI


def match_nll(
    imagined: Float[Tensor, "cell gene"], mean: Float[Tensor, "cell gene"], variance: Float[Tensor, "cell gene"]
) -> Float[Tensor, "cell gene"]:
    """Minus the mean over a group's cells of ln N(ŷ; y_k, 1), from the group's mean and its biased variance (E-4)."""
    return 0.5 * ((imagined - mean) ** 2 + variance) + HALF_LOG_2_PI
