"""Spectral ridge: exact left-out errors, axes, and what scaling to like size is for."""

from dataclasses import replace

import numpy as np
import pytest

from perturbcast.data.conditions import targets_of
from perturbcast.genes.graphs import gene_sets_of
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.models.base import TrainingData
from perturbcast.models.check_world import check_world
from perturbcast.models.kernel_ridge import KernelRidge
from perturbcast.models.sharper_views import beginning_views, sharper_views
from perturbcast.models.spectral_fit import Axes, combined, left_out_of, solved
from perturbcast.models.spectral_ridge import SpectralRidge, best_gain


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 4))
    kernel = features @ features.T
    rows = features @ rng.normal(size=(4, 12)) + rng.normal(size=(30, 12)) * np.linspace(0.1, 3, 12)
    return rows, kernel, np.ones((30, 1))


def test_axes_give_the_rows_back(problem):
    axes = Axes.of(problem[0])
    np.testing.assert_allclose(axes.coordinates @ axes.back, problem[0], atol=1e-10)
    np.testing.assert_allclose(axes.back @ axes.back.T, np.eye(len(axes.back)), atol=1e-8)


def test_left_out_prediction_is_that_of_a_fit_without_the_rows(problem):
    rows, kernel, effects = problem
    parts = solved(rows, kernel, effects)
    out, kept = np.array([2, 7, 11]), np.setdiff1d(np.arange(30), [2, 7, 11])
    found = left_out_of(parts, rows, out)
    for part in parts:
        inverse = np.linalg.inv(part.strength * kernel[np.ix_(kept, kept)] + np.eye(len(kept)))
        level = (inverse.sum(axis=0) @ rows[kept]) / inverse.sum()
        expected = level + part.strength * kernel[np.ix_(out, kept)] @ inverse @ (rows[kept] - level)
        np.testing.assert_allclose(found[:, part.axes], expected[:, part.axes], atol=1e-8)


def test_axes_that_knowledge_does_not_predict_are_shrunk_more(problem):
    _, kernel, effects = problem
    rng = np.random.default_rng(1)
    told = np.linalg.eigh(kernel)[1][:, -2:] * 20 + 0.1 * rng.normal(size=(30, 2))
    rows = np.column_stack([told, rng.normal(size=(30, 2))])
    strength = np.empty(4)
    for part in solved(rows, kernel, effects):
        strength[part.axes] = part.strength
    assert strength[:2].min() > strength[2:].max()
    alpha, level = combined(solved(rows, kernel, effects), 4)
    assert alpha.shape == (30, 4)
    assert level.shape == (1, 4)


def test_gain_is_the_least_squares_factor_within_bounds():
    found = np.random.default_rng(0).normal(size=(20, 5))
    assert best_gain(1.3 * found, found) == pytest.approx(1.3)
    assert best_gain(-found, found) == 0.0
    assert best_gain(found, np.zeros_like(found)) == 1.0


def test_beats_kernel_ridge_in_direction_where_few_perturbations_are_strong():
    """A world of equal patterns and very unequal strengths: the correlation with the truth, over left-out targets."""
    world = check_world()
    table = world.training.responses
    single = np.array([len(targets_of(query.condition)) == 1 for query in table.queries])
    strength = np.where(np.random.default_rng(0).random(int(single.sum())) < 0.1, 8.0, 0.5)
    rows = np.flatnonzero(single)
    strong = table.take(rows)
    strong = replace(strong, response=strong.response * strength[:, None])
    asked = world.test.take(np.array([len(targets_of(query.condition)) == 1 for query in world.test.queries]))

    def correlation(model) -> float:
        found = model.fit(TrainingData(strong, knowledge=world.training.knowledge)).predict(asked.queries).response
        return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, asked.response, strict=True)]))

    assert correlation(SpectralRidge()) > correlation(KernelRidge()) + 0.01


def test_symbols_of_a_family_are_alike_and_rare_sets_decide():
    knowledge = GeneKnowledge(
        gene_sets={
            "sets": gene_sets_of(
                "sets", [("pair", ["PSMB1", "PSMB5"]), ("all", [f"G{n}X" for n in range(9)] + ["PSMB1"])]
            )
        }
    )
    views = {view.name: view for view in sharper_views(knowledge)}
    rare = views["sets:rare-cosine"]
    names = ["PSMB1", "PSMB5", "G1X"]
    kernel = rare.kernel(rare.rows(names), rare.rows(names))
    assert kernel[0, 1] > 0.9 > 0.5 > kernel[0, 2]


def test_beginnings_of_symbols_tell_families():
    genes = [f"{family}{number}" for family in ("PSMB", "FOXA", "IRF", "CEBP", "MED") for number in range(3)]
    genes += [
        f"{first}{second}Q{number}"
        for number, (first, second) in enumerate(
            zip("ABCDEHJKLNOQRSTUVWXYZ" * 9, "QWERTYUIOPASDFGHJKLZXCVBNM" * 8, strict=False)
        )
    ]
    (view,) = beginning_views(sorted(genes))
    kernel = view.kernel(view.rows(["PSMB0"]), view.rows(["PSMB1", "FOXA1"]))[0]
    assert kernel[0] > 2 * kernel[1]


def test_a_view_of_both_solutions_is_kept_once():
    world = check_world()
    fitted = SpectralRidge().fit(world.training, seed=0)
    first, second = fitted.sides
    shared = {k.view.name for k in first.kernels if k.view} & {k.view.name for k in second.kernels if k.view}
    views = {id(k.view) for side in fitted.sides for k in side.kernels if k.view}
    names = {k.view.name for side in fitted.sides for k in side.kernels if k.view}
    assert shared
    assert len(views) == len(names)
