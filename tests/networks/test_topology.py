"""Extended genes are those that some perturbation moves strongly, and no perturbed ones."""

import numpy as np
import pytest

from perturbcast.data.conditions import Query
from perturbcast.data.de import DifferentialExpression
from perturbcast.errors import BadOption
from perturbcast.networks.topology import extended_genes


def screened():
    fold = np.array([[5.0, -4.0, 3.5, 1.0, 6.0], [0.0, 0.0, 3.2, 3.1, 0.0]])
    p = np.array([[0.001, 0.001, 0.5, 0.001, 0.001], [1.0, 1.0, 0.001, 0.009, 1.0]])
    genes = np.array(["UP", "DOWN", "LATER", "OTHER", "TARGET"], dtype=object)
    return DifferentialExpression((Query("TARGET"), Query("X")), genes, np.sign(fold), p, p, fold)


def test_falling_genes_count_and_must_pass_the_test_as_rising_ones():
    assert extended_genes(screened(), perturbed=["TARGET", "X"]) == ["DOWN", "LATER", "OTHER", "UP"]
    assert extended_genes(screened(), perturbed=["TARGET", "X"], alpha=0.005) == ["DOWN", "LATER", "UP"]
    assert extended_genes(screened(), perturbed=["TARGET", "X"], log2_fold_change=3.9) == ["DOWN", "UP"]


def test_the_most_changed_are_kept_and_none_is_perturbed():
    assert extended_genes(screened(), perturbed=["TARGET"], max_extended=1) == ["UP"]
    assert extended_genes(screened(), perturbed=[], max_extended=1) == ["TARGET"]
    assert extended_genes(screened(), perturbed=[], max_extended=0) == []
    with pytest.raises(BadOption):
        extended_genes(screened(), perturbed=[], max_extended=-1)
