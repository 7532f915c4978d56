"""Targets that GPO-VAE never saw: the function of features behind rows of the network, and its answers."""

import numpy as np
import pytest
import torch

from perturbcast.data.conditions import Query, is_single
from perturbcast.errors import BadOption
from perturbcast.models.artefact import load
from perturbcast.models.check_world import check_world
from perturbcast.models.condition_kernels import Conditions
from perturbcast.models.fixed_effects import FixedEffects
from perturbcast.models.gpo_unseen import LearnedNetwork, Likeness, coupling, row_weights
from perturbcast.models.gpo_unseen_errors import left_out
from perturbcast.models.gpo_vae import GpoVae
from perturbcast.models.kernel_ridge import KernelRidge
from perturbcast.nn.grn import signed_hops

SMALL = {"n_latent": 4, "encoder_width": 16, "decoder_width": 16, "n_particles": 2, "n_averaged": 20, "max_epochs": 2}
SMALL |= {"batch_size": 128, "align_steps": 100, "max_extended": 20}


@pytest.fixture(scope="module")
def world():
    """A simulated screen with knowledge, some targets held out."""
    return check_world()


@pytest.fixture(scope="module")
def held_out(world):
    """Responses of targets that are not in training."""
    singles = [row for row, query in enumerate(world.test.queries) if is_single(query.condition)]
    return world.test.take(np.array(singles))


def fitted(world, **changes):
    """A small model of the world."""
    return GpoVae(**(SMALL | changes)).fit(world.with_cells)


# ------------------------------------------------------------------------------------------------------ the function
class OfFeatures(Likeness):
    """Likeness that is the product of rows of features."""

    def __init__(self, rows):
        object.__setattr__(self, "learned", rows)

    def between(self, left, right):
        rows = {name: np.array(row) for name, row in self.learned.items()}
        return np.array([[rows[a] @ rows[b] for b in right] for a in left])


@pytest.fixture
def likeness():
    """Five genes with features of unit length."""
    rows = np.random.default_rng(0).normal(size=(5, 3))
    return OfFeatures(dict(zip("abcde", rows / np.linalg.norm(rows, axis=1, keepdims=True), strict=True)))


def test_coupled_rows_cost_what_the_best_function_and_deviation_cost(likeness):
    strength, share = np.random.default_rng(1).normal(size=4), 0.3
    features = np.array([likeness.learned[name] for name in "abcd"])
    # min over w of |w|²/κ + |E - F w|²/(1 - κ)
    inverse = np.linalg.inv(np.eye(3) / share + features.T @ features / (1 - share))
    weights = inverse @ features.T @ strength / (1 - share)
    rest = strength - features @ weights
    cheapest = weights @ weights / share + rest @ rest / (1 - share)
    coupled = coupling(likeness, list("abcd"), share=share)
    assert strength @ coupled @ strength == pytest.approx(cheapest)
    unseen = row_weights(likeness, ["e"], list("abcd"), coupled, share=share) @ strength
    assert unseen[0] == pytest.approx(np.array(likeness.learned["e"]) @ weights)


def test_rows_that_nothing_explains_are_free(likeness):
    np.testing.assert_allclose(coupling(likeness, list("abcd"), share=0.0), np.eye(4))


def test_likeness_is_one_with_oneself_and_nothing_for_the_unheard_of(world):
    targets = sorted({query.condition for query in world.training.responses.queries if is_single(query.condition)})[:4]
    learned = Likeness(KernelRidge().fit(world.training))
    found = learned.between(targets, [*targets, "NEVER_HEARD_OF"])
    np.testing.assert_allclose(np.diag(found[:, :4]), 1.0)
    assert (np.abs(found) <= 1 + 1e-9).all()
    assert (found[:, 4] == 0).all()


def test_what_the_network_says_is_its_hops():
    rng = np.random.default_rng(2)
    state = {"net.guide.logits": rng.normal(size=(3, 5)), "net.guide.location": rng.normal(size=(3, 5))}
    state |= {"net.shared": rng.normal(size=5), "net.coupling": np.ones((1, 1))}
    network = LearnedNetwork.of(state, n_hops=2)
    amplitude = np.array([[-1.0, 0.0, 0.0], [0.0, -0.5, -2.0]])
    hops = signed_hops(torch.tensor(amplitude), torch.tensor(network.effect), place=torch.arange(3), n_hops=2)
    np.testing.assert_allclose(network.responses(amplitude), hops.numpy() + state["net.shared"])


def test_left_out_residuals_are_those_of_a_fit_without_the_query(world):
    learned = KernelRidge(on_target=False, noise_by_cells=False, views=("features",)).fit(world.training)
    table = world.training.responses
    rows, residual = left_out(learned)
    row = int(rows[3])
    others = np.setdiff1d(np.arange(table.n_queries), [row])
    conditions = Conditions.of(table.queries)
    weights = learned.state()["kernel.reach_weights"]
    covariance = conditions.between(learned._kernels, weights, conditions)
    effects = FixedEffects.of(table.queries).rows(table.queries)
    inverse = np.linalg.inv(covariance[np.ix_(others, others)] + np.eye(len(others)))
    base = np.linalg.solve(
        effects[others].T @ inverse @ effects[others], effects[others].T @ inverse @ table.response[others]
    )
    rest = table.response[others] - effects[others] @ base
    predicted = effects[row] @ base + covariance[row, others] @ inverse @ rest
    np.testing.assert_allclose(residual[3], table.response[row] - predicted, atol=1e-4)


# --------------------------------------------------------------------------------------------------------- its answers
@pytest.mark.parametrize("unseen", ["responses", "rows"])
def test_unseen_targets_are_predicted_better_than_by_the_mean(world, held_out, unseen, tmp_path):
    found = fitted(world, unseen=unseen)
    answer = found.predict(held_out.queries)
    known = answer.predicted
    assert known.sum() >= 0.8 * len(held_out.queries)
    error = np.linalg.norm(answer.response[known] - held_out.response[known], axis=1).mean()
    mean = world.training.responses.perturbed_mean()
    assert error < 0.9 * np.linalg.norm(held_out.response[known] - mean, axis=1).mean()
    assert np.nanmean(answer.sd) > np.mean(found.predict(found.trained_on).sd)
    inside = np.abs(answer.response[known] - held_out.response[known]) < 1.645 * answer.sd[known]
    assert inside.mean() > 0.8
    found.save(tmp_path / "model")
    again = load(tmp_path / "model").predict(held_out.queries)
    np.testing.assert_array_equal(again.response[known], answer.response[known])


@pytest.mark.parametrize("unseen", ["responses", "rows"])
def test_half_seen_doubles_are_predicted(world, held_out, unseen):
    found = fitted(world, unseen=unseen, max_epochs=1)
    other = next(name for name in found.sources if name not in held_out.queries[0].condition)
    pair = Query("+".join(sorted([held_out.queries[0].condition, other])), found.contexts[0])
    answer = found.predict([pair])
    assert answer.predicted.all()
    assert np.isfinite(answer.response).all()


def test_unseen_targets_are_refused_where_that_is_asked(world, held_out):
    assert not fitted(world, unseen="refuse", max_epochs=1).predict(held_out.queries).predicted.any()


def test_rows_need_hops_that_give_responses(world):
    with pytest.raises(BadOption, match="E110"):
        fitted(world, unseen="rows", alignment="reach")


def test_other_alignments_answer_from_their_own_predictions(world, held_out):
    answer = fitted(world, alignment="reach").predict(held_out.queries)
    assert answer.predicted.sum() >= 0.8 * len(held_out.queries)
