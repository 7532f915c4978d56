"""What a training step of GPO-VAE costs against a plain VAE of counts, and against the same step written naively.

    python benchmarks/gpo_step.py [--repeats 3] [--small]

All steps: forward, backward, clipping and fused Adam, one thread, 5 particles, 512 cells of which one in ten is
control and one in seven of low quality. The plain VAE has the same encoder and decoder (hidden widths, latent width,
genes) and nothing of perturbations; it is timed with the likelihood of the package and with (2) left to autograd, as
NB-VAEs are usually written. Naive (spec 4.5, 5.1, 5.2, 12, 13.3): the step of `paper` with masks and embeddings of all
P genes drawn per particle, powers of the whole matrix, inputs joined before they are multiplied (cells times
particles), both decodes for every cell, references encoded for every cell, and (2) by autograd. "Naive in two" is
naive only in the two things that the specification names first, all P embeddings and powers of the whole matrix, and
has all else from the package. Steps are timed in turns, in CPU seconds; the medians are compared. The mean losses of
`paper` and naive, which draw different random numbers, are printed to show that they are the same step.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn

from perturbcast.models.gpo_vae import GpoVae
from perturbcast.nn.batch import Batch
from perturbcast.nn.counterfactual import counterfactual_divergence, published_divergence
from perturbcast.nn.counts import CountHead, negative_binomial_log_prob
from perturbcast.nn.cradle_net import GlobalDraws
from perturbcast.nn.divergences import standard_normal_log_ratio
from perturbcast.nn.gpo_net import GpoNet
from perturbcast.nn.grn import EffectTargets, l1_alignment, sparsity
from perturbcast.nn.guides import CorrelatedGuide, MaskedEmbedding
from perturbcast.nn.latent import BasalEncoder, Decoder, basal_kl, draw_basal, standardiser
from perturbcast.nn.masks import straight_through_mask
from perturbcast.nn.noise import Noise
from perturbcast.nn.plates import charged, per_cell_share
from perturbcast.nn.trunk import Gaussian

SIZES = {  # P, perturbed, G, L
    "RPE1: P 655, G 8,749, L 200": (655, 383, 8749, 200),
    "K562: P 1,546, G 8,563, L 100": (1546, 622, 8563, 100),
}
SMALL = {"small: P 60, G 300, L 20": (60, 40, 300, 20)}
N_CELLS, N_PARTICLES = 512, 5
PLAIN, NAIVE = "plain VAE", "GPO-VAE paper, naive"


class PlainVae(nn.Module):
    """x -> z -> x with the encoder and decoder of GPO-VAE."""

    def __init__(self, n_genes: int, n_latent: int, *, width: int) -> None:
        super().__init__()
        standardise = standardiser(np.zeros(n_genes), np.ones(n_genes), "counts")
        self.encoder = BasalEncoder(standardise, n_extra=0, n_latent=n_latent, width=width, n_layers=1)
        self.decoder = Decoder(n_latent, n_genes, width=400, n_layers=2, likelihood="counts")

    def terms(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """The ELBO of a VAE."""
        posterior = self.encoder(batch.values)
        basal = draw_basal(posterior, batch.noise(seed), n_particles=N_PARTICLES)
        kl = basal_kl(posterior, basal, analytic=True)
        return {"reconstruction": -batch.mean(self.decoder.log_prob(batch, basal)), "kl": batch.mean(kl)}


class AutogradVae(PlainVae):
    """The plain VAE with equation (2) left to autograd."""

    def terms(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """The ELBO of a VAE."""
        posterior = self.encoder(batch.values)
        basal = draw_basal(posterior, batch.noise(seed), n_particles=N_PARTICLES)
        kl = basal_kl(posterior, basal, analytic=True)
        return {
            "reconstruction": -batch.mean(autograd_log_prob(self.decoder, batch, basal)),
            "kl": batch.mean(kl),
        }


def autograd_log_prob(decoder: Decoder, batch: Batch, *parts: Tensor) -> Tensor:
    """Equation (2) as it is written, per particle and cell."""
    assert isinstance(decoder.head, CountHead)
    mean = batch.library[:, None] * torch.exp(decoder.log_share(*parts))
    return negative_binomial_log_prob(batch.values, mean, torch.exp(decoder.head.log_dispersion)).sum(-1)


class NaiveGpo(GpoNet):
    """The published step, with the weights of GpoNet: nothing shared, nothing left out."""

    only_two = False

    def global_draws(self, noise: Noise) -> GlobalDraws:
        """Masks and embeddings of all genes, the guide reading [m ; one-hot]."""
        guide, width = self.guide, self.shape.offset_width
        if self.only_two:
            return self.draw(torch.arange(width), noise, n_particles=N_PARTICLES)
        assert isinstance(guide, CorrelatedGuide)
        mask = straight_through_mask(guide.logits, noise.uniform(N_PARTICLES, width, width))
        one_hot = torch.eye(width).expand(N_PARTICLES, width, width)
        posterior, drawn = guide.head(guide.trunk(torch.cat([mask, one_hot], dim=-1))), noise.normal(*mask.shape)
        masked = MaskedEmbedding(mask, posterior.draw(drawn), guide.logits, posterior, drawn)
        return GlobalDraws(masked, *self.artefact.draw(noise, n_particles=N_PARTICLES))

    def posterior_of(self, values: Tensor, offset: Tensor, artefact: Tensor) -> Gaussian:
        """q(z | x̃, δ, a), the input of every particle and cell joined."""
        standard = self.encoder.standardise(values).expand(N_PARTICLES, *values.shape)
        found: Gaussian = self.encoder.head(self.encoder.trunk(torch.cat([standard, offset, artefact], dim=-1)))
        return found

    def terms(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """Terms of (25)."""
        shape, noise, extra = self.shape, batch.noise(seed), batch.extra
        drawn = self.global_draws(noise)
        given = drawn.perturbation
        if self.only_two:
            few = self.of_the_batch(drawn, batch.present)
            own, switched = self.encode(batch, few)
            assert switched is not None
            basal = draw_basal(own, noise, n_particles=N_PARTICLES)
            reconstruction = self.reconstruction(batch, few, basal)
            counterfactual = self.counterfactual(batch, few, switched, noise)
        else:
            own, basal, reconstruction, counterfactual = self.cells(batch, drawn, noise)
        trained = torch.zeros(shape.offset_width).index_copy(0, batch.present, batch.n_trained)
        share = per_cell_share(batch.whole_dosage(shape.offset_width), trained)
        artefact = standard_normal_log_ratio(drawn.artefact, drawn.artefact_posterior).sum(-1)
        return {
            "reconstruction": reconstruction,
            "kl": batch.mean(standard_normal_log_ratio(basal, own).sum(-1)),
            "embedding_kl": batch.mean(charged(share, given.embedding_kl(scale=1.0, analytic=False))),
            "mask_kl": batch.mean(charged(share, given.mask_kl(shape.mask_prior, analytic=False))),
            "artefact_kl": batch.mean(charged(extra["artefact_share"], artefact)),
            "counterfactual": counterfactual,
            "network": self.gpo.alignment_weight * batch.mean(self.whole_powers(batch)),
            "sparsity": self.gpo.sparsity * sparsity(self.guide.logits),
        }

    def cells(self, batch: Batch, drawn: GlobalDraws, noise: Noise) -> tuple[Gaussian, Tensor, Tensor, Tensor]:
        """What is computed per cell."""
        shape, labels, dosage = self.shape, batch.extra["artefact"], batch.whole_dosage(self.shape.offset_width)
        offset = dosage @ drawn.perturbation.offset
        own = self.posterior_of(batch.values, offset, labels @ drawn.artefact)
        basal = draw_basal(own, noise, n_particles=N_PARTICLES)
        decoded = []
        for label in (torch.zeros_like(labels), torch.ones_like(labels)):
            joined = torch.cat([basal, offset, label @ drawn.artefact], dim=-1)
            decoded.append(autograd_log_prob(self.decoder, batch, joined))
        log_prob = torch.where(labels[:, 0] > 0, decoded[1], decoded[0])
        failing = batch.extra["failing"]
        weight = failing * (1 - labels[:, 0]) + (1 - failing) * labels[:, 0]
        switched = self.posterior_of(batch.values, offset, (1 - labels) @ drawn.artefact)
        again = self.global_draws(noise)
        of_cell = batch.extra["reference_of"]
        profiles = batch.extra["reference"][of_cell.clamp(min=0)]
        reference = self.posterior_of(profiles, dosage @ again.perturbation.offset, (1 - labels) @ again.artefact)
        off = (published_divergence(reference, switched)).sum(-1) * (of_cell >= 0)
        return own, basal, -batch.mean(log_prob * weight), shape.counterfactual * len(labels) * batch.mean(off)

    def of_the_batch(self, drawn: GlobalDraws, present: Tensor) -> GlobalDraws:
        """The rows of the batch among all."""
        all_of = drawn.perturbation
        few = MaskedEmbedding(
            all_of.mask[:, present],
            all_of.embedding[:, present],
            all_of.logits[present],
            Gaussian(all_of.posterior.mean[:, present], all_of.posterior.variance[:, present]),
            all_of.noise[:, present],
        )
        return GlobalDraws(few, drawn.artefact, drawn.artefact_posterior)

    def whole_powers(self, batch: Batch) -> Tensor:
        """(22) per cell, T̂_K of the whole network by powers."""
        logits = self.guide.logits
        total, power = logits, logits
        for k in range(1, self.gpo.n_hops + 1):
            power = power @ logits
            total = total + power / len(logits) ** k
        dosage = batch.whole_dosage(self.shape.offset_width)
        return l1_alignment(dosage @ total, batch.extra["change"], criterion=self.gpo.criterion)


class NaiveInTwo(NaiveGpo):
    """All P embeddings and powers of the whole matrix; all else as in the package."""

    only_two = True

    def counterfactual(self, batch: Batch, drawn: GlobalDraws, switched: Gaussian, noise: Noise) -> Tensor:
        """The reference side has draws of its own, of all genes."""
        again = self.of_the_batch(self.global_draws(noise), batch.present)
        return shared_draws(self, batch, again, switched, noise)


def shared_draws(network: GpoNet, batch: Batch, drawn: GlobalDraws, switched: Gaussian, noise: Noise) -> Tensor:
    """The counterfactual term with the draws that are given."""
    first, extra = batch.extra["reference_first"], batch.extra
    reference = network.encoder(
        extra["reference"], drawn.offset(batch.dosage[first]), drawn.artefacts_of(extra["switched"][first])
    )
    each = counterfactual_divergence(reference, switched, extra["reference_of"], form="published")
    return network.shape.counterfactual * batch.n_everywhere * batch.mean(each)


def batch_of(n_columns: int, n_perturbed: int, n_genes: int, *, seed: int) -> Batch:
    """Cells at random, with all that any of the steps reads."""
    rng = np.random.default_rng(seed)
    values = rng.poisson(rng.gamma(0.5, 1.0, n_genes), (N_CELLS, n_genes)).astype(np.float32)
    target = np.where(rng.random(N_CELLS) < 0.1, -1, rng.integers(0, n_perturbed, N_CELLS))
    present = np.unique(target[target >= 0])
    dosage = (target[:, None] == present[None, :]).astype(np.float32)
    found, inverse = np.unique(target, return_inverse=True)
    by_condition = np.zeros((len(found), n_columns), dtype=np.float32)
    by_condition[np.flatnonzero(found >= 0), found[found >= 0]] = 1.0
    failed = (rng.random(N_CELLS) < 1 / 7).astype(np.float32)[:, None]
    group, first, of_cell = np.unique(2 * target + failed[:, 0], return_index=True, return_inverse=True)
    extra = {
        "artefact": torch.tensor(failed),
        "switched": torch.tensor(1 - failed),
        "artefact_share": torch.tensor(failed / 1e4),
        "failing": torch.tensor(float(failed.mean())),
        "failing_trained": torch.tensor(1 / 7),
        "reference": torch.tensor(values[first]),
        "reference_first": torch.tensor(first),
        "reference_of": torch.tensor(of_cell.reshape(-1)),
        "aligned_rows": torch.tensor(present),
        "change": torch.tensor(np.abs(rng.normal(size=(N_CELLS, n_columns))).astype(np.float32)),
        "change_is_measured": torch.ones(n_columns, dtype=torch.bool),
        "condition_dosage": torch.tensor(by_condition),
        "condition_of": torch.tensor(inverse.reshape(-1)),
    }
    assert len(group) == len(first)
    plain = Batch(
        values=torch.tensor(values),
        library=torch.tensor(values.sum(1)),
        present=torch.tensor(present),
        dosage=torch.tensor(dosage),
        n_trained=torch.full((len(present),), 100.0),
        n_everywhere=N_CELLS,
    )
    return replace(plain, extra=extra)


def networks(n_columns: int, n_perturbed: int, n_genes: int, n_latent: int) -> dict[str, nn.Module]:
    """The steps."""
    rng = np.random.default_rng(0)
    targets = EffectTargets.of(
        rng.normal(size=(n_perturbed, n_columns)),
        np.full((n_perturbed, n_columns), 0.1),
        np.eye(n_perturbed, dtype=bool),
        place=np.arange(n_perturbed),
        is_measured=np.ones(n_columns, dtype=bool),
        least=0.5,
        direction=-1.0,
    )
    standardise = standardiser(np.zeros(n_genes), np.ones(n_genes), "counts")
    sizes: dict[str, Any] = {
        "n_perturbed": n_perturbed,
        "n_columns": n_columns,
        "standardise": standardise,
        "likelihood": "counts",
    }
    fields = {"n_latent": n_latent, "encoder_width": 200}
    published = GpoVae.make("paper", **fields).neural(**sizes)  # type: ignore[attr-defined]
    return {
        PLAIN: PlainVae(n_genes, n_latent, width=200),
        "plain VAE, (2) by autograd": AutogradVae(n_genes, n_latent, width=200),
        "GPO-VAE plus": GpoVae(**fields).neural(**sizes, targets=targets),
        "GPO-VAE paper": published,
        "GPO-VAE paper, naive in two": same_weights(NaiveInTwo(published.gpo, standardise), published),
        "GPO-VAE paper, naive": same_weights(NaiveGpo(published.gpo, standardise), published),
    }


def same_weights(network: GpoNet, other: nn.Module) -> GpoNet:
    """The network with the weights of another of its shape."""
    network.load_state_dict(other.state_dict())
    return network


def stepper(network: nn.Module, batch: Batch) -> Callable[[int], tuple[float, float]]:
    """CPU seconds of one training step, which other programs disturb less than the clock, and its loss."""
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-4, weight_decay=1e-6, fused=True)

    def step(number: int) -> tuple[float, float]:
        start = time.process_time()
        loss = sum(network.terms(batch, seed=number).values())  # type: ignore[operator]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 100.0)
        optimiser.step()
        return time.process_time() - start, float(loss.detach())

    return step


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a size that takes seconds")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for label, (n_columns, n_perturbed, n_genes, n_latent) in (SMALL if given.small else SIZES).items():
        batch = batch_of(n_columns, n_perturbed, n_genes, seed=0)
        steps = {
            name: stepper(network, batch)
            for name, network in networks(n_columns, n_perturbed, n_genes, n_latent).items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        losses: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(given.repeats + 1):
            for name, step in steps.items():
                spent, loss = step(number)
                losses[name].append(loss)
                if number:  # the first pays for memory
                    seconds[name].append(spent)
        print(f"{label}, {len(batch.present)} perturbations in the batch", flush=True)
        print(table({name: float(np.median(spent)) for name, spent in seconds.items()}, losses), flush=True)


def table(seconds: dict[str, float], losses: dict[str, list[float]]) -> str:
    """Markdown."""
    lines = ["| step | ms | x plain | x faster than naive | mean loss |", "|---|---|---|---|---|"]
    for name, spent in seconds.items():
        ratios = f"{spent / seconds[PLAIN]:.2f} | {seconds[NAIVE] / spent:.1f}"
        lines.append(f"| {name} | {1e3 * spent:.0f} | {ratios} | {np.mean(losses[name]):.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
