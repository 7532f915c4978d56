"""Counts read back from differences of log pseudobulks, and what counting alone leaves to a perfect model."""

import dataclasses

import numpy as np
import pytest
from worlds import make_evaluation

from perturbcast.data.counts_behind import counts_behind
from perturbcast.errors import MetricNeeds
from perturbcast.metrics.ceilings import ceiling_evaluation, ceiling_scores
from perturbcast.metrics.point import l2
from perturbcast.metrics.recounted import expected_log, recounted

PER = 1e6


def counted(*, n_queries=40, n_genes=300, seed=0):
    """(counts, expected counts, responses in single precision) of pseudobulks of unequal depth."""
    rng = np.random.default_rng(seed)
    depth = np.exp(rng.normal(14.5, 0.7, size=(n_queries, 1)))
    rate = np.exp(rng.normal(0, 2, size=n_genes)) / PER
    rates = rate * np.exp(0.4 * rng.normal(size=(n_queries, n_genes)))
    totals = np.round(depth)
    counts = rng.poisson(totals * rates)
    control = np.log1p(PER * rng.poisson(3e7 * rate) / 3e7)
    log = np.log1p(PER * counts / totals)
    return counts, totals * rates, (log - control).astype(np.float32).astype(np.float64), log, PER / totals


def tables(responses, *, n_truth=10):
    """(truth, training) without cells, of the responses of pseudobulks."""
    made = make_evaluation(n_queries=len(responses), n_genes=responses.shape[1])
    whole = dataclasses.replace(
        made.truth, response=responses, response_halves=None, variance=None, n_cells=None, n_control=None
    )
    return whole.take(np.arange(n_truth)), whole.take(np.arange(n_truth, len(responses)))


def test_counts_are_read_back_to_the_last_one():
    counts, _, responses, _, one = counted()
    found = counts_behind(responses)
    np.testing.assert_allclose(found.one, one[:, 0], rtol=1e-5)
    told = np.isfinite(found.level)
    assert told.mean() > 0.98
    low = counts[:, told] < 1000
    np.testing.assert_array_equal(found.of(responses)[:, told][low], counts[:, told][low])


def test_the_scale_before_the_logarithm_may_be_any():
    counts, _, _, log, _ = counted()
    found = counts_behind(np.log1p(np.expm1(log) / 100) - 0.3)
    np.testing.assert_array_equal(found.of(np.log1p(np.expm1(log) / 100) - 0.3)[counts < 1000], counts[counts < 1000])


@pytest.mark.parametrize("base", [2.0, 10.0])
def test_the_logarithm_may_have_another_base(base):
    counts, _, responses, _, _ = counted()
    in_base = (responses / np.log(base)).astype(np.float32).astype(np.float64)
    found = counts_behind(in_base)
    told = np.isfinite(found.level)
    assert told.mean() > 0.98
    np.testing.assert_array_equal(
        found.of(in_base)[:, told][counts[:, told] < 500], counts[:, told][counts[:, told] < 500]
    )
    of_base, of_e = (l2(*recounted(*tables(made))).mean() for made in (in_base, responses))
    np.testing.assert_allclose(of_base * np.log(base), of_e, rtol=0.02)


def test_a_gene_that_is_no_count_is_told_from_the_others():
    _, _, responses, _, _ = counted()
    responses[:, 7] = np.random.default_rng(0).normal(size=len(responses))
    found = counts_behind(responses)
    assert np.isnan(found.level[7])
    assert np.isfinite(np.delete(found.level, 7)).mean() > 0.98


@pytest.mark.parametrize("kind", ["normal", "censored", "half counts", "wide", "unknown", "empty"])
def test_other_responses_hide_no_counts(kind):
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(40, 300))
    counts, *_ = counted()
    made = {
        "normal": normal,
        "censored": np.where(np.abs(normal) < 1, 0.0, np.abs(normal)),
        "half counts": np.log1p(counts * np.exp(0.1 * normal)) - 1.0,
        "wide": 1000.0 * counts,
        "unknown": np.where(normal > 2, np.nan, normal),
        "empty": normal[:, :0],
    }
    assert counts_behind(made[kind]) is None


def test_expected_logarithms_are_means_over_poisson_counts():
    rng = np.random.default_rng(0)
    expected = np.array([[0.01, 0.5, 3.0, 20.0, 55.0, 61.0, 400.0]])
    one = np.array([[0.3]])
    drawn = np.log1p(one * rng.poisson(expected, size=(200_000, 7))).mean(axis=0)
    np.testing.assert_allclose(expected_log(expected, one)[0], drawn, atol=4e-3)


def test_the_ceiling_is_the_error_of_a_model_that_knows_every_rate():
    _, expected_counts, responses, log, one = counted(n_queries=80, n_genes=600)
    truth, training = tables(responses, n_truth=40)
    perfect = expected_log(expected_counts, one) + responses - log
    again, expected = recounted(truth, training)
    of_ceiling, of_perfect = l2(expected, again).mean(), l2(perfect[:40], responses[:40]).mean()
    assert abs(of_ceiling / of_perfect - 1) < 0.05


def test_a_gene_without_counts_has_no_noise_in_the_ceiling():
    _, _, responses, _, _ = counted()
    responses[:, 7] = np.random.default_rng(0).normal(size=len(responses))
    truth, training = tables(responses)
    again, expected = recounted(truth, training)
    np.testing.assert_array_equal(again[:, 7], truth.response[:, 7])
    np.testing.assert_array_equal(expected[:, 7], truth.response[:, 7])
    assert (again != truth.response).mean() > 0.5


def test_ceilings_of_responses_hold_counting_where_there_are_counts():
    _, _, responses, _, _ = counted()
    found = ceiling_scores(*tables(responses), metrics=["l2"])
    assert set(found.model) == {"ceiling:counting", "ceiling:other-genes"}
    mean = found.groupby("model")["value"].mean()
    assert mean["ceiling:counting"] < mean["ceiling:other-genes"]
    plain = ceiling_scores(*tables(np.random.default_rng(0).normal(size=(40, 60))), metrics=["l2"])
    assert set(plain.model) == {"ceiling:other-genes"}


def test_counting_says_what_it_needs():
    _, _, responses, _, _ = counted()
    truth, training = tables(responses)
    with pytest.raises(MetricNeeds, match="10 training"):
        recounted(truth, training.take(np.arange(9)))
    with pytest.raises(MetricNeeds, match="counts"):
        ceiling_evaluation(*tables(np.random.default_rng(0).normal(size=(40, 60))), kind="counting")
    made = make_evaluation(n_queries=12)
    with pytest.raises(MetricNeeds, match="no cells"):
        ceiling_evaluation(made.truth, made.training, kind="counting")
