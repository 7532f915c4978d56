"""What a file is follows from its content; damage is named with its line."""

import gzip
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbcast.errors import BadKnowledge, MissingFile, UnreadableFile
from perturbcast.genes.parse import edges_of, embedding_of, gene_table_of, sequences_of, sets_of, texts_of
from perturbcast.genes.recognise import Kind, recognise

GENE_TABLE = pd.DataFrame(
    {
        "ensembl_gene_id": ["ENSG00000141510", "ENSG00000136997", "ENSG00000000001"],
        "symbol": ["TP53", "MYC", None],
        "synonyms": ["P53|LFS1", "c-Myc|BHLHE39", None],
        "biotype": ["protein_coding", "protein_coding", "lncRNA"],
        "description": ["tumor protein p53 [Source:HGNC]", "MYC, a factor", None],
        "start": [7661779, 127735434, 1],
    }
)
EMBEDDING = pd.DataFrame(np.arange(12.0).reshape(4, 3) / 7, index=["TP53", "MYC", "SPI1", "GATA1"])


@pytest.fixture
def written(tmp_path):
    """Writes a file whose name says nothing, and recognises it."""

    def write(content):
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return recognise(path)

    return write


def text_of(frame, **more):
    return frame.to_csv(**({"index": False} | more))


def parquet_of(frame, tmp_path, **more):
    frame.to_parquet(tmp_path / "x", **more)
    return (tmp_path / "x").read_bytes()


CASES = {
    "gene table, csv": (text_of(GENE_TABLE), Kind.GENE_TABLE),
    "gene table, tsv": (text_of(GENE_TABLE, sep="\t"), Kind.GENE_TABLE),
    "gene table, gzip": (gzip.compress(text_of(GENE_TABLE).encode()), Kind.GENE_TABLE),
    "gene table with a row number": (text_of(GENE_TABLE, index=True), Kind.GENE_TABLE),
    "two names a gene": ("symbol,ensembl_id\nTP53,ENSG00000141510\nMYC,ENSG00000136997\n", Kind.GENE_TABLE),
    "NCBI gene info": (
        "#tax_id\tGeneID\tSymbol\tSynonyms\ttype_of_gene\n9606\t1\tA1BG\tA1B|ABG\tprotein-coding\n"
        "9606\t2\tA2M\tA2MD\tprotein-coding\n",
        Kind.GENE_TABLE,
    ),
    "summaries, json": (json.dumps({"TP53": "guards the genome", "MYC": "drives growth"}), Kind.SUMMARIES),
    "summaries, csv": ('gene,summary\nTP53,"guards, mostly"\nMYC,drives growth\n', Kind.SUMMARIES),
    "promoters, csv": ("symbol,sequence\nTP53,ACGTACGT\nMYC,TTTTGGGN\n", Kind.SEQUENCES),
    "promoters, fasta": (">TP53 human\nACGT\nACGT\n>MYC\nTTTT\n", Kind.SEQUENCES),
    "promoters, json": (json.dumps({"TP53": "ACGT", "MYC": "TTTT"}), Kind.SEQUENCES),
    "embedding, csv with index": (text_of(EMBEDDING, index=True), Kind.EMBEDDINGS),
    "embedding, tsv, named": (text_of(EMBEDDING, index=True, sep="\t", index_label="gene"), Kind.EMBEDDINGS),
    "embedding, csv without header": (text_of(EMBEDDING, index=True, header=False), Kind.EMBEDDINGS),
    "embedding, blanks": (text_of(EMBEDDING, index=True, header=False, sep=" "), Kind.EMBEDDINGS),
    "embedding, json": (json.dumps({"TP53": [0.1, 2], "MYC": [1, 2.5]}), Kind.EMBEDDINGS),
    "edges with a header": ("source,target,weight\nMYC,TERT,1\nTP53,MYC,-1\n", Kind.EDGES),
    "edges, twins": ("Gene1,Gene2\nMYC,TERT\nTP53,MYC\n", Kind.EDGES),
    "edges, STRING": ("protein1 protein2 combined_score\nA1 B2 900\nA1 C3 150\n", Kind.EDGES),
    "edges without header": ("TF\tTFRC\nMYC\tTERT\nTP53\tMDM2\n", Kind.EDGES),
    "edges with mode": ("MYC\tTERT\tActivation\t1;2\nTP53\tMYC\tRepression\t3\n", Kind.EDGES),
    "edges, footprint": ("tf\ttarget_entrez\ttarget_symbol\nMYC\t7015\tTERT\nTP53\t4609\tMYC\n", Kind.EDGES),
    "GMT": ("SET_A\t\tTP53\tMYC\nSET_B\thttp://x\tMYC\tSPI1\tGATA1\n", Kind.GENE_SETS),
    "GMT of equal lengths": ("SET_A\tna\tTP53\tMYC\nSET_B\tna\tMYC\tSPI1\n", Kind.GENE_SETS),
    "GMT of one set": ("HALLMARK_P53\tp53 targets\tTP53\tMDM2\tCDKN1A\n", Kind.GENE_SETS),
    "gene sets, json": (json.dumps({"SET_A": ["TP53", "MYC"], "SET_B": ["MYC"]}), Kind.GENE_SETS),
}


