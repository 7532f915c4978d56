"""The network in the objective of GPO-VAE: its K hops aligned with responses, sparsity, prior knowledge (spec 5)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from perturbcast.nn.hops import hops, reach

LOW, HIGH = 0.01, 0.99  # probabilities of edges that knowledge gives are kept within, so that logits are finite
MODEL_ERROR = 0.1  # ln units; what K hops of a network cannot explain of a response, beside its standard error


# ------------------------------------------------------------------------------------------------- as published
def l1_alignment(
    total: Float[Tensor, "cell gene"],
    change: Float[Tensor, "cell gene"],
    *,
    criterion: float,
    counted: Bool[Tensor, "#cell gene"] | None = None,
) -> Float[Tensor, " cell"]:
    """Mean over genes of |T - (ΔX - c)| per cell, equation (22); `total` T = dosage · T̂_K.

    Its best T is a median over cells. As published the mean over cells takes controls in, and genes the diagonal (B24).
    `counted` leaves out genes without ΔX, and with a row per cell its own targets.
    """
    off = (total - (change - criterion)).abs()
    if counted is None:
        return off.mean(dim=1)
    counts = counted.to(off.dtype).expand(off.shape)
    return (off * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1.0)


def l1_probability_alignment(
    total: Float[Tensor, "cell gene"], change: Float[Tensor, "cell gene"], *, criterion: float
) -> Float[Tensor, " cell"]:
    """Mean over genes of |S - σ(ΔX - c)| per cell, equation (23); `total` = dosage · S."""
    return (total - torch.sigmoid(change - criterion)).abs().mean(dim=1)


def sparsity(logits: Float[Tensor, "row gene"]) -> Float[Tensor, ""]:
    """Mean probability of an edge, equation (24)."""
    return torch.sigmoid(logits).mean()


# ------------------------------------------------------------------------------------------- mean effects, with signs
@dataclass(frozen=True)
class EffectTargets:
    """What the K hops are aligned with in `plus`: mean responses of conditions, computed once from training cells."""

    change: Float[Tensor, "row gene"]  # mean response, ln units
    weight: Float[Tensor, "row gene"]  # 1 / variance of the residual; 0 where not measured, or acted on
    amplitude: Float[Tensor, "row source"]  # how far a condition moved each target it acts on; 0 elsewhere
    place: Int[Tensor, " source"]  # position of each source among the genes
    diagonal: bool = False  # targets' own responses count too (B24)

    @classmethod
    def of(
        cls,
        change: Float[np.ndarray, "row gene"],
        error: Float[np.ndarray, "row gene"],
        acted: Bool[np.ndarray, "row source"],
        *,
        place: Int[np.ndarray, " source"],
        is_measured: Bool[np.ndarray, " gene"],
        least: float,
        direction: float,
        diagonal: bool = False,
    ) -> "EffectTargets":
        """Targets for responses with standard errors.

        A target's own response is the amplitude of its perturbation, but never less than `least` in `direction` (-1
        where function is lost): a knock-out need not lower its own message, and unmeasured targets show nothing.
        """
        own = np.where(is_measured[place], change[:, place], 0.0)
        amplitude = np.where(acted, direction * np.maximum(direction * own, least), 0.0)
        weight = np.where(is_measured, 1.0 / (error**2 + MODEL_ERROR**2), 0.0)
        row, source = np.nonzero(acted)
        if not diagonal:
            weight[row, place[source]] = 0.0
        arrays = (np.nan_to_num(change), np.nan_to_num(weight), amplitude)
        single = [torch.as_tensor(array, dtype=torch.float32) for array in arrays]
        return cls(single[0], single[1], single[2], torch.as_tensor(place), diagonal)

    def take(self, rows: Int[Tensor, " row"]) -> "EffectTargets":
        """Some conditions."""
        return replace(self, change=self.change[rows], weight=self.weight[rows], amplitude=self.amplitude[rows])

    def to(self, device: torch.device) -> "EffectTargets":
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("change", "weight", "amplitude", "place")}
        return replace(self, **moved)


def signed_hops(
    amplitude: Float[Tensor, "row source"],
    effect: Float[Tensor, "source gene"],
    *,
    place: Int[Tensor, " source"],
    n_hops: int,
) -> Float[Tensor, "row gene"]:
    """Response of all genes after K further hops: r⁰ = a·B, r^{k+1} = (a + r^k of sources not acted on)·B.

    B (effect) are direct effects, ln change per ln change of the source; a source acted on stays where the perturbation
    put it. K = 0 gives direct effects only. Rows are conditions, so effects of doubles pass through one another.
    """
    free = (amplitude == 0).to(amplitude.dtype)
    total = amplitude @ effect
    for _ in range(n_hops):
        total = (amplitude + total[:, place] * free) @ effect
    return total


def off_diagonal(place: Int[Tensor, " source"], n_genes: int) -> Float[Tensor, "source gene"]:
    """1 everywhere but from a source to itself."""
    mask = torch.ones(len(place), n_genes, device=place.device)
    mask[torch.arange(len(place), device=place.device), place] = 0.0
    return mask


def of_all_genes(weights: Float[Tensor, "source gene"], place: Int[Tensor, " perturbed"]) -> Float[Tensor, "gene gene"]:
    """Weights with a row for every gene: 0 for closed ones, which regulate nothing."""
    n_genes = weights.shape[1]
    if weights.shape[0] == n_genes:
        return weights
    return weights.new_zeros(n_genes, n_genes).index_copy(0, place, weights)


def effect_alignment(
    logits: Float[Tensor, "source gene"],
    strength: Float[Tensor, "source gene"],
    shared: Float[Tensor, " gene"],
    targets: EffectTargets,
    *,
    n_hops: int,
) -> Float[Tensor, ""]:
    """Half the mean squared residual, in units of its error, of mean responses after K hops of B = σ(Ŵ) ⊙ E.

    `shared` is what every perturbation does (stress), so that it makes no edges. No diagonal unless asked. Departs from
    (22) in all that spec 5.3 and B6 criticise: signed means over cells instead of |ΔX| of single pairs, perturbed
    conditions only, hops of expected effects instead of products of logits.
    """
    effect = torch.sigmoid(logits) * strength
    effect = effect if targets.diagonal else effect * off_diagonal(targets.place, logits.shape[1])
    found = signed_hops(targets.amplitude, effect, place=targets.place, n_hops=n_hops) + shared
    return 0.5 * (targets.weight * (targets.change - found) ** 2).mean()


def reach_alignment(
    logits: Float[Tensor, "source gene"], targets: EffectTargets, *, n_hops: int, criterion: float
) -> Float[Tensor, ""]:
    """Mean |reach - min(1, |mean response| / 2c)| over supervised pairs: the probability-domain K hops of B6, unsigned.

    The link is affine: a response of c is a probability of one half.
    """
    n_genes = logits.shape[1]
    square = of_all_genes(torch.sigmoid(logits), targets.place)
    rows = torch.zeros(len(targets.change), n_genes, device=logits.device)
    rows = rows.index_copy(1, targets.place, (targets.amplitude != 0).to(logits.dtype))
    aimed = (targets.change.abs() / (2 * criterion)).clamp(max=1.0)
    supervised = targets.weight > 0
    return (reach(rows, square, n_hops=n_hops) - aimed)[supervised].abs().mean()


def mean_alignment(
    logits: Float[Tensor, "source gene"], targets: EffectTargets, *, n_hops: int, criterion: float
) -> Float[Tensor, ""]:
    """(22) with |mean response| in place of |ΔX| of single cells: products of logits, a row per condition."""
    n_genes = logits.shape[1]
    square = of_all_genes(logits, targets.place)
    rows = torch.zeros(len(targets.change), n_genes, device=logits.device)
    rows = rows.index_copy(1, targets.place, (targets.amplitude != 0).to(logits.dtype))
    total = hops(rows, square, n_hops=n_hops)
    return l1_alignment(total, targets.change.abs(), criterion=criterion, counted=targets.weight > 0).mean()


@dataclass(frozen=True)
class Penalties:
    """Weights of the two terms that keep the network sparse and its effects small, beside the alignment."""

    sparsity: float  # λ_s, times the mean probability
    ridge: float  # times the mean squared strength, or what rows cost that features couple
    cost: Float[Tensor, "#source #gene"] | None = None  # of each edge; 1 where nothing is known before
    coupling: Float[Tensor, "source source"] | None = None  # C⁻¹ of the rows; the unit matrix where they are free

    def __call__(
        self, logits: Float[Tensor, "source gene"], strength: Float[Tensor, "source gene"]
    ) -> Float[Tensor, ""]:
        """λ_s · mean(cost · σ(Ŵ)) + ridge · mean(E ⊙ C⁻¹E)."""
        probability = torch.sigmoid(logits)
        costly = probability if self.cost is None else probability * self.cost.to(logits.device)
        coupled = strength if self.coupling is None else self.coupling.to(logits.device) @ strength
        return self.sparsity * costly.mean() + self.ridge * (strength * coupled).mean()


@dataclass(frozen=True)
class AlignedNetwork:
    """Where the training of the cells starts from."""

    logits: Float[Tensor, "source gene"]
    strength: Float[Tensor, "source gene"]
    shared: Float[Tensor, " gene"]


def aligned(
    targets: EffectTargets,
    *,
    n_hops: int,
    penalties: Penalties,
    first_logits: Float[Tensor, "source gene"],
    n_steps: int = 300,
    lr: float = 0.05,
    seed: int = 0,
) -> AlignedNetwork:
    """The network that explains the mean responses alone, by Adam on `effect_alignment` and the penalties.

    Differs from the paper, which starts at Ŵ = 0 and moves a logit by at most the learning rate, 3e-4, per step: a few
    hundred steps on a few thousand numbers replace tens of thousands of steps on cells. Same numbers for the same seed.
    """
    noise = torch.Generator().manual_seed(seed)
    logits = first_logits.clone().requires_grad_()
    strength = (0.01 * torch.randn(logits.shape, generator=noise)).requires_grad_()
    shared = targets.change.mean(dim=0).requires_grad_()
    optimiser = torch.optim.Adam([logits, strength, shared], lr=lr)
    with torch.enable_grad():
        for _ in range(n_steps):
            loss = effect_alignment(logits, strength, shared, targets, n_hops=n_hops)
            optimiser.zero_grad(set_to_none=True)
            (loss + penalties(logits, strength)).backward()
            optimiser.step()
    return AlignedNetwork(logits.detach(), strength.detach(), shared.detach())


# ------------------------------------------------------------------------------------------------ what is known before
def prior_probabilities(
    sources: list[str],
    genes: list[str],
    edges: list[tuple[str, str, float]],
    *,
    background: float,
) -> Float[np.ndarray, "source gene"]:
    """Probability of each edge before any cell is seen: clip(weight, 0.01, 0.99) where an edge is listed.

    `edges` are (source, target, weight), aligned by name; those with other genes say nothing here. `background` holds
    for pairs that are not listed. The published code reads an unlabelled matrix in an order that it does not check.
    """
    row = {gene: number for number, gene in enumerate(sources)}
    column = {gene: number for number, gene in enumerate(genes)}
    found = np.full((len(sources), len(genes)), background)
    for source, target, weight in edges:
        if source in row and target in column:
            found[row[source], column[target]] = float(np.clip(weight, LOW, HIGH))
    return found


def logit(probability: Float[np.ndarray, "source gene"]) -> Float[Tensor, "source gene"]:
    """ln p / (1 - p), for initial logits."""
    clipped = np.clip(probability, LOW, HIGH)
    return torch.as_tensor(np.log(clipped / (1 - clipped)), dtype=torch.float32)
