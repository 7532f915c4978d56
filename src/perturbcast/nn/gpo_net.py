"""GPO-VAE: CRADLE-VAE whose mask is the gene regulatory network (spec 5)."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from perturbcast.nn.batch import Batch
from perturbcast.nn.counterfactual import LabelledBatches
from perturbcast.nn.cradle_net import CradleNet, CradleShape
from perturbcast.nn.grn import (
    EffectTargets,
    Penalties,
    effect_alignment,
    l1_alignment,
    mean_alignment,
    of_all_genes,
    reach_alignment,
    sparsity,
)
from perturbcast.nn.guides import CorrelatedGuide, MaskAndEmbedding, MeanFieldGuide
from perturbcast.nn.hops import hops
from perturbcast.nn.standardise import Standardise
from perturbcast.nn.trunk import in_single

Alignment = Literal["cells", "means", "reach", "effects", "none"]


@dataclass(frozen=True)
class GpoShape:
    """What GPO-VAE has beside the shape of CRADLE-VAE; offsets are as wide as there are genes in the network."""

    cradle: CradleShape  # n_targets: genes of the network P, perturbed ones first
    n_sources: int  # genes that may regulate: P as published, the perturbed ones m where the others are closed (B7)
    guide: Literal["correlated", "mean-field"]  # q(E | M); mean-field embeddings are the strengths of edges
    alignment: Alignment  # ΔX of single cells (22), size of mean responses, that by probability (B6), or with signs
    n_hops: int = 5  # K
    criterion: float = 0.5  # c, ln units
    alignment_weight: float = 100.0  # λ_g
    sparsity: float = 1.0  # λ_s; of `effects` and `reach` relative to λ_g
    ridge: float = 3.0  # of strengths, relative to λ_g; `effects` only
    diagonal: bool = False  # targets' own responses are aligned too (B24)


class GpoNet(CradleNet):
    """Network and objective, equation (25). Batches are those of `NetworkBatches`.

    `guide.logits` is Ŵ, (source, gene); with the mean-field guide `guide.location` is E.
    """

    prior: Tensor
    coupling: Tensor

    def __init__(
        self,
        shape: GpoShape,
        standardise: Standardise,
        *,
        prior: Float[np.ndarray, "#source #gene"] | None = None,
        targets: EffectTargets | None = None,
        coupling: Float[np.ndarray, "#source #source"] | None = None,
    ) -> None:
        super().__init__(shape.cradle, standardise, guide=guide_of(shape))
        self.gpo = shape
        self.targets = targets
        n_genes = shape.cradle.offset_width
        self.shared = torch.nn.Parameter(torch.zeros(n_genes)) if shape.alignment == "effects" else None
        background = np.full((1, 1), shape.cradle.mask_prior)
        self.register_buffer("prior", torch.as_tensor(background if prior is None else prior, dtype=torch.float32))
        free = np.ones((1, 1))
        self.register_buffer("coupling", torch.as_tensor(free if coupling is None else coupling, dtype=torch.float32))

    @property
    def penalties(self) -> Penalties:
        """Sparsity and ridge of the mean-effect alignment; an edge that knowledge makes likely costs less.

        It costs √((1 - π_ab) / (1 - π)): without the root, knowledge that is wrong does two thirds of the harm that
        right knowledge does good (docs/GPO_VAE.md), with it half.
        """
        background = self.gpo.cradle.mask_prior
        coupling = None if self.coupling.shape[0] == 1 else self.coupling
        cost = torch.sqrt((1 - self.prior) / (1 - background))
        return Penalties(self.gpo.sparsity, self.gpo.ridge, cost, coupling)

    def mask_prior(self, present: Int[Tensor, " row"]) -> float | Tensor:
        """Prior probability of the edges of the genes present: π, or π_ab where knowledge has a word."""
        return self.prior if self.prior.shape[0] == 1 else self.prior[present]

    def terms(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """Terms of (18) and the network's: λ_g times the alignment, λ_s times the sparsity."""
        terms = super().terms(batch, seed=seed)
        with in_single(self.guide.logits):
            return terms | self.network_terms(batch)

    def network_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The alignment of the rows in the batch, and what keeps the network sparse."""
        shape, logits = self.gpo, self.guide.logits
        if shape.alignment == "none":
            return {}
        if shape.alignment == "cells":
            aligned = batch.mean(self._cells_aligned(batch))
            return {"network": shape.alignment_weight * aligned, "sparsity": shape.sparsity * sparsity(logits)}
        assert self.targets is not None
        targets = self.targets.to(logits.device).take(batch.extra["aligned_rows"])
        if shape.alignment in ("reach", "means"):
            align = reach_alignment if shape.alignment == "reach" else mean_alignment
            aligned = align(logits, targets, n_hops=shape.n_hops, criterion=shape.criterion)
            penalty = shape.sparsity * sparsity(logits)
        else:
            assert isinstance(self.guide, MeanFieldGuide)
            assert self.shared is not None
            aligned = effect_alignment(logits, self.guide.location, self.shared, targets, n_hops=shape.n_hops)
            penalty = self.penalties(logits, self.guide.location)
        # A batch of controls alone has no row to align
        aligned = torch.where(torch.isfinite(aligned), aligned, torch.zeros_like(aligned))
        return {"network": shape.alignment_weight * aligned, "sparsity": shape.alignment_weight * penalty}

    def _cells_aligned(self, batch: Batch) -> Float[Tensor, " cell"]:
        """(22) per cell; T̂_K is computed once per condition of the batch."""
        extra = batch.extra
        dosage, of_cell = extra["condition_dosage"], extra["condition_of"]
        logits = of_all_genes(self.guide.logits, torch.arange(len(self.guide.logits), device=dosage.device))
        total = hops(dosage, logits, n_hops=self.gpo.n_hops)[of_cell]
        counted = extra["change_is_measured"][None]
        if not self.gpo.diagonal:
            counted = counted & (dosage == 0)[of_cell]
        return l1_alignment(total, extra["change"], criterion=self.gpo.criterion, counted=counted)


def guide_of(shape: GpoShape) -> MaskAndEmbedding:
    """q(M, E) over (source, gene)."""
    cradle, n_genes = shape.cradle, shape.cradle.offset_width
    if shape.guide == "mean-field":
        return MeanFieldGuide(shape.n_sources, n_genes, temperature=cradle.temperature)
    return CorrelatedGuide(
        shape.n_sources,
        n_genes,
        width=cradle.embedding_width,
        n_layers=cradle.embedding_layers,
        temperature=cradle.temperature,
    )


# ------------------------------------------------------------------------------------------------------------ batches
@dataclass(frozen=True)
class CellChanges:
    """ΔX of equation (22): |expression of a cell - that of its matched control|, in the genes of the network."""

    expression: sparse.csr_matrix  # (cell, gene) ln(1 + counts per median library)
    matched: Int[np.ndarray, " cell"]  # position of the matched control of each cell, -1 for none
    is_measured: Bool[np.ndarray, " gene"]

    def of(self, cells: Int[np.ndarray, " cell"]) -> Float[np.ndarray, "cell gene"]:
        """ΔX of some cells; 0 without a match, as of a cell with itself."""
        partner = np.where(self.matched[cells] >= 0, self.matched[cells], cells)
        return np.abs((self.expression[cells] - self.expression[partner]).toarray()).astype(np.float32)


@dataclass(frozen=True)
class NetworkBatches:
    """Batches with what the alignment of the network reads; everything else is that of `LabelledBatches`.

    Adds to `Batch.extra`: with mean effects `aligned_rows`, the conditions of the whole batch among those aligned; with
    cells `change` (cell, gene), `change_is_measured` (gene,), `condition_dosage` (condition, gene), `condition_of`.
    """

    labelled: LabelledBatches
    row_of_condition: Int[np.ndarray, " condition"]  # row of the mean effects, -1 for none
    changes: CellChanges | None = None

    @property
    def n_cells(self) -> int:
        """How many cells there are to choose from."""
        return self.labelled.n_cells

    @property
    def library(self) -> Float[np.ndarray, " cell"]:
        """Molecules per cell."""
        return self.labelled.cells.library

    def batch(self, cells: Int[np.ndarray, " cell"], *, rank: int = 0, n_parts: int = 1) -> Batch:
        """The share of process `rank` in a batch of cells."""
        plain = self.labelled.batch(cells, rank=rank, n_parts=n_parts)
        code = self.labelled.cells.screen.condition_code
        present = np.unique(code[cells])
        rows = self.row_of_condition[present]
        extra: dict[str, Tensor] = {"aligned_rows": torch.from_numpy(rows[rows >= 0])}
        if self.changes is not None:
            own = cells[plain.cells]
            extra |= {
                "change": torch.from_numpy(self.changes.of(own)),
                "change_is_measured": torch.from_numpy(self.changes.is_measured),
                "condition_dosage": torch.from_numpy(self.labelled.cells.dosage[present]),
                "condition_of": torch.from_numpy(np.searchsorted(present, code[own])),
            }
        return replace(plain, extra=plain.extra | extra)


def network_columns(genes: list[str], extended: list[str]) -> tuple[str, ...]:
    """The genes of the network: perturbed ones by name, then extended ones by name (spec 1)."""
    perturbed = sorted(set(genes))
    return (*perturbed, *sorted(set(extended) - set(perturbed)))
