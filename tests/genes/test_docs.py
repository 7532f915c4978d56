"""What docs/KNOWLEDGE.md shows is what happens."""

import re
from pathlib import Path

import pytest

from perturbcast.genes.load import load_knowledge
from perturbcast.genes.recognise import Kind

PAGE = Path(__file__).parents[2] / "docs" / "KNOWLEDGE.md"


@pytest.fixture(scope="module")
def knowledge(tmp_path_factory):
    """Small files under the names that the page uses."""
    folder = tmp_path_factory.mktemp("knowledge")
    table = "symbol\tensembl_id\taliases\tbiotype\n"
    table += (
        "AARS1\tENSG00000090861\tAARS\tx\nTP53\tENSG00000141510\tP53\tx\nQARS1\tENSG1\tQARS\tx\nEPRS1\tENSG2\tQARS\tx\n"
    )
    (folder / "table.tsv").write_text(table)
    (folder / "reactome.gmt").write_text("A\tx\tAARS1\tTP53\nB\tx\tTP53\tQARS1\tEPRS1\n")
    (folder / "go_biological_process.gmt").write_text("A\tx\tAARS1\tTP53\nB\tx\tTP53\tQARS1\tEPRS1\n")
    (folder / "string_human.csv").write_text("Gene1,Gene2\nAARS1,TP53\nTP53,QARS1\n")
    texts = "symbol,summary\nAARS1,charges tRNA\nQARS1,charges tRNA too\nTP53,guards and charges\n"
    (folder / "texts.csv").write_text(texts)
    (folder / "promoters.fa").write_text(">AARS1\nACGTACGTTA\n>TP53\nGGGCCCATAT\n>QARS1\nTTTTACGATT\n")
    return load_knowledge([folder], targets=["AARS1", "TP53", "QARS1"])


def blocks():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_the_examples_on_the_page_run(knowledge):
    names = {"knowledge": knowledge, "targets": ["AARS1", "TP53", "QARS1"]}
    for block in blocks()[1:]:
        exec(compile(block, str(PAGE), "exec"), names)
    assert list(names["resolution"].frame["route"]) == ["alias", "ensembl", "ambiguous", ""]
    assert names["resolution"].unresolved == ("QARS", "nonsense")
    assert names["resolution"].ambiguous == {"QARS": ("EPRS1", "QARS1")}
    assert names["likeness"].shape == (3, 3)


def test_every_kind_has_a_row_on_the_page():
    for kind in Kind:
        assert f"| {kind} |" in PAGE.read_text()
