"""All files of the shared folders are recognised right, and quickly, under the names of a real screen."""

import time

import h5py
import numpy as np
import pytest

from perturbcast.genes.knowledge import GeneTable
from perturbcast.genes.load import load_knowledge
from perturbcast.genes.resolve import Resolver
from perturbcast.genes.text import text_embedding

KINDS = {
    "ensembl_genes.parquet": "gene table, 86,403 genes",
    "gene_summaries.json": "summaries, 1,915 texts",
    "promoters_epdnew_60bp.parquet": "sequences, 29,628 sequences",
    "genept_embeddings_adamson.csv.gz": "embedding table, 86 genes x 1,536 features",
    "trrust_human.tsv": "edges, 8,424 edges (signed, directed",
    "collectri_human.csv": "edges, 43,178 edges (signed, directed",
    "dorothea_abc_human.tsv.gz": "edges, 13,223 edges (signed, directed",
    "string_human.csv": "edges, 81,139 edges (undirected",
    "k562_dnase_footprint.tsv.gz": "edges, 9,053 edges (directed",
    "encode_chea_consensus.gmt": "gene sets, 104 sets",
    "go_biological_process.gmt": "gene sets, 4,139 sets",
    "reactome.gmt": "gene sets, 1,448 sets",
}


@pytest.fixture(scope="module")
def targets(shared):
    with h5py.File(shared / "data/responses/replogle2022_k562_crispri_censored.h5ad") as file:
        return [name.decode() for name in file["obs"][file["obs"].attrs["_index"]][:] if name != b"control"]


@pytest.fixture(scope="module")
def knowledge(shared, targets):
    started = time.process_time()
    loaded = load_knowledge([shared / "data/genes", shared / "data/networks"], targets=targets)
    assert time.process_time() - started < 10, "reading all reference files must stay under 10 s"
    return loaded


def test_every_file_is_recognised(knowledge):
    notes = {note.partition(":")[0]: note for note in knowledge.notes}
    assert set(notes) == set(KINDS)
    for name, kind in KINDS.items():
        assert f"{name}: {kind}" in notes[name]


def test_old_names_of_targets_are_found_under_current_ones(knowledge, targets):
    assert "AARS" in targets
    assert "AARS" in knowledge.texts
    assert "AARS1" not in knowledge.known_genes()
    covered = {name: int(holder.rows(targets)[1].sum()) for name, holder in knowledge.gene_sets.items()}
    assert covered["go_biological_process"] >= 712
    assert covered["reactome"] >= 580


def test_texts_cover_nearly_all_targets(knowledge, targets):
    assert sum(target in knowledge.texts for target in targets) >= 0.99 * len(targets)


def test_members_of_a_complex_are_alike_by_their_texts(knowledge, targets):
    table = text_embedding({gene: knowledge.texts[gene] for gene in targets if gene in knowledge.texts})
    mediator = [gene for gene in table.genes if gene.startswith("MED") and gene[3:].isdigit()]
    others = [gene for gene in table.genes if gene not in mediator]
    inside, outside = table.rows(mediator)[0], table.rows(others)[0]
    assert np.mean(inside @ inside.T) > 5 * np.mean(inside @ outside.T)


def test_most_ids_of_the_gene_table_resolve_to_themselves(knowledge):
    assert isinstance(knowledge.table, GeneTable)
    resolver = Resolver(knowledge.table)
    frame = knowledge.table.frame.iloc[::50]
    started = time.process_time()
    resolution = resolver.resolve_all(frame["ensembl_id"])
    assert time.process_time() - started < 1
    expected = np.where(frame["symbol"] == "", frame["ensembl_id"], frame["symbol"])
    assert list(resolution.frame["symbol"]) == list(expected)
    renamed = resolver.resolve_all(["AARS", "H2AFZ", "QARS"])
    assert list(renamed.frame["symbol"]) == ["AARS1", "H2AZ1", ""]
    assert renamed.ambiguous == {"QARS": ("EPRS1", "QARS1")}


def test_twenty_thousand_names_of_every_kind_resolve_or_have_a_reason(knowledge):
    """Symbols, aliases, ids with versions, other capitals, nonsense, nothing and unicode, against the real table."""
    frame = knowledge.table.frame.sample(6_000, random_state=0)
    rng = np.random.default_rng(0)
    symbols = [symbol for symbol in frame["symbol"] if symbol]
    aliases = [name for names in frame["aliases"] for name in names][:5_000]
    ids = [f"{ident}.{rng.integers(1, 20)}" for ident in frame["ensembl_id"]]
    nonsense = [
        "".join(rng.choice(list("ACGTXYZ019-. \u00e9\u4e2d\u0000+"), rng.integers(0, 12))) for _ in range(4_000)
    ]
    names = [*symbols, *aliases, *ids, *map(str.lower, symbols[:1_500]), *nonsense]
    names += ["", " ", "nan", "None", "1-Mar", "TP53+MYC"] * 200
    assert len(names) > 20_000
    started = time.process_time()
    resolution = Resolver(knowledge.table).resolve_all(names)
    assert time.process_time() - started < 10
    found = resolution.frame.assign(
        kind=np.repeat(["symbol", "alias", "id"], [len(symbols), len(aliases), len(ids)]).tolist()
        + ["other"] * (len(names) - len(symbols) - len(aliases) - len(ids))
    )
    assert list(found["name"]) == names
    assert ((found["symbol"] != "") == (found["reason"] == "")).all()
    assert found.loc[found["symbol"] == "", "reason"].str.match(r"E80[89] ").all()
    share = (found["symbol"] != "").groupby(found["kind"]).mean()
    assert share["symbol"] == share["id"] == 1.0
    assert share["alias"] > 0.9
