"""What GPO-VAE cannot learn from is refused with a code and the reason."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from vae_worlds import count_world, named_graph

from perturbcast.data.conditions import Query
from perturbcast.data.screen import InMemory
from perturbcast.errors import (
    BadOption,
    NeedsCells,
    NeedsKnowledge,
    NoOverlap,
    NotCounts,
    NotEnoughTraining,
    UnknownColumn,
)
from perturbcast.models.base import TrainingData
from perturbcast.models.check_world import check_world
from perturbcast.models.gpo_vae import GpoVae

SMALL = {"n_latent": 4, "encoder_width": 16, "decoder_width": 16, "n_particles": 2, "n_averaged": 20}
SMALL |= {"max_epochs": 1, "batch_size": 128, "embedding_width": 8, "embedding_layers": 2}


@pytest.fixture(scope="module")
def training():
    """Three targets, and control."""
    return count_world(n_targets=3, cells_each=10, doubles=()).training


def all_failing(given):
    bad = pd.DataFrame({"bad": np.ones(given.screen.n_cells, dtype=bool)})
    return replace(given, screen=replace(given.screen, covariates=bad))


def one_condition(given):
    screen = given.screen
    code = screen.conditions.index("G000")
    return TrainingData.of(screen.take((screen.condition_code == code) | screen.is_control))


def controls_alone(given):
    alone = given.screen.take(given.screen.is_control)
    return replace(given, screen=alone)


def without_cells_of_one(given):
    gone = given.screen.cells_of(Query("G001"))
    return replace(given, screen=given.screen.take(np.setdiff1d(np.arange(given.screen.n_cells), gone)))


def fractions(given):
    stored = given.screen.matrix.matrix.copy()
    stored.data = stored.data + np.float32(0.25)
    return replace(given, screen=replace(given.screen, matrix=InMemory(stored)))


@pytest.mark.parametrize("profile", ["plus", "paper"])
@pytest.mark.parametrize(
    ("change", "fields", "error", "told"),
    [
        (all_failing, {"quality_column": "bad"}, NotEnoughTraining, "every training cell fails"),
        (lambda given: given, {"quality_column": "nowhere"}, UnknownColumn, "nowhere"),
        (one_condition, {}, NotEnoughTraining, "'G000' is alone"),
        (controls_alone, {}, NotEnoughTraining, "have no cells"),
        (without_cells_of_one, {}, NotEnoughTraining, "1 training queries have no cells: 'G001'"),
        (fractions, {}, NotCounts, "not all are whole numbers"),
        (lambda given: check_world().training, {}, NeedsCells, "learns from cells"),
    ],
    ids=["all fail", "no such labels", "one condition", "controls", "a target without cells", "fractions", "no cells"],
)
def test_training_data_that_say_nothing_are_refused(training, profile, change, fields, error, told):
    with pytest.raises(error, match=told):
        GpoVae.make(profile, **(SMALL | fields)).fit(change(training))


@pytest.mark.parametrize("fields", [{"n_hops": -1}, {"quality_threshold": 0.0}, {"likeness": 1.0}])
def test_fields_out_of_range_are_refused_by_name(fields):
    (name,) = fields
    with pytest.raises(BadOption, match=rf"E110.*{name}="):
        GpoVae.make("plus", **fields)


def test_strengths_are_needed_to_align_effects():
    with pytest.raises(BadOption, match="E110"):
        GpoVae(**SMALL, guide="correlated").fit(check_world().with_cells)


def test_without_knowledge_an_unlisted_graph_is_refused():
    with pytest.raises(NeedsKnowledge, match="E505"):
        GpoVae(**SMALL, prior_graph="string").fit(check_world().with_cells)


def test_a_graph_of_other_genes_is_refused_and_one_with_some_unknown_genes_says_so():
    given = check_world().with_cells
    targets = sorted(given.responses.targets)
    model = GpoVae(**SMALL, prior_graph="regulators", align_steps=20)
    with pytest.raises(NoOverlap, match=r"E\d+.*regulators"):
        model.fit(replace(given, knowledge=named_graph([("NOBODY", "NOWHERE")])))
    partly = named_graph([("NOBODY", targets[0]), (targets[0], targets[1])])
    found = model.fit(replace(given, knowledge=partly))
    assert f"1 of its 2 edges are used; it does not know {len(targets) - 2} of {len(targets)}" in found.notes[-1]
