"""Hyper-parameter fields: their types and ranges as data, checked once, and read from text of the command line."""

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, Union

from perturbcast.errors import BadOption, UnknownOption, did_you_mean


@dataclass(frozen=True)
class Range:
    """Bounds of a numeric field, both included; written `Annotated[float, Range(0.0, 1.0)]`."""

    low: int | float = -math.inf
    high: int | float = math.inf

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" if math.isfinite(self.high) else f"at least {self.low:g}"


def hints_of(owner: type) -> dict[str, Any]:
    """Field name -> type hint with its `Annotated` range, for a dataclass."""
    hints = typing.get_type_hints(owner, include_extras=True)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(owner)}


def parsed_fields(owner: type, given: dict[str, Any], *, label: str) -> dict[str, Any]:
    """The fields given, text read as the type of its field; UnknownOption and BadOption otherwise."""
    hints = hints_of(owner)
    for name in given:
        if name not in hints:
            raise UnknownOption(
                f"{label} has no field {name!r}. {did_you_mean(name, hints) if hints else 'It has none.'}"
            )
    parsed = {
        name: read(value, hints[name], label=f"{label}: {name}") if isinstance(value, str) else value
        for name, value in given.items()
    }
    for name, value in parsed.items():
        _require_fit(name, value, hints[name], label=label)
    return parsed


def check_fields(owner: Any, *, label: str) -> None:
    """Nothing; BadOption where a value of the dataclass instance is not of its type or out of its range."""
    for name, hint in hints_of(type(owner)).items():
        _require_fit(name, getattr(owner, name), hint, label=label)


def _require_fit(name: str, value: Any, hint: Any, *, label: str) -> None:
    if not _fits(value, hint):
        raise BadOption(f"{label}: {name}={value!r} is not allowed; it must be {describe(hint)}.")


def read(text: str, hint: Any, *, label: str) -> Any:
    """`text` as a value of the type `hint`; BadOption with what is allowed where it is none."""
    hint = _bare(hint)
    options = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        try:
            return _READERS[_kind(option)](text)
        except (KeyError, ValueError):
            continue
    raise BadOption(f"{label}={text!r} cannot be read; it must be {describe(hint)}.")


def describe(hint: Any) -> str:
    """A type hint in words, for messages and the documentation."""
    if typing.get_origin(hint) is typing.Annotated:
        bare, *extras = typing.get_args(hint)
        bounds = [str(extra) for extra in extras if isinstance(extra, Range)]
        return ", ".join([describe(bare), *bounds])
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(value) for value in typing.get_args(hint))
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe(option) for option in typing.get_args(hint))
    return _WORDS.get(_kind(hint), str(hint))


_WORDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": "names joined by commas",
    "NoneType": "none",
}


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _kind(hint: Any) -> str:
    hint = _bare(hint)
    if typing.get_origin(hint) is Literal:
        return "str"
    origin = typing.get_origin(hint) or hint
    return str(getattr(origin, "__name__", origin))


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        bare, *extras = typing.get_args(hint)
        ranges = [extra for extra in extras if isinstance(extra, Range)]
        return _fits(value, bare) and all(entry.low <= value <= entry.high for entry in ranges)
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if typing.get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if _kind(hint) == "tuple":
        return isinstance(value, tuple) and all(isinstance(entry, str) for entry in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _read_bool(text: str) -> bool:
    truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.casefold() not in truth:
        raise ValueError(text)
    return truth[text.casefold()]


def _read_none(text: str) -> None:
    if text.casefold() not in ("none", ""):
        raise ValueError(text)


_READERS: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": _read_bool,
    "NoneType": _read_none,
    "tuple": lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
    "str": str,
}
