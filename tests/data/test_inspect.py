"""Inspection: numbers against plain numpy, problems that are there and none that are not, text and JSON."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from h5ad_files import GENES, LABELS, counts, log1p_of, response_adata, screen_adata, written
from scipy import sparse

from perturbcast.data.inspect import Inspection, inspect
from perturbcast.data.on_target import on_target_effects
from perturbcast.data.readers import from_anndata
from perturbcast.data.screen import Screen


def names(found: Inspection) -> set[str]:
    """Names of the problems found."""
    return {problem.name for problem in found.problems}


def silenced(**parts: object) -> Screen:
    """A screen in which STAT1 is nearly gone where it was the target, and JAK2 unmoved."""
    dense = counts(60).toarray()
    dense[12:24, 0] = 0
    dense[12, 0] = 1
    screen = from_anndata(screen_adata(X=sparse.csr_matrix(dense), **parts))
    assert isinstance(screen, Screen)
    return screen


def test_counts_of_cells_conditions_and_targets_are_those_of_the_file(tmp_path: Path) -> None:
    found = inspect(written(tmp_path, screen_adata(obs={"cell_line": "K562"})))
    assert (found.n_cells, found.n_genes, found.n_control) == (60, len(GENES), 12)
    assert (found.n_singles, found.n_doubles, found.n_higher) == (3, 1, 0)
    assert (found.n_targets, found.n_targets_measured, found.contexts) == (3, 3, ("K562",))
    assert [(c.condition, c.n_cells) for c in found.conditions] == [
        ("ctrl", 12), ("JAK2", 12), ("JAK2+STAT1", 12), ("SPI1", 12), ("STAT1", 12),
    ]  # fmt: skip


@pytest.mark.parametrize("block", [5, 4096])
def test_on_target_effect_is_that_of_plain_numpy(block: int) -> None:
    screen = silenced()
    dense = np.asarray(screen.stored(np.arange(60)).toarray(), dtype=np.float64)
    scaled = 1e4 * dense / dense.sum(axis=1, keepdims=True)
    own, control = np.log1p(scaled[12:24, 0]), np.log1p(scaled[:12, 0])
    effect = next(e for e in on_target_effects(screen, block=block) if str(e.query) == "STAT1")
    assert effect.difference == pytest.approx(own.mean() - control.mean(), rel=1e-5)
    assert effect.control == pytest.approx(control.mean(), rel=1e-5)
    error = np.sqrt(own.var(ddof=1) / 12 + control.var(ddof=1) / 12)
    assert effect.z == pytest.approx((own.mean() - control.mean()) / error, rel=1e-4)
    fold = np.log2((scaled[12:24, 0].mean() + 0.01) / (scaled[:12, 0].mean() + 0.01))
    assert effect.log2_fold_change == pytest.approx(fold, rel=1e-4)


def test_effects_are_taken_against_control_of_the_same_context() -> None:
    dense = counts(60).toarray()
    dense[1::2, 0] *= 4  # STAT1 is four times higher in the second cell line, control included
    screen = from_anndata(screen_adata(X=sparse.csr_matrix(dense), obs={"cell_line": ["a", "b"] * 30}))
    assert isinstance(screen, Screen)
    effects = {(str(e.query), e.target): e for e in on_target_effects(screen)}
    assert set(effects) >= {("STAT1 in a", "STAT1"), ("STAT1 in b", "STAT1")}
    assert effects["STAT1 in b", "STAT1"].control > effects["STAT1 in a", "STAT1"].control + 0.5


def test_target_that_did_not_move_is_reported_and_one_that_did_is_not() -> None:
    found = inspect(silenced(uns={"perturbation": "CRISPRi"}))
    weak = next(problem for problem in found.problems if problem.name == "weak on-target effect")
    assert "STAT1" not in weak.examples
    assert "JAK2" in weak.examples
    assert found.perturbation == "CRISPRi"
    assert "kind of perturbation" not in names(found)


def test_direction_that_is_expected_depends_on_the_kind_of_perturbation() -> None:
    raised = counts(60).toarray()
    raised[12:24, 0] = raised[12:24, 0] * 6 + 5
    for kind, expected in (("CRISPRa", False), ("CRISPRi", True), ("", False)):
        adata = screen_adata(X=sparse.csr_matrix(raised), uns={"perturbation": kind})
        weak = [p for p in inspect(adata).problems if p.name == "weak on-target effect"]
        assert any("STAT1" in problem.examples for problem in weak) is expected


def test_problems_of_a_poor_screen_are_found_with_what_to_do() -> None:
    dense = counts(60).toarray()
    dense[:, 7] = 0
    dense[30] = 0
    adata = screen_adata(
        ["control", "STAT1", "UNSEEN1", "STAT1+UNSEEN1", "AB1_CD2"],
        X=sparse.csr_matrix(dense),
        obs={"batch": ["a"] * 50 + ["b"] * 10},
    )
    found = inspect(adata)
    assert names(found) >= {
        "targets not measured", "few cells", "few control cells", "batch without control", "library of few genes",
        "genes rarely seen", "empty cells", "names with underscore", "kind of perturbation",
    }  # fmt: skip
    assert all(problem.what.endswith(".") and problem.what_to_do.endswith(".") for problem in found.problems)
    few = next(problem for problem in found.problems if problem.name == "few cells")
    assert few.n == 4
    rare = next(problem for problem in found.problems if problem.name == "genes rarely seen")
    assert rare.examples == (GENES[7],)


def test_good_screen_has_no_problem() -> None:
    rng = np.random.default_rng(0)
    values = rng.poisson(3.0, size=(360, 20)).astype(np.float32)
    for position in range(2):  # each single silences its own target
        values[120 * (position + 1) : 120 * (position + 2), position] = 0
    sums = np.full(360, 5000.0)
    adata = screen_adata(
        ["control", "STAT1", "JAK2"], n_each=120, X=sparse.csr_matrix(values),
        uns={"perturbation": "CRISPRi"}, obs={"ncounts": sums, "batch": ["a", "b"] * 180},
    )  # fmt: skip
    assert names(inspect(adata)) == set()
    assert "Problems: none found" in inspect(adata).to_text()


def test_responses_have_effects_without_error_and_say_what_they_lack() -> None:
    adata = response_adata(uns={"perturbation": "CRISPRi"})
    adata.X[0, 0] = 2.0  # STAT1 rose where it was to be silenced
    adata.X[:, 9] = 0
    found = inspect(adata)
    effect = next(c for c in found.conditions if c.condition == "STAT1").on_target[0]
    assert (effect.difference, np.isnan(effect.z)) == (2.0, True)
    assert names(found) >= {"responses only", "contrary on-target effect", "genes that never move"}
    assert found.n_cells is None
    assert found.splits["cells"] != ""


def test_responses_that_give_their_counts_away_say_so() -> None:
    rng = np.random.default_rng(0)
    total, rate = np.round(1e6 * np.geomspace(1, 8, 20)), np.exp(rng.normal(0, 1.5, size=200)) / 1e6
    log = np.log1p(1e6 * rng.poisson(total[:, None] * rate) / total[:, None])
    targets = [f"T{number}" for number in range(20)]
    frames = {
        "obs": pd.DataFrame({"condition": targets}, index=targets),
        "var": pd.DataFrame(index=map("G{}".format, range(200))),
    }
    for values, told in ((log - log.mean(axis=0), True), (rng.normal(size=log.shape), False)):
        found = inspect(
            AnnData(values.astype(np.float32), **frames, uns={"kind": "response", "perturbation": "CRISPRa"})
        )
        (problem,) = [problem for problem in found.problems if problem.name == "responses only"]
        assert ("8 times the molecules of the shallowest (T0)" in problem.what) == told


def test_cut_responses_are_reported() -> None:
    adata = response_adata()
    adata.X[np.abs(adata.X) < 0.8] = 0
    assert "censored responses" in names(inspect(adata))


def test_scale_of_which_fold_changes_cannot_be_had_is_reported() -> None:
    found = inspect(screen_adata(X=log1p_of(counts(60), 5000.0)))
    assert found.scale == "log_other"
    assert "scale" in names(found)
    assert all(np.isnan(effect.log2_fold_change) for c in found.conditions for effect in c.on_target)


def test_splits_that_can_be_carried_are_told_with_the_reason_for_the_others() -> None:
    splits = inspect(screen_adata()).splits
    assert splits["cells"] == ""
    assert "context" in splits["contexts"]
    assert inspect(screen_adata(obs={"donor": ["a", "b"] * 30})).splits["contexts"] == ""


def test_dictionary_is_plain_json_and_holds_every_condition() -> None:
    found = inspect(screen_adata([*LABELS, "UNSEEN1"]))
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(plain["conditions"]) == 6
    assert {"what", "value", "evidence", "flag"} == set(plain["decisions"][0])
    unseen = next(entry for entry in plain["conditions"] if entry["condition"] == "UNSEEN1")
    assert unseen["on_target"] == []


def test_text_shows_decisions_with_flags_and_says_what_it_leaves_out() -> None:
    found = inspect(screen_adata())
    text = found.to_text(most=2)
    for decision in found.decisions:
        assert decision.value in text
        assert decision.flag in text
    assert "... and 3 more" in text
    assert "--json" in text
    assert "STAT1 " in found.to_text()
    assert all(line == line.rstrip() for line in text.splitlines())


def test_real_screens_are_inspected_and_their_known_effects_found(shared: Path) -> None:
    found = inspect(shared / "data/screens/adamson2016_k562_pilot.h5ad")
    effects = {c.condition: c.on_target[0] for c in found.conditions if c.on_target}
    assert {name for name, effect in effects.items() if effect.z < -2} == {"BHLHE40", "SNAI1", "SPI1", "ZNF326"}
    norman = inspect(shared / "data/responses/norman2019_k562_crispra.h5ad")
    singles = [c.on_target[0] for c in norman.conditions if "+" not in c.condition and c.on_target]
    assert (len(singles), sum(effect.difference > 0 for effect in singles)) == (57, 57)
    assert "contrary on-target effect" not in names(norman)
