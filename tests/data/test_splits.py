"""Splits: what each rule promises, the oracles of the specification, files, errors, the real conditions."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_screens import make_screen, make_table

from perturbcast.data.conditions import CONTROL, Query, is_double, is_single, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.split import Promise, Split
from perturbcast.data.split_rules import Design, doubles_by_seen, gears_groups, half_of_doubles, nested_cells
from perturbcast.data.splits import RULES, make_splits, possible_splits
from perturbcast.data.splits_files import read_split, read_splits, write_split
from perturbcast.errors import (
    BadOption,
    BadSplitFile,
    MissingFile,
    NotAFile,
    TooFewConditions,
    UnknownFormat,
    UnknownSplit,
    WrongKind,
)

TARGETS = tuple("ABCDEFGHIJKL")
DOUBLES = tuple(f"{a}+{b}" for i, a in enumerate(TARGETS) for b in TARGETS[i + 1 :] if (ord(a) + ord(b)) % 3 == 0)


def table_of(conditions, contexts=("",)) -> ResponseTable:
    """A table of zeros with these queries: splits look at names only."""
    queries = tuple(Query(condition, context) for context in contexts for condition in sorted(conditions))
    return ResponseTable(
        name="names", scale=Scale.RESPONSE, genes=np.array(["g"], dtype=object), queries=queries,
        response=np.zeros((len(queries), 1)), contexts=tuple(contexts), control=np.full((len(contexts), 1), np.nan),
    )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return table_of(TARGETS + DOUBLES, contexts=("K562", "RPE1"))


def names(queries):
    return {query.condition for query in queries}


def seen_targets(queries):
    return {target for query in queries for target in targets_of(query.condition)}


# ------------------------------------------------------------------------------------------------------------- singles
def test_every_single_is_tested_once_in_k_fold_and_its_target_is_nowhere_in_training(data):
    splits = make_splits(data, "singles", folds=5)
    assert [split.fold for split in splits] == [0, 1, 2, 3, 4]
    assert Counter(name for split in splits for name in names(split.test)) == Counter(TARGETS)
    for split in splits:
        assert not seen_targets(split.train) & seen_targets(split.test)
        assert {query.context for query in split.test} == {"K562", "RPE1"}


def test_doubles_are_on_no_side_of_a_split_of_singles(data):
    for split in make_splits(data, "singles", folds=4):
        assert not any(is_double(query.condition) for query in split.train + split.valid + split.test)
        assert names(split.train) == set(TARGETS) - names(split.test)


def test_folds_differ_in_size_by_one_at_most_and_every_seed_deals_anew(data):
    first, second = make_splits(data, "singles", folds=5), make_splits(data, "singles", seeds=[1], folds=5)
    sizes = [len(names(split.test)) for split in first]
    assert max(sizes) - min(sizes) <= 1
    assert [names(split.test) for split in first] != [names(split.test) for split in second]


@pytest.mark.parametrize(("share", "n_test"), [("0.25", 3), ("0.5", 6), ("0.01", 1)])
def test_a_share_of_singles_can_be_held_out_once(data, share, n_test):
    (split,) = make_splits(data, f"singles:{share}")
    assert len(names(split.test)) == n_test
    assert not seen_targets(split.train) & seen_targets(split.test)
    assert split.promise is Promise.TARGETS


# ------------------------------------------------------------------------------------------------------------- doubles
def test_doubles_protocol_trains_all_singles_and_half_of_the_doubles(data):
    (split,) = make_splits(data, "doubles", seeds=[3])
    tested = names(split.test)
    assert all(map(is_double, tested))
    assert len(tested) == len(DOUBLES) - len(DOUBLES) // 2
    assert names(split.train) == set(TARGETS) | set(DOUBLES) - tested


def test_doubles_are_drawn_as_by_numpy_seeded_with_the_seed(data):
    """Spec D.3: numpy seed s, sorted unique doubles, half drawn without replacement."""
    np.random.seed(4)  # noqa: NPY002
    drawn = set(np.random.choice(sorted(DOUBLES), size=len(DOUBLES) // 2, replace=False).tolist())  # noqa: NPY002
    split = half_of_doubles(Design(data.queries), seed=4)
    assert {name for name in names(split.train) if is_double(name)} == drawn


@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.25, 0.5]))
def test_seen_groups_count_the_targets_that_occur_in_training(seed, fraction):
    split = doubles_by_seen(Design(table_of(TARGETS + DOUBLES).queries), seed=seed, fraction=fraction)
    seen = seen_targets(split.train)
    assert split.test
    assert all(is_double(query.condition) for query in split.test)
    for query in split.test:
        assert split.groups[query] == f"seen{sum(target in seen for target in targets_of(query.condition))}"
    assert not names(split.test) & names(split.train)


def test_singles_of_held_out_targets_are_on_no_side():
    (split,) = make_splits(table_of(TARGETS + DOUBLES), "doubles-by-seen", seeds=[1])
    held = set(TARGETS) - seen_targets(split.train)
    assert len(held) == 3
    assert not held & names(split.train + split.valid + split.test)
    assert {"seen0", "seen1", "seen2"} >= set(split.groups.values()) >= {"seen1", "seen2"}


# --------------------------------------------------------------------------------------------------------------- GEARS
def test_gears_categories_are_those_of_oracle_c3(monkeypatch):
    """C3: training genes a, b, c give a train, d unseen single, a+b seen2, a+d seen1, d+e seen0."""

    class Drawn:
        def __init__(self, seed):
            pass

        def choice(self, pool, size, replace):
            return ["a", "b", "c"] if "d" in pool else []

    monkeypatch.setattr(np.random, "RandomState", Drawn)
    train, groups = gears_groups(["a", "d", "a+b", "a+d", "d+e"], seed=1, gene_share=0.6, pair_share=0.0)
    assert train == ["a"]
    assert groups == {"d": "unseen_single", "a+b": "combo_seen2", "a+d": "combo_seen1", "d+e": "combo_seen0"}


@given(st.integers(0, 10**6))
def test_gears_split_is_that_of_an_independent_transcription_with_the_global_seed(seed):
    conditions = sorted(TARGETS + DOUBLES)
    (split,) = make_splits(table_of(conditions), "gears", seeds=[seed])
    expected_train, expected_test = transcribed_gears(conditions, seed, 0.75, 0.75)
    expected_train, expected_valid = transcribed_gears(expected_train, seed, 0.9, 0.9)
    assert names(split.train) == set(expected_train)
    assert {query.condition: split.groups[query] for query in split.valid} == expected_valid
    assert {query.condition: split.groups[query] for query in split.test} == expected_test


def transcribed_gears(conditions, seed, gene_share, pair_share):
    """Spec C.6 word by word, with numpy's global generator."""
    genes = np.unique([target for name in conditions for target in targets_of(name)])
    np.random.seed(seed)  # noqa: NPY002
    drawn = set(np.random.choice(genes, int(gene_share * len(genes)), replace=False).tolist())  # noqa: NPY002
    train = [name for name in conditions if is_single(name) and name in drawn]
    test = {name: "unseen_single" for name in conditions if is_single(name) and name not in drawn}
    both = []
    for name in filter(is_double, conditions):
        n_seen = len(drawn & set(targets_of(name)))
        if n_seen == 2:
            both.append(name)
        else:
            test[name] = f"combo_seen{n_seen}"
    np.random.seed(seed)  # noqa: NPY002
    kept = np.random.choice(np.unique(both), int(pair_share * len(both)), replace=False).tolist()  # noqa: NPY002
    test |= {name: "combo_seen2" for name in both if name not in kept}
    return train + kept, test


