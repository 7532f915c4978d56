"""What a replicate and a perfect model score."""

import dataclasses

import numpy as np
import pytest
from worlds import make_evaluation

from perturbcast.errors import BadOption, MetricNeeds
from perturbcast.metrics.ceilings import (
    adjusted_p,
    attainable_correlation,
    ceiling_evaluation,
    ceiling_scores,
    half_table,
    interpolated_duplicate,
    no_change,
    perturbed_mean,
    spearman_brown,
    split_half_reliability,
    technical_duplicate,
)
from perturbcast.metrics.point import l2


def test_the_duplicate_is_one_half_against_the_other():
    truth = make_evaluation().truth
    half, duplicate = technical_duplicate(truth)
    assert np.array_equal(half.response, truth.response_halves[0])
    assert np.array_equal(duplicate.response, truth.response_halves[1])
    assert half.n_cells.tolist() == [12] * truth.n_queries
    assert duplicate.predicted.all()


def test_an_odd_cell_belongs_to_the_first_half():
    truth = dataclasses.replace(make_evaluation(n_queries=2).truth, n_cells=np.array([7, 8]))
    assert [half_table(truth, half).n_cells.tolist() for half in (0, 1)] == [[4, 4], [3, 4]]


def test_queries_without_a_second_half_are_left_out():
    truth = make_evaluation(n_queries=4).truth
    halves = truth.response_halves.copy()
    halves[1, 2] = np.nan
    half, duplicate = technical_duplicate(dataclasses.replace(truth, response_halves=halves))
    assert half.queries == duplicate.queries == truth.queries[:2] + truth.queries[3:]


def test_the_interpolated_duplicate_lies_between_replicate_and_training_mean():
    evaluation = make_evaluation(n_queries=20)
    _, duplicate = technical_duplicate(evaluation.truth)
    _, between = interpolated_duplicate(evaluation.truth, evaluation.training)
    ends = np.stack([duplicate.response, np.tile(evaluation.perturbed_mean, (20, 1))])
    assert (between.response >= ends.min(axis=0) - 1e-12).all()
    assert (between.response <= ends.max(axis=0) + 1e-12).all()


def test_the_interpolated_duplicate_takes_nothing_from_the_half_it_is_scored_on():
    evaluation = make_evaluation(n_queries=8)
    truth = evaluation.truth
    halves = truth.response_halves.copy()
    halves[0] = np.random.default_rng(0).normal(size=halves[0].shape)
    other = dataclasses.replace(truth, response_halves=halves, response=halves[0])
    before, after = (interpolated_duplicate(table, evaluation.training)[1] for table in (truth, other))
    assert np.array_equal(before.response, after.response)


def test_interpolation_comes_closer_to_the_expected_profile_than_the_raw_half():
    """Few specific genes and much noise: shrinking what shows no effect must help on average."""
    rng = np.random.default_rng(0)
    evaluation = make_evaluation(n_queries=30, n_genes=120)
    size = (30, 120)
    effect = rng.normal(size=size) * (rng.random(size) < 0.05)
    halves = effect + 0.3 * rng.normal(size=(2, *size))
    noise = {"variance": np.full(size, 12 * 0.09), "n_cells": np.full(30, 24)}
    truth = dataclasses.replace(evaluation.truth, response=halves.mean(axis=0), response_halves=halves, **noise)
    training = dataclasses.replace(evaluation.training, response=0.05 * rng.normal(size=size), **noise)
    half, duplicate = technical_duplicate(truth)
    _, between = interpolated_duplicate(truth, training)
    assert l2(between.response, half.response).mean() < 0.85 * l2(duplicate.response, half.response).mean()


def test_spearman_brown_predicts_the_correlation_of_wholes_from_that_of_halves():
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(300, 200))
    quarters = [signal + 2 * rng.normal(size=signal.shape) for _ in range(4)]
    of_quarters = split_half_reliability(quarters[0], quarters[1]).mean()
    of_halves = split_half_reliability(quarters[0] + quarters[1], quarters[2] + quarters[3]).mean()
    assert spearman_brown(np.array([of_quarters])) == pytest.approx([of_halves], abs=0.01)
    whole = sum(quarters)
    of_signal = split_half_reliability(signal, whole).mean()
    assert attainable_correlation(np.array([of_halves])) == pytest.approx([of_signal], abs=0.01)
    assert attainable_correlation(np.array([-0.3])).tolist() == [0.0]


