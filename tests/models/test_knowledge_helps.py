"""Knowledge that informs helps on unseen targets, and does no harm once its names are shuffled."""

import numpy as np
import pytest

from perturbcast.data.conditions import targets_of
from perturbcast.data.simulate import simulate
from perturbcast.data.split_rules import design_of, half_of_doubles, singles_by_fold
from perturbcast.data.statistics import response_table
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.genes.simulated import knowledge_of
from perturbcast.genes.sources import only, shuffled
from perturbcast.metrics.interactions import detection_curve
from perturbcast.models.base import TrainingData
from perturbcast.models.pair_ridge import PairRidge
from perturbcast.models.spectral_ridge import SpectralRidge

pytestmark = pytest.mark.slow
WORLDS = (0, 1, 2, 3, 4)


def taken(table, queries):
    row = {query: place for place, query in enumerate(table.queries)}
    return table.take(np.array([row[query] for query in queries]))


@pytest.fixture(scope="module")
def worlds():
    made = [simulate(n_cells=8000, n_genes=200, n_targets=80, n_doubles=10, seed=seed) for seed in WORLDS]
    return [(world, response_table(world.screen), knowledge_of(world)) for world in made]


def errors(worlds, given) -> np.ndarray:
    """L2 of every unseen single of every world, to the exact responses."""
    found = []
    for seed, (world, measured, knowledge) in zip(WORLDS, worlds, strict=True):
        for split in singles_by_fold(design_of(measured), seed=seed, folds=5):
            training = TrainingData(taken(measured, split.train), knowledge=given(knowledge, seed))
            test = taken(world.responses, split.test)
            predicted = SpectralRidge().fit(training, seed=seed).predict(test.queries).response
            found.append(np.linalg.norm(predicted - test.response, axis=1))
    return np.concatenate(found)


@pytest.fixture(scope="module")
def without(worlds):
    return errors(worlds, lambda knowledge, seed: GeneKnowledge())


@pytest.mark.parametrize("source", ["embedding", "gene_sets", "prior_graph", "text", "sequence", "biotype"])
def test_a_source_that_informs_helps_alone(worlds, without, source):
    difference = errors(worlds, lambda knowledge, seed: only(knowledge, source)) - without
    assert difference.mean() < -2 * difference.std() / np.sqrt(len(difference))


@pytest.mark.parametrize("source", ["embedding", "gene_sets", "prior_graph", "text", "sequence", "biotype"])
def test_a_shuffled_source_costs_at_most_one_percent(worlds, without, source):
    alone = errors(worlds, lambda knowledge, seed: only(shuffled(knowledge, source, seed=seed), source))
    assert alone.mean() < 1.01 * without.mean()


@pytest.mark.parametrize("seed", WORLDS[:3])
def test_synergy_and_buffering_of_unseen_doubles_are_found_where_additive_finds_none(seed):
    world = simulate(n_cells=12000, n_genes=200, n_targets=40, n_doubles=120, seed=seed)
    measured, exact = response_table(world.screen), world.responses
    split = half_of_doubles(design_of(measured), seed=seed)
    train, test = taken(measured, split.train), taken(exact, split.test)
    single = {query.condition: row for query, row in zip(train.queries, train.response, strict=True)}
    true = {query.condition: row for query, row in zip(exact.queries, exact.response, strict=True)}
    names = [targets_of(query.condition) for query in test.queries]
    added = np.array([sum(single[name] for name in own) for own in names])
    interacts = np.abs(test.response - np.array([sum(true[name] for name in own) for own in names])) > 0.2
    found = (
        PairRidge().fit(TrainingData(train, knowledge=knowledge_of(world)), seed=seed).predict(test.queries).response
    )
    curve = detection_curve((found - added).ravel(), interacts.ravel(), grid=np.array([0.5]))
    assert curve[0] > 0.1
    error, of_sum = (np.linalg.norm(rows - test.response, axis=1).mean() for rows in (found, added))
    assert error < 0.75 * of_sum
