"""Files that are whole or absent: written under another name, flushed to disk, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from perturbcast.errors import NotWritable

UNFINISHED = ".unfinished"  # ending of files that are being written


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A draft beside `path` to be written; it takes the place of `path` at the end, or goes if anything fails.

    Raises NotWritable where the disk refuses.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        draft.touch()  # a folder that cannot be written is said so before the work
        yield draft
        flush(draft)
        os.replace(draft, path)
        flush(path.parent)
    except OSError as error:
        raise NotWritable(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
