"""The verbs of `perturbcast genes` on small files, and their words for bad input."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest
import torch

from perturbcast import Query, ResponseTable, TrainingData, get_model
from perturbcast.cli import run
from perturbcast.data.scale import Scale
from perturbcast.genes.load import load_knowledge

TABLE = (
    "ensembl_gene_id\tsymbol\tsynonyms\tbiotype\tdescription\n"
    "ENSG00000141510\tTP53\tP53|LFS1\tprotein_coding\ttumor protein p53\n"
    "ENSG00000136997\tMYC\tc-Myc\tprotein_coding\tproto-oncogene protein\n"
    "ENSG00000102145\tGATA1\tERYF1\tprotein_coding\ttumor binding protein\n"
    "ENSG00000105610\tKLF1\tEKLF|ERYF1\tprotein_coding\tproto-oncogene like factor\n"
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "table.tsv").write_text(TABLE)
    (tmp_path / "sets.gmt").write_text("A\tx\tTP53\tMYC\nB\tx\tTP53\tMYC\tGATA1\nC\tx\tKLF1\tGATA1\n")
    (tmp_path / "ppi.csv").write_text("gene1,gene2,weight\nTP53,KLF1,900\nMYC,KLF1,300\n")
    (tmp_path / "promoters.fa").write_text(
        ">TP53\nACGTTGCACC\n>MYC\nGGGCATATAT\n>GATA1\nACGATTTACG\n>KLF1\nTTACGGGACC\n"
    )
    return tmp_path


def test_names_are_resolved_with_their_routes_and_reasons(folder, capsys):
    (folder / "names.txt").write_text("LFS1\nENSG00000136997.3\nERYF1\n")
    out = folder / "resolved.csv"
    command = ["genes", "resolve", "TP53", str(folder / "names.txt"), "zzz", "--genes", str(folder / "table.tsv")]
    assert run([*command, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "'LFS1'                   TP53 (alias)" in shown
    assert "E809 AmbiguousGeneName: 'ERYF1' may mean GATA1 or KLF1." in shown
    assert "5 names: 1 by symbol, 1 by alias, 1 by ensembl, 1 ambiguous, 1 unresolved" in shown
    frame = pd.read_csv(out, keep_default_na=False)
    assert list(frame["symbol"]) == ["TP53", "TP53", "MYC", "", ""]
    assert frame["reason"].iloc[-1].startswith("E808")


def test_texts_and_dna_become_tables_that_are_read_again(folder, capsys):
    genes = ["--genes", str(folder / "table.tsv"), "--genes", str(folder / "promoters.fa")]
    assert run(["genes", "embed", *genes, "--text", "tfidf", "--width", "2", "--out", str(folder / "text.npz")]) == 0
    assert run(["genes", "embed", *genes, "--dna", "kmer", "--width", "3", "--out", str(folder / "dna.parquet")]) == 0
    assert "4 genes x 3 features" in capsys.readouterr().out
    knowledge = load_knowledge([folder / "text.npz", folder / "dna.parquet"])
    assert {name: table.matrix.shape for name, table in knowledge.embeddings.items()} == {"text": (4, 2), "dna": (4, 3)}


def test_a_foundation_model_gives_a_table_with_controls(folder, capsys):
    model = folder / "scgpt"
    model.mkdir()
    (model / "vocab.json").write_text(json.dumps({"<pad>": 0, "TP53": 1, "MYC": 2, "GATA1": 3}))
    torch.save({"encoder.embedding.weight": torch.randn(4, 5)}, model / "best_model.pt")
    out, controls = folder / "scgpt.npz", folder / "controls"
    assert run(["genes", "table", "scgpt", str(model), "--transform", "l2", "--out", str(out)]) == 0
    (table,) = load_knowledge([out]).embeddings.values()
    np.testing.assert_allclose(np.linalg.norm(table.matrix, axis=1), 1, atol=1e-6)
    assert run(["genes", "controls", str(out), "--out", str(controls)]) == 0
    found = load_knowledge([controls]).embeddings
    assert set(found) == {"scgpt-random", "scgpt-permuted", "scgpt-one-hot"}
    assert found["scgpt-one-hot"].matrix.shape == (3, 3)


def test_genes_that_a_table_lacks_are_left_out_flagged_or_filled_in_by_their_neighbours(folder, capsys):
    pd.DataFrame({"gene": ["TP53", "MYC"], "a": [1.0, 3.0], "b": [2.0, 0.0]}).to_csv(folder / "own.csv", index=False)
    (folder / "wanted.txt").write_text("MYC\nEKLF\nGATA1\n")
    command = ["genes", "complete", str(folder / "own.csv"), "--genes", str(folder / "table.tsv")]
    wanted, ppi = ["--among", str(folder / "wanted.txt")], ["--networks", str(folder / "ppi.csv")]

    def completed(*words):
        out = folder / "whole.csv"
        assert run([*command, *words, "--out", str(out)]) == 0
        return pd.read_csv(out, index_col="gene").to_dict("split"), capsys.readouterr().out

    found, _ = completed("--missing", "drop", *wanted)
    assert (found["index"], found["data"]) == (["MYC"], [[3.0, 0.0]])
    found, said = completed("--missing", "flag", *wanted)
    assert found["index"] == ["MYC", "EKLF", "GATA1"]
    assert found["data"] == [[3, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert "1 genes had a row, 2 were given one (flag), 0 left out" in said
    found, said = completed("--missing", "neighbours", *wanted, *ppi)
    assert found["index"] == ["MYC", "EKLF"]  # nothing is known of GATA1
    np.testing.assert_allclose(found["data"][1], [(900 * 1 + 300 * 3) / 1200, 900 * 2 / 1200], rtol=1e-6)
    assert "1 left out" in said
    found, _ = completed("--missing", "neighbours", *ppi)
    assert set(found["index"]) == {"TP53", "MYC", "KLF1"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--missing", "flag"], "E110"),
        (["--missing", "neighbours"], "E505"),
        (["--missing", "mean", "--among", "wanted.txt"], "E110"),
    ],
)
def test_a_table_that_cannot_be_completed_is_refused_in_one_line(folder, capsys, monkeypatch, words, code):
    monkeypatch.chdir(folder)
    (folder / "wanted.txt").write_text("MYC\n")
    pd.DataFrame({"gene": ["TP53", "MYC"], "a": [1.0, 3.0], "b": [2.0, 0.0]}).to_csv("own.csv", index=False)
    assert run(["genes", "complete", "own.csv", *words, "--out", "whole.csv"]) == 2
    assert capsys.readouterr().err.startswith(code)
    assert not (folder / "whole.csv").exists()


def test_graphs_are_united_cut_and_degraded(folder, capsys):
    networks = ["--networks", str(folder / "sets.gmt"), "--networks", str(folder / "ppi.csv")]
    whole, cut, spoilt = (folder / f"{name}.tsv" for name in ("whole", "cut", "spoilt"))
    assert run(["genes", "graph", *networks, "--out", str(whole)]) == 0
    assert run(["genes", "graph", *networks, "--least", "ppi=500", "--least", "sets=0.4", "--out", str(cut)]) == 0
    assert "ppi: 2 of 4 genes have an edge" in capsys.readouterr().out
    edges = [pd.read_csv(path, sep="\t") for path in (whole, cut)]
    pairs = [set(zip(frame["source"], frame["target"], strict=True)) for frame in edges]
    assert ("KLF1", "MYC") in pairs[0] - pairs[1]
    command = ["genes", "graph", *networks, "--degrade", "remove", "--share", "0.5", "--out", str(spoilt)]
    assert run(command) == 0
    left = pd.read_csv(spoilt, sep="\t").query("source != target")
    assert len(left) == len(edges[0].query("source != target")) // 2


def test_a_gene_table_is_fetched_and_its_pages_go(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"][0]
            row = "ENSMUSG00000059552\tTrp53\tp53\tprotein_coding\ttransformation related protein 53\n"
            text = ((row if 'value="11"' in query and "mmusculus" in query else "") + "[success]\n").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url, out = f"http://127.0.0.1:{server.server_port}", tmp_path / "mouse.parquet"
        assert run(["genes", "fetch", "--species", "mouse", "--server", url, "--out", str(out)]) == 0
        server.shutdown()
    assert [path.name for path in tmp_path.iterdir()] == ["mouse.parquet"]
    assert load_knowledge([out], targets=["Trp53"]).texts == {"Trp53": "transformation related protein 53"}


def test_a_prediction_can_be_asked_for_by_alias_and_id(folder, capsys):
    genes = np.array(["P53", "MYC", "GATA1", "KLF1"], dtype=object)
    queries = tuple(Query(str(gene)) for gene in genes)
    table = ResponseTable("x", Scale.LOG1P_CP10K, genes, queries, -np.eye(4), ("",), np.ones((1, 4)))
    get_model("mean").fit(TrainingData(responses=table)).save(folder / "model")
    asked = ["--conditions", "LFS1,ENSG00000136997.2+EKLF,ERYF1,gata1,zzz", "--genes", str(folder / "table.tsv")]
    capsys.readouterr()
    assert run(["predict", str(folder / "model"), *asked, "--out", str(folder / "p.parquet")]) == 0
    shown = capsys.readouterr().out
    assert "  LFS1 is P53 (alias)" in shown
    assert "  ENSG00000136997.2 is MYC (ensembl)" in shown
    assert "  gata1 is GATA1 (case)" in shown
    assert list(pd.read_parquet(folder / "p.parquet").iloc[:, 0]) == ["P53", "KLF1+MYC", "ERYF1", "GATA1", "zzz"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["resolve", "TP53"], "E505"),
        (["embed", "--out", "x.npz"], "E110"),
        (["embed", "--text", "tfidf", "--dna", "kmer", "--out", "x.npz"], "E110"),
        (["embed", "--genes", "TABLE", "--text", "tfidf", "--pooling", "cls", "--out", "x.npz"], "E110"),
        (["embed", "--genes", "TABLE", "--dna", "kmer", "--out", "x.npz"], "E505"),
        (["embed", "--genes", "TABLE", "--text", "tfidf", "--out", "x.pkl"], "E208"),
        (["table", "gpt", "TABLE", "--out", "x.npz"], "E110"),
        (["controls", "TABLE", "--out", "x"], "E110"),
        (["graph", "--genes", "TABLE", "--out", "x.csv"], "E505"),
        (["graph", "--networks", "GMT", "--least", "sets", "--out", "x.csv"], "E110"),
        (["graph", "--networks", "GMT", "--least", "stes=0.2", "--out", "x.csv"], "E505"),
        (["graph", "--networks", "GMT", "--degrade", "shuffle", "--out", "x.csv"], "E110"),
        (["fetch", "--species", "human", "--out", "x.xlsx"], "E110"),
        (["fetch", "--species", "yeast", "--out", "x.csv"], "E110"),
    ],
)
def test_bad_words_are_coded_errors(folder, monkeypatch, capsys, words, code):
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    places = {"TABLE": "table.tsv", "GMT": "sets.gmt"}
    assert run(["genes", *(places.get(word, word) for word in words)]) == 2
    assert capsys.readouterr().err.startswith(code)
    assert sorted(path.name for path in folder.iterdir()) == before
