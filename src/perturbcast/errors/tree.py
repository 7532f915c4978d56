"""The root of the error tree, our own fault (E0), and the sentence that offers near names."""

from collections.abc import Iterable
from typing import ClassVar


class PerturbcastError(Exception):
    """Root of the tree. `code` is stable, the docstring is the cause, `remedy` the default next step."""

    code: ClassVar[str] = "E000"
    remedy: ClassVar[str] = ""
    exit_status: ClassVar[int] = 2

    def __init__(self, fact: str, next_step: str | None = None) -> None:
        self.fact = " ".join(fact.split())  # one line, whatever a file's labels hold
        self.next_step = self.remedy if next_step is None else next_step
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.code} {type(self).__name__}: {self.fact}"
        return f"{text} {self.next_step}".rstrip()

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.fact, self.next_step)


class DefectError(PerturbcastError):
    """A promise of ours was broken inside the program."""

    code = "E001"
    remedy = "This is a defect of perturbcast: please report it with the command that led here."
    exit_status = 1


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names most like `name`, best first, without regard to case."""
    from difflib import get_close_matches

    by_folded = {candidate.casefold(): candidate for candidate in known}
    return [by_folded[match] for match in get_close_matches(name.casefold(), by_folded, n=most, cutoff=0.5)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known names, or lists what is known."""
    known = list(known)
    close = nearest(name, known)
    if close:
        return "Nearest: " + ", ".join(repr(match) for match in close) + "."
    listed = ", ".join(repr(match) for match in sorted(known)[:12])
    return f"Known: {listed}{', ...' if len(known) > 12 else '.'}"
