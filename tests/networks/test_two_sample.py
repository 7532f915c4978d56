"""Wasserstein distances and rank-sum tests of all groups at once are those of scipy, one group at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, wasserstein_distance

from perturbcast.networks.two_sample import Groups, compare


def one(control, group):
    values = np.array([*control, *group], dtype=float)
    code = np.array([-1] * len(control) + [0] * len(group))
    found = compare(values, Groups.of(code, n_groups=1))
    return found.wasserstein[0], found.u[0], found.p[0]


@pytest.mark.parametrize(
    ("control", "group", "distance", "u", "p"),
    [
        ([0, 1, 2], [1, 2, 3], 1.0, 2, 0.36868827),
        ([0, 0, 1, 1], [1, 1, 1, 1], 0.5, 4, 0.18135828),
        (range(10), range(10, 20), 10.0, 0, 1.8267179e-4),
    ],
)
def test_oracle_o17(control, group, distance, u, p):
    found = one(control, group)
    assert found[0] == pytest.approx(distance, abs=1e-12)
    assert len(control) * len(group) - found[1] == u  # the oracle counts wins of the first sample, control
    assert found[2] == pytest.approx(p, rel=1e-6)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), digits=st.integers(0, 4), n_groups=st.integers(1, 5))
def test_every_group_agrees_with_scipy(seed, digits, n_groups):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 60))
    code = rng.integers(-2, n_groups, n)  # -2 takes no part
    code[:2] = -1
    values = np.round(rng.normal(size=n), digits) * (rng.random(n) < 0.7)
    found = compare(values, Groups.of(code, n_groups=n_groups))
    control = values[code == -1]
    for group in range(n_groups):
        members = values[code == group]
        if not len(members):
            assert np.isnan([found.wasserstein[group], found.p[group], found.u[group]]).all()
            continue
        assert found.wasserstein[group] == pytest.approx(wasserstein_distance(control, members), abs=1e-12)
        test = mannwhitneyu(members, control, method="asymptotic")
        assert found.u[group] == test.statistic
        expected = test.pvalue if np.ptp(np.concatenate([control, members])) > 0 else 1.0
        assert found.p[group] == pytest.approx(expected, abs=1e-12)


def test_a_shift_is_its_own_distance_and_order_of_cells_does_not_matter():
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    code = np.repeat([-1, 0], 20)
    values[20:] = values[:20] + 3.0
    order = rng.permutation(40)
    straight = compare(values, Groups.of(code, n_groups=1))
    mixed = compare(values[order], Groups.of(code[order], n_groups=1))
    assert straight.wasserstein[0] == pytest.approx(3.0)
    assert mixed.wasserstein[0] == straight.wasserstein[0]
    assert mixed.p[0] == straight.p[0]
