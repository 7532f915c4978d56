"""CRADLE-VAE: an offset of the perturbation and one of the artefacts beside the basal state (spec 4)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from perturbcast.nn.batch import Batch
from perturbcast.nn.counterfactual import counterfactual_divergence
from perturbcast.nn.divergences import (
    importance_weighted_bound,
    standard_normal_kl,
    standard_normal_log_ratio,
)
from perturbcast.nn.guides import CorrelatedGuide, MaskAndEmbedding, MaskedEmbedding
from perturbcast.nn.latent import BasalEncoder, Decoder, Likelihood, basal_kl, draw_basal
from perturbcast.nn.noise import Noise
from perturbcast.nn.plates import charged
from perturbcast.nn.standardise import Standardise
from perturbcast.nn.trunk import FLOOR, Dosed, Gaussian, GaussianHead, Trunk

ReconstructionWeight = Literal["none", "paper", "balanced"]
MOST_WEIGHT = 10.0  # of one cell under `balanced`
FIRST_ARTEFACT_SD = 0.1  # of the locations of free artefact embeddings


@dataclass(frozen=True)
class CradleShape:
    """Sizes and choices of the network."""

    n_targets: int
    n_latent: int
    encoder_width: int
    encoder_layers: int
    decoder_width: int
    decoder_layers: int
    likelihood: Likelihood
    n_offset: int | None = None  # width of the perturbation's offset; None: that of the latent state
    n_artefacts: int = 1  # A
    n_contexts: int = 0  # with an embedding each; 0 where contexts are told by dosage columns, or there is one
    embedding_width: int = 400  # of the networks of embeddings
    embedding_layers: int = 4
    artefact: Literal["free", "network"] = "free"  # q(a): free parameters, or the published network of ones (B17)
    mask_prior: float = 0.001  # π
    embedding_scale: float = 1.0  # s_e
    temperature: float = 1.0  # τ
    n_particles: int = 5  # S
    analytic_kl: bool = True
    reconstruction: ReconstructionWeight = "balanced"
    counterfactual: float = 0.1  # β; 0 leaves the term out
    counterfactual_kl: Literal["exact", "published"] = "exact"
    counterfactual_batch: int | None = 512  # cells that β counts for, whatever the batch; None: those of the batch
    counterfactual_draws: Literal["shared", "separate"] = "shared"  # masks and embeddings of the two sides
    reference_gradient: bool = True

    @property
    def offset_width(self) -> int:
        """Width of the perturbation's offset."""
        return self.n_latent if self.n_offset is None else self.n_offset


class ArtefactEmbedding(nn.Module, ABC):
    """q(a), one vector per artefact."""

    @abstractmethod
    def posterior(self) -> Gaussian:
        """(artefact, latent) distributions."""

    def draw(self, noise: Noise, *, n_particles: int) -> tuple[Float[Tensor, "particle artefact latent"], Gaussian]:
        """Vectors drawn, and what they were drawn from."""
        posterior = self.posterior()
        return posterior.draw(noise.normal(n_particles, *posterior.mean.shape)), posterior


class FreeArtefacts(ArtefactEmbedding):
    """Location and log scale per artefact (B17), or per context; locations start at random, so that they can part."""

    def __init__(self, n_rows: int, n_latent: int) -> None:
        super().__init__()
        self.location = nn.Parameter(FIRST_ARTEFACT_SD * torch.randn(n_rows, n_latent))
        self.log_scale = nn.Parameter(torch.zeros(n_rows, n_latent))

    def posterior(self) -> Gaussian:
        """The parameters themselves."""
        return Gaussian(self.location, (torch.exp(self.log_scale) + FLOOR) ** 2)


class NetworkOfOnes(ArtefactEmbedding):
    """The published form: a network fed with ones, which gives all artefacts one distribution (spec 4.2)."""

    def __init__(self, n_artefacts: int, n_latent: int, *, width: int, n_layers: int) -> None:
        super().__init__()
        self.trunk = Trunk(n_latent, width=width, n_layers=n_layers)
        self.head = GaussianHead(width, n_latent)
        self.register_buffer("ones", torch.ones(n_artefacts, n_latent), persistent=False)

    def posterior(self) -> Gaussian:
        """What the network makes of ones."""
        found: Gaussian = self.head(self.trunk(self.ones))
        return found


