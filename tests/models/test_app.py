"""APP as a model: what `plus` contains, what attention adds where there is something to add, and its explanations."""

import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest
from model_worlds import mean_l2, table_of
from typer.testing import CliRunner

from perturbcast.cli import app as cli
from perturbcast.data.conditions import Query
from perturbcast.errors import BadOption, OutputExists, UnknownTarget
from perturbcast.genes.knowledge import EmbeddingTable, GeneKnowledge
from perturbcast.models.app import App
from perturbcast.models.base import TrainingData
from perturbcast.models.capabilities import Explains, HasConditionStates
from perturbcast.models.check_world import check_world
from perturbcast.models.explain import Observed, dependence, enrichment, explain, nearest_conditions, observed_in
from perturbcast.models.registry import get_model
from perturbcast.report.explain_figure import explanation_figure
from perturbcast.report.explain_files import explain_into

SMALL = {"base": "mean:same-size", "max_steps": 12, "folds": 2, "n_state": 16, "n_attention": 8}


def pairs_world(strength, *, n_targets=14, n_genes=60, noise=0.1, seed=0):
    """(training data, test table): all singles, two thirds of doubles; a double is the sum and a pairwise term.

    The pairwise term is `strength` (f_a f_b) M, f two features of each target that knowledge has (T11).
    """
    rng = np.random.default_rng(seed)
    names = [f"T{number:02d}" for number in range(n_targets)]
    single, features = rng.normal(size=(n_targets, n_genes)), rng.normal(size=(n_targets, 2))
    mixing = rng.normal(size=(2, n_genes))
    pairs = [(a, b) for a in range(n_targets) for b in range(a + 1, n_targets)]
    pairs = [pairs[place] for place in rng.permutation(len(pairs))]
    double = [single[a] + single[b] + strength * (features[a] * features[b]) @ mixing for a, b in pairs]
    response = np.vstack([single, double])
    response += noise * rng.normal(size=response.shape)
    conditions = names + [f"{names[a]}+{names[b]}" for a, b in pairs]
    knowledge = GeneKnowledge(
        embeddings={"known": EmbeddingTable("known", np.array(names, dtype=object), features.astype(np.float32))}
    )
    cut = n_targets + 2 * len(pairs) // 3
    train = TrainingData(table_of(response[:cut], conditions[:cut]), knowledge=knowledge)
    return train, table_of(response[cut:], conditions[cut:])


@pytest.fixture(scope="module")
def world():
    return check_world()


@pytest.fixture(scope="module")
def fitted(world):
    return App(**SMALL).fit(world.training, seed=1)


# ----------------------------------------------------------------------------------------- what `plus` contains (T8)
@pytest.mark.parametrize("base", ["additive", "mean"])
def test_without_core_and_interaction_the_answer_is_that_of_the_model_below(base):
    training, test = pairs_world(0.3, n_targets=8, n_genes=12)
    nothing = App(**SMALL | {"base": base, "max_steps": 1}, rank=0, lr=1e-9, weight_decay=0.0)
    with pytest.raises(BadOption, match="decoder"):
        dataclasses.replace(nothing, decoder="linear")
    found, alone = nothing.fit(training).predict(test.queries), get_model(base).fit(training).predict(test.queries)
    np.testing.assert_allclose(found.response, alone.response, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("strength", "most"), [(0.3, 0.9), (0.0, 1.02)])
def test_additive_is_beaten_where_pairs_interact_and_not_made_worse_where_they_do_not(strength, most):
    training, test = pairs_world(strength)
    plus = App(base="additive", folds=3, n_state=32, max_steps=300, patience=40, lr=1e-2)
    assert mean_l2(plus.fit(training), test) < most * mean_l2(get_model("additive").fit(training), test)


def test_same_seed_gives_the_same_numbers_and_another_seed_others(world, fitted):
    queries = world.test.queries
    again, other = (App(**SMALL).fit(world.training, seed=seed).predict(queries).response for seed in (1, 2))
    np.testing.assert_array_equal(again, fitted.predict(queries).response)
    assert np.abs(again - other).max() > 1e-6


def test_heads_must_share_the_state_evenly():
    with pytest.raises(BadOption, match="multiple of n_heads"):
        App(n_state=10, n_heads=4)


@pytest.mark.parametrize("name", sorted(App.card.ablations))
def test_ablations_can_be_fitted_on_the_published_model(world, name):
    model = App.make("paper", **{"max_steps": 2, "folds": 2, "n_state": 8, "n_attention": 4} | App.card.ablations[name])
    found = model.fit(world.training).predict(world.test.queries)
    assert np.isfinite(found.response).all()


