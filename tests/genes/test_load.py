"""Files and folders become knowledge under the screen's names, and the notes say how."""

import json

import numpy as np
import pandas as pd
import pytest

from perturbcast.errors import BadKnowledge, MissingFile, NoOverlap, UnknownKnowledge
from perturbcast.genes.load import load_knowledge

TABLE = (
    "ensembl_gene_id\tsymbol\tsynonyms\tbiotype\tdescription\n"
    "ENSG00000141510\tTP53\tP53\tprotein_coding\ttumor protein p53 [Source:HGNC Symbol;Acc:1]\n"
    "ENSG00000090861\tAARS1\tAARS\tprotein_coding\talanyl-tRNA synthetase 1 [Source:HGNC Symbol;Acc:2]\n"
    "ENSG00000136997\tMYC\tc-Myc\tprotein_coding\tMYC proto-oncogene\n"
)


@pytest.fixture
def folder(tmp_path):
    """A folder with one file of each kind, a read-me and a screen beside them."""
    (tmp_path / "table").write_text(TABLE)
    (tmp_path / "texts.json").write_text(json.dumps({"AARS1": "Charges tRNA with alanine.", "MYC": "Drives growth."}))
    (tmp_path / "promoters.fa").write_text(">TP53_1\nACGTAC\n>TP53_2\nTTTTTT\n>AARS1_1\nGGGGGG\n")
    (tmp_path / "vectors.csv").write_text(",0,1\nctrl,0,0\nAARS,1,2\nAARS1,5,6\nP53,3,4\n")
    (tmp_path / "README.md").write_text("# Read me\n\nWords about files.\n")
    (tmp_path / "screen.h5ad").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / ".hidden").write_text("nothing")
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "tf.tsv").write_text("AARS\tMYC\tActivation\t1\nP53\tMYC\tRepression\t2\n")
    (tmp_path / "networks" / "sets.gmt").write_text("A\tx\tAARS1\tTP53\nB\tx\tP53\tMYC\tAARS\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "other.gmt").write_text("C\tx\tAARS1\tTP53\n")
    return tmp_path


def test_a_folder_is_read_whole_and_named_as_the_screen_does(folder):
    knowledge = load_knowledge([folder], genes=["MYC"], targets=["AARS", "TP53"])
    assert knowledge.sequences == {"TP53": "ACGTAC", "AARS": "GGGGGG"}
    assert knowledge.texts["AARS"] == "alanyl-tRNA synthetase 1. Charges tRNA with alanine."
    assert knowledge.texts["TP53"] == "tumor protein p53"
    assert set(knowledge.graphs) == {"tf"}
    assert set(knowledge.graphs["tf"].genes) == {"AARS", "TP53", "MYC"}
    assert set(knowledge.gene_sets["sets"].genes) == {"AARS", "TP53", "MYC"}
    assert knowledge.known_genes() == {"AARS", "TP53", "MYC"}
    assert knowledge.table is not None
    assert not knowledge.is_empty


def test_the_name_as_the_screen_writes_it_wins_over_an_alias(folder):
    table = load_knowledge([folder], targets=["AARS", "TP53"]).embeddings["vectors"]
    assert list(table.genes) == ["AARS", "TP53"]
    assert table.matrix.tolist() == [[1, 2], [3, 4]]
    table = load_knowledge([folder]).embeddings["vectors"]
    assert list(table.genes) == ["AARS1", "TP53"]
    assert table.matrix.tolist() == [[5, 6], [3, 4]]


def test_notes_say_what_each_file_is_and_how_much_it_covers(folder):
    notes = {note.partition(":")[0]: note for note in load_knowledge([folder], genes=["MYC"], targets=["AARS"]).notes}
    assert set(notes) == {
        *("table", "texts.json", "promoters.fa", "vectors.csv", "README.md", "screen.h5ad", "tf.tsv", "sets.gmt")
    }
    assert "gene table, 3 genes; 1 of 1 targets; 1 of 1 genes" in notes["table"]
    assert "3 sequences of 2 genes (the first of each is used)" in notes["promoters.fa"]
    assert "2 edges (signed, directed; 2 lines) among 3 genes" in notes["tf.tsv"]
    assert "1 by alias" in notes["tf.tsv"]
    assert "skipped" in notes["README.md"]
    assert "skipped" in notes["screen.h5ad"]


def test_order_and_repetition_of_paths_change_nothing(folder):
    files = [folder / "table", folder / "vectors.csv", folder / "networks"]
    one = load_knowledge(files, targets=["AARS"])
    two = load_knowledge([*reversed(files), folder / "table", folder / "networks" / "tf.tsv"], targets=["AARS"])
    assert sorted(one.notes) == sorted(two.notes)
    assert set(one.graphs) == set(two.graphs)
    np.testing.assert_array_equal(one.embeddings["vectors"].matrix, two.embeddings["vectors"].matrix)


def test_two_files_of_one_name_are_both_kept(tmp_path):
    for place, edge in (("a", "TP53,MYC"), ("b", "MYC,TERT")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "net.csv").write_text(f"source,target\n{edge}\n")
    knowledge = load_knowledge([tmp_path / "a", tmp_path / "b"])
    assert list(knowledge.graphs) == ["net", "net-2"]
    assert knowledge.graphs["net-2"].name == "net-2"


def test_no_paths_are_no_knowledge():
    assert load_knowledge([]).is_empty


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(MissingFile, match="nowhere"):
        load_knowledge([tmp_path / "nowhere"])


def test_a_named_file_of_no_kind_is_refused_with_advice(folder):
    with pytest.raises(UnknownKnowledge, match=r"README.md.*embedding tables"):
        load_knowledge([folder / "README.md"])
    with pytest.raises(UnknownKnowledge, match="Screens are given as FILE"):
        load_knowledge([folder / "screen.h5ad"])
    (folder / "x.pkl").write_bytes(b"\x80\x04\x95")
    with pytest.raises(UnknownKnowledge, match="Pickles are not read"):
        load_knowledge([folder / "x.pkl"])


def test_a_folder_without_knowledge_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# Nothing here\n")
    with pytest.raises(UnknownKnowledge, match="holds no gene knowledge"):
        load_knowledge([tmp_path])


def test_a_damaged_file_in_a_folder_is_not_passed_over(folder):
    (folder / "broken.csv").write_text("source,target\nTP53,MYC\nMYC\nMYC,TP53\n")
    with pytest.raises(BadKnowledge, match=r"broken.csv, line 3"):
        load_knowledge([folder])


def test_a_named_file_without_any_gene_at_hand_is_an_error_and_in_a_folder_a_note(folder):
    with pytest.raises(NoOverlap, match=r"vectors\.csv"):
        load_knowledge([folder / "vectors.csv"], genes=["Trp63"], targets=["Gata1"])
    notes = load_knowledge([folder], genes=["Trp63"], targets=["Gata1"]).notes
    assert sum("none of the screen's genes" in note for note in notes) == 6


def test_mouse_names_match_human_ones_by_capitals_and_it_is_said(folder):
    note = load_knowledge([folder / "vectors.csv"], targets=["P53", "Aars"]).notes[0]
    assert "2 of 2 targets" in note
    assert "1 by letter case only" in note


def test_several_gene_tables_act_as_one(folder):
    (folder / "more").write_text("symbol,aliases,biotype\nGATA1,GF1,protein_coding\n")
    (folder / "edges").write_text("source,target\nGF1,P53\n")
    knowledge = load_knowledge([folder / "more", folder / "table", folder / "edges"])
    assert set(knowledge.graphs["edges"].genes) == {"GATA1", "TP53"}


def test_a_gene_table_may_carry_sequences(tmp_path):
    frame = pd.DataFrame({"symbol": ["G1", "G2"], "biotype": ["a", "b"], "sequence": ["ACGT", "GGCC"]})
    frame.to_parquet(tmp_path / "genes.parquet")
    assert load_knowledge([tmp_path]).sequences == {"G1": "ACGT", "G2": "GGCC"}
