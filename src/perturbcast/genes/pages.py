"""Answers of a web service, page by page: kept on disk, asked for again after failures, checked to be whole."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbcast._files import written_whole
from perturbcast.errors import NotWritable, Offline, SourceGone, UnexpectedContent
from perturbcast.genes.graph_files import fingerprint

TIMEOUT = (20.0, 300.0)  # seconds to connect, seconds between two pieces of an answer
TEMPORARY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_WAIT = 300.0  # seconds, whatever a server asks for


class _Failed(Exception):
    """An attempt that may go better another time; `wait` are the seconds that the server asks for."""

    def __init__(self, fact: str, *, wait: float = 0.0, answered: bool = False) -> None:
        super().__init__(fact)
        self.wait = wait
        self.answered = answered


@dataclass(frozen=True)
class Pages:
    """Pages by address and request, each kept as a file in `folder` once it came whole; such a page is not asked again.

    A failed attempt is repeated after `pause` seconds, doubled each time, or after what the server asks for.
    """

    folder: Path
    retries: int = 5
    pause: float = 1.0

    def post(self, url: str, *, form: Mapping[str, str], complaint: Callable[[str], str]) -> str:
        """The answer to a form; `complaint` says what is wrong with an answer, "" if nothing.

        Raises Offline where the service cannot be reached, SourceGone where it refuses for good, UnexpectedContent
        where its answer is still not whole after all attempts, NotWritable.
        """
        return self._kept((url, repr(sorted(form.items()))), {"data": dict(form)}, complaint)

    def post_json(self, url: str, *, content: Mapping[str, Any], complaint: Callable[[str], str]) -> str:
        """The answer to a JSON document; else as `post`."""
        headers = {"Accept": "application/json"}
        return self._kept((url, repr(dict(content))), {"json": dict(content), "headers": headers}, complaint)

    def _kept(self, asked: tuple[str, str], request: Mapping[str, Any], complaint: Callable[[str], str]) -> str:
        path = self.folder / f"{fingerprint(*asked)}.page"
        if path.is_file() and not complaint(kept := path.read_text(encoding="utf-8")):
            return kept
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise NotWritable(f"{self.folder} cannot be written: {failure.strerror or failure}.") from failure
        text = self._asked(asked[0], request, complaint)
        with written_whole(path) as draft:
            draft.write_text(text, encoding="utf-8")
        return text

    def _asked(self, url: str, request: Mapping[str, Any], complaint: Callable[[str], str]) -> str:
        for attempt in range(self.retries):
            try:
                return _one_attempt(url, request, complaint)
            except _Failed as failure:
                if attempt + 1 == self.retries:
                    raise self._given_up(url, failure) from failure
                time.sleep(min(max(self.pause * 2**attempt, failure.wait), LONGEST_WAIT))
        raise AssertionError("no attempt was made")

    def _given_up(self, url: str, failure: _Failed) -> Offline | UnexpectedContent:
        fact = f"{url}: {failure} ({self.retries} attempts). The pages that came are kept in {self.folder}."
        again = "Repeat the command later; it goes on where it stopped."
        return UnexpectedContent(fact, again) if failure.answered else Offline(fact, again)


def _one_attempt(url: str, request: Mapping[str, Any], complaint: Callable[[str], str]) -> str:
    import requests

    try:
        answer = requests.post(url, timeout=TIMEOUT, **request)
    except requests.RequestException as failure:
        raise _Failed(" ".join(str(failure).split())[:200] or type(failure).__name__) from failure
    if answer.status_code in TEMPORARY_STATUS:
        raise _Failed(f"the server answers {answer.status_code} {answer.reason}", wait=_wait(answer))
    if answer.status_code != 200:
        raise SourceGone(f"{url} answers {answer.status_code} {answer.reason}.", "Check --server and --species.")
    answer.encoding = "utf-8"
    if wrong := complaint(answer.text):
        raise _Failed(wrong, answered=True)
    return answer.text


def _wait(answer: Any) -> float:
    """Seconds that the server asks to wait, which Ensembl gives as a decimal number."""
    try:
        return max(float(answer.headers.get("Retry-After", 0.0)), 0.0)
    except ValueError:
        return 0.0
