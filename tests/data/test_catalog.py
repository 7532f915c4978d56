"""Downloads against a server of our own on the loopback: resumed, verified, refused in plain words."""

import hashlib
import io
import json
import socket
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from perturbcast._progress import Progress
from perturbcast.data import catalog
from perturbcast.data.catalog import catalogue, find_dataset, get_dataset
from perturbcast.data.download import CHUNK
from perturbcast.errors import (
    BadOption,
    ChecksumDiffers,
    NotWritable,
    Offline,
    SourceGone,
    UnexpectedContent,
    UnknownDataset,
)

SCREEN = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 4096  # an HDF5 signature and 1 MiB behind it


@dataclass
class Site:
    """What the server holds and how it misbehaves; `asked` are the Range headers that came."""

    content: bytes = SCREEN
    tag: str = '"v1"'
    cut_after: list[int] = field(default_factory=list)  # bytes of each answer after which the line is cut
    statuses: list[int] = field(default_factory=list)  # status of each answer, before all else
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append(self.headers.get("Range"))
            status = state.statuses.pop(0) if state.statuses else 200
            if status != 200:
                self.send_error(status)
                return
            start = self.first_byte()
            if start >= len(state.content) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_body(start)

        def first_byte(self):
            wanted = self.headers.get("Range")
            if not wanted or not state.ranges or self.headers.get("If-Range", state.tag) != state.tag:
                return 0
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

        def send_body(self, start):
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", state.tag)
            self.end_headers()
            self.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


class StoppedByUser(Progress):
    """A key is pressed after the first chunk."""

    def track(self, items, *, label, total=None):
        yield next(iter(items))
        raise KeyboardInterrupt


def fetch(site, folder, name="papalexi", **more):
    return get_dataset(name, folder=folder, base_url=site.url, **({"pause": 0.01} | more))


