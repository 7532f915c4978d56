"""What models share that learn mean responses of conditions from what is known of their targets.

An ensemble of networks corrects a simple model below it. Every member leaves some training conditions out; they stop
its training, weigh the correction, and calibrate the intervals. Nothing of the test side is seen.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.errors import NotEnoughTraining
from perturbcast.models.base import Answers, FittedModel, Model, TrainingData
from perturbcast.models.calibrated import CalibratedAnswers, calibrated_sd
from perturbcast.models.fields import Range
from perturbcast.models.holdouts import COMBINATIONS, TARGETS, question_of
from perturbcast.models.left_out import for_answers_alone
from perturbcast.models.node_table import restored_nodes
from perturbcast.models.on_target import OnTarget
from perturbcast.nn.nodes import NodeTable

if TYPE_CHECKING:
    from perturbcast.nn.response_net import ResponseNet, Rows
    from perturbcast.training.plan import RunOptions, TrainingPlan

FEWEST_QUERIES = 2
AT_ONCE = 256  # queries answered together: bounds memory, not results
TOGETHER = 32  # rows in every call of a network: always as many, so that a query's bits do not depend on the others
BASES = {TARGETS: "base.", COMBINATIONS: "base-of-combinations."}  # beginnings of the arrays of the models below
GIVEN = "given."  # of the arrays of a network that are not learned


class FittedResponse(CalibratedAnswers):
    """The model below plus the mean correction of the members that answer the question a query asks."""

    @cached_property
    def nodes(self) -> NodeTable:
        """The genes reasoned over, with features and graphs."""
        return restored_nodes(self._state)

    @cached_property
    def bases(self) -> dict[str, FittedModel | None]:
        """The model below by question; a question that is not there is answered by that of `targets`."""
        own = COMBINATIONS in self.members and self._family.base_of_combinations
        return {kind: self._base(kind) for kind in ((TARGETS, COMBINATIONS) if own else (TARGETS,))}

    def _base(self, kind: str) -> FittedModel | None:
        model, prefix = self._family.base_model(kind), BASES[kind]
        if model is None:
            return None
        return self.restored_within(model, prefix, queries=sorted(self.trained_on))  # as it was fitted

    def _below(self, queries: Sequence[Query]) -> Float[np.ndarray, "query gene"]:
        """What the models below say; 0 where there is none."""
        found = np.zeros((len(queries), len(self.genes)))
        kinds = [kind if kind in self.bases else TARGETS for kind in map(self.question, queries)]
        for kind, base in self.bases.items():
            rows = [row for row, own in enumerate(kinds) if own == kind]
            if base is not None and rows:
                found[rows] = base.predict([queries[row] for row in rows]).response
        return found

    @property
    def _family(self) -> "ResponseModel":
        assert isinstance(self.model, ResponseModel)
        return self.model

    @cached_property
    def members(self) -> dict[str, list[Any]]:
        """Trained networks by the question they answer."""
        found: dict[str, list[Any]] = {}
        for name in sorted({key.split(".", 3)[1] for key in self._state if key.startswith("member.")}):
            kind = name.split("-")[0]
            found.setdefault(kind, []).append(self._network(f"member.{name}."))
        return found

    def _network(self, prefix: str) -> "ResponseNet":
        import torch

        arrays = self.arrays_under(prefix)
        with torch.random.fork_rng(devices=[]):
            network = self._family.network(self.nodes, n_genes=len(self.genes))
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        network.load_state_dict(tensors, strict=False)
        return network.eval()

    @cached_property
    def _order(self) -> Int[np.ndarray, " gene"]:
        """Column of the table for each gene of the networks, which have them in order of name."""
        return np.argsort(self.genes.astype(str), kind="stable")

    def question(self, query: Query) -> str:
        """The kind of members that answer a query."""
        kind = question_of(query, self.seen_singly)
        return kind if kind in self.members else TARGETS

    def correction(self, queries: Sequence[Query]) -> Float[np.ndarray, "query gene"]:
        """Mean correction of the members; genes in the order of the table, 0 for unknown targets."""
        found = np.zeros((len(queries), len(self.genes)))
        kinds = np.array([self.question(query) for query in queries], dtype=object)
        for kind in sorted(set(kinds)):
            rows = np.flatnonzero(kinds == kind)
            for start in range(0, len(rows), AT_ONCE):
                part = rows[start : start + AT_ONCE]
                asked = [queries[row] for row in part]
                mean = np.mean([responses_of(m, self.nodes, asked) for m in self.members[kind]], axis=0)
                found[np.ix_(part, self._order)] = mean * self._state[f"scale.{kind}"][0]
        known = [any(target in self.nodes.number for target in targets_of(query.condition)) for query in queries]
        return found * np.array(known)[:, None]

    def _respond_many(self, queries: Sequence[Query], *, dtype: type) -> Answers:
        if not queries:
            return Answers(np.zeros((0, len(self.genes)), dtype=dtype), None, (), ())
        response: np.ndarray = np.empty((len(queries), len(self.genes)), dtype=dtype)
        sd = np.empty_like(response)
        own = OnTarget(self.genes, self._state["own"])
        for start in range(0, len(queries), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            found = self.correction(queries[part]) + self._below(queries[part])
            sd[part] = self._sd(queries[part], found)
            for row, query in zip(found, queries[part], strict=True):
                own.add_to(row, query)
            response[part] = found
        support = tuple(self._support(query) for query in queries)
        return Answers(response, sd if np.isfinite(sd).all() else None, support, ("",) * len(queries))

    def _sd(self, queries: Sequence[Query], predicted: np.ndarray) -> np.ndarray:
        """(query, gene) calibrated standard deviations; NaN where nothing could be left out to calibrate them."""
        questions = [self.question(query) for query in queries]
        return calibrated_sd(self.errors, queries, questions, predicted, self.seen_singly)

    def _support(self, query: Query) -> Support:
        if query in self.seen:
            return Support.SEEN
        if query.condition in self.seen_singly:
            return Support.CONTEXT
        targets = targets_of(query.condition)
        n_seen = sum(target in self.seen_singly for target in targets)
        if n_seen:
            return Support.SINGLES if n_seen == len(targets) else Support.PARTIAL
        nodes = self.nodes
        informed = any(target in nodes.number and nodes.informed[nodes.number[target]] for target in targets)
        return Support.NEIGHBOURS if informed else Support.MEAN


def responses_of(network: "ResponseNet", nodes: NodeTable, queries: Sequence[Query]) -> np.ndarray:
    """(query, gene) what a trained network responds, genes in the order of the network."""
    import torch

    targets = [targets_of(query.condition) for query in queries]
    slots = nodes.slots(targets, width=max(map(len, targets)))
    found = []
    with torch.no_grad():
        for start in range(0, len(slots), TOGETHER):
            part = slots[start : start + TOGETHER]
            filled = np.pad(part, ((0, TOGETHER - len(part)), (0, 0)), constant_values=-1)
            found.append(network.respond(torch.from_numpy(filled)).numpy()[: len(part)])
    return np.concatenate(found).astype(np.float64)


@dataclass(frozen=True)
class ResponseModel(Model):
    """The fields and the fit of the family; sub-classes say what the network is."""

    fitted_class: ClassVar[type[FittedModel]] = FittedResponse
    base: str = "mean:same-size"  # name of the model whose errors the networks learn; none: they learn responses
    base_of_combinations: str = ""  # the same for combinations whose targets were all seen singly; empty: `base`
    folds: Annotated[int, Range(2)] = 5  # members per question; each leaves one fold out
    lr: Annotated[float, Range(1e-9)] = 1e-3  # B-9
    weight_decay: Annotated[float, Range(0.0)] = 1e-2  # B-9
    max_steps: Annotated[int, Range(1)] = 400  # full-batch steps; B-9 says at most 1,000
    patience: Annotated[int, Range(1)] | None = 40  # steps without a better error on what is left out
    clip_norm: Annotated[float, Range(0.0)] | None = 1.0
    batch_size: Annotated[int, Range(1)] = 2048  # conditions per step
    cells_prior: Annotated[float, Range(0.0)] = 50.0  # n_0 of the weight n / (n + n_0); B-9
    on_target: bool = True  # a target's own gene gets the mean on-target effect; B-10
    calibrate: bool = True  # let what is left out weigh the correction

    @abstractmethod
    def network(self, nodes: NodeTable, *, n_genes: int, rows: "Rows | None" = None) -> "ResponseNet":
        """A network over some nodes. Its weights must not depend on their number; `rows` are given for training."""

    def base_model(self, question: str = TARGETS) -> Model | None:
        """The model whose errors the networks that answer a question (`targets` or `combinations`) learn."""
        from perturbcast.models.registry import get_model

        name = (question == COMBINATIONS and self.base_of_combinations) or self.base
        return None if name in ("", "none") else for_answers_alone(get_model(name))

    def training_nodes(self, nodes: NodeTable) -> NodeTable:
        """The nodes a network is trained over: measured genes and training targets."""
        return nodes.core()

    def plan(self, n_rows: int) -> "TrainingPlan":
        """How the engine trains."""
        from perturbcast.training.plan import TrainingPlan

        per_epoch = -(-n_rows // self.batch_size)
        return TrainingPlan(
            max_epochs=-(-self.max_steps // per_epoch),
            max_steps=self.max_steps,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            decoupled=True,
            clip_norm=self.clip_norm,
            patience=self.patience,
        )

    def fit(
        self,
        training: TrainingData,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        options: "RunOptions | None" = None,
    ) -> FittedResponse:
        """The fitted ensemble. `options` say what to run on and where to keep checkpoints.

        Raises NotEnoughTraining with fewer than two training conditions, and what `training.train` raises.
        """
        from perturbcast.models.response_fit import fitted_state

        n_queries = training.responses.n_queries
        if n_queries < FEWEST_QUERIES:
            raise NotEnoughTraining(
                f"{self.card.name} needs {FEWEST_QUERIES} training conditions, there are {n_queries}."
            )
        state = fitted_state(self, training, seed=seed, progress=progress or Progress(), options=options)
        fitted = self.fitted_class(self, training.responses, state, split_fingerprint=training.split_fingerprint)
        assert isinstance(fitted, FittedResponse)
        return fitted
