"""The error tree: stable codes, a cause and a remedy each, one-line messages, and a docs table that is up to date."""

import copy
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbcast import errors
from perturbcast.errors import PerturbcastError, UnknownModel, did_you_mean, nearest

ROOT = Path(__file__).resolve().parents[1]


def script() -> ModuleType:
    """The script that makes the table."""
    spec = importlib.util.spec_from_file_location("error_table", ROOT / "scripts" / "error_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_code_is_used_once_and_has_its_form() -> None:
    codes = [error.code for error in script().classes()]
    assert len(codes) == len(set(codes)) > 60
    assert all(re.fullmatch(r"E\d{3}", code) for code in codes)


@pytest.mark.parametrize("error", script().classes(), ids=lambda error: error.code)
def test_every_error_says_its_cause_its_remedy_and_belongs_to_the_family_of_its_code(
    error: type[PerturbcastError],
) -> None:
    assert error.__doc__
    assert error.__doc__.strip().endswith(".")
    if error is PerturbcastError:
        return
    assert error.remedy.endswith(".")
    parent = error.__mro__[1]
    assert parent is PerturbcastError or parent.code == error.code[:2] + "00"
    assert error.exit_status == (1 if error.code.startswith("E0") else 2)


def test_table_in_the_docs_is_what_the_tree_gives() -> None:
    table = script()
    assert table.PAGE.read_text(encoding="utf-8") == table.page(), "run: python scripts/error_table.py"
    rows = re.findall(r"^\| (E\d{3}) \|", table.PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [error.code for error in script().classes()]


def test_every_error_is_a_name_of_the_package() -> None:
    for error in script().classes():
        assert getattr(errors, error.__name__) is error


@given(fact=st.text(), step=st.one_of(st.none(), st.just("Do that.")))
def test_message_is_one_line_whatever_the_fact_holds(fact: str, step: str | None) -> None:
    error = UnknownModel(fact, step)
    assert len(str(error).splitlines()) <= 1
    assert str(error).startswith("E501 UnknownModel:")
    assert str(error).endswith(step or UnknownModel.remedy)


def test_copied_error_is_equal_in_code_fact_and_next_step() -> None:
    error = UnknownModel("No model 'x'.", "Use mean.")
    twin = copy.copy(error)
    assert (type(twin), twin.fact, twin.next_step, str(twin)) == (UnknownModel, error.fact, error.next_step, str(error))


def test_nearest_names_are_found_without_regard_to_case() -> None:
    assert nearest("Perturbaton", ["perturbation", "batch"]) == ["perturbation"]
    assert did_you_mean("tp53X", ["TP53", "MYC"]) == "Nearest: 'TP53'."
    assert did_you_mean("zzz", ["b", "a"]) == "Known: 'a', 'b'."
    assert did_you_mean("zzz", [f"name{n:02}" for n in range(20)]).endswith("'name11', ...")
