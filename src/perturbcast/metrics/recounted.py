"""A measurement counted once more: what a model without error would score if counting were the only noise."""

import numpy as np
from jaxtyping import Float

from perturbcast._types import ProfileByQuery
from perturbcast.data.counts_behind import counts_behind
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import MetricNeeds

FEWEST = 10  # training queries from which it is learned how genes vary
PRIOR_QUERIES = 20.0  # that the usual dispersion of genes counts for in that of one gene
LEAST_DISPERSION = 0.01
FEW = 60.0  # expected counts below which sums over counts are taken, and above which they are nearly normal


def recounted(truth: ResponseTable, training: ResponseTable, *, seed: int = 0) -> tuple[ProfileByQuery, ProfileByQuery]:
    """(measured once more, expected) responses of the truth, both (query, gene).

    Where responses are differences of log(1 + scaled pseudobulk counts), the counts are read back (`counts_behind`).
    Rates are drawn from their posterior, a gamma distribution of each gene fitted to training, then counts from
    Poisson distributions of these rates at the depth of each query. Molecules cannot be counted with less noise;
    differences between cells, guides and batches come on top, so this bounds the noise from below. Genes whose counts
    are not told are given as measured, without noise. That of control, far deeper, is left out.
    MetricNeeds where responses hide no counts, or with fewer than ten training queries.
    """
    if training.n_queries < FEWEST:
        raise MetricNeeds(f"noise of counting needs {FEWEST} training queries.")
    responses = np.vstack([training.response, truth.response])
    counts = counts_behind(responses)
    if counts is None:
        raise MetricNeeds("noise of counting needs responses that are differences of log(1 + counts).")
    told = np.isfinite(counts.level)
    one = counts.one[:, None]
    known = counts.of(responses)[:, told]
    trained, asked = np.split(known, [training.n_queries])
    mean, dispersion = spread_of_rates(trained * one[: training.n_queries], one[: training.n_queries])
    one = one[training.n_queries :]
    rng = np.random.default_rng(seed)
    shape, rate = asked + 1 / dispersion, 1 / one + 1 / (dispersion * mean)
    expected_counts = rng.gamma(shape) / rate / one
    again, expected = np.array(truth.response, dtype=np.float64), np.array(truth.response, dtype=np.float64)
    again[:, told] = counts.response(np.log1p(rng.poisson(expected_counts) * one))
    expected[:, told] = counts.response(expected_log(expected_counts, one))
    return again, expected


def spread_of_rates(
    values: Float[np.ndarray, "query gene"], one: Float[np.ndarray, "query 1"]
) -> tuple[Float[np.ndarray, " gene"], Float[np.ndarray, " gene"]]:
    """Mean of the scaled counts, and their dispersion beyond Poisson by moments, drawn to that of most genes."""
    weight = (1 / one) / (1 / one).sum()
    mean = np.maximum((weight * values).sum(axis=0), 1e-9)
    beyond = (weight * ((values - mean) ** 2 - one * mean)).sum(axis=0) / mean**2
    positive = beyond[beyond > 0]
    usual = float(np.median(positive)) if len(positive) else LEAST_DISPERSION
    drawn = (beyond * len(values) + usual * PRIOR_QUERIES) / (len(values) + PRIOR_QUERIES)
    return mean, np.maximum(drawn, LEAST_DISPERSION)


def expected_log(expected_counts: ProfileByQuery, one: Float[np.ndarray, "query 1"]) -> ProfileByQuery:
    """(query, gene) mean of log(1 + one * k) over k from a Poisson distribution."""
    value = one * expected_counts
    found = np.log1p(value) - 0.5 * (value / (1 + value)) ** 2 / np.maximum(expected_counts, FEW)
    few = expected_counts < FEW
    rates, worth = expected_counts[few], np.broadcast_to(one, expected_counts.shape)[few]
    share, total = np.exp(-rates), np.zeros_like(rates)
    for count in range(1, int(2.5 * FEW)):
        share = share * rates / count
        total += share * np.log1p(worth * count)
    found[few] = total
    return found
