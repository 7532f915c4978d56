"""What ends a training and which weights are kept: a network's own score, or none at all."""

from dataclasses import replace

import numpy as np
import torch
from toys import Toy, toy, toy_source

from perturbcast.training.engine import train
from perturbcast.training.plan import TrainingPlan

PLAN = TrainingPlan(max_epochs=8, batch_size=32, lr=1e-2, patience=None)
CELLS = {"train_cells": np.arange(150), "valid_cells": np.arange(150, 200)}


class Contrary(Toy):
    """A toy that finds itself better with every epoch up to the third, or leaves the judgement to the loss."""

    def __init__(self, scores):
        super().__init__()
        self.scores, self.asked = scores, []

    def validation_score(self, cells):
        """The next of the scores given."""
        self.asked.append((len(cells), self.training))
        return None if self.scores is None else self.scores[len(self.asked) - 1]


def contrary(scores):
    network = Contrary(scores)
    network.load_state_dict(toy().state_dict())
    return network


def test_own_score_goes_before_the_loss_and_is_asked_of_all_cells_left_out_without_noise():
    network = contrary([3.0, 2.0, 1.0, 5.0, 5.0, 5.0, 5.0, 5.0])
    found = train(network, toy_source(), **CELLS, plan=replace(PLAN, patience=2), seed=3)
    assert (found.best_epoch, found.best_loss, found.stopped) == (2, 1.0, "patience")
    assert network.asked == [(50, False)] * 5
    assert [row["valid/score"] for row in found.history] == [3.0, 2.0, 1.0, 5.0, 5.0]


def test_without_a_score_of_its_own_the_loss_decides():
    found = train(contrary(None), toy_source(), **CELLS, plan=PLAN, seed=3)
    usual = train(toy(), toy_source(), **CELLS, plan=PLAN, seed=3)
    assert (found.best_epoch, found.best_loss) == (usual.best_epoch, usual.best_loss)


def test_last_weights_are_kept_where_the_best_are_not_asked_for():
    network = contrary([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    found = train(network, toy_source(), **CELLS, plan=replace(PLAN, keep_best=False, patience=1), seed=3)
    assert (found.best_epoch, found.stopped) == (7, "epochs")
    for name, tensor in network.state_dict().items():
        assert torch.equal(found.weights[name], tensor)
