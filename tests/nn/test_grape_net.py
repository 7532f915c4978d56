"""Parts of GRAPE against the oracles A1 to A8, and masks that are computed anew only where they reach."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from perturbcast.nn import grape_dense, grape_graph, grape_hgat
from perturbcast.nn.grape_edges import candidate_edges
from perturbcast.nn.grape_gat import BiasedGATv2, PlainGAT
from perturbcast.nn.grape_graph import MessageGraph
from perturbcast.nn.grape_hgat import Masked, RelationLayer
from perturbcast.nn.grape_parts import (
    FeatureEncoder,
    SimilarityHeads,
    divided,
    gaussian_squash,
    info_nce,
    relation_of,
    tanh_huber,
)
from perturbcast.nn.grape_structure import Structure, channel_attention, smoothed
from perturbcast.nn.nodes import NodeTable

EVERY_PAIR = torch.cartesian_prod(torch.arange(3), torch.arange(3)).T


def test_a1_alignment_is_the_cross_entropy_of_cosines():
    text, sequence = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    assert info_nce(text, sequence).item() == pytest.approx(0.573722, abs=1e-6)
    assert info_nce(text, sequence, temperature=0.1).item() == pytest.approx(0.892118, abs=1e-6)
    both = info_nce(text, sequence, symmetric=True)
    assert both.item() == pytest.approx((0.573722 + info_nce(sequence, text).item()) / 2, abs=1e-6)


def test_a1_alignment_with_unit_temperature_cannot_fall_below_its_floor():
    same = torch.eye(32)
    assert info_nce(same, same - (1 - same) / 31).item() > math.log(1 + 31 * math.exp(-2))


def test_a2_similarity_is_the_mean_cosine_over_heads_and_rows_are_normalised():
    heads = SimilarityHeads(2, n_heads=2, width=2)
    with torch.no_grad():
        heads.weight.copy_(torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]))
    states = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 1.0]])
    found = heads(states, EVERY_PAIR[0], EVERY_PAIR[1]).reshape(3, 3).detach()
    assert found[0, 1].item() == pytest.approx(0.853553, abs=1e-6)
    assert found[0, 2].item() == pytest.approx(-0.853553, abs=1e-6)
    assert found[1, 2].item() == pytest.approx(-0.5, abs=1e-6)
    kept = torch.where(found >= 0.6, found, 0.0)
    agreed = (kept + torch.eye(3)) / 3
    assert agreed[0, 1].item() == pytest.approx(0.284518, abs=1e-6)
    rows = divided(agreed.flatten(), EVERY_PAIR[0], order=2, counted=torch.ones(9), n_nodes=3).reshape(3, 3)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))


def test_a2_row_of_equal_entries_survives_the_cut_up_to_4444_neighbours():
    for degree, kept in ((4444, True), (4445, False)):
        ends = torch.zeros(degree, dtype=torch.int64)
        rows = divided(torch.ones(degree).double(), ends, order=2, counted=torch.ones(degree).double(), n_nodes=1)
        assert bool((rows >= 0.015).all()) is kept


def test_a3_hop_is_the_normalised_neighbourhood_sum():
    structure = Structure(["fused"], 1, n_heads=1, n_hops=1, least=(-1.0, 0.0))
    hop = structure.hops[0]
    with torch.no_grad():
        hop.lin.weight.fill_(1.0)
    source, destination = torch.tensor([0, 1, 0, 1, 2, 1, 2]), torch.tensor([0, 0, 1, 1, 1, 2, 2])
    found = torch.relu(hop(torch.tensor([[1.0], [2.0], [4.0]]), torch.stack([source, destination])))
    np.testing.assert_allclose(found.detach().numpy()[:, 0], [1.316497, 2.707908, 2.816497], atol=1e-6)


def test_hop_over_known_weights_is_that_of_the_layer():
    torch.manual_seed(0)
    structure = Structure(["fused"], 4, n_heads=1, n_hops=1, least=(-1.0, 0.0))
    torch.nn.init.normal_(structure.hops[0].bias)
    states, edges, present = torch.randn(3, 4), EVERY_PAIR, (torch.rand(9) < 0.7).float()
    _, weight = gcn_norm(edges, present, 3, add_self_loops=False)
    found = smoothed(structure.hops[0], states, edges, weight)
    torch.testing.assert_close(found, structure.hops[0](states, edges, present))


@pytest.mark.parametrize(("weights", "diagonal", "other"), [((0.1, 0.1), 5 / 6, 1 / 6), ((math.log(3), 0), 0.75, 0.25)])
def test_a4_channels_are_mixed_by_softmax_over_graphs_of_unit_columns(weights, diagonal, other):
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(2)).T
    graphs = [torch.tensor([1.0, 0.5, 0.5, 1.0]), torch.tensor([1.0, 0.0, 0.0, 1.0])]
    columns = [divided(graph, pairs[1], order=1, counted=torch.ones(4), n_nodes=2) for graph in graphs]
    found = channel_attention(columns, torch.tensor(weights, dtype=torch.float32))
    expected = [diagonal, other, other, diagonal] if weights[0] == 0.1 else [0.75 * 2 / 3 + 0.25, 0.25, 0.25, 0.75]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "share", "message"), [(BiasedGATv2, 0.006693, (2.986614, -0.979921)), (PlainGAT, 0.032295, None)]
)
def test_a5_attention_of_one_head(kind, share, message):
    conv = kind(2, 2, n_heads=1, concat=True, dropout=0.0)
    score = torch.tensor([1.0, -1.0]).reshape(1, 1, 2)
    with torch.no_grad():
        for linear in [conv.lin_l, conv.lin_r] if kind is BiasedGATv2 else [conv.lin]:
            linear.weight.copy_(torch.eye(2))
            if linear.bias is not None:
                linear.bias.zero_()
        for name in ("att",) if kind is BiasedGATv2 else ("att_src", "att_dst"):
            getattr(conv, name).copy_(score)
    states = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    edges = torch.tensor([[0, 1], [0, 0]])
    found = conv.received(conv.sent(states), conv.asked(states), edges, None)[0].detach().numpy()
    expected = share * states[0] + (1 - share) * states[1] if message is None else torch.tensor(message)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-6)
    np.testing.assert_allclose(found, conv(states, edges)[0].detach().numpy(), atol=1e-6)


def test_a5_bias_of_an_edge_moves_its_logit():
    conv = BiasedGATv2(2, 2, n_heads=1, concat=True, dropout=0.0)
    states, edges = torch.randn(2, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([[0, 1], [0, 0]])
    sent, asked = conv.sent(states), conv.asked(states)
    alone = conv.received(sent, asked, edges, torch.tensor([0.0, -100.0]))
    torch.testing.assert_close(alone[0], sent[0, 0])


def test_a6_direction_loss_with_and_without_tanh():
    control = torch.tensor([[1.0, 0.5, 0.2]])
    observed = torch.tensor([[2.0, 0.5, 1.0]]) - control
    predicted = torch.tensor([[0.5, 0.6, 1.4]]) - control
    assert tanh_huber(observed, predicted).mean().item() == pytest.approx(0.210317, abs=1e-6)
    assert tanh_huber(observed, predicted, squashed=False).mean().item() == pytest.approx(0.296667, abs=1e-6)


def test_squashing_keeps_only_whether_a_feature_is_near_zero():
    assert gaussian_squash(torch.tensor(0.0)).item() == 1.0
    assert gaussian_squash(torch.tensor([0.36, -0.5, 2.0])).max().item() < 2e-3
    encoder = FeatureEncoder(2, 4, squash=True, normalise=False)
    torch.testing.assert_close(encoder(torch.tensor([[0.5, -3.0]])), encoder(torch.tensor([[-2.0, 1.0]])))


def test_relations_are_told_by_how_many_ends_are_non_coding():
    marked = torch.tensor([0, 1, 1])
    assert relation_of(marked, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]


def layer_and_graph(*, n_nodes=12, version="v2", combine="residual", seed=0):
    """A layer, a graph with loops, and states."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pairs = np.array([(a, b) for a in range(n_nodes) for b in range(a) if rng.random() < 0.25]).T
    source = np.concatenate([pairs[0], pairs[1], np.arange(n_nodes)])
    destination = np.concatenate([pairs[1], pairs[0], np.arange(n_nodes)])
    order = np.lexsort((source, destination))
    edges = torch.from_numpy(np.stack([source, destination])[:, order])
    marked = torch.from_numpy((rng.random(n_nodes) < 0.4).astype(np.int64))
    graph = MessageGraph(
        *edges, relation_of(marked, *edges), torch.randn(edges.shape[1]), edges.shape[1], n_nodes, n_nodes
    )
    layer = RelationLayer(
        8,
        4 if combine == "residual" else 8,
        n_heads=2,
        version=version,
        concat=combine == "residual",
        dropout=0.0,
        apart=False,
        reads_apart=False,
        residual=combine == "residual",
        biased=version == "v2",
    ).eval()
    return layer, graph, torch.randn(n_nodes, 8)


