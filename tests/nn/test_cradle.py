"""CRADLE-VAE's network: oracles of the specification (13), and what must hold whatever the weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cradle_worlds import labelled, small_net, small_screen
from scipy import sparse

from perturbcast.nn.cells import CellBatches
from perturbcast.nn.counterfactual import (
    LabelledBatches,
    References,
    cells_by_status,
    counterfactual_divergence,
    lower_median,
    published_divergence,
)
from perturbcast.nn.cradle_net import CradleNet, CradleShape, reconstruction_weight
from perturbcast.nn.divergences import normal_kl
from perturbcast.nn.standardise import Standardise
from perturbcast.nn.trunk import Gaussian


def gaussian(mean, sd):
    return Gaussian(torch.tensor(mean, dtype=torch.float64), torch.tensor(sd, dtype=torch.float64) ** 2)


def test_o10_published_divergence_differs_from_the_exact_one_unless_sd_is_one():
    wide = gaussian(1.0, 0.5), gaussian(0.0, 2.0)
    assert float(normal_kl(*wide)) == pytest.approx(1.04254436, abs=6e-9)
    assert float(published_divergence(*wide)) == pytest.approx(1.41754436, abs=6e-9)
    unit = gaussian(1.0, 2.0), gaussian(0.0, 1.0)
    assert float(normal_kl(*unit)) == pytest.approx(1.30685282, abs=6e-9)
    assert float(published_divergence(*unit)) == pytest.approx(1.30685282, abs=6e-9)


@pytest.mark.parametrize(("form", "expected"), [("exact", 0.20850887), ("published", 0.28350887)])
def test_o10_counterfactual_term_of_two_cells(form, expected):
    """Two cells that share a reference, and one that has none; β = 0.1, summed over cells."""
    reference = gaussian([[[1.0]]], [[[0.5]]])
    switched = gaussian([[[0.0], [0.0], [7.0]]], [[[2.0], [2.0], [1.0]]])
    each = counterfactual_divergence(reference, switched, torch.tensor([0, 0, -1]), form=form)
    assert float(0.1 * each.sum()) == pytest.approx(expected, abs=6e-9)
    assert float(each[0, 2]) == 0.0


def test_reference_gradient_can_be_stopped():
    mean = torch.zeros(1, 1, 2, requires_grad=True)
    own = torch.ones(1, 3, 2, requires_grad=True)
    sides = Gaussian(mean, torch.ones(1, 1, 2)), Gaussian(own, torch.ones(1, 3, 2))
    each = counterfactual_divergence(*sides, torch.zeros(3, dtype=torch.long), form="exact", reference_gradient=False)
    each.sum().backward()
    assert mean.grad is None
    assert own.grad is not None


def test_o20_median_of_an_even_number_is_the_lower_one():
    assert lower_median(sparse.csr_matrix([[1.0], [3.0]])).toarray() == 1.0
    assert torch.tensor([1.0, 3.0]).median() == 1.0


@pytest.mark.parametrize("n_cells", [1, 2, 7, 50])
@pytest.mark.parametrize("shift", [0.0, -2.0])
def test_median_is_that_of_torch(n_cells, shift):
    values = np.random.default_rng(n_cells).poisson(0.8, size=(n_cells, 40)).astype(np.float32)
    values[values > 0] += shift
    expected = torch.from_numpy(values).median(dim=0).values.numpy()
    np.testing.assert_array_equal(lower_median(sparse.csr_matrix(values)).toarray()[0], expected)


def test_o25_reconstruction_weights():
    failed, share = torch.tensor([0.0, 0.0, 0.0, 1.0]), torch.tensor(0.25)
    paper = reconstruction_weight(failed, form="paper", failing=share, failing_trained=share)
    assert paper.tolist() == [0.25, 0.25, 0.25, 0.75]
    assert float(paper.mean()) == 0.375
    balanced = reconstruction_weight(failed, form="balanced", failing=share, failing_trained=share)
    torch.testing.assert_close(balanced, paper / 0.375)
    none = reconstruction_weight(failed, form="none", failing=share, failing_trained=share)
    assert none.tolist() == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.03, 0.5, 0.9, 0.999, 1.0])
def test_balanced_weights_are_one_on_average_and_bounded(share):
    of_passed, of_failed = reconstruction_weight(
        torch.tensor([0.0, 1.0]),
        form="balanced",
        failing=torch.tensor(0.4),
        failing_trained=torch.tensor(share),
    ).tolist()
    assert share * of_failed + (1 - share) * of_passed == pytest.approx(1.0, abs=1e-5)
    assert max(of_passed, of_failed) <= 10.0 + 1e-4


def test_o26_groups_are_rows_of_the_whole_screen():
    """Failing cells of a are 2 and 4, of b 3; positions within the failing cells would be 0, 2 and 1 (B1)."""
    condition, failed = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 1, 0], dtype=bool)
    groups = cells_by_status(condition, failed, np.arange(6))
    assert groups[0, True].tolist() == [2, 4]
    assert groups[1, True].tolist() == [3]
    assert groups[0, False].tolist() == [0]


def test_references_are_medians_of_the_other_status_in_any_order_of_rows():
    screen, failed = small_screen(n_cells=60)
    artefact = failed[:, None].astype(np.float32)
    train = np.arange(0, 60, 2)
    dense = screen.stored(np.arange(60)).toarray()
    references = References.of(screen, artefact, train_cells=train)
    for cell in range(60):
        same = (screen.condition_code == screen.condition_code[cell]) & (failed != failed[cell])
        behind = train[same[train]]
        if not len(behind):
            assert references.of_cell[cell] == -1
            continue
        expected = torch.from_numpy(dense[behind]).median(dim=0).values.numpy()
        np.testing.assert_array_equal(references.profiles[references.of_cell[cell]].toarray()[0], expected)
    assert (references.of_cell >= 0).any()


def test_published_references_are_failing_cells_for_all():
    screen, failed = small_screen(n_cells=60)
    references = References.of(screen, failed[:, None].astype(np.float32), train_cells=np.arange(60), partner="failed")
    groups = cells_by_status(screen.condition_code, failed, np.arange(60))
    for cell in range(60):
        has = (int(screen.condition_code[cell]), True) in groups
        assert (references.of_cell[cell] >= 0) == has
    assert (references.labels == 1).all()


def test_reference_of_a_condition_does_not_depend_on_the_others_or_on_draws_elsewhere():
    screen, failed = small_screen(n_cells=90)
    artefact = failed[:, None].astype(np.float32)
    whole = References.of(screen, artefact, train_cells=np.arange(90), seed=3, most=2)
    kept = np.flatnonzero(screen.condition_code != 0)
    part = References.of(screen.take(kept), artefact[kept], train_cells=np.arange(len(kept)), seed=3, most=2)
    for place, cell in enumerate(kept):
        if whole.of_cell[cell] >= 0:
            own, other = whole.profiles[whole.of_cell[cell]], part.profiles[part.of_cell[place]]
            assert (own != other).nnz == 0
    other = References.of(screen, artefact, train_cells=np.arange(90), seed=4, most=2)
    assert (other.profiles != whole.profiles).nnz > 0


def test_batch_carries_the_reference_of_each_of_its_cells_in_the_order_of_the_network():
    source, failed = labelled(n_cells=60)
    cells = np.random.default_rng(0).permutation(60)[:25]
    batch = source.batch(cells)
    assert source.references is not None
    for place, cell in enumerate(cells):
        group = source.references.of_cell[cell]
        found = int(batch.extra["reference_of"][place])
        if group < 0:
            assert found == -1
            continue
        expected = source.references.profiles[group].toarray()[0][source.cells.order]
        np.testing.assert_array_equal(batch.extra["reference"][found].numpy(), expected)
        first = int(batch.extra["reference_first"][found])
        assert torch.equal(batch.dosage[first], batch.dosage[place])
        assert bool(batch.extra["switched"][first, 0] != batch.extra["artefact"][first, 0])
        assert torch.equal(batch.extra["switched"][first], batch.extra["switched"][place])
    assert float(batch.extra["failing"]) == pytest.approx(failed[cells].mean())


def test_o23_published_network_of_the_small_sizes_has_410_parameters():
    shape = CradleShape(
        n_targets=3,
        n_latent=2,
        encoder_width=5,
        encoder_layers=1,
        decoder_width=7,
        decoder_layers=2,
        likelihood="counts",
        embedding_width=6,
        embedding_layers=2,
        artefact="network",
    )
    net = CradleNet(shape, Standardise(np.zeros(4), np.ones(4), logarithm=True))
    assert sum(parameter.numel() for parameter in net.parameters()) == 410


def test_passing_cells_are_decoded_whatever_the_artefacts():
    source, failed = labelled(n_cells=40)
    net = small_net(source)
    batch = source.batch(np.flatnonzero(~failed)[:10])
    before = net.bound(batch, seed=1, n_particles=3)
    with torch.no_grad():
        net.artefact.location += 5.0
    torch.testing.assert_close(net.bound(batch, seed=1, n_particles=3), before)
    other = source.batch(np.flatnonzero(failed)[:5])
    assert not torch.allclose(net.bound(other, seed=1), net.bound(replace(other, extra=cleared(other)), seed=1))


def cleared(batch):
    return batch.extra | {"artefact": torch.zeros_like(batch.extra["artefact"])}


def test_good_decode_is_the_decode_with_a_slot_of_zeros():
    source, _ = labelled(n_cells=40)
    net = small_net(source)
    basal = torch.randn(6, net.shape.n_latent)
    dosage = torch.zeros(net.shape.n_targets)
    parts = net.decoder_input(dosage, basal, lambda column: pytest.fail("nothing is drawn for control"))
    zeros = torch.zeros(6, net.shape.n_latent)
    torch.testing.assert_close(net.decoder.log_share(*parts), net.decoder.log_share(*parts, zeros))


def test_terms_of_two_halves_are_those_of_the_batch():
    source, _ = labelled(n_cells=60)
    net = small_net(source)
    cells = np.arange(40)
    whole = net.terms(source.batch(cells), seed=5)
    halves = [net.terms(source.batch(cells, rank=rank, n_parts=2), seed=5) for rank in (0, 1)]
    assert whole.keys() == halves[0].keys() == halves[1].keys()
    for name, value in whole.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, value, rtol=1e-4, atol=1e-5)


def test_terms_are_the_same_in_number_in_a_batch_without_references():
    source, failed = labelled(n_cells=60)
    net = small_net(source)
    lonely = np.flatnonzero(source.references.of_cell < 0)
    assert len(lonely) > 1
    assert not failed[lonely].any()
    terms = net.terms(source.batch(lonely), seed=0)
    assert terms["counterfactual"].item() == 0.0


def test_counterfactual_term_is_one_of_its_own():
    source, _ = labelled(n_cells=60)
    batch = source.batch(np.arange(60))
    with_it = small_net(source).terms(batch, seed=0)
    without = small_net(source, counterfactual=0.0).terms(batch, seed=0)
    assert set(with_it) - set(without) == {"counterfactual"}
    for name, value in without.items():
        torch.testing.assert_close(with_it[name], value)


def test_beta_counts_for_the_whole_batch_or_for_as_many_cells_as_said():
    source, _ = labelled(n_cells=60)
    batch = source.batch(np.arange(30))
    by_sum = small_net(source, counterfactual_batch=None).terms(batch, seed=0)["counterfactual"]
    by_mean = small_net(source, counterfactual_batch=90).terms(batch, seed=0)["counterfactual"]
    torch.testing.assert_close(by_mean, 3 * by_sum)


@pytest.mark.parametrize(
    "choice", [{"analytic_kl": False}, {"artefact": "network"}, {"counterfactual_kl": "published"}]
)
@pytest.mark.parametrize("draws", ["shared", "separate"])
def test_every_form_has_a_finite_gradient_for_every_parameter(choice, draws):
    source, _ = labelled(n_cells=60)
    net = small_net(source, counterfactual_draws=draws, **choice)
    sum(net.terms(source.batch(np.arange(60)), seed=0).values()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name


def test_rows_of_absent_perturbations_have_no_gradient():
    source, _ = labelled(n_cells=60)
    net = small_net(source)
    absent = source.screen_column("B")
    cells = np.flatnonzero(source.cells.dosage[source.cells.screen.condition_code][:, absent] == 0)
    sum(net.terms(source.batch(cells), seed=0).values()).backward()
    gradient = net.guide.logits.grad
    assert float(gradient[absent].abs().max()) == 0.0
    assert float(gradient.abs().max()) > 0.0


def test_many_samples_of_the_divergences_come_to_the_exact_ones():
    source, _ = labelled(n_cells=60)
    batch = source.batch(np.arange(60))
    exact = small_net(source).terms(batch, seed=0)
    sampled = small_net(source, analytic_kl=False, n_particles=4000).terms(batch, seed=0)
    for name in ("basal_kl", "mask_kl", "artefact_kl"):
        assert sampled[name].item() == pytest.approx(exact[name].item(), rel=0.05, abs=0.02)


def test_several_artefacts_each_have_their_own_vector():
    screen, failed = small_screen(n_cells=60)
    artefact = np.zeros((60, 2), dtype=np.float32)
    artefact[failed, 0] = 1
    artefact[::7, 1] = 1
    plain = CellBatches.of(screen, columns=("A", "B", "C"), train_cells=np.arange(60))
    references = References.of(screen, artefact, train_cells=np.arange(60))
    source = LabelledBatches(plain, artefact, np.arange(60), references)
    net = small_net(source, n_artefacts=2)
    sum(net.terms(source.batch(np.arange(60)), seed=0).values()).backward()
    gradient = net.artefact.location.grad
    assert not torch.allclose(gradient[0], gradient[1])
