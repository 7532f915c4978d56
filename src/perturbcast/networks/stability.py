"""How stable edges are: the same method on resampled cells, or with other seeds; what several networks agree on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Int

from perturbcast._progress import Progress
from perturbcast.data.screen import Screen
from perturbcast.errors import BadOption
from perturbcast.networks.methods import NetworkMethod, get_method
from perturbcast.networks.network import FLAGS, Network


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


def consensus(networks: Sequence[Network], *, top: int = 300) -> Network:
    """What networks of the same method from several trainings say together.

    The weight of an edge is its mean over the networks in which its source has any edge, as folds of targets each hold
    some sources back; `stability` is the share of those in which it is among the `top` strongest, `probability` the
    mean where there is one, the sign that of the mean signed weight. Flags are those of any.
    BadOption without a network.
    """
    if not networks:
        raise BadOption("no network was given.", "Give one or more.")
    tables = [network.edges().assign(fit=number) for number, network in enumerate(networks)]
    every = pd.concat(tables, ignore_index=True)
    every["among"] = (every.groupby("fit").cumcount() < top).astype(float)  # edges come strongest first
    every["signed"] = every["weight"] * every["sign"]
    n_fits = every.groupby("source")["fit"].nunique()
    merged = every.groupby(["source", "target"], sort=True)
    table = merged[["weight", "among", "signed"]].sum()
    table = table.div(n_fits.reindex(table.index.get_level_values("source")).to_numpy(), axis=0)
    genes = list(dict.fromkeys(str(gene) for network in networks for gene in network.genes))
    place = {gene: number for number, gene in enumerate(genes)}
    columns = {"stability": table["among"].to_numpy()}
    if every["probability"].notna().any():
        columns["probability"] = merged["probability"].mean().to_numpy()
    ends = [np.array([place[str(name)] for name in table.index.get_level_values(way)]) for way in ("source", "target")]
    return Network.of_edges(
        genes,
        ends[0],
        ends[1],
        table["weight"].to_numpy(),
        sign=np.sign(table["signed"].to_numpy()),
        columns=columns,
        **{flag: _flag_of_any(networks, flag, place) for flag in FLAGS},
        method=networks[0].method,
        source=networks[0].source,
    )


def _flag_of_any(networks: Sequence[Network], flag: str, place: dict[str, int]) -> np.ndarray:
    """(gene,) whether the gene has the flag in any network; `is_extended` in all, since folds hold targets back."""
    found = np.zeros(len(place), dtype=np.int64)
    known = np.zeros(len(place), dtype=np.int64)
    for network in networks:
        at = np.array([place[str(gene)] for gene in network.genes], dtype=np.int64)
        known[at] += 1
        found[at] += getattr(network, flag)
    return found == known if flag == "is_extended" else found > 0


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
