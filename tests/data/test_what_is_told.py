"""What promoters and biotypes of a simulated world tell: something of what genes do, and nothing else changes by it."""

import json
import zlib

import numpy as np
import pytest

from perturbcast.data.simulate import simulate
from perturbcast.data.simulation.network import MITOCHONDRIAL, REGULATOR
from perturbcast.data.simulation.vocabulary import PSEUDOGENE, THEMES, rna_of
from perturbcast.genes.motifs import motif_sets
from perturbcast.genes.simulated import knowledge_of
from perturbcast.genes.sources import biotypes_of, shuffled

SMALL = {"n_cells": 300, "n_genes": 80, "n_targets": 12, "n_doubles": 6, "n_contexts": 2, "seed": 3}
SILENT = {"promoter_code": 0.0, "telling_biotypes": 0.0}
WORLDS = range(3)


@pytest.fixture(scope="module")
def worlds():
    return [simulate(n_cells=500, n_genes=250, n_targets=40, n_doubles=4, seed=seed) for seed in WORLDS]


def told(world):
    """All that is measured or told, but promoters and biotypes."""
    counts = np.vstack([part.toarray() for _, part in world.sampler.chunks(size=300)])
    said = [dict(world.texts), dict(world.gene_sets), world.prior_graph.to_numpy().tolist()]
    table = world.gene_table.drop(columns="biotype").astype(str).to_numpy().tolist()
    return counts, world.responses.response, world.embedding.to_numpy(), [*said, table]


def checksum(said):
    return zlib.crc32(json.dumps(said, sort_keys=True).encode())


def test_promoters_and_biotypes_change_nothing_else_of_a_world():
    plain, default = simulate(**SMALL, **SILENT), simulate(**SMALL)
    for left, right in zip(told(plain), told(default), strict=True):
        assert np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right
    assert plain.sequences != default.sequences
    assert list(plain.gene_table["biotype"]) != list(default.gene_table["biotype"])


def test_the_world_is_the_one_of_before_promoters_and_biotypes_told_of_modules():
    """Golden: perturbcast at commit 2c5a813, numpy 2, `simulate(**SMALL)`; floats to 1e-6, the rest exactly."""
    world = simulate(**SMALL, **SILENT)
    counts, response, embedding, said = told(world)
    assert int(counts.sum()) == 1_237_122
    assert counts[:, :6].sum(axis=0).tolist() == [4380, 4404, 2964, 2298, 5741, 2565]
    assert np.abs(response).sum() == pytest.approx(391.8238398207084, rel=1e-6)
    assert np.abs(embedding).sum() == pytest.approx(2492.0005, rel=1e-6)
    assert [checksum(part) for part in said] == [965021386, 414156403, 774600198, 1318586170]
    assert checksum(dict(world.sequences)) == 3463862345
    assert set(world.gene_table["biotype"]) == {"protein_coding", "lncRNA"}


def share_of_own_module(world, sequences):
    """Of regulators: how often the most alike promoter, by shared over-represented words, is of the same module.

    Other genes have a site of the hub of their module, so that their promoters are alike without any code.
    """
    words = motif_sets(sequences)
    node = {gene: place for place, gene in enumerate(world.network.genes)}
    nodes = np.array([node[gene] for gene in words.genes])
    rows = words.membership.toarray()
    read = (rows.sum(axis=1) > 0) & (world.network.role[nodes] == REGULATOR)
    unit = rows[read] / np.linalg.norm(rows[read], axis=1, keepdims=True)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -1.0)
    module = world.network.module[nodes[read]]
    return (module[alike.argmax(axis=1)] == module).mean()


def chance_of_own_module(world):
    share = np.bincount(world.network.module[world.network.role == REGULATOR]) / (world.network.role == REGULATOR).sum()
    return (share**2).sum()


def test_promoters_tell_the_module_until_they_are_shuffled(worlds):
    for seed, world in enumerate(worlds):
        assert 2 * chance_of_own_module(world) < share_of_own_module(world, world.sequences) < 0.9
        permuted = shuffled(knowledge_of(world), "sequence", seed=seed).sequences
        assert share_of_own_module(world, permuted) < 1.6 * chance_of_own_module(world)


def test_without_a_code_promoters_do_not_tell_the_module_of_regulators():
    found = []
    for seed in WORLDS:
        world = simulate(n_cells=500, n_genes=250, n_targets=40, n_doubles=4, seed=seed, promoter_code=0.0)
        found.append(share_of_own_module(world, world.sequences) / chance_of_own_module(world))
    assert np.mean(found) < 1.5


def share_of_right_rna(world, biotypes):
    """Of genes with an RNA that goes with a theme, how many are of a module of that theme, and of how many."""
    themes = {rna_of(module) for module in range(len(THEMES))} - {"", "lncRNA"}
    module = dict(zip(world.network.genes, world.network.module, strict=True))
    right = [rna_of(int(module[gene])) == kind for gene, kind in biotypes.items() if kind in themes]
    return np.mean(right), len(right)


def share_that_acts(world, biotypes, kind):
    acts = dict(zip(world.network.genes, world.network.out_degree > 0, strict=True))
    return np.mean([acts[gene] for gene, own in biotypes.items() if own == kind])


def test_biotypes_tell_what_genes_do_until_they_are_shuffled(worlds):
    for seed, world in enumerate(worlds):
        knowledge = knowledge_of(world)
        given = biotypes_of(knowledge)
        permuted = biotypes_of(shuffled(knowledge, "biotype", seed=seed))
        right, number = share_of_right_rna(world, given)
        assert number > 15
        assert 0.6 < right < 1.0
        assert share_of_right_rna(world, permuted)[0] < 0.4
        silent = share_that_acts(world, given, PSEUDOGENE)
        assert silent < 0.5 * share_that_acts(world, permuted, PSEUDOGENE)
        assert silent < 0.5 * share_that_acts(world, given, "protein_coding")


def test_mitochondrial_genes_code_for_proteins_whatever_biotypes_tell():
    world = simulate(**SMALL, telling_biotypes=1.0)
    assert set(world.gene_table["biotype"][world.network.role == MITOCHONDRIAL]) == {"protein_coding"}
