"""GEARS: the published arithmetic, its batching defect, what it refuses, and what `plus` adds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory
from perturbcast.errors import CannotPredict, NeedsKnowledge, NotEnoughTraining, TrainingDiverged
from perturbcast.genes.graphs import gene_sets_of, jaccard_top_graph
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.models.base import TrainingData
from perturbcast.models.check_world import check_world
from perturbcast.models.gears import Gears
from perturbcast.models.gears_fit import normalised_incoming, pairs_of, validation_conditions
from perturbcast.models.predicted_interactions import predicted_interactions
from perturbcast.nn.gears_net import GearsNet, Incoming, autofocus
from perturbcast.nn.gears_plus_net import gaussian_misfit
from perturbcast.nn.gears_rows import GearsBatch
from perturbcast.nn.shared_norm import SharedNorm

SMALL = {"hidden": 8, "max_epochs": 8, "lr": 1e-2, "lr_factor": 0.8}


@pytest.fixture(scope="module")
def world():
    return check_world()


@pytest.fixture(scope="module")
def published(world):
    return Gears.make("paper", **SMALL).fit(world.with_cells, seed=1)


def incoming(matrix):
    """Edges of a (destination, source) matrix as the network takes them."""
    csr = sparse.csr_matrix(matrix)
    parts = (csr.indices.astype(np.int64), csr.indptr[:-1].astype(np.int64), csr.data.astype(np.float32))
    return Incoming(*map(torch.from_numpy, parts))


def weights_of_rows(seen, condition):
    """The weights of C-8 from the genes that count in each row and the condition of each row."""
    condition = np.array(condition)
    count = np.array([(condition == own).sum() for own in condition])
    weight = seen / (len(set(condition)) * count * seen.sum(axis=1))[:, None]
    return torch.from_numpy(weight.astype(np.float32))


# ------------------------------------------------------------------------------------------------------------ oracles
@pytest.mark.parametrize(("seen_in_first", "expected"), [([True, True], 4.35), ([True, False], 4.7)])
def test_loss_is_that_of_oracle_c1(seen_in_first, expected):
    predicted, cell = torch.tensor([[1.0, 0.0], [2.0, 1.0]]), torch.tensor([[2.0, 0.0], [2.0, 3.0]])
    control = torch.tensor([1.5, 0.5])
    basal = torch.zeros(2, 2)  # the control cell is the mean of controls
    weight = weights_of_rows(np.array([seen_in_first, [True, True]]), ["A", "B"])
    error, direction = autofocus(predicted - control, cell - control, basal, weight)
    assert float(error + direction) == pytest.approx(expected, rel=1e-6)


def test_direction_term_as_published_has_no_gradient():
    response = torch.ones(1, 2, requires_grad=True)
    _, direction = autofocus(response, -torch.ones(1, 2), torch.zeros(1, 2), torch.ones(1, 2))
    assert float(direction) > 0
    assert not direction.requires_grad


def test_graph_of_shared_sets_is_that_of_oracle_c2():
    sets = gene_sets_of("go", [("1", "a"), ("2", "ab"), ("3", "ab"), ("4", "b"), ("9", "c")])
    graph = jaccard_top_graph(sets, ["a", "b", "c"], least=0.0)
    assert graph.weights.toarray()[0].tolist() == [1.0, 0.5, 0.0]


def test_messages_reach_only_the_first_cell_as_in_oracle_c4():
    spread = incoming(normalised_incoming(sparse.csr_matrix([[0.0, 1.0], [1.0, 0.0]]))).spread
    own = torch.tensor([[1.0], [3.0]])
    assert torch.cat([spread(own), own]).ravel().tolist() == pytest.approx([2, 2, 1, 3])


def test_messages_are_those_of_sgconv():
    from torch_geometric.nn import SGConv

    rng = np.random.default_rng(0)
    weights = sparse.random(12, 12, density=0.3, random_state=rng, format="csr")
    weights.setdiag(np.where(np.arange(12) < 5, 1.0, 0.0))  # five genes with an edge to themselves, as in C-1
    weights.eliminate_zeros()
    edges = sparse.coo_matrix(weights)
    layer = SGConv(4, 3, K=1)
    states = torch.from_numpy(rng.normal(size=(12, 4)).astype(np.float32))
    theirs = layer(
        states, torch.from_numpy(np.stack([edges.row, edges.col])).long(), torch.from_numpy(edges.data).float()
    )
    ours = layer.lin(incoming(normalised_incoming(weights)).spread(states))
    torch.testing.assert_close(ours, theirs)


# ------------------------------------------------------------------------------------------------ dense, not per cell
def test_messages_in_parts_are_those_of_the_whole():
    edges = incoming(sparse.random(11, 7, density=0.3, random_state=2, format="csr"))
    states = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    for most in (1, 4, 11, 20):
        parts = edges.parts(most)
        assert max(len(part.offset) for part in parts) <= most
        assert torch.equal(torch.cat([part.spread(states) for part in parts]), edges.spread(states))


def test_normalisation_of_shared_rows_is_that_of_repeated_rows():
    times = torch.tensor([3, 1, 4, 2])
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    ours, theirs = SharedNorm(5), torch.nn.BatchNorm1d(5)
    with torch.no_grad():
        ours.weight.copy_(torch.linspace(0.5, 1.5, 5))
        theirs.weight.copy_(ours.weight)
    few, many = x.clone().requires_grad_(), x.repeat_interleave(times, dim=0).requires_grad_()
    mine = ours.rectified(few, times / 10, 10.0)
    full = theirs(many).relu()
    torch.testing.assert_close(mine.repeat_interleave(times, dim=0), full)
    (mine * times[:, None]).pow(2).sum().backward()
    (full * times.repeat_interleave(times)[:, None] ** 0.5).pow(2).sum().backward()
    torch.testing.assert_close(few.grad, torch.stack([part.sum(0) for part in many.grad.split(times.tolist())]))
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, theirs.running_var)


def test_gradients_of_shared_moments_are_right():
    norm = SharedNorm(3).double()
    share = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    x = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: norm.of_rows(x, share, 9.0)(x), x)
    assert torch.autograd.gradcheck(lambda x: norm.rectified(x, share, 9.0), x)


def toy_network(*, legacy=False, seed=0):
    """A network of seven genes and four targets."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    positions = normalised_incoming(sparse.random(7, 7, density=0.5, random_state=rng, format="csr"))
    targets = normalised_incoming(sparse.random(4, 4, density=0.5, random_state=rng, format="csr"))
    return GearsNet(
        n_genes=7, n_reached=4, hidden=5, legacy=legacy, positions=incoming(positions), targets=incoming(targets)
    )