def test_gears_unseen_singles_are_in_no_training_double(data):
    for split in make_splits(data, "gears", seeds=range(5)):
        unseen = {query.condition for query, group in split.groups.items() if group == "unseen_single"}
        tested = unseen & names(split.test)
        assert tested
        assert not tested & seen_targets(split.train + split.valid)


# ------------------------------------------------------------------------------------------------------------ contexts
def test_each_context_is_left_out_once_and_nothing_of_it_trains(data):
    splits = make_splits(data, "contexts")
    assert [{query.context for query in split.test} for split in splits] == [{"K562"}, {"RPE1"}]
    for split in splits:
        assert not {query.context for query in split.train} & {query.context for query in split.test}
        assert len(split.train) + len(split.test) == len(data.queries)


# --------------------------------------------------------------------------------------------------------------- cells
@settings(deadline=None, max_examples=10)
@given(st.integers(10, 3000), st.integers(0, 99))
def test_cells_are_drawn_as_by_two_nested_train_test_splits(n_cells, seed):
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(np.arange(n_cells), train_size=0.8, random_state=seed)
    train, valid = train_test_split(rest, train_size=0.8, random_state=seed)
    for ours, theirs in zip(nested_cells(n_cells, seed=seed), (train, valid, test), strict=True):
        np.testing.assert_array_equal(ours, np.sort(theirs))


