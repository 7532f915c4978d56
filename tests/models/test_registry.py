"""Models by name: found by their file or entry point, profiles, fields from text, coded errors with nearest names."""

from importlib import metadata

import pytest

from perturbcast.errors import BadOption, UnknownModel, UnknownOption, UnknownProfile
from perturbcast.models import registry
from perturbcast.models.base import Model
from perturbcast.models.registry import all_models, get_model, group, model_list

BASELINES = {
    "no-change",
    "mean",
    "matching-mean",
    "additive",
    "kappa-additive",
    "lowrank-additive",
    "linear",
    "kernel-ridge",
    "nearest",
    "embedding-ridge",
}

DROPPED = """
from dataclasses import dataclass
from perturbcast.models.base import ModelCard
from perturbcast.models.mean import FittedMean, Mean


@dataclass(frozen=True)
class Dropped(Mean):
    card = ModelCard("dropped", "Dropped", "A copy of the mean.", "a test", frozenset())
    fitted_class = FittedMean
"""


@pytest.fixture
def fresh_scan():
    registry._scanned.cache_clear()
    yield
    registry._scanned.cache_clear()


def test_all_baselines_of_the_contract_are_there():
    assert set(group("baselines")) >= BASELINES
    assert set(group("all")) >= set(group("baselines"))


def test_models_trained_by_gradient_are_a_group_of_their_own():
    family = {"sams-vae", "cpa-vae", "conditional-vae", "svae-plus", "cradle-vae", "gpo-vae"}
    assert family <= set(group("trained")) <= set(group("all"))
    assert not set(group("trained")) & set(group("baselines"))
    rows = {row["name"]: row["trained"] for row in model_list()}
    assert rows["sams-vae"]
    assert not rows["kernel-ridge"]


def test_unknown_group_is_refused():
    with pytest.raises(UnknownOption, match="Nearest: 'baselines'"):
        group("baseline")


def test_dropped_file_is_found_by_itself(tmp_path, monkeypatch, fresh_scan):
    import perturbcast.models as folder

    (tmp_path / "dropped_model.py").write_text(DROPPED)
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    assert "dropped" in all_models()


def test_model_of_another_package_is_found_by_its_entry_point(monkeypatch, fresh_scan):
    from perturbcast.models.mean import Mean

    class Foreign(Mean):
        card = Mean.card.__class__("foreign", "Foreign", "Of another package.", "a test", frozenset())

    class Point:
        def load(self) -> type[Model]:
            return Foreign

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()] if group == "perturbcast.models" else [])
    assert all_models()["foreign"] is Foreign


def test_entry_point_group_is_declared_by_the_package():
    assert registry.ENTRY_POINTS == "perturbcast.models"
    assert metadata.version("perturbcast")


def test_unknown_model_offers_the_nearest_name():
    with pytest.raises(UnknownModel, match="Nearest: 'kernel-ridge'"):
        get_model("kernel_ridge")


def test_unknown_profile_offers_the_nearest_name():
    with pytest.raises(UnknownProfile, match="Nearest: 'cells'"):
        get_model("mean:cell")


def test_profile_of_a_model_without_profiles_is_refused():
    with pytest.raises(UnknownProfile, match="It has none"):
        get_model("no-change:paper")


def test_unknown_field_offers_the_nearest_name():
    with pytest.raises(UnknownOption, match="Nearest: 'shrinkage'"):
        get_model("kappa-additive", shrinkge="1")


@pytest.mark.parametrize(
    ("name", "field", "text", "value"),
    [
        ("linear", "n_components", "12", 12),
        ("linear", "ridge", "1e-2", 0.01),
        ("kappa-additive", "per_gene", "no", False),
        ("kappa-additive", "shrinkage", "none", None),
        ("kappa-additive", "shrinkage", "0.5", 0.5),
        ("kernel-ridge", "views", "go, string", ("go", "string")),
        ("mean", "variant", "cells", "cells"),
        ("linear", "gene_embedding", "scgpt", "scgpt"),
    ],
)
def test_text_is_read_as_the_type_of_the_field(name, field, text, value):
    assert getattr(get_model(name, **{field: text}), field) == value


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("linear", {"n_components": "ten"}, "an integer"),
        ("linear", {"n_components": 0}, "at least 1"),
        ("linear", {"n_components": 2.5}, "an integer"),
        ("linear", {"n_components": True}, "an integer"),
        ("linear", {"ridge": float("nan")}, "a number"),
        ("nearest", {"share": "1.5"}, "0 to 1"),
        ("mean", {"variant": "median"}, "one of 'perturbed'"),
        ("additive", {"fallback": "maybe"}, "true or false"),
        ("kernel-ridge", {"views": 3}, "names joined by commas"),
    ],
)
def test_value_that_is_not_allowed_says_what_is(name, fields, message):
    with pytest.raises(BadOption, match=message):
        get_model(name, **fields)


def test_constructor_checks_as_the_command_line_does():
    from perturbcast.models.linear import Linear

    with pytest.raises(Exception, match=r"n_components|E110"):
        Linear(n_components=-1)


def test_list_of_models_can_be_printed_as_json():
    import json

    rows = {row["name"]: row for row in json.loads(json.dumps(model_list()))}
    assert rows["mean"]["profiles"].keys() == {"perturbed", "cells", "with-control", "same-size"}
    assert rows["linear"]["fields"]["ridge"]["default"] == 0.1