def test_random_states_tell_nothing_of_unseen_targets(world):
    """B.3: fixed random states carry no information on a target, so knowledge helps and they do not."""
    singles = [query for query in world.test.queries if "+" not in query.condition]
    test = world.test.take(world.test.index(singles))
    steps = {"max_steps": 60, "folds": 2, "n_state": 16, "interaction": False, "rank": 4, "lr": 2e-2}
    known, random = (App(base="mean:same-size", embedding=kind, **steps) for kind in ("features", "random"))
    mean = mean_l2(get_model("mean:same-size").fit(world.training), test)
    assert mean_l2(known.fit(world.training), test) < 0.85 * mean
    assert mean_l2(random.fit(world.training), test) > 0.85 * mean


# -------------------------------------------------------------------------------------------------------- explanations
def test_attention_is_a_share_for_every_gene_and_even_at_the_start(world):
    start = App.make("paper", max_steps=1, folds=2, n_state=16, lr=1e-9).fit(world.training)
    found = start.explain("G00")
    assert isinstance(start, Explains)
    assert isinstance(start, HasConditionStates)
    assert set(map(str, start.genes)) <= set(found.genes)
    np.testing.assert_allclose(found.score.sum(), 1.0, rtol=1e-5)
    assert found.evenness > 0.95
    sharp = App.make("paper", max_steps=1, folds=2, n_state=16, lr=1e-9, temperature=0.01).fit(world.training)
    assert sharp.explain("G00").evenness < found.evenness


def test_without_attention_all_genes_or_the_targets_alone_are_named(world):
    few = {"max_steps": 1, "folds": 2, "n_state": 8}
    alike = App.make("paper", attention="mean", **few).fit(world.training).explain("G00")
    assert alike.evenness == pytest.approx(1.0)
    own = App.make("paper", attention="context", **few).fit(world.training).explain("G00+G01")
    assert {gene for gene, score in zip(own.genes, own.score, strict=True) if score > 0} == {"G00", "G01"}


def test_unknown_target_and_model_without_reasons_are_refused(world, fitted):
    with pytest.raises(UnknownTarget, match="NOBODY"):
        explain(fitted, "NOBODY")
    with pytest.raises(BadOption, match="cannot be explained"):
        explain(get_model("mean").fit(world.training), "G00")


def test_nearest_conditions_share_what_is_known_of_targets(world, fitted):
    """Of the check world the features of targets are known; the nearest conditions respond most alike."""
    for model in (fitted, get_model("fmlp", **{"max_steps": 5, "folds": 2}).fit(world.training)):
        likeness = []
        for query in world.test.queries:
            near = nearest_conditions(model, query, most=3)
            assert len(near) == 3
            assert near["likeness"].is_monotonic_decreasing
            rows = world.training.responses.index([Query(name) for name in near["condition"]])
            truth = world.test.response[world.test.index([query])[0]]
            alike = [np.corrcoef(row, truth)[0, 1] for row in world.training.responses.response]
            likeness.append(np.mean(np.array(alike)[rows]) - np.mean(alike))
        assert np.mean(likeness) > 0.1


def test_query_itself_is_not_its_neighbour(world, fitted):
    query = world.training.responses.queries[0]
    assert query.condition not in set(nearest_conditions(fitted, query, most=100)["condition"])


def test_planted_genes_are_found_enriched_and_others_are_not(world, fitted):
    query = world.test.queries[0]
    found = explain(fitted, query)
    genes = [str(gene) for gene in fitted.genes]
    top = [gene for gene in found.genes["gene"] if gene in genes and gene != query.condition][:20]
    shifted = np.roll(np.isin(genes, top), 7)
    rows = []
    for differential in (np.isin(genes, top), shifted):
        observed = Observed({query: np.ones(len(genes))}, {query: differential})
        rows.append(enrichment([explain(fitted, query, observed=observed)], fitted).iloc[0])
    assert rows[0]["hits"] == 20
    assert rows[0]["p"] < 1e-4 < rows[1]["p"]
    assert rows[0]["q"] == rows[0]["p"]
    untested = enrichment([found], fitted).iloc[0]
    assert np.isnan(untested["p"])


def test_matched_genes_have_the_degree_of_those_they_are_matched_to(world):
    """Differential genes that are hubs do not make attended hubs look enriched: hubs are compared with hubs."""
    from perturbcast.models.explain import _of_like_degree

    others = pd.Series([f"X{place}" for place in range(100)])
    degree = {name: 50 * (place % 2) for place, name in enumerate(others)} | {"hub": 50}
    found = others.iloc[_of_like_degree(pd.Series(["hub"]), others, degree)]
    assert {degree[name] for name in found} == {50}