CONDITION = np.array([1, 0, 1, 2, 2, 2])  # of six cells; 0 is control
SLOTS = np.array([[-1, -1], [0, -1], [1, 3]])


def toy_batch(*, by_cell, separate_first=False):
    """Six cells of three conditions, one group per cell or one per condition."""
    rng = np.random.default_rng(3)
    change, basal = (torch.from_numpy(rng.normal(size=(6, 7)).astype(np.float32)) for _ in range(2))
    label = CONDITION + 1
    if separate_first:
        label = np.where(np.arange(6) == 0, 0, label)
    label = np.arange(6) if by_cell else label
    _, first, group, count = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    return GearsBatch(
        change=change,
        basal=basal,
        weight=weights_of_rows(np.ones((6, 7)), CONDITION),
        group=torch.from_numpy(group),
        slots=torch.from_numpy(SLOTS[CONDITION[first]]),
        later=torch.from_numpy(np.minimum(first, 1)),
        count=torch.from_numpy(count.astype(np.float32)),
    )


@pytest.mark.parametrize("legacy", [False, True])
def test_computing_a_condition_once_changes_no_number(legacy):
    found = []
    for by_cell in (True, False):
        network = toy_network(legacy=legacy)
        terms = network.terms(toy_batch(by_cell=by_cell, separate_first=legacy), seed=0)
        sum(terms.values()).backward()
        values = [*terms.values(), *(p.grad for p in network.parameters()), *network.buffers()]
        found.append([value.detach().clone() for value in values])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_legacy_agrees_for_a_batch_of_one_and_differs_for_more():
    right, legacy = toy_network(), toy_network(legacy=True)
    torch.testing.assert_close(right.gene_states(1.0)[0], legacy.gene_states(1.0)[0])
    first, other = toy_network(legacy=True).gene_states(32.0)
    assert not torch.allclose(first, other, atol=1e-3)


# ------------------------------------------------------------------------------------------------------------ training
def test_each_cell_is_paired_with_a_control_cell_fixed_by_seed(world):
    screen = world.with_cells.screen
    own, control = pairs_of(screen, seed=5)
    assert screen.is_control[control].all()
    np.testing.assert_array_equal(own[screen.is_control[own]], control[screen.is_control[own]])
    np.testing.assert_array_equal(control, pairs_of(screen, seed=5)[1])
    assert not np.array_equal(control, pairs_of(screen, seed=6)[1])


def test_validation_conditions_are_some_of_training_and_none_of_too_few():
    conditions = [f"T{number}" for number in range(20)] + [f"T{number}+T{number + 1}" for number in range(12)]
    valid = validation_conditions(conditions, seed=0)
    assert 0 < len(valid) < 16
    assert set(valid) < set(conditions)
    assert validation_conditions(["T1"], seed=0) == []