@pytest.mark.parametrize("many", [0, 10**6])
@pytest.mark.parametrize("most_gone", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("version", "combine"), [("v2", "residual"), ("v1", "mean"), ("v2", "mean")])
def test_masked_states_are_those_of_a_whole_run_with_the_mask(version, combine, many, most_gone, monkeypatch):
    """Whether messages are exchanged (`many` = 0) or all heard anew, and from whichever share taken on."""
    monkeypatch.setattr(grape_graph, "MANY", many)
    monkeypatch.setattr(grape_graph, "MOST_GONE", most_gone)
    layer, graph, states = layer_and_graph(version=version, combine=combine)
    other, _, _ = layer_and_graph(version=version, combine=combine, seed=1)
    rows = [[2], [5, 7], [11]]
    key = torch.tensor([row * 12 + node for row, nodes in enumerate(rows) for node in nodes])
    with torch.no_grad():
        first = layer(states, graph)
        second = other(first.after, graph)
        changed = layer.masked(first, graph, Masked(key, torch.zeros(len(key), 8)))
        changed = other.masked(second, graph, changed)
        for row, nodes in enumerate(rows):
            masked = states.clone()
            masked[nodes] = 0.0
            expected = other(layer(masked, graph).after, graph).after
            found = second.after.clone()
            own = changed.key // 12 == row
            found[changed.key[own] % 12] = changed.state[own]
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def masked_twice(monkeypatch, *, many, seed=0, dropout=0.0, n_wanted=None):
    """(what two layers make of three queries' masks, the gradients of its squares, all leaves)."""
    monkeypatch.setattr(grape_graph, "MANY", many)
    (layer, graph, states), (other, _, _) = layer_and_graph(), layer_and_graph(seed=1)
    torch.manual_seed(seed)
    for one in (layer, other):
        one.train(dropout > 0)
        one.dropout = 0.0
        for conv in one.attention:
            conv.dropout = dropout
    states.requires_grad_()
    key = torch.tensor([2, 12 + 5, 12 + 7, 24 + 11])
    first = layer(states, graph)
    second = other(first.after, graph)
    changed = layer.masked(first, graph, Masked(key, torch.zeros(4, 8)))
    changed = other.masked(second, graph, changed, n_wanted=n_wanted)
    leaves = [states, *layer.parameters(), *other.parameters()]
    slopes = torch.autograd.grad(changed.state.square().sum(), leaves, allow_unused=True)
    return changed, slopes