@dataclass(frozen=True)
class GlobalDraws:
    """Global variables of a step: perturbations' masks and embeddings, embeddings of artefacts and contexts."""

    perturbation: MaskedEmbedding
    artefact: Float[Tensor, "particle artefact latent"]
    artefact_posterior: Gaussian
    context: tuple[Float[Tensor, "particle context latent"], Gaussian] | None = None  # drawn, and from what

    def offset(self, dosage: Float[Tensor, "cell row"]) -> Dosed:
        """δ of cells with those dosages."""
        return Dosed(dosage, self.perturbation.offset)

    def of_cells(self, batch: Batch, cells: Int[Tensor, " some"] | None = None) -> tuple[Dosed, ...]:
        """δ of the cells of a batch, or of some of them, and what their contexts add where these have embeddings."""
        given = (self.offset(batch.dosage if cells is None else batch.dosage[cells]),)
        if self.context is None:
            return given
        own = batch.extra["context"] if cells is None else batch.extra["context"][cells]
        return (*given, Dosed(own, self.context[0]))

    def artefacts_of(self, labels: Float[Tensor, "*way cell artefact"]) -> Dosed:
        """Σ_a q_a a of cells with those labels; 0 without artefacts."""
        return Dosed(labels.unsqueeze(-3), self.artefact)


def reconstruction_weight(
    failed: Float[Tensor, " cell"],
    *,
    form: ReconstructionWeight,
    failing: Float[Tensor, ""],
    failing_trained: Float[Tensor, ""],
) -> Float[Tensor, " cell"]:
    """What each cell's likelihood counts for.

    `paper` is (15): f(1 - q) + (1 - f)q with f the share of failing cells in the batch. `balanced` is the same with
    f̄ of the training cells, over 2f̄(1 - f̄): both kinds count for half and the mean is 1; where one kind is so rare
    that its cells would count more than tenfold, they count tenfold and the others for the rest. In all forms every
    cell counts once where training has one kind only. Differs from the published code, which has only `paper`: that
    shrinks the likelihood by 2f(1 - f) against the divergences, and to nothing in a batch of one kind (B9).
    """
    both = (failing_trained > 0) & (failing_trained < 1)
    if form == "none":
        return torch.ones_like(failed)
    if form == "paper":
        published = failing * (1 - failed) + (1 - failing) * failed
        return torch.where(both, published, torch.ones_like(failed))
    least = 1 / (2 * MOST_WEIGHT)
    rare = torch.minimum(failing_trained, 1 - failing_trained)
    of_rare = torch.where(rare < least, torch.full_like(rare, MOST_WEIGHT), 1 / (2 * rare.clamp(min=least)))
    of_common = (1 - rare * of_rare) / (1 - rare)
    failing_is_rare = failing_trained <= 0.5
    of_failed = torch.where(failing_is_rare, of_rare, of_common)
    of_passed = torch.where(failing_is_rare, of_common, of_rare)
    return torch.where(both, of_passed * (1 - failed) + of_failed * failed, torch.ones_like(failed))