def test_published_training_learns_from_cells(world, published):
    truth = world.training.responses
    found = published.predict(truth.queries)
    rows = found.predicted
    error = np.linalg.norm(found.response[rows] - truth.response[rows], axis=1)
    assert error.mean() < 0.8 * np.linalg.norm(truth.response[rows], axis=1).mean()


def test_legacy_answers_otherwise_than_paper(world, published):
    legacy = Gears.make("legacy", **SMALL).fit(world.with_cells, seed=1)
    asked = world.test.queries[:3]
    assert not np.allclose(legacy.predict(asked).response, published.predict(asked).response, atol=1e-3)


def test_responses_take_the_place_of_cells_where_there_are_none(world):
    fitted = Gears.make("paper", pairs=64, **SMALL).fit(world.training, seed=1)
    assert np.isfinite(fitted.predict(world.test.queries[:4]).response).any()


# ----------------------------------------------------------------------------------------------- complaints (spec C.10)
def test_target_outside_the_ontology_is_refused_as_published_and_answered_by_plus(world, published):
    (reason,) = published.predict(["NEVER_HEARD_OF"]).reason
    assert reason.startswith(CannotPredict.code)
    assert "NEVER_HEARD_OF" in reason
    plus = Gears(folds=2, max_steps=3, hidden=4).fit(world.training, seed=0)
    assert plus.predict(["NEVER_HEARD_OF"]).reason == ("",)


def test_without_gene_sets_it_says_so(world):
    with pytest.raises(NeedsKnowledge, match="gene sets"):
        Gears.make("paper").fit(TrainingData(world.training.responses), seed=0)
    with pytest.raises(NeedsKnowledge, match="signs"):
        Gears.make("paper", gene_sets="sign").fit(world.training, seed=0)


def test_too_few_conditions_in_the_ontology_are_named(world):
    sets = gene_sets_of("go", [("one", ["G00", "G01"])])
    table = world.training.responses
    lonely = replace(
        world.training, knowledge=GeneKnowledge(gene_sets={"go": sets}), responses=table.take(np.arange(3))
    )
    with pytest.raises(NotEnoughTraining, match="of 3 training conditions"):
        Gears.make("paper").fit(lonely, seed=0)


def test_two_conditions_without_any_double_are_enough_and_doubles_are_answered(world):
    table = world.training.responses
    singles = [row for row, c in enumerate(table.conditions) if len(targets_of(c)) == 1][:3]
    few = replace(world.with_cells, responses=table.take(np.array(singles)))
    fitted = Gears.make("paper", hidden=4, max_epochs=1).fit(few, seed=0)
    double = "+".join(sorted(table.conditions[row] for row in singles[:2]))
    assert np.isfinite(fitted.predict([double]).response).all()


def test_values_whose_fourth_power_overflows_end_in_a_coded_error(world):
    given = world.with_cells
    huge = InMemory(given.screen.matrix.rows(np.arange(given.screen.n_cells)) * np.float32(1e10))
    screen = replace(given.screen, matrix=huge, scale=Scale.LOG_OTHER)
    table = replace(given.responses, scale=Scale.LOG_OTHER)
    with pytest.raises(TrainingDiverged):
        Gears.make("paper", hidden=4, max_epochs=1).fit(replace(given, screen=screen, responses=table), seed=0)


# ---------------------------------------------------------------------------------------------------------------- plus
def test_uncertainty_is_least_at_the_size_of_the_error():
    error = torch.tensor([0.3, 2.0])
    best = gaussian_misfit(error, 2 * error.abs().log())
    for shift in (-0.5, 0.5):
        assert (gaussian_misfit(error, 2 * error.abs().log() + shift) > best).all()


def test_plus_says_how_sure_it_is_and_the_published_network_does_not(world, published):
    plus = Gears(folds=2, max_steps=30, hidden=4).fit(world.training, seed=0)
    sure = plus.confidence([query.condition for query in world.test.queries[:3]])
    assert (sure > 0).all()
    with pytest.raises(CannotPredict):
        published.confidence(["G00"])


def test_predicted_doubles_have_interaction_scores(published):
    a, b = [c.condition for c in published.trained_on if len(targets_of(c.condition)) == 1][:2]
    (scores,) = predicted_interactions(published, [f"{a}+{b}"])
    assert np.isfinite([scores.magnitude, scores.dominance, scores.fit]).all()
    with pytest.raises(CannotPredict, match="no double"):
        predicted_interactions(published, [a])
    with pytest.raises(CannotPredict, match="no scores"):
        predicted_interactions(published, [Query("NEITHER+NOR")])
