"""Single sources of knowledge, alone and shuffled."""

import numpy as np
import pytest

from perturbcast.data.simulate import simulate
from perturbcast.errors import NeedsKnowledge
from perturbcast.genes.simulated import knowledge_of
from perturbcast.genes.sources import BIOTYPE, SEQUENCE, TEXT, biotypes_of, only, shuffled, sources_of


@pytest.fixture(scope="module")
def knowledge():
    return knowledge_of(simulate(n_genes=80, n_targets=20, n_doubles=5, n_cells=300, seed=0))


def test_every_source_is_named(knowledge):
    assert sources_of(knowledge) == ["embedding", "gene_sets", "prior_graph", TEXT, SEQUENCE, BIOTYPE]


def test_one_source_alone_leaves_nothing_else(knowledge):
    for source in sources_of(knowledge):
        alone = only(knowledge, source)
        assert len(sources_of(alone)) == 1
    assert set(only(knowledge, BIOTYPE).gene_sets[BIOTYPE].sets) == set(biotypes_of(knowledge).values())


def test_shuffling_swaps_names_of_one_source_and_keeps_the_rest(knowledge):
    for source in sources_of(knowledge):
        spoilt = shuffled(knowledge, source, seed=1)
        assert sources_of(spoilt) == sources_of(knowledge)
        assert (spoilt.texts != knowledge.texts) == (source == TEXT)
        assert (spoilt.sequences != knowledge.sequences) == (source == SEQUENCE)
        assert (biotypes_of(spoilt) != biotypes_of(knowledge)) == (source == BIOTYPE)
        for field in ("embeddings", "graphs", "gene_sets"):
            for name, held in getattr(knowledge, field).items():
                moved = not np.array_equal(held.genes, getattr(spoilt, field)[name].genes)
                assert moved == (name == source)
                assert set(held.genes) == set(getattr(spoilt, field)[name].genes)
    assert sorted(shuffled(knowledge, TEXT, seed=1).texts.values()) == sorted(knowledge.texts.values())


def test_unknown_source_is_refused_with_the_nearest(knowledge):
    with pytest.raises(NeedsKnowledge, match="prior_graph"):
        only(knowledge, "prior_grap")
