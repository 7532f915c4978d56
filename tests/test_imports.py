"""Imports run downward only, and starting up stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "perturbcast"
FLOORS = {
    "errors": 0,
    "_files": 0,
    "_types": 0,
    "_progress": 0,
    "data": 1,
    "genes": 1,
    "networks": 1,
    "metrics": 2,
    "nn": 2,
    "training": 2,
    "models": 3,
    "benchmarking": 4,
    "report": 5,
    "cli": 6,
    "cli_clean": 6,
    "cli_explain": 6,
    "cli_efficiency": 6,
    "cli_genes": 6,
    "cli_network": 6,
    "cli_options": 6,
    "cli_studies": 6,
    "demo": 6,
}
SIBLINGS_ALLOWED = {
    ("_files", "errors"),
    ("genes", "data"),
    ("networks", "data"),
    ("networks", "genes"),
    ("cli", "demo"),
    ("cli", "cli_options"),
    ("cli", "cli_clean"),
    ("cli", "cli_explain"),
    ("cli", "cli_genes"),
    ("cli", "cli_network"),
    ("cli", "cli_efficiency"),
    ("cli_efficiency", "cli_options"),
    ("cli_clean", "cli_options"),
    ("cli_explain", "cli_options"),
    ("cli_genes", "cli_options"),
    ("cli_network", "cli_options"),
    ("cli", "cli_studies"),
    ("cli_studies", "cli_options"),
}


def part_of(module: str) -> str:
    """The floor's part that a dotted module name belongs to."""
    return module.split(".")[1] if "." in module else ""


def imported_parts(path: Path) -> set[str]:
    """Parts of perturbcast that a file imports anywhere, also inside functions."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
        parts |= {part_of(module) for module in modules if module.startswith("perturbcast.")}
    return parts


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward_only(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for part in imported_parts(path) - {own}:
        allowed = FLOORS[part] < FLOORS[own] or (own, part) in SIBLINGS_ALLOWED
        assert allowed, f"{own} (floor {FLOORS[own]}) imports {part} (floor {FLOORS[part]})"


def loaded_after(code: str) -> set[str]:
    """Top-level modules loaded by a fresh interpreter that runs `code`."""
    code += "\nimport sys; print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


HEAVY = {"torch", "scanpy", "anndata", "matplotlib", "sklearn", "scipy", "pandas", "numpy", "illico", "pyarrow"}


@pytest.mark.parametrize("code", ["import perturbcast", "import perturbcast.cli"])
def test_importing_the_package_or_its_command_line_loads_nothing_heavy(code):
    assert not loaded_after(code) & HEAVY


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['perturbcast', '--help']\n"
        "import perturbcast.cli\n"
        "try:\n    perturbcast.cli.main()\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    assert not loaded_after(code) & HEAVY


def test_importing_leaves_the_random_state_and_warning_filters_alone():
    code = (
        "import warnings, numpy as np, scipy.sparse, pandas, jaxtyping\n"
        "before = (str(np.random.get_state()), list(warnings.filters))\n"
        "import perturbcast.cli, perturbcast.models.registry, perturbcast.metrics.base\n"
        "assert before == (str(np.random.get_state()), list(warnings.filters))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
