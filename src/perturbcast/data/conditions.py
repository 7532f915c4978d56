"""Conditions: the set of targets acted on in a cell, written `A+B`, sorted; `ctrl` where nothing was."""

from typing import NamedTuple

CONTROL = "ctrl"
JOINT = "+"


class Query(NamedTuple):
    """A condition in a context, to be predicted or observed. `context` is "" where a screen has only one unnamed."""

    condition: str
    context: str = ""

    def __str__(self) -> str:
        return f"{self.condition} in {self.context}" if self.context else self.condition


def targets_of(condition: str) -> tuple[str, ...]:
    """The targets of a canonical condition, sorted; empty for control."""
    return () if condition == CONTROL else tuple(condition.split(JOINT))


def condition_of(targets: tuple[str, ...] | list[str] | set[str]) -> str:
    """The canonical condition of some targets: sorted, unique, `ctrl` if there are none."""
    return JOINT.join(sorted({target for target in targets if target != CONTROL})) or CONTROL


def is_single(condition: str) -> bool:
    """Whether exactly one target is acted on."""
    return len(targets_of(condition)) == 1


def is_double(condition: str) -> bool:
    """Whether exactly two targets are acted on."""
    return len(targets_of(condition)) == 2
