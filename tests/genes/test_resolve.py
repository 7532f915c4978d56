"""Which gene a name means, and that no name is lost on the way."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbcast.genes.knowledge import GeneTable
from perturbcast.genes.resolve import Naming, Resolved, Resolver, without_version

ROWS = [
    ("TP53", "ENSG00000141510", ("P53", "LFS1")),
    ("AARS1", "ENSG00000090861", ("AARS", "CMT2N")),
    ("C9orf50", "ENSG00000179058", ()),
    ("CASP8", "ENSG00000064012", ("FLIP",)),
    ("FIRRM", "ENSG00000000460", ("FLIP", "APOLO1")),
    ("P53", "ENSG00000999999", ()),
    ("", "ENSG00000083622", ()),
    ("LILRP2", "ENSG00000111111", ()),
    ("LILRP2", "ENSG00000222222", ()),
    ("XYZ", "ENSG00000000100", ()),
    ("ONE", "ENSG00000000101", ("Xyz",)),
    ("TWO", "ENSG00000000102", ("Xyz",)),
]


def table_of(rows):
    frame = pd.DataFrame(rows, columns=["symbol", "ensembl_id", "aliases"])
    return GeneTable(frame.assign(biotype="", description="", sequence=""))


@pytest.fixture(scope="module")
def resolver():
    return Resolver(table_of(ROWS))


@pytest.mark.parametrize(
    ("name", "symbol", "route"),
    [
        ("TP53", "TP53", "symbol"),
        (" TP53 ", "TP53", "symbol"),
        ("AARS", "AARS1", "alias"),
        ("ENSG00000141510", "TP53", "ensembl"),
        ("ENSG00000141510.17", "TP53", "ensembl"),
        ("ENSG00000141510.17_PAR_Y", "TP53", "ensembl"),
        ("ENSG00000222222", "LILRP2", "ensembl"),
        ("ENSG00000083622", "ENSG00000083622", "symbol"),
        ("C9ORF50", "C9orf50", "case"),
        ("lfs1", "TP53", "case"),
        ("P53", "P53", "symbol"),
    ],
)
def test_a_name_is_resolved_by_its_most_direct_route(resolver, name, symbol, route):
    assert resolver.resolve(name) == Resolved(symbol, route)


@pytest.mark.parametrize("name", ["", "NONSENSE", "FLIP", "flip", "Xyz", "ENSG00000000042", "TP53x"])
def test_what_means_nothing_or_several_genes_is_not_guessed(resolver, name):
    assert resolver.resolve(name) is None


def test_an_ambiguous_alias_lists_what_it_may_mean(resolver):
    assert resolver.meanings("FLIP") == ("CASP8", "FIRRM")
    assert resolver.meanings("TP53") == resolver.meanings("NONSENSE") == ()


def test_nothing_is_dropped_from_a_list_of_names(resolver):
    names = ["TP53", "FLIP", "NONSENSE", "AARS", "TP53"]
    resolution = resolver.resolve_all(names)
    assert list(resolution.frame["name"]) == names
    assert list(resolution.frame["symbol"]) == ["TP53", "", "", "AARS1", "TP53"]
    assert list(resolution.frame["route"]) == ["symbol", "ambiguous", "", "alias", "symbol"]
    assert resolution.unresolved == ("FLIP", "NONSENSE")
    assert resolution.ambiguous == {"FLIP": ("CASP8", "FIRRM")}
    assert resolution.summary() == "2 by symbol, 1 ambiguous, 1 unresolved, 1 by alias"


RESOLVER = Resolver(table_of(ROWS))


@given(st.lists(st.sampled_from([*(row[0] for row in ROWS), "AARS", "FLIP", "ENSG00000141510.2", "??"]) | st.text()))
def test_every_name_comes_back_resolved_or_named(names):
    resolution = RESOLVER.resolve_all(names)
    assert list(resolution.frame["name"]) == names
    assert set(resolution.unresolved) == {name for name in names if RESOLVER.resolve(name) is None}
    resolved = resolution.frame.loc[resolution.frame["symbol"] != "", "symbol"]
    assert list(RESOLVER.resolve_all(resolved).frame["symbol"]) == list(resolved)


def test_names_of_a_file_become_those_of_the_screen(resolver):
    naming = Naming(resolver, ["AARS", "ENSG00000141510", "C9ORF50"])
    assert naming.name("AARS1") == Resolved("AARS", "symbol")
    assert naming.name("AARS") == Resolved("AARS", "symbol")
    assert naming.name("CMT2N") == Resolved("AARS", "alias")
    assert naming.name("TP53") == Resolved("ENSG00000141510", "symbol")
    assert naming.name("C9orf50") == Resolved("C9ORF50", "symbol")
    assert naming.name("APOLO1") == Resolved("FIRRM", "alias")
    assert naming.name("NONSENSE") == Resolved("NONSENSE", "kept")


def test_a_screen_with_old_and_new_name_keeps_both_apart(resolver):
    naming = Naming(resolver, ["AARS", "AARS1"])
    assert naming.name("AARS1").symbol == "AARS1"
    assert naming.name("AARS").symbol == "AARS"
    assert naming.name("CMT2N").symbol == "AARS1"


def test_without_a_gene_table_only_capitals_and_versions_are_bridged():
    naming = Naming(None, ["C9ORF50", "ENSG00000141510", "TAT"])
    assert naming.name("C9orf50") == Resolved("C9ORF50", "case")
    assert naming.name("ENSG00000141510.3") == Resolved("ENSG00000141510", "ensembl")
    assert naming.name("Other") == Resolved("Other", "kept")


def test_a_viral_gene_in_small_letters_is_not_a_human_one(resolver):
    assert Naming(None, ["TAT"]).name("tat") == Resolved("tat", "kept")
    assert Naming(resolver, ["LFS1"]).name("lfs1") == Resolved("lfs1", "kept")


def test_versions_are_cut_from_gene_ids_only():
    assert without_version("ENSMUSG00000059552.14") == "ENSMUSG00000059552"
    assert without_version("RP11-54O7.3") == "RP11-54O7.3"


def test_every_unresolved_name_has_a_coded_reason(resolver):
    resolution = resolver.resolve_all(["TP53", "FLIP", "nonsense", " ", "ensg00000141510.3", "\ud800", "\x00"])
    assert list(resolution.frame["symbol"]) == ["TP53", "", "", "", "TP53", "", ""]
    assert resolution.reasons["FLIP"].startswith("E809 AmbiguousGeneName: 'FLIP' may mean CASP8 or FIRRM.")
    assert resolution.reasons["nonsense"].startswith("E808 UnknownGeneName")
    assert "empty" in resolution.reasons[" "]
    assert (resolution.frame.loc[resolution.frame["symbol"] == "", "reason"] != "").all()


ANY_NAME = st.one_of(
    st.text(max_size=30),
    st.sampled_from([name for row in ROWS for name in (row[0], row[1], *row[2])]).flatmap(
        lambda name: st.sampled_from([name, name.lower(), name.upper(), f" {name} ", f"{name}.12", f"{name}\u0301"])
    ),
    st.from_regex(r"(ENS[A-Z]{0,3}G\d{0,12}(\.\d+)?)|([A-Z0-9]{1,8}-?[A-Z0-9]*)", fullmatch=True),
)


@given(st.lists(ANY_NAME, max_size=40))
def test_any_name_resolves_or_has_a_reason(names):
    frame = RESOLVER.resolve_all(names).frame
    assert list(frame["name"]) == names
    assert ((frame["symbol"] != "") == (frame["reason"] == "")).all()
    left = frame.loc[frame["symbol"] == "", "reason"]
    assert left.str.fullmatch(r"E80[89] \w+: .+", flags=16).all() if len(left) else True