def zipped(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_catalogue_can_stand_in_json_and_its_names_are_unique():
    entries = json.loads(json.dumps(catalogue()))
    assert len({entry["name"] for entry in entries}) == len(entries)
    for entry in entries:
        assert urlsplit(entry["address"]).scheme == "https"
        assert entry["page"].startswith("https://")
        assert entry["source"].startswith("doi:10.")


def test_the_screens_of_the_issue_are_listed():
    names = {entry["name"] for entry in catalogue()}
    assert {"norman", "adamson", "dixit", "papalexi", "replogle-k562-genome-wide"} <= names
    assert {"replogle-k562-essential", "replogle-rpe1-essential"} <= names


def test_names_are_found_in_the_spelling_of_gears():
    assert find_dataset("replogle_K562_essential").address.endswith("/7458695")


def test_an_unknown_name_offers_the_nearest(tmp_path):
    with pytest.raises(UnknownDataset, match="'norman'"):
        get_dataset("normann", folder=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_file_comes_whole_and_is_recorded(site, tmp_path):
    path = fetch(site, tmp_path / "new" / "data")
    assert path.read_bytes() == SCREEN
    record = json.loads((path.parent / "registry.json").read_text())["papalexi.h5ad"]
    assert record["sha256"] == hashlib.sha256(SCREEN).hexdigest()
    assert record["bytes"] == len(SCREEN)
    assert names_in(path.parent) == ["papalexi.h5ad", "registry.json"]


def test_a_file_that_is_there_is_not_fetched_again(site, tmp_path):
    fetch(site, tmp_path)
    fetch(site, tmp_path)
    assert len(site.asked) == 1


def test_a_cut_line_is_taken_up_where_it_broke(site, tmp_path):
    site.cut_after = [4 * CHUNK + 5, 3 * CHUNK]
    assert fetch(site, tmp_path).read_bytes() == SCREEN
    assert site.asked == [None, f"bytes={4 * CHUNK}-", f"bytes={7 * CHUNK}-"]


def test_what_came_before_giving_up_is_kept_for_the_next_call(site, tmp_path):
    site.cut_after = [6 * CHUNK, 0, 0]
    with pytest.raises(Offline, match="393,216 bytes are kept"):
        fetch(site, tmp_path, retries=2)
    assert (tmp_path / "papalexi.part").stat().st_size == 6 * CHUNK
    assert fetch(site, tmp_path).read_bytes() == SCREEN
    assert site.asked[-1] == f"bytes={6 * CHUNK}-"
    assert names_in(tmp_path) == ["papalexi.h5ad", "registry.json"]


def test_a_download_stopped_by_the_user_goes_on_later(site, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fetch(site, tmp_path, progress=StoppedByUser())
    assert fetch(site, tmp_path).read_bytes() == SCREEN
    assert site.asked[-1] == f"bytes={CHUNK}-"


def test_a_source_that_changed_in_between_is_fetched_from_the_start(site, tmp_path):
    site.cut_after = [6 * CHUNK, 0]
    with pytest.raises(Offline):
        fetch(site, tmp_path, retries=1)
    site.content, site.tag = SCREEN[:8] + SCREEN[:7:-1], '"v2"'
    assert fetch(site, tmp_path).read_bytes() == site.content
    assert site.asked[-1] == f"bytes={6 * CHUNK}-"


def test_a_server_without_ranges_starts_again(site, tmp_path):
    site.ranges = False
    site.cut_after = [5 * CHUNK]
    assert fetch(site, tmp_path).read_bytes() == SCREEN


def test_a_part_that_is_already_whole_is_accepted(site, tmp_path):
    address = site.url + urlsplit(find_dataset("papalexi").address).path
    (tmp_path / "papalexi.part").write_bytes(SCREEN)
    (tmp_path / "papalexi.part.json").write_text(json.dumps({"url": address, "version": site.tag}))
    assert fetch(site, tmp_path).read_bytes() == SCREEN
    assert site.asked == [f"bytes={len(SCREEN)}-"]


def test_a_part_longer_than_the_file_is_thrown_away(site, tmp_path):
    address = site.url + urlsplit(find_dataset("papalexi").address).path
    (tmp_path / "papalexi.part").write_bytes(SCREEN + b"more")
    (tmp_path / "papalexi.part.json").write_text(json.dumps({"url": address, "version": site.tag}))
    assert fetch(site, tmp_path).read_bytes() == SCREEN


def test_a_part_of_unknown_origin_is_not_trusted(site, tmp_path):
    (tmp_path / "papalexi.part").write_bytes(b"something else")
    assert fetch(site, tmp_path).read_bytes() == SCREEN
    assert site.asked == [None]


def test_a_busy_server_is_asked_again(site, tmp_path):
    site.statuses = [503, 429]
    assert fetch(site, tmp_path).read_bytes() == SCREEN


def test_a_published_checksum_is_enforced(site, tmp_path):
    with pytest.raises(ChecksumDiffers, match="md5:13db594f"):
        fetch(site, tmp_path, "replogle-k562-genome-wide")
    assert names_in(tmp_path) == []


def test_a_file_with_the_published_checksum_is_accepted(site, tmp_path, monkeypatch):
    entry = find_dataset("replogle-k562-genome-wide")
    digest = hashlib.md5(SCREEN).hexdigest()
    changed = type(entry)(**{**entry.__dict__, "checksum": f"md5:{digest}"})
    monkeypatch.setattr(catalog, "DATASETS", (changed,))
    assert fetch(site, tmp_path, entry.name).read_bytes() == SCREEN


def test_a_file_put_there_by_hand_must_have_the_published_checksum(tmp_path):
    (tmp_path / "replogle-k562-genome-wide.h5ad").write_bytes(SCREEN)
    with pytest.raises(ChecksumDiffers, match="published"):
        get_dataset("replogle-k562-genome-wide", folder=tmp_path)


def test_a_file_put_there_by_hand_is_recorded_on_first_use(tmp_path):
    (tmp_path / "papalexi.h5ad").write_bytes(SCREEN)
    get_dataset("papalexi", folder=tmp_path)
    (tmp_path / "papalexi.h5ad").write_bytes(SCREEN[:-1])
    with pytest.raises(ChecksumDiffers, match="recorded"):
        get_dataset("papalexi", folder=tmp_path)


def test_a_source_that_differs_from_the_first_download_is_refused(site, tmp_path):
    path = fetch(site, tmp_path)
    path.unlink()
    site.content = SCREEN + b"changed"
    with pytest.raises(ChecksumDiffers, match="sha256:"):
        fetch(site, tmp_path)
    assert names_in(tmp_path) == ["registry.json"]


def test_a_zip_is_unpacked_and_removed(site, tmp_path):
    site.content = zipped(("norman/perturb_processed.h5ad", SCREEN), ("norman/readme.txt", b"hello"))
    assert fetch(site, tmp_path, "norman").read_bytes() == SCREEN
    assert names_in(tmp_path) == ["norman.h5ad", "registry.json"]
    assert fetch(site, tmp_path, "norman").read_bytes() == SCREEN
    assert len(site.asked) == 1


def test_a_tar_is_unpacked(site, tmp_path):
    site.content = tarred(("adamson/perturb_processed.h5ad", SCREEN), ("adamson/other.h5ad", b"no"))
    assert fetch(site, tmp_path, "adamson").read_bytes() == SCREEN


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["../escaped.h5ad", "/escaped.h5ad", "a/../../escaped.h5ad"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(site, tmp_path, pack, name):
    site.content = pack((name, SCREEN), ("norman/perturb_processed.h5ad", SCREEN))
    with pytest.raises(UnexpectedContent, match="leads out"):
        fetch(site, tmp_path / "data", "norman")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        zipped(("norman/readme.txt", b"hello")),
        zipped(("a.h5ad", SCREEN), ("b.h5ad", SCREEN)),
        zipped(("norman/perturb_processed.h5ad", b"no HDF5")),
        zipped(("norman/perturb_processed.h5ad", SCREEN)).replace(SCREEN[100:200], SCREEN[101:201], 1),
        b"<html>Please log in</html>",
        b"",
    ],
    ids=["no screen", "two screens", "not HDF5", "damaged", "a web page", "nothing"],
)
def test_anything_but_one_sound_screen_is_refused(site, tmp_path, content):
    site.content = content
    with pytest.raises(UnexpectedContent):
        fetch(site, tmp_path, "norman")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("status", [202, 401, 403, 404, 410])
def test_a_server_that_has_no_such_file_is_told_apart_from_no_server(site, tmp_path, status):
    site.statuses = [status]
    with pytest.raises(SourceGone, match=f"{status}.*by hand"):
        fetch(site, tmp_path)
    assert len(site.asked) == 1


def test_without_a_server_the_message_names_the_address(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Offline, match=r"E902.*/7278143/files/.*by hand") as caught:
            get_dataset("papalexi", folder=tmp_path, base_url=base_url, retries=2, pause=0.0)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(NotWritable):
        get_dataset("papalexi", folder=tmp_path / "taken")


def test_attempts_must_be_possible(tmp_path):
    with pytest.raises(BadOption):
        get_dataset("papalexi", folder=tmp_path, retries=0)


def test_the_documentation_lists_every_data_set():
    page = (Path(__file__).parents[2] / "docs" / "DATASETS.md").read_text()
    for entry in catalogue():
        assert f"| `{entry['name']}` | {entry['title']} |" in page
        assert entry["page"] in page


def test_a_folder_made_for_a_download_that_failed_is_not_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(Offline):
        get_dataset("norman", folder=tmp_path / "new", base_url="http://127.0.0.1:9", retries=1)
    assert list(tmp_path.iterdir()) == []
