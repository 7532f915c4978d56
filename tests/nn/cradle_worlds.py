"""A small screen with failing cells, its batches, and a small network."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.nn.cells import CellBatches
from perturbcast.nn.counterfactual import LabelledBatches, References
from perturbcast.nn.cradle_net import CradleNet, CradleShape
from perturbcast.nn.latent import standardiser

N_GENES = 12


def small_screen(*, n_cells, seed=0):
    """Cells of A, B, C, ctrl in random order, and which of them fail; none of C does."""
    rng = np.random.default_rng(seed)
    conditions = ("A", "B", "C", "ctrl")
    code = rng.integers(0, 4, n_cells).astype(np.int32)
    failed = (rng.uniform(size=n_cells) < 0.4) & (code != 2)
    counts = rng.poisson(np.where(failed, 0.7, 2.5)[:, None] * rng.uniform(0.3, 2.0, N_GENES))
    screen = Screen(
        name="small",
        matrix=InMemory(sparse.csr_matrix(counts.astype(np.float32))),
        scale=Scale.COUNTS,
        genes=np.array([f"G{number:02d}" for number in rng.permutation(N_GENES)], dtype=object),
        conditions=conditions,
        contexts=("",),
        condition_code=code,
        context_code=np.zeros(n_cells, dtype=np.int32),
        row=np.arange(n_cells, dtype=np.int64),
    )
    return screen, failed


@dataclass(frozen=True)
class Labelled(LabelledBatches):
    """Batches that also say which column of the dosage a target has."""

    def screen_column(self, target):
        return self.cells.columns.index(target)


def labelled(*, n_cells):
    """Batches of the small screen with references, and which cells fail."""
    screen, failed = small_screen(n_cells=n_cells)
    cells = np.arange(n_cells)
    artefact = failed[:, None].astype(np.float32)
    plain = CellBatches.of(screen, columns=("A", "B", "C"), train_cells=cells)
    return Labelled(plain, artefact, cells, References.of(screen, artefact, train_cells=cells)), failed


def small_net(source, **choices):
    """A network for it, the same weights each time."""
    sizes = {"n_latent": 3, "encoder_width": 6, "encoder_layers": 1, "decoder_width": 5, "decoder_layers": 2}
    sizes |= {"embedding_width": 4, "embedding_layers": 2, "n_targets": 3, "likelihood": "counts", "n_particles": 2}
    mean, sd = source.cells.moments(np.arange(source.n_cells), logarithm=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CradleNet(CradleShape(**(sizes | choices)), standardiser(mean, sd, "counts"))
