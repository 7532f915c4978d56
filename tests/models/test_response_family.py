"""What the models of mean responses share: what is left out, calibrated intervals, nodes, and the fit itself."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbcast.data.conditions import Query, targets_of
from perturbcast.models.artefact import load
from perturbcast.models.base import TrainingData
from perturbcast.models.check_world import check_world
from perturbcast.models.conformal import Z, error_model, factor_for
from perturbcast.models.fmlp import Fmlp
from perturbcast.models.holdouts import COMBINATIONS, TARGETS, holdouts, question_of
from perturbcast.models.node_table import node_table, nodes_state, restored_nodes
from perturbcast.models.on_target import OnTarget
from perturbcast.models.registry import get_model
from perturbcast.models.response_fit import best_gain

QUICK = {"max_steps": 40, "folds": 3, "width": 16, "n_latent": 8}


@pytest.fixture(scope="module")
def world():
    return check_world()


@pytest.fixture(scope="module")
def fitted(world):
    return Fmlp(**QUICK).fit(world.training, seed=1)


@given(n_singles=st.integers(3, 30), n_doubles=st.integers(0, 40), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_targets_left_out_are_nowhere_in_training_and_every_row_is_left_out(n_singles, n_doubles, seed):
    rng = np.random.default_rng(seed)
    names = [f"G{number}" for number in range(n_singles)]
    pairs = {tuple(sorted(rng.choice(names, 2, replace=False))) for _ in range(n_doubles)}
    queries = [Query(name) for name in names] + [Query("+".join(pair)) for pair in sorted(pairs)]
    found = holdouts(queries, n_folds=5, seed=seed)
    asked = [fold for fold in found if fold.kind == TARGETS]
    assert set(np.concatenate([fold.valid for fold in asked])) == set(range(len(queries)))
    for fold in found:
        assert not set(fold.train) & set(fold.valid)
        trained = {target for row in fold.train for target in targets_of(queries[row].condition)}
        for row in fold.valid:
            targets = set(targets_of(queries[row].condition))
            assert targets <= trained if fold.kind == COMBINATIONS else not targets <= trained


def test_combination_of_targets_seen_singly_is_another_question_than_one_with_an_unseen_target():
    seen = frozenset({"A", "B"})
    assert question_of(Query("A+B"), seen) == COMBINATIONS
    assert question_of(Query("A+C"), seen) == question_of(Query("A"), seen) == TARGETS


def test_intervals_cover_new_conditions_of_unequal_size_and_noise():
    rng = np.random.default_rng(0)
    share = rng.uniform(0.2, 3.0, size=200)
    covered = []
    for _ in range(20):
        predicted = rng.normal(size=(80, 200)) * rng.uniform(0.2, 2.0, size=(80, 1))
        size = rng.gamma(2.0, 0.5, size=(80, 1)) + (predicted**2).mean(axis=1, keepdims=True)
        residual = rng.normal(size=(80, 200)) * np.sqrt(size * share)
        errors = error_model(residual[:40], predicted[:40])
        covered.append((np.abs(residual[40:]) <= Z * errors.sd(predicted[40:])).mean())
    assert 0.885 < np.mean(covered) < 0.935


def test_conformal_factor_is_the_least_that_keeps_the_promise():
    ratio = np.arange(1, 101, dtype=float).reshape(20, 5)
    factor = factor_for(ratio, level=0.8)
    missed = lambda c: ((ratio > c).mean(axis=1).max() + (ratio > c).mean(axis=1).sum()) / 21  # noqa: E731
    assert missed(factor) <= 0.2 < missed(factor - 1)


def test_gain_keeps_what_helps_and_drops_what_does_not():
    rng = np.random.default_rng(0)
    error = rng.normal(size=(50, 20))
    assert best_gain(error, 2 * error) == pytest.approx(0.5)
    assert best_gain(error, -error) == 0.0
    assert best_gain(error, np.zeros_like(error)) == 0.0


def test_nodes_begin_with_measured_genes_and_come_back_from_their_arrays(world):
    nodes = node_table(world.training.responses, world.training.knowledge)
    assert nodes.names[: nodes.n_measured] == tuple(sorted(world.training.responses.genes))
    assert set(world.training.responses.targets) <= set(nodes.names[: nodes.n_core])
    again = restored_nodes(nodes_state(nodes))
    assert again.names == nodes.names
    np.testing.assert_array_equal(again.features, nodes.features)
    core = nodes.core()
    for edges in core.graphs.values():
        assert max(edges.source.max(), edges.destination.max()) < core.n_core


def test_expression_in_control_cells_is_a_feature_of_measured_genes(world):
    responses = world.training.responses
    mean = np.random.default_rng(0).random(responses.control.shape)
    spread = np.random.default_rng(1).random(responses.control.shape)
    known = dataclasses.replace(responses, control=mean, control_variance=spread)
    block = node_table(known, world.training.knowledge).blocks["control"].astype(float)
    order = np.argsort(responses.genes.astype(str))
    for column, told in enumerate((mean.mean(axis=0), np.sqrt(spread.mean(axis=0)))):
        assert np.corrcoef(block[: len(order), column], told[order])[0, 1] > 0.999
    assert not block[len(order) :].any()
    unknown = dataclasses.replace(responses, control=np.full_like(mean, np.nan), control_variance=None)
    assert "control" not in node_table(unknown, world.training.knowledge).blocks


def test_edges_are_symmetric_without_loops(world):
    nodes = node_table(world.training.responses, world.training.knowledge)
    assert nodes.graphs
    for edges in nodes.graphs.values():
        pairs = set(zip(edges.source.tolist(), edges.destination.tolist(), strict=True))
        assert all((b, a) in pairs and a != b for a, b in pairs)


def test_features_that_inform_beat_the_mean(world):
    training, test = world.training, world.test
    singles = np.array([len(targets_of(query.condition)) == 1 for query in test.queries])
    asked = test.take(singles)

    def error(data: TrainingData) -> float:
        model = Fmlp(max_steps=150, folds=4, width=32).fit(data, seed=0)
        return float(np.linalg.norm(model.predict(asked.queries).response - asked.response, axis=1).mean())

    blind = error(TrainingData(training.responses))
    assert error(training) < 0.9 * blind


def test_unknown_target_gets_what_the_model_below_says_and_support_mean(fitted):
    prediction = fitted.predict(["NEVER_HEARD_OF"])
    np.testing.assert_array_equal(fitted.correction([Query("NEVER_HEARD_OF")]), 0.0)
    assert prediction.support == ("mean",)
    assert np.isfinite(prediction.sd).all()


def test_query_with_seen_targets_is_answered_by_members_that_left_combinations_out(fitted, world):
    singles = [query.condition for query in world.training.responses.queries if len(targets_of(query.condition)) == 1]
    assert fitted.question(Query("+".join(singles[:2]))) == COMBINATIONS
    assert fitted.question(Query(f"{singles[0]}+NEVER_HEARD_OF")) == TARGETS
    assert len(fitted.members[TARGETS]) == len(fitted.members[COMBINATIONS]) == 3


@pytest.mark.parametrize("base", ["additive", "kernel-ridge"])
def test_model_below_answers_as_it_would_alone_whatever_the_order_of_training_queries(world, base):
    table = world.training.responses
    order = np.random.default_rng(0).permutation(table.n_queries)
    training = dataclasses.replace(world.training, responses=table.take(order))
    still = Fmlp(base=base, on_target=False, calibrate=True, max_steps=1, lr=1e-9, folds=2, width=4, n_latent=2)
    alone = get_model(base).fit(training)
    queries = [query for query in world.test.queries if "+" in query.condition]
    found = still.fit(training, seed=0).predict(queries).response
    np.testing.assert_allclose(found, alone.predict(queries).response, atol=0.1)


def test_own_genes_set_aside_once_are_as_set_aside_twice(world):
    table = world.training.responses
    once, effect = OnTarget.set_aside(table)
    twice, again = OnTarget.set_aside(dataclasses.replace(table, response=once))
    assert np.abs(effect).max() > 0.01
    np.testing.assert_allclose(twice, once, atol=1e-12)
    np.testing.assert_allclose(again, 0.0, atol=1e-12)


def test_each_question_has_the_model_below_that_it_names(world, tmp_path):
    """Combinations of targets seen singly go by one model, what is unseen by the other; a saved copy says the same."""
    still = {"on_target": False, "calibrate": True, "max_steps": 1, "lr": 1e-9, "folds": 2, "width": 4, "n_latent": 2}
    both = Fmlp(base="kernel-ridge", base_of_combinations="additive", **still).fit(world.training, seed=0)
    singles = [query.condition for query in world.training.responses.queries if len(targets_of(query.condition)) == 1]
    asked = {"additive": [Query("+".join(singles[:2]))], "kernel-ridge": [Query(f"{singles[0]}+U1"), Query("U1")]}
    for base, queries in asked.items():
        found = both.predict(queries).response
        off = {name: np.abs(found - get_model(name).fit(world.training).predict(queries).response) for name in asked}
        assert all(off[base].mean() < 0.2 * off[other].mean() for other in asked if other != base)
    mixed = asked["kernel-ridge"] + asked["additive"]
    again = load(both.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(mixed).response, both.predict(mixed).response)


def test_model_below_of_combinations_waits_for_training_that_can_ask_of_them(world):
    table = world.training.responses
    singles = np.array([len(targets_of(query.condition)) == 1 for query in table.queries])
    training = dataclasses.replace(world.training, responses=table.take(singles))
    names = table.take(singles).conditions
    two, one = (
        Fmlp(**QUICK, base="mean", base_of_combinations=name).fit(training, seed=0).predict(["+".join(names[:2])])
        for name in ("additive", "")
    )
    np.testing.assert_array_equal(two.response, one.response)
