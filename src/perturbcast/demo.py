"""The demonstration: a simulated screen with everything known, baselines and three models on it, and a report."""

from collections.abc import Callable
from pathlib import Path

from perturbcast._progress import Progress

SPLITS = ("singles", "doubles")
MODELS = ("baselines", "spectral-ridge", "pair-ridge", "gpo-vae")
SHORT = {  # a training of seconds, for a world of a few thousand cells
    "n_latent": 10,
    "encoder_width": 64,
    "decoder_width": 64,
    "n_particles": 2,
    "n_averaged": 64,
    "batch_size": 256,
    "max_steps": 150,
    "max_epochs": 1000,
    "patience": None,
}


def run_demo(
    out: Path, *, seed: int = 0, jobs: int = 1, progress: Progress | None = None, say: Callable[[str], object] = print
) -> Path:
    """The path of `report.html`, after simulating the default world into `out/world` and benchmarking models on it.

    GPO-VAE is trained for 150 steps only: enough for its network, not for its best.

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
    say("Benchmarking every baseline, two ridges on gene knowledge and a short GPO-VAE on held-out perturbations.")
    done = benchmark(
        [world_folder / "screen.h5ad"],
        models=list(MODELS),
        splits=list(SPLITS),
        seeds=1,
        out=out,
        knowledge=[world_folder],
        fields={f"gpo-vae.{name}": value for name, value in SHORT.items()},
        reading={"name": "simulated screen"},
        jobs=jobs,
        progress=progress,
        say=say,
    )
    return build_report(done.folder)
