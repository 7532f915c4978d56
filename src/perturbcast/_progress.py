"""Progress as a value that functions are handed: silent by default, a bar with time left on a terminal."""

from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

Item = TypeVar("Item")


class Progress:
    """A silent progress report; the command line passes `BarProgress`, libraries and tests this one."""

    def track(self, items: Iterable[Item], *, label: str, total: int | None = None) -> Iterator[Item]:
        """The items unchanged, one after another."""
        yield from items


class BarProgress(Progress):
    """A bar on standard error with the time left, bars within it below; nothing where standard error is no terminal."""

    def __init__(self) -> None:
        self._shown: Any = None  # the display of the outermost bar

    def __getstate__(self) -> dict[str, Any]:
        return {"_shown": None}  # another process has a display of its own

    def track(self, items: Iterable[Item], *, label: str, total: int | None = None) -> Iterator[Item]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        if total is None and isinstance(items, Sized):
            total = len(items)
        if self._shown is not None:
            yield from self._within(items, label=label, total=total)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with RichProgress(*columns, console=console, transient=True, disable=not console.is_terminal) as self._shown:
            try:
                yield from self._shown.track(items, total=total, description=label)
            finally:
                self._shown = None

    def _within(self, items: Iterable[Item], *, label: str, total: int | None) -> Iterator[Item]:
        shown = self._shown
        task = shown.add_task(label, total=total)
        try:
            for item in items:
                yield item
                shown.advance(task)
        finally:
            shown.remove_task(task)
