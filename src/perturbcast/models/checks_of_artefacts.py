"""Checks of saving and loading a fitted model."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from perturbcast.errors import BadArtefact, OutputExists
from perturbcast.models.artefact import load
from perturbcast.models.check import Case, attempt, check, require, same

FILES = {"model.json", "weights.safetensors"}
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")  # pickle protocols, torch zip archives


@check
def saved_and_loaded_predicts_the_same(case: Case) -> None:
    """A model that was saved and loaded answers with the same bits."""
    with TemporaryDirectory() as place:
        again = load(case.fitted.save(Path(place) / "model"), kind=type(case.model))
    require(type(again) is type(case.fitted), f"loaded as {type(again).__name__}")
    require(again.model == case.model, "loaded with other hyper-parameters")
    require(same(case.prediction, again.predict(case.asked)), "the loaded model predicts differently")


@check
def saved_twice_gives_the_same_files(case: Case) -> None:
    """Saving the same model twice, and saving a loaded one, gives equal files."""
    with TemporaryDirectory() as place:
        first, second = case.fitted.save(Path(place) / "a"), case.fitted.save(Path(place) / "b")
        third = load(first, kind=type(case.model)).save(Path(place) / "c")
        for name in sorted(FILES):
            content = (first / name).read_bytes()
            equal = content == (second / name).read_bytes() == (third / name).read_bytes()
            require(equal, f"{name} differs between two savings")


@check
def artefact_holds_no_pickle(case: Case) -> None:
    """The folder holds model.json and weights.safetensors, nothing else, and neither is a pickle."""
    with TemporaryDirectory() as place:
        folder = case.fitted.save(Path(place) / "model")
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
    require(set(found) == FILES, f"the folder holds {sorted(found)}")
    pickled = [name for name, content in found.items() if content.startswith(PICKLES)]
    require(not pickled, f"pickled: {pickled}")


@check
def artefact_describes_the_model(case: Case) -> None:
    """model.json names kind, format, hyper-parameters, genes, training split and package versions."""
    with TemporaryDirectory() as place:
        folder = case.fitted.save(Path(place) / "model")
        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    wanted = {"kind", "format", "model", "fields", "genes", "genes_sha256", "split_fingerprint", "packages", "scale"}
    require(wanted <= set(described), f"model.json lacks {sorted(wanted - set(described))}")
    require(described["model"] == case.model.card.name, f"model.json names {described['model']!r}")


@check
def taken_folder_is_not_overwritten(case: Case) -> None:
    """Saving into a folder that exists is OutputExists and changes nothing."""
    with TemporaryDirectory() as place:
        code = attempt(lambda: case.fitted.save(place))
        left = list(Path(place).iterdir())
    require(code == OutputExists.code and not left, f"saving over a folder gave {code or 'no error'}")


@check
def damaged_artefact_is_refused(case: Case) -> None:
    """Changed weights, a changed gene list and a later format are each BadArtefact."""
    with TemporaryDirectory() as place:
        for number, damage in enumerate((_change_weights, _rename_a_gene, _later_format)):
            folder = case.fitted.save(Path(place) / str(number))
            damage(folder)
            code = attempt(lambda folder=folder: load(folder, kind=type(case.model)))  # type: ignore[misc]
            require(code == BadArtefact.code, f"{damage.__name__.strip('_')}: {code or 'loaded'}")


def _change_weights(folder: Path) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(bytes(content))


def _rename_a_gene(folder: Path) -> None:
    described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    described["genes"][0] = "ANOTHER"
    (folder / "model.json").write_text(json.dumps(described), encoding="utf-8")


def _later_format(folder: Path) -> None:
    described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    described["format"] += 1
    (folder / "model.json").write_text(json.dumps(described), encoding="utf-8")
