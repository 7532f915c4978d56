"""Ridge regression from an embedding of the targets to the response; table and ridge chosen by leave-one-out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.errors import NeedsKnowledge, NotEnoughTraining, did_you_mean
from perturbcast.genes.knowledge import EmbeddingTable
from perturbcast.genes.policies import control_tables
from perturbcast.models.base import FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.embeddings_of_targets import Combination, TargetFeatures, target_tables
from perturbcast.models.fields import Range
from perturbcast.models.fixed_effects import FixedEffects
from perturbcast.models.leave_one_out import LeaveOneOut, projected_precision
from perturbcast.models.left_out import KnowsLeftOutErrors, left_out_errors

FEWEST_QUERIES = 4
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # 1 / λ, with features scaled to mean squared norm one
LEAST_LEFT = 1e-9  # of the largest precision of a row given the others
CONCATENATED = "all tables"
COEXPRESSION = "responses:coexpression"


@dataclass(frozen=True)
class SideBySide:
    """One embedding table or several, their features side by side; zeros where a gene is missing from one."""

    tables: tuple[TargetFeatures, ...]
    combination: Combination = "sum"

    @property
    def name(self) -> str:
        """The table's name, or that all were taken."""
        return self.tables[0].name if len(self.tables) == 1 else CONCATENATED

    def knows(self, query: Query) -> int:
        """How many of the query's targets have features in some table."""
        targets = targets_of(query.condition)
        if any(query.condition in table.row for table in self.tables):
            return len(targets)
        return sum(any(target in table.row for table in self.tables) for target in targets)

    def rows(self, queries: Sequence[Query]) -> Float[np.ndarray, "query feature"]:
        """Features of each query, those of its targets combined."""
        return np.hstack([table.rows(queries, combination=self.combination) for table in self.tables])

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which the tables are made again."""
        arrays = {"n_tables": np.array([len(self.tables)])}
        for number, table in enumerate(self.tables):
            arrays |= table.state(f"target.{number}.")
        return arrays


class FittedEmbeddingRidge(KnowsLeftOutErrors):
    """Fixed effects + summed features of the targets times weights."""

    @cached_property
    def chosen(self) -> SideBySide:
        """The table, or tables side by side, that leave-one-out chose."""
        numbers = range(int(self._state["n_tables"][0]))
        tables = tuple(TargetFeatures.restored(self._state, f"target.{number}.") for number in numbers)
        return SideBySide(tables, getattr(self.model, "combination", "sum"))

    @cached_property
    def _weights(self) -> Float[np.ndarray, "feature gene"]:
        """In the type of the features: converting them for every query takes longer than the product."""
        return self._state["weights"].astype(np.float64)

    @cached_property
    def _effects(self) -> FixedEffects:
        return FixedEffects.of(self._levelled(self.trained_on))

    def _levelled(self, queries: Sequence[Query]) -> Sequence[Query]:
        return one_level(queries) if getattr(self.model, "alpha", 0.0) else queries

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        level = self._effects.rows(self._levelled([query]))[0] @ self._state["effects"]
        features = self.chosen.rows([query])[0]
        change = features @ self._weights if features.any() else 0.0  # (feature,) @ (feature, gene) -> (gene,)
        sd = self.left_out_sd(query, level + change, own=self._state["sd"])
        return level + change, sd, self._support(query)

    def _support(self, query: Query) -> Support:
        if query in self.seen:
            return Support.SEEN
        known = self.chosen.knows(query)
        if not known:
            return Support.MEAN
        return Support.NEIGHBOURS if known == len(targets_of(query.condition)) else Support.PARTIAL


@dataclass(frozen=True)
class EmbeddingRidge(Model):
    """Ridge from each embedding table of the targets, and from all side by side; the best by leave-one-out is kept.

    Tables are those of the knowledge and those made from its gene sets, texts and graphs, and co-expression in the
    training responses, so there always is one. A table may hold whole conditions, `A+B`, as a model of cells embeds
    them (type 2): subtract the embedding of control from its rows first. Profiles: `paper` is D-14, a penalty of one
    on the table as it is; `random`, `permuted` and `one-hot` put tables in place that know nothing of the genes (see
    `control_tables`), and `co-expression` uses nothing but training responses: what they reach needs no knowledge.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="embedding-ridge",
        title="Embedding and ridge",
        summary="Predicts a response by linear regression on one embedding of the target, such as a text embedding.",
        source="Ahlmann-Eltze et al. 2025, doi:10.1038/s41592-025-02772-6; spec D-14, D-15",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        baseline=True,
        uses_knowledge=True,
        profiles={
            "paper": {"alpha": 1.0},
            "random": {"control": "random"},
            "permuted": {"control": "permuted"},
            "one-hot": {"control": "one-hot"},
            "co-expression": {"table": COEXPRESSION},
        },
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedEmbeddingRidge
    table: str = ""  # name of one table to use; empty: chosen by leave-one-out
    combination: Combination = "sum"  # of the features of several targets, D-15
    alpha: Annotated[float, Range(0.0)] = 0.0  # penalty on the tables of the knowledge as they are, D-14; 0: chosen
    control: Literal["none", "random", "permuted", "one-hot"] = "none"  # what stands in place of every table, D-15
    search_limit: Annotated[int, Range(32)] = 400  # queries on which table and ridge are chosen
    folds: Annotated[int, Range(0)] = 3  # of conditions, without each of which it is fitted to calibrate sd; 0: own sd

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedEmbeddingRidge:
        """The fitted model; NotEnoughTraining with fewer than four training queries."""
        table = training.responses
        if table.n_queries < FEWEST_QUERIES:
            raise NotEnoughTraining(f"embedding-ridge needs {FEWEST_QUERIES} conditions, there are {table.n_queries}.")
        tables = self._candidates(training, seed=seed)
        levels = one_level(table.queries) if self.alpha else table.queries
        effects = FixedEffects.of(levels).rows(levels)
        part = np.arange(table.n_queries)
        if table.n_queries > self.search_limit:
            part = np.sort(np.random.default_rng(seed).choice(table.n_queries, self.search_limit, replace=False))
        products = table.response[part] @ table.response[part].T
        errors = {}
        for name, features in (progress or Progress()).track(tables.items(), label="embedding tables"):
            rows = features.rows(table.queries)
            size = self._size(rows)
            task = LeaveOneOut(products, (rows[part] @ rows[part].T)[None] / size**2, effects[part])
            for strength in STRENGTHS if self.alpha == 0 else (1 / self.alpha,):
                errors[name, strength] = task.residual(np.array([strength])).mean()
        best, strength = min(errors, key=lambda choice: errors[choice])
        rows = tables[best].rows(table.queries)
        state = ridge_state(rows, table.response, effects, strength=strength, size=self._size(rows))
        state |= tables[best].state()
        state |= left_out_errors(replace(self, folds=0), training, n_folds=self.folds, seed=seed, progress=progress)
        return FittedEmbeddingRidge(self, table, state, split_fingerprint=training.split_fingerprint)

    def _size(self, rows: np.ndarray) -> float:
        """What features are divided by: their root mean squared length, or one where the penalty is given."""
        size = float(np.sqrt((rows**2).sum(axis=1).mean()))
        return size if size > 0 and self.alpha == 0 else 1.0

    def _candidates(self, training: TrainingData, *, seed: int) -> dict[str, SideBySide]:
        tables = target_tables(training.knowledge, training.responses)
        if self.alpha:
            tables |= _as_they_are(training.knowledge.embeddings)
        if self.table and self.table not in (*tables, CONCATENATED):
            known = [*tables, CONCATENATED]
            raise NeedsKnowledge(f"there is no embedding {self.table!r}. {did_you_mean(self.table, known)}")
        if self.control != "none":
            rows = training.responses.targets
            tables = {name: _control(table, self.control, seed=seed, targets=rows) for name, table in tables.items()}
        candidates = {name: SideBySide((table,), self.combination) for name, table in tables.items()}
        candidates[CONCATENATED] = SideBySide(tuple(tables.values()), self.combination)
        return {self.table: candidates[self.table]} if self.table else candidates


