"""Training on one CPU without Lightning: the same bits, and nothing of Lightning imported."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy, toy_source

from perturbcast.training import engine
from perturbcast.training.own_fabric import own_fabric
from perturbcast.training.plan import RunOptions, TrainingPlan
from perturbcast.training.seeds import reseed

PLAN = TrainingPlan(max_epochs=3, batch_size=32, lr=1e-2, clip_norm=0.5, clip_value=0.1, patience=None)


def test_numbers_are_those_of_lightning_bit_by_bit(monkeypatch):
    def trained():
        cells = {"train_cells": np.arange(150), "valid_cells": np.arange(150, 200)}
        return engine.train(toy(), toy_source(), **cells, plan=PLAN, seed=3)

    ours = trained()
    monkeypatch.setattr(engine, "fabric_of", lambda options: own_fabric(options, strategy="auto"))
    theirs = trained()
    assert ours.history == theirs.history
    assert all(torch.equal(ours.weights[name], theirs.weights[name]) for name in ours.weights)


@pytest.mark.parametrize(
    ("options", "alone"),
    [
        (RunOptions(), True),
        (RunOptions(devices=2), False),
        (RunOptions(precision="bf16"), False),
        (RunOptions(strategy="ddp"), False),
        (RunOptions(accelerator="auto"), False),
    ],
)
def test_lightning_is_for_all_that_is_more_than_one_cpu(options, alone):
    assert engine.is_one_cpu(options) is alone


def test_training_imports_nothing_of_lightning():
    lines = (
        "import sys, numpy as np",
        "from toys import toy, toy_source",
        "from perturbcast.training.engine import train",
        "train(toy(), toy_source(), train_cells=np.arange(20))",
        "assert not [name for name in sys.modules if 'lightning' in name]",
    )
    folder = Path(__file__).parent
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=folder, check=True, timeout=120)


def test_seeding_the_cpu_gives_the_stream_of_torch():
    reseed(7, torch.device("cpu"))
    ours = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(ours, torch.rand(3))
