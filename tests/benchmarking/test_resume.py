"""A benchmark that was stopped at any moment goes on where it stopped, and ends with the same tables."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runs import StoppedAfter, contents, run_small

from perturbcast.data.responses import ResponseTable


@pytest.fixture(scope="module")
def whole(responses: ResponseTable, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What an undisturbed run leaves."""
    folder = tmp_path_factory.mktemp("whole")
    run_small(responses, folder)
    return contents(folder)


@pytest.mark.parametrize("n_done", [1, 9])
def test_an_interrupted_run_repeats_only_what_was_unfinished(
    n_done: int, whole: dict, responses: ResponseTable, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_small(responses, tmp_path, progress=StoppedAfter(n_done))
    assert len(list((tmp_path / "parts").glob("*.parquet"))) == n_done
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    found = run_small(responses, tmp_path)
    assert found.run["n_tasks_this_time"] == found.run["n_tasks"] - n_done
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert contents(tmp_path) == whole


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_killed_at_a_random_moment_ends_with_the_same_tables(
    seed: int, whole: dict, responses: ResponseTable, tmp_path: Path
) -> None:
    generator = np.random.default_rng(seed)
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(target=run_small, args=(responses, tmp_path))
        process.start()
        time.sleep(generator.uniform(0.05, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
    run_small(responses, tmp_path)
    assert contents(tmp_path) == whole
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


def test_several_processes_give_the_tables_of_one(whole: dict, responses: ResponseTable, tmp_path: Path) -> None:
    run_small(responses, tmp_path, jobs=2)
    assert contents(tmp_path) == whole


SCRIPT = """
import signal
import sys
from perturbcast.benchmarking.run import benchmark
from perturbcast.data.simulate import simulate
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what runs behind a shell
    screen = simulate(n_cells=300, n_genes=60, n_targets=12, n_doubles=8, seed=0).screen
    benchmark(screen, models=["additive"], splits=["singles", "cells"], folds=3, metrics_profile="core",
              out=sys.argv[1], jobs=int(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_program_killed_again_and_again_ends_with_the_same_tables(jobs: int, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    subprocess.run([*command, str(tmp_path / "whole"), "1"], check=True)
    generator = np.random.default_rng(jobs)
    ends = []
    for _ in range(4):
        with subprocess.Popen([*command, str(tmp_path / "out"), str(jobs)], stderr=subprocess.DEVNULL) as process:
            _wait_for_parts(tmp_path / "out", process, n_more=int(generator.integers(0, 5)))
            time.sleep(generator.uniform(0.0, 0.1))
            process.kill()
        ends.append(process.returncode)
    assert set(ends) <= {-signal.SIGKILL, 0}  # on a quick machine the last one may be done before it is killed
    assert ends.count(-signal.SIGKILL) >= 2
    subprocess.run([*command, str(tmp_path / "out"), str(jobs)], check=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_leaves_what_is_finished(tmp_path: Path) -> None:
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(out), "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        _wait_for_parts(out, process, n_more=2)
        os.killpg(process.pid, signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert "KeyboardInterrupt" in error
    assert len(list(out.glob("parts/*.parquet"))) >= 2
    assert not (out / "scores.parquet").exists()


@pytest.mark.slow
def test_a_lost_process_is_a_coded_error(tmp_path: Path) -> None:
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, str(script), str(out), "2"], stderr=subprocess.PIPE, text=True) as process:
        _wait_for_parts(out, process, n_more=1)
        children = [int(child) for child in _children(process.pid)]
        os.kill(children[-1], signal.SIGKILL)
        error = process.communicate(timeout=60)[1]
    assert "E704 ProcessLost" in error


def _children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def _wait_for_parts(folder: Path, process: subprocess.Popen, *, n_more: int) -> None:
    """Until that many more parts are finished than when the process started."""
    before = len(list(folder.glob("parts/*.parquet")))
    while process.poll() is None and len(list(folder.glob("parts/*.parquet"))) < before + n_more:
        time.sleep(0.01)


@pytest.mark.slow
def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, str(script), str(out), "2"], stderr=subprocess.DEVNULL) as process:
        _wait_for_parts(out, process, n_more=1)
        children = _children(process.pid)
        process.kill()
    assert len(children) >= 2
    for _ in range(300):
        alive = [child for child in children if Path(f"/proc/{child}").exists() and not _is_zombie(child)]
        if not alive:
            break
        time.sleep(0.1)
    assert alive == []


def _is_zombie(process: str) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
