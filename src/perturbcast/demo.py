"""The demonstration: a simulated screen with everything known, the baselines on it, and a report."""

from collections.abc import Callable
from pathlib import Path

from perturbcast._progress import Progress

SPLITS = ("singles", "doubles")


def run_demo(
    out: Path, *, seed: int = 0, jobs: int = 1, progress: Progress | None = None, say: Callable[[str], object] = print
) -> Path:
    """The path of `report.html`, after simulating the default world into `out/world` and benchmarking the baselines.

    Repeating it resumes what was unfinished. Raises OtherRun if `out` holds another benchmark.
    """
    from perturbcast.benchmarking.run import benchmark
    from perturbcast.data.simulate import simulate
    from perturbcast.report.build import build_report

    world_folder = out / "world"
    if not (world_folder / "screen.h5ad").exists():
        say("Simulating a CRISPRi screen: a network, its knock-downs, singles and doubles.")
        out.mkdir(parents=True, exist_ok=True)
        simulate(seed=seed).write(world_folder)
    say("Benchmarking every baseline on held-out single and double perturbations.")
    done = benchmark(
        [world_folder / "screen.h5ad"],
        models=["baselines"],
        splits=list(SPLITS),
        seeds=1,
        out=out,
        knowledge=[world_folder],
        reading={"name": "simulated screen"},
        jobs=jobs,
        progress=progress,
        say=say,
    )
    return build_report(done.folder)
