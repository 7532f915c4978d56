"""A small world, measured once for the tests of this folder."""

import pytest

from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.simulate import simulate
from perturbcast.data.statistics import response_table


@pytest.fixture(scope="session")
def screen() -> Screen:
    """300 cells with singles and doubles."""
    return simulate(n_cells=300, n_genes=60, n_targets=12, n_doubles=8, seed=0).screen


@pytest.fixture(scope="session")
def responses(screen: Screen) -> ResponseTable:
    """Its responses alone, as a file of responses has them."""
    from dataclasses import replace

    nothing = dict.fromkeys(("n_cells", "variance", "n_control", "control_variance", "response_halves"))
    return replace(response_table(screen), name="world", **nothing)
