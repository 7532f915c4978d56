"""Knowledge of a simulated world: straight from the world and over its files."""

import numpy as np

from perturbcast.data.simulate import simulate
from perturbcast.genes.load import load_knowledge
from perturbcast.genes.simulated import knowledge_of


def test_knowledge_of_a_world_is_what_its_files_say(tmp_path):
    world = simulate(n_cells=100, n_genes=80, n_targets=10, n_doubles=4, seed=2)
    direct, loaded = knowledge_of(world), load_knowledge([world.write(tmp_path / "world")])
    assert direct.texts == loaded.texts
    assert direct.sequences == loaded.sequences
    assert set(direct.embeddings) == set(loaded.embeddings)
    assert np.allclose(direct.embeddings["embedding"].matrix, loaded.embeddings["embedding"].matrix)
    assert list(direct.embeddings["embedding"].genes) == list(loaded.embeddings["embedding"].genes)
    assert (direct.graphs["prior_graph"].weights != loaded.graphs["prior_graph"].weights).nnz == 0
    assert list(direct.graphs["prior_graph"].genes) == list(loaded.graphs["prior_graph"].genes)
    assert direct.gene_sets["gene_sets"].sets == loaded.gene_sets["gene_sets"].sets
    assert (direct.gene_sets["gene_sets"].membership != loaded.gene_sets["gene_sets"].membership).nnz == 0
    columns = ["symbol", "ensembl_id", "aliases", "biotype", "description"]
    assert direct.table.frame[columns].equals(loaded.table.frame[columns])


def test_knowledge_covers_unmeasured_targets():
    world = simulate(n_cells=100, n_genes=80, n_targets=10, n_doubles=4, unmeasured=0.5, seed=2)
    hidden = set(world.targets) - set(world.genes)
    assert len(hidden) == 5
    assert hidden <= set(knowledge_of(world).texts)
