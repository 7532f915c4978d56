"""How stable edges are: the same method on resampled cells, or with other seeds."""

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Int

from perturbcast._progress import Progress
from perturbcast.data.screen import Screen
from perturbcast.errors import BadOption
from perturbcast.networks.methods import NetworkMethod, get_method
from perturbcast.networks.network import Network


def stability(
    screen: Screen,
    *,
    method: str | NetworkMethod,
    n: int = 20,
    top: int = 1000,
    over: Literal["cells", "seeds"] = "cells",
    seed: int = 0,
    progress: Progress | None = None,
) -> Network:
    """The network of all cells, with each edge's stability and interval over `n` repeats.

    `over="cells"`: bootstrap of the cells within every condition and context; "seeds": the same cells, other seeds.
    `stability` is the share of repeats in which the edge is among the `top` strongest (Meinshausen and Buehlmann 2010,
    with the bootstrap for their half samples); `ci_low`, `ci_high` the 2.5 and 97.5 % quantiles of its weight, 0 where
    it is no edge. BadOption for n < 2 or top < 1.
    """
    if n < 2 or top < 1:
        raise BadOption(f"n={n} repeats and top={top} edges: at least 2 and 1 are needed.")
    chosen = get_method(method) if isinstance(method, str) else method
    full = chosen.infer(screen, seed=seed)
    weights, often = np.zeros((n, full.n_edges), dtype=np.float32), np.zeros(full.n_edges)
    for repeat in (progress or Progress()).track(range(n), label="stability", total=n):
        drawn = screen.take(bootstrap_cells(screen, seed=[seed, repeat])) if over == "cells" else screen
        found = chosen.infer(drawn, seed=seed if over == "cells" else seed + 1 + repeat)
        at, there = _matched(full, found)
        weights[repeat, there] = found.weight[at[there]]
        often[there] += at[there] < top  # edges come strongest first
    low, high = np.quantile(weights, [0.025, 0.975], axis=0)
    columns = dict(full.columns) | {"stability": often / n, "ci_low": low, "ci_high": high}
    return replace(full, columns={name: np.asarray(values, dtype=np.float64) for name, values in columns.items()})


def bootstrap_cells(screen: Screen, *, seed: int | list[int]) -> Int[np.ndarray, " cell"]:
    """As many cells as there are, drawn with replacement within each condition and context."""
    rng = np.random.default_rng(seed)
    order = np.argsort(screen.query_code, kind="stable")
    _, first, size = np.unique(screen.query_code[order], return_index=True, return_counts=True)
    start, count = np.repeat(first, size), np.repeat(size, size)
    return np.sort(order[start + rng.integers(0, count)])


def _matched(full: Network, found: Network) -> tuple[np.ndarray, np.ndarray]:
    """For each edge of `full`, its rank in `found`, and whether it is there; both have the same genes."""

    def key(network: Network) -> np.ndarray:
        return np.asarray(network.source_code * network.n_genes + network.target_code)

    keys = key(found)
    order = np.argsort(keys, kind="stable")
    place = np.searchsorted(keys[order], key(full))
    place = np.minimum(place, max(len(keys) - 1, 0))
    if not len(keys):
        return np.zeros(full.n_edges, dtype=np.int64), np.zeros(full.n_edges, dtype=bool)
    at = order[place]
    return at, keys[at] == key(full)
