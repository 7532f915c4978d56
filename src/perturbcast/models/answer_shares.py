"""Answers between those of a model, the mean response and no change, as conditions left out want them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from perturbcast.data.conditions import Query
from perturbcast.models.base import FittedModel
from perturbcast.models.calibrated import group_of
from perturbcast.models.holdouts import question_of
from perturbcast.models.mean import Mean

FEWEST = 10  # left-out conditions of a group, before its answers are moved: of 8 they would be moved for the worse
STEPS = 20  # shares are whole multiples of one over this
SHARE, MEAN = "share.", "mean-response."  # beginnings of arrays: shares by group, and the mean response
MEAN_MODEL = Mean(variant="same-size")


@dataclass(frozen=True)
class LeftOut:
    """Left-out conditions: what was observed, what the model says, and the mean response of what stayed."""

    groups: tuple[str, ...]
    observed: Float[np.ndarray, "query gene"]
    predicted: Float[np.ndarray, "query gene"]
    mean: Float[np.ndarray, "query gene"]

    @classmethod
    def joined(cls, parts: Sequence["LeftOut"]) -> "LeftOut":
        """Several folds as one."""
        names = [name for part in parts for name in part.groups]
        arrays = ([getattr(part, field) for part in parts] for field in ("observed", "predicted", "mean"))
        return cls(tuple(names), *(np.concatenate(own) for own in arrays))

    def shares(self) -> dict[str, np.ndarray]:
        """(2,) shares of the model and of the mean response, of every group that has enough conditions."""
        found = {}
        for name in sorted(set(self.groups)):
            rows = np.array([group == name for group in self.groups])
            if rows.sum() >= FEWEST:
                found[name] = best_shares(self.observed[rows], self.predicted[rows], self.mean[rows])
        return found

    def moved(self, shares: Mapping[str, np.ndarray]) -> Float[np.ndarray, "query gene"]:
        """What is predicted with these shares."""
        own, mean = np.array([shares.get(group, (1.0, 0.0)) for group in self.groups]).T
        return own[:, None] * self.predicted + mean[:, None] * self.mean


def best_shares(
    observed: Float[np.ndarray, "query gene"],
    predicted: Float[np.ndarray, "query gene"],
    mean: Float[np.ndarray, "query gene"],
) -> Float[np.ndarray, "2"]:
    """(of the prediction, of the mean), neither below 0, together at most 1, with the least mean L2.

    L2 and not its square: by squares the few strongest conditions would decide for all. Among equals the largest share
    of the prediction.
    """
    steps = np.arange(STEPS, -1, -1) / STEPS
    pairs = np.array([(own, rest) for own in steps for rest in steps[::-1] if own + rest <= 1 + 1e-9])
    parts = np.stack([observed, predicted, mean])
    products = np.einsum("iqg,jqg->qij", parts, parts)
    weights = np.column_stack([np.ones(len(pairs)), -pairs])  # (pair, 3) of observed, predicted, mean
    squares = np.einsum("pi,qij,pj->pq", weights, products, weights)
    errors = np.sqrt(np.maximum(squares, 0.0)).mean(axis=1)
    return np.asarray(pairs[int(np.argmin(errors > errors.min() * (1 + 1e-12)))])


class AnswerShares:
    """Moves the answers of a fitted model that keeps shares among its arrays; those to training conditions stay."""

    def __init__(self, fitted: FittedModel) -> None:
        self._shares = fitted.arrays_under(SHARE)
        self._seen = fitted.seen_singly
        self._mean = fitted.restored_within(MEAN_MODEL, MEAN) if self._shares else None

    def answer(self, query: Query, response: Float[np.ndarray, " gene"]) -> Float[np.ndarray, " gene"]:
        """The answer, moved as the left-out conditions of its group want it."""
        found = self._shares.get(group_of(query, question_of(query, self._seen), self._seen))
        if self._mean is None or found is None or query.condition in self._seen:
            return response
        return np.asarray(found[0] * response + found[1] * self._mean.predict([query]).response[0])
