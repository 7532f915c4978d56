"""The summary says what the scores say, and no more."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from score_tables import refusals, score_table, singles

from perturbcast.benchmarking.compare import COLUMNS, rank_models, summarise
from perturbcast.benchmarking.signed_rank import signed_rank_p

N = 40


@pytest.fixture
def scores() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    hard = generator.lognormal(size=N)
    return score_table(
        {
            "no-change": hard + 2,
            "mean": hard + 1 + 0.1 * generator.normal(size=N),
            "good": hard + 0.1 * generator.normal(size=N),
            "same": hard + 1.0,
            "ceiling:duplicate": hard - 0.5,
        },
        singles(N),
    )


def _row(summary: pd.DataFrame, model: str, metric: str = "l2") -> pd.Series:
    rows = summary[(summary.model == model) & (summary.metric == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_model_is_compared_with_the_best_simple_baseline_other_than_itself(scores: pd.DataFrame) -> None:
    summary = summarise(scores)
    assert list(summary.columns) == list(COLUMNS)
    assert _row(summary, "good").baseline == "mean"
    assert _row(summary, "mean").baseline == "no-change"
    assert _row(summary, "no-change").baseline == "mean"


def test_verdicts_follow_the_interval_of_the_paired_difference(scores: pd.DataFrame) -> None:
    summary = summarise(scores)
    good = _row(summary, "good")
    assert good.verdict == "better"
    assert good.diff_low < good.difference < good.diff_high < 0
    assert _row(summary, "no-change").verdict == "worse"
    assert _row(summary, "same").verdict == "undecided"


def test_higher_is_better_turns_the_verdict_and_the_best_baseline(scores: pd.DataFrame) -> None:
    summary = summarise(scores, higher_is_better={"l2": True})
    assert _row(summary, "good").verdict == "worse"
    assert _row(summary, "good").baseline == "no-change"


def test_the_same_scores_give_an_undecided_verdict_without_width(scores: pd.DataFrame) -> None:
    copied = scores[scores.model == "mean"].assign(model="copy")
    copied["value"] *= 1 + 1e-13
    row = _row(summarise(pd.concat([scores, copied])), "copy")
    assert (row.difference, row.diff_low, row.diff_high) == (0, 0, 0)
    assert row.verdict == "undecided"
    assert (row.wins, row.ties, row.losses) == (0, N, 0)


def test_floor_and_ceiling_are_the_best_of_their_kind(scores: pd.DataFrame) -> None:
    summary = summarise(scores)
    good = _row(summary, "good")
    assert good.floor == _row(summary, "mean")["mean"]
    assert good.ceiling == _row(summary, "ceiling:duplicate")["mean"]


def test_profiles_of_a_baseline_are_baselines(scores: pd.DataFrame) -> None:
    renamed = scores.assign(model=scores.model.replace("mean", "mean:perturbed"))
    assert _row(summarise(renamed), "good").baseline == "mean:perturbed"


def test_only_common_queries_are_compared(scores: pd.DataFrame) -> None:
    easy = scores[(scores.model == "good") & (scores.value < scores.value.median())].assign(model="picky")
    hard_ones = sorted(set(singles(N)) - set(easy.condition))
    summary = summarise(pd.concat([scores, easy, refusals("picky", hard_ones)]))
    picky = _row(summary, "picky")
    assert (picky.n, picky.n_refused, picky.n_common) == (len(easy), N - len(easy), len(easy))
    baseline = scores[scores.model == "mean"].set_index("condition").value
    expected = (easy.set_index("condition").value - baseline).mean()
    assert picky.difference == pytest.approx(expected)


def test_a_model_that_refused_everything_keeps_its_rows(scores: pd.DataFrame) -> None:
    row = _row(summarise(pd.concat([scores, refusals("silent", singles(N))])), "silent")
    assert (row.n, row.n_refused) == (0, N)
    assert np.isnan(row["mean"])
    assert row.reason.startswith("E503")


def test_a_baseline_that_answers_few_queries_is_not_the_yardstick(scores: pd.DataFrame) -> None:
    lucky = scores[scores.model == "good"].head(4).assign(model="additive", value=-10.0)
    assert _row(summarise(pd.concat([scores, lucky])), "good").baseline == "mean"


def test_the_mean_is_over_conditions_then_seeds() -> None:
    seeds = [0, 0, 0, 1]
    table = score_table({"mean": [1.0, 2.0, 3.0, 10.0]}, ["A", "B", "C", "D"], seeds=seeds)
    row = _row(summarise(table), "mean")
    assert row["mean"] == pytest.approx((2 + 10) / 2)
    assert (row.n, row.n_scores) == (4, 4)


def test_repeating_the_same_scores_under_seeds_narrows_nothing() -> None:
    values = np.random.default_rng(1).normal(size=30)
    once = summarise(score_table({"mean": values}, singles(30)))
    thrice = score_table({"mean": np.tile(values, 3)}, singles(30) * 3, seeds=np.repeat([0, 1, 2], 30))
    again = summarise(thrice)
    np.testing.assert_allclose(once[["mean", "ci_low", "ci_high"]], again[["mean", "ci_low", "ci_high"]])
    assert (again.n[0], again.n_scores[0]) == (30, 90)


def test_fewer_than_five_common_conditions_decide_nothing() -> None:
    values = {"mean": [3.0, 3.1, 2.9, 3.0], "good": [1.0, 1.1, 1.0, 0.9]}
    assert _row(summarise(score_table(values, singles(4))), "good").verdict == "undecided"


def test_undefined_scores_and_scores_of_the_whole_data_set_are_counted_apart(scores: pd.DataFrame) -> None:
    broken = scores[scores.model == "good"].head(3).assign(value=np.nan, reason="E603 UndefinedScore: x", metric="odd")
    whole = scores[scores.model == "good"].head(1).assign(condition="*", context="*", value=0.4, metric="whole")
    summary = summarise(pd.concat([scores, broken, whole]))
    odd, total = _row(summary, "good", "odd"), _row(summary, "good", "whole")
    assert (odd.n, odd.n_undefined, odd.reason) == (0, 3, "E603 UndefinedScore: x")
    assert (total["mean"], total.n, total.n_scores) == (0.4, 0, 1)
    assert np.isnan(total.ci_low)


def test_the_order_of_the_rows_does_not_matter(scores: pd.DataFrame) -> None:
    shuffled = scores.sample(frac=1, random_state=0)
    keys = ["model", "metric"]
    left, right = (summarise(table).sort_values(keys, ignore_index=True) for table in (scores, shuffled))
    pd.testing.assert_frame_equal(left, right, rtol=1e-12)


def test_doubles_have_wider_intervals_when_one_gene_makes_the_score() -> None:
    pairs = [f"A{one}+B{two}" for one in range(6) for two in range(6)]
    effect = np.repeat(np.random.default_rng(0).normal(size=6), 6)
    clustered = _row(summarise(score_table({"mean": effect}, pairs)), "mean")
    apart = _row(summarise(score_table({"mean": effect}, singles(36))), "mean")
    assert clustered.ci_high - clustered.ci_low > 1.8 * (apart.ci_high - apart.ci_low)


def test_models_are_ranked_by_mean_rank_with_mid_ranks() -> None:
    left = score_table({"a": [1.0, 1], "b": [2.0, 2], "c": [2.0, 2]}, ["P", "Q"])
    right = score_table({"a": [0.5, 0.5], "b": [0.9, 0.9], "c": [0.1, 0.1]}, ["P", "Q"], metric="pearson_delta")
    ranked = rank_models(summarise(pd.concat([left, right]), higher_is_better={"pearson_delta": True}))
    assert dict(zip(ranked.model, ranked.mean_rank, strict=True)) == {"a": 1.5, "b": 1.75, "c": 2.75}


def test_signed_rank_p_agrees_with_scipy() -> None:
    generator = np.random.default_rng(0)
    differences = np.round(generator.normal(0.2, 1, size=(40, 5)), 1)
    differences[5:9, 2] = np.nan
    for column in range(5):
        data = differences[:, column]
        expected = stats.wilcoxon(data[np.isfinite(data)], method="asymptotic", correction=False).pvalue
        assert signed_rank_p(differences)[column] == pytest.approx(expected)
