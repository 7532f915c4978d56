"""The simulated world: a small Perturb-seq world in which everything is known (docs/SIMULATOR.md)."""

from typing import Any

from perturbcast.data.simulation.design import Design, build_design
from perturbcast.data.simulation.kinetics import build_kinetics
from perturbcast.data.simulation.network import TrueNetwork, build_network
from perturbcast.data.simulation.observation import build_observation
from perturbcast.data.simulation.settings import PERTURBATIONS, WorldSettings, settings_of
from perturbcast.data.simulation.world import World


def simulate(
    *,
    n_cells: int = 6000,
    n_genes: int = 500,
    n_targets: int = 60,
    n_doubles: int = 40,
    n_contexts: int = 1,
    perturbation: str = "interference",
    seed: int = 0,
    **details: Any,
) -> World:
    """A world with that many cells, measured genes, targets, observed doubles and cell lines; same seed, same numbers.

    `perturbation` is interference, knock-out or activation. `details` are further fields of `WorldSettings`
    (depth, escape, effect, stress, interaction, ...). Parts have random streams of their own: more cells give another
    sample of the same world. Nothing is counted until `world.screen` or `world.write(folder)` is asked for.
    Raises UnknownOption for a setting that does not exist and BadOption for a value out of range.
    """
    settings = settings_of(
        n_cells=n_cells,
        n_genes=n_genes,
        n_targets=n_targets,
        n_doubles=n_doubles,
        n_contexts=n_contexts,
        perturbation=perturbation,
        seed=seed,
        **details,
    )
    network = build_network(settings)
    observation = build_observation(build_kinetics(network, settings))
    return World(settings=settings, network=network, observation=observation, design=build_design(network, settings))


__all__ = ["PERTURBATIONS", "Design", "TrueNetwork", "World", "WorldSettings", "simulate"]
