"""Responses of another screen as embedding tables."""

import numpy as np
import pytest

from perturbcast.data.simulate import simulate
from perturbcast.errors import NotEnoughTraining
from perturbcast.genes.load import load_knowledge
from perturbcast.genes.policies import write_table
from perturbcast.models.base import TrainingData
from perturbcast.models.kernel_ridge import KernelRidge
from perturbcast.models.transfer import tables_from_responses


@pytest.fixture(scope="module")
def worlds():
    made = [simulate(n_cells=300, n_genes=80, n_targets=40, n_doubles=5, seed=0, perturbation=how)
            for how in ("interference", "activation")]  # fmt: skip
    return [world.responses for world in made]


def test_products_of_the_tables_are_those_of_the_responses(worlds):
    made = tables_from_responses(worlds[0], width=1000)
    shape = made.perturbed.matrix.shape[1]
    assert made.measured.matrix.shape == (worlds[0].n_genes, shape)
    assert list(made.perturbed.genes) == sorted(set(worlds[0].targets))
    gram = made.perturbed.matrix @ made.perturbed.matrix.T
    assert np.linalg.matrix_rank(gram, tol=1e-6) <= shape
    assert tables_from_responses(worlds[0], width=3).perturbed.matrix.shape[1] == 3


def test_another_screen_of_the_same_targets_helps_on_unseen_ones(worlds, tmp_path):
    """The tables go through files, as a user gives them."""
    other, own = worlds
    made = tables_from_responses(other)
    files = []
    for table in (made.perturbed, made.measured):
        files.append(tmp_path / f"{table.name}.npz")
        write_table(table, files[-1])
    knowledge = load_knowledge(files, genes=own.genes, targets=own.targets)
    held_out = np.arange(own.n_queries) % 3 == 0
    error = []
    for training in (TrainingData(own.take(~held_out), knowledge=knowledge), TrainingData(own.take(~held_out))):
        found = KernelRidge().fit(training).predict(own.take(held_out).queries).response
        error.append(np.linalg.norm(found - own.take(held_out).response, axis=1).mean())
    assert error[0] < 0.97 * error[1]


def test_a_screen_without_singles_is_refused(worlds):
    doubles = worlds[0].take(np.array(["+" in query.condition for query in worlds[0].queries]))
    with pytest.raises(NotEnoughTraining):
        tables_from_responses(doubles)