def one_level(queries: Sequence[Query]) -> list[Query]:
    """Queries that differ by context only: one level for each context, singles and combinations alike (spec D-14)."""
    return [Query("any", query.context) for query in queries]


def _as_they_are(embeddings: Mapping[str, EmbeddingTable]) -> dict[str, TargetFeatures]:
    """The tables of the knowledge, neither centred nor scaled."""
    return {name: TargetFeatures.of(name, table.genes.tolist(), table.matrix) for name, table in embeddings.items()}


def _control(table: TargetFeatures, control: str, *, seed: int, targets: Sequence[str]) -> TargetFeatures:
    """The table without knowledge in place of one. One-hot rows of targets that training lacks would never be used."""
    if control == "one-hot":
        return TargetFeatures.of(table.name, targets, np.eye(len(targets), dtype=np.float32))
    names = sorted(table.row, key=lambda gene: table.row[gene])
    known = EmbeddingTable(table.name, np.array(names, dtype=object), np.asarray(table.matrix, dtype=np.float32))
    made = control_tables(known, seed=seed, most_one_hot=0)[control]
    return TargetFeatures.of(table.name, names, made.matrix)


def ridge_state(
    features: np.ndarray, response: np.ndarray, effects: np.ndarray, *, strength: float, size: float
) -> dict[str, np.ndarray]:
    """Weights of features (feature, gene), fixed effects (effect, gene) and left-out sd (gene,) of the chosen ridge.

    `size` is what the features are divided by before; `strength` is one over the penalty then.
    """
    rows = features / size
    inverse, precision = projected_precision(strength * rows @ rows.T, effects)
    alpha = precision @ response
    own = np.diag(precision)
    others = own > LEAST_LEFT * own.max()  # where fixed effects alone explain a row, nothing can be said without it
    left_out = alpha[others] / own[others, None]
    level = np.linalg.solve(effects.T @ inverse @ effects, effects.T @ inverse @ response)
    weights = strength * rows.T @ alpha / size
    return {"weights": weights.astype(np.float32), "effects": level, "sd": np.sqrt((left_out**2).mean(axis=0))}