@pytest.mark.parametrize(("content", "kind"), CASES.values(), ids=CASES)
def test_a_file_is_recognised_by_its_content(written, content, kind):
    assert written(content).kind is kind


def test_parquet_files_are_recognised_by_their_columns(written, tmp_path):
    assert written(parquet_of(GENE_TABLE, tmp_path)).kind is Kind.GENE_TABLE
    embedding = EMBEDDING.rename(columns=str)
    found = written(parquet_of(embedding, tmp_path))
    assert found.kind is Kind.EMBEDDINGS
    names, matrix = embedding_of(found)
    assert list(names) == list(EMBEDDING.index)
    np.testing.assert_allclose(matrix, EMBEDDING.to_numpy(), rtol=1e-6)


def test_vectors_in_one_column_of_lists_are_an_embedding(written, tmp_path):
    frame = pd.DataFrame({"gene": ["TP53", "MYC"], "vector": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]})
    names, matrix = embedding_of(written(parquet_of(frame, tmp_path)))
    assert list(names) == ["TP53", "MYC"]
    assert matrix.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_npz_files_hold_names_and_one_matrix(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, genes=np.array(["TP53", "MYC"]), vectors=np.eye(2))
    names, matrix = embedding_of(recognise(path))
    assert list(names) == ["TP53", "MYC"]
    assert matrix.dtype == np.float32
    np.savez(path, genes=np.array(["TP53", "MYC"]), one=np.eye(2), two=np.eye(2))
    assert recognise(path) is None


def test_pickled_names_in_npz_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", genes=np.array(["TP53", "MYC"], dtype=object), vectors=np.eye(2))
    with pytest.raises(BadKnowledge, match="pickled"):
        recognise(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "just one line of prose",
        "# Title\n\nSome words, and more.\nOther words here.\n",
        "a,b\n1,2\n3,4\n",
        "gene,colour\nTP53,red\nMYC,blue\n",
        "barcode,umi,genes\nAAAC-1,100,20\nAAAG-1,200,30\nAAAC-1,3,4\nAAAC-1,3,4\nAAAC-1,1,1\nAAAC-1,1,1\n",
        "perturbation,gene,padj,log2fc\nMYC,TERT,0.1,2\nMYC,TP53,0.01,1\n",
        "[1, 2, 3]",
        '{"a": 1}',
        "{}",
        ">P53\nMEEPQSDPSVEPPLSQETFSDLWKLL\n",
        b"\x89HDF\r\n\x1a\n\0\0",
        b"\x80\x04\x95pickle",
        b"\0\1\2\3" * 50,
        b"\xff\xfe not text, either",
        "import os\n\ndef f(a, b):\n    return a, b\n",
    ],
)
def test_anything_else_is_not_recognised(written, content):
    assert written(content) is None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("source,target,weight\nMYC,TERT,1\nTP53,MYC\nSPI1,MYC,1\n", "line 3"),
        ("source,target,weight\nMYC,TERT,1\nTP53,,1\n", "line 3"),
        ("source,target,weight\nMYC,TERT,1\nTP53,MYC,\n", "line 3"),
        ("source,target,weight\n", "no rows"),
        ("gene,x,y\nTP53,1,2\nMYC,3,\nSPI1,4,5\n", "line 3"),
        ("gene,x,y\nTP53,1,2\nMYC,3,inf\nSPI1,4,5\n", "line 3"),
        ("gene,x,y\nTP53,1,2\nMYC,3,4\nTP53,4,5\n", "line 4"),
        ("gene,x,y\nTP53,1,2\n,3,4\nMYC,4,5\n", "line 3"),
        ("symbol,biotype\nTP53,a\n,b\n", "line 3"),
        ("SET_A\tx\tTP53\tMYC\nSET_B\nSET_C\tx\tMYC\tSPI1\tTP53\n", "line 2"),
        (">TP53\nACGT\n>MYC\nAC-GT!\nACGTACGT\nACGT\nACGT\nACGT\nACGT\nACGT\nACGT\nACGT\nACGT\n", "line 4"),
        (">\nACGT\n", "line 1"),
        ('{"TP53": "guards",\n "MYC" "drives"}', "line 2"),
        ('{"TP53": [1, 2], "MYC": [1]}', "row 2"),
        (gzip.compress(b"source,target\nMYC,TERT\n" * 50, mtime=0)[:40], "gzip"),
        (b"PAR1 and nothing else", "parquet"),
        (b"source,target\n" + b"MYC,TERT\n" * 500 + b"\xff,X\n", "line 502"),
    ],
)
def test_damage_is_named_with_its_line(written, content, line):
    with pytest.raises(BadKnowledge, match=line):
        parse(written(content))