def test_scores_that_are_the_same_for_every_query_do_not_depend_on_it(world, fitted):
    alike = App.make("paper", attention="mean", max_steps=1, folds=2, n_state=8).fit(world.training)
    own = App.make("paper", attention="context", max_steps=1, folds=2, n_state=8).fit(world.training)
    assert dependence([explain(alike, name) for name in ("G00", "G01")]) == pytest.approx(0.0, abs=1e-9)
    assert dependence([explain(own, name) for name in ("G00", "G01")]) == pytest.approx(0.5)
    assert np.isnan(dependence([explain(fitted, "G00")]))


def test_differential_genes_come_from_a_rank_sum_where_cells_are_known(world, fitted):
    query = world.training.responses.queries[0]
    by_cells = observed_in(world.with_cells.screen, fitted, [query, Query("NOBODY")])
    by_size = observed_in(world.training.responses, fitted, [query])
    assert set(by_cells.response) == set(by_size.response) == {query}
    assert by_size.differential[query].sum() == 2  # a twentieth of 48
    size = np.abs(by_size.response[query])
    assert size[by_cells.differential[query]].mean() > size[~by_cells.differential[query]].mean()


# ------------------------------------------------------------------------------------------------------ folder and verb
@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    return fitted.save(tmp_path_factory.mktemp("explain") / "model")


def test_verb_writes_tables_and_figures(saved, tmp_path, world):
    out = tmp_path / "found"
    run = CliRunner().invoke(
        cli, ["explain", str(saved), "--condition", "G01+G00", "--condition", "U5", "--out", str(out)]
    )
    assert run.exit_code == 0, run.output
    assert "G00+G01: goes by" in run.output
    assert "depends on the condition" in run.output
    genes = pd.read_csv(out / "genes.tsv", sep="\t")
    assert set(genes["condition"]) == {"G00+G01", "U5"}
    assert set(genes.loc[genes["is_target"] & (genes["condition"] == "G00+G01"), "gene"]) == {"G00", "G01"}
    assert {"neighbour", "likeness", "shared_targets"} <= set(pd.read_csv(out / "nearest.tsv", sep="\t"))
    assert len(pd.read_csv(out / "summary.tsv", sep="\t")) == 2
    for name in ("G00+G01", "U5"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(cli, ["explain", str(saved), "--condition", "U5", "--out", str(out)])
    assert isinstance(again.exception, OutputExists)


def test_tables_can_be_parquet_and_compare_with_data(saved, tmp_path, world):
    data, screen = tmp_path / "cells.h5ad", world.with_cells.screen
    names = [screen.conditions[code] for code in screen.condition_code]
    obs = pd.DataFrame({"condition": names}, index=[f"cell{row}" for row in range(len(names))])
    cells = anndata.AnnData(screen.matrix.matrix, obs=obs, var=pd.DataFrame(index=screen.genes.astype(str)))
    cells.write_h5ad(data)
    reading = {"scale": "log1p_cp10k"}
    lines = explain_into(
        saved,
        [world.training.responses.conditions[0]],
        out=tmp_path / "found",
        data=data,
        ending="parquet",
        reading=reading,
    )
    genes = pd.read_parquet(tmp_path / "found" / "genes.parquet")
    assert {"observed", "differential"} <= set(genes)
    assert len(lines) == 2
    assert pd.read_parquet(tmp_path / "found" / "summary.parquet")["p"].notna().all()


def test_figure_of_a_model_that_scores_no_genes_shows_the_largest_responses(world):
    model = get_model("fmlp", **{"max_steps": 3, "folds": 2}).fit(world.training)
    figure = explanation_figure(explain(model, "G00"))
    assert "Largest predicted responses" in figure.axes[0].get_title(loc="left")
    assert len(figure.axes[1].patches) == 10


def test_learned_network_scores_genes_where_there_is_no_attention(world, fitted):
    from perturbcast.models.explain import network_scores
    from perturbcast.networks.network import Network

    class Learned:
        def network_of_genes(self):
            return network

    weights = np.array([[0, 3.0, 0], [1.0, 0, 0], [0, 2.0, 0]])
    network = Network.of_matrix(["A", "B", "C"], weights)
    scores = network_scores(Learned(), Query("A"))
    assert dict(zip(scores.genes, scores.score.tolist(), strict=True)) == {"A": 0.0, "B": 1.0, "C": 0.0}
    with pytest.raises(UnknownTarget, match="no edge"):
        network_scores(Learned(), Query("Z"))
