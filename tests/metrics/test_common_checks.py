"""The same checks for every registered metric, whoever wrote it."""

import dataclasses
import functools
import math
import re

import numpy as np
import pytest
from worlds import make_evaluation, predict, with_prediction

from perturbcast.data.screen import InMemory
from perturbcast.metrics.base import Evaluation, all_metrics
from perturbcast.metrics.gene_sets import describe_gene_set, gene_set_mask
from perturbcast.metrics.score import EVERY, score

METRICS = all_metrics()
INVARIANT = [name for name, metric in METRICS.items() if not metric.card.samples]
EXACT = [name for name, metric in METRICS.items() if metric.card.reaches_perfect]
CHANCE = [name for name, metric in METRICS.items() if math.isfinite(metric.card.chance)]
TINY = 1e-9


@functools.cache
def world(prediction: str = "noisy", *, n_contexts: int = 1, n_queries: int = 12, **more: bool) -> Evaluation:
    """A shared world; its cache is shared too, so intermediate results are computed once for all metrics."""
    return make_evaluation(prediction=prediction, n_contexts=n_contexts, n_queries=n_queries, **more)


@functools.cache
def constant_worlds() -> list[Evaluation]:
    """Constant predictions, with no effect on own targets: leaving out only the query's own lifts them (retrieval)."""
    return [
        make_evaluation(n_queries=24, seed=seed, prediction="constant", n_cells=8, on_target=0.0) for seed in range(4)
    ]


@functools.cache
def near_and_far() -> list[Evaluation]:
    """A good prediction, and the same profiles given to the wrong queries."""
    evaluation = world(n_queries=24)
    truth = evaluation.truth.response
    near = 0.8 * truth + 0.05 * np.random.default_rng(0).normal(size=truth.shape)
    return [with_prediction(evaluation, response) for response in (near, np.roll(near, 1, axis=0))]


def values(evaluation: Evaluation, metric: str, gene_set: str | None = None) -> np.ndarray:
    """The scores of a metric, NaN where undefined."""
    name = gene_set or METRICS[metric].card.gene_sets[0]
    return METRICS[metric].score(evaluation, gene_set_mask(evaluation, name))


def permuted(
    evaluation: Evaluation, *, genes: np.ndarray | None = None, queries: np.ndarray | None = None
) -> Evaluation:
    """The same evaluation with genes or queries in another order."""
    columns = np.arange(evaluation.truth.n_genes) if genes is None else genes
    rows = np.arange(evaluation.truth.n_queries) if queries is None else queries

    def table(one, keep):
        one = one.take(keep)
        return dataclasses.replace(
            one,
            genes=one.genes[columns],
            response=one.response[:, columns],
            control=one.control[:, columns],
            variance=one.variance[:, columns],
            control_variance=one.control_variance[:, columns],
            response_halves=one.response_halves[:, :, columns],
        )

    truth = table(evaluation.truth, rows)
    de, screen = evaluation.de, evaluation.screen
    arrays = {name: getattr(de, name)[np.ix_(rows, columns)] for name in ("z", "p", "p_adjusted", "log2_fold_change")}
    return Evaluation(
        truth=truth,
        predicted=predict(truth, evaluation.predicted.response[np.ix_(rows, columns)]),
        training=table(evaluation.training, np.arange(evaluation.training.n_queries)),
        de=dataclasses.replace(de, queries=truth.queries, genes=truth.genes, **arrays),
        screen=dataclasses.replace(
            screen, genes=screen.genes[columns], matrix=InMemory(screen.matrix.matrix[:, columns])
        ),
        seed=evaluation.seed,
    )


def test_there_are_the_metrics_that_the_report_and_the_command_line_name():
    promised = {"l2", "rmse", "mae", "pearson_delta", "pearson_delta_perturbed", "wmse", "r2_weighted_perturbed"}
    promised |= {"cosine", "dac", "direction_accuracy", "jaccard50", "ate_rho", "ate_r2", "centroid_accuracy", "nir"}
    promised |= {"pds_cosine", "pds_l1_2025", "perturbench_rank", "perturbench_rank_paper", "excess_l2"}
    assert promised <= set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_the_card_is_complete_and_consistent(name):
    card = METRICS[name].card
    assert card.name == name
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert card.title
    assert card.formula
    assert card.source
    assert card.gene_sets
    assert card.lowest <= card.perfect <= card.highest
    assert math.isnan(card.chance) or card.lowest <= card.chance <= card.highest
    assert card.perfect == (card.highest if card.higher_is_better else card.lowest) or not card.reaches_perfect
    for gene_set in card.gene_sets:
        assert describe_gene_set(world(), gene_set).endswith(".")


@pytest.mark.parametrize("name", EXACT)
def test_the_truth_as_prediction_scores_perfect(name):
    for n_contexts in (1, 2):
        evaluation = world("perfect", n_contexts=n_contexts)
        table = score(evaluation, metrics=[name])
        defined = table[table["reason"] == ""]
        assert len(defined)
        assert defined["value"].to_numpy() == pytest.approx(METRICS[name].card.perfect, abs=1e-7)


@pytest.fixture(scope="module")
def other_gene_order() -> Evaluation:
    """The shared world with its genes in another order."""
    return permuted(world(), genes=np.random.default_rng(3).permutation(world().truth.n_genes))


