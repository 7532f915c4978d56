"""The loop itself: steps, epochs, early stopping, checkpoints. State is `Position`, weights and optimiser; no more."""

import math
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from perturbcast._progress import Progress
from perturbcast.errors import TrainingDiverged
from perturbcast.training import checkpoint
from perturbcast.training.checkpoint import BEST, LAST, WEIGHTS, Position
from perturbcast.training.light_adam import optimiser_of
from perturbcast.training.loggers import make_loggers
from perturbcast.training.objective import JudgesItself, Objective, Sealed
from perturbcast.training.seeds import derived_seed, reseed

if TYPE_CHECKING:
    from perturbcast.training.engine import Task

CELLS = "cells"  # key of the number of cells among the sums of an epoch
LOSS = "loss"
SCORE = "score"  # a network's own, where it has one; it goes before the loss


class Loop:
    """One process's part in a training."""

    def __init__(self, fabric: Any, task: "Task") -> None:
        self.fabric, self.task = fabric, task
        raw = optimiser_of(task.plan, task.network.parameters())
        self.module, self.optimiser = fabric.setup(Objective(task.network), raw)
        self.raw_optimiser = raw
        self.optimiser.zero_grad(set_to_none=True)
        self.position = Position()
        self.best: dict[str, Tensor] = {}
        self.written_at = time.monotonic()
        self._resume()
        self.loggers = self._loggers()

    # ------------------------------------------------------------------------------------------------------ the whole
    def run(self) -> None:
        """Trains until a bound or patience is reached; leaves position and best weights on this object."""
        task = self.task
        total = task.plan.n_steps(len(task.train_cells))
        if not self.position.stopped:
            progress = task.progress if self.fabric.is_global_zero else Progress()
            steps = range(self.position.step, total)
            for step in progress.track(steps, label=task.label, total=len(steps)):
                self._step(step)
                if (step + 1) % self.per_epoch == 0 or step + 1 == total:
                    self._end_epoch(step, last=step + 1 == total)
                self._keep(force=bool(self.position.stopped))
                if self.position.stopped:
                    break
        for logger in self.loggers:
            logger.finalize("success")
        self.fabric.barrier()

    def _loggers(self) -> list[Any]:
        folder, names = self.task.options.folder, self.task.options.loggers
        if folder is None or not self.fabric.is_global_zero or self.position.stopped:
            return []
        return make_loggers(names, folder / "logs", first_step=self.position.step)

    @cached_property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        return self.task.plan.steps_per_epoch(len(self.task.train_cells))

    def _order(self, epoch: int) -> np.ndarray:
        """Training cells in the order of an epoch, a function of seed and epoch."""
        if getattr(self, "_ordered", (-1,))[0] != epoch:
            rng = np.random.default_rng(derived_seed(self.task.seed, "order", epoch))
            self._ordered = epoch, rng.permutation(self.task.train_cells)
        return self._ordered[1]

    # ------------------------------------------------------------------------------------------------------ one step
    def _step(self, step: int) -> None:
        epoch, place = divmod(step, self.per_epoch)
        size = self.task.plan.batch_size
        cells = self._order(epoch)[place * size : (place + 1) * size]
        terms = self._terms(cells, derived_seed(self.task.seed, "step", step))
        values = self._together(terms)
        self._check(values, step)
        self.fabric.backward(sum(terms.values()))
        self._clip(step)
        for group in self.raw_optimiser.param_groups:
            group["lr"] = self.task.plan.lr_in(epoch)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)  # not kept through the next way forward
        sums = self.position.sums
        for name, value in {**values, CELLS: 1.0}.items():
            sums[name] = sums.get(name, 0.0) + value * len(cells)
        self.position.step = step + 1

    def _terms(self, cells: np.ndarray, seed: int) -> dict[str, Tensor]:
        fabric = self.fabric
        batch = self.task.source.batch(cells, rank=fabric.global_rank, n_parts=fabric.world_size)
        reseed(seed, fabric.device)
        terms: dict[str, Tensor] = self.module(Sealed(batch.to(fabric.device)), seed)
        return terms

    def _together(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """Values of the terms for the whole batch, all processes together."""
        stacked = torch.stack([term.detach().double() for term in terms.values()])
        values = self.fabric.all_reduce(stacked, reduce_op="mean").tolist()
        return {**dict(zip(terms, values, strict=True)), LOSS: math.fsum(values)}

    def _check(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingDiverged(f"the term {name!r} is {value} at step {step} (epoch {step // self.per_epoch}).")
        first = self.position.first_loss
        if first is None:
            self.position.first_loss = values[LOSS]
        elif values[LOSS] > self.task.plan.blow_up * max(abs(first), 1.0):
            largest = max((name for name in values if name != LOSS), key=lambda name: values[name])
            raise TrainingDiverged(
                f"the loss rose from {first:.4g} to {values[LOSS]:.4g} at step {step}, most of it the term {largest!r}."
            )

    def _clip(self, step: int) -> None:
        """Clips gradients; TrainingDiverged, naming the parameter, where they are not finite."""
        plan = self.task.plan
        bound = math.inf if plan.clip_norm is None else plan.clip_norm
        norm = self.fabric.clip_gradients(self.module, self.optimiser, max_norm=bound, error_if_nonfinite=False)
        if not bool(torch.isfinite(norm)):
            parameters = self.task.network.named_parameters()
            broken = [name for name, p in parameters if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
            raise TrainingDiverged(f"the gradient of {', '.join(broken[:3])} is not finite at step {step}.")
        if plan.clip_value is not None:
            self.fabric.clip_gradients(self.module, self.optimiser, clip_val=plan.clip_value)

    # ----------------------------------------------------------------------------------------------------- one epoch
    def _end_epoch(self, step: int, *, last: bool) -> None:
        position, plan = self.position, self.task.plan
        epoch = step // self.per_epoch
        n_cells = position.sums.pop(CELLS)
        row = {"epoch": float(epoch), "step": float(step + 1)}
        row |= {f"train/{name}": value / n_cells for name, value in position.sums.items()}
        position.sums = {}
        if last or (epoch + 1) % plan.validate_every == 0:
            row |= {f"valid/{name}": value for name, value in self._validate().items()}
            self._judge(row.get(f"valid/{SCORE}", row.get(f"valid/{LOSS}", row[f"train/{LOSS}"])), epoch)
        if last and not position.stopped:
            position.stopped = "steps" if plan.max_steps == step + 1 else "epochs"
        position.history.append(row)
        for logger in self.loggers:
            logger.log_metrics(row, step=step + 1)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Terms over the validation cells, with noise that is the same at every epoch; empty without such cells."""
        cells, size = self.task.valid_cells, self.task.plan.batch_size
        total: dict[str, float] = {}
        self.module.eval()
        for number, start in enumerate(range(0, len(cells), size)):
            part = cells[start : start + size]
            values = self._together(self._terms(part, derived_seed(self.task.seed, "valid", number)))
            self._check(values, self.position.step)
            for name, value in values.items():
                total[name] = total.get(name, 0.0) + value * len(part) / len(cells)
        network = self.task.network
        own = network.validation_score(cells) if len(cells) and isinstance(network, JudgesItself) else None
        self.module.train()
        return total if own is None else total | {SCORE: own}

    def _judge(self, score: float, epoch: int) -> None:
        """Notes a new best, or that patience is at its end."""
        position, patience = self.position, self.task.plan.patience
        if position.best_loss is None or score < position.best_loss or not self.task.plan.keep_best:
            position.best_loss, position.best_epoch, position.waited = score, epoch, 0
            self.best = {name: t.detach().cpu().clone() for name, t in self.task.network.state_dict().items()}
            self._write(BEST, self.best)
            return
        position.waited += 1
        if patience is not None and position.waited >= patience:
            position.stopped = "patience"

    # --------------------------------------------------------------------------------------------------- checkpoints
    def _keep(self, *, force: bool) -> None:
        due = time.monotonic() - self.written_at >= self.task.options.checkpoint_seconds
        if due or force:
            self._write(LAST, self.task.network.state_dict(), checkpoint.optimiser_tensors(self.raw_optimiser))
            self.written_at = time.monotonic()

    def _write(self, name: str, weights: dict[str, Tensor], rest: dict[str, Tensor] | None = None) -> None:
        folder = self.task.options.folder
        if folder is None or not self.fabric.is_global_zero:
            return
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {WEIGHTS + key: tensor for key, tensor in weights.items()} | (rest or {})
        checkpoint.write(folder / name, self.position, tensors, identity=self.task.identity)

    def _resume(self) -> None:
        """Goes on where the checkpoint of the folder stands, if there is one."""
        folder = self.task.options.folder
        if folder is None or not (folder / LAST).exists():
            return
        self.position, tensors = checkpoint.read(folder / LAST, identity=self.task.identity)
        self.task.network.load_state_dict(checkpoint.weights_of(tensors))
        checkpoint.restore_optimiser(self.raw_optimiser, tensors)
        if self.position.best_loss is not None:
            _, tensors = checkpoint.read(folder / BEST, identity=self.task.identity)
            self.best = checkpoint.weights_of(tensors)
