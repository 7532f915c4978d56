"""The decoder of GEARS with a gradient of its own against the plain formula, and the products that it is made of."""

import pytest
import torch
from torch.nn.functional import batch_norm

from perturbcast.nn import gears_decoder
from perturbcast.nn.gears_decoder import decoded
from perturbcast.nn.row_products import outer_sum, times
from perturbcast.nn.shared_norm import SharedMlp

N_GENES, HIDDEN = 12, 5
VARIANT = torch.tensor([0, 1, 1, 0, 1])
TIMES = torch.tensor([3, 1, 2, 1, 1])  # cells of each group


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parts(n_variants):
    """A decoder, gene states, shifts, readout and its bias; all but the decoder with gradients."""
    torch.manual_seed(0)
    mlp = SharedMlp(HIDDEN, 2 * HIDDEN, HIDDEN)
    with torch.no_grad():
        for norm in (mlp.first_norm, mlp.second_norm):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
    shapes = [(n_variants, N_GENES, HIDDEN), (len(TIMES), HIDDEN), (N_GENES, HIDDEN), (N_GENES,)]
    return mlp, [drawn(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]


def ours(mlp, inputs, variant):
    genes, shift, readout, bias = inputs
    share = TIMES / TIMES.sum()
    named = {"variant": variant, "share": share, "n_rows": float(TIMES.sum() * N_GENES)}
    return decoded(mlp, genes, shift, readout=readout, readout_bias=bias, **named)


def plain(mlp, inputs, variant):
    """The formula, a row per cell and gene, with torch's own normalisation."""
    genes, shift, readout, bias = inputs
    x = (genes[variant] + shift[:, None]).relu().repeat_interleave(TIMES, dim=0).flatten(0, 1)
    for layer, norm, last in ((mlp.first, mlp.first_norm, False), (mlp.second, mlp.second_norm, True)):
        moments = norm.get_buffer("mean"), norm.get_buffer("variance")
        x = batch_norm(layer(x), *moments, norm.weight, norm.bias, training=mlp.training)
        x = x if last else x.relu()
    w = (x.unflatten(0, (-1, N_GENES)) * readout).sum(dim=-1) + bias
    return w[torch.cumsum(TIMES, dim=0) - 1]


@pytest.mark.parametrize("rows", [8192, 2 * N_GENES])
@pytest.mark.parametrize("n_variants", [1, 2])
def test_numbers_gradients_and_running_moments_are_those_of_the_formula(monkeypatch, rows, n_variants):
    monkeypatch.setattr(gears_decoder, "ROWS", rows)
    variant = VARIANT if n_variants == 2 else torch.zeros_like(VARIANT)
    found = []
    for compute in (ours, plain):
        mlp, inputs = parts(n_variants)
        w = compute(mlp, inputs, variant)
        (w**3).mean().backward()
        gradients = [tensor.grad for tensor in (*inputs, *mlp.parameters())]
        found.append([w.detach(), *gradients, *mlp.buffers()])
    largest = max(float(tensor.abs().max()) for tensor in found[1])  # the gradients of the two biases are 0
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * largest)


def test_running_moments_answer_as_the_formula_does():
    mlp, inputs = parts(1)
    variant = torch.zeros_like(VARIANT)
    plain(mlp, inputs, variant)
    mlp.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(mlp, inputs, variant), plain(mlp, inputs, variant), rtol=1e-5, atol=1e-5)


def test_the_way_back_lets_go_of_what_was_kept_while_it_works(monkeypatch):
    monkeypatch.setattr(gears_decoder, "ROWS", N_GENES)  # a part for each group
    kept, into_gradient = [], gears_decoder._into_gradient

    def noted(z, *rest):
        kept.append(len(blocks))
        into_gradient(z, *rest)

    monkeypatch.setattr(gears_decoder, "_into_gradient", noted)
    mlp, inputs = parts(1)
    w = ours(mlp, inputs, torch.zeros_like(VARIANT))
    blocks = w.grad_fn.blocks
    w.sum().backward()
    assert kept == [5, 4, 3, 2, 1]
    assert not blocks


@pytest.mark.parametrize("shape", [(3, 8), (20, 7), (1, 13)])
def test_products_are_those_of_matrices(shape):
    x, matrix, bias = drawn(*shape, 4, seed=1), drawn(6, 4, seed=2), drawn(6, seed=3)
    gradient = drawn(*shape, 6, seed=4)
    torch.testing.assert_close(times(x, matrix, bias), x @ matrix.T + bias)
    torch.testing.assert_close(times(gradient, matrix.T), gradient @ matrix)
    torch.testing.assert_close(outer_sum(gradient, x), torch.einsum("gro,grc->oc", gradient, x))
