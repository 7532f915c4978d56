"""A small network with everything that a file can lose."""

import numpy as np

from perturbcast.networks.network import Network


def network() -> Network:
    probability = np.full((5, 5), 0.25)
    probability[0, 1] = np.nan
    return Network.of_matrix(
        ["STAT1", "IRF1", "JAK2", "NA", "LONELY"],
        np.array(
            [[0, 1 / 3, 2, 0, 0], [0, 0, 0.7, 0, 0], [1e-9, 0, 0, 0.7, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
            dtype=float,
        ),
        sign=np.array([[0, 1, -1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, -1, 0], [0] * 5, [0] * 5]),
        columns={"probability": probability},
        is_perturbed=np.array([True, True, True, False, False]),
        is_measured=np.array([True, True, False, True, True]),
        is_extended=np.array([False, False, False, True, False]),
        method="mean-difference",
        source="a <test> & more",
    )
