"""The training engine: the same numbers whatever interrupts or divides it, and coded errors where it cannot go on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import Toy, ToySource, toy, toy_source

from perturbcast._progress import Progress
from perturbcast.errors import (
    BadCheckpoint,
    NoDevice,
    NotEnoughTraining,
    OtherTraining,
    TrainingDiverged,
    UnknownOption,
)
from perturbcast.training.checkpoint import BEST, LAST
from perturbcast.training.engine import train
from perturbcast.training.plan import RunOptions, TrainingPlan
from perturbcast.training.seeds import derived_seed

PLAN = TrainingPlan(max_epochs=8, batch_size=32, lr=1e-2, patience=None)
CELLS = {"train_cells": np.arange(150), "valid_cells": np.arange(150, 200)}


def trained(network=None, *, plan=PLAN, seed=3, source=None, **rest):
    """A toy that was trained."""
    return train(network or toy(), source or toy_source(), **(CELLS | rest), plan=plan, seed=seed)


def equal(first, second):
    """Whether two trainings ended with the same bits."""
    same = all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    return same and first.history == second.history and first.best_epoch == second.best_epoch


def test_same_seed_gives_the_same_bits_and_another_seed_does_not():
    assert equal(trained(), trained())
    assert not equal(trained(), trained(seed=4))


def test_training_lowers_the_loss_and_keeps_the_best_weights():
    found = trained()
    valid = [row["valid/loss"] for row in found.history]
    assert valid[-1] < 0.5 * valid[0]
    assert found.best_loss == min(valid)
    assert found.best_epoch == int(np.argmin(valid))
    assert found.stopped == "epochs"
    assert found.n_steps == 8 * 5
    assert set(found.history[0]) >= {"train/error", "train/penalty", "train/loss", "valid/error", "epoch", "step"}


def test_global_random_states_and_environment_are_left_alone():
    before = torch.get_rng_state(), repr(np.random.get_state()), dict(os.environ)  # noqa: NPY002
    trained()
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (repr(np.random.get_state()), dict(os.environ))  # noqa: NPY002


def test_global_random_state_does_not_matter():
    first = trained()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert equal(first, trained())


def test_last_batch_counts_by_its_cells():
    whole = trained(plan=TrainingPlan(max_epochs=1, batch_size=150, lr=1e-12, patience=None))
    parts = trained(plan=TrainingPlan(max_epochs=1, batch_size=40, lr=1e-12, patience=None))
    # the noise differs, its size of 0.1 does not
    assert parts.history[0]["train/error"] == pytest.approx(whole.history[0]["train/error"], rel=0.02)


def test_patience_stops_and_the_best_epoch_is_kept():
    plan = TrainingPlan(max_epochs=500, batch_size=150, lr=0.5, patience=3)
    found = trained(plan=plan)
    assert found.stopped == "patience"
    assert len(found.history) == found.best_epoch + 1 + 3


def test_steps_bound_training_also_within_an_epoch():
    found = trained(plan=TrainingPlan(max_epochs=8, max_steps=7, batch_size=32))
    assert (found.n_steps, found.stopped, len(found.history)) == (7, "steps", 2)


def test_without_validation_cells_the_training_loss_decides():
    found = trained(valid_cells=np.zeros(0, dtype=np.int64))
    assert found.best_loss == min(row["train/loss"] for row in found.history)


def test_gradients_are_clipped_by_norm_and_by_value():
    def step(**clip):
        network = toy()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        trained(network, plan=TrainingPlan(max_steps=1, lr=1e-2, weight_decay=0.0, **clip))
        return {name: (tensor - before[name]).abs().max().item() for name, tensor in network.state_dict().items()}

    free, by_norm = step(clip_norm=None), step(clip_norm=1e-12)
    by_value = step(clip_norm=None, clip_value=1e-12)
    # Adam moves by the learning rate unless gradients vanish beside its epsilon of 1e-8
    assert max(free.values()) == pytest.approx(1e-2, rel=1e-3)
    assert max(by_norm.values()) < 1e-4
    assert max(by_value.values()) < 1e-4


class Watched(Toy):
    """Notes at every step whether there are gradients of one before."""

    def terms(self, batch, *, seed):
        """The terms of the toy."""
        self.seen = [*getattr(self, "seen", []), *(weights.grad is None for weights in self.parameters())]
        return super().terms(batch, seed=seed)


def test_gradients_do_not_outlive_their_step():
    network = Watched()
    for weights in network.parameters():
        weights.grad = torch.ones_like(weights)
    trained(network, plan=TrainingPlan(max_steps=3, batch_size=32))
    assert len(network.seen) > 3 * 4
    assert all(network.seen)
    assert all(weights.grad is None for weights in network.parameters())


def test_progress_is_told_of_every_step_and_of_their_number():
    class Counting(Progress):
        def track(self, items, *, label, total=None):
            self.label, self.total, self.seen = label, total, 0
            for item in items:
                self.seen += 1
                yield item

    progress = Counting()
    train(toy(), toy_source(), **CELLS, plan=PLAN, progress=progress, label="training toy")
    assert (progress.label, progress.total, progress.seen) == ("training toy", 40, 40)


def test_nothing_larger_than_a_batch_is_ever_asked_for():
    source = toy_source()
    trained(source=source)
    assert source.largest == 32


def test_memory_of_training_is_that_of_a_batch_not_of_the_screen():
    import tracemalloc

    def peak(n_cells):
        source = ToySource(np.zeros((n_cells, 6), dtype=np.float32))
        tracemalloc.start()
        train(
            toy(), source, train_cells=np.arange(n_cells), plan=TrainingPlan(max_steps=2, batch_size=64, patience=None)
        )
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    # 100,000 more cells add their order (8 bytes, in a few copies), not their values (24 bytes and more)
    assert peak(100_100) - peak(100) < 100_000 * 8 * 6


def test_mixed_precision_stays_near_single_precision():
    plan = TrainingPlan(max_epochs=8, batch_size=32, lr=1e-2, patience=None)
    short = trained(plan=plan, options=RunOptions(precision="bf16"))
    assert short.best_loss == pytest.approx(trained(plan=plan).best_loss, rel=0.05)
    assert all(tensor.dtype == torch.float32 for tensor in short.weights.values())


# ------------------------------------------------------------------------------------------------- what goes wrong
def test_nan_names_term_and_step_and_leaves_the_last_good_checkpoint(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(TrainingDiverged, match=r"^E511 .*'error' is nan at step 7 \(epoch 1\)"):
        trained(toy(poison_at=7), options=RunOptions(folder=folder, checkpoint_seconds=0.0))
    good = trained(toy(), plan=TrainingPlan(max_epochs=8, max_steps=7, batch_size=32, lr=1e-2, patience=None))
    from safetensors.torch import load_file

    left = load_file(folder / LAST)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in left.values())
    assert good.n_steps == 7


def test_infinite_gradient_names_the_parameter():
    class Broken(Toy):
        def terms(self, batch, *, seed):
            terms = super().terms(batch, seed=seed)
            zero = (self.encode.bias - self.encode.bias.detach()).sum()
            return terms | {"root": torch.sqrt(zero)}  # 0, with an infinite slope

    with pytest.raises(TrainingDiverged, match=r"gradient of encode\.bias is not finite at step 0"):
        trained(Broken())


def test_loss_out_of_all_bounds_is_divergence():
    plan = TrainingPlan(max_epochs=50, batch_size=32, lr=1e6, clip_norm=None, patience=None)
    with pytest.raises(TrainingDiverged, match=r"the loss rose from .* most of it the term 'error'"):
        trained(plan=plan)


def test_no_cells_is_refused():
    with pytest.raises(NotEnoughTraining):
        trained(train_cells=np.zeros(0, dtype=np.int64))


def test_missing_accelerator_and_unknown_logger_are_coded(tmp_path):
    if not torch.cuda.is_available():
        with pytest.raises(NoDevice, match="E514"):
            trained(options=RunOptions(accelerator="cuda"))
    with pytest.raises(UnknownOption, match="Nearest: 'csv'"):
        trained(options=RunOptions(folder=tmp_path / "run", loggers=("cvs",)))


def test_logger_of_a_package_that_is_missing_is_coded(tmp_path):
    import importlib.util

    missing = [name for name in ("wandb", "mlflow") if importlib.util.find_spec(name) is None]
    if not missing:
        pytest.skip("wandb and mlflow are both installed")
    with pytest.raises(NoDevice, match=f"pip install {missing[0]}"):
        trained(options=RunOptions(folder=tmp_path / "run", loggers=(missing[0],)))


# -------------------------------------------------------------------------------------------------- what is left behind
def test_csv_log_has_a_row_per_epoch(tmp_path):
    import pandas as pd

    found = trained(options=RunOptions(folder=tmp_path / "run"))
    (path,) = (tmp_path / "run").rglob("metrics.csv")
    table = pd.read_csv(path)
    np.testing.assert_allclose(table["valid/loss"], [row["valid/loss"] for row in found.history], rtol=1e-6)


def test_finished_training_is_not_repeated(tmp_path):
    options = RunOptions(folder=tmp_path / "run")
    first = trained(options=options)
    source = toy_source()
    assert equal(first, trained(source=source, options=options))
    assert source.largest == 0


def test_checkpoint_holds_no_pickle_and_says_where_training_stood(tmp_path):
    import json

    from safetensors import safe_open

    trained(options=RunOptions(folder=tmp_path / "run"))
    with safe_open(tmp_path / "run" / LAST, framework="pt") as file:
        header = json.loads(file.metadata()["perturbcast"])
        names = set(file.keys())
    assert header["position"]["step"] == 40
    assert {"weights.encode.weight", "optimiser.0.exp_avg", "optimiser.0.exp_avg_sq", "optimiser.0.step"} <= names
    pickled = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
    assert not [
        path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.read_bytes().startswith(pickled)
    ]


def test_folder_of_another_training_is_refused(tmp_path):
    options = RunOptions(folder=tmp_path / "run")
    trained(options=options)
    for other in ({"seed": 4}, {"plan": TrainingPlan(max_epochs=9, batch_size=32)}, {"network": toy(seed=1)}):
        with pytest.raises(OtherTraining):
            trained(**other, options=options)


@pytest.mark.parametrize("name", [LAST, BEST])
def test_damaged_checkpoint_is_refused(tmp_path, name):
    options = RunOptions(folder=tmp_path / "run")
    trained(options=options)
    path = tmp_path / "run" / name
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadCheckpoint):
        trained(options=options)


@pytest.mark.parametrize("stop_at", [3, 5, 12, 39])
def test_training_interrupted_anywhere_goes_on_to_the_same_bits(tmp_path, stop_at):
    class Interrupting(Progress):
        def track(self, items, *, label, total=None):
            for number, item in enumerate(items):
                if number == stop_at:
                    raise KeyboardInterrupt
                yield item

    options = RunOptions(folder=tmp_path / "run", checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        trained(options=options, progress=Interrupting())
    assert equal(trained(), trained(options=options))


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import numpy as np, torch, time
torch.set_num_threads(1)
from toys import toy, toy_source
from perturbcast._progress import Progress
from perturbcast.training.engine import train
from perturbcast.training.plan import RunOptions, TrainingPlan

class Slow(Progress):
    def track(self, items, *, label, total=None):
        for item in items:
            print(item, flush=True)
            time.sleep(0.02)
            yield item

train(toy(), toy_source(), train_cells=np.arange(150), valid_cells=np.arange(150, 200), seed=3, progress=Slow(),
      plan=TrainingPlan(max_epochs=8, batch_size=32, lr=1e-2, patience=None),
      options=RunOptions(folder=Path({folder!r}), checkpoint_seconds=0.0))
"""


