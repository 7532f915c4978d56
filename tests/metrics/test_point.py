"""Distances between mean profiles, and the gene sets that they are taken over."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from profiles import REPEATABLE, pairs
from worlds import make_evaluation, predict, with_prediction

from perturbcast.data.conditions import targets_of
from perturbcast.data.scale import Scale
from perturbcast.errors import (
    BadOption,
    MetricNeeds,
    NotFinite,
    ShapesDiffer,
    UnknownMetric,
    UnknownOption,
    WrongScale,
)
from perturbcast.metrics.base import Evaluation, cached, get_metric
from perturbcast.metrics.gene_sets import describe_gene_set, gene_set_mask, gene_set_masks, gene_set_reasons, top_mask
from perturbcast.metrics.point import excess_l2, l2, mae, mse, mse_normalised, rmse
from perturbcast.metrics.score import score


@REPEATABLE
@given(pairs())
def test_the_distances_hang_together(pair):
    predicted, truth = pair
    n_genes = truth.shape[1]
    assert l2(predicted, truth) == pytest.approx(np.sqrt(n_genes) * rmse(predicted, truth))
    assert rmse(predicted, truth) ** 2 == pytest.approx(mse(predicted, truth))
    assert (mae(predicted, truth) <= rmse(predicted, truth) * (1 + 1e-12)).all()


@REPEATABLE
@given(pairs())
def test_a_mask_is_the_same_as_leaving_genes_out(pair):
    predicted, truth = pair
    keep = np.arange(truth.shape[1]) % 2 == 0
    mask = np.tile(keep, (len(truth), 1))
    for metric in (l2, rmse, mae, mse):
        assert metric(predicted, truth, mask=mask) == pytest.approx(metric(predicted[:, keep], truth[:, keep]))


@REPEATABLE
@given(pairs())
def test_l2_is_a_metric_in_the_sense_of_mathematics(pair):
    predicted, truth = pair
    zero = np.zeros_like(truth)
    assert l2(predicted, truth) == pytest.approx(l2(truth, predicted))
    assert (l2(predicted, truth) <= (l2(predicted, zero) + l2(zero, truth)) * (1 + 1e-12)).all()


def test_predicting_no_change_has_normalised_error_one_and_an_unchanged_truth_has_none():
    truth = np.array([[1.0, -2.0], [0.0, 0.0]])
    assert mse_normalised(np.zeros((2, 2)), truth) == pytest.approx([1.0, np.nan], nan_ok=True)


def test_excess_l2_of_the_exact_mean_is_zero_within_noise():
    """A perfect model's L2 is all sampling noise: excess is 0 in about half of the draws and small otherwise."""
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(200, 25, 300))
    truth, variance = cells.mean(axis=1), cells.var(axis=1, ddof=1)
    exact = np.zeros_like(truth)
    excess = excess_l2(exact, truth, variance=variance, n_cells=np.full(200, 25))
    assert (excess**2).mean() < 0.05 * (l2(exact, truth) ** 2).mean()
    assert 0.3 < (excess == 0).mean() < 0.7


def test_top_genes_are_the_highest_in_control_ties_by_order_of_appearance():
    evaluation = make_evaluation(n_queries=2, n_genes=5)
    control = np.array([[1.0, 3.0, 1.0, 3.0, 1.0]])
    truth = dataclasses.replace(evaluation.truth, control=control)
    evaluation = Evaluation(truth, predict(truth, truth.response), evaluation.training)
    assert gene_set_mask(evaluation, "top3")[0].tolist() == [True, True, False, True, False]
    assert gene_set_mask(evaluation, "top9")[0].all()


def test_differential_genes_are_by_rank_sum_where_cells_are_known_and_by_response_otherwise():
    evaluation = make_evaluation()
    by_z = gene_set_mask(evaluation, "de10")
    strength = np.abs(evaluation.de.z)
    assert (by_z.sum(axis=1) == 10).all()
    assert (np.where(by_z, strength, np.inf).min(axis=1) >= np.where(by_z, -np.inf, strength).max(axis=1)).all()
    without = make_evaluation(cells=False)
    assert (gene_set_mask(without, "de10") == gene_set_mask(evaluation, "delta10")).all()
    assert "rank-sum" in describe_gene_set(evaluation, "de10")
    assert "response" in describe_gene_set(without, "de10")


def test_own_targets_are_left_out_before_ranking():
    evaluation = make_evaluation()
    for name, size in (("de10-notarget", 10), ("top10-notarget", 10)):
        mask = gene_set_mask(evaluation, name)
        assert (mask.sum(axis=1) == size).all()
        for row, query in enumerate(evaluation.truth.queries):
            assert not set(evaluation.truth.genes[mask[row]]) & set(targets_of(query.condition))
    every = gene_set_mask(evaluation, "all-notarget")
    expected = [60 - len(targets_of(query.condition)) for query in evaluation.truth.queries]
    assert every.sum(axis=1).tolist() == expected


def test_a_gene_that_falls_silent_in_the_query_alone_is_a_dropout():
    evaluation = make_evaluation(n_queries=2, n_genes=4)
    control = np.array([[1.0, 0.0, 2.0, 0.0]])
    response = np.array([[-1.0, 0.0, 0.5, 0.2], [0.5, 0.0, -2.0, 0.0]])
    truth = dataclasses.replace(evaluation.truth, control=control, response=response)
    evaluation = Evaluation(truth, predict(truth, response), evaluation.training)
    mask = gene_set_mask(evaluation, "all-nondropout")
    assert mask.tolist() == [[False, True, True, True], [True, True, False, True]]