class CradleNet(nn.Module):
    """Network and objective, equation (18). Batches are those of `LabelledBatches`.

    GPO-VAE is the same with another guide and further terms: it passes a guide whose embeddings are as wide as
    `shape.n_offset`, and adds to `terms`.
    """

    def __init__(self, shape: CradleShape, standardise: Standardise, *, guide: MaskAndEmbedding | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.guide = _guide(shape) if guide is None else guide
        self.artefact = _artefacts(shape)
        of_context = shape.n_latent if shape.n_contexts else 0
        self.encoder = BasalEncoder(
            standardise,
            n_extra=shape.offset_width + of_context + shape.n_latent,
            n_latent=shape.n_latent,
            width=shape.encoder_width,
            n_layers=shape.encoder_layers,
        )
        self.decoder = Decoder(
            2 * shape.n_latent + shape.offset_width + of_context,
            len(standardise.mean),
            width=shape.decoder_width,
            n_layers=shape.decoder_layers,
            likelihood=shape.likelihood,
        )
        self.context = FreeArtefacts(shape.n_contexts, shape.n_latent) if shape.n_contexts else None

    # -------------------------------------------------------------------------------------------------- the objective
    def terms(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """Terms of (18): reconstruction; KLs of basal state, embeddings, masks and artefacts; counterfactual."""
        noise = batch.noise(seed)
        drawn = self.draw(batch.present, noise, n_particles=self.shape.n_particles)
        own, switched = self.encode(batch, drawn)
        basal = draw_basal(own, noise, n_particles=self.shape.n_particles)
        terms = {"reconstruction": self.reconstruction(batch, drawn, basal)}
        terms["basal_kl"] = batch.mean(basal_kl(own, basal, analytic=self.shape.analytic_kl))
        terms |= self.global_terms(batch, drawn)
        if switched is not None:
            terms["counterfactual"] = self.counterfactual(batch, drawn, switched, noise)
        return terms

    def draw(self, present: Int[Tensor, " row"], noise: Noise, *, n_particles: int) -> GlobalDraws:
        """Global variables of the perturbations present, of all artefacts, and of contexts that have embeddings."""
        perturbation = self.guide.draw(present, noise, n_particles=n_particles)
        artefact = self.artefact.draw(noise, n_particles=n_particles)
        context = None if self.context is None else self.context.draw(noise, n_particles=n_particles)
        return GlobalDraws(perturbation, *artefact, context)

    def encode(self, batch: Batch, drawn: GlobalDraws) -> tuple[Gaussian, Gaussian | None]:
        """q(z | x, δ, q·a), and the same with the artefacts switched, if the source has references to compare with."""
        labels = batch.extra["artefact"]
        if self.shape.counterfactual == 0 or "switched" not in batch.extra:
            return self.encoder(batch.values, *drawn.of_cells(batch), drawn.artefacts_of(labels)), None
        both = torch.stack([labels, batch.extra["switched"]])  # expression is multiplied once for the two
        found = self.encoder(batch.values, *drawn.of_cells(batch), drawn.artefacts_of(both))
        own, switched = (Gaussian(found.mean[way], found.variance[way]) for way in (0, 1))
        return own, switched

    def reconstruction(
        self, batch: Batch, drawn: GlobalDraws, basal: Float[Tensor, "particle cell latent"]
    ) -> Float[Tensor, ""]:
        """-ln p(x | h) weighted by (15); only the decode that a cell's label selects is computed."""
        labels = batch.extra["artefact"]
        log_prob = self.decoder.log_prob(batch, basal, *drawn.of_cells(batch), drawn.artefacts_of(labels))
        weight = reconstruction_weight(
            (labels != 0).any(dim=1).to(labels.dtype),
            form=self.shape.reconstruction,
            failing=batch.extra["failing"],
            failing_trained=batch.extra["failing_trained"],
        )
        return -batch.mean(log_prob * weight)

    def global_terms(self, batch: Batch, drawn: GlobalDraws) -> dict[str, Tensor]:
        """KLs of embeddings, masks and artefacts, charged to the cells that received them."""
        shape, given = self.shape, drawn.perturbation
        embedding = given.embedding_kl(scale=shape.embedding_scale, analytic=shape.analytic_kl)
        mask = given.mask_kl(self.mask_prior(batch.present), analytic=shape.analytic_kl)
        artefact = self._vector_kl(drawn.artefact, drawn.artefact_posterior)
        terms = {
            "embedding_kl": batch.mean(charged(batch.share, embedding)),
            "mask_kl": batch.mean(charged(batch.share, mask)),
            "artefact_kl": batch.mean(charged(batch.extra["artefact_share"], artefact)),
        }
        if drawn.context is not None:
            terms["context_kl"] = batch.mean(charged(batch.extra["context_share"], self._vector_kl(*drawn.context)))
        return terms

    def _vector_kl(
        self, drawn: Float[Tensor, "particle row latent"], posterior: Gaussian
    ) -> Float[Tensor, "one_or_particle row"]:
        scale = self.shape.embedding_scale
        if self.shape.analytic_kl:
            return standard_normal_kl(posterior, scale=scale).sum(-1)[None]
        return standard_normal_log_ratio(drawn, posterior, scale=scale).sum(-1)

    def mask_prior(self, present: Int[Tensor, " row"]) -> float | Tensor:
        """Prior probability of each mask entry of the perturbations present."""
        return self.shape.mask_prior

    def counterfactual(self, batch: Batch, drawn: GlobalDraws, switched: Gaussian, noise: Noise) -> Float[Tensor, ""]:
        """β times the divergence of cells with switched artefacts from their references, equation (16).

        References are encoded once per group with the dosage and the switched labels of its cells.
        """
        shape, extra = self.shape, batch.extra
        if not len(extra["reference_first"]):
            return 0.0 * switched.mean.sum()  # every process has the same terms, also one without references
        if shape.counterfactual_draws == "separate":
            drawn = self.draw(batch.present, noise, n_particles=shape.n_particles)
        first = extra["reference_first"]
        reference = self.encoder(
            extra["reference"], *drawn.of_cells(batch, first), drawn.artefacts_of(extra["switched"][first])
        )
        each = counterfactual_divergence(
            reference,
            switched,
            extra["reference_of"],
            form=shape.counterfactual_kl,
            reference_gradient=shape.reference_gradient,
        )
        n_cells = shape.counterfactual_batch or batch.n_everywhere
        return shape.counterfactual * n_cells * batch.mean(each)

    def bound(self, batch: Batch, *, seed: int, n_particles: int = 100) -> Float[Tensor, " cell"]:
        """Importance-weighted bound on ln p(x) per cell, equation (27); every cell counts once."""
        noise = batch.noise(seed)
        drawn = self.draw(batch.present, noise, n_particles=n_particles)
        given = (*drawn.of_cells(batch), drawn.artefacts_of(batch.extra["artefact"]))
        posterior = self.encoder(batch.values, *given)
        basal = draw_basal(posterior, noise, n_particles=n_particles)
        log_prob = self.decoder.log_prob(batch, basal, *given)
        return importance_weighted_bound(log_prob - standard_normal_log_ratio(basal, posterior).sum(-1))

    # --------------------------------------------------------------------------------------------------- predictions
    def control_posterior(self, batch: Batch) -> Gaussian:
        """q(z) of control cells with their labels, at the mean of the embeddings of artefacts and contexts.

        Their only offset, if any, is that of a context that is a dosage column: one draw of it.
        """
        labels = batch.extra["artefact"]
        offset = batch.values.new_zeros(len(batch.values), self.shape.offset_width)
        if len(batch.present):
            drawn = self.guide.draw(batch.present, batch.noise(0), n_particles=1)
            offset = (batch.dosage @ drawn.offset)[0]
        given: tuple[Tensor, ...] = (offset,)
        if self.context is not None:
            given += (batch.extra["context"] @ self.context.posterior().mean,)
        found: Gaussian = self.encoder(batch.values, *given, labels @ self.artefact.posterior().mean)
        return found

    def decoder_input(
        self,
        dosage: Float[Tensor, " input"],
        basal: Float[Tensor, "particle latent"],
        noise_of: Callable[[int], Noise],
    ) -> tuple[Tensor, ...]:
        """h^good for a dosage, after which stand the contexts that have embeddings.

        The slot of artefacts, the last, is 0 and left out of the products.
        """
        offset, n_targets = basal.new_zeros(len(basal), self.shape.offset_width), self.shape.n_targets
        for target in torch.nonzero(dosage[:n_targets]).flatten():
            drawn = self.guide.draw(target[None], noise_of(int(target)), n_particles=len(basal))
            offset = offset + dosage[target] * drawn.offset[:, 0]
        if self.context is None:
            return basal, offset
        embedding, _ = self.context.draw(noise_of(n_targets), n_particles=len(basal))
        return basal, offset, (dosage[n_targets:] @ embedding)


def _guide(shape: CradleShape) -> MaskAndEmbedding:
    return CorrelatedGuide(
        shape.n_targets,
        shape.offset_width,
        width=shape.embedding_width,
        n_layers=shape.embedding_layers,
        temperature=shape.temperature,
    )


def _artefacts(shape: CradleShape) -> ArtefactEmbedding:
    if shape.artefact == "free":
        return FreeArtefacts(shape.n_artefacts, shape.n_latent)
    return NetworkOfOnes(
        shape.n_artefacts, shape.n_latent, width=shape.embedding_width, n_layers=shape.embedding_layers
    )
