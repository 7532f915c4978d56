"""Malformed and hostile inputs: each has its stable code, one line that says what to do, and leaves nothing behind."""

import os
from pathlib import Path

import pytest
from h5ad_files import screen_adata, written
from hostile_cases import HOSTILE_CASES

from perturbcast.data.inspect import inspect
from perturbcast.data.readers import read
from perturbcast.errors import NoControl, NoMatrix, PerturbcastError, UnknownColumn, UnknownControl, UnreadableFile


def listing(folder: Path) -> dict[str, int]:
    """Every file below a folder with its size."""
    return {str(path): path.lstat().st_size for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("name", HOSTILE_CASES)
def test_hostile_input_is_refused_with_its_code_in_one_line_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    build, expected = HOSTILE_CASES[name]
    path, arguments = build(tmp_path)
    before = listing(tmp_path)
    with pytest.raises(PerturbcastError) as caught:
        read(path, **arguments)
    assert type(caught.value) is expected
    message = str(caught.value)
    assert message.startswith(f"{expected.code} {expected.__name__}: ")
    assert message.isprintable()  # one line, nothing that moves a cursor
    assert len(message) < 700
    assert caught.value.next_step
    assert caught.value.exit_status == 2
    assert listing(tmp_path) == before


def test_there_are_at_least_sixty_hostile_inputs_of_three_families() -> None:
    codes = [error.code for _, error in HOSTILE_CASES.values()]
    assert len(codes) >= 60
    assert {code[:2] for code in codes} == {"E1", "E2", "E3"}
    assert len(set(codes)) >= 25


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("control misspelt in the file", "--control 'contrl'"),
        ("control misspelt in the argument", "'control'"),
        ("unknown perturbation column", "'perturbation'"),
        ("unknown layer", "--layer"),
        ("responses that do not say so", "--kind response"),
        ("two columns that disagree", "--perturbation"),
        ("duplicated genes", "--duplicates"),
        ("counts and logs mixed", "--scale"),
        ("gzipped", "gunzip"),
        ("context without control", "--context"),
        ("stored by columns, streamed", "tocsr"),
    ],
)
def test_message_offers_the_nearest_name_or_the_one_flag_needed(name: str, offered: str, tmp_path: Path) -> None:
    build, _ = HOSTILE_CASES[name]
    path, arguments = build(tmp_path)
    with pytest.raises(PerturbcastError) as caught:
        read(path, **arguments)
    assert offered in str(caught.value)


@pytest.mark.parametrize("name", ["cut in half", "NaN", "no control", "logged twice"])
def test_inspect_refuses_what_read_refuses(name: str, tmp_path: Path) -> None:
    build, expected = HOSTILE_CASES[name]
    path, arguments = build(tmp_path)
    with pytest.raises(expected):
        inspect(path, **arguments)


def test_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = written(tmp_path, screen_adata())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(UnreadableFile):
        read(path)


def test_nearest_names_are_offered_for_each_kind_of_name(tmp_path: Path) -> None:
    path = written(tmp_path, screen_adata(obs={"cell_line": "K562"}, layers={"counts": screen_adata().X}))
    with pytest.raises(UnknownColumn, match="'cell_line'"):
        read(path, context="cellline")
    with pytest.raises(NoMatrix, match="'counts'"):
        read(path, layer="cuonts")
    with pytest.raises(UnknownControl, match="'SPI1'"):
        read(path, control="SPI2")
    with pytest.raises(NoControl, match="--context none"):
        read(path, context="perturbation")
