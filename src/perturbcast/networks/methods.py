"""Network inference behind one interface: one method one file (`infer_*.py`), found by its file, with a card each."""

import dataclasses
import importlib
import inspect
import pkgutil
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from perturbcast._progress import Progress
from perturbcast.data.screen import Screen
from perturbcast.errors import BadOption, UnknownMethod, UnknownOption, did_you_mean
from perturbcast.networks.network import Network

PREFIX = "infer_"


@dataclass(frozen=True)
class MethodCard:
    """What a method is and what its weights mean, for the list of methods and the docs."""

    name: str  # command-line name, such as `mean-difference`
    title: str
    summary: str  # one or two sentences for a biologist
    source: str  # paper, equation
    weight: str  # what the weight of an edge is, with unit
    directed: bool = True  # whether a->b and b->a can differ
    interventional: bool = False  # whether it uses which gene was perturbed in which cell
    resumable: bool = False  # whether `parts` keeps what is done


@dataclass(frozen=True)
class NetworkMethod(ABC):
    """Settings of a method; sub-classes add fields with their default and its source."""

    card: ClassVar[MethodCard]

    @abstractmethod
    def infer(
        self, screen: Screen, *, seed: int = 0, progress: Progress | None = None, parts: Path | None = None
    ) -> Network:
        """The network of a screen; the same screen and seed give the same edges.

        `parts`: a folder in which a resumable method keeps what is done, so that a repeat of the call goes on there.
        """

    @classmethod
    def make(cls, **fields: Any) -> "NetworkMethod":
        """The method with some fields changed; text is read as the field's type. UnknownOption, BadOption."""
        hints = typing.get_type_hints(cls)
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                raise UnknownOption(f"method {cls.card.name!r} has no setting {name!r}. {did_you_mean(name, known)}")
        return cls(**{name: _parsed(value, hints[name], label=name) for name, value in fields.items()})


def _parsed(value: Any, kind: Any, *, label: str) -> Any:
    """A setting as its type: int, float, bool or one of some words."""
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    if choices:
        if value not in choices:
            raise BadOption(f"{label}={value!r} is none of {', '.join(map(repr, choices))}.")
        return value
    try:
        if kind is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.casefold()]
        if kind is int and float(value) != int(float(value)):
            raise ValueError("not whole")
        return kind(float(value)) if kind is int else kind(value)
    except (KeyError, TypeError, ValueError) as error:
        raise BadOption(f"{label}={value!r} is no {kind.__name__}.") from error


def all_methods() -> Mapping[str, type[NetworkMethod]]:
    """Every method by name, in alphabetical order."""
    return dict(_scanned())


@cache
def _scanned() -> dict[str, type[NetworkMethod]]:
    import perturbcast.networks as folder

    found: dict[str, type[NetworkMethod]] = {}
    for entry in pkgutil.iter_modules(folder.__path__):
        if not entry.name.startswith(PREFIX):
            continue
        module = importlib.import_module(f"{folder.__name__}.{entry.name}")
        for _, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, NetworkMethod) and value.__module__ == module.__name__:
                found[value.card.name] = value
    return dict(sorted(found.items()))


def get_method(name: str, **fields: Any) -> NetworkMethod:
    """The method of that name with some settings changed; UnknownMethod offers the nearest names."""
    if name not in _scanned():
        raise UnknownMethod(f"no method is called {name!r}. {did_you_mean(name, _scanned())}")
    return _scanned()[name].make(**fields)


def infer(
    screen: Screen,
    *,
    method: str | NetworkMethod,
    seed: int = 0,
    progress: Progress | None = None,
    parts: Path | None = None,
    **fields: Any,
) -> Network:
    """The network of a screen by a method, given by name with its settings, or made.

    Edges run from perturbed genes to measured genes. `parts`: folder for the parts of a resumable method.
    Raises UnknownMethod, UnknownOption and BadOption for the settings, NoEvaluablePair where no gene can be a source.

    >>> import perturbcast
    >>> screen = perturbcast.simulate(n_cells=600, n_genes=60, n_targets=8, n_doubles=0).screen
    >>> infer(screen, method="mean-difference").top(10).n_edges
    10
    """
    chosen = get_method(method, **fields) if isinstance(method, str) else method
    if not isinstance(method, str) and fields:
        raise UnknownOption("settings go with the name of a method, not with a method already made.", "")
    return chosen.infer(screen, seed=seed, progress=progress, parts=parts)


def method_list() -> list[dict[str, Any]]:
    """One JSON-able row per method: its card, and its settings with their defaults."""
    return [
        dataclasses.asdict(method.card)
        | {"settings": {field.name: field.default for field in dataclasses.fields(method)}}
        for method in all_methods().values()
    ]


def require(condition: bool, fact: str) -> None:
    """BadOption with that fact unless the condition holds; for the settings of methods."""
    if not condition:
        raise BadOption(fact)