def test_exchanged_messages_have_the_gradients_of_all_messages_heard_anew(monkeypatch):
    (found, slopes), (plain, expected) = (masked_twice(monkeypatch, many=many) for many in (0, 10**6))
    assert torch.equal(found.key, plain.key)
    torch.testing.assert_close(found.state, plain.state, atol=1e-6, rtol=1e-5)
    assert sum(slope is not None for slope in slopes) > 20
    for slope, other in zip(slopes, expected, strict=True):
        torch.testing.assert_close(slope, other, atol=1e-5, rtol=1e-4)


def test_exchange_can_be_limited_to_the_nodes_that_are_read(monkeypatch):
    whole, part = (masked_twice(monkeypatch, many=0, n_wanted=n_wanted)[0] for n_wanted in (None, 7))
    read = whole.key % 12 < 7
    assert 0 < int(read.sum()) < len(read)
    assert torch.equal(part.key, whole.key[read])
    torch.testing.assert_close(part.state, whole.state[read], atol=0, rtol=0)


def test_dropout_of_exchanged_messages_is_that_of_all_heard_anew_in_the_mean(monkeypatch):
    layer, graph, states = layer_and_graph(combine="mean")
    layer.train()
    key = torch.arange(20) * 12 + 5  # as many queries alike
    for many in (0, 10**6):
        monkeypatch.setattr(grape_graph, "MANY", many)
        fresh = replace(graph)
        found = []
        for dropout, n_draws in ((0.0, 1), (0.3, 40)):
            torch.manual_seed(0)
            for conv in layer.attention:
                conv.dropout = dropout
                torch.nn.init.constant_(conv.bias, 50.0)  # beyond the reach of ReLU, so that means pass it
            with torch.no_grad():
                masked = Masked(key, states[[5] * 20] + 1)
                runs = [layer.masked(layer(states, fresh), fresh, masked) for _ in range(n_draws)]
            drawn = torch.stack([run.state.unflatten(0, (20, -1)) for run in runs])
            found.append(drawn.mean(dim=(0, 1)))
        assert drawn.std(dim=(0, 1)).max() > 0.1
        torch.testing.assert_close(found[0], found[1], atol=0.1, rtol=0)