def test_killed_process_goes_on_to_the_same_bits(tmp_path):
    folder = tmp_path / "run"
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 17:  # in the middle of an epoch
            pass
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (folder / LAST).exists()
    assert equal(trained(), trained(options=RunOptions(folder=folder)))


@pytest.mark.slow
def test_two_processes_give_the_loss_curve_of_one():
    one = trained()
    two = trained(options=RunOptions(devices=2))
    for name in ("train/loss", "valid/loss", "train/error"):
        np.testing.assert_allclose(
            [row[name] for row in two.history], [row[name] for row in one.history], rtol=1e-4, err_msg=name
        )
    assert two.stopped == one.stopped


def test_seeds_of_different_purposes_differ_and_are_stable():
    assert derived_seed(0, "step", 1) != derived_seed(0, "step", 2) != derived_seed(1, "step", 2)
    assert derived_seed(0, "step", 1) == derived_seed(0, "step", 1) < 2**63


@pytest.mark.slow
def test_divergence_in_two_processes_is_the_same_coded_error():
    with pytest.raises(TrainingDiverged, match=r"'error' is nan at step 2"):
        trained(toy(poison_at=2), options=RunOptions(devices=2))


def test_learning_rate_falls_by_its_factor_after_every_few_epochs():
    plan = TrainingPlan(lr=1e-2, lr_factor=0.5, lr_epochs=2)
    assert [plan.lr_in(epoch) for epoch in range(5)] == [1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3]


def test_training_takes_the_steps_that_the_schedule_says():
    networks = [toy() for _ in range(3)]
    for network, epochs, factor in zip(networks, (1, 4, 4), (1.0, 1e-12, 1.0), strict=True):
        trained(network, plan=TrainingPlan(max_epochs=epochs, batch_size=32, lr=1e-2, lr_factor=factor, patience=None))
    one, stopped, on = [torch.cat([p.detach().flatten() for p in network.parameters()]) for network in networks]
    assert torch.allclose(one, stopped, atol=1e-9)
    assert not torch.allclose(one, on, atol=1e-4)
