"""Writes docs/ERRORS.md, the table of code, name, cause and remedy, from the tree in perturbcast.errors.

python scripts/error_table.py           # write it
python scripts/error_table.py --check   # exit status 1 if the file is not up to date
"""

import sys
from pathlib import Path

from perturbcast.errors import PerturbcastError

PACKAGE = "perturbcast.errors."
PAGE = Path(__file__).resolve().parents[1] / "docs" / "ERRORS.md"
HEAD = """# Errors

Every error has a stable code, which is never reused or renumbered. A message gives the fact, then the next step. The
command line prints it in one line on standard error and ends with the exit status of the table: 2 for input that
cannot be used, 1 for a defect of ours. In Python each is a class of `perturbcast.errors` under `PerturbcastError`, with
`code`, `fact`, `next_step` and `exit_status`.

This page is made by `python scripts/error_table.py` from the classes themselves; do not edit it.
"""


def classes(root: type[PerturbcastError] = PerturbcastError) -> list[type[PerturbcastError]]:
    """Every class of the tree, by code; classes that others derive elsewhere are not ours to list."""
    found = {root} if root.__module__.startswith(PACKAGE) else set()
    for child in root.__subclasses__():
        found.update(classes(child))
    return sorted(found, key=lambda error: error.code)


def page() -> str:
    """The whole page, one table per family."""
    families: dict[str, list[type[PerturbcastError]]] = {}
    for error in classes():
        families.setdefault(error.code[:2], []).append(error)
    return HEAD + "".join(_table(family) for family in families.values())


def _table(family: list[type[PerturbcastError]]) -> str:
    title = f"{family[0].code[:2]}: {_cause(family[0]).rstrip('.')}"
    rows = [f"| {e.code} | `{e.__name__}` | {_cause(e)} | {e.remedy} | {e.exit_status} |" for e in family]
    head = "| code | name | cause | what to do, unless the message says better | exit |\n|---|---|---|---|---|"
    return f"\n## {title}\n\n{head}\n" + "\n".join(rows) + "\n"


def _cause(error: type[PerturbcastError]) -> str:
    if error is PerturbcastError:
        return "The root of all errors, which is never raised itself."
    return " ".join((error.__doc__ or "").split()).replace("|", "\\|")


def main() -> int:
    """0 if the page is up to date or was written."""
    if "--check" in sys.argv[1:]:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
