"""What a training step of GPO-VAE costs against a plain VAE of counts, and against the same step written naively.

    python benchmarks/gpo_step.py [--repeats 3] [--small]

All steps: forward, backward, clipping and fused Adam, one thread, 5 particles, 512 cells of which one in ten is
control and one in seven of low quality. The plain VAE has the same encoder and decoder (hidden widths, latent width,
genes) and nothing of perturbations. Naive: all P embeddings drawn per particle, powers of the whole matrix, both
decodes for every cell, the likelihood as (2) is written by autograd, and a reference encoded for every cell. Steps are
timed in turns, in CPU seconds; the medians are compared.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn

from perturbcast.models.gpo_vae import GpoVae
from perturbcast.nn.batch import Batch
from perturbcast.nn.counts import negative_binomial_log_prob
from perturbcast.nn.divergences import standard_normal_log_ratio
from perturbcast.nn.gpo_net import GpoNet
from perturbcast.nn.grn import EffectTargets, l1_alignment, sparsity
from perturbcast.nn.latent import BasalEncoder, Decoder, basal_kl, draw_basal, standardiser

SIZES = {  # P, perturbed, G, L
    "RPE1: P 655, G 8,749, L 200": (655, 383, 8749, 200),
    "K562: P 1,546, G 8,563, L 100": (1546, 622, 8563, 100),
}
SMALL = {"small: P 60, G 300, L 20": (60, 40, 300, 20)}
N_CELLS, N_PARTICLES = 512, 5


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


class NaiveGpo(GpoNet):
    """The published step: nothing shared, nothing left out."""

    def naive_log_prob(self, batch: Batch, *parts: Tensor) -> Tensor:
        """Equation (2) as it is written, by autograd."""
        mean = batch.library[:, None] * torch.exp(self.decoder.log_share(*parts))
        dispersion = torch.exp(self.decoder.head.log_dispersion)  # type: ignore[union-attr, arg-type]
        return negative_binomial_log_prob(batch.values, mean, dispersion).sum(-1)

    def terms(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """Terms of (25)."""
        shape, extra, noise = self.shape, batch.extra, batch.noise(seed)
        everything = torch.arange(shape.offset_width)
        drawn = self.draw(everything, noise, n_particles=N_PARTICLES)
        again = self.draw(everything, noise, n_particles=N_PARTICLES)
        dosage, labels = batch.whole_dosage(shape.offset_width), extra["artefact"]
        posterior = self.encoder(batch.values, drawn.offset(dosage), drawn.artefacts_of(labels))
        basal = draw_basal(posterior, noise, n_particles=N_PARTICLES)
        decoded = [
            self.naive_log_prob(batch, basal, drawn.offset(dosage), drawn.artefacts_of(label))
            for label in (torch.zeros_like(labels), torch.ones_like(labels))
        ]
        log_prob = torch.where(labels[:, 0] > 0, decoded[1], decoded[0])
        switched = self.encoder(batch.values, again.offset(dosage), again.artefacts_of(1 - labels))
        profiles = extra["reference"][extra["reference_of"].clamp(min=0)]
        reference = self.encoder(profiles, again.offset(dosage), again.artefacts_of(1 - labels))
        off = (reference.mean - switched.mean).square() + reference.variance / switched.variance
        logits = self.guide.logits
        hops = sum(torch.linalg.matrix_power(logits, k) / len(logits) ** (k - 1) for k in range(1, self.gpo.n_hops + 2))
        assert isinstance(hops, Tensor)
        given = drawn.perturbation
        everyone = given.embedding_kl(scale=1.0, analytic=False) + given.mask_kl(shape.mask_prior, analytic=False)
        return {
            "reconstruction": -batch.mean(log_prob),
            "kl": batch.mean(standard_normal_log_ratio(basal, posterior).sum(-1)),
            "globals": everyone.mean() / 1e4,
            "counterfactual": shape.counterfactual * batch.mean(off.sum(-1)),
            "network": 100 * l1_alignment(dosage @ hops, extra["change"], criterion=0.5).mean(),
            "sparsity": sparsity(logits),
        }


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
    """The four steps."""
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
    sizes = {
        "n_perturbed": n_perturbed,
        "n_columns": n_columns,
        "standardise": standardiser(np.zeros(n_genes), np.ones(n_genes), "counts"),
        "likelihood": "counts",
    }
    fields = {"n_latent": n_latent, "encoder_width": 200}
    published = GpoVae.make("paper", **fields).neural(**sizes)  # type: ignore[attr-defined]
    return {
        "plain VAE": PlainVae(n_genes, n_latent, width=200),
        "GPO-VAE plus": GpoVae(**fields).neural(**sizes, targets=targets),
        "GPO-VAE paper": published,
        "GPO-VAE paper, naive": NaiveGpo(published.gpo, sizes["standardise"]),  # type: ignore[arg-type]
    }


def stepper(network: nn.Module, batch: Batch) -> Callable[[int], float]:
    """CPU seconds of one training step, which other programs disturb less than the clock."""
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-4, weight_decay=1e-6, fused=True)

    def step(number: int) -> float:
        start = time.process_time()
        loss = sum(network.terms(batch, seed=number).values())  # type: ignore[operator]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 100.0)
        optimiser.step()
        return time.process_time() - start

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
        for number in range(given.repeats + 1):
            for name, step in steps.items():
                spent = step(number)
                if number:  # the first pays for memory
                    seconds[name].append(spent)
        plain = float(np.median(seconds["plain VAE"]))
        print(f"{label}, {len(batch.present)} perturbations in the batch", flush=True)
        for name, spent in seconds.items():
            print(
                f"  {name:24s} {1e3 * np.median(spent):8.0f} ms   {np.median(spent) / plain:5.2f} x plain", flush=True
            )


if __name__ == "__main__":
    main()
