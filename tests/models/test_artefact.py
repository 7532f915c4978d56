"""Saved models: contents, atomicity, and every way in which a folder can be no model."""

import json

import numpy as np
import pytest
from model_worlds import combined

from perturbcast.data.conditions import Query
from perturbcast.errors import BadArtefact, MissingFile, NotAFile, NotWritable, OutputExists
from perturbcast.models import artefact
from perturbcast.models.artefact import load
from perturbcast.models.base import decode_text, encode_text
from perturbcast.models.registry import get_model


@pytest.fixture
def folder(tmp_path):
    return get_model("additive:residual-mean").fit(combined()[0]).save(tmp_path / "models" / "one")


def rewrite(folder, **changes):
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(described | changes))


def test_loaded_model_knows_its_fields_queries_and_label(folder):
    fitted = load(folder)
    assert fitted.model == get_model("additive:residual-mean")
    assert fitted.trained_on == combined()[0].responses.queries
    assert fitted.predict(["T00+T01"]).model == "additive:residual-mean"


def test_description_holds_versions_and_the_training_split(folder):
    described = json.loads((folder / "model.json").read_text())
    assert described["packages"].keys() >= {"perturbcast", "numpy", "safetensors"}
    assert described["genes"][0] == "G0"
    assert len(described["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "recipe"}, "something else than a model"),
        ({"format": 99}, "has format 99, written by perturbcast"),
        ({"format": "one"}, "has format one"),
        ({"model": "aditive"}, "Nearest: 'additive'"),
        ({"fields": {"no_such": 1}}, "no field 'no_such'"),
        ({"fields": {"fallback": 3}}, "fallback=3 is not allowed"),
        ({"genes": ["X"]}, "not those that were saved"),
        ({"scale": "furlongs"}, "furlongs"),
        ({"training_queries": []}, "cannot be restored"),
        ({"weights_sha256": "0"}, "is damaged"),
    ],
)
def test_description_that_was_changed_is_refused(folder, changes, message):
    rewrite(folder, **changes)
    with pytest.raises(BadArtefact, match=message):
        load(folder)


def test_description_that_is_incomplete_is_refused(folder):
    described = json.loads((folder / "model.json").read_text())
    del described["genes"]
    (folder / "model.json").write_text(json.dumps(described))
    with pytest.raises(BadArtefact, match=r"lacks \['genes'\]"):
        load(folder)


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", "\x80\x04"])
def test_description_that_is_no_json_object_is_refused(folder, content):
    (folder / "model.json").write_text(content, encoding="latin-1")
    with pytest.raises(BadArtefact):
        load(folder)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_folder_that_lacks_a_file_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(BadArtefact, match=name):
        load(folder)


def test_truncated_weights_are_refused(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadArtefact, match="damaged"):
        load(folder)


def test_path_that_is_not_there_or_no_folder_is_refused(folder):
    with pytest.raises(MissingFile):
        load(folder / "nothing")
    with pytest.raises(NotAFile):
        load(folder / "model.json")


def test_folder_that_exists_is_not_overwritten(folder):
    before = (folder / "model.json").read_bytes()
    with pytest.raises(OutputExists):
        load(folder).save(folder)
    assert (folder / "model.json").read_bytes() == before


def test_failed_save_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    fitted = load(folder)
    monkeypatch.setattr(artefact, "flush", full)
    with pytest.raises(NotWritable, match="No space left"):
        fitted.save(tmp_path / "two")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_split_fingerprint_survives(tmp_path):
    from dataclasses import replace

    training = replace(combined()[0], split_fingerprint="abc")
    assert load(get_model("mean").fit(training).save(tmp_path / "m")).split_fingerprint == "abc"


def test_text_survives_as_an_array():
    lines = ["GENE", "β-actin", "x y"]
    assert decode_text(encode_text(lines)) == lines
    assert decode_text(encode_text([])) == []


def test_conditions_are_asked_in_any_order_of_targets(folder):
    found = load(folder).predict([Query("T01+T00"), "T00 + T01"])
    np.testing.assert_array_equal(found.response[0], found.response[1])
