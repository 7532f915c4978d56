"""Training on one CPU without Lightning and torch's compiler: the same bits, and neither is imported."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy, toy_source

from perturbcast.training import engine
from perturbcast.training.light_adam import optimiser_of
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


@pytest.mark.parametrize(("decoupled", "kind"), [(False, torch.optim.Adam), (True, torch.optim.AdamW)])
def test_steps_are_those_of_torch_and_so_is_a_state_put_back(decoupled, kind):
    plan = TrainingPlan(lr=0.1, weight_decay=0.2, decoupled=decoupled)
    found = []
    for make in (lambda p: optimiser_of(plan, p), lambda p: kind(p, lr=0.1, weight_decay=0.2, fused=True)):
        weights = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 5))
        optimiser = make([weights])
        for _ in range(3):
            optimiser.zero_grad()
            (weights**3).sum().backward()
            optimiser.step()
            state = optimiser.state_dict()
            optimiser = make([weights])
            optimiser.load_state_dict(state)
        found.append(weights.detach().clone())
    assert torch.equal(*found)


def test_training_imports_neither():
    lines = (
        "import sys, numpy as np",
        "from toys import toy, toy_source",
        "from perturbcast.training.engine import train",
        "train(toy(), toy_source(), train_cells=np.arange(20))",
        "assert not [name for name in sys.modules if 'lightning' in name or name == 'torch._dynamo']",
    )
    folder = Path(__file__).parent
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=folder, check=True, timeout=120)


def test_seeding_the_cpu_gives_the_stream_of_torch():
    reseed(7, torch.device("cpu"))
    ours = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(ours, torch.rand(3))
