"""One solution of the spectral ridge: the kernels of some views, and a ridge per principal axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from perturbcast.data.conditions import Query
from perturbcast.data.responses import ResponseTable
from perturbcast.models.condition_kernels import ConditionKernel, Conditions, kernels_for
from perturbcast.models.fixed_effects import FixedEffects
from perturbcast.models.gene_views import GeneView
from perturbcast.models.kernel_ridge import covariance_of
from perturbcast.models.kernel_state import kernel_state, restored_kernels
from perturbcast.models.leave_one_out import LeaveOneOut, best_factor, best_weights
from perturbcast.models.spectral_fit import Axes, Solved, combined, left_out_of, solved

WIDEST = 3.0  # a predicted size is within this factor of the usual one


@dataclass(frozen=True)
class Scaled:
    """Training responses less fixed effects as log sizes and scaled directions, in coordinates: size first."""

    effects: Float[np.ndarray, "query effect"]
    level: Float[np.ndarray, "effect gene"]
    coordinates: Float[np.ndarray, "query axis"]  # column 0: log of what the direction was divided by
    back: Float[np.ndarray, "direction gene"]

    @classmethod
    def of(cls, table: ResponseTable, *, evenness: float) -> "Scaled":
        """Direction and size of every training response."""
        effects = FixedEffects.of(table.queries).rows(table.queries)
        level = np.linalg.lstsq(effects, table.response, rcond=None)[0]
        rest = table.response - effects @ level
        length = np.linalg.norm(rest, axis=1)
        usual = float(np.median(length)) or 1.0
        log_size = evenness * np.log(np.clip(length / usual, 1 / WIDEST, WIDEST))
        axes = Axes.of(rest / np.exp(log_size)[:, None])
        return cls(effects, level, np.column_stack([log_size, axes.coordinates]), axes.back)

    def response(self, coordinates: Float[np.ndarray, "row axis"]) -> Float[np.ndarray, "row gene"]:
        """Responses less fixed effects of rows in coordinates."""
        return size_of(coordinates[:, 0])[:, None] * (coordinates[:, 1:] @ self.back)


def size_of(log_size: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """Factor on a direction, within bounds."""
    return np.exp(np.clip(log_size, -np.log(WIDEST), np.log(WIDEST)))


@dataclass(frozen=True)
class Solution:
    """Kernels with their weights, and the solved axes, of training."""

    kernels: list[ConditionKernel]
    weights: Float[np.ndarray, " kernel"]
    parts: list[Solved]

    @classmethod
    def of(
        cls, table: ResponseTable, scaled: Scaled, views: Sequence[GeneView], *, search_limit: int, seed: int
    ) -> "Solution":
        """Weights by exact leave-one-out on at most `search_limit` queries, one factor on all; then the axes."""
        kernels = kernels_for(views, Conditions.of(table.queries))
        part = np.arange(table.n_queries)
        if len(part) > search_limit:
            part = np.sort(np.random.default_rng(seed).choice(len(part), search_limit, replace=False))
        some = Conditions.of([table.queries[row] for row in part])
        stack = np.array([some.between([kernel], np.ones(1), some) for kernel in kernels])
        stack = stack.reshape(len(kernels), len(part), len(part))
        direction = scaled.coordinates[:, 1:]
        products = direction @ direction.T
        weights = best_weights(LeaveOneOut(products[np.ix_(part, part)], stack, scaled.effects[part]))
        whole = covariance_of(Conditions.of(table.queries), kernels, weights, None)
        factor = best_factor(LeaveOneOut(products, whole[None], scaled.effects), np.ones(1))
        return cls(kernels, weights * factor, solved(scaled.coordinates, whole * factor, scaled.effects))

    def left_out(self, scaled: Scaled, rows: np.ndarray) -> Float[np.ndarray, "row gene"]:
        """Responses less fixed effects that are predicted of rows left out together."""
        return scaled.response(left_out_of(self.parts, scaled.coordinates, rows))

    def state(self, scaled: Scaled, views: Sequence[GeneView]) -> dict[str, np.ndarray]:
        """Arrays from which `Side.restored` predicts: dual weights and fixed effects of size (first) and genes.

        `views` are those that all solutions together use.
        """
        alpha, effects = combined(self.parts, scaled.coordinates.shape[1])
        return kernel_state(self.kernels, self.weights, views) | {
            "alpha": np.column_stack([alpha[:, :1], alpha[:, 1:] @ scaled.back]).astype(np.float32),
            "effects": np.column_stack([effects[:, :1], effects[:, 1:] @ scaled.back]),
        }


@dataclass(frozen=True)
class Side:
    """A solution as it predicts."""

    kernels: list[ConditionKernel]
    weights: Float[np.ndarray, " kernel"]
    alpha: Float[np.ndarray, "train column"]
    effects: Float[np.ndarray, "effect column"]

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray], views: Sequence[GeneView]) -> "Side":
        """The solution whose `state` this is."""
        return cls(restored_kernels(state, views), state["kernel.reach_weights"], state["alpha"], state["effects"])

    def predict(
        self, queries: Sequence[Query], effects: Float[np.ndarray, "query effect"], training: Conditions
    ) -> tuple[np.ndarray, np.ndarray]:
        """(query, gene) responses less fixed effects, and (query,) whether any view knows a target."""
        likeness = Conditions.of(queries).between(self.kernels, self.weights, training)
        found = likeness @ self.alpha + effects @ self.effects  # (query, train) @ (train, 1 + gene)
        return size_of(found[:, 0])[:, None] * found[:, 1:], np.asarray(likeness.any(axis=1))
