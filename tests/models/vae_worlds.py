"""Worlds with known latent masks and effects, in which the VAE family is tested (spec 13.2)."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from perturbcast.data.conditions import CONTROL
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.genes.graphs import graph_of_edges
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.models.base import TrainingData


def screen_of(values: np.ndarray, conditions: tuple[str, ...], code: np.ndarray, *, scale: Scale) -> Screen:
    """A screen of those values, one context."""
    genes = np.array([f"G{number:03d}" for number in range(values.shape[1])], dtype=object)
    return Screen(
        name="vae world",
        matrix=InMemory(sparse.csr_matrix(values.astype(np.float32))),
        scale=scale,
        genes=genes,
        conditions=conditions,
        contexts=("",),
        condition_code=code.astype(np.int32),
        context_code=np.zeros(len(code), dtype=np.int32),
        row=np.arange(len(code), dtype=np.int64),
        library=values.sum(axis=1) if scale is Scale.COUNTS else None,
    )


SLOPE = 0.2  # of the leaky ReLU of the network that makes cells


@dataclass(frozen=True)
class MaskWorld:
    """Cells, and the mask that made them."""

    training: TrainingData
    mask: np.ndarray  # (target, latent)


def mask_world(*, n_latent=6, n_targets=60, n_genes=60, cells_each=40, per_target=1.2, seed=0) -> MaskWorld:
    """The simulator of SAMS-VAE: masks, effects of ±𝒩(5, 0.5²), a fixed random network, 20 % of variance noise."""
    rng = np.random.default_rng(seed)
    mask = rng.random((n_targets, n_latent)) < per_target / n_latent
    mask[np.flatnonzero(~mask.any(1)), rng.integers(0, n_latent, (~mask.any(1)).sum())] = True
    effect = mask * rng.normal(5.0, 0.5, mask.shape) * rng.choice([-1, 1], mask.shape)
    effect = np.vstack([np.zeros(n_latent), effect])
    names = tuple(sorted([CONTROL, *(f"T{number:02d}" for number in range(n_targets))]))
    code = np.repeat(np.arange(n_targets + 1), [cells_each * 5] + [cells_each] * n_targets)
    labels = np.array([CONTROL, *(f"T{number:02d}" for number in range(n_targets))])[code]
    hidden = rng.normal(size=(len(code), n_latent)) + effect[code]
    for width in (50, 50, n_genes):
        hidden = hidden @ np.linalg.qr(rng.normal(size=(max(width, hidden.shape[1]), hidden.shape[1])))[0][:width].T
        hidden = np.where(hidden > 0, hidden, SLOPE * hidden)
    values = hidden
    values = (values - values.mean(0)) / values.std(0)
    values = values * np.sqrt(0.8) + rng.normal(size=values.shape) * np.sqrt(0.2)
    place = np.array([names.index(label) for label in labels])
    screen = screen_of(values, names, place, scale=Scale.LOG_OTHER)
    return MaskWorld(TrainingData.of(screen), mask)


def best_f1(found: np.ndarray, truth: np.ndarray) -> float:
    """F1 of a mask after the matching of latent columns that has the most true positives."""
    overlap = found.T.astype(float) @ truth
    rows, columns = linear_sum_assignment(-overlap)
    hits = overlap[rows, columns].sum()
    return float(2 * hits / max(found.sum() + truth.sum(), 1))


@dataclass(frozen=True)
class CountWorld:
    """Counts, and the exact shares of molecules per condition."""

    training: TrainingData
    log_share: dict[str, np.ndarray]
    depth: float


def two_contexts(*, seed=0) -> TrainingData:
    """Two cell lines that differ in base and answer to the same targets with opposite sign in half of the genes."""
    rng = np.random.default_rng(seed)
    n_targets, n_genes, each = 4, 30, 80
    base = rng.normal(size=(2, n_genes))
    delta = (rng.random((n_targets, n_genes)) < 0.3) * rng.choice([-1.5, 1.5], (n_targets, n_genes))
    turned = np.stack([np.ones(n_genes), np.where(np.arange(n_genes) % 2, 1, -1)])
    names = (*(f"G{number:03d}" for number in range(n_targets)), CONTROL)
    counts, condition, context = [], [], []
    for line in range(2):
        for place in range(n_targets + 1):
            effect = delta[place] * turned[line] if place < n_targets else 0.0
            share = np.exp(base[line] + effect)
            n_cells = each * (3 if place == n_targets else 1)
            counts.append(rng.poisson(1000 * share / share.sum() * rng.standard_gamma(5.0, (n_cells, n_genes)) / 5.0))
            condition += [place] * n_cells
            context += [line] * n_cells
    values = np.vstack(counts).astype(np.float32)
    screen = screen_of(values, names, np.array(condition), scale=Scale.COUNTS)
    code = np.array(context, dtype=np.int32)
    return TrainingData.of(replace(screen, contexts=("K562", "RPE1"), context_code=code))


def count_world(
    *, n_targets=8, n_genes=40, cells_each=60, depth=2000.0, doubles=((0, 1), (2, 3)), seed=0
) -> CountWorld:
    """Negative binomial counts: shares softmax(b + δ + C z), δ sparse per target and summed in doubles, θ = 2."""
    rng = np.random.default_rng(seed)
    base, loading = rng.normal(size=n_genes), rng.normal(size=(2, n_genes)) * 0.2
    delta = (rng.random((n_targets, n_genes)) < 0.15) * rng.choice([-1.5, 1.5], (n_targets, n_genes))
    targets = [f"G{number:03d}" for number in range(n_targets)]
    made = {CONTROL: np.zeros(n_genes)} | dict(zip(targets, delta, strict=True))
    made |= {f"{targets[a]}+{targets[b]}": delta[a] + delta[b] for a, b in doubles}
    names = tuple(sorted(made))
    counts, code, shares = [], [], {}
    for place, name in enumerate(names):
        n_cells = cells_each * (5 if name == CONTROL else 1)
        logits = base + made[name] + rng.normal(size=(n_cells, 2)) @ loading
        share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        library = depth * rng.lognormal(0, 0.3, n_cells)
        rate = library[:, None] * share * rng.standard_gamma(2.0, share.shape) / 2.0
        counts.append(rng.poisson(rate))
        code += [place] * n_cells
        shares[name] = np.log(share.mean(0))
    values = np.vstack(counts).astype(np.float32)
    screen = screen_of(values, names, np.array(code), scale=Scale.COUNTS)
    return CountWorld(TrainingData.of(screen), shares, depth)


def named_graph(edges):
    """Knowledge with one graph, named `regulators`."""
    sources, targets = zip(*edges, strict=True)
    likely = np.full(len(sources), 0.9)
    graph = graph_of_edges("regulators", sources, targets, weights=likely, directed=True)
    return GeneKnowledge(graphs={"regulators": graph})
