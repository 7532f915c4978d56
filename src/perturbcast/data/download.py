"""Files over HTTP that survive interruptions: what has come is kept in a `.part` file and the rest asked for by Range.

`pooch` verifies and moves files; its own downloader starts again from nothing, which does not do for 60 GB.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perturbcast._progress import Progress
from perturbcast.errors import Offline, SourceGone

CHUNK = 1 << 16  # bytes; one step of the progress bar, and what a broken line can lose
TIMEOUT = (20.0, 60.0)  # seconds to connect, seconds between two chunks
TEMPORARY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Broken(Exception):
    """The connection failed or ended early; what has come is in the part file."""


@dataclass(frozen=True)
class ResumableDownload:
    """A downloader for pooch that resumes; `part` outlives the call where it fails.

    Raises Offline when the server cannot be reached `retries` times in a row without a byte coming, SourceGone when
    it answers that there is no such file. Any byte that comes counts as success and renews the attempts.
    """

    part: Path
    page: str = ""  # where a person finds the file; named in errors
    retries: int = 4
    pause: float = 1.0  # seconds before the second attempt; doubled for each further one
    progress: Progress = field(default_factory=Progress)

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Writes what `url` holds to `output_file`; called by pooch."""
        left = self.retries
        while True:
            before = self._size()
            try:
                self._continue(url)
                break
            except _Broken as failure:
                left = self.retries if self._size() > before else left - 1
                if left <= 0:
                    raise self._offline(url, failure) from failure
                time.sleep(self.pause * 2 ** (self.retries - left))
        self.part.replace(output_file)
        self._memo.unlink(missing_ok=True)

    @property
    def _memo(self) -> Path:
        """Beside the part file: which version of which address it is a part of."""
        return self.part.with_name(self.part.name + ".json")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _offline(self, url: str, failure: Exception) -> Offline:
        kept = f" {self._size():,} bytes are kept in {self.part.name}; the next attempt goes on from there."
        where = f" or from {self.page}" if self.page else ""
        return Offline(
            f"{url} cannot be reached ({failure}).{kept if self._size() else ''}",
            f"Try again later, or fetch the file by hand from that address{where} and pass its path.",
        )

    def _continue(self, url: str) -> None:
        """Asks for what is missing and appends it; starts again where the source has changed or knows no ranges."""
        import requests  # pooch depends on it

        version = self._known_version(url)
        have = self._size() if version is not None else 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                if answer.status_code == 416 and _total(answer) == have:
                    return
                self._check_status(answer, url)
                self._receive(answer, url, have)
        except requests.RequestException as failure:
            raise _Broken(_cause(failure)) from failure

    def _receive(self, answer: Any, url: str, have: int) -> None:
        resumed = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        expected = int(answer.headers.get("Content-Length", -1))
        self._memo.write_text(json.dumps({"url": url, "version": _version(answer)}))
        with self.part.open("ab" if resumed else "wb") as part:
            start = part.tell() if resumed else 0
            for chunk in self._track(answer.iter_content(CHUNK), expected):
                part.write(chunk)
        came = self._size() - start
        if expected >= 0 and came < expected:
            raise _Broken(f"the connection ended after {came:,} of {expected:,} bytes")

    def _track(self, chunks: Iterator[bytes], expected: int) -> Iterator[bytes]:
        total = -(-expected // CHUNK) if expected >= 0 else None
        return self.progress.track(chunks, label=self.part.name.removesuffix(".part"), total=total)

    def _known_version(self, url: str) -> str | None:
        """Entity tag or date that the part file belongs to; None where it is of another address, or unknown."""
        try:
            memo = json.loads(self._memo.read_text())
        except (OSError, ValueError):
            return None
        return memo.get("version", "") if memo.get("url") == url else None

    def _check_status(self, answer: Any, url: str) -> None:
        status = answer.status_code
        if status in (200, 206):
            return
        if status in TEMPORARY_STATUS or status == 416:
            if status == 416:
                self.part.unlink(missing_ok=True)
            raise _Broken(f"the server answers {status} {answer.reason}")
        page = f"Fetch the file by hand from {self.page} and pass its path." if self.page else None
        raise SourceGone(f"{url} answers {status} {answer.reason}.", page)


def _version(answer: Any) -> str:
    """The strong entity tag, or the date of change, or "" where the server gives neither."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _total(answer: Any) -> int:
    """Size of the whole file by the Content-Range of a 416 answer; -1 where it is not given."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else -1


def _cause(failure: Exception) -> str:
    """The innermost reason of a chain of network errors, in one line."""
    while failure.__context__ is not None and isinstance(failure.__context__, Exception):
        failure = failure.__context__
    return " ".join(str(failure).split())[:200] or type(failure).__name__
