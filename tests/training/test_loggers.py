"""Loggers of other packages: what a fit leaves behind, and that nothing goes to a server."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from perturbcast.cli import run
from perturbcast.data.simulate import simulate

SMALL = ["n_latent=4", "encoder_width=16", "decoder_width=16", "n_particles=2", "n_averaged=32", "batch_size=64"]
FIT = ["--model", "cpa-vae", "--epochs", "2", *(word for field in SMALL for word in ("--set", field))]


def needs(*packages: str):
    """Skips a test where a package is not installed, and says which."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """A small simulated screen."""
    folder = tmp_path_factory.mktemp("logged") / "world"
    simulate(n_cells=400, n_genes=30, n_targets=6, n_doubles=2, seed=3).write(folder)
    return folder / "screen.h5ad"


def logged(screen: Path, folder: Path, logger: str) -> Path:
    """The folder of logs of a fit."""
    words = [*FIT, "--checkpoints", str(folder), "--loggers", f"csv,{logger}", "--out", str(folder / "model")]
    assert run(["fit", str(screen), *words]) == 0
    assert not [name for name in os.environ if name.startswith(("WANDB", "MLFLOW"))]
    return folder / "logs"


def losses(logs: Path) -> list[float]:
    """Validation losses by the CSV logger."""
    import pandas as pd

    (path,) = (logs / "csv").rglob("metrics.csv")
    return list(pd.read_csv(path)["valid/loss"])


@needs("tensorboard")
def test_tensorboard_has_the_losses_of_every_epoch(screen, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = logged(screen, tmp_path, "tensorboard")
    events = EventAccumulator(str(logs / "tensorboard" / "from-step-0")).Reload()
    assert [entry.value for entry in events.Scalars("valid/loss")] == pytest.approx(losses(logs), rel=1e-5)


@needs("wandb")
def test_wandb_writes_an_offline_run(screen, tmp_path):
    logs = logged(screen, tmp_path, "wandb")
    (path,) = (logs / "wandb" / "from-step-0").rglob("run-*.wandb")
    content = path.read_bytes()
    assert all(name in content for name in (b"valid/loss", b"train/reconstruction"))
    assert "offline-run" in path.parent.name


@needs("mlflow")
def test_mlflow_has_the_losses_of_every_epoch_in_a_store_of_files(screen, tmp_path):
    logs = logged(screen, tmp_path, "mlflow")
    (path,) = (logs / "mlflow").rglob("metrics/valid/loss")
    assert [float(line.split()[1]) for line in path.read_text().splitlines()] == pytest.approx(losses(logs), rel=1e-5)
    (meta,) = (logs / "mlflow").rglob("*/*/meta.yaml")
    assert "status: 3" in meta.read_text()  # finished


@pytest.mark.slow
@needs("tensorboard", "wandb", "mlflow")
def test_no_logger_contacts_a_server(screen, tmp_path):
    """Every server would be reached through a proxy that is ours and counts who calls."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        through = {key: address for name in names for key in (name, name.lower())}
        hidden = ("no_proxy", "pytest_current_test", "ci")  # under which some packages would hold back
        kept = {name: value for name, value in os.environ.items() if name.lower() not in hidden}
        command = [sys.executable, "-m", "perturbcast.cli", "fit", str(screen), *FIT, "--out", str(tmp_path / "model")]
        command += ["--checkpoints", str(tmp_path / "run"), "--loggers", "tensorboard,wandb,mlflow"]
        done = subprocess.run(command, env=kept | through, capture_output=True, text=True, check=False, timeout=90)
        assert done.returncode == 0, done.stderr
        proxy.settimeout(1.0)
        with pytest.raises(TimeoutError):
            proxy.accept()
    assert {path.name for path in (tmp_path / "run" / "logs").iterdir()} == {"tensorboard", "wandb", "mlflow"}
