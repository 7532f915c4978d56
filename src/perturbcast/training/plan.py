"""What a training is: how long, how large the steps, when to stop; and what it runs on, which changes no result."""

import math
from dataclasses import dataclass
from pathlib import Path

from perturbcast.errors import BadOption, UnknownOption, did_you_mean

PRECISIONS = ("fp32", "bf16")
LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")


@dataclass(frozen=True)
class TrainingPlan:
    """How to train. Part of the identity of a result: the same plan, data and seed give the same numbers on CPU."""

    max_epochs: int = 500  # passes over the training cells
    max_steps: int | None = None  # the lower of the two bounds counts
    epoch_steps: int | None = None  # ends an epoch after as many steps, though cells are left: where a pass is long
    batch_size: int = 512  # cells per step, all processes together; spec 6
    lr: float = 3e-4  # Adam; spec 6
    lr_factor: float = 1.0  # on the learning rate, after every `lr_epochs` epochs
    lr_epochs: int = 1
    annealed: bool = False  # the learning rate also falls along half a cosine, over `max_epochs` to 0
    weight_decay: float = 1e-6  # spec 6
    decoupled: bool = False  # AdamW: the decay is not divided by the size of gradients
    clip_norm: float | None = 100.0  # of all gradients together; spec 6
    clip_value: float | None = None  # of each gradient, instead of the norm
    validate_every: int = 1  # epochs
    patience: int | None = 30  # validations without improvement; None never stops early
    keep_best: bool = True  # else the weights of the last step are the result, whatever validation says
    blow_up: float = 1e4  # times the size of the first loss: beyond it training is said to have diverged

    def n_steps(self, n_cells: int) -> int:
        """Steps until the first of the two bounds."""
        by_epochs = self.max_epochs * self.steps_per_epoch(n_cells)
        return by_epochs if self.max_steps is None else min(by_epochs, self.max_steps)

    def lr_in(self, epoch: int) -> float:
        """Learning rate of an epoch, the first of which is 0; a function of it alone, so resumed trainings agree."""
        share = (1 + math.cos(math.pi * epoch / self.max_epochs)) / 2 if self.annealed else 1.0
        return share * self.lr * self.lr_factor ** (epoch // self.lr_epochs)

    def steps_per_epoch(self, n_cells: int) -> int:
        """Batches in a pass, the last of which may be smaller; at most `epoch_steps`."""
        batches = -(-n_cells // self.batch_size)
        return batches if self.epoch_steps is None else min(batches, self.epoch_steps)


@dataclass(frozen=True)
class RunOptions:
    """What training runs on and leaves behind.

    With a `folder`, `last.safetensors` and `best.safetensors` are kept there and a training that was killed goes on
    where it stopped. `strategy` auto trains in this process on one device and starts one process per device otherwise;
    under torchrun or a cluster manager give `ddp` (or any other strategy of Lightning) and `n_nodes`.
    UnknownOption for a logger or precision that does not exist, BadOption for numbers out of range.
    """

    devices: int = 1
    n_nodes: int = 1
    accelerator: str = "cpu"  # cpu, cuda, mps, or auto: what there is
    strategy: str = "auto"
    precision: str = "fp32"  # or bf16: mixed, weights and sums stay in fp32
    folder: Path | None = None  # of checkpoints and logs; none are kept without
    checkpoint_seconds: float = 60.0  # between checkpoints; 0 writes one after every step
    loggers: tuple[str, ...] = ("csv",)  # of: csv, tensorboard, wandb, mlflow; into the folder

    def __post_init__(self) -> None:
        known = {"logger": LOGGERS, "precision": PRECISIONS}
        for what, name in [("precision", self.precision), *(("logger", logger) for logger in self.loggers)]:
            if name not in known[what]:
                raise UnknownOption(f"there is no {what} {name!r}. {did_you_mean(name, known[what])}")
        if min(self.devices, self.n_nodes) < 1 or self.checkpoint_seconds < 0:
            raise BadOption(
                f"devices={self.devices}, n_nodes={self.n_nodes}, checkpoint_seconds={self.checkpoint_seconds}: "
                "the first two are at least 1, the last at least 0."
            )