def parse(found):
    readers = {
        Kind.GENE_TABLE: gene_table_of,
        Kind.SUMMARIES: texts_of,
        Kind.SEQUENCES: sequences_of,
        Kind.EMBEDDINGS: embedding_of,
        Kind.EDGES: edges_of,
        Kind.GENE_SETS: sets_of,
    }
    return readers[found.kind](found)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(MissingFile):
        recognise(tmp_path / "none")
    with pytest.raises(UnreadableFile):
        recognise(tmp_path)


def test_gene_tables_keep_every_row_and_all_aliases(written):
    frame = gene_table_of(written(text_of(GENE_TABLE)))
    assert list(frame["symbol"]) == ["TP53", "MYC", ""]
    assert list(frame["ensembl_id"]) == list(GENE_TABLE["ensembl_gene_id"])
    assert frame["aliases"].tolist() == [("P53", "LFS1"), ("c-Myc", "BHLHE39"), ()]
    assert frame["description"][1] == "MYC, a factor"


def test_aliases_come_from_all_alias_columns(written):
    hgnc = "symbol\tname\talias_symbol\tprev_symbol\nAARS1\talanyl-tRNA synthetase 1\tCMT2N\tAARS|AARSL\n"
    frame = gene_table_of(written(hgnc))
    assert frame["aliases"][0] == ("CMT2N", "AARS", "AARSL")
    assert frame["description"][0] == "alanyl-tRNA synthetase 1"


def test_lists_of_aliases_in_parquet_are_read(written, tmp_path):
    frame = pd.DataFrame({"symbol": ["TP53", "MYC"], "aliases": [["P53"], []], "biotype": ["a", "b"]})
    assert gene_table_of(written(parquet_of(frame, tmp_path)))["aliases"].tolist() == [("P53",), ()]


def test_a_gene_called_na_is_not_lost(written):
    edges = edges_of(written("source,target\nNA,TERT\nMYC,nan\nTP53,None\n"))
    assert list(edges.sources) == ["NA", "MYC", "TP53"]
    assert list(edges.targets) == ["TERT", "nan", "None"]


def test_the_row_of_controls_is_left_out_of_embeddings(written):
    names, matrix = embedding_of(written(",0,1\nctrl,0,0\nTP53,1,2\nMYC,3,4\n"))
    assert list(names) == ["TP53", "MYC"]
    assert matrix.tolist() == [[1, 2], [3, 4]]


def test_numbers_over_the_features_are_a_header(written):
    names, matrix = embedding_of(written("gene,1,2,3\nTP53,1,2,3\nMYC,3,4,5\n"))
    assert list(names) == ["TP53", "MYC"]
    assert matrix.shape == (2, 3)


def test_repeated_equal_rows_of_an_embedding_are_one(written):
    names, _ = embedding_of(written("gene,x,y\nTP53,1,2\nMYC,3,4\nTP53,1,2\n"))
    assert list(names) == ["TP53", "MYC"]


def test_the_first_edge_of_a_file_without_header_is_an_edge(written):
    edges = edges_of(written("TF\tTFRC\nMYC\tTERT\nTP53\tMDM2\n"))
    assert list(edges.sources) == ["TF", "MYC", "TP53"]
    assert not edges.directed


