"""No change, the three means, the matching mean: oracles D2 and D3, weights, contexts."""

import numpy as np
import pytest
from model_worlds import table_of

from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Support
from perturbcast.errors import NeedsCells, NotEnoughTraining
from perturbcast.models.base import TrainingData
from perturbcast.models.registry import get_model


def fit(name, table, **fields):
    return get_model(name, **fields).fit(TrainingData(table))


def test_no_change_predicts_zero_for_anything():
    fitted = fit("no-change", table_of([[2.0, 4], [4, 2]], ["A", "B"]))
    assert not fitted.predict(["A", "Z", "A+Z"]).response.any()


@pytest.mark.parametrize(("variant", "expected"), [("mean:with-control", [2.0, 2.0]), ("mean:perturbed", [3.0, 3.0])])
def test_mean_with_and_without_control_agree_with_oracle_d2(variant, expected):
    fitted = fit(variant, table_of([[2.0, 4], [4, 2]], ["A", "B"]))
    np.testing.assert_allclose(fitted.predict(["Z"]).response[0], expected)


def test_mean_over_cells_weighs_conditions_by_their_cells():
    fitted = fit("mean:cells", table_of([[1.0], [5.0]], ["A", "B"], n_cells=[30, 10]))
    np.testing.assert_allclose(fitted.predict(["Z"]).response[0], [(30 * 1 + 10 * 5) / 40])


def test_mean_over_cells_is_refused_where_cell_numbers_are_unknown():
    with pytest.raises(NeedsCells):
        fit("mean:cells", table_of([[1.0], [5.0]], ["A", "B"]))


def test_mean_needs_a_training_condition():
    table = table_of([[1.0]], ["A"])
    with pytest.raises(NotEnoughTraining):
        fit("mean", table.take(np.arange(0)))


def test_mean_is_that_of_the_context_asked_for():
    fitted = fit("mean", table_of([[1.0], [3], [10], [20]], ["A", "B"], contexts=("K562", "RPE1")))
    found = fitted.predict([Query("Z", "K562"), Query("Z", "RPE1")])
    np.testing.assert_allclose(found.response[:, 0], [2.0, 15.0])


def test_context_without_training_queries_gets_the_mean_of_all():
    table = table_of([[1.0], [3], [10], [20]], ["A", "B"], contexts=("K562", "RPE1")).take(np.arange(2))
    np.testing.assert_allclose(fit("mean", table).predict([Query("A", "RPE1")]).response, [[2.0]])


def test_additive_and_matching_mean_agree_with_oracle_d3():
    table = table_of([[0.4], [0.3]], ["A", "B"])
    additive, matching = fit("additive", table).predict(["A+B"]), fit("matching-mean", table).predict(["A+B"])
    np.testing.assert_allclose(additive.expression, [[1.7]])
    np.testing.assert_allclose(matching.expression, [[1.35]])


def test_matching_mean_puts_the_mean_over_cells_in_place_of_unseen_targets():
    fitted = fit("matching-mean", table_of([[1.0], [5.0]], ["A", "B"], n_cells=[30, 10]))
    found = fitted.predict(["Z", "A+Z"])
    np.testing.assert_allclose(found.response[:, 0], [2.0, (1.0 + 2.0) / 2])
    assert found.support == (Support.MEAN, Support.PARTIAL)


def test_mean_of_same_size_keeps_singles_and_combinations_apart():
    fitted = fit("mean:same-size", table_of([[1.0], [3], [8]], ["A", "B", "A+B"]))
    np.testing.assert_allclose(fitted.predict(["Z", "Y+Z"]).response[:, 0], [2.0, 8.0])


def test_mean_of_same_size_is_the_mean_where_training_has_one_size():
    fitted = fit("mean:same-size", table_of([[1.0], [3]], ["A", "B"]))
    np.testing.assert_allclose(fitted.predict(["Z", "Y+Z"]).response[:, 0], [2.0, 2.0])
