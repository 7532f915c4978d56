"""Each ablation of APP changes what its name says, as published (spec B.3)."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from perturbcast.models.app import App
from perturbcast.models.base import TrainingData
from perturbcast.models.check_world import check_world
from perturbcast.models.node_table import node_table
from perturbcast.nn.app_net import AppNet
from perturbcast.nn.nodes import NodeTable

QUERIES = torch.tensor([[0, -1], [3, -1], [0, 3]])


@dataclass(frozen=True)
class Built:
    """The nodes of an ablation (or the whole), and its network with its first weights."""

    nodes: NodeTable
    network: AppNet

    @property
    def states(self) -> torch.Tensor:
        with torch.no_grad():
            return self.network.gene_states().states

    @property
    def answers(self) -> torch.Tensor:
        with torch.no_grad():
            return self.network.respond(QUERIES)

    @property
    def weights(self) -> torch.Tensor:
        with torch.no_grad():
            return self.network.weights_of(QUERIES)


@pytest.fixture(scope="module")
def training() -> TrainingData:
    return check_world().training


def built(training: TrainingData, name: str | None = None) -> Built:
    changes = {} if name is None else App.card.ablations[name]
    model = App.make("paper", **{"n_state": 8, "n_attention": 4} | changes)
    nodes = model.training_nodes(node_table(training.responses, training.knowledge))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = model.network(nodes, n_genes=nodes.n_measured)
    assert isinstance(network, AppNet)
    return Built(nodes, network.eval())


def without_knowledge(training: TrainingData) -> TrainingData:
    """The same responses with the names of all embedding tables turned round."""
    tables = training.knowledge.embeddings
    turned = {name: replace(table, matrix=table.matrix[::-1]) for name, table in tables.items()}
    return replace(training, knowledge=replace(training.knowledge, embeddings=turned))


@pytest.mark.parametrize("name", ["random states", "random states, trained", "identity states"])
def test_states_without_a_network_know_nothing_of_genes(training, name):
    found, other = built(training, name), built(without_knowledge(training), name)
    torch.testing.assert_close(found.states, other.states, rtol=0, atol=0)
    assert not torch.allclose(built(training).states, built(without_knowledge(training)).states)
    assert found.network.n_graphs == 0
    trained = [key for key, _ in found.network.named_parameters() if key.endswith("table")]
    assert len(trained) == {"random states": 0, "random states, trained": 1, "identity states": 3}[name]


def test_random_states_are_normal_with_variance_one_over_the_root_of_the_width(training):
    states = built(training, "random states").states.numpy()
    assert np.var(states) == pytest.approx(8**-0.5, rel=0.2)
    assert abs(states.mean()) < 0.05


def test_without_a_graph_states_are_of_the_features_of_a_gene_alone(training):
    found = built(training, "no graph")
    assert found.network.n_graphs == 0
    assert built(training).network.n_graphs > 0
    alone = found.network.data("features").clone()
    before = found.states.clone()
    found.network.given.features = alone + torch.eye(len(alone))[:, :1]  # one gene knows something else
    changed = torch.nonzero((found.network.train(False).gene_states().states != before).any(dim=1))[:, 0]
    assert changed.tolist() == [0]


def test_mean_of_all_genes_is_one_answer_for_every_query(training):
    found = built(training, "no attention: mean of all genes")
    torch.testing.assert_close(found.answers, found.answers[:1].expand(3, -1), rtol=0, atol=0)
    assert not torch.allclose(built(training).answers[0], built(training).answers[1], atol=1e-7)


def test_mean_of_the_targets_attends_to_them_alone(training):
    found = built(training, "no attention: mean of the targets")
    wanted = torch.zeros(3, found.nodes.n_core)
    wanted[0, 0] = wanted[1, 3] = 1.0
    wanted[2, [0, 3]] = 0.5
    torch.testing.assert_close(found.weights[:, 0], wanted)
    both = found.network.decoder(found.states[[0, 3]].mean(dim=0))
    torch.testing.assert_close(found.answers[2], both.detach())


def test_mlp_decoder_is_not_linear_in_the_attended_state(training):
    def bend(one: Built) -> torch.Tensor:
        with torch.no_grad():
            low, middle, high = one.network.decoder(torch.linspace(-3, 3, 3)[:, None].expand(3, 8))
        return (low + high - 2 * middle).abs().max()

    assert bend(built(training)) < 1e-5
    assert bend(built(training, "MLP decoder")) > 1e-2