def test_the_ceiling_of_a_perfect_model_is_what_a_perfect_model_scores():
    """Cells are drawn around a known response; the formulas must meet what that response scores."""
    rng = np.random.default_rng(0)
    evaluation = make_evaluation(n_queries=16, n_genes=300)
    size = evaluation.truth.response.shape
    shared = evaluation.perturbed_mean
    signal = 3 * shared + 0.3 * rng.normal(size=size)
    cells = signal + 1.5 * rng.normal(size=(40, *size))
    truth = dataclasses.replace(
        evaluation.truth,
        response=cells.mean(axis=0),
        variance=cells.var(axis=0, ddof=1),
        n_cells=np.full(len(signal), 40),
        response_halves=np.array([cells[:20].mean(axis=0), cells[20:].mean(axis=0)]),
    )
    metrics = ["l2", "pearson_delta", "pearson_delta_perturbed"]
    table = ceiling_scores(truth, evaluation.training, metrics=metrics, gene_sets=["all"])
    table = table[table["model"] == "ceiling:perfect"].groupby("metric")["value"].mean()
    measured = split_half_reliability(signal, truth.response).mean()
    against_mean = split_half_reliability(signal - shared, truth.response - shared).mean()
    assert against_mean < measured - 0.02
    assert table["l2"] == pytest.approx(l2(signal, truth.response).mean(), rel=0.02)
    assert table["pearson_delta"] == pytest.approx(measured, abs=0.01)
    assert table["pearson_delta_perturbed"] == pytest.approx(against_mean, abs=0.01)


def test_ceilings_come_as_rows_of_the_long_table_over_the_same_gene_sets():
    evaluation = make_evaluation()
    table = ceiling_scores(evaluation.truth, evaluation.training, de=evaluation.de, metrics=["l2", "pds_cosine"])
    assert set(table["model"]) == {"ceiling:duplicate", "ceiling:interpolated", "ceiling:perfect"}
    per_model = table.groupby("model")
    sets = set(per_model.get_group("ceiling:duplicate")["gene_set"])
    assert {"all", "top1000", "de20", "hvg"} <= sets
    perfect = per_model.get_group("ceiling:perfect")
    assert set(perfect["metric"]) == {"l2"}
    assert set(table.columns) == {"condition", "context", "metric", "gene_set", "value", "reason", "model"}


def test_responses_alone_have_the_ceiling_of_other_genes_and_an_unknown_kind_is_refused():
    evaluation = make_evaluation(responses_only=True)
    table = ceiling_scores(evaluation.truth, evaluation.training)
    assert set(table["model"]) == {"ceiling:other-genes"}
    few = evaluation.training.take(np.arange(5))
    assert ceiling_scores(evaluation.truth, few).empty
    with pytest.raises(MetricNeeds, match="no cells"):
        ceiling_evaluation(make_evaluation().truth, evaluation.training, kind="other-genes")
    with pytest.raises(MetricNeeds, match="halves"):
        ceiling_evaluation(evaluation.truth, evaluation.training, kind="duplicate")
    with pytest.raises(BadOption, match="interpolated"):
        ceiling_evaluation(evaluation.truth, evaluation.training, kind="triplicate")


def test_without_variances_only_the_interpolated_duplicate_is_missing():
    evaluation = make_evaluation()
    truth = dataclasses.replace(evaluation.truth, variance=None)
    table = ceiling_scores(truth, evaluation.training, metrics=["l2", "pearson_delta"], gene_sets=["all"])
    kept = set(zip(table["model"], table["metric"], strict=True))
    assert kept == {
        ("ceiling:duplicate", "l2"),
        ("ceiling:duplicate", "pearson_delta"),
        ("ceiling:perfect", "pearson_delta"),
    }


def test_adjusted_p_is_benjamini_hochberg_within_each_query():
    p = adjusted_p(np.array([[0.0, 3.0, np.nan], [1.959964, 1.959964, 1.959964]]))
    assert p[0] == pytest.approx([1.0, 3 * 0.002699796, np.nan], nan_ok=True)
    assert p[1] == pytest.approx([0.05] * 3, rel=1e-5)


def test_floors_predict_control_and_the_training_mean():
    evaluation = make_evaluation()
    assert (no_change(evaluation.truth).response == 0).all()
    mean = perturbed_mean(evaluation.truth, evaluation.training)
    assert (mean.response == evaluation.training.response.mean(axis=0)).all()
