"""Genetic interactions: the empirical null, labels, detection curve, scores of C.8, and the metrics made of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cells_world import prediction_of
from scipy import stats

from perturbcast.data.conditions import Query, condition_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.errors import BadOption, MetricNeeds, NoVariance, TooFewCells
from perturbcast.metrics.base import Evaluation, get_metric
from perturbcast.metrics.empirical_null import empirical_null, natural_spline, poisson_regression
from perturbcast.metrics.interactions import (
    average_precision,
    class_thresholds,
    detection_curve,
    deviation,
    distance_correlation,
    interaction_classes,
    interaction_fit,
    interaction_labels,
    label_fractions,
    observed_fit,
    theil_sen,
)

ERRORS = tuple(f"gi_{name}_error" for name in ("magnitude", "dominance", "model_fit", "double_similarity", "equality"))


def responses(queries: list[str], response: np.ndarray) -> ResponseTable:
    n_genes = response.shape[1]
    return ResponseTable(
        name="world",
        scale=Scale.RESPONSE,
        genes=np.array([f"G{gene:04d}" for gene in range(n_genes)], dtype=object),
        queries=tuple(Query(query) for query in queries),
        response=response,
        contexts=("",),
        control=np.full((1, n_genes), np.nan),
    )


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Twelve singles, ten doubles that are additive with noise and 4 % of strong deviations; predicted: the truth."""
    rng = np.random.default_rng(0)
    singles = rng.normal(0, 0.5, (12, 300))
    pairs = [(i, j) for i in range(12) for j in range(i)][:10]
    doubles = np.array([singles[i] + singles[j] for i, j in pairs]) + rng.normal(0, 0.1, (10, 300))
    doubles += rng.choice([-1.5, 0, 1.5], doubles.shape, p=[0.02, 0.96, 0.02])
    names = [f"T{single}" for single in range(12)]
    truth = responses([condition_of([names[i], names[j]]) for i, j in pairs], doubles)
    return Evaluation(truth, prediction_of(truth, truth.response), responses(names, singles))


def score(evaluation: Evaluation, name: str) -> np.ndarray:
    return get_metric(name).score(evaluation, np.ones(evaluation.truth.response.shape, dtype=bool))


def predicting(evaluation: Evaluation, response: np.ndarray) -> Evaluation:
    return replace(evaluation, predicted=prediction_of(evaluation.truth, response), cache={})


def additive(evaluation: Evaluation) -> np.ndarray:
    row = {query.condition: position for position, query in enumerate(evaluation.training.queries)}
    parts = [query.condition.split("+") for query in evaluation.truth.queries]
    return np.array([evaluation.training.response[[row[part] for part in pair]].sum(axis=0) for pair in parts])


def test_empirical_null_finds_a_planted_one():
    rng = np.random.default_rng(1)
    null, far = rng.normal(0.02, 0.3, 285_000), rng.choice([-1, 1], 15_000) * rng.uniform(1.5, 3, 15_000)
    found = empirical_null(np.concatenate([null, far]))
    assert found.center == pytest.approx(0.02, abs=0.015)
    assert found.spread == pytest.approx(0.3, rel=0.03)  # the central 60 % say little of the spread
    assert found.share == pytest.approx(0.95, abs=0.02)
    # where .95 φ0 / f is .05, f flat beyond the null: between the null's reach and the planted values
    assert 0.75 < found.upper < 1.5
    assert -1.5 < found.lower < -0.75
    assert found.significant(far).mean() > 0.98
    assert found.significant(null).mean() < 0.01


def test_thresholds_are_where_the_local_rate_is_the_one_asked_for():
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0, 1, 50_000), rng.normal(0, 4, 8000)])
    found = empirical_null(values, rate=0.1)

    def exact(z: float) -> float:
        all_values = 50 / 58 * stats.norm.pdf(z) + 8 / 58 * stats.norm.pdf(z, 0, 4)
        return float(found.share * stats.norm.pdf(z) / all_values)

    assert exact(found.upper) == pytest.approx(0.1, abs=0.05)
    assert exact(found.lower) == pytest.approx(0.1, abs=0.05)


def test_values_that_are_all_null_have_thresholds_in_the_tails_or_nowhere():
    found = empirical_null(np.random.default_rng(3).normal(size=20_000))
    assert found.share > 0.95
    assert found.significant(np.linspace(-2.5, 2.5, 50)).sum() == 0


