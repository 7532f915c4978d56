"""Cells of low quality in training: reference cells of the other status, and the counterfactual term (spec 4.5)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from perturbcast.data.screen import Screen
from perturbcast.nn.batch import Batch
from perturbcast.nn.cells import CellBatches
from perturbcast.nn.divergences import normal_kl
from perturbcast.nn.trunk import Gaussian

Partner = Literal["opposite", "failed"]
MOST = 50  # cells behind a reference; spec 4.5


def published_divergence(one: Gaussian, other: Gaussian) -> Float[Tensor, "..."]:
    """κ of equation (17) per entry: the exact divergence (7) but for the mean term, which is not over σ² (B3)."""
    ratio = one.variance / other.variance
    return -0.5 * (1 + torch.log(ratio) - (one.mean - other.mean) ** 2 - ratio)


def counterfactual_divergence(
    reference: Gaussian,  # (particle, group, latent)
    switched: Gaussian,  # (particle, cell, latent)
    group: Int[Tensor, " cell"],
    *,
    form: Literal["exact", "published"],
    reference_gradient: bool = True,
) -> Float[Tensor, "particle cell"]:
    """KL of each cell's reference posterior to that of the cell with its artefacts switched, summed over the latent.

    `group` is the reference of each cell, -1 for none, which costs nothing. `exact` is (7), `published` is (17).
    Without `reference_gradient` only the cell's side is moved.
    """
    own = group.clamp(min=0)
    mean, variance = reference.mean[..., own, :], reference.variance[..., own, :]
    if not reference_gradient:
        mean, variance = mean.detach(), variance.detach()
    divergence = normal_kl if form == "exact" else published_divergence
    each = divergence(Gaussian(mean, variance), switched).sum(-1)
    return each * (group >= 0).to(each.dtype)


@dataclass(frozen=True)
class References:
    """A reference profile per (query, status) that has cells of the wanted status, genes as in the screen."""

    profiles: sparse.csr_matrix  # (group, gene), as stored
    labels: Float[np.ndarray, "group artefact"]  # mean artefact labels of the cells behind each profile
    of_cell: Int[np.ndarray, " cell"]  # group of each cell of the screen, -1 for none

    @classmethod
    def of(
        cls,
        screen: Screen,
        artefact: Float[np.ndarray, "cell artefact"],
        *,
        train_cells: Int[np.ndarray, " train"],
        partner: Partner = "opposite",
        seed: int = 0,
        most: int = MOST,
    ) -> "References":
        """Gene-wise lower medians of at most `most` training cells of the same query, once per group.

        `opposite` takes cells of the other status, `failed` always failing ones (B2, published). Cells are rows of
        the screen itself (B1), drawn without replacement by `seed` and the name of the condition. Differs from the
        published code, which draws with replacement and unseeded, and from other cells for validation than training.
        """
        failed = np.asarray(artefact.any(axis=1))
        rows: list[sparse.csr_matrix] = []
        labels: list[np.ndarray] = []
        queries, own = np.unique(screen.query_code, return_inverse=True)
        group = np.full((len(queries), 2), -1, dtype=np.int64)  # (query, status of the cell served)
        for (query, status), cells in cells_by_status(own, failed, train_cells).items():
            served = [int(not status)] if partner == "opposite" else [0, 1] if status else []
            if not served:
                continue
            chosen = _drawn(cells, most=most, seed=seed, name=f"{_name(screen, int(queries[query]))}/{int(status)}")
            group[query, served] = len(rows)
            rows.append(lower_median(screen.stored(chosen)))
            labels.append(artefact[chosen].mean(axis=0))
        profiles = sparse.vstack(rows, format="csr") if rows else sparse.csr_matrix((0, screen.n_genes))
        means = np.array(labels, dtype=np.float32).reshape(len(rows), artefact.shape[1])
        return cls(profiles.astype(np.float32), means, group[own, failed.astype(np.int64)])


def _name(screen: Screen, query: int) -> str:
    """What the draw of a query goes by: its condition, and its context where there are several."""
    context, condition = divmod(query, len(screen.conditions))
    name = screen.conditions[condition]
    return name if len(screen.contexts) == 1 else f"{name}/{screen.contexts[context]}"


def cells_by_status(
    condition: Int[np.ndarray, " cell"], failed: Bool[np.ndarray, " cell"], cells: Int[np.ndarray, " some"]
) -> Mapping[tuple[int, bool], np.ndarray]:
    """(condition, failed) -> positions *in the whole screen* of those of `cells` (oracle O26; the opposite is B1)."""
    codes = condition[cells].astype(np.int64) * 2 + failed[cells]
    order = np.argsort(codes, kind="stable")
    found, starts = np.unique(codes[order], return_index=True)
    parts = np.split(cells[order], starts[1:])
    return {(int(code // 2), bool(code % 2)): part for code, part in zip(found, parts, strict=True)}


def lower_median(values: sparse.csr_matrix) -> sparse.csr_matrix:
    """(1, gene) median per gene; of an even number of cells the lower of the middle two (oracle O20)."""
    n_cells = values.shape[0]
    middle = (n_cells - 1) // 2
    columns = values.tocsc()
    if values.nnz and values.data.min() < 0:
        candidates = np.arange(values.shape[1])
    else:  # the median is above zero only where few enough cells have zero
        candidates = np.flatnonzero(np.diff(columns.indptr) >= n_cells - middle)
    dense = columns[:, candidates].toarray()
    median = np.zeros((1, values.shape[1]), dtype=np.float32)
    if len(candidates):
        median[0, candidates] = np.partition(dense, middle, axis=0)[middle]
    return sparse.csr_matrix(median)


def _drawn(cells: np.ndarray, *, most: int, seed: int, name: str) -> np.ndarray:
    """At most `most` of the cells; the draw of a condition does not depend on which others there are."""
    if len(cells) <= most:
        return cells
    rng = np.random.default_rng([seed, *name.encode()])
    return np.sort(rng.choice(cells, most, replace=False))


@dataclass(frozen=True)
class LabelledBatches:
    """Batches of `cells` with artefact labels, and with references where there are any.

    Adds to `Batch.extra`: `artefact` (cell, artefact); `artefact_share` (cell, artefact), what a cell bears of the
    artefact's global terms; `failing` and `failing_trained`, the share of failing cells in the whole batch and in
    training; with references `switched` (cell, artefact) labels, `reference` (group, gene) profiles of the groups in
    the batch, `reference_first` (group,) a cell of each, and `reference_of` (cell,) the group of each cell or -1.
    """

    cells: CellBatches
    artefact: Float[np.ndarray, "cell artefact"]
    train_cells: Int[np.ndarray, " train"]
    references: References | None = None

    @property
    def n_cells(self) -> int:
        """How many cells there are to choose from."""
        return self.cells.n_cells

    @property
    def library(self) -> Float[np.ndarray, " cell"]:
        """Molecules per cell."""
        return self.cells.library

    def moments(
        self, cells: Int[np.ndarray, " cell"], *, logarithm: bool
    ) -> tuple[Float[np.ndarray, " gene"], Float[np.ndarray, " gene"]]:
        """Mean and standard deviation per gene, as those of `cells`."""
        return self.cells.moments(cells, logarithm=logarithm)

    @cached_property
    def failed(self) -> Bool[np.ndarray, " cell"]:
        """Whether a cell has any artefact."""
        return np.asarray(self.artefact.any(axis=1))

    @cached_property
    def n_trained(self) -> Float[np.ndarray, " artefact"]:
        """Training cells with each artefact."""
        return (self.artefact[self.train_cells] != 0).sum(axis=0).astype(np.float32)

    def batch(self, cells: Int[np.ndarray, " cell"], *, rank: int = 0, n_parts: int = 1) -> Batch:
        """The share of process `rank` in a batch of cells."""
        plain = self.cells.batch(cells, rank=rank, n_parts=n_parts)
        own = cells[plain.cells]
        labels = np.asarray(self.artefact[own], dtype=np.float32)
        share = (labels != 0) / np.maximum(self.n_trained, 1.0)
        extra = {
            "artefact": torch.from_numpy(labels),
            "artefact_share": torch.from_numpy(np.where(self.n_trained > 0, share, 0.0).astype(np.float32)),
            "failing": torch.tensor(float(self.failed[cells].mean())),
            "failing_trained": torch.tensor(float(self.failed[self.train_cells].mean())),
        }
        if self.references is not None:
            extra |= self._references(own, labels, self.references)
        return replace(plain, extra=plain.extra | extra)

    def _references(self, own: np.ndarray, labels: np.ndarray, references: References) -> dict[str, Tensor]:
        group = references.of_cell[own]
        found, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        n_absent = int(len(found) > 0 and found[0] < 0)
        found, first = found[n_absent:], first[n_absent:]
        profiles = references.profiles[found].toarray()[:, self.cells.order]
        switched = 1.0 - labels  # one artefact: passing <-> failing
        if labels.shape[1] > 1 and len(found):  # several: what the reference cells have
            switched = np.where((group >= 0)[:, None], references.labels[np.maximum(group, 0)], labels)
        return {
            "switched": torch.from_numpy(np.ascontiguousarray(switched, dtype=np.float32)),
            "reference": torch.from_numpy(np.ascontiguousarray(profiles, dtype=np.float32)),
            "reference_first": torch.from_numpy(first.astype(np.int64)),
            "reference_of": torch.from_numpy(inverse.reshape(-1).astype(np.int64) - n_absent),
        }