def test_random_cells_divide_all_cells_64_16_20_control_included():
    screen = make_screen(("A", "B"), n_per_query=100, n_control=100)
    (split,) = make_splits(screen, "cells")
    sides = [split.cells_train, split.cells_valid, split.cells_test]
    assert [len(side) for side in sides] == [192, 48, 60]
    np.testing.assert_array_equal(np.sort(np.concatenate(sides)), np.arange(300))
    assert all(screen.is_control[side].any() for side in sides)
    assert set(split.test) == set(split.train) == {Query("A"), Query("B")}


def test_pair_cells_test_a_fifth_of_the_cells_of_a_quarter_of_the_pairs():
    pairs = ("A+B", "A+C", "B+C", "A+D", "B+D")
    screen = make_screen(("A", "B", "C", "D", *pairs), n_per_query=50, n_control=100)
    (split,) = make_splits(screen, "pair-cells", seeds=[2])
    tested = names(split.test)
    assert len(tested) == 2
    assert tested <= set(pairs)
    assert not tested & names(split.train + split.valid)
    fifth = set(nested_cells(screen.n_cells, seed=0)[2].tolist())
    wanted = {cell for name in tested for cell in screen.cells_of(Query(name)).tolist()} & fifth
    assert set(split.cells_test.tolist()) == wanted
    other = np.array([is_single(name) or name == CONTROL for name in screen.conditions])[screen.condition_code]
    assert other[np.concatenate([split.cells_train, split.cells_valid])].sum() == other.sum()


# ------------------------------------------------------------------------------------------- identity of every rule
@pytest.mark.parametrize("rule", RULES)
def test_a_split_is_the_same_whatever_the_order_of_the_data_and_differs_by_seed(rule):
    conditions = TARGETS + DOUBLES
    if "cells" in rule:
        first = make_screen(conditions, n_per_query=5, n_genes=12)
        (one,), (two,), (other,) = (make_splits(first, rule, seeds=[seed]) for seed in (0, 0, 1))
        assert one.fingerprint == two.fingerprint != other.fingerprint
        return
    first = table_of(conditions, contexts=("K562", "RPE1"))
    shuffled = first.take(np.random.default_rng(0).permutation(first.n_queries))
    for one, two in zip(make_splits(first, rule), make_splits(shuffled, rule), strict=True):
        assert all(set(getattr(one, side)) == set(getattr(two, side)) for side in ("train", "valid", "test"))
    again, other = make_splits(first, rule), make_splits(first, rule, seeds=[1])
    assert [split.fingerprint for split in again] == [split.fingerprint for split in make_splits(first, rule)]
    assert again[0].fingerprint != other[0].fingerprint


def test_screens_and_their_response_tables_are_split_alike():
    screen = make_screen(TARGETS + DOUBLES, n_per_query=3, n_genes=12)
    table = make_table(TARGETS + DOUBLES, n_per_query=3, n_genes=12)
    for rule in ("singles", "doubles", "doubles-by-seen", "gears"):
        ours = [split.fingerprint for split in make_splits(screen, rule)]
        assert ours == [split.fingerprint for split in make_splits(table, rule)]


