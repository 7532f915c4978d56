"""No attack wins on the honest profile; the attacks do what they say; the page of metrics is up to date."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from cells_world import cells_world, evaluation_of, prediction_of

from perturbcast.data.scale import Scale
from perturbcast.errors import BadOption
from perturbcast.metrics.attacks import (
    ATTACKS,
    HONEST_PROFILE,
    attack_table,
    attacked,
    consensus,
    get_attack,
    honest_responses,
    profile_table,
)
from perturbcast.metrics.base import Evaluation, all_metrics

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metric_docs", ROOT / "scripts" / "metric_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def honest(docs) -> Evaluation:
    """A calibrated model of half the queries of a small simulated screen."""
    return docs.stage(noise=0.7, shrink=True, n_cells=1800, n_genes=120, n_targets=40, n_doubles=10)[0]


@pytest.fixture(scope="module")
def small() -> Evaluation:
    return evaluation_of(cells_world(n_queries=10, n_genes=60, n_cells=30, n_control=100))


def responses_only(evaluation: Evaluation) -> Evaluation:
    """The same evaluation as a file of responses would give it."""

    def bare(table):
        unknown = np.full_like(table.control, np.nan)
        return replace(
            table, scale=Scale.RESPONSE, control=unknown, n_cells=None, variance=None, n_control=None,
            control_variance=None, response_halves=None,
        )  # fmt: skip

    truth = bare(evaluation.truth)
    return Evaluation(truth, prediction_of(truth, evaluation.predicted.response), bare(evaluation.training))


def test_there_are_at_least_twelve_attacks_with_the_names_that_cards_use():
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names) >= 12
    named = {attack for metric in all_metrics().values() for attack in metric.card.gameable_by}
    assert named <= set(names)


def test_no_attack_wins_on_the_honest_profile(honest):
    table = profile_table(honest, n_bootstrap=300)
    assert (table["verdict"] == "beaten").all(), table[table["verdict"] != "beaten"]


def test_no_attack_wins_on_the_profile_that_responses_alone_allow(honest):
    table = profile_table(responses_only(honest), n_bootstrap=300)
    assert not (table["verdict"] == "wins").any(), table
    assert (table["verdict"] == "beaten").sum() >= len(ATTACKS) - 1


def test_what_throws_knowledge_away_does_not_win_against_an_overconfident_model(docs):
    loud = docs.stage(noise=1.5, shrink=False, n_cells=1800, n_genes=120, n_targets=40, n_doubles=10)[0]
    ignorant = ("control mean", "perturbed mean", "constant", "duplicated control", "shuffled", "own-target leak")
    table = profile_table(loud, attacks=[get_attack(name) for name in ignorant], n_bootstrap=300)
    assert not (table["verdict"] == "wins").any(), table


def test_the_profile_is_not_held_up_by_one_metric_alone(honest):
    for left_out in HONEST_PROFILE[1:]:
        rest = tuple(pair for pair in HONEST_PROFILE if pair != left_out)
        table = profile_table(honest, attacks=ATTACKS[:3], profile=rest, n_bootstrap=200)
        assert not (table["verdict"] == "wins").any(), left_out


def test_single_metrics_do_fall_or_are_blind(honest):
    table = attack_table(
        honest,
        attacks=[get_attack("inflated"), get_attack("shrunk")],
        metrics=["pearson_delta", "pds_cosine", "l2", "within_one_sd"],
        n_bootstrap=200,
    )
    verdict = table.set_index(["attack", "metric", "gene_set"])["verdict"]
    assert verdict["inflated", "pearson_delta", "all"] == "blind"
    assert verdict["inflated", "pds_cosine", "all"] == "blind"
    assert verdict["inflated", "l2", "all"] == "holds"
    assert set(table["verdict"]) <= {"falls", "blind", "holds", "unscored"}


def test_plain_error_falls_to_the_mean_where_a_model_is_overconfident(docs):
    loud = docs.stage(noise=1.5, shrink=False, n_cells=1500, n_genes=120, n_targets=30, n_doubles=4)[0]
    table = attack_table(loud, attacks=[get_attack("perturbed mean")], metrics=["l2", "pearson_delta_perturbed"])
    verdict = table.set_index(["metric", "gene_set"])["verdict"]
    assert verdict["l2", "all"] == "falls"
    assert verdict["pearson_delta_perturbed", "all"] == "holds"


def test_a_prediction_is_even_with_itself(small):
    table = consensus(small, replace(small, cache={}))
    assert (table.to_numpy() == 0.5).all()
    assert list(table.columns) == [f"{metric}/{gene_set}" for metric, gene_set in HONEST_PROFILE]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attacks_repeat_change_the_prediction_and_leave_their_input(small, attack):
    before = small.predicted.response.copy()
    first, again = (attack(small.predicted, small.training, seed=3) for _ in range(2))
    assert np.array_equal(first.response, again.response)
    assert np.isfinite(first.response).all()
    assert not np.allclose(first.response, before)
    assert np.array_equal(small.predicted.response, before)
    assert np.isfinite(attacked(responses_only(small), attack).predicted.response).all()


def test_attacks_do_what_their_names_say(small):
    def of(name: str) -> np.ndarray:
        return get_attack(name)(small.predicted, small.training).response

    honest = small.predicted.response
    control = small.predicted.control
    assert (of("control mean") == 0).all()
    assert np.allclose(of("perturbed mean"), small.training.response.mean(axis=0))
    assert np.array_equal(of("constant"), np.tile(honest[0], (len(honest), 1)))
    assert sorted(map(tuple, of("shuffled"))) == sorted(map(tuple, honest))
    assert not any(np.array_equal(a, b) for a, b in zip(of("shuffled"), honest, strict=True))
    assert np.allclose(np.sort(of("genes shuffled"), axis=1), np.sort(honest, axis=1))
    assert np.allclose(of("log of log") + control, np.log1p(np.maximum(control + honest, 0)))
    assert np.allclose(of("wrong scale") + control, (control + honest) / np.log(2))
    assert ((of("extremes only") != 0).sum(axis=1) == 20).all()
    assert np.abs(of("clipped")).max() == pytest.approx(np.quantile(np.abs(small.training.response), 0.5))
    leak = of("own-target leak") - of("perturbed mean")
    assert ((leak != 0).sum(axis=1) == 1).all()
    mean = small.training.response.mean(axis=0)
    _, size, axes = np.linalg.svd(small.training.response - mean, full_matrices=False)
    before, after = (honest - mean) @ axes.T, (of("evened") - mean) @ axes.T
    strong = size > np.median(size)
    assert np.allclose(np.diff((after * size / before)[:, strong]), 0, atol=1e-6 * size[0])
    assert np.linalg.norm(of("evened") - mean) == pytest.approx(np.linalg.norm(honest - mean))
    sizes = np.abs(of("sign-only"))
    assert np.allclose(sizes, sizes[:, :1])


def test_discrimination_falls_to_evening_where_the_strongest_pattern_is_predicted_badly():
    rng = np.random.default_rng(0)
    bare = responses_only(evaluation_of(cells_world(n_queries=40, n_genes=60, n_cells=5, n_control=20)))
    n_queries, n_genes = bare.truth.response.shape
    patterns, strength = rng.normal(size=(6, n_genes)), np.array([8.0, 1, 1, 1, 1, 1])
    known, asked = (strength * rng.normal(size=(n, 6)) for n in (bare.training.n_queries, n_queries))
    guessed = np.column_stack([strength[0] * rng.normal(size=n_queries), asked[:, 1:]])
    training = replace(bare.training, response=known @ patterns)
    truth = replace(bare.truth, response=asked @ patterns)
    evaluation = Evaluation(truth, prediction_of(truth, guessed @ patterns), training)
    table = attack_table(evaluation, attacks=[get_attack("evened")], metrics=["pds_cosine_perturbed", "l2"])
    verdict = table.set_index(["metric", "gene_set"])["verdict"]
    assert verdict["pds_cosine_perturbed", "all"] == "falls"


def test_an_unknown_attack_offers_the_nearest():
    with pytest.raises(BadOption, match="shuffled"):
        get_attack("shufled")


def test_the_honest_model_is_better_than_the_mean_and_shrinks_as_it_should(small):
    exact, training = small.truth.response, small.training
    errors = {
        shrink: np.mean(
            [
                ((honest_responses(exact, training, noise=1.0, shrink=shrink, seed=seed) - exact) ** 2).mean()
                for seed in range(5)
            ]
        )
        for shrink in (True, False)
    }
    assert errors[True] < ((training.perturbed_mean() - exact) ** 2).mean()
    assert errors[True] < errors[False]


def test_the_page_of_metrics_is_up_to_date(docs):
    text = docs.PAGE.read_text(encoding="utf-8")
    assert text.split(docs.MARK)[0] == docs.cards(), "run: python scripts/metric_docs.py"


def test_the_page_has_every_metric_every_attack_and_what_falls(docs):
    text = docs.PAGE.read_text(encoding="utf-8")
    assert all(f"### {name}\n" in text for name in all_metrics())
    assert all(f"| {attack.name} |" in docs.staged(text) for attack in ATTACKS)
    assert docs.staged(text).count("overconfident, falls:") == len(ATTACKS)
