"""scGen: shifts of latent cells, exact where the latent space is linear, and what unseen targets get."""

import numpy as np
import pytest

from perturbcast.data.conditions import Query, targets_of
from perturbcast.errors import NeedsCells
from perturbcast.models.check_world import check_world
from perturbcast.models.pair_family import pairs_source
from perturbcast.models.scgen import Scgen, condition_shifts, principal_cells
from perturbcast.models.target_inputs import TargetInputs


@pytest.fixture(scope="module")
def world():
    return check_world()


@pytest.fixture(scope="module")
def linear(world):
    """Principal axes, as many as there are genes: nothing is lost."""
    return Scgen(space="pca", folds=0).fit(world.with_cells, seed=0)


def source_of(world):
    own = world.training.responses.targets
    names = TargetInputs(own, len(own), np.zeros((len(own), 0), dtype=np.float16))
    return pairs_source(world.with_cells, names, seed=0, label="scgen")[0]


def test_shift_of_a_training_condition_decodes_to_the_mean_of_its_cells(world, linear):
    screen = world.with_cells.screen
    for query in world.training.responses.queries[:3]:
        own = screen.expression(screen.cells_of(query)).mean(axis=0)
        control = screen.expression(np.flatnonzero(screen.is_control)).mean(axis=0)
        found = linear.predict([query])
        np.testing.assert_allclose(found.response[0], np.asarray(own - control).ravel(), atol=1e-4)
        assert found.support == ("seen",)


def test_unseen_double_has_the_sum_of_the_shifts_of_its_targets(world, linear):
    singles = [q.condition for q in linear.trained_on if len(targets_of(q.condition)) == 1]
    pair = next(
        Query("+".join(sorted((a, b))))
        for a in singles
        for b in singles
        if a < b and Query("+".join(sorted((a, b)))) not in linear.seen
    )
    parts = linear.predict([Query(target) for target in targets_of(pair.condition)]).response.sum(axis=0)
    found = linear.predict([pair])
    np.testing.assert_allclose(found.response[0], parts, atol=1e-5)
    assert found.support == ("singles",)


def test_principal_cells_are_centred_and_keep_distances(world):
    source = source_of(world)
    _, latent = principal_cells(source, n_latent=len(source.order))
    values = source.expression(np.arange(source.n_cells))
    np.testing.assert_allclose(latent.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(latent[0] - latent[7]), np.linalg.norm(values[0] - values[7]), rtol=1e-4)


def test_contexts_count_alike_however_many_cells_they_have():
    world = check_world(contexts=("K562", "RPE1"), seed=1)
    source = source_of(world)
    values = source.expression(np.arange(source.n_cells))
    condition = world.training.responses.conditions[0]
    (shift,) = condition_shifts(source, values, [condition])
    own = source.screen.condition_code == source.screen.conditions.index(condition)
    each = [
        values[own & (source.context == place)].mean(0)
        - values[source.screen.is_control & (source.context == place)].mean(0)
        for place in range(2)
    ]
    np.testing.assert_allclose(shift, np.mean(each, axis=0), atol=1e-5)


@pytest.mark.parametrize("below", ["nearest", "embedding-ridge"])
def test_unseen_targets_get_the_shifts_of_like_targets(world, below):
    fitted = Scgen(space="pca", below=below, folds=0).fit(world.with_cells, seed=0)
    unseen = [q for q in world.test.queries if len(targets_of(q.condition)) == 1]
    truth = world.test.response[[world.test.queries.index(q) for q in unseen]]
    found = fitted.predict(unseen)
    error = np.linalg.norm(found.response - truth, axis=1).mean()
    flat = np.linalg.norm(world.training.responses.perturbed_mean() - truth, axis=1).mean()
    assert error < flat


def test_autoencoder_learns_the_cells(world):
    model = Scgen(width=32, n_latent=12, max_epochs=40, batch_size=64, lr=3e-3, dropout=0.0, folds=0)
    fitted = model.fit(world.with_cells, seed=0)
    truth = world.training.responses
    found = fitted.predict(truth.queries).response
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, truth.response, strict=True)]) > 0.5


def test_without_cells_it_says_so(world):
    with pytest.raises(NeedsCells):
        Scgen().fit(world.training, seed=0)