def test_conditions_of_three_targets_are_on_no_side():
    data = table_of((*TARGETS, *DOUBLES, "A+B+C"))
    for rule in ("singles", "doubles", "doubles-by-seen", "gears"):
        for split in make_splits(data, rule):
            assert "A+B+C" not in names(split.train + split.valid + split.test)


# -------------------------------------------------------------------------------------------------------------- errors
def test_a_misspelt_rule_is_refused_with_the_nearest(data):
    with pytest.raises(UnknownSplit, match="'singles'"):
        make_splits(data, "single")
    with pytest.raises(UnknownSplit, match="takes no share"):
        make_splits(data, "gears:0.5")


def test_rules_over_cells_refuse_responses(data):
    with pytest.raises(WrongKind, match="can carry: singles"):
        make_splits(data, "cells")


@pytest.mark.parametrize(
    ("rule", "conditions"),
    [("singles", "ABC"), ("doubles", "ABC"), ("doubles-by-seen", ("A", "A+B")), ("gears", "ABC"), ("contexts", "ABC")],
)
def test_too_few_conditions_say_what_the_data_can_carry(rule, conditions):
    with pytest.raises(TooFewConditions, match=r"needs .*(can carry: singles in up to|no split of ours)"):
        make_splits(table_of(conditions), rule)


def test_possible_splits_name_a_reason_for_every_rule_that_cannot_be_made(data):
    possible = possible_splits(data)
    assert possible.pop("cells") == possible.pop("pair-cells") == "divides cells, and these data are responses"
    assert set(possible.values()) == {""}
    assert "2 contexts" in possible_splits(table_of("AB"))["contexts"]


@pytest.mark.parametrize("rule", ["singles:2", "singles:x", "singles:0"])
def test_shares_out_of_range_are_refused(data, rule):
    with pytest.raises(BadOption):
        make_splits(data, rule)


def test_one_fold_is_refused(data):
    with pytest.raises(BadOption):
        make_splits(data, "singles", folds=1)


# --------------------------------------------------------------------------------------------------------------- files
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".toml"])
@pytest.mark.parametrize("rule", ["singles", "gears", "doubles-by-seen", "contexts"])
def test_a_written_split_reads_back_with_the_same_fingerprint(data, tmp_path, rule, suffix):
    splits = make_splits(data, rule, seeds=[7])
    write_split(splits, tmp_path / f"split{suffix}")
    back = read_splits(tmp_path / f"split{suffix}", data)
    assert [split.fingerprint for split in back] == [split.fingerprint for split in splits]
    assert [split.groups for split in back] == [split.groups for split in splits]


def test_a_split_over_cells_is_written_by_barcode(tmp_path):
    screen = make_screen(("A", "B"))
    (split,) = make_splits(screen, "cells")
    write_split(split, tmp_path / "cells.csv", data=screen)
    assert read_split(tmp_path / "cells.csv", screen).fingerprint == split.fingerprint
    with pytest.raises(WrongKind):
        write_split(split, tmp_path / "cells.toml")


