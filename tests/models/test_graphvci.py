"""GraphVCI: the arithmetic of its terms, its learned edges, and answers of seen and unseen targets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from perturbcast.errors import CannotPredict, NeedsCells
from perturbcast.models.check_world import check_world
from perturbcast.models.graphvci import GraphVci, errors_of, regulator_edges
from perturbcast.models.pair_family import pairs_source
from perturbcast.models.target_inputs import target_inputs
from perturbcast.nn.cell_pairs import PairBatch
from perturbcast.nn.divergences import normal_kl
from perturbcast.nn.doses import Doses
from perturbcast.nn.graphvci_net import GeneGraphLayer, match_nll
from perturbcast.nn.trunk import Gaussian

QUICK = {"width": 16, "max_epochs": 12, "batch_size": 64, "lr": 3e-3, "folds": 0}


@pytest.fixture(scope="module")
def world():
    return check_world()


@pytest.fixture(scope="module")
def fitted(world):
    return GraphVci(**QUICK).fit(world.with_cells, seed=1)


def test_divergence_is_that_of_oracle_e1():
    one = Gaussian(torch.tensor(0.3), torch.tensor(0.5**2))
    other = Gaussian(torch.tensor(-0.2), torch.tensor(1.2**2))
    assert float(normal_kl(one, other)) == pytest.approx(0.549080, abs=1e-6)


def test_match_is_that_of_oracle_e2():
    imagined, cells = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0], [2.0, 3.0]])
    mean, variance = cells.mean(dim=0, keepdim=True), cells.var(dim=0, correction=0, keepdim=True)
    assert float(match_nll(imagined, mean, variance).mean()) == pytest.approx(1.293939, abs=1e-6)


def test_robust_mean_is_that_of_oracle_e3():
    own, predicted = np.array([[1.0, 1.0], [3.0, 1.0]]), np.array([[0.5, 1.0], [2.5, 2.0]])
    nothing = Doses.each(torch.zeros(2, 1))
    batch = PairBatch(
        torch.from_numpy(own), torch.from_numpy(own), nothing, torch.zeros(2).long(), torch.zeros(2).long(), 2
    )
    source = SimpleNamespace(batch=lambda cells: batch)
    network = SimpleNamespace(counterfactual=lambda *_: torch.from_numpy(predicted))
    found = np.array([2.0, 3.0]) + errors_of(network, source, np.arange(2)).mean(axis=0)
    assert found.tolist() == [2.5, 2.5]


def test_edges_into_a_gene_sum_to_one_and_their_weights_are_learned():
    source, destination = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 1, 2, 1, 2])
    torch.manual_seed(0)  # some draws leave a gene with no state above zero, and so without a gradient
    layer = GeneGraphLayer(source, destination, n_genes=3, width=4)
    with torch.no_grad():
        layer.logits.copy_(torch.tensor([0.0, 0.0, 0.0, np.log(3.0), 5.0]))
    total = torch.zeros(3).index_add(0, destination, layer.attention())
    torch.testing.assert_close(total, torch.ones(3))
    assert float(layer.attention().detach()[3]) == pytest.approx(0.75)
    layer().sum().backward()
    assert bool((layer.logits.grad[[1, 3]] != 0).all())
    assert float(layer.logits.grad[0]) == 0.0  # the only edge into gene 0


def test_graph_has_every_gene_itself_and_the_edges_of_the_knowledge(world):
    genes = sorted(str(gene) for gene in world.training.responses.genes)
    edges = set(zip(*regulator_edges(genes, world.training.knowledge).tolist(), strict=True))
    assert {(place, place) for place in range(len(genes))} <= edges
    weights, _ = world.training.knowledge.graphs["likeness"].between(genes)
    assert edges == {*zip(*np.stack(weights.nonzero()).tolist(), strict=True), *((i, i) for i in range(len(genes)))}


def source_of(world, **fields):
    """Pairs of cells, and what a network is made with."""
    inputs = target_inputs(world.with_cells, knowledge=True)
    source, positive = pairs_source(world.with_cells, inputs, seed=0, label="test")
    model = GraphVci(**QUICK | fields)
    given = model.given(world.with_cells, source)
    torch.manual_seed(0)
    return source, model.network(inputs, positive=positive, given=given, rows=source)


def test_network_starts_at_the_mean_of_control_cells_and_no_unit_is_silent(world):
    source, network = source_of(world)
    batch = source.batch(np.arange(32))
    found = network.counterfactual(batch.values, batch.dose, batch.dose, batch.context)
    np.testing.assert_allclose(found.detach(), np.tile(source.expression(source.controls()).mean(axis=0), (32, 1)))
    network.terms(batch, seed=0)["match"].backward()
    assert bool((network.reader[-1].weight.grad.abs().sum(dim=0) > 0).all())


def test_control_is_imagined_as_often_as_asked(world):
    _, network = source_of(world, match_control=0.25)
    control = network.get_buffer("given_group_control")
    assert int(control.sum()) == len(world.training.responses.contexts)
    assert bool((network.get_buffer("given_group_dose")[control] == 0).all())
    drawn = network._others(torch.zeros(4000, dtype=torch.int64))
    assert float(control[drawn].float().mean()) == pytest.approx(0.25, abs=0.03)
    _, without = source_of(world, match_control=0.0)
    assert not without.get_buffer("given_group_control").any()


def test_what_targets_do_is_learned_without_the_correction_by_own_cells(world, fitted):
    truth = world.training.responses
    bare = {**fitted.state(), "residual": np.zeros_like(fitted.state()["residual"])}
    found = GraphVci.fitted_class.restore(fitted.model, truth, bare).predict(truth.queries).response
    pairs = zip(found - found.mean(axis=0), truth.response - truth.response.mean(axis=0), strict=True)
    beyond = [np.corrcoef(own, observed)[0, 1] for own, observed in pairs]
    assert np.mean(beyond) > 0.2


def test_seen_conditions_are_corrected_to_their_own_mean(world, fitted):
    truth = world.training.responses
    assert truth.n_queries == sum(fitted.predict(truth.queries).predicted)
    residual = fitted.state()["residual"]
    bare = {**fitted.state(), "residual": np.zeros_like(residual)}
    plain = GraphVci.fitted_class.restore(fitted.model, truth, bare)
    error = {
        name: np.linalg.norm(model.predict(truth.queries).response - truth.response, axis=1).mean()
        for name, model in (("robust", fitted), ("plain", plain))
    }
    assert error["robust"] < 0.7 * error["plain"]


def test_paper_refuses_targets_never_seen_and_plus_asks_what_is_known(world, fitted):
    paper = GraphVci.make("paper", width=4, max_epochs=1).fit(world.with_cells, seed=0)
    unseen = [q for q in world.test.queries if "+" not in q.condition and q.condition.startswith("G")]
    assert all(reason.startswith(CannotPredict.code) for reason in paper.predict(unseen).reason)
    assert fitted.predict(unseen).predicted.all()


def test_without_cells_it_says_so(world):
    with pytest.raises(NeedsCells):
        GraphVci().fit(world.training, seed=0)


def test_learned_weights_are_given_by_edge(fitted):
    weights = fitted.attention()
    into = {}
    for (_, destination), weight in weights.items():
        into[destination] = into.get(destination, 0.0) + weight
    assert np.allclose(list(into.values()), 1.0, atol=1e-5)
