"""Intervals of the VAE family on held-out data: cells that were not trained on, exact responses, unseen targets.

`pytest tests/models/test_vae_coverage.py -m slow -s` prints the shares.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from perturbcast.data.conditions import Query, is_single, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.simulate import simulate
from perturbcast.genes.simulated import knowledge_of
from perturbcast.models.base import FittedModel, Model, TrainingData
from perturbcast.models.gpo_vae import GpoVae
from perturbcast.models.sams_vae import SamsVae

Z = 1.6448536269514722  # of nominal 90 % intervals
SMALL = {"n_latent": 8, "encoder_width": 32, "decoder_width": 32, "n_particles": 2, "n_averaged": 256}
SMALL |= {"max_epochs": 40, "batch_size": 128, "lr": 5e-3}
GUIDE = {"embedding_width": 8, "embedding_layers": 2}


@dataclass(frozen=True)
class HeldOut:
    """One half of the cells of most targets to train on; what is not trained on to compare with."""

    training: TrainingData
    other: ResponseTable  # of the other half of the cells of every query
    exact: ResponseTable
    unseen: tuple[Query, ...]  # single perturbations of targets that were held out
    pairs: tuple[Query, ...]  # of targets that were seen singly


def held_out(*, n_cells: int, n_targets: int, seed: int) -> HeldOut:
    """A simulated world, some targets and all combinations held out."""
    world = simulate(n_cells=n_cells, n_genes=80, n_targets=n_targets, n_doubles=8, seed=seed)
    rng, screen = np.random.default_rng(seed), world.screen
    first = np.zeros(screen.n_cells, dtype=bool)
    for code in np.unique(screen.query_code):
        own = rng.permutation(np.flatnonzero(screen.query_code == code))
        first[own[: len(own) // 2]] = True
    targets = sorted({target for query in screen.queries() for target in targets_of(query.condition)})
    out = set(rng.choice(targets, len(targets) // 5, replace=False))
    whole = TrainingData.of(screen.take(first), knowledge=knowledge_of(world))
    queries = whole.responses.queries
    known = {query.condition for query in queries if is_single(query.condition)} - out
    seen = [query for query in queries if query.condition in known]
    return HeldOut(
        training=replace(whole, responses=whole.responses.take(whole.responses.index(seen))),
        other=TrainingData.of(screen.take(~first)).responses,
        exact=world.responses,
        unseen=tuple(query for query in queries if query.condition in out),
        pairs=tuple(query for query in queries if "+" in query.condition and set(targets_of(query.condition)) <= known),
    )


def inside(fitted: FittedModel, queries: tuple[Query, ...], table: ResponseTable) -> np.ndarray:
    """(query, gene) whether the response of a table is in the interval of the prediction."""
    found = fitted.predict(queries)
    answered = found.predicted
    own = table.take(table.index([query for query, known in zip(queries, answered, strict=True) if known]))
    assert answered.mean() > 0.7
    assert (found.sd[answered] > 0).all()
    return np.abs(own.response - found.response[answered]) <= Z * found.sd[answered]


def shares(model: Model, worlds: list[HeldOut]) -> dict[str, float]:
    """Mean share of genes inside, by what is asked and compared with; and mean sd of unseen targets over seen ones."""
    found: dict[str, list[float]] = {}
    for world in worlds:
        fitted = model.fit(world.training, seed=0)
        asked = {"seen": fitted.trained_on, "pairs": world.pairs}
        if isinstance(model, GpoVae):
            asked["unseen"] = world.unseen
            seen, unseen = (fitted.predict(asked[kind]) for kind in ("seen", "unseen"))
            found.setdefault("sd unseen / seen", []).append(float(np.nanmean(unseen.sd) / seen.sd.mean()))
        for kind, queries in asked.items():
            for name, table in {"other cells": world.other, "exact": world.exact}.items():
                found.setdefault(f"{kind}, {name}", []).append(float(inside(fitted, queries, table).mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.slow  # two fits each
@pytest.mark.parametrize(("n_cells", "n_targets"), [(4000, 25), (1600, 30)], ids=["many cells", "few cells"])
@pytest.mark.parametrize("model", [GpoVae(**SMALL), SamsVae(**SMALL, **GUIDE)], ids=["gpo-vae", "sams-vae"])
def test_intervals_hold_what_they_promise_on_held_out_data(model, n_cells, n_targets):
    found = shares(model, [held_out(n_cells=n_cells, n_targets=n_targets, seed=seed) for seed in range(2)])
    print(model.card.name, n_cells, {name: round(value, 3) for name, value in found.items()})
    for name, value in found.items():
        if "other cells" in name:
            assert 0.85 < value < 0.97, name
        elif "exact" in name:
            assert value > 0.85, name  # wider than needed: exact responses have no noise of cells
    if isinstance(model, GpoVae):
        assert found["sd unseen / seen"] > 1.05