def test_variable_genes_look_at_the_training_side_only():
    evaluation = make_evaluation()
    truth = dataclasses.replace(evaluation.truth, response=evaluation.truth.response[:, ::-1].copy())
    other = Evaluation(truth, predict(truth, truth.response), evaluation.training)
    assert (gene_set_mask(evaluation, "hvg15") == gene_set_mask(other, "hvg15")).all()
    assert gene_set_mask(evaluation, "hvg15").sum() == 15 * evaluation.truth.n_queries


def test_ties_in_importance_are_broken_by_name_not_by_position():
    genes = np.array(["C", "A", "B"], dtype=object)
    assert top_mask(np.ones((1, 3)), genes, k=2).tolist() == [[False, True, True]]
    assert top_mask(np.array([[np.nan, 1.0, -np.inf]]), genes, k=3).tolist() == [[False, True, False]]


def test_responses_alone_give_a_reason_for_the_gene_sets_that_need_more():
    evaluation = make_evaluation(responses_only=True)
    names = ("all", "top1000", "de20", "hvg", "significant", "de20-nondropout")
    assert set(gene_set_masks(evaluation, names)) == {"all", "de20", "hvg"}
    reasons = gene_set_reasons(evaluation, names)
    assert set(reasons) == {"top1000", "significant", "de20-nondropout"}
    assert all(reason.startswith("E602 MetricNeeds: ") for reason in reasons.values())
    table = score(evaluation, metrics=["l2"], gene_sets=["all", "top1000"])
    refused = table[table["gene_set"] == "top1000"]
    assert refused[["condition", "context"]].to_numpy().tolist() == [["*", "*"]]
    assert refused["reason"].str.startswith("E602").all()
    assert (table["gene_set"] == "all").sum() == evaluation.truth.n_queries


@pytest.mark.parametrize("name", ["tops", "top0", "top", "de", "all20", "all-target", "de20-", "significant5"])
def test_unknown_gene_sets_are_refused(name):
    with pytest.raises(UnknownOption, match="E109"):
        gene_set_mask(make_evaluation(n_queries=2), name)


def test_the_long_table_has_a_row_per_query_metric_and_gene_set():
    evaluation = make_evaluation(n_contexts=2)
    table = score(evaluation, metrics=["l2", "mae"], gene_sets=["all", "de20"])
    assert list(table.columns) == ["condition", "context", "metric", "gene_set", "value", "reason"]
    assert len(table) == 4 * evaluation.truth.n_queries
    first = table[(table["metric"] == "l2") & (table["gene_set"] == "all")]
    assert first["condition"].tolist() == list(evaluation.truth.conditions)
    assert first["context"].tolist() == [query.context for query in evaluation.truth.queries]
    assert first["value"].to_numpy() == pytest.approx(l2(evaluation.predicted.response, evaluation.truth.response))


def test_the_short_profile_is_part_of_the_full_one():
    evaluation = make_evaluation(n_queries=4)
    core, full = (set(score(evaluation, profile=profile)["metric"]) for profile in ("core", "full"))
    assert {"l2", "pearson_delta", "wmse", "pds_cosine"} <= core < full


def test_names_that_do_not_exist_are_refused_with_the_nearest():
    evaluation = make_evaluation(n_queries=2)
    with pytest.raises(UnknownMetric, match="pearson_delta"):
        score(evaluation, metrics=["pearson_detla"])
    with pytest.raises(BadOption, match="E110"):
        score(evaluation, profile="short")
    with pytest.raises(UnknownMetric):
        get_metric("L2")
    assert score(evaluation, metrics=[]).empty


def test_an_evaluation_refuses_what_does_not_fit_together():
    evaluation = make_evaluation(n_queries=4)
    truth, predicted = evaluation.truth, evaluation.predicted
    with pytest.raises(ShapesDiffer, match="queries"):
        Evaluation(truth.take(np.array([0, 1])), predicted, evaluation.training)
    with pytest.raises(ShapesDiffer, match="training"):
        Evaluation(truth, predicted, dataclasses.replace(evaluation.training, genes=truth.genes[::-1]))
    with pytest.raises(WrongScale, match="E305"):
        Evaluation(dataclasses.replace(truth, scale=Scale.ZSCORE), predicted, evaluation.training)
    reordered = dataclasses.replace(evaluation.de, queries=evaluation.de.queries[::-1])
    with pytest.raises(ShapesDiffer, match="differential"):
        Evaluation(truth, predicted, evaluation.training, de=reordered)
    broken = truth.response.copy()
    broken[1, 2] = np.nan
    with pytest.raises(NotFinite, match="prediction has NaN"):
        with_prediction(evaluation, broken)


def test_a_gene_set_that_needs_training_says_so():
    evaluation = make_evaluation(n_queries=2)
    alone = Evaluation(evaluation.truth, evaluation.predicted, evaluation.training.take(np.array([], dtype=int)))
    with pytest.raises(MetricNeeds, match="two training"):
        gene_set_mask(alone, "hvg")


def test_a_cached_result_belongs_to_one_mask_and_one_name():
    evaluation = make_evaluation(n_queries=2)
    first, second = np.zeros((2, 60), dtype=bool), np.zeros((2, 60), dtype=bool)
    assert cached(evaluation, "a", first, lambda: 1) == 1
    assert cached(evaluation, "a", first, lambda: 2) == 1
    assert cached(evaluation, "a", second, lambda: 3) == 3
    assert cached(evaluation, "b", first, lambda: 4) == 4
