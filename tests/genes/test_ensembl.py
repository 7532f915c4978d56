"""The Ensembl client against a server of our own on the loopback: pages, failures, and a kill in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from perturbcast.errors import BadOption, NotWritable, Offline, SourceGone, UnexpectedContent
from perturbcast.genes.ensembl import SPECIES, fetch_gene_table
from perturbcast.genes.load import load_knowledge
from perturbcast.genes.pages import Pages

GENES = {  # chromosome -> id, symbol, synonyms, biotype, description
    "17": [("ENSG00000141510", "TP53", ("P53", "LFS1"), "protein_coding", "tumor protein p53 [Source:HGNC]")],
    "8": [
        ("ENSG00000136997", "MYC", (), "protein_coding", "MYC proto-oncogene"),
        ("ENSG00000249375", "", (), "lncRNA", ""),
    ],
}


@dataclass
class Ensembl:
    """A small Ensembl and how it misbehaves; `asked` are the requests that came."""

    asked: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # status of each answer, before all else
    cut: int = 0  # so many answers end in the middle
    broken: int = 0  # so many answers are shorter than they say
    hang_at: str = ""  # the chromosome at which no answer comes
    wait: str = ""  # what Retry-After says
    url: str = ""

    def answer(self, path, body):
        """The text that an honest server gives."""
        if path.startswith("/sequence/id"):
            return json.dumps([{"query": ident, "id": ident, "seq": "acgt" * 3} for ident in json.loads(body)["ids"]])
        query = parse_qs(body)["query"][0]
        genes = GENES.get(re.search(r'chromosome_name" value="(\w+)"', query)[1], [])
        if 'formatter="FASTA"' in query:
            n = int(re.search(r'upstream_flank" value="(\d+)"', query)[1])
            return "".join(f">{gene[0]}\n{'A' * n}\n" for gene in genes[:1]) + "[success]\n"
        rows = [(i, s, alias, b, d) for i, s, aliases, b, d in genes for alias in (aliases or ("",))]
        return "".join("\t".join(row) + "\n" for row in rows) + "[success]\n"


@pytest.fixture
def ensembl(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Ensembl()
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked = self.path + body
            state.asked.append(asked)
            if state.hang_at and f"%22{state.hang_at}%22" in body.partition("chromosome_name")[2][:40]:
                released.wait(30)
                return
            if state.statuses and (status := state.statuses.pop(0)) != 200:
                self.send_response(status)
                if state.wait:
                    self.send_header("Retry-After", state.wait)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            text = state.answer(self.path, body).encode()
            if state.cut:
                state.cut -= 1
                text = text[: len(text) // 2]
            self.send_response(200)
            self.send_header("Content-Length", str(len(text) + 7 * (state.broken > 0)))
            state.broken = max(state.broken - 1, 0)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    released.set()
    server.shutdown()
    server.server_close()


def fetched(ensembl, folder, **more):
    pages = Pages(folder, retries=more.pop("retries", 4), pause=0.001)
    return fetch_gene_table("human", pages=pages, server=ensembl.url, rest_server=ensembl.url, **more)


def test_every_chromosome_is_a_page_and_synonyms_are_gathered(ensembl, tmp_path):
    table = fetched(ensembl, tmp_path / "pages").set_index("ensembl_gene_id")
    assert len(ensembl.asked) == len(SPECIES["human"].chromosomes) == 25
    assert set(table.index) == {"ENSG00000141510", "ENSG00000136997", "ENSG00000249375"}
    assert table.loc["ENSG00000141510", "synonyms"] == "P53|LFS1"
    assert table.loc["ENSG00000249375", "symbol"] == ""
    assert table.loc["ENSG00000136997", "biotype"] == "protein_coding"


def test_a_fetched_table_is_knowledge(ensembl, tmp_path):
    fetched(ensembl, tmp_path / "pages", sequences="promoter", upstream=7).to_parquet(tmp_path / "genes.parquet")
    knowledge = load_knowledge([tmp_path / "genes.parquet"], targets=["P53", "MYC"])
    assert knowledge.texts["P53"] == "tumor protein p53"
    assert knowledge.sequences == {"P53": "AAAAAAA", "MYC": "AAAAAAA"}


def test_sequences_of_chosen_genes_come_from_rest(ensembl, tmp_path):
    table = fetched(ensembl, tmp_path, sequences="gene", only=["LFS1", "ENSG00000249375.2", "nonsense"])
    by_id = dict(zip(table["ensembl_gene_id"], table["sequence"], strict=True))
    assert by_id == {"ENSG00000141510": "ACGT" * 3, "ENSG00000136997": "", "ENSG00000249375": "ACGT" * 3}
    (asked,) = [entry for entry in ensembl.asked if entry.startswith("/sequence")]
    assert "ENSG00000136997" not in asked


@pytest.mark.parametrize("trouble", [{"statuses": [500, 429, 503]}, {"cut": 3}, {"broken": 3}])
def test_passing_trouble_is_outlasted(ensembl, tmp_path, trouble):
    for name, value in trouble.items():
        setattr(ensembl, name, value)
    assert len(fetched(ensembl, tmp_path)) == 3
    assert len(ensembl.asked) == 25 + 3


def test_the_wait_that_the_server_asks_for_is_kept(ensembl, tmp_path):
    ensembl.statuses, ensembl.wait = [429], "0.35"
    start = time.monotonic()
    fetched(ensembl, tmp_path)
    assert time.monotonic() - start > 0.35


def test_lasting_trouble_is_told_and_what_came_is_kept(ensembl, tmp_path):
    ensembl.statuses = [200] * 4 + [500] * 4
    with pytest.raises(Offline, match="4 attempts"):
        fetched(ensembl, tmp_path)
    n_asked = len(ensembl.asked)
    assert len(fetched(ensembl, tmp_path)) == 3
    assert len(ensembl.asked) - n_asked == 21
    assert len(fetched(ensembl, tmp_path)) == 3
    assert len(ensembl.asked) - n_asked == 21


def test_a_kept_page_that_was_damaged_is_asked_for_again(ensembl, tmp_path):
    whole = fetched(ensembl, tmp_path)
    for page in list(tmp_path.iterdir())[:2]:
        page.write_text("ENSG0000")
    assert fetched(ensembl, tmp_path).equals(whole)
    assert len(ensembl.asked) == 27


def test_answers_that_never_are_whole_are_refused(ensembl, tmp_path):
    ensembl.cut = 4
    with pytest.raises(UnexpectedContent, match="cut off"):
        fetched(ensembl, tmp_path)
    ensembl.answer = lambda path, body: "Query ERROR: caught BioMart::Exception::Usage"
    with pytest.raises(UnexpectedContent, match="Query ERROR"):
        fetched(ensembl, tmp_path)
    ensembl.answer = lambda path, body: "ENSG1\tTP53\n[success]\n"
    with pytest.raises(UnexpectedContent, match="5 columns"):
        fetched(ensembl, tmp_path)
    ensembl.answer = lambda path, body: "[success]\n"
    with pytest.raises(UnexpectedContent, match="no gene"):
        fetched(ensembl, tmp_path)


def test_a_refusal_is_not_repeated(ensembl, tmp_path):
    ensembl.statuses = [404]
    with pytest.raises(SourceGone):
        fetched(ensembl, tmp_path)
    assert len(ensembl.asked) == 1


def test_options_and_folders_without_sense_are_refused(ensembl, tmp_path):
    for more in ({"sequences": "protein"}, {"upstream": 0}):
        with pytest.raises(BadOption):
            fetched(ensembl, tmp_path, **more)
    with pytest.raises(BadOption, match="'mouse'"):
        fetch_gene_table("mous", pages=Pages(tmp_path), server=ensembl.url)
    with pytest.raises(BadOption, match="--only"):
        fetched(ensembl, tmp_path, sequences="gene", only=["nonsense"])
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable):
        fetched(ensembl, tmp_path / "file" / "inside")


def test_a_killed_fetch_goes_on_where_it_was(ensembl, tmp_path):
    ensembl.hang_at = "8"
    code = (
        "import sys; from pathlib import Path; from perturbcast.genes.ensembl import fetch_gene_table\n"
        "from perturbcast.genes.pages import Pages\n"
        "fetch_gene_table('human', pages=Pages(Path(sys.argv[1])), server=sys.argv[2])"
    )
    running = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), ensembl.url])
    deadline = time.monotonic() + 60
    while len(ensembl.asked) < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert len(ensembl.asked) == 8
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".page"]) == 7
    ensembl.hang_at = ""
    assert len(fetched(ensembl, tmp_path)) == 3
    assert len(ensembl.asked) == 8 + 18
