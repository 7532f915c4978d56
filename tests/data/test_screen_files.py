"""A screen that was written is read again as it was."""

from dataclasses import replace

import numpy as np
import pytest

from perturbcast import read
from perturbcast.data.screen_files import write_screen
from perturbcast.data.simulate import simulate
from perturbcast.errors import MissingFile, OutputExists, UnknownFormat


@pytest.fixture(scope="module", params=[1, 2], ids=["one context", "two contexts"])
def screen(request):
    world = simulate(n_cells=300, n_genes=80, n_targets=5, n_doubles=2, n_contexts=request.param, seed=0)
    covariates = world.screen.covariates.assign(was_artefact=np.asarray(world.plan.is_artefact))
    return replace(world.screen, covariates=covariates)


def test_screen_is_read_again_as_it_was(screen, tmp_path):
    found = read(write_screen(screen, tmp_path / "s.h5ad"))
    assert found.conditions == screen.conditions
    assert found.contexts == screen.contexts
    assert found.scale is screen.scale
    np.testing.assert_array_equal(found.genes, screen.genes)
    np.testing.assert_array_equal(found.condition_code, screen.condition_code)
    np.testing.assert_array_equal(found.context_code, screen.context_code)
    cells = np.arange(screen.n_cells)
    assert (found.stored(cells) != screen.stored(cells)).nnz == 0
    assert list(found.covariates["batch"].astype(str)) == list(screen.covariates["batch"].astype(str))


def test_part_of_a_screen_is_written_as_that_part(screen, tmp_path):
    cells = np.random.default_rng(0).permutation(screen.n_cells)
    part = screen.take(cells[screen.condition_code[cells] != 0])
    found = read(write_screen(part, tmp_path / "s.h5ad"))
    assert found.n_cells == part.n_cells
    own = np.array(part.conditions)[part.condition_code]
    np.testing.assert_array_equal(np.array(found.conditions)[found.condition_code], own)


def test_places_that_cannot_be_written_are_refused_and_nothing_is_left(screen, tmp_path):
    with pytest.raises(UnknownFormat):
        write_screen(screen, tmp_path / "s.csv")
    with pytest.raises(MissingFile):
        write_screen(screen, tmp_path / "none" / "s.h5ad")
    (tmp_path / "s.h5ad").write_text("x")
    with pytest.raises(OutputExists):
        write_screen(screen, tmp_path / "s.h5ad")
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.h5ad"]