def test_a_null_that_cannot_be_fitted_says_so():
    with pytest.raises(TooFewCells):
        empirical_null(np.zeros(20))
    with pytest.raises(NoVariance):
        empirical_null(np.zeros(500))
    with pytest.raises(BadOption):
        empirical_null(np.arange(500.0), rate=0.0)


def test_poisson_regression_solves_its_normal_equations():
    rng = np.random.default_rng(4)
    basis = natural_spline(np.linspace(-3, 3, 120), degrees=7)
    counts = rng.poisson(200 * stats.norm.pdf(np.linspace(-3, 3, 120))).astype(float)
    fitted = poisson_regression(basis, counts)
    assert basis.shape == (120, 8)
    assert np.allclose(basis.T @ fitted, basis.T @ counts, atol=1e-4)


def test_labels_cover_every_case_and_crossing_control_is_other():
    first, second = np.array([1.0, 1, 1, 1, -1, -1]), np.array([1.0, 1, 1, -1, -1, -1])
    both = np.array([3.0, 1, -0.5, 1, -3, -1])
    labels = interaction_labels(first, second, both, lower=-0.2, upper=0.2)
    assert labels.tolist() == ["synergy", "buffering", "other", "other", "synergy", "buffering"]
    assert label_fractions(labels)["other"] == pytest.approx(1 / 3)


def test_detection_curve_of_a_perfect_and_of_an_empty_ranking():
    is_true = np.array([True, True, False, False])
    assert detection_curve(np.array([4.0, -3, 2, 1]), is_true)[0] == 1.0
    ties = detection_curve(np.zeros(4), is_true)
    assert ties[50] == 1.0  # calling all at once: half are false
    assert ties[25] == pytest.approx(0.5)
    assert np.isnan(detection_curve(np.ones(4), np.zeros(4, dtype=bool))).all()


def test_detection_curve_follows_its_definition_point_by_point():
    is_true = np.array([True, False, True, False, False, True])
    curve = detection_curve(np.array([6.0, 5, 4, 3, 2, 1]), is_true)
    assert curve[0] == pytest.approx(1 / 3)
    assert curve[33] == pytest.approx(1 / 3 + 1 / 3 * 0.33 * 3, abs=0.01)
    assert curve[50] == 1.0


def test_average_precision_is_that_of_sklearn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(5)
    for _ in range(20):
        strength, is_true = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.2
        if is_true.any():
            assert average_precision(strength, is_true) == pytest.approx(average_precision_score(is_true, strength))
    assert np.isnan(average_precision(np.ones(3), np.zeros(3, dtype=bool)))


def test_theil_sen_is_near_that_of_sklearn_and_unmoved_by_outliers():
    from sklearn.linear_model import TheilSenRegressor

    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(2, 120))
    ab = 1.2 * a - 0.4 * b + rng.normal(0, 0.1, 120)
    ab[:12] += 8
    peer = TheilSenRegressor(fit_intercept=False, max_subpopulation=3000, random_state=0)
    expected = peer.fit(np.column_stack([a, b]), ab).coef_
    assert theil_sen(a, b, ab) == pytest.approx(tuple(expected), abs=0.05)
    assert theil_sen(a, b, ab) == pytest.approx((1.2, -0.4), abs=0.05)


def test_singles_that_are_multiples_of_each_other_have_no_fit():
    a = np.arange(1.0, 6.0)
    assert theil_sen(a, 2 * a, 3 * a) == (0.0, 0.0)


def test_distance_correlation_is_one_for_a_scaled_copy_and_finds_what_pearson_misses():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(2, 400, 1))
    assert distance_correlation(x, 3 - 2 * x) == pytest.approx(1.0)
    assert distance_correlation(x, x**2) > 0.4 > abs(np.corrcoef(x[:, 0], x[:, 0] ** 2)[0, 1])
    assert distance_correlation(x, y) < 0.15
    assert distance_correlation(x, np.zeros((400, 1))) == 0.0


def test_classes_follow_the_scores():
    rng = np.random.default_rng(8)
    a, b, new = rng.normal(size=(3, 60))
    kinds = {
        "synergy": 2 * (a + b),
        "suppression": 0.1 * (a + b),
        "neomorphism": 3 * new,
        "epistasis": a + 0.01 * b,
        "plain": a + b,
    }
    fits = {kind: interaction_fit(a, b, both + rng.normal(0, 0.05, 60)) for kind, both in kinds.items()}
    thresholds = class_thresholds(list(fits.values()))
    for kind in ("synergy", "suppression", "neomorphism", "epistasis"):
        assert kind in interaction_classes(fits[kind], thresholds) or kind == "suppression", kind
    assert fits["synergy"].magnitude > fits["plain"].magnitude > fits["suppression"].magnitude
    assert not interaction_classes(fits["plain"], thresholds) & {"synergy", "neomorphism", "epistasis"}


