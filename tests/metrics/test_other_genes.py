"""What the other genes of a response say of each gene, where the noise is known."""

import dataclasses

import numpy as np
import pytest
from worlds import make_evaluation

from perturbcast.data.responses import ResponseTable
from perturbcast.errors import MetricNeeds
from perturbcast.metrics.other_genes import from_other_genes
from perturbcast.metrics.point import l2

NOISE = 0.5


def two_sides(*, shared_noise: float = 0.0, n_queries: int = 120, n_genes: int = 150) -> tuple[ResponseTable, ...]:
    """Truth and training of six programmes in noise; with `shared_noise`, all genes of a response err together too."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(n_queries, 6)) @ rng.normal(size=(6, n_genes))
    noise = NOISE * rng.normal(size=signal.shape) + shared_noise * rng.normal(size=(n_queries, 1))
    table = make_evaluation(n_queries=n_queries, n_genes=n_genes, n_cells=4, responses_only=True).truth
    table = dataclasses.replace(table, response=signal + noise)
    return table.take(np.arange(n_queries // 2)), table.take(np.arange(n_queries // 2, n_queries))


def error(**options: float) -> float:
    """Mean L2 of what the other genes say."""
    truth, training = two_sides(**options)
    return float(l2(from_other_genes(truth, training), truth.response).mean())


def test_the_error_is_that_of_a_perfect_model_and_little_more():
    perfect = NOISE * np.sqrt(150)
    assert perfect < error() < 1.2 * perfect


def test_noise_that_genes_share_is_predicted_too_so_that_the_bound_is_too_low():
    perfect = np.sqrt(150 * (NOISE**2 + 1.0))
    assert error(shared_noise=1.0) < 0.7 * perfect


def test_a_gene_is_not_used_to_predict_itself():
    rng = np.random.default_rng(1)
    truth, training = (dataclasses.replace(side, response=rng.normal(size=side.response.shape)) for side in two_sides())
    alone = l2(from_other_genes(truth, training), truth.response).mean()
    assert alone > 0.97 * np.sqrt(150)  # independent genes say nothing of each other


def test_the_same_seed_gives_the_same_tenths():
    truth, training = two_sides(n_queries=40, n_genes=30)
    first = from_other_genes(truth, training, seed=3)
    assert np.array_equal(first, from_other_genes(truth, training, seed=3))
    assert not np.allclose(first, from_other_genes(truth, training, seed=4))


def test_training_that_does_not_vary_answers_its_mean():
    truth, training = two_sides(n_queries=40, n_genes=30)
    still = dataclasses.replace(training, response=np.full_like(training.response, 2.0))
    assert np.array_equal(from_other_genes(truth, still), np.full(truth.response.shape, 2.0))


@pytest.mark.parametrize(("n_queries", "n_genes"), [(18, 30), (40, 9)])
def test_too_few_queries_or_genes_are_refused(n_queries, n_genes):
    truth, training = two_sides(n_queries=n_queries, n_genes=n_genes)
    with pytest.raises(MetricNeeds, match="needs 10"):
        from_other_genes(truth, training)
