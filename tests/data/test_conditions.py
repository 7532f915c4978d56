"""The parser of condition labels: every spelling of the same targets is one condition."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbcast.data.conditions import (
    CONTROL,
    condition_of,
    is_double,
    is_single,
    is_unassigned,
    looks_like_control,
    parse_condition,
    single_copy,
    strip_guide,
    targets_of,
)
from perturbcast.data.labels import read_labels
from perturbcast.errors import BadCondition, BadOption, NoControl, UnknownControl

GENES = ["STAT1", "JAK2", "SPI1", "MYC", "NKX2-1", "HLA-DRA", "IFNGR1", "IFNGR2", "C1orf112", "MARCH8"]
controls = ["control", "NT", "non-targeting"]
genes = st.sampled_from(GENES)
targets = st.lists(genes, max_size=4, unique=True)
separators = st.sampled_from("+|;,&")


@given(targets=targets)
def test_canonical_condition_is_read_as_itself(targets: list[str]) -> None:
    condition = condition_of(targets)
    assert parse_condition(condition, control_labels=controls) == condition
    assert condition_of(targets_of(condition)) == condition


@given(targets=targets.filter(bool), separator=separators, data=st.data())
def test_order_separator_blanks_and_repeats_do_not_matter(
    targets: list[str], separator: str, data: st.DataObject
) -> None:
    parts = data.draw(st.permutations(targets + data.draw(st.lists(st.sampled_from(targets), max_size=2))))
    blank = data.draw(st.sampled_from(["", " "]))
    label = f"{blank}{separator}{blank}".join(parts)
    assert parse_condition(label, control_labels=controls) == condition_of(targets)


@given(targets=targets, control=st.sampled_from(controls), place=st.integers(0, 4), shout=st.booleans())
def test_control_among_targets_is_dropped_wherever_it_stands(
    targets: list[str], control: str, place: int, shout: bool
) -> None:
    parts = list(targets)
    parts.insert(place, control.upper() if shout else control)
    assert parse_condition("+".join(parts), control_labels=controls) == condition_of(targets)


@given(targets=st.lists(genes, min_size=2, max_size=3, unique=True), others=st.lists(genes, max_size=3))
def test_underscore_separates_only_known_targets(targets: list[str], others: list[str]) -> None:
    label = "_".join(targets)
    assert parse_condition(label, control_labels=controls, known_targets=targets) == condition_of(targets)
    known = set(others) - {targets[0]}
    assert parse_condition(label, control_labels=controls, known_targets=known) == label
    assert parse_condition(label, control_labels=controls, separator="_") == condition_of(targets)


@given(target=genes, number=st.integers(1, 9))
def test_guide_names_lead_to_their_target(target: str, number: int) -> None:
    sequence = "ACGT" * 5
    spelled = [f"{target}_g{number}", f"sg{target}", f"{target}g{number}", f"{target}_pDS25{number}", f"sg{target}_g1"]
    spelled += [
        f"{target}_{sequence}",
        f"{target}_+_5371{number}.23-P1P2",
        f"{target}-sgRNA{number}",
        f"{target}#{number}",
    ]
    for label in spelled:
        assert parse_condition(label, control_labels=controls, strip_guides=True, known_targets=GENES) == target
        assert "+" in label or parse_condition(label, control_labels=controls, known_targets=GENES) == label


@given(target=genes)
def test_name_of_a_known_gene_is_never_stripped(target: str) -> None:
    assert strip_guide(target, known=GENES) == target
    assert parse_condition(target, control_labels=controls, strip_guides=True, known_targets=GENES) == target


@given(label=st.text(max_size=30))
def test_any_text_is_a_condition_or_a_coded_error_and_reading_twice_changes_nothing(label: str) -> None:
    if not all(part.strip() for part in re.split(r"[+|;,&]", single_copy(label.strip()))):
        with pytest.raises(BadCondition):
            parse_condition(label, control_labels=controls)
        return
    condition = parse_condition(label, control_labels=controls)
    assert parse_condition(condition, control_labels=controls) == condition
    assert list(targets_of(condition)) == sorted(set(targets_of(condition)))


@pytest.mark.parametrize("label", ["", " ", "STAT1+", "+", "A++B", "A|", ",A"])
def test_label_with_an_empty_part_is_refused(label: str) -> None:
    with pytest.raises(BadCondition):
        parse_condition(label, control_labels=controls)


def test_number_of_targets_is_told() -> None:
    assert [is_single(name) for name in (CONTROL, "A", "A+B", "A+B+C")] == [False, True, False, False]
    assert [is_double(name) for name in (CONTROL, "A", "A+B", "A+B+C")] == [False, False, True, False]


# -------------------------------------------------------------------------------------------------------- control names
@pytest.mark.parametrize(
    "label",
    [
        "ctrl", "control", "Control", "non-targeting", "Non_Targeting", "NT", "NTC", "NTg7", "nt 1", "safe-targeting",
        "62(mod)_pBA581", "Gal4-4(mod)_pBA582", "(mod)_pBA581", "NegCtrl10", "negative control", "neg_ctrl_3",
        "3x_neg_ctrl_pMJ144-1", "non-targeting_00023", "Non-Targeting-Human-0001", "sgNT", "sgCtrl", "NO-TARGET",
        "scramble", "NT-ctrl",
    ],
)  # fmt: skip
def test_usual_control_names_are_known(label: str) -> None:
    assert looks_like_control(label)


@pytest.mark.parametrize(
    "label", [*GENES, "NT5E", "NTRK1", "CTRC", "SAFB", "NEGR1", "CONTROLLER", "NTHL1", "INTS1", "neg_ctrl_STAT1"]
)
def test_names_of_genes_are_no_control_names(label: str) -> None:
    assert not looks_like_control(label)
    assert not looks_like_control(label, weak=True)
    assert not is_unassigned(label)


# ----------------------------------------------------------------------------------------------------- a whole column
def test_guides_of_a_real_column_are_stripped_and_controls_found() -> None:
    reading = read_labels(["62(mod)_pBA581", "SPI1_pDS255", "BHLHE40_pDS258"], genes=["SPI1"])
    assert reading.condition == {"62(mod)_pBA581": CONTROL, "SPI1_pDS255": "SPI1", "BHLHE40_pDS258": "BHLHE40"}
    assert reading.guide_styles == ("plasmid",)
    assert {decision.what for decision in reading.decisions} == {"control", "guide names"}


def test_guide_numbers_are_stripped_where_they_unite_several_guides_of_a_target() -> None:
    labels = [f"{gene}g{number}" for gene in ("IFNGR2", "CAV1", "MYC") for number in (1, 2, 3)]
    reading = read_labels([*labels, "NTg1", "NTg2"], genes=[])
    assert set(reading.condition.values()) == {"IFNGR2", "CAV1", "MYC", CONTROL}


@pytest.mark.parametrize(
    ("labels", "measured"),
    [
        (["control", "NKX2-1", "NKX2-2", "HLA-A"], []),
        (["control", "Atg5", "Atg7", "Reg1"], ["Atg5", "Atg7", "Reg1"]),
        (["control", "STAT1-1", "JAK2-1", "MYC-1"], []),
        (["control", "STAT1", "JAK2", "MYC", "SPI1_g2"], ["STAT1", "JAK2"]),
    ],
)
def test_suffix_that_the_content_does_not_support_is_kept(labels: list[str], measured: list[str]) -> None:
    reading = read_labels(labels, genes=measured)
    assert reading.guide_styles == ()
    assert set(reading.condition.values()) == {CONTROL, *labels[1:]}


def test_pairs_of_guide_identity_are_read_with_their_controls() -> None:
    labels = ["KLF1_NegCtrl0__KLF1_NegCtrl0", "NegCtrl0_MAP2K6__NegCtrl0_MAP2K6", "KLF1_MAP2K6__KLF1_MAP2K6"]
    reading = read_labels([*labels, "NegCtrl10_NegCtrl0__NegCtrl10_NegCtrl0"], genes=[])
    assert list(reading.condition.values()) == ["KLF1", "MAP2K6", "KLF1+MAP2K6", CONTROL]


def test_twins_are_united_and_counted() -> None:
    reading = read_labels(["A1+ctrl", "ctrl+A1", "A1+B1", "B1+A1", "ctrl"], genes=[])
    assert set(reading.condition.values()) == {"A1", "A1+B1", CONTROL}
    assert next(decision for decision in reading.decisions if decision.what == "twins").value == "2 united"


def test_underscores_that_separate_nothing_known_are_kept_and_told() -> None:
    reading = read_labels(["ctrl", "SPI1", "JAK2", "SPI1_JAK2", "MYC_STAT1"], genes=["SPI1"])
    assert reading.condition["SPI1_JAK2"] == "JAK2+SPI1"
    assert reading.condition["MYC_STAT1"] == "MYC_STAT1"
    assert reading.kept_whole == ("MYC_STAT1",)
    assert any(decision.what == "underscore" and decision.flag == "--separator" for decision in reading.decisions)


def test_unassigned_cells_have_no_condition() -> None:
    reading = read_labels(["ctrl", "SPI1", "unassigned", "multiplet", "nan"], genes=[])
    assert set(reading.condition) == {"ctrl", "SPI1"}


def test_control_that_is_given_wins_over_usual_names() -> None:
    reading = read_labels(["ctrl", "AAVS1", "SPI1"], genes=[], control="AAVS1")
    assert reading.condition == {"ctrl": CONTROL, "AAVS1": CONTROL, "SPI1": "SPI1"}
    reading = read_labels(["WT", "lacZ", "SPI1"], genes=[], control=["WT", "lacZ"])
    assert reading.control_labels == ("WT", "lacZ")


def test_weak_control_name_is_used_only_without_a_usual_one() -> None:
    assert read_labels(["AAVS1", "SPI1"], genes=[]).condition["AAVS1"] == CONTROL
    assert read_labels(["AAVS1", "NT", "SPI1"], genes=[]).condition["AAVS1"] == "AAVS1"


def test_labels_without_control_or_with_a_blank_separator_are_refused() -> None:
    with pytest.raises(NoControl, match="pass --control 'Controll'"):
        read_labels(["Controll", "SPI1"], genes=[])
    with pytest.raises(UnknownControl, match="Nearest: 'SPI1'"):
        read_labels(["ctrl", "SPI1"], genes=[], control="SPI")
    with pytest.raises(BadOption):
        read_labels(["ctrl", "SPI1"], genes=[], separator="")


def test_measured_gene_named_like_a_control_is_a_target() -> None:
    reading = read_labels(["CTL1", "ctrl", "SPI1"], genes=["CTL1", "SPI1"])
    assert reading.condition["CTL1"] == "CTL1"