@pytest.fixture(scope="module")
def query_order() -> np.ndarray:
    """Another order of the queries of two contexts."""
    return np.random.default_rng(4).permutation(world(n_contexts=2).truth.n_queries)


@pytest.fixture(scope="module")
def other_query_order(query_order) -> Evaluation:
    """The shared world of two contexts with its queries in another order."""
    return permuted(world(n_contexts=2), queries=query_order)


@pytest.mark.parametrize("name", INVARIANT)
def test_the_order_of_genes_does_not_matter(name, other_gene_order):
    for gene_set in METRICS[name].card.gene_sets:
        before, after = (values(one, name, gene_set) for one in (world(), other_gene_order))
        assert after == pytest.approx(before, rel=1e-7, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize("name", INVARIANT)
def test_the_order_of_queries_only_orders_the_scores(name, query_order, other_query_order):
    before, after = values(world(n_contexts=2), name), values(other_query_order, name)
    expected = before[query_order] if METRICS[name].card.per == "query" else before
    assert after == pytest.approx(expected, rel=1e-7, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize("name", METRICS)
def test_scores_lie_in_the_range_of_the_card_and_have_the_promised_shape(name):
    card = METRICS[name].card
    for prediction in ("noisy", "zero", "constant"):
        evaluation = world(prediction)
        for gene_set in card.gene_sets:
            scored = values(evaluation, name, gene_set)
            assert scored.shape == ((1,) if card.per == "dataset" else (evaluation.truth.n_queries,))
            assert not np.isinf(scored).any()
            known = scored[~np.isnan(scored)]
            assert (known >= card.lowest - TINY).all()
            assert (known <= card.highest + TINY).all()


@pytest.mark.parametrize("name", METRICS)
def test_a_score_is_a_number_or_has_a_reason(name):
    for evaluation in (world(), world("zero"), world("constant"), world(responses_only=True), world(cells=False)):
        table = score(evaluation, metrics=[name])
        missing = table[table["value"].isna()]
        assert missing["reason"].str.match(r"E60[23] \w+: .+").all()
        assert len(table) == len(table.drop_duplicates(["condition", "context", "metric", "gene_set"]))
        whole = set(table["condition"]) == {EVERY}
        assert whole or METRICS[name].card.per == "query"


@pytest.mark.parametrize("name", METRICS)
def test_inputs_are_left_as_they_were(name):
    evaluation = dataclasses.replace(world(), cache={})
    arrays = [
        evaluation.truth.response,
        evaluation.truth.control,
        evaluation.truth.variance,
        evaluation.truth.response_halves,
        evaluation.training.response,
        evaluation.predicted.response,
        evaluation.predicted.control,
        evaluation.de.z,
        evaluation.screen.matrix.matrix.data,
    ]
    before = [array.copy() for array in arrays]
    mask = gene_set_mask(evaluation, METRICS[name].card.gene_sets[0])
    kept = mask.copy()
    METRICS[name].score(evaluation, mask)
    assert (mask == kept).all()
    assert all(np.array_equal(array, copy) for array, copy in zip(arrays, before, strict=True))


@pytest.mark.parametrize("name", METRICS)
def test_the_same_evaluation_gives_the_same_score(name):
    scored = [values(dataclasses.replace(world(), cache={}), name) for _ in range(2)]
    assert np.array_equal(*scored, equal_nan=True)


@pytest.mark.parametrize("name", CHANCE)
def test_a_constant_prediction_scores_chance(name):
    found = [np.nanmean(values(evaluation, name)) for evaluation in constant_worlds()]
    allowed = 1 / 24 + 0.01 if METRICS[name].card.per == "query" else 0.3  # 24 numbers of 4 worlds correlate by chance
    assert np.mean(found) == pytest.approx(METRICS[name].card.chance, abs=allowed)


@pytest.mark.parametrize("name", METRICS)
def test_better_is_the_direction_that_the_card_says(name):
    scored = [np.nanmean(values(evaluation, name)) for evaluation in near_and_far()]
    assert scored[0] > scored[1] if METRICS[name].card.higher_is_better else scored[0] < scored[1]


@pytest.mark.parametrize("name", METRICS)
def test_one_query_alone_is_scored_or_refused_with_a_reason(name):
    whole = world()
    one = Evaluation(
        truth=whole.truth.take(np.array([2])),
        predicted=whole.predicted.take([2]),
        training=whole.training,
        screen=whole.screen,
    )
    table = score(one, metrics=[name])
    assert ((table["reason"] != "") | table["value"].notna()).all()


@pytest.mark.parametrize("name", METRICS)
def test_an_empty_gene_set_of_one_query_gives_no_error(name):
    evaluation = world()
    mask = gene_set_mask(evaluation, "all").copy()
    mask[1] = False
    scored = METRICS[name].score(evaluation, mask)
    assert len(scored) in (1, evaluation.truth.n_queries)


@pytest.mark.slow
def test_the_core_profile_of_250_queries_and_2000_genes_takes_under_3_seconds():
    import time

    evaluation = make_evaluation(n_queries=250, n_genes=2000, n_cells=4)
    start = time.process_time()
    table = score(evaluation)
    assert time.process_time() - start < 3
    assert (table["value"].notna() | (table["reason"] != "")).all()
