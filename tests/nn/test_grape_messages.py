"""Sums and products over edges, piece by piece, against their plain forms."""

import pytest
import torch
from torch.nn import functional

from perturbcast.nn import grape_messages
from perturbcast.nn.grape_messages import edge_logits, edge_products, edge_sums


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(grape_messages, "PIECE", 40)


def given(*, n_edges=23):
    """Two tables of 5 and 4 nodes, 2 heads, 3 channels; weights; edges."""
    rng = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, 2, 3, generator=rng, dtype=torch.float64, requires_grad=True) for n in (5, 4))
    weight = torch.randn(n_edges, 2, generator=rng, dtype=torch.float64, requires_grad=True)
    edges = torch.stack([torch.randint(n, (n_edges,), generator=rng) for n in (5, 4)])
    return left, right, weight, edges


@pytest.mark.parametrize("n_edges", [0, 23])
def test_products_and_sums_are_those_of_the_plain_form(n_edges):
    left, right, weight, edges = given(n_edges=n_edges)
    torch.testing.assert_close(edge_products(left, right, edges), (left[edges[0]] * right[edges[1]]).sum(dim=2))
    plain = torch.zeros(4, 2, 3, dtype=torch.float64).index_add(0, edges[1], weight[:, :, None] * left[edges[0]])
    torch.testing.assert_close(edge_sums(weight, left, edges, n_nodes=4), plain)
    merged = edge_sums(weight, left, edges, n_nodes=4, merged=True)
    torch.testing.assert_close(merged, plain.sum(dim=1, keepdim=True))


def test_logits_are_those_of_the_plain_form_also_where_a_sum_is_exactly_zero():
    left, right, _, edges = given()
    score = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        left[edges[0, 0]] = -right[edges[1, 0]]
    found = edge_logits(left, right, score, edges, slope=0.2)
    plain = (functional.leaky_relu(left[edges[0]] + right[edges[1]], 0.2) * score).sum(dim=2)
    torch.testing.assert_close(found, plain)
    slopes = [torch.autograd.grad(out.square().sum() + out.sum(), [left, right, score]) for out in (found, plain)]
    for own, expected in zip(*slopes, strict=True):
        torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("merged", [False, True])
def test_gradients_are_those_of_small_steps(merged):
    left, right, weight, edges = given()
    assert torch.autograd.gradcheck(lambda a, b: edge_products(a, b, edges), (left, right))
    assert torch.autograd.gradcheck(lambda w, x: edge_sums(w, x, edges, n_nodes=4, merged=merged), (weight, left))
    score = torch.ones(1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b, s: edge_logits(a, b, s, edges, slope=0.2), (left, right, score))