@pytest.mark.parametrize(
    ("content", "weights", "signs"),
    [
        ("source,target,weight\nA1,B1,0.5\nA2,B2,2\n", [0.5, 2], None),
        ("source,target,weight\nA1,B1,-0.5\nA2,B2,2\n", [0.5, 2], [-1, 1]),
        ("tf\tconfidence\ttarget\tmor\nA1\tA\tB1\t1.0\nA2\tC\tB2\t-1.0\n", [1, 1 / 3], [1, -1]),
        ("A1\tB1\tActivation\t12\nA2\tB2\tUnknown\t13;14\n", [1, 1], [1, 0]),
        ("A1\tB1\t0.25\nA2\tB2\t4\n", [0.25, 4], None),
        ("source,target,sign,score\nA1,B1,+,3\nA2,B2,-,4\n", [3, 4], [1, -1]),
        ("gene1,gene2,combined_score\nA1,B1,900\nA2,B2,150\n", [900, 150], None),
    ],
)
def test_weights_and_signs_are_read(written, content, weights, signs):
    edges = edges_of(written(content))
    np.testing.assert_allclose(edges.weights, weights)
    assert edges.signs is None if signs is None else list(edges.signs) == signs


def test_edges_of_weight_zero_are_no_edges(written):
    edges = edges_of(written("source,target,weight\nA1,B1,0\nA2,B2,2\n"))
    assert list(edges.sources) == ["A2"]


def test_fasta_names_may_stand_anywhere_in_the_header(written):
    records = sequences_of(written(">FP000002 NOC2L_1 :+U\nacgt\nAC\n>ENSG00000141510|TP53\nGG\n"))
    assert "NOC2L" in records[0][0]
    assert records[0][1] == "ACGTAC"
    assert records[1][0] == ("ENSG00000141510", "TP53")


def test_sets_drop_blanks_repeats_and_weights(written):
    sets = sets_of(written("A\tx\tTP53,1.0\tMYC,0.5\tTP53\t\nB\tx\tSPI1\n\nC\tx\tMYC\tSPI1\n"))
    assert sets == [("A", ("TP53", "MYC")), ("B", ("SPI1",)), ("C", ("MYC", "SPI1"))]


def test_texts_keep_the_first_and_drop_the_empty(written):
    texts = texts_of(written("symbol,summary\nTP53,first  one\nTP53,second\nMYC,\n"))
    assert texts == {"TP53": "first one"}


@settings(max_examples=150, deadline=None)
@given(
    content=st.sampled_from([content for content, _ in CASES.values()]),
    cut=st.none() | st.integers(0, 200),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(b'\t\n,;|">{}[]0-.eN\0\xff A')), max_size=4),
)
def test_damaged_files_are_read_passed_over_or_refused_with_a_code(tmp_path_factory, content, cut, changes):
    damaged = bytearray(content if isinstance(content, bytes) else content.encode())[:cut]
    for place, byte in changes:
        if damaged:
            damaged[place % len(damaged)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    refusal = ""
    try:
        found = recognise(path)
        if found is not None:
            parse(found)
    except BadKnowledge as failure:
        refusal = str(failure)
    assert "\n" not in refusal


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_damaged_binary_files_are_refused_with_a_code_too(tmp_path, kind):
    if kind == "npz":
        np.savez_compressed(tmp_path / "x.npz", genes=np.array(["TP53", "MYC"]), vectors=np.eye(2))
        whole = (tmp_path / "x.npz").read_bytes()
    else:
        whole = parquet_of(pd.DataFrame({"gene": ["A", "B"], "x": [1, 2], "y": [0.5, 1]}), tmp_path)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(4, len(whole), size=3):
            damaged[place] = rng.integers(256)
        (tmp_path / "damaged").write_bytes(damaged[: rng.choice([len(whole), rng.integers(5, len(whole))])])
        try:
            found = recognise(tmp_path / "damaged")
            if found is not None:
                parse(found)
        except BadKnowledge:
            refused += 1
    assert refused > 75


def test_a_zip_of_other_things_is_not_recognised(tmp_path):
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as book:
        book.writestr("sheet.xml", "<sheet/>")
    assert recognise(tmp_path / "book.xlsx") is None
