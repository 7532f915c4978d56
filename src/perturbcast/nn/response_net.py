"""What networks from targets to mean responses share: what they are given, and the weighted squared error."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from perturbcast.nn.condition_rows import RowBatch


@dataclass(frozen=True)
class Rows:
    """Training conditions: nodes of their targets, what is to be predicted, and how much each counts."""

    slots: Int[np.ndarray, "row slot"]  # node of each target, -1 where free
    target: Float[np.ndarray, "row gene"]  # response, less what the model below it predicts
    weight: Float[np.ndarray, " row"]  # of the condition, by its cells; B-9
    gene_weight: Float[np.ndarray, " gene"]  # mean 1; B-9
    unit: float = 1.0  # ln units that 1 in `target` stands for
    train: Int[np.ndarray, " train"] | None = None  # rows that train; the others only stop training. None: all train


class Given(nn.Module):
    """Data as buffers: moved with the network and part of its identity, but not among the weights that are kept."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))


class ResponseNet(nn.Module, ABC):
    """A network from the nodes of targets to a response; sub-classes say how it responds and what it is penalised for.

    `given` holds arrays that belong to the data, such as features and edges of nodes. Genes are in the order of nodes.
    """

    def __init__(self, given: Mapping[str, np.ndarray], rows: Rows | None = None) -> None:
        super().__init__()
        arrays = dict(given)
        if rows is not None:
            arrays |= {
                "row_slots": rows.slots,
                "row_target": rows.target.astype(np.float32),
                "row_weight": rows.weight.astype(np.float32),
                "row_gene_weight": rows.gene_weight.astype(np.float32),
            }
        self.given = Given(arrays)

    def data(self, name: str) -> Tensor:
        """One of the arrays given, on the device of the network."""
        return self.given.get_buffer(name)

    @abstractmethod
    def respond(self, slots: Int[Tensor, "row slot"]) -> Float[Tensor, "row gene"]:
        """The response of each row of targets."""

    def penalties(self) -> dict[str, Float[Tensor, ""]]:
        """Further named terms of the loss, each already weighted; counted in training only."""
        return {}

    def misfit(
        self, predicted: Float[Tensor, "row gene"], target: Float[Tensor, "row gene"]
    ) -> dict[str, Float[Tensor, " row"]]:
        """Named errors of each row: the squared error (B-9), and what sub-classes add."""
        return {"response": ((predicted - target) ** 2 * self.data("row_gene_weight")).mean(dim=1)}

    def terms(self, batch: RowBatch, *, seed: int) -> dict[str, Tensor]:
        """Weighted means over the batch of the errors of its rows, and the penalties."""
        rows = batch.rows
        errors = self.misfit(self.respond(self.data("row_slots")[rows]), self.data("row_target")[rows])
        weight = self.data("row_weight")[rows]
        found = {name: batch.mean(weight * error) for name, error in errors.items()}
        return found | (self.penalties() if self.training else {})


def of_targets(states: Float[Tensor, "node state"], slots: Int[Tensor, "row slot"]) -> Float[Tensor, "row slot state"]:
    """The state of each target; zeros in free slots."""
    present = (slots >= 0).to(states.dtype)
    return states[slots.clamp(min=0)] * present[..., None]
