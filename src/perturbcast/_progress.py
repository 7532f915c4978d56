"""Progress as a value that functions are handed: silent by default, a bar with time left on a terminal."""

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")


class Progress:
    """A silent progress report; the command line passes `BarProgress`, libraries and tests this one."""

    def track(self, items: Iterable[Item], *, label: str, total: int | None = None) -> Iterator[Item]:
        """The items unchanged, one after another."""
        yield from items


class BarProgress(Progress):
    """A bar on standard error with the time left; nothing where standard error is no terminal."""

    def track(self, items: Iterable[Item], *, label: str, total: int | None = None) -> Iterator[Item]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        if total is None and isinstance(items, Sized):
            total = len(items)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with RichProgress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            yield from bar.track(items, total=total, description=label)