def test_conditions_of_a_file_may_be_spelt_in_any_order_and_the_rest_trains(data, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("condition,side\nctrl+A,test\nC+A,testing\n".replace("C+A", "+".join(DOUBLES[0].split("+")[::-1])))
    split = make_splits(data, str(path), seeds=[5])[0]
    assert names(split.test) == {"A", DOUBLES[0]}
    assert names(split.train) == set(TARGETS + DOUBLES) - {"A", DOUBLES[0]}
    assert (split.rule, split.seed, split.promise) == ("file:mine", 5, Promise.CONDITIONS)


def test_a_toml_file_may_name_contexts_and_groups(data, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('test = ["A", {condition = "B", context = "RPE1"}]\nvalid = ["C"]\n[groups]\nA = "easy"\n')
    split = read_split(path, data)
    assert set(split.test) == {Query("A", "K562"), Query("A", "RPE1"), Query("B", "RPE1")}
    assert Query("B", "K562") in split.train
    assert split.groups == {Query("A", "K562"): "easy", Query("A", "RPE1"): "easy"}


def test_a_gene_named_na_is_a_gene(tmp_path):
    path = tmp_path / "na.csv"
    path.write_text("condition,side\nNA,test\nB,train\n")
    assert names(read_split(path, table_of(("NA", "B"))).test) == {"NA"}


BAD_FILES = {
    "no side column": ("s.csv", "condition\nA\n", "no column 'side'"),
    "unknown side": ("s.csv", "condition,side\nA,tset\n", "tset"),
    "no rows": ("s.csv", "condition,side\n", "no rows"),
    "empty": ("s.csv", "", "no column"),
    "short row": ("s.csv", "condition,side\nA\n", "Line 2"),
    "long row": ("s.csv", "condition,side\nA,test,x,y\n", "Line 2"),
    "unknown condition": ("s.csv", "condition,side\nAA,test\n", "Nearest|Known"),
    "unknown context": ("s.csv", "condition,side,context\nA,test,HeLa\n", "HeLa"),
    "control tested": ("s.csv", "condition,side\nctrl,test\n", "control"),
    "nothing tested": ("s.csv", "condition,side\nA,train\n", "nothing to test"),
    "fold no number": ("s.csv", "condition,side,fold\nA,test,x\n", "whole number"),
    "broken quotes": ("s.csv", 'condition,side\n"A"x,test\n', "not a table"),
    "broken toml": ("s.toml", "test = [", "not TOML"),
    "unknown key": ("s.toml", 'tests = ["A"]\n', "'test'"),
    "no condition": ("s.toml", "test = [3]\n", "no condition"),
    "split no table": ("s.toml", 'split = "A"\n', "array of tables"),
    "binary": ("s.csv", b"\xff\xfe\x00", "UTF-8"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_split_files_are_coded_errors_that_name_the_place(data, tmp_path, case):
    name, text, message = BAD_FILES[case]
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadSplitFile, match=message):
        make_splits(data, tmp_path / name)


def test_missing_split_files_and_folders_are_told_apart(data, tmp_path):
    with pytest.raises(MissingFile):
        make_splits(data, tmp_path / "none.csv")
    with pytest.raises(NotAFile):
        make_splits(data, tmp_path)
    with pytest.raises(UnknownFormat):
        write_split(make_splits(data, "gears"), tmp_path / "split.json")


def test_several_folds_are_not_one_split(data, tmp_path):
    write_split(make_splits(data, "singles"), tmp_path / "folds.csv")
    with pytest.raises(BadSplitFile, match="5 folds"):
        read_split(tmp_path / "folds.csv", data)


# ----------------------------------------------------------------------------------------------------------- real data
def norman_conditions(shared):
    import h5py

    with h5py.File(shared / "data/responses/norman2019_k562_crispra.h5ad") as file:
        column = file["obs/condition"]
        values = column["categories"][:][column["codes"][:]] if isinstance(column, h5py.Group) else column[:]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def test_norman_responses_carry_the_protocols_of_the_literature(shared):
    data = table_of(norman_conditions(shared), contexts=("K562",))
    for split in make_splits(data, "doubles", seeds=range(1, 6)):
        assert (len(split.test), len(split.train)) == (65, 104 + 65)
    folds = make_splits(data, "singles", folds=5)
    assert sorted(len(split.test) for split in folds) == [20, 21, 21, 21, 21]
    (gears,) = make_splits(data, "gears", seeds=[1])
    assert set(gears.groups.values()) == {"unseen_single", "combo_seen0", "combo_seen1", "combo_seen2"}
    (seen,) = make_splits(data, "doubles-by-seen")
    assert set(seen.groups.values()) == {"seen0", "seen1", "seen2"}


def test_sides_of_a_split_are_named_once():
    split = Split("doubles", 0, None, (Query("A"),), (), (Query("A+B"),))
    assert split.name == "doubles"
    assert split.promise is Promise.CONDITIONS
