"""Each ablation and control of GRAPE changes what its name says, in `plus` and as published (spec A.8)."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch

from perturbcast.genes.knowledge import GeneTable
from perturbcast.models.base import TrainingData
from perturbcast.models.check_world import check_world
from perturbcast.models.grape import Grape
from perturbcast.models.node_table import node_table
from perturbcast.nn.grape_net import GrapeNet
from perturbcast.nn.grape_parts import relation_of
from perturbcast.nn.nodes import NodeTable

SMALL = {"folds": 2, "width": 8, "n_heads": 2, "top": 5, "align_epochs": 0}
PROFILES = (None, "paper", "code")


@dataclass(frozen=True)
class Built:
    """A model of an ablation (or the whole), the nodes that it uses, and its network with its first weights."""

    model: Grape
    nodes: NodeTable
    network: GrapeNet

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def relations(self) -> torch.Tensor:
        marked = self.network.data("non_coding")
        return relation_of(marked, self.network.data("source"), self.network.data("destination"))

    def answers(self, *slots: int) -> torch.Tensor:
        with torch.no_grad():
            return self.network.respond(torch.tensor([[slot] for slot in slots]))


@pytest.fixture(scope="module")
def training() -> TrainingData:
    """The check world with texts of ten words, and a gene table in which every third gene is non-coding."""
    found = check_world().training
    names, rng = sorted(found.knowledge.texts), np.random.default_rng(0)
    texts = {name: " ".join(f"word{number}" for number in rng.permutation(60)[:10]) for name in names}
    biotype = ["lncRNA" if place % 3 == 0 else "protein_coding" for place in range(len(names))]
    frame = pd.DataFrame({"symbol": names, "ensembl_id": "", "biotype": biotype})
    return replace(found, knowledge=replace(found.knowledge, table=GeneTable(frame), texts=texts))


def built(training: TrainingData, profile: str | None, **changes: object) -> Built:
    model = Grape.make(profile, **(SMALL | changes))
    nodes = model.training_nodes(node_table(training.responses, training.knowledge))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = model.network(nodes, n_genes=nodes.n_measured)
        torch.nn.init.normal_(network.head)  # in `plus` it starts at 0
    assert isinstance(network, GrapeNet)
    return Built(model, nodes, network.eval())


def without(training: TrainingData, profile: str | None, name: str) -> tuple[Built, Built]:
    """(the whole, the ablation of that name)."""
    return built(training, profile), built(training, profile, **Grape.card.ablations[name])


def kinds(found: Built) -> set[str]:
    return {name.split(":")[0] for name in found.nodes.blocks}


def degrees(found: Built) -> np.ndarray:
    """Neighbours of every node, itself left out."""
    source, destination = found.network.data("source").numpy(), found.network.data("destination").numpy()
    return np.bincount(source[source != destination], minlength=len(found.nodes.names))


def likeness(block: np.ndarray) -> np.ndarray:
    """Products of the features of all pairs of nodes."""
    rows = np.asarray(block, dtype=float)
    return (rows @ rows.T)[np.triu_indices(len(rows), k=1)]


def pairs(found: Built) -> set[tuple[int, int]]:
    source, destination = found.network.data("source").numpy(), found.network.data("destination").numpy()
    return {(int(a), int(b)) for a, b in zip(source, destination, strict=True) if a != b}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", ["text", "sequence"])
def test_one_modality_is_encoded_alone_without_fusion(training, profile, kind):
    whole, found = without(training, profile, f"{kind} only")
    assert {"text", "sequence"} <= kinds(whole)
    assert kinds(found) == set(found.network.encoders) == {kind}
    assert whole.network.fuse is not None
    assert found.network.fuse is None  # Z_fus is the encoding itself
    assert list(found.network.structure.by_modality) == ["fused"]
    states = found.network.encoded()["fused"]
    own = found.network.encoders[kind](found.network.data(f"features_{kind}"))
    torch.testing.assert_close(states, own, rtol=0, atol=0)


@pytest.mark.parametrize("profile", PROFILES)
def test_fusion_alone_has_no_modality_graphs_and_keeps_both_encoders(training, profile):
    whole, found = without(training, profile, "fusion only")
    assert list(found.network.structure.by_modality) == ["fused"]
    assert set(whole.network.structure.by_modality) == {"fused", *whole.network.encoders}
    assert set(found.network.encoders) == set(whole.network.encoders)
    assert found.network.fuse is not None


@pytest.mark.parametrize("profile", PROFILES)
def test_without_structure_learning_messages_go_by_the_aggregated_graph(training, profile):
    whole, found = without(training, profile, "no structure learning")
    states = found.network.states()
    torch.testing.assert_close(states.learned, states.agreed, rtol=0, atol=0)
    assert not torch.equal(whole.network.states().learned, whole.network.states().agreed)
    assert set(whole.network.penalties()) == {"structure"}
    assert not found.network.penalties()
    assert len(found.network.structure.hops) == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_without_biotypes_every_edge_is_of_one_relation(training, profile):
    whole, found = without(training, profile, "no biotypes")
    assert set(whole.relations.tolist()) == {0, 1, 2}
    assert set(found.relations.tolist()) == {0}
    assert not torch.equal(whole.answers(0), found.answers(0))


@pytest.mark.parametrize("profile", PROFILES)
def test_shuffled_biotypes_are_as_many_on_other_genes(training, profile):
    whole, found = without(training, profile, "shuffled biotypes")
    real, shuffled = (one.network.data("non_coding") for one in (whole, found))
    assert int(real.sum()) == int(shuffled.sum()) > 0
    assert not torch.equal(real, shuffled)
    assert pairs(whole) == pairs(found)
    assert not torch.equal(whole.relations, found.relations)


@pytest.mark.parametrize("profile", PROFILES)
def test_random_features_have_the_width_of_the_real_ones_and_nothing_of_them(training, profile):
    whole, found = without(training, profile, "random features")
    assert {name: block.shape for name, block in found.nodes.blocks.items()} == {
        name: block.shape for name, block in whole.nodes.blocks.items()
    }
    for name in whole.nodes.blocks:
        real, random = (likeness(one.nodes.blocks[name]) for one in (whole, found))
        assert abs(np.corrcoef(real, random)[0, 1]) < 0.1
    assert found.n_parameters == whole.n_parameters


@pytest.mark.parametrize("profile", PROFILES)
def test_random_graph_keeps_the_neighbours_of_genes_in_number_alone(training, profile):
    whole, found = without(training, profile, "random graph")
    real, random = degrees(whole), degrees(found)
    assert np.corrcoef(real, random)[0, 1] > 0.7  # loops and doubles that come up are dropped
    assert 0.7 < random.sum() / real.sum() <= 1
    assert len(pairs(whole) & pairs(found)) < 0.5 * len(pairs(whole))
    for name, block in found.nodes.blocks.items():
        np.testing.assert_array_equal(block, whole.nodes.blocks[name])


@pytest.mark.parametrize("profile", PROFILES)
def test_without_attention_genes_hear_of_targets_only_what_these_send(training, profile):
    _, found = without(training, profile, "no attention")
    network = found.network
    assert len(network.layers) == 0
    assert network.send is not None
    torch.testing.assert_close(found.answers(0, 3), found.answers(-1, -1), rtol=0, atol=0)  # as yet nothing is sent
    torch.nn.init.normal_(network.send.code.weight)
    torch.nn.init.normal_(network.send.turn)
    first, second, none = found.answers(0, 3, -1)
    assert not torch.allclose(first, none)
    assert not torch.allclose(first, second)


def test_without_prior_graphs_or_sending_targets_hear_over_no_graph(training):
    whole, found = without(training, None, "no prior graphs")
    assert whole.nodes.graphs
    assert not found.nodes.graphs
    assert set(found.nodes.blocks) == set(whole.nodes.blocks)
    assert found.network.send is not None
    _, found = without(training, None, "nothing sent")
    assert found.network.send is None
