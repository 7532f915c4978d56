"""The network of APP: the oracles of specification B, its limits as published, and what `plus` contains."""

import dataclasses

import numpy as np
import pytest
import torch

from perturbcast.models.app import App
from perturbcast.nn.app_attention import Attention, additive_scores, attention, dot_scores
from perturbcast.nn.app_net import AppNet, weighted_ridge
from perturbcast.nn.gnn import GraphLayers, graph_edges
from perturbcast.nn.nodes import Edges, NodeTable
from perturbcast.nn.response_net import Rows

N_GENES, N_CORE, N_NODES = 10, 12, 16
PAPER = App.make("paper", n_state=8, n_attention=6).shape
PLUS = App(n_state=8, n_attention=8, n_heads=2, rank=3, dropout=0.0).shape


def edges(rng, number):
    pairs = np.unique(rng.integers(0, N_NODES, (2, number)), axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    both = np.unique(np.concatenate([pairs, pairs[::-1]], axis=1), axis=1)
    return Edges(both[0], both[1], np.ones(both.shape[1], dtype=np.float32))


@pytest.fixture(scope="module")
def nodes():
    rng = np.random.default_rng(0)
    block = rng.normal(size=(N_NODES, 5)).astype(np.float32)
    block /= np.linalg.norm(block, axis=1, keepdims=True)
    graphs = {"first": edges(rng, 40), "second": edges(rng, 20)}
    return NodeTable(tuple(f"G{place:02d}" for place in range(N_NODES)), N_GENES, N_CORE, {"known": block}, graphs)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    slots = np.array([[place, -1] for place in range(N_CORE)] + [[0, 1], [2, 3]])
    return Rows(slots, rng.normal(size=(len(slots), N_GENES)), np.ones(len(slots)), np.ones(N_GENES))


def network(nodes, shape, *, rows=None, seed=0):
    torch.manual_seed(seed)
    return AppNet(nodes, n_genes=N_GENES, shape=shape, rows=rows).eval()


def shaken(net, *, size=0.5, seed=3):
    """The network with noise on every weight, as if it had been trained."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += size * torch.randn_like(parameter)
    return net.eval()


def asked(net, *targets):
    width = max(map(len, targets))
    slots = [[*names, *[-1] * (width - len(names))] for names in targets]
    with torch.no_grad():
        return net.respond(torch.tensor(slots)).double().numpy()


# ---------------------------------------------------------------------------------------------------------- oracles
def test_scores_weights_state_and_response_are_those_of_oracle_b1():
    states = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    net = Attention(2, n_attention=2, n_heads=1, dot=False, temperature=1.0, learned=False)
    with torch.no_grad():
        net.of_context.weight.copy_(torch.eye(2))
        net.of_context.bias.zero_()
        net.of_gene.weight.copy_(2 * torch.eye(2))
        net.weight.copy_(torch.tensor([[1.0, -1.0]]))
        context = states[[0, 2]].mean(dim=0, keepdim=True)
        query = net.of_context(context).unflatten(1, (1, 2))
        scores = additive_scores(query, net.keys(states), net.weight)
        alpha = net(context, net.keys(states), top=None)
    np.testing.assert_allclose(context[0], [1, 0.5])
    np.testing.assert_allclose(scores[0, 0], [0.532938, -0.225020, 0.008440], atol=1e-6)
    np.testing.assert_allclose(alpha[0, 0], [0.485325, 0.227434, 0.287241], atol=1e-6)
    state = alpha[0, 0] @ states
    np.testing.assert_allclose(state, [0.772566, 0.514675], atol=1e-6)
    decoder, offset = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, -1.0]]), torch.tensor([0.0, 0.0, 0.5])
    np.testing.assert_allclose(decoder @ state + offset, [0.772566, 1.029350, 0.757891], atol=1e-6)


def test_attention_is_near_uniform_at_the_start_as_in_oracle_b2(nodes):
    net = network(nodes, PAPER)
    with torch.no_grad():
        genes = net.gene_states()
        alpha = net.weights_of(torch.arange(N_CORE)[:, None])[:, 0]
        state = net.attended(net.contexts(torch.arange(N_CORE)[:, None]), genes)
    entropy = -(alpha * alpha.log()).sum(dim=1) / np.log(N_CORE)
    assert entropy.min() > 0.99
    uniform = genes.values.mean(dim=0)
    assert (state - uniform).norm(dim=1).max() < 0.1 * uniform.norm()


def test_closed_form_decoder_is_that_of_oracle_b3():
    rng = np.random.default_rng(0)
    states, target, weight = rng.normal(size=(6, 2)), rng.normal(size=(6, 3)), np.arange(1.0, 7.0)
    weights, offset = weighted_ridge(states, target, weight, ridge=0.5)
    wide = np.hstack([states, np.ones((6, 1))])
    penalty = np.diag([0.5, 0.5, 0.0])
    expected = np.linalg.solve(wide.T @ (weight[:, None] * wide) + penalty, wide.T @ (weight[:, None] * target))
    np.testing.assert_allclose(np.vstack([weights, offset]), expected, rtol=1e-10)


def test_core_can_start_from_the_closed_form(nodes, rows):
    cold = network(nodes, dataclasses.replace(PLUS, ridge=None), rows=rows)
    warm = network(nodes, dataclasses.replace(PLUS, ridge=0.01), rows=rows)
    slots = torch.from_numpy(rows.slots)
    target = torch.from_numpy(rows.target).float()
    with torch.no_grad():
        assert not cold.respond(slots).any()
        left = (warm.respond(slots) - target).pow(2).mean()
    assert left < 0.9 * target.pow(2).mean()


# ------------------------------------------------------------------------------------------- what `paper` cannot do
def test_paper_answers_lie_in_the_hull_of_its_genes_and_have_no_more_rank_than_states(nodes):
    net = shaken(network(nodes, PAPER))
    found = asked(net, *[[place] for place in range(N_NODES)], [0, 1], [4, 9])
    with torch.no_grad():
        corners = net.decoder(net.gene_states().values).double().numpy()
    assert (found >= corners.min(axis=0) - 1e-5).all()
    assert (found <= corners.max(axis=0) + 1e-5).all()
    assert np.linalg.norm(found, axis=1).max() <= np.linalg.norm(corners, axis=1).max() + 1e-5
    narrow = shaken(network(nodes, dataclasses.replace(PAPER, n_state=2)))
    many = asked(narrow, *[[place] for place in range(N_NODES)])
    size = np.linalg.svd(many - narrow.decoder.bias.detach().double().numpy(), compute_uv=False)
    assert size[2] < 1e-5 * size[0]


def test_without_attention_the_mean_state_of_all_genes_answers_every_query_alike(nodes):
    net = shaken(network(nodes, dataclasses.replace(PAPER, attention="mean")))
    found = asked(net, [0], [7], [3, 5])
    np.testing.assert_allclose(found, found[:1].repeat(3, axis=0), atol=1e-6)
    other = shaken(network(nodes, dataclasses.replace(PAPER, attention="context")))
    apart = asked(other, [0], [7])
    assert np.abs(apart[0] - apart[1]).max() > 0.01


# ------------------------------------------------------------------------------------------------ what `plus` contains
def test_nothing_perturbed_changes_nothing(nodes, rows):
    net = shaken(network(nodes, PLUS, rows=rows))
    assert np.abs(asked(net, [0, 1])).max() > 0.1
    np.testing.assert_allclose(asked(net, [-1, -1]), 0.0, atol=1e-5)


def test_plus_without_interaction_and_with_kappa_one_adds_up(nodes, rows):
    net = shaken(network(nodes, dataclasses.replace(PLUS, interaction=False), rows=rows))
    with torch.no_grad():
        net.kappa.fill_(1.0)
    first, second, both = asked(net, [0], [7], [0, 7])
    np.testing.assert_allclose(both, first + second, atol=1e-4)
    with torch.no_grad():
        net.kappa.fill_(0.7)
    np.testing.assert_allclose(asked(net, [0, 7])[0], 0.7 * (first + second), atol=1e-4)


def test_one_matrix_for_both_parts_of_the_interaction_is_the_first_line_of_b8(nodes, rows):
    net = shaken(network(nodes, dataclasses.replace(PLUS, rank=0), rows=rows))
    with torch.no_grad():
        net.together.weight.copy_(net.alone.weight)
        genes = net.gene_states()
        context = net.contexts(torch.tensor([[0, 7]]))
        expected = net.alone(net.attended(context, genes) - net.attended(net.null[None], genes))
    np.testing.assert_allclose(asked(net, [0, 7]), expected.double().numpy(), atol=1e-5)


def test_interaction_of_pairs_alone_leaves_singles_at_zero(nodes, rows):
    net = shaken(network(nodes, dataclasses.replace(PLUS, rank=0), rows=rows))
    with torch.no_grad():
        net.alone.weight.zero_()
    assert not asked(net, [0], [7]).any()
    assert np.abs(asked(net, [0, 7])).max() > 0.01


def test_order_of_targets_does_not_matter(nodes, rows):
    net = shaken(network(nodes, PLUS, rows=rows))
    np.testing.assert_allclose(asked(net, [0, 7]), asked(net, [7, 0]), atol=1e-5)


def test_core_starts_from_leading_axes_of_rows_that_train_only(nodes, rows):
    train = np.arange(8)
    spoilt = dataclasses.replace(rows, train=train, target=rows.target.copy())
    spoilt.target[8:] = 1e6
    first = network(nodes, PLUS, rows=dataclasses.replace(rows, train=train)).basis
    np.testing.assert_array_equal(first.detach(), network(nodes, PLUS, rows=spoilt).basis.detach())
    _, _, axes = np.linalg.svd(rows.target[train], full_matrices=False)
    likeness = np.abs(first.detach().numpy() @ axes[:3].T) / np.sqrt(N_GENES)
    np.testing.assert_allclose(likeness, np.eye(3), atol=1e-5)


# ------------------------------------------------------------------------------------------------- attention, graphs
def test_only_the_highest_scores_are_attended_to_and_a_cold_softmax_picks_one():
    torch.manual_seed(0)
    scores = torch.randn(4, 2, 9)
    few = attention(scores, temperature=torch.tensor(1.0), top=3)
    assert ((few > 0).sum(dim=2) == 3).all()
    np.testing.assert_allclose(few.sum(dim=2), 1.0, rtol=1e-6)
    assert (few.topk(3, dim=2).indices.sort().values == scores.topk(3, dim=2).indices.sort().values).all()
    cold = attention(scores, temperature=torch.tensor(1e-3), top=None)
    np.testing.assert_allclose(cold.max(dim=2).values, 1.0, atol=1e-3)


def test_dot_scores_are_scaled_products():
    torch.manual_seed(0)
    query, key, weight = torch.randn(3, 2, 4), torch.randn(5, 2, 4), torch.randn(2, 4)
    found = dot_scores(query, key, weight)
    expected = sum(weight[1, k] * query[2, 1, k] * key[4, 1, k] for k in range(4)) / 2
    torch.testing.assert_close(found[2, 1, 4], expected)


@pytest.mark.parametrize("aggregate", ["mean", "sum", "max"])
def test_layer_joins_own_state_with_the_aggregate_of_neighbours(aggregate):
    torch.manual_seed(0)
    layers = GraphLayers(n_graphs=1, n_state=3, n_layers=1, aggregate=aggregate)
    states = torch.randn(4, 3)
    pairs = torch.tensor([[0, 1, 2], [1, 0, 1]])  # source, destination; node 3 is alone
    found = layers(states, [pairs])
    of = {"mean": lambda part: part.mean(0), "sum": lambda part: part.sum(0), "max": lambda part: part.amax(0)}
    heard = torch.stack([states[1], of[aggregate](states[[0, 2]]), torch.zeros(3), torch.zeros(3)])
    joint = torch.cat([layers.own[0].weight, layers.of_neighbours[0].lin_l.weight], dim=1)
    expected = torch.cat([states, heard], dim=1) @ joint.T + layers.own[0].bias
    torch.testing.assert_close(found, torch.nn.functional.leaky_relu(expected, 0.2))


def test_nodes_that_are_only_asked_about_leave_those_of_training_as_they_were(nodes):
    for shape in (PAPER, PLUS, *(dataclasses.replace(PAPER, embedding=kind) for kind in ("random", "identity"))):
        small, large = network(nodes.core(), shape), network(nodes, shape)
        large.load_state_dict(small.state_dict() | {k: v for k, v in large.state_dict().items() if "given" in k})
        with torch.no_grad():
            torch.testing.assert_close(large.gene_states().states[:N_CORE], small.gene_states().states)
    assert all((e.source < N_CORE).all() for e in graph_edges(nodes, use="each").values())
    assert any((e.destination >= N_CORE).any() for e in graph_edges(nodes, use="each").values())


def test_union_holds_every_edge_once_and_a_named_graph_itself(nodes):
    first, second = (graph_edges(nodes, use=name)[name] for name in ("first", "second"))
    pairs = {*zip(first.source, first.destination, strict=True), *zip(second.source, second.destination, strict=True)}
    united = graph_edges(nodes, use="union")["union"]
    assert len(united.source) == len(pairs)
    assert set(zip(united.source, united.destination, strict=True)) == pairs
    assert graph_edges(nodes, use="none") == graph_edges(nodes, use="no such graph") == {}


def test_gene_states_are_kept_while_asked_and_forgotten_in_training(nodes):
    net = network(nodes, PAPER)
    with torch.no_grad():
        kept = net.gene_states()
        assert net.gene_states() is kept
        net.train()
        net.embedding.weight.mul_(2.0)
        net.eval()
        assert not torch.equal(net.gene_states().states, kept.states)