def test_the_truth_is_perfect_and_the_additive_model_finds_nothing(evaluation):
    sums = predicting(evaluation, additive(evaluation))
    assert score(evaluation, "interaction_pearson") == pytest.approx(np.ones(10))
    assert score(sums, "interaction_pearson").tolist() == [0.0] * 10
    assert score(evaluation, "interaction_label_accuracy") == pytest.approx(np.ones(10))
    assert score(sums, "interaction_label_accuracy").max() <= 0.5
    assert score(evaluation, "interaction_average_precision").min() > 0.95
    assert score(sums, "interaction_average_precision").max() < 0.1


def test_a_damped_sum_ranks_no_interaction_but_is_not_scored_as_additive(evaluation):
    damped = predicting(evaluation, 0.5 * additive(evaluation))
    assert score(damped, "interaction_average_precision").max() < 0.4
    assert score(damped, "gi_magnitude_error").min() > 0.4


def test_errors_of_interaction_scores_are_zero_for_the_truth_only(evaluation):
    everything = np.ones(evaluation.truth.response.shape, dtype=bool)
    wrong = predicting(evaluation, np.roll(evaluation.truth.response, 1, axis=0))
    for name in ERRORS:
        assert get_metric(name).score(evaluation, everything) == pytest.approx(np.zeros(10)), name
        assert get_metric(name).score(wrong, everything).mean() > 0.05, name


def test_classes_of_the_truth_agree_and_need_three_doubles(evaluation):
    assert score(evaluation, "gi_class_jaccard") == pytest.approx(np.ones(10))
    rows = np.arange(2)
    few = Evaluation(evaluation.truth.take(rows), evaluation.predicted.take(rows), evaluation.training)
    assert np.isnan(score(few, "gi_class_jaccard")).all()


def test_queries_that_are_no_doubles_have_no_score_and_all_such_a_reason(evaluation):
    names = [query.condition for query in evaluation.truth.queries]
    mixed = responses([*names, "T3"], np.vstack([evaluation.truth.response, evaluation.training.response[3:4]]))
    with_single = Evaluation(mixed, prediction_of(mixed, mixed.response), evaluation.training)
    assert np.flatnonzero(np.isnan(score(with_single, "interaction_pearson"))).tolist() == [10]
    nothing = replace(evaluation, training=evaluation.training.take(np.zeros(0, dtype=np.int64)), cache={})
    with pytest.raises(MetricNeeds, match="singles"):
        score(nothing, "interaction_pearson")


def test_norman_doubles_are_mostly_additive(shared: Path):
    from anndata import read_h5ad

    data = read_h5ad(shared / "data" / "responses" / "norman2019_k562_crispra.h5ad")
    response = dict(zip(data.obs["condition"], np.asarray(data.X, dtype=float), strict=True))
    parts = {name: name.split("+") for name in response if "+" in name}
    pairs = {name: pair for name, pair in parts.items() if all(part in response for part in pair)}
    assert len(pairs) == 126
    first, second, both = (
        np.array([response[name(pair)] for pair in pairs])
        for name in (lambda pair: pairs[pair][0], lambda pair: pairs[pair][1], lambda pair: pair)
    )
    null = empirical_null(deviation(first, second, both))
    shares = label_fractions(interaction_labels(first, second, both, lower=null.lower, upper=null.upper))
    assert 0.93 < shares["additive"] < 0.99  # spec D-12: 95.94 % on the 1,000 most expressed genes of the cells
    assert shares["buffering"] > shares["synergy"]
    assert -1.3 < null.lower < -0.7 < 0.7 < null.upper < 1.3


def test_remembered_fit_of_an_observed_double_is_the_fit():
    first, second = np.random.default_rng(3).normal(size=(2, 40))
    both = 0.7 * first + 0.4 * second
    assert observed_fit(first, second, both) == interaction_fit(first, second, both)
    assert observed_fit(first, second, both) is observed_fit(first.copy(), second.copy(), both.copy())
