"""Every command and every example of the README is run as it stands, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
MAKE, SHELL = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def run(command: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    """A shell command with the command line of this environment on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, shell=True, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


def test_the_commands_for_a_screen_run_in_order_and_leave_what_they_promise(tmp_path):
    for line in SHELL.strip().splitlines():
        done = run(line, folder=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    for name in ("scores.parquet", "summary.parquet", "run.json", "report.html", "predictions"):
        assert (tmp_path / "benchmark" / name).exists(), name
    assert (tmp_path / "pairs.h5ad").exists()


@pytest.mark.parametrize("source", PYTHON)
def test_the_python_examples_run(source, tmp_path):
    (tmp_path / "example.py").write_text(source)
    done = run(f"{sys.executable} example.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_two_make_commands_are_targets_that_do_what_the_readme_says():
    targets = [line.split("#")[0].split()[1] for line in MAKE.strip().splitlines()]
    assert targets == ["demo", "test"]
    for target, expected in zip(targets, ("perturbcast demo", "pytest"), strict=True):
        plan = run(f"make -n {target}", folder=ROOT)
        assert plan.returncode == 0
        assert expected in plan.stdout


def test_every_file_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []
