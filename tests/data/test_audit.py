"""The audit: planted leaks are all found, clean splits raise no alarm, real screens and simulated worlds are clean."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from small_screens import from_counts, make_screen, make_table

from perturbcast.data.audit import LeakKind, audit, gather_evidence
from perturbcast.data.audit_names import guide_stem
from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.likeness import find_copies, near_duplicates
from perturbcast.data.screen import InMemory
from perturbcast.data.split import Split
from perturbcast.data.splits import make_splits, possible_splits
from perturbcast.data.statistics import response_table
from perturbcast.errors import LeakError

SINGLES = tuple("ABCDEFGH")
DOUBLES = ("A+B", "A+C", "B+C", "C+D", "D+E", "E+F", "F+G", "G+H")


def by_hand(rule, *, train=(), valid=(), test=(), groups=None, provenance=None):
    """A split of conditions, or of (condition, context) pairs."""
    sides = [
        tuple(Query(*((name,) if isinstance(name, str) else name)) for name in side) for side in (train, valid, test)
    ]
    labels = {Query(name): group for name, group in (groups or {}).items()}
    return Split(rule, 0, None, *sides, groups=labels, provenance=provenance or {})


def cell_split(screen):
    return make_splits(screen, "cells")[0]


def with_matrix(screen, counts):
    return replace(screen, matrix=InMemory(sparse.csr_matrix(counts)))


# ------------------------------------------------------------------------------------------------------- planted leaks
def same_cell_twice():
    screen = make_screen(SINGLES)
    split = cell_split(screen)
    return replace(split, cells_train=np.append(split.cells_train, split.cells_test[0])), screen, {}


def held_out_cell_in_validation():
    split = cell_split(make_screen(SINGLES))
    return replace(split, cells_valid=np.append(split.cells_valid, split.cells_test[:2])), None, {}


def same_row_under_two_positions():
    screen = make_screen(SINGLES)
    twice = replace(screen.take(np.append(np.arange(screen.n_cells), 3)), cells=None)
    halves = np.array_split(np.arange(twice.n_cells), 2)
    return (
        replace(cell_split(screen), cells_train=halves[0], cells_test=halves[1], cells_valid=halves[0][:0]),
        twice,
        {},
    )


def same_barcode_under_two_positions():
    screen = make_screen(SINGLES)
    split = cell_split(screen)
    barcodes = screen.cells.copy()
    barcodes[split.cells_test[0]] = barcodes[split.cells_train[0]]
    return split, replace(screen, cells=barcodes), {}


def copies_under_other_barcodes():
    screen = make_screen(SINGLES)
    split = cell_split(screen)
    counts = screen.matrix.matrix.toarray()
    counts[split.cells_test[:3]] = counts[split.cells_train[:3]]
    return split, with_matrix(screen, counts), {}


def copies_in_another_condition():
    screen = make_screen(SINGLES)
    counts = screen.matrix.matrix.toarray()
    counts[screen.cells_of(Query("A"))[0]] = counts[screen.cells_of(Query("B"))[4]]
    return by_hand("singles", train="BCD", test="A"), with_matrix(screen, counts), {}


def copies_of_control_cells():
    screen = make_screen(SINGLES)
    counts = screen.matrix.matrix.toarray()
    counts[screen.cells_of(Query("A"))[0]] = counts[screen.cells_of(Query(CONTROL))[0]]
    return by_hand("singles", train="BCD", test="A"), with_matrix(screen, counts), {}


def ensembl_id_of_a_measured_gene():
    screen = make_screen(SINGLES)
    identifiers = np.array([f"ENSG{gene:011d}" for gene in range(screen.n_genes)], dtype=object)
    return (
        by_hand("singles", train=("ENSG00000000005.12",), test=("GENE005",)),
        replace(screen, gene_ids=identifiers),
        {},
    )


def one_guide_under_two_conditions():
    screen = make_screen(SINGLES)
    guide = np.array([f"{screen.conditions[code]}_sg{cell % 2}" for cell, code in enumerate(screen.condition_code)])
    guide[screen.cells_of(Query("A"))[0]] = "B_sg1"
    return by_hand("singles", train="BCD", test="A"), replace(screen, covariates=pd.DataFrame({"guide": guide})), {}


def cells_changed_by_one_molecule():
    screen = make_screen(SINGLES)
    counts = screen.matrix.matrix.toarray()
    counts[screen.cells_of(Query("A"))] = counts[screen.cells_of(Query("B"))]
    counts[screen.cells_of(Query("A")), np.arange(20) * 2] += 1
    return by_hand("singles", train="BCD", test="A"), with_matrix(screen, counts), {}


def copied_profile(scale, jitter):
    def plant():
        table = replace(make_table(SINGLES), variance=None, n_cells=None)
        response = table.response.copy()
        noise = np.random.default_rng(0).normal(size=table.n_genes) * jitter * response[1].std()
        response[0] = scale * response[1] + noise
        return by_hand("singles", train="BCD", test="A"), replace(table, response=response), {}

    return plant


def only(rule, *, aliases=None, **sides):
    return lambda: (by_hand(rule, **sides), None, {"aliases": aliases} if aliases else {})


PLANTED = {
    "same cell by position": (same_cell_twice, LeakKind.SAME_CELL),
    "test cells in validation": (held_out_cell_in_validation, LeakKind.SAME_CELL),
    "same row of the matrix": (same_row_under_two_positions, LeakKind.SAME_CELL),
    "same barcode": (same_barcode_under_two_positions, LeakKind.SAME_CELL),
    "same single": (only("singles", train="ABC", test="A"), LeakKind.SAME_CONDITION),
    "same double": (only("doubles", train=("A", "B", "A+B"), test=("A+B",)), LeakKind.SAME_CONDITION),
    "same in validation": (only("gears", train="A", valid="BC", test="CD"), LeakKind.SAME_CONDITION),
    "held-out target in another context": (
        only("singles", train=[("A", "K562"), ("B", "RPE1")], test=[("A", "RPE1")]),
        LeakKind.SAME_CONDITION,
    ),
    "same in a split file": (
        only("file:mine", train=[("A", "K562")], test=[("A", "K562")]),
        LeakKind.SAME_CONDITION,
    ),
    "twin with ctrl": (only("singles", train=("A+ctrl", "B"), test=("A",)), LeakKind.TWIN),
    "twin with ctrl first": (only("singles", train=("ctrl+A", "B"), test=("A+ctrl",)), LeakKind.TWIN),
    "twin of a double": (only("doubles", train=("A", "B+A"), test=("A+B",)), LeakKind.TWIN),
    "twin in validation": (only("doubles", train="A", valid=("C+B",), test=("B+C",)), LeakKind.TWIN),
    "alias from a table": (
        only("singles", train=("p53", "MYC"), test=("TP53",), aliases={"P53": "TP53"}),
        LeakKind.ALIAS,
    ),
    "two aliases of a third name": (
        only("singles", train=("CD49D",), test=("VLA4",), aliases={"CD49D": "ITGA4", "VLA4": "ITGA4"}),
        LeakKind.ALIAS,
    ),
    "alias by case": (only("singles", train=("Tp53",), test=("TP53",)), LeakKind.ALIAS),
    "alias within a double": (
        only("doubles", train=("A", "CD49D+MYC"), test=("ITGA4+MYC",), aliases={"CD49D": "ITGA4"}),
        LeakKind.ALIAS,
    ),
    "Ensembl id of a measured gene": (ensembl_id_of_a_measured_gene, LeakKind.ALIAS),
    "guides as conditions": (only("singles", train=("SPI1_g1", "B"), test=("SPI1_g2",)), LeakKind.GUIDES),
    "a guide and its target": (only("singles", train=("SPI1_pDS255",), test=("SPI1",)), LeakKind.GUIDES),
    "guides without a separator": (only("file:x", train=("STAT2g2",), test=("STAT2g1",)), LeakKind.GUIDES),
    "one guide under two conditions": (one_guide_under_two_conditions, LeakKind.GUIDES),
    "single in a training double": (only("singles", train=("B", "A+B"), test=("A",)), LeakKind.SINGLE_IN_DOUBLE),
    "single in a double of a file": (only("file:x", train=("B", "A+B"), test=("A",)), LeakKind.SINGLE_IN_DOUBLE),
    "single in a validation double": (
        only("gears", train=("B",), valid=("A+B",), test=("A",), groups={"A": "unseen_single"}),
        LeakKind.SINGLE_IN_DOUBLE,
    ),
    "single in a training triple": (only("singles", train=("A+B+C",), test=("A",)), LeakKind.SINGLE_IN_DOUBLE),
    "single under an alias in a double": (
        only("singles", train=("MYC+p53",), test=("TP53",), aliases={"p53": "TP53"}),
        LeakKind.SINGLE_IN_DOUBLE,
    ),
    "seen0 with a seen target": (
        only("doubles-by-seen", train=("A", "C"), test=("A+B",), groups={"A+B": "seen0"}),
        LeakKind.SEEN_TARGET,
    ),
    "combo_seen1 with both seen": (
        only("gears", train=("A",), valid=("B",), test=("A+B",), groups={"A+B": "combo_seen1"}),
        LeakKind.SEEN_TARGET,
    ),
    "held-out context in training": (
        only("contexts", train=[("A", "K562"), ("A", "RPE1")], test=[("B", "RPE1")]),
        LeakKind.SEEN_CONTEXT,
    ),
    "equal profiles": (copied_profile(1.0, 0.0), LeakKind.NEAR_DUPLICATE),
    "equal profiles with jitter": (copied_profile(1.0, 0.02), LeakKind.NEAR_DUPLICATE),
    "scaled profile": (copied_profile(1.7, 0.01), LeakKind.NEAR_DUPLICATE),
    "cells changed by one molecule": (cells_changed_by_one_molecule, LeakKind.NEAR_DUPLICATE),
    "copies in a split of cells": (copies_under_other_barcodes, LeakKind.DUPLICATED_CELLS),
    "copies in another condition": (copies_in_another_condition, LeakKind.DUPLICATED_CELLS),
    "copies of control cells": (copies_of_control_cells, LeakKind.DUPLICATED_CELLS),
    "variable genes of all cells": (
        only("singles", train="A", test="B", provenance={"hvg": "all cells"}),
        LeakKind.STATISTICS,
    ),
    "DE lists of test cells": (
        only("singles", train="A", test="B", provenance={"scale": "train", "de": "test"}),
        LeakKind.STATISTICS,
    ),
    "graph of train and test": (
        only("cells", train="A", test="A", provenance={"co-expression": "train+test"}),
        LeakKind.STATISTICS,
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_found_by_kind(name):
    plant, kind = PLANTED[name]
    split, data, options = plant()
    report = audit(split, data, **options)
    assert report.kinds == {kind}, report.to_text()
    with pytest.raises(LeakError, match=str(kind)):
        report.raise_if_leaking()


def test_many_more_than_twenty_five_leaks_are_planted_of_every_kind():
    assert len(PLANTED) >= 25
    assert {kind for _, kind in PLANTED.values()} == set(LeakKind)


@pytest.mark.parametrize("name", PLANTED)
def test_mending_the_planted_split_silences_the_audit(name):
    """Without its test side nothing can leak: no kind of finding hangs on something else."""
    split, data, options = PLANTED[name][0]()
    empty = None if split.cells_test is None else split.cells_test[:0]
    mended = replace(split, test=(), cells_test=empty, groups={}, provenance={})
    assert audit(mended, data, **options).clean


# --------------------------------------------------------------------------------------------------------- clean splits
def screen_of_all():
    return make_screen(SINGLES + DOUBLES, contexts=("K562", "RPE1"))


def rule_on_screen(rule, seed=0):
    def build():
        screen = screen_of_all()
        return make_splits(screen, rule, seeds=[seed])[-1], screen, {}

    return build


def rule_on_table(rule, seed=0):
    def build():
        table = make_table(SINGLES + DOUBLES)
        return make_splits(table, rule, seeds=[seed])[0], replace(table, variance=None), {}

    return build


def perturbations_of_one_complex():
    """Four targets with one and the same strong effect, many cells: correlations near 1, explained by noise."""
    rng = np.random.default_rng(0)
    rate = rng.gamma(2.0, 2.0, size=60)
    effect = np.exp(rng.normal(size=60))
    code = np.repeat(np.arange(5, dtype=np.int32), 400)
    counts = rng.poisson(np.where(code[:, None] < 4, rate * effect, rate)).astype(np.float32)
    screen = from_counts(counts, conditions=("IFNGR1", "IFNGR2", "JAK2", "STAT1", CONTROL), condition_code=code)
    correlation = np.corrcoef(response_table(screen).response)
    assert correlation.min() > 0.99
    return by_hand("singles", train=("IFNGR1", "IFNGR2"), test=("JAK2", "STAT1")), screen, {}


def nearly_empty_cells():
    """Shallow cells have equal rows by chance."""
    counts = np.zeros((60, 40), dtype=np.float32)
    counts[np.arange(60), np.arange(60) % 4] = 1
    counts[:, :5] += np.eye(5, dtype=np.float32)[np.arange(60) % 5]
    code = np.repeat(np.arange(3, dtype=np.int32), 20)
    screen = from_counts(counts, conditions=("A", "B", CONTROL), condition_code=code)
    return by_hand("singles", train="B", test="A"), screen, {}


def guides_kept_apart():
    screen = make_screen(SINGLES)
    guide = [f"{screen.conditions[code]}_sg{cell % 2}" for cell, code in enumerate(screen.condition_code)]
    return make_splits(screen, "singles")[0], replace(screen, covariates=pd.DataFrame({"guide": guide})), {}


CLEAN = {
    "cells": rule_on_screen("cells"),
    "cells, other seed": rule_on_screen("cells", 5),
    "singles of cells": rule_on_screen("singles"),
    "share of singles": rule_on_screen("singles:0.3"),
    "doubles of cells": rule_on_screen("doubles"),
    "doubles by seen": rule_on_screen("doubles-by-seen"),
    "gears": rule_on_screen("gears"),
    "contexts": rule_on_screen("contexts"),
    "pair cells": rule_on_screen("pair-cells"),
    "singles of responses": rule_on_table("singles", 1),
    "doubles of responses": rule_on_table("doubles", 2),
    "doubles by seen of responses": rule_on_table("doubles-by-seen", 3),
    "gears of responses": rule_on_table("gears", 4),
    "one complex": perturbations_of_one_complex,
    "nearly empty cells": nearly_empty_cells,
    "guides of their own target": guides_kept_apart,
    "paralogues": only("singles", train=("NKX2-1", "HLA-A", "MIR21", "AC000111.1"), test=("NKX2-5", "HLA-B", "MIR22")),
    "versions of clones": only("singles", train=("AC000111.1", "Rag1", "KRT1"), test=("AC000111.2", "Rag2", "KRT2")),
    "singles of a held-out double": only("doubles", train=("A", "B", "A+C"), test=("A+B", "B+C")),
    "the other context of a file": only("file:x", train=[("A", "K562")], test=[("A", "RPE1")]),
    "statistics of training": only(
        "singles", train="A", test="B", provenance={"hvg": "train", "string": "external", "de": "evaluation"}
    ),
    "aliases of other genes": only("singles", train=("MYC",), test=("TP53",), aliases={"p53": "TP53", "c-Myc": "MYC"}),
    "seen groups as promised": only(
        "gears", train=("A", "C"), test=("A+B", "A+C", "D+E"),
        groups={"A+B": "combo_seen1", "A+C": "combo_seen2", "D+E": "combo_seen0"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_split_raises_no_alarm(name):
    split, data, options = CLEAN[name]()
    report = audit(split, data, **options)
    assert report.findings == (), report.to_text()
    report.raise_if_leaking()
    assert split.audit(data, **options) == report


def test_twenty_clean_splits_are_tried():
    assert len(CLEAN) >= 20


# ------------------------------------------------------------------------------------------------------------- details
def test_no_split_of_a_simulated_world_leaks():
    from perturbcast.data.simulate import simulate

    screen = simulate(n_cells=800, n_genes=60, n_targets=16, n_doubles=16, n_contexts=2, seed=3).screen
    evidence = gather_evidence(screen)
    for rule, lacking in possible_splits(screen).items():
        for split in [] if lacking else make_splits(screen, rule)[:2]:
            assert audit(split, evidence).findings == (), rule


@pytest.mark.parametrize(
    "path",
    [
        "screens/papalexi2021_thp1_eccite", "screens/norman2019_k562_crispra_cells", "screens/adamson2016_k562_pilot",
        "responses/norman2019_k562_crispra", "responses/replogle2022_k562_crispri_censored",
    ],
)  # fmt: skip
def test_no_split_of_a_real_screen_leaks(shared, path):
    """JAK2 and IFNGR1 (.98) or KLF1 and KLF1+TGFBR2 (.99) are alike, and their difference is what noise explains."""
    from perturbcast.data.readers import read

    data = read(shared / "data" / f"{path}.h5ad")
    evidence = gather_evidence(data)
    for rule, lacking in possible_splits(data).items():
        for split in [] if lacking else make_splits(data, rule)[:2]:
            report = audit(split, evidence)
            assert report.findings == (), report.to_text()


def test_a_planted_copy_in_a_real_screen_is_found(shared):
    from perturbcast.data.readers import read

    table = response_table(read(shared / "data/screens/papalexi2021_thp1_eccite.h5ad"))
    rows = table.index([Query("JAK2"), Query("STAT1")])
    assert near_duplicates(table, rows[:1], rows[1:]) == []
    response = table.response.copy()
    response[rows[1]] = 0.8 * response[rows[0]]
    assert near_duplicates(replace(table, response=response), rows[:1], rows[1:]) == [(rows[0], rows[1])]


def test_independent_samples_of_one_response_differ_by_their_noise():
    """The rule rests on this: two conditions of the same true response are about one noise unit apart, never 0.1."""
    screen = perturbations_of_one_complex()[1]
    table = response_table(screen)
    squared = (table.response[1] - table.response[0]) ** 2
    noise = table.variance[0] / table.n_cells[0] + table.variance[1] / table.n_cells[1]
    assert 0.6 < (squared / noise).mean() < 1.6


def test_evidence_gathered_once_gives_the_same_report():
    screen = screen_of_all()
    evidence = gather_evidence(screen)
    for split in make_splits(screen, "singles"):
        assert audit(split, evidence) == audit(split, screen)


def test_the_report_says_what_could_be_checked():
    split, screen = by_hand("singles", train="BCD", test="A"), make_screen(SINGLES)
    assert audit(split).checked == ("names", "statistics")
    assert audit(split, screen).checked == ("names", "statistics", "cells", "profiles")
    assert audit(split, response_table(screen)).checked == ("names", "statistics", "profiles")
    assert audit(split, screen, profiles=False).checked == ("names", "statistics", "cells")


def test_a_condition_shared_by_training_and_validation_is_a_note_and_no_leak():
    report = audit(by_hand("gears", train="AB", valid="B", test="C"))
    assert report.clean
    assert [(leak.kind, leak.severity) for leak in report.findings] == [(LeakKind.SAME_CONDITION, "note")]
    assert "note: same-condition between train and valid (1): B" in report.to_text()


def test_many_leaks_are_counted_and_five_are_shown():
    (leak,) = audit(by_hand("singles", train=SINGLES, test=SINGLES)).leaks
    assert leak.n == 8
    assert len(leak.examples) == 5
    assert str(leak) == "same-condition between train and test (8): A, B, C, D, E, ..."


@pytest.mark.parametrize(
    ("label", "target"),
    [
        ("SPI1_pDS255", "SPI1"), ("SPI1_g1", "SPI1"), ("SPI1-sg2", "SPI1"), ("SPI1_guide_3", "SPI1"),
        ("SPI1_2", "SPI1"), ("STAT2g2", "STAT2"), ("SPI1_ACGTACGTACGTACGTACGT", "SPI1"), ("NKX2-1", "NKX2-1"),
        ("AC000111.2", "AC000111.2"), ("Rag1", "Rag1"), ("MIR21", "MIR21"), ("H2AZ1", "H2AZ1"), ("_g1", "_g1"),
    ],
)  # fmt: skip
def test_guide_names_are_told_from_gene_names(label, target):
    assert guide_stem(label) == target


def test_copies_are_found_whatever_block_they_are_in():
    screen = make_screen(SINGLES)
    counts = screen.matrix.matrix.toarray()
    counts[150] = counts[2]
    copies = find_copies(with_matrix(screen, counts), block=7)
    assert np.flatnonzero(copies >= 0).tolist() == [2, 150]
    assert copies[2] == copies[150]