@pytest.mark.parametrize(("concat", "biased"), [(True, True), (False, False)])
def test_attention_over_all_pairs_equals_attention_over_edges_with_its_gradients(monkeypatch, concat, biased):
    torch.manual_seed(0)
    monkeypatch.setattr(grape_dense, "LARGEST_BLOCK", 500)  # several blocks
    conv = PlainGAT(6, 3, n_heads=2, concat=concat, dropout=0.0)
    torch.nn.init.normal_(conv.bias)
    states = torch.randn(20, 6)
    pairs = torch.cartesian_prod(torch.arange(3, 20), torch.arange(15)).T  # three nodes send nothing, five hear nothing
    edges = pairs[:, torch.rand(pairs.shape[1]) < 0.5]
    bias = torch.randn(edges.shape[1], requires_grad=True)
    found, slopes = [], []
    for received in (conv.received, lambda *given: grape_dense.dense_received(conv, *given)):
        given = states.clone().requires_grad_()
        out = received(conv.sent(given), conv.asked(given), edges, bias if biased else None)
        wanted = [given, *conv.parameters(), *([bias] if biased else [])]
        slopes.append(torch.autograd.grad(out.square().sum(), wanted))
        found.append(out.detach())
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)
    for sparse, dense in zip(*slopes, strict=True):
        torch.testing.assert_close(sparse, dense, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        asked = grape_dense.dense_received(conv, conv.sent(states), conv.asked(states), edges, bias if biased else None)
    torch.testing.assert_close(asked, found[0], atol=1e-5, rtol=1e-5)
    assert grape_dense.share_of_pairs(edges, n_nodes=20) == pytest.approx(edges.shape[1] / (17 * 15))


def test_layer_goes_over_all_pairs_where_edges_are_many_and_says_the_same(monkeypatch):
    monkeypatch.setattr(grape_graph, "CROWDED", 0.3)
    calls = []
    monkeypatch.setattr(
        grape_hgat, "dense_received", lambda *given: calls.append(1) or grape_dense.dense_received(*given)
    )
    layer, graph, states = layer_and_graph(version="v1", combine="mean")
    assert any(graph.crowded)
    assert not all(graph.crowded)
    with torch.no_grad():
        found = layer(states, graph).after
        assert len(calls) == sum(graph.crowded)
        monkeypatch.setattr(grape_graph, "CROWDED", 1.0)
        torch.testing.assert_close(layer(states, replace(graph)).after, found, atol=1e-5, rtol=1e-5)
        assert len(calls) == sum(graph.crowded)


def test_a8_relations_are_averaged_or_added():
    layer, graph, states = layer_and_graph(combine="mean")
    parts = []
    for number, chosen in enumerate(graph.by_relation):
        conv = layer.attention[number]
        edges = torch.stack([graph.source[chosen], graph.destination[chosen]])
        bias = layer.strength[number] * graph.bias[chosen]
        parts.append(torch.relu(conv.received(conv.sent(states), conv.asked(states), edges, bias)))
    torch.testing.assert_close(layer(states, graph).after, torch.stack(parts).mean(dim=0))


def nodes_of(features, *, n_core):
    names = tuple(f"G{place}" for place in range(len(features)))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return NodeTable(names, n_core, n_core, {"text:cosine": unit.astype(np.float16)}, {})


def test_candidates_are_the_most_similar_core_genes_both_ways_and_everyone_itself():
    features = np.random.default_rng(0).normal(size=(20, 5))
    nodes = nodes_of(features, n_core=15)
    found = candidate_edges(nodes, top=3)
    pairs = set(zip(found.source.tolist(), found.destination.tolist(), strict=True))
    assert all((b, a) in pairs for a, b in pairs)
    assert {(place, place) for place in range(20)} <= pairs
    unit = np.asarray(nodes.blocks["text:cosine"], dtype=np.float32)
    alike = unit @ unit[:15].T
    for gene in range(20):
        own = np.delete(np.arange(15), gene) if gene < 15 else np.arange(15)
        best = own[np.argmax(alike[gene, own])]
        assert (gene, best) in pairs
    assert not any(a >= 15 and b >= 15 and a != b for a, b in pairs)


def test_genes_beyond_the_core_leave_the_edges_of_the_core_as_they_are():
    features = np.random.default_rng(0).normal(size=(30, 5))
    whole = candidate_edges(nodes_of(features, n_core=15), top=3)
    core = candidate_edges(nodes_of(features, n_core=15).core(), top=3)
    inside = (whole.source < 15) & (whole.destination < 15)
    np.testing.assert_array_equal(
        np.stack([whole.source[inside], whole.destination[inside]]),
        [
            core.source,
            core.destination,
        ],
    )


def test_random_edges_keep_about_as_many_neighbours():
    nodes = nodes_of(np.random.default_rng(0).normal(size=(200, 5)), n_core=200)
    true, drawn = (candidate_edges(nodes, top=4, shuffle=seed) for seed in (None, 1))
    degree, other = (np.bincount(found.source, minlength=200) for found in (true, drawn))
    assert np.corrcoef(degree, other)[0, 1] > 0.8
    kept = set(zip(true.source, true.destination, strict=True)) & set(zip(drawn.source, drawn.destination, strict=True))
    assert len(kept) - 200 < 0.2 * len(true.source)
