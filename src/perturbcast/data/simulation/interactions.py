"""Planted genetic interactions: which pairs of targets act jointly, on which genes, and how much."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from perturbcast.data.simulation.network import TrueNetwork
from perturbcast.data.simulation.settings import WorldSettings

KINDS = ("none", "buffering", "synergy", "emergent")
SHARE = (0.32, 0.46, 0.18, 0.04)  # of module pairs; Norman by spec D-12: buffering 2.3 %, synergy 0.6 %, other 1.1 %
GAIN = {"none": 0.0, "buffering": -0.52, "synergy": 0.52, "emergent": 0.4}
REACH = 0.6  # share of the genes that an interaction touches


@dataclass(frozen=True, eq=False)
class PairRule:
    """How targets of two modules interact: the kind, its gain, and the nodes it touches."""

    kind: str
    gain: float
    touched: np.ndarray  # (node,) float64: 1 or, for emergent interactions, the signed pattern of a third module


def pair_rule(first: int, second: int, network: TrueNetwork, *, settings: WorldSettings) -> PairRule:
    """The rule of two nodes: kind and reach belong to their pair of modules, the gain varies from pair to pair.

    So interactions can be partly learned from other pairs of the same modules.
    """
    low, high = sorted((int(network.module[first]), int(network.module[second])))
    kind = _kind(low, high, network.n_modules, settings)
    rng = settings.stream("interaction", low, high)
    strength = GAIN[kind] * float(rng.uniform(0.7, 1.3)) * settings.interaction
    if kind == "emergent":
        other = int(rng.integers(network.n_modules))
        touched = np.where(network.module == other, rng.normal(0.0, 1.0, len(network.module)), 0.0)
    else:
        touched = (rng.random(len(network.module)) < REACH).astype(float)
    touched[[first, second]] = 0.0  # what is done to the targets themselves stays as it is
    pair = settings.stream("pair", *sorted((first, second)))
    return PairRule(kind=kind, gain=strength * float(np.exp(0.3 * pair.standard_normal())), touched=touched)


def _kind(low: int, high: int, n_modules: int, settings: WorldSettings) -> str:
    """The kind of a pair of modules; all pairs are dealt the kinds in the shares of `SHARE`, not drawn one by one."""
    n_pairs = n_modules * (n_modules + 1) // 2
    deal = settings.stream("kinds").permutation(n_pairs)
    place = high * (high + 1) // 2 + low
    return KINDS[int(np.searchsorted(np.cumsum(SHARE)[:-1], (deal[place] + 0.5) / n_pairs))]


def interaction_drive(
    state: tuple[tuple[int, int], ...],
    change_of: Mapping[tuple[int, int], Float[np.ndarray, " node"]],
    network: TrueNetwork,
    *,
    settings: WorldSettings,
) -> Float[np.ndarray, " node"]:
    """ln change of production that the pairs of a state add, given the change that each arm makes alone.

    Synergy and buffering are proportional to the sum of the two changes (away from control, or back towards it);
    an emergent interaction is a pattern of its own on the genes of a third module.
    """
    drive = np.zeros(len(network.module))
    for first, second in combinations(state, 2):
        rule = pair_rule(first[0], second[0], network, settings=settings)
        one, two = change_of[first], change_of[second]
        if rule.kind == "emergent":
            drive += rule.gain * rule.touched
        elif rule.kind != "none":
            drive += rule.gain * rule.touched * (one + two)
    return drive
