"""Quality of cells: oracle O19, limits per batch, given labels, and screens in which little can be told."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from perturbcast.data.artefacts import (
    PUBLISHED,
    ArtefactRule,
    _scrublet,
    artefact_labels,
    cell_quality,
    deviation_limit,
    valley_between_modes,
)
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.data.simulate import simulate
from perturbcast.errors import BadOption, ShapesDiffer, UnknownColumn

GENES = ("MT-CO1", "RPS6", "RPS6KA1", "HBA1", "HBEGF", "HBP1", "ACTB", "RPLP0", "mt-Nd1", "RPL13A", "HBB")


def screen_of(counts, *, genes=GENES, batch=None, scale=Scale.COUNTS):
    n_cells = len(counts)
    covariates = pd.DataFrame() if batch is None else pd.DataFrame({"batch": batch})
    return Screen(
        name="q",
        matrix=InMemory(sparse.csr_matrix(np.asarray(counts, dtype=np.float32))),
        scale=scale,
        genes=np.array(genes, dtype=object),
        conditions=("ctrl",),
        contexts=("",),
        condition_code=np.zeros(n_cells, dtype=np.int32),
        context_code=np.zeros(n_cells, dtype=np.int32),
        row=np.arange(n_cells, dtype=np.int64),
        covariates=covariates,
    )


def test_o19_limits_by_raw_deviations():
    values = np.array([10.0, 12, 14, 16, 100])
    assert deviation_limit(values, threshold=3.0, low=True) == 8
    assert deviation_limit(values, threshold=3.0, low=False) == 20
    assert deviation_limit(np.array([0.0, 0, 0, 1]), threshold=3.0, low=False) == 0


def test_floor_and_the_factor_of_normal_values():
    assert deviation_limit(np.array([0.0, 0, 0, 1]), threshold=3.0, low=False, floor=0.5) == 1.5
    values = np.random.default_rng(0).normal(10, 2, 20_001)
    assert deviation_limit(values, threshold=3.0, low=False, normal=True) == pytest.approx(16, abs=0.15)


def test_kinds_of_genes_by_strict_and_published_names():
    counts = sparse.csr_matrix(np.eye(len(GENES)) * 10 + 1)
    strict = cell_quality(counts, np.array(GENES), names="strict", scale=Scale.COUNTS)
    loose = cell_quality(counts, np.array(GENES), names="published", scale=Scale.COUNTS)
    assert strict["molecules"].tolist() == [21.0] * 11

    def named(table, kind):
        return [gene for gene, share in zip(GENES, table[kind], strict=True) if share > table[kind].min() + 1]

    assert named(strict, "mitochondrial") == named(loose, "mitochondrial") == ["MT-CO1", "mt-Nd1"]
    assert named(strict, "ribosomal") == ["RPS6", "RPLP0", "RPL13A"]
    assert named(loose, "ribosomal") == ["RPS6", "RPS6KA1", "RPLP0", "RPL13A"]
    assert named(strict, "haemoglobin") == ["HBA1", "HBB"]
    assert named(loose, "haemoglobin") == ["HBA1", "HBEGF", "HBB"]


def test_one_molecule_of_haemoglobin_fails_a_cell_only_by_the_published_rule():
    counts = np.tile([5, 20, 0, 0, 0, 0, 200, 20, 0, 20, 0], (40, 1))
    counts[3, 3] = 1
    screen = screen_of(counts)
    only = ("haemoglobin",)
    published = artefact_labels(screen, rule=replace(PUBLISHED, flags=only))
    assert np.flatnonzero(published.failed).tolist() == [3]
    assert not artefact_labels(screen, rule=ArtefactRule(flags=only)).failed.any()


def test_limits_are_those_of_the_batch_unless_it_is_small():
    rng = np.random.default_rng(1)
    depth = np.repeat([1.0, 5.0, 1.0], [60, 60, 5])
    counts = rng.poisson(20 * depth[:, None], size=(125, len(GENES)))
    counts[0] //= 4
    screen = screen_of(counts, batch=np.repeat(["a", "b", "c"], [60, 60, 5]))
    rule = ArtefactRule(flags=("molecules",), threshold=5.0)
    found = artefact_labels(screen, rule=rule)
    assert np.flatnonzero(found.failed).tolist() == [0]
    assert list(found.limits.index) == ["a", "b", "c", "all cells"]
    assert found.limits["molecules"]["c"] == found.limits["molecules"]["all cells"]
    assert found.limits["molecules"]["b"] > 3 * found.limits["molecules"]["a"]
    assert not artefact_labels(screen, rule=replace(rule, per_batch=False)).failed.any()


def test_screen_without_mitochondrial_genes_is_labelled_by_the_rest_and_said():
    screen = screen_of(np.full((40, 2), 3), genes=("ACTB", "GAPDH"))
    found = artefact_labels(screen)
    assert not found.failed.any()
    assert list(found.flags) == ["molecules", "genes"]
    assert found.notes == ("mitochondrial: not told, because no such gene is measured.",)


def test_a_share_of_a_single_gene_is_used_and_said():
    counts = np.random.default_rng(5).poisson(20, size=(60, 3))
    counts[7, 0] = 500
    screen = screen_of(counts, genes=("MT-ATP8", "ACTB", "GAPDH"))
    found = artefact_labels(screen, rule=ArtefactRule(threshold=8.0))
    assert np.flatnonzero(found.flags["mitochondrial"]).tolist() == [7]
    assert found.notes == ("mitochondrial: told from one gene, MT-ATP8, so a weak sign of damage.",)


def test_expression_tells_shares_but_not_molecules():
    counts = np.random.default_rng(2).poisson(30, size=(50, len(GENES))).astype(np.float64)
    counts[7, 0] = 4000
    expression = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    found = artefact_labels(screen_of(expression, scale=Scale.LOG1P_CP10K), rule=ArtefactRule(threshold=6.0))
    assert np.flatnonzero(found.failed).tolist() == [7]
    assert found.notes == ("molecules: not told, because the screen holds log1p_cp10k instead of counts.",)
    of_counts = artefact_labels(screen_of(counts), rule=ArtefactRule(threshold=6.0))
    np.testing.assert_allclose(of_counts.limits["mitochondrial"], found.limits["mitochondrial"], rtol=1e-4)


def test_scores_tell_nothing():
    found = artefact_labels(screen_of(np.ones((40, len(GENES))), scale=Scale.ZSCORE))
    assert not found.failed.any()
    assert len(found.notes) == 3


def test_given_labels_replace_the_rule():
    screen = screen_of(np.ones((4, len(GENES))), batch=["a", "b", "c", "d"])
    labels = np.array([True, False, False, True])
    assert artefact_labels(screen, given=labels).failed.tolist() == labels.tolist()
    named = replace(screen, covariates=pd.DataFrame({"bad": [1, 0, 0, 1]}))
    found = artefact_labels(named, given="bad")
    assert found.failed.tolist() == labels.tolist()
    assert found.notes == ("labels were given: 2 of 4 cells fail.",)
    assert found.share_failed == 0.5
    with pytest.raises(UnknownColumn, match="'bad'"):
        artefact_labels(named, given="bat")
    with pytest.raises(ShapesDiffer, match="3 quality labels"):
        artefact_labels(named, given=labels[:3])
    with pytest.raises(BadOption):
        artefact_labels(screen, given="batch")


def test_unknown_flag_is_named():
    with pytest.raises(BadOption, match="mitochondrial"):
        ArtefactRule(flags=("mitocondrial",))


@pytest.fixture(scope="module")
def world():
    return simulate(n_cells=900, n_genes=150, n_targets=8, n_doubles=0, artefacts=0.15, seed=1)


def test_simulated_artefact_cells_are_found(world):
    found = artefact_labels(world.screen)
    truth = np.asarray(world.plan.is_artefact)
    assert found.failed[truth].mean() > 0.95
    assert found.failed[~truth].mean() < 0.05


def test_labels_do_not_depend_on_the_order_of_cells(world):
    order = np.random.default_rng(0).permutation(world.screen.n_cells)
    whole, shuffled = artefact_labels(world.screen), artefact_labels(world.screen.take(order))
    np.testing.assert_array_equal(shuffled.failed, whole.failed[order])


def test_judge_applies_the_limits_over_all_cells(world):
    screen = world.screen
    rule = ArtefactRule(per_batch=False)
    found = artefact_labels(screen, rule=rule)
    counts = screen.stored(np.arange(screen.n_cells)).toarray()
    np.testing.assert_array_equal(found.judge(counts, screen.genes), found.failed)
    assert 0 < found.share_failed < 0.5
    assert found.share_failed == pytest.approx(found.failed.mean())


def test_valley_lies_between_the_modes():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0.1, 0.03, 3000), rng.normal(0.5, 0.05, 1000)])
    assert 0.2 < valley_between_modes(scores) < 0.42
    assert valley_between_modes(np.full(10, 0.3)) is None


@pytest.mark.parametrize("n_single", [400, 2700])  # with simulated doublets below and above 8,192 cells
def test_scrublet_finds_planted_doublets(n_single):
    rng = np.random.default_rng(3)
    kinds = rng.lognormal(0, 1.0, size=(4, 300))
    single = rng.poisson(kinds[rng.integers(0, 4, n_single)])
    pairs = np.array([rng.choice(4, 2, replace=False) for _ in range(n_single // 20)])
    double = rng.poisson(kinds[pairs].sum(axis=1))
    genes = tuple(f"G{number}" for number in range(300))
    screen = screen_of(np.vstack([single, double]), genes=genes)
    found = artefact_labels(screen, rule=ArtefactRule(flags=("doublet",)), seed=0)
    assert found.failed[n_single:].mean() > 0.9
    assert found.failed[:n_single].mean() < 0.05
    few = artefact_labels(screen.take(np.arange(50)), rule=ArtefactRule(flags=("doublet",)))
    assert not few.failed.any()
    assert few.notes == ("doublet: not told for 50 cells, whose scores have no two modes.",)


def test_scrublet_reads_sparse_arrays_as_it_reads_matrices():
    counts = sparse.csr_matrix(np.random.default_rng(4).poisson(1.0, size=(150, 60)).astype(np.float32))
    for one, other in zip(_scrublet(counts, seed=0), _scrublet(sparse.csr_array(counts), seed=0), strict=True):
        np.testing.assert_array_equal(one, other)
