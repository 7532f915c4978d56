"""The models by name: those of this folder, found by their file, and those that other packages register."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from perturbcast.errors import UnknownModel, UnknownOption, did_you_mean
from perturbcast.models.base import Model
from perturbcast.models.capabilities import TrainsByGradient
from perturbcast.models.fields import describe, hints_of

ENTRY_POINTS = "perturbcast.models"
GROUPS = ("baselines", "trained", "all")


def all_models() -> Mapping[str, type[Model]]:
    """Every model by name, in alphabetical order: a dropped file or an installed entry point is found by itself."""
    return dict(_scanned())


@cache
def _scanned() -> dict[str, type[Model]]:
    import perturbcast.models as folder

    found: dict[str, type[Model]] = {}
    for entry in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{folder.__name__}.{entry.name}")
        found |= {model.card.name: model for model in models_in(module)}
    for point in entry_points(group=ENTRY_POINTS):
        model = point.load()
        found[model.card.name] = model
    return dict(sorted(found.items()))


def models_in(module: ModuleType) -> list[type[Model]]:
    """The final models that a module defines itself."""
    return [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Model) and not inspect.isabstract(value) and value.__module__ == module.__name__
    ]


def get_model(name: str, **fields: Any) -> Model:
    """The model of that name, `name:profile` for a profile, with some fields changed; text is read as its type.

    UnknownModel, UnknownProfile and UnknownOption offer the nearest names; BadOption says what a field may be.
    """
    base, _, profile = name.partition(":")
    models = all_models()
    if base not in models:
        raise UnknownModel(f"no model is called {base!r}. {did_you_mean(base, models)}")
    return models[base].make(profile or None, **fields)


def group(name: str) -> list[str]:
    """The model names of a group: `baselines`, `trained` (by gradient, in minutes) or `all`."""
    if name not in GROUPS:
        raise UnknownOption(f"no group of models is called {name!r}. {did_you_mean(name, GROUPS)}")
    belongs = {"baselines": lambda model: model.card.baseline, "trained": is_trained, "all": lambda model: True}[name]
    return [key for key, model in all_models().items() if belongs(model)]


def is_trained(model: type[Model]) -> bool:
    """Whether a model is trained by gradient, on the engine of `training/`."""
    return issubclass(model, TrainsByGradient)


def model_list() -> list[dict[str, Any]]:
    """One JSON-able row per model: what it is, predicts and needs, its profiles and fields with their defaults."""
    return [_row(model) for model in all_models().values()]


def _row(model: type[Model]) -> dict[str, Any]:
    card, hints = model.card, hints_of(model)
    return {
        "name": card.name,
        "title": card.title,
        "summary": card.summary,
        "description": inspect.getdoc(model) or "",
        "source": card.source,
        "predicts": sorted(card.predicts),
        "baseline": card.baseline,
        "trained": is_trained(model),
        "needs_cells": card.needs_cells,
        "uses_knowledge": card.uses_knowledge,
        "learns_network": card.learns_network,
        "profiles": {profile: dict(preset) for profile, preset in card.profiles.items()},
        "fields": {
            entry.name: {"default": entry.default, "allowed": describe(hints[entry.name])}
            for entry in dataclasses.fields(model)
        },
    }
