"""Pictures of networks hold what they should: every block, every chosen gene, dotted paths where no edge is."""

import numpy as np
import pytest

from perturbcast.errors import BadOption, UnknownGenes
from perturbcast.networks.network import Network
from perturbcast.report.figures import to_svg
from perturbcast.report.network_figures import block_heatmap, blocks_of, hubs, layout, subnetwork


def network(**columns):
    weights = np.zeros((6, 6))
    weights[[0, 1, 2, 0], [1, 2, 3, 4]] = [4, 3, 2, 1]  # A->B->C->D, A->E; F alone
    sign = np.sign(weights) * np.array([[1, 1, 1, 1, -1, 1]])
    return Network.of_matrix(
        ["ALPHA", "BETA", "GAMMA", "DELTA", "EPSI", "FREE"],
        weights,
        sign=sign,
        columns={name: np.full((6, 6), value) for name, value in columns.items()},
        is_perturbed=np.array([True, True, False, False, False, False]),
        is_extended=np.array([False, False, True, False, False, False]),
    )


def test_blocks_hold_every_gene_once_and_the_strongest_first():
    blocks = blocks_of(network())
    assert {name: [str(network().genes[gene]) for gene in genes] for name, genes in blocks.items()} == {
        "perturbed": ["BETA", "ALPHA"],
        "extended": ["GAMMA"],
        "other measured": ["DELTA", "EPSI"],
    }


@pytest.mark.parametrize("columns", [{}, {"probability": 0.7}, {"probability": 0.5}])
def test_the_heatmap_names_blocks_and_genes(columns):
    svg = to_svg(block_heatmap(network(**columns)))
    for word in ("perturbed", "extended", "other measured", "ALPHA", "EPSI"):
        assert word in svg
    assert ("untouched" in svg) == bool(columns)


def test_colours_of_the_heatmap_follow_weight_and_sign():
    axis = block_heatmap(network()).axes[0]
    values = axis.get_images()[0].get_array()
    rows = [label.get_text() for label in axis.get_yticklabels()]
    columns = [label.get_text() for label in axis.get_xticklabels()]
    assert rows == ["BETA", "ALPHA", "GAMMA"]
    assert values[rows.index("ALPHA"), columns.index("EPSI")] == -1
    assert values[rows.index("BETA"), columns.index("GAMMA")] == 3


def test_paths_are_dotted_only_where_no_edge_is():
    figure = subnetwork(network(), ["ALPHA", "BETA", "DELTA"], n_neighbours=3)
    dotted = [patch for patch in figure.axes[0].patches if patch.get_linestyle() not in ("-", "solid")]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(dotted) == 2  # ALPHA to DELTA over three edges, BETA to DELTA over two
    assert sorted(text for text in texts if text.isdigit()) == ["2", "3"]
    assert {"ALPHA", "BETA", "DELTA"} <= set(texts)
    near = subnetwork(network(), ["ALPHA", "DELTA"], n_neighbours=1, most_hops=2)
    assert not [text.get_text() for text in near.axes[0].texts if text.get_text().isdigit()]


def test_hubs_are_drawn_with_their_signs():
    svg = to_svg(hubs(network()))
    assert "raises" in svg
    assert "lowers" in svg
    assert svg.index("GAMMA") < svg.index("ALPHA")  # drawn from below, the hub last


def test_the_layout_is_repeatable_apart_and_inside_the_square():
    weights = network().weights.toarray()
    place = layout(weights)
    np.testing.assert_array_equal(place, layout(weights))
    assert place.min() >= 0
    assert place.max() <= 1
    distance = np.sqrt(((place[:, None] - place[None]) ** 2).sum(axis=2))
    assert distance[np.triu_indices(6, 1)].min() > 0.05
    assert distance[0, 1] < distance[0, 3]  # neighbours are nearer than the end of the chain


@pytest.mark.parametrize(
    ("error", "draw"),
    [
        (BadOption, lambda: block_heatmap(network().top(0))),
        (BadOption, lambda: hubs(network().top(0))),
        (BadOption, lambda: subnetwork(network(), [])),
        (BadOption, lambda: subnetwork(network(), ["ALPHA"], most_hops=0)),
        (UnknownGenes, lambda: subnetwork(network(), ["ALPHAX"])),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_code(error, draw):
    with pytest.raises(error):
        draw()
