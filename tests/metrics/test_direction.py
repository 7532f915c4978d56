"""Direction of change and overlap of the strongest genes."""

import numpy as np
import pytest
from hypothesis import given
from profiles import REPEATABLE, pairs
from worlds import make_evaluation, with_prediction

from perturbcast.metrics.direction import (
    clipped_response,
    direction_accuracy,
    jaccard_top,
    opposite_direction,
    sign_agreement,
)
from perturbcast.metrics.score import score


def names(n_genes: int) -> np.ndarray:
    """Gene names."""
    return np.array([f"G{gene:02d}" for gene in range(n_genes)], dtype=object)


@REPEATABLE
@given(pairs())
def test_only_signs_matter(pair):
    predicted, truth = pair
    for metric in (sign_agreement, direction_accuracy, opposite_direction):
        assert metric(np.sign(predicted), truth) == pytest.approx(metric(7 * predicted, truth), nan_ok=True)


@REPEATABLE
@given(pairs())
def test_right_wrong_and_silent_directions_add_up(pair):
    predicted, truth = pair
    changes = truth != 0
    right = direction_accuracy(predicted, truth)
    wrong = direction_accuracy(-predicted, truth)
    some = changes.any(axis=1)
    assert (right + wrong)[some] == pytest.approx(1.0)  # no predicted value is exactly 0 here
    assert np.isnan(right[~some]).all()


def test_a_predicted_zero_is_wrong_and_an_exact_zero_of_the_truth_is_ignored():
    truth = np.array([[1.0, -1.0, 0.0, 2.0]])
    predicted = np.array([[0.5, 0.0, 3.0, -1.0]])
    assert direction_accuracy(predicted, truth) == pytest.approx([1 / 3])
    assert sign_agreement(predicted, truth) == pytest.approx([1 / 4])
    assert opposite_direction(predicted, truth) == pytest.approx([1 / 4])


def test_the_clip_of_grape_sets_low_expression_to_zero_and_leaves_the_rest():
    control = np.array([[0.005, 0.5, 0.02]])
    response = np.array([[0.001, 0.1, -0.015]])
    assert clipped_response(response, control) == pytest.approx(np.array([[-0.005, 0.1, -0.02]]))


def test_the_wrapper_clips_expression_relative_to_the_control_of_the_truth():
    evaluation = make_evaluation()
    table = score(evaluation, metrics=["dac"], gene_sets=["all"])
    clipped = clipped_response(evaluation.predicted.response, evaluation.control)
    assert table["value"].to_numpy() == pytest.approx(sign_agreement(clipped, evaluation.truth.response))


def test_overlap_of_the_strongest_genes_ignores_sign_and_size():
    truth = np.array([[3.0, -2.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    predicted = np.array([[-0.2, 0.1, 0.3, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert jaccard_top(predicted, truth, genes=names(4), k=2) == pytest.approx([1 / 3, np.nan], nan_ok=True)
    assert jaccard_top(-5 * truth, truth, genes=names(4), k=2)[0] == 1.0


def test_no_change_has_no_overlap():
    truth = np.random.default_rng(0).normal(size=(3, 10))
    assert jaccard_top(np.zeros_like(truth), truth, genes=names(10), k=5).tolist() == [0, 0, 0]


def test_random_profiles_overlap_as_chance_says():
    rng = np.random.default_rng(0)
    predicted, truth = rng.normal(size=(2, 400, 200))
    common = 20 * 20 / 200  # hypergeometric mean of |A ∩ B|
    found = jaccard_top(predicted, truth, genes=np.array([f"G{gene:03d}" for gene in range(200)], dtype=object), k=20)
    assert found.mean() == pytest.approx(common / (40 - common), rel=0.1)


def test_the_overlap_leaves_out_the_genes_outside_the_mask():
    evaluation = make_evaluation()
    leak = np.zeros_like(evaluation.truth.response)
    column = {gene: position for position, gene in enumerate(evaluation.truth.genes)}
    for row, query in enumerate(evaluation.truth.queries):
        leak[row, [column[target] for target in query.condition.split("+")]] = -5.0
    table = score(with_prediction(evaluation, leak), metrics=["jaccard50"], gene_sets=["all-notarget"])
    assert (table["value"] == 0).all()


def test_direction_accuracy_looks_at_significant_genes_where_cells_are_known():
    evaluation = make_evaluation()
    table = score(evaluation, metrics=["direction_accuracy"], gene_sets=["significant"])
    expected = direction_accuracy(
        evaluation.predicted.response, evaluation.truth.response, mask=evaluation.de.p_adjusted < 0.05
    )
    assert table["value"].to_numpy() == pytest.approx(expected)
