"""GRAPE: what its masks can express, its controls, its learned graph, and what it refuses."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from model_worlds import featured, mean_l2

from perturbcast.data.conditions import targets_of
from perturbcast.data.prediction import Support
from perturbcast.errors import BadOption, NeedsKnowledge
from perturbcast.genes.knowledge import EmbeddingTable, GeneKnowledge, GeneTable
from perturbcast.models.check_world import check_world
from perturbcast.models.explain import explain
from perturbcast.models.grape import Grape
from perturbcast.models.grape_nodes import candidates_of
from perturbcast.models.node_table import node_table, non_coding_of
from perturbcast.models.registry import get_model
from perturbcast.nn import grape_graph
from perturbcast.nn.response_net import Rows

SMALL = {"folds": 2, "width": 8, "n_heads": 2, "top": 5, "align_epochs": 1}


@pytest.fixture(scope="module")
def world():
    return check_world()


@pytest.fixture(scope="module")
def fitted(world):
    return Grape(max_steps=15, **SMALL).fit(world.training, seed=0)


def untrained(world, **fields):
    """(network with its first weights, its nodes)."""
    model = Grape(**(SMALL | fields))
    nodes = model.training_nodes(node_table(world.training.responses, world.training.knowledge))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = model.network(nodes, n_genes=nodes.n_measured)
    return network.eval(), nodes


@pytest.mark.parametrize("mask", ["zero", "negate", "token"])
def test_t7_mask_without_edges_changes_its_own_gene_only(world, mask):
    network, nodes = untrained(world, mask=mask, broadcast=False, reach="all")
    loops = network.data("source") == network.data("destination")
    network.given.source, network.given.destination = network.data("source")[loops], network.data("destination")[loops]
    network.n_awake = int(loops.sum())
    with torch.no_grad():
        found = network.respond(torch.tensor([[3], [10], [nodes.n_measured], [-1]]))
    rest = found[3]
    for row, gene in enumerate([3, 10]):
        others = np.delete(np.arange(nodes.n_measured), gene)
        torch.testing.assert_close(found[row, others], rest[others], rtol=0, atol=0)
        assert found[row, gene] != rest[gene]
    torch.testing.assert_close(found[2], rest, rtol=0, atol=0)  # an unmeasured target has no row to change


def test_mask_reaches_neighbours_and_with_all_layers_their_neighbours(world):
    counts = {}
    for reach in ("last", "all"):
        network, nodes = untrained(world, top=2, broadcast=False, reach=reach)
        with torch.no_grad():
            found = network.respond(torch.tensor([[0], [-1]]))
        counts[reach] = set(torch.nonzero(found[0] != found[1])[:, 0].tolist())
    source, destination = network.data("source").numpy(), network.data("destination").numpy()
    near = {gene for gene in destination[source == 0].tolist() if gene < nodes.n_measured}
    assert counts["last"] == near
    assert near < counts["all"]


@pytest.mark.parametrize("profile", ["paper", "code"])
def test_exchanged_messages_answer_as_all_heard_anew_also_for_genes_outside_training(world, profile, monkeypatch):
    knowledge = with_more_words(world).knowledge
    model = Grape.make(profile, **(SMALL | {"width": 8, "align_epochs": 0}))
    nodes = model.used(node_table(world.training.responses.take(np.arange(8)), knowledge))
    assert len(nodes.names) > nodes.n_core
    found = []
    for many in (0, 10**6):
        monkeypatch.setattr(grape_graph, "MANY", many)
        torch.manual_seed(0)
        network = model.network(nodes, n_genes=nodes.n_measured).eval()
        with torch.no_grad():
            found.append(network.respond(torch.tensor([[0, 1], [3, -1], [nodes.n_core, -1], [-1, -1]])))
        assert network.states().graph.exchanges is (many == 0)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)
    assert not torch.equal(found[0][2], found[0][3])


def test_combination_masks_both_targets_and_what_they_send_adds_up(world):
    network, _ = untrained(world, attention=False)
    with torch.no_grad():
        both, first, second, none = network.respond(torch.tensor([[1, 2], [1, -1], [2, -1], [-1, -1]]))
    torch.testing.assert_close(both - none, (first - none) + (second - none), atol=1e-6, rtol=1e-5)
    network, _ = untrained(world, broadcast=False)
    with torch.no_grad():
        both, swapped, first = network.respond(torch.tensor([[1, 2], [2, 1], [1, -1]]))
    torch.testing.assert_close(both, swapped, rtol=0, atol=0)
    assert not torch.equal(both, first)


def test_response_loss_trains_the_structure_in_plus_and_not_as_published(world):
    training = world.training.responses
    for profile, trained in ((None, True), ("paper", False)):
        model = Grape.make(profile, sources="all", **SMALL)
        nodes = model.training_nodes(node_table(training, world.training.knowledge))
        network = model.network(nodes, n_genes=nodes.n_measured)
        torch.nn.init.normal_(network.head)  # in `plus` it starts at 0
        slots = nodes.slots([targets_of(query.condition) for query in training.queries], width=2)
        network.respond(torch.from_numpy(slots)).square().sum().backward()
        reached = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.structure.hops.parameters()]
        assert any(reached) is trained


def test_knowledge_that_informs_beats_permuted_knowledge_which_is_as_good_as_the_mean():
    training, test = featured(n_train=40, n_genes=20, noise=0.05)
    telling = training.knowledge.embeddings["telling"]
    shuffled = np.random.default_rng(3).permutation(len(telling.genes))
    misleading = replace(telling, matrix=telling.matrix[shuffled])

    def error(table: EmbeddingTable) -> float:
        data = replace(training, knowledge=GeneKnowledge(embeddings={"features": table}))
        return mean_l2(Grape(max_steps=40, patience=None, lr=1e-2, **(SMALL | {"width": 16})).fit(data, seed=0), test)

    by_mean = mean_l2(get_model("mean:same-size").fit(training), test)
    assert error(telling) < 0.7 * by_mean
    assert 0.9 * by_mean < error(misleading) < 1.15 * by_mean


def test_learned_graph_is_a_network_of_core_genes(fitted, world):
    network = fitted.network_of_genes()
    assert len(network.weight) > 0
    assert set(network.genes) == {*map(str, world.training.responses.genes), *world.training.responses.targets}
    perturbed = set(network.genes[network.is_perturbed])
    assert perturbed == set(world.training.responses.targets)


def test_explanation_goes_by_the_learned_graph_around_the_targets(fitted, world):
    network = fitted.network_of_genes()
    asked = next(query for query in world.test.queries if query.condition in set(network.genes))
    genes = explain(fitted, asked).genes.set_index("gene")
    own = network.genes == asked.condition
    ends = np.stack([network.source_code, network.target_code])
    near = {str(gene) for gene in network.genes[ends[:, own[ends].any(axis=0)].ravel()]} - {asked.condition}
    assert genes["score"].sum() == pytest.approx(1.0)
    assert near == set(genes.index[genes["score"] > 0])


def test_diagnostics_tell_isolated_targets_and_collapsed_predictions(fitted, world):
    assert fitted.isolated_share(["NEVER_HEARD_OF"]) == 1.0
    assert fitted.isolated_share([query.condition for query in world.training.responses.queries]) < 0.2
    assert 0.0 < fitted.variance_ratio(world.test) < 2.0
    flat = get_model("grape:paper", max_steps=1, sources="all", **SMALL).fit(world.training, seed=0)
    assert flat.variance_ratio(world.test) < 0.05


def test_support_names_what_is_known_of_the_features_in_use(world):
    text_only = replace(world.training, knowledge=GeneKnowledge(texts=with_more_words(world).knowledge.texts))
    model = Grape(sources="text", max_steps=2, **SMALL).fit(text_only, seed=0)
    known = next(gene for gene in sorted(text_only.knowledge.texts) if gene not in set(model.training_targets))
    assert model.predict([known, "NEVER_HEARD_OF"]).support == (Support.NEIGHBOURS, Support.MEAN)


@pytest.mark.parametrize(("name", "kept"), [("grape:paper", {"texts": {"G00": "a gene"}}), ("grape", {})])
def test_missing_features_are_refused_by_name(world, name, kept):
    with pytest.raises(NeedsKnowledge, match="sequence" if kept else "features"):
        get_model(name).fit(replace(world.training, knowledge=GeneKnowledge(**kept)))


def test_published_profiles_have_no_validation_and_keep_their_last_weights(world):
    for profile in ("paper", "code"):
        plan = Grape.make(profile).plan(40)
        assert (plan.patience, plan.keep_best) == (None, False)
    assert Grape().plan(40).keep_best


def test_stopping_by_ranks_judges_by_error_and_discrimination(world):
    nodes = node_table(world.training.responses, world.training.knowledge)
    for stop_by, kind in (("ranks", float), ("loss", type(None)), ("last", type(None))):
        model = Grape(stop_by=stop_by, **SMALL)
        core, n_rows = model.training_nodes(nodes), world.training.responses.n_queries
        slots = core.slots([targets_of(query.condition) for query in world.training.responses.queries], width=2)
        target = world.training.responses.response
        rows = Rows(slots, target, np.ones(n_rows), np.ones(target.shape[1]))
        network = model.network(core, n_genes=core.n_measured, rows=rows).eval()
        with torch.no_grad():
            assert isinstance(network.validation_score(np.arange(n_rows)), kind)


def test_prior_graphs_tell_of_targets_without_features_and_random_ones_keep_degrees(world):
    knowledge = world.training.knowledge
    nodes = node_table(world.training.responses, knowledge)
    real, random = (Grape(random_graph=kind, **SMALL).used(nodes).graphs for kind in (False, True))
    assert set(real) == set(nodes.graphs)
    for name, edges in real.items():
        assert sorted(edges.source) == sorted(random[name].source)
        assert sorted(edges.destination) == sorted(random[name].destination)
    assert any(not np.array_equal(edges.source, random[name].source) for name, edges in real.items())
    for without in ({"prior_graphs": False}, {"sources": "sequence"}, {"broadcast": False}):
        assert not Grape(**(SMALL | without)).used(nodes).graphs


def test_heads_must_share_the_width():
    with pytest.raises(BadOption, match="multiple"):
        Grape(width=10, n_heads=4)


@pytest.mark.parametrize("name", sorted(Grape.card.ablations))
def test_every_ablation_trains_and_differs_from_the_whole(world, name):
    model = Grape.make(None, max_steps=2, patience=None, calibrate=False, **SMALL, **Grape.card.ablations[name])
    whole = Grape(max_steps=2, patience=None, calibrate=False, **SMALL)
    asked = world.test.queries[:4]
    found, full = (one.fit(with_more_words(world), seed=0).predict(asked).response for one in (model, whole))
    assert not np.allclose(found, full)


def with_more_words(world):
    """The training data with texts of ten words of sixty, and a gene table in which every third gene is non-coding."""
    names, rng = sorted(world.training.knowledge.texts), np.random.default_rng(0)
    texts = {name: " ".join(f"word{number}" for number in rng.permutation(60)[:10]) for name in names}
    biotype = ["lncRNA" if place % 3 == 0 else "protein_coding" for place in range(len(names))]
    frame = pd.DataFrame({"symbol": names, "ensembl_id": "", "biotype": biotype})
    return replace(world.training, knowledge=replace(world.training.knowledge, table=GeneTable(frame), texts=texts))


def test_genes_of_unknown_biotype_count_as_coding(world):
    table = with_more_words(world).knowledge.table
    first, second = sorted(world.training.knowledge.texts)[:2]
    assert non_coding_of([first, second, "NEVER_HEARD_OF"], table).tolist() == [True, False, False]
    assert non_coding_of([first], None).tolist() == []


def test_candidates_are_found_once_for_all_members(world):
    nodes = node_table(world.training.responses, world.training.knowledge)
    first = candidates_of(nodes, top=5, random_graph=False)
    assert candidates_of(nodes, top=5, random_graph=False) is first
    assert candidates_of(nodes, top=5, random_graph=True) is not first
