"""Effects of many targets under GPO-VAE at the size of a genome-scale screen: time, progress and peak memory.

    python benchmarks/gpo_memory.py [--targets 600] [--particles 2500]

Random weights, P 655, G 8,749, L 200 (RPE1); queries in blocks with a bar, as `perturbcast predict` asks them. A new
process loads nothing else; the peak is that of its resident set, and what Python, torch and the weights take is told
beside it.
"""

import argparse
import os
import resource
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from perturbcast._progress import BarProgress
from perturbcast.data.conditions import Query
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.models.base import encode_text
from perturbcast.models.gpo_vae import FittedGpo, GpoVae
from perturbcast.models.latent_family import NET
from perturbcast.nn.latent import standardiser

N_COLUMNS, N_GENES, N_LATENT = 655, 8749, 200
BLOCK = 16  # queries


def peak() -> float:
    """Largest resident set of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def fitted(n_targets: int, n_particles: int) -> FittedGpo:
    """A model with random weights."""
    model = GpoVae(n_latent=N_LATENT, encoder_width=200, n_averaged=n_particles, anchored=False, unseen="refuse")
    genes = [f"G{number:05d}" for number in range(N_GENES)]
    columns = genes[:N_COLUMNS]
    network = model.neural(
        n_perturbed=n_targets,
        n_columns=N_COLUMNS,
        standardise=standardiser(np.zeros(N_GENES), np.ones(N_GENES), "counts"),
        likelihood="counts",
    )
    torch.nn.init.normal_(network.guide.location)
    state = {NET + name: tensor.numpy() for name, tensor in network.state_dict().items()}
    state |= {"columns": encode_text(columns), "likelihood": encode_text(["counts"]), "notes": encode_text([])}
    state |= {"n_perturbed": np.array([n_targets]), "n_artefacts": np.array([1])}
    rng = np.random.default_rng(0)
    state["basal.mean"] = rng.normal(size=(512, N_LATENT)).astype(np.float32)
    state["basal.variance"] = np.full((512, N_LATENT), 0.1, dtype=np.float32)
    state["depths"] = np.linspace(5e3, 2e4, 16).astype(np.float32)
    table = ResponseTable(
        name="random",
        scale=Scale.LOG1P_CP10K,
        genes=np.array(genes, dtype=object),
        queries=tuple(Query(name, "") for name in columns[:n_targets]),
        response=np.zeros((n_targets, N_GENES), dtype=np.float32),
        contexts=("",),
        control=np.zeros((1, N_GENES)),
    )
    return FittedGpo(model, table, state)


def main() -> None:
    """Prints a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=600)
    parser.add_argument("--particles", type=int, default=2500)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = fitted(given.targets, given.particles)
    assert model.network is not None
    before, start = peak(), time.perf_counter()
    blocks = [model.trained_on[first : first + BLOCK] for first in range(0, given.targets, BLOCK)]
    for block in BarProgress().track(blocks, label="predicting"):
        assert np.isfinite(model.predict(block, dtype=np.float32).response).all()
    seconds = time.perf_counter() - start
    print(
        f"{given.targets} targets, {given.particles} particles, {N_GENES} genes: {seconds:.0f} s, "
        f"peak {peak():.2f} GB, of which {before:.2f} GB before predicting"
    )


if __name__ == "__main__":
    main()
