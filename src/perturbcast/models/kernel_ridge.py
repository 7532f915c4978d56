"""Kernel ridge over many views of genes, weighed by exact leave-one-out (spec D-17, D-18)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import NotEnoughTraining
from perturbcast.models.base import (
    Answers,
    AnswersTogether,
    FittedModel,
    Model,
    ModelCard,
    TrainingData,
    decode_text,
)
from perturbcast.models.condition_kernels import ConditionKernel, Conditions, kernels_for
from perturbcast.models.fields import Range
from perturbcast.models.fixed_effects import FixedEffects
from perturbcast.models.gene_views import GeneView
from perturbcast.models.kernel_state import (
    CELLS,
    kernel_state,
    restored_kernels,
    restored_views,
    view_state,
    views_in_use,
)
from perturbcast.models.knowledge_views import response_view, views_of
from perturbcast.models.leave_one_out import LeaveOneOut, best_factor, best_weights, free_queries, projected_precision
from perturbcast.models.on_target import OnTarget
from perturbcast.models.spread_by_size import sd_by_size, spread_by_size

FEWEST_QUERIES = 4
AT_ONCE = 1024  # queries answered together: bounds memory, not results


class FittedKernelRidge(AnswersTogether):
    """Fixed effects + Σ_t k(t, training) α + the on-target effect.

    The sd is the posterior one of a Gaussian process, scaled to cover conditions left out one by one.
    """

    @cached_property
    def kernel_weights(self) -> dict[str, float]:
        """β by kernel name, in units of noise, largest first; what each view of genes is worth."""
        named = zip(decode_text(self._state["kernel.names"]), self._state["kernel.weights"], strict=True)
        return dict(sorted(((name, float(weight)) for name, weight in named), key=lambda item: (-item[1], item[0])))

    @cached_property
    def _kernels(self) -> list[ConditionKernel]:
        """The kernels that reach other targets, in the order of `_weights`."""
        return restored_kernels(self._state, restored_views(self._state))

    @cached_property
    def _training(self) -> Conditions:
        return Conditions.of(self.trained_on)

    @cached_property
    def _effects(self) -> FixedEffects:
        return FixedEffects.of(self.trained_on)

    @cached_property
    def _on_target(self) -> OnTarget:
        return OnTarget(self.genes, self._state["own.effect"])

    def _respond_many(self, queries: Sequence[Query], *, dtype: type) -> Answers:
        response: np.ndarray = np.empty((len(queries), len(self.genes)), dtype=dtype)
        sd = np.empty_like(response)
        support: list[Support] = []
        for start in range(0, len(queries), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            support += self._fill(queries[part], response[part], sd[part])
        return Answers(response, sd, tuple(support), ("",) * len(queries))

    def _fill(self, queries: Sequence[Query], response: np.ndarray, sd: np.ndarray) -> list[Support]:
        """Writes response and sd of some queries in place; what each rests on."""
        asked = Conditions.of(queries)
        weights = self._state["kernel.reach_weights"]
        units = [Query(target, context) for context in sorted(set(asked.context)) for target in asked.targets]
        unit_row = {unit: row for row, unit in enumerate(units)}
        reach = Conditions.of(units).between(self._kernels, weights, self._training)  # (unit, train)
        by_unit = reach @ self._state["alpha"]  # (unit, train) @ (train, gene) -> (unit, gene)
        effects = self._effects.rows(queries)
        base = effects @ self._state["effects"]  # (query, effect) @ (effect, gene) -> (query, gene)
        parts = [[unit_row[Query(target, q.context)] for target in targets_of(q.condition)] for q in queries]
        for row, (query, own) in enumerate(zip(queries, parts, strict=True)):
            response[row] = base[row] + by_unit[own].sum(axis=0)
            self._on_target.add_to(response[row], query)
        likeness = np.array([reach[own].sum(axis=0) for own in parts])  # (query, train)
        spread = np.array([sd_by_size(self._state, query) for query in queries])
        sd[:] = np.sqrt(self._variance(asked, likeness, effects))[:, None] * spread
        known = np.asarray(reach.any(axis=1))
        return [self._support(query, known[own]) for query, own in zip(queries, parts, strict=True)]

    def _variance(self, asked: Conditions, likeness: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """(query,) predictive variance in units of noise: D-18, what the fixed effects add, and the noise itself."""
        weights = self._state["kernel.reach_weights"]
        prior = np.zeros(len(likeness))
        for kernel, weight in zip(self._kernels, weights, strict=True):
            prior += weight * self_likeness(kernel, asked, usual=self._training)
        through = likeness @ self._state["inverse"]
        explained = np.einsum("ij,ij->i", through, likeness)
        open_effects = effects - likeness @ self._state["through"]
        added = np.einsum("ij,jk,ik->i", open_effects, self._state["schur"], open_effects)
        noise = 1.0 + self.kernel_weights.get(CELLS, 0.0)
        return np.maximum(prior - explained, 0.0) + np.maximum(added, 0.0) + noise

    def _support(self, query: Query, known: np.ndarray) -> Support:
        targets = targets_of(query.condition)
        if query in self.seen:
            return Support.SEEN
        if query.condition in self._conditions:
            return Support.CONTEXT
        seen = sum(target in self._conditions for target in targets)
        if seen:
            return Support.SINGLES if seen == len(targets) else Support.PARTIAL
        return Support.NEIGHBOURS if known.any() else Support.MEAN

    @cached_property
    def _conditions(self) -> frozenset[str]:
        return frozenset(query.condition for query in self.trained_on)


def self_likeness(kernel: ConditionKernel, asked: Conditions, *, usual: Conditions) -> np.ndarray:
    """(query,) k(P, P); a target that the view does not know counts as the mean training target does."""
    if kernel.view is None:
        return np.asarray(asked.incidence.sum(axis=1)).ravel()
    rows = kernel.view.rows(asked.targets)
    of_genes = kernel.view.kernel(rows, rows)
    unknown = np.flatnonzero(~kernel.view.knows(asked.targets))
    of_genes[unknown, unknown] = kernel.view.knows(usual.targets).mean()
    return np.einsum("ij,ij->i", asked.incidence @ of_genes, asked.incidence.toarray())


@dataclass(frozen=True)
class KernelRidge(Model):
    """A Gaussian process from what is known of the targets to the response, all genes at once.

    Every view that knowledge offers (embedding tables, gene sets, texts, graphs, sequences) and co-expression in the
    training responses is a kernel; their weights β and the ridge (noise 1 against Σβ) minimise the exact mean
    leave-one-out L2. Without knowledge it still shares between like-responding measured targets.

    Differs from the specification: the mean is a fixed effect estimated with the rest (per context, and for
    combinations), not Δ̄; noise is 1 + β_cells n̄/n_P with β_cells chosen too; the own gene of a target is set aside
    and predicted by the mean on-target effect.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="kernel-ridge",
        title="Multi-kernel ridge",
        summary="Predicts a perturbation from those of like genes, weighing gene sets, networks, texts and embeddings.",
        source="spec D-17, D-18; Rasmussen and Williams 2006, chapters 2 and 5",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        baseline=True,
        uses_knowledge=True,
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedKernelRidge
    views: tuple[str, ...] = ()  # names or beginnings of names of views to use; none: all
    on_target: bool = True  # predict the own gene of a target by the mean on-target effect of training
    noise_by_cells: bool = True  # allow noise in proportion to 1 / n_P where cell numbers are known
    search_limit: Annotated[int, Range(32)] = 400  # queries on which β is searched; more are used for one factor on all

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedKernelRidge:
        """The fitted model; NotEnoughTraining with fewer than four training queries."""
        table = training.responses
        if table.n_queries < FEWEST_QUERIES:
            raise NotEnoughTraining(
                f"kernel-ridge needs {FEWEST_QUERIES} training conditions, there are {table.n_queries}."
            )
        response, own_effect = (
            OnTarget.set_aside(table) if self.on_target else (table.response, np.zeros(table.n_genes))
        )
        views = [
            *chosen_views(training.knowledge.derived(views_of), self.views),
            *chosen_views(response_view(table), self.views),
        ]
        conditions = Conditions.of(table.queries)
        kernels = kernels_for(views, conditions)
        noise = noise_ratio(table) if self.noise_by_cells else None
        effects = FixedEffects.of(table.queries).rows(table.queries)
        weights, covariance = self._weights(
            table, response, kernels, noise, effects, seed=seed, progress=progress or Progress()
        )
        state = solution(table.queries, response, covariance, effects)
        views = views_in_use(kernels, weights)
        state |= view_state(views) | kernel_state(kernels, weights, views) | {"own.effect": own_effect}
        return FittedKernelRidge(self, table, state, split_fingerprint=training.split_fingerprint)

    def _weights(
        self,
        table: ResponseTable,
        response: np.ndarray,
        kernels: list[ConditionKernel],
        noise: np.ndarray | None,
        effects: np.ndarray,
        *,
        seed: int,
        progress: Progress,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(β, that of the cell-number noise last where there is one; Σ β_m K_m over training queries)."""
        n_queries = table.n_queries
        part = np.arange(n_queries)
        if n_queries > self.search_limit:
            part = np.sort(np.random.default_rng(seed).choice(n_queries, self.search_limit, replace=False))
        some = Conditions.of([table.queries[row] for row in part])
        stack = np.zeros((len(kernels) + (noise is not None), len(part), len(part)))
        for place, kernel in enumerate(progress.track(kernels, label="kernels of conditions")):
            stack[place] = some.between([kernel], np.ones(1), some)
        if noise is not None:
            stack[-1] = np.diag(noise[part])
        weights = best_weights(LeaveOneOut(response[part] @ response[part].T, stack, effects[part]))
        if len(part) == n_queries:
            return weights, np.tensordot(weights, stack, 1)
        whole = covariance_of(Conditions.of(table.queries), kernels, weights, noise)
        factor = best_factor(LeaveOneOut(response @ response.T, whole[None], effects), np.ones(1))
        return weights * factor, whole * factor


def chosen_views(views: list[GeneView], wanted: tuple[str, ...]) -> list[GeneView]:
    """The views whose name is, or begins with, one that is wanted; all where none is named."""
    return [view for view in views if not wanted or view.name.startswith(wanted)]


def noise_ratio(table: ResponseTable) -> np.ndarray | None:
    """(query,) mean n / n: sampling noise relative to the mean query; None where cell numbers are unknown."""
    if table.n_cells is None or len(np.unique(table.n_cells)) < 2:
        return None
    inverse = 1.0 / np.maximum(table.n_cells, 1)
    return inverse / inverse.mean()


def covariance_of(
    conditions: Conditions, kernels: list[ConditionKernel], weights: np.ndarray, noise: np.ndarray | None
) -> np.ndarray:
    """(query, query) Σ β_m K_m, with the cell-number noise on the diagonal; unit noise comes on top."""
    active = np.flatnonzero(weights[: len(kernels)])
    total = conditions.between([kernels[k] for k in active], weights[active], conditions)
    return total if noise is None else total + np.diag(weights[-1] * noise)


def solution(
    queries: Sequence[Query], response: np.ndarray, covariance: np.ndarray, effects: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays that predictions need: dual weights, fixed effects, precision, and sd of unit noise per gene."""
    inverse, precision = projected_precision(covariance, effects)
    schur = np.linalg.inv(effects.T @ inverse @ effects)
    alpha = precision @ response  # (train, train) @ (train, gene) -> (train, gene)
    free = free_queries(effects)
    unit = np.full_like(response, np.nan)  # left-out residuals in units of their posterior sd
    unit[free] = alpha[free] / np.sqrt(np.diag(precision))[free, None]
    return {
        "alpha": alpha.astype(np.float32),
        "inverse": inverse.astype(np.float32),
        "through": (inverse @ effects).astype(np.float32),
        "schur": schur,
        "effects": schur @ effects.T @ inverse @ response,
        **spread_by_size(queries, unit if free.any() else response - response.mean(axis=0)),
    }
