"""Mean ln(1 + CP10k) of counts: the table against sums, the average against drawn counts."""

import numpy as np
import pytest
import torch
from scipy import stats

from perturbcast.nn.predictive import (
    LEAST,
    MOST,
    POINTS,
    MeanLogExpression,
    depth_quantiles,
    drawn_counts,
    poisson_log_table,
)


@pytest.mark.parametrize("depth", [300.0, 1e4, 5e4])
@pytest.mark.parametrize("rate", [1e-3, 0.3, 5.0, 150.0, 400.0, 9e3])
def test_table_is_the_expectation(depth, rate):
    counts = np.arange(stats.poisson.ppf(1e-12, rate), stats.poisson.isf(1e-12, rate) + 1)
    exact = (stats.poisson.pmf(counts, rate) * np.log1p(counts * 1e4 / depth)).sum()
    grid = np.linspace(LEAST, MOST, POINTS)
    assert np.interp(np.log(rate), grid, poisson_log_table(depth)) == pytest.approx(exact, abs=1e-3, rel=1e-3)


def test_average_is_that_of_drawn_counts():
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(30))
    dispersion = rng.uniform(0.5, 4, 30)
    depths = depth_quantiles(rng.lognormal(7.5, 0.4, 500).astype(np.float32))
    average = MeanLogExpression(depths, dispersion, n_particles=4000, seed=0)
    found = average(torch.from_numpy(np.log(share)).float().expand(4000, -1)).numpy()
    library = np.resize(depths, 4000).astype(np.float64)
    counts = drawn_counts(np.tile(share, (4000, 1)), library, dispersion, rng)
    drawn = np.log1p(counts * (1e4 / library)[:, None])
    assert np.abs(found - drawn.mean(0)).max() < 5 * (drawn.std(0) / np.sqrt(4000)).max()


def test_shallow_cells_have_a_lower_mean_logarithm():
    share, dispersion = np.full(10, 0.1), np.full(10, 2.0)
    log_share = torch.from_numpy(np.log(share)).float().expand(200, -1)
    means = [
        MeanLogExpression(np.full(1, depth, np.float32), dispersion, n_particles=200, seed=0)(log_share).mean().item()
        for depth in (30.0, 300.0, 30000.0)
    ]
    assert means[0] < means[1] < means[2]


def test_rates_below_the_grid_are_proportional():
    average = MeanLogExpression(np.full(1, 1e3, np.float32), np.full(1, 1e6), n_particles=1, seed=0)
    low = average(torch.tensor([[np.log(1e-9)]], dtype=torch.float32)).item()
    assert low == pytest.approx(1e-6 * np.log1p(10), rel=2e-2)
    assert average(torch.tensor([[-200.0]])).item() == pytest.approx(0.0, abs=1e-30)
