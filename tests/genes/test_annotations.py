"""Gene sets written gene by gene: gene2go in its several forms, and STRING files by protein id."""

import json

import pytest

from perturbcast.errors import BadKnowledge
from perturbcast.genes.load import load_knowledge

GAF_LINE = (
    "UniProtKB\tP{n}\t{symbol}\t{qualifier}\t{term}\tPMID:1\tIDA\t\tP\tname\t\tprotein\ttaxon:9606\t20250101\tX\t\t\n"
)


def gaf_of(*rows):
    lines = [GAF_LINE.format(n=n, symbol=gene, qualifier=q, term=term) for n, (gene, q, term) in enumerate(rows)]
    return "!gaf-version: 2.2\n!\n" + "".join(lines)


GENE2GO = (
    "#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory\n"
    "9606\t7157\tGO:0000001\tIDA\tinvolved_in\tfirst\t-\tProcess\n"
    "9606\t4609\tGO:0000001\tIDA\tinvolved_in\tfirst\t-\tProcess\n"
    "9606\t4609\tGO:0000002\tIDA\tNOT involved_in\tsecond\t-\tProcess\n"
    "7227\t99999\tGO:0000001\tIDA\tinvolved_in\tfirst\t-\tProcess\n"
    "9606\t7157\tGO:0000002\tIDA\tinvolved_in\tsecond\t-\tProcess\n"
)
GENE_INFO = (
    "#tax_id\tGeneID\tSymbol\tSynonyms\ttype_of_gene\n9606\t7157\tTP53\tP53\tprotein-coding\n"
    "9606\t4609\tMYC\tc-Myc\tprotein-coding\n"
)
FORMS = {
    "NCBI gene2go": (GENE2GO, GENE_INFO),
    "GAF": (
        gaf_of(
            ("TP53", "involved_in", "GO:0000001"),
            ("MYC", "enables", "GO:0000001"),
            ("MYC", "NOT|enables", "GO:0000002"),
            ("TP53", "part_of", "GO:0000002"),
        ),
        None,
    ),
    "table": ("gene,go_id\nTP53,GO:0000001\nMYC,GO:0000001\nTP53,GO:0000002\n", None),
    "MSigDB table": ("gs_name\tgene_symbol\nGO:0000001\tTP53\nGO:0000001\tMYC\nGO:0000002\tTP53\n", None),
    "json by gene": (json.dumps({"TP53": ["GO:0000001", "GO:0000002"], "MYC": ["GO:0000001"]}), None),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_gene2go_gives_the_same_sets(tmp_path, form):
    content, table = FORMS[form]
    (tmp_path / "gene2go.txt").write_text(content)
    if table:
        (tmp_path / "info.txt").write_text(table)
    (sets,) = load_knowledge([tmp_path]).gene_sets.values()
    assert list(sets.genes) == ["MYC", "TP53"]
    assert sets.sets == ("GO:0000001", "GO:0000002")
    assert sets.membership.toarray().tolist() == [[1, 0], [1, 1]]


def test_genes_by_number_keep_their_number_without_a_gene_table(tmp_path):
    (tmp_path / "gene2go").write_text(GENE2GO)
    (sets,) = load_knowledge([tmp_path]).gene_sets.values()
    assert list(sets.genes) == ["NCBI:4609", "NCBI:7157"]


def test_a_line_of_gaf_that_is_cut_off_is_named(tmp_path):
    (tmp_path / "goa.gaf").write_text(gaf_of(("TP53", "", "GO:0000001")) + "UniProtKB\tP1\tMYC\n")
    with pytest.raises(BadKnowledge, match=r"goa.gaf, line 4"):
        load_knowledge([tmp_path])


def test_json_of_genes_by_set_stays_as_it_is(tmp_path):
    (tmp_path / "sets.json").write_text(json.dumps({"GO:0000001": ["TP53", "MYC"], "GO:0000002": ["TP53"]}))
    assert load_knowledge([tmp_path]).gene_sets["sets"].sets == ("GO:0000001", "GO:0000002")


def test_string_links_are_named_by_the_info_file(tmp_path):
    info = "#string_protein_id\tpreferred_name\tprotein_size\tannotation\n"
    info += "9606.ENSP00000269305\tTP53\t393\tActs as a tumor suppressor; in many tumor types.\n"
    info += "9606.ENSP00000258149\tMDM2\t491\tLigase, E3.\n9606.ENSP00000478887\tMYC\t454\tFactor.\n"
    links = "protein1 protein2 combined_score\n9606.ENSP00000269305 9606.ENSP00000258149 999\n"
    links += "9606.ENSP00000258149 9606.ENSP00000269305 999\n9606.ENSP00000269305 9606.ENSP00000478887 150\n"
    (tmp_path / "9606.protein.info.v12.0.txt").write_text(info)
    (tmp_path / "9606.protein.links.v12.0.txt").write_text(links)
    knowledge = load_knowledge([tmp_path], targets=["TP53", "MDM2"])
    (graph,) = knowledge.graphs.values()
    assert list(graph.genes) == ["MDM2", "MYC", "TP53"]
    assert graph.weights.toarray().tolist() == [[0, 0, 999], [0, 0, 150], [999, 150, 0]]
