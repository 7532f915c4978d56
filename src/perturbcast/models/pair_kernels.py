"""Likeness of combinations by the responses of their parts: sums, and products over pairs of parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

WIDTH = 0.5  # of the Gaussian kernel of two responses, by 1 - cosine


@dataclass(frozen=True)
class Combinations:
    """Some combinations as their parts: a response each, less the mean single response, and a target each."""

    profile: Float[np.ndarray, "part gene"]
    target: tuple[str, ...]  # of each part
    owner: Float[np.ndarray, "combination part"]  # 0/1

    @classmethod
    def of(
        cls, parts: Sequence[Sequence[np.ndarray]], targets: Sequence[Sequence[str]], *, centre: np.ndarray
    ) -> "Combinations":
        """Combinations from the responses and names of their parts."""
        owner = np.zeros((len(parts), sum(map(len, parts))))
        place = 0
        for row, own in enumerate(parts):
            owner[row, place : place + len(own)] = 1.0
            place += len(own)
        profile = np.array([part - centre for own in parts for part in own]).reshape(owner.shape[1], len(centre))
        return cls(profile, tuple(name for names in targets for name in names), owner)

    def kernels(self, other: "Combinations") -> Float[np.ndarray, "kernel left right"]:
        """Kernels to others: of summed responses, of parts alike, parts close, pairs of parts alike, and of the
        same targets."""
        cosine = _unit(self.profile) @ _unit(other.profile).T
        close = np.exp((cosine - 1.0) / WIDTH)
        same = np.array(self.target, dtype=object)[:, None] == np.array(other.target, dtype=object)[None, :]
        total = (self.owner @ self.profile) @ (other.owner @ other.profile).T
        return np.array(
            [
                total,
                self._summed(cosine, other),
                self._summed(close, other),
                self._paired(cosine, other),
                self._summed(same.astype(float), other),
            ]
        )

    def _summed(self, of_parts: np.ndarray, other: "Combinations") -> np.ndarray:
        """Σ over parts of both."""
        return self.owner @ of_parts @ other.owner.T

    def _paired(self, of_parts: np.ndarray, other: "Combinations") -> np.ndarray:
        """Σ of products over two parts here and two there: k(a, c) k(b, d) + k(a, d) k(b, c) for doubles."""
        rows = self.owner @ (of_parts @ other.owner.T) ** 2
        columns = (self.owner @ of_parts) ** 2 @ other.owner.T
        return (self._summed(of_parts, other) ** 2 - rows - columns + self._summed(of_parts**2, other)) / 2


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)
