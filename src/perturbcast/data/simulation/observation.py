"""From steady states to what is counted: composition, batches, cell-cycle phases, artefact cells, mean expression."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from perturbcast.data.simulation.expectation import ExpectedExpression, expected_expression
from perturbcast.data.simulation.kinetics import Kinetics
from perturbcast.data.simulation.network import MITOCHONDRIAL

PHASES = ("G1", "S", "G2M")
PHASE_SHARE = (0.5, 0.3, 0.2)
PHASE_GENES, PHASE_SPREAD = 0.15, 0.35  # share of genes that cycle, sd of their ln shift in a phase
DISPERSION_SPREAD = 0.5  # sd of ln dispersion between genes
ARTEFACT_DEPTH, ARTEFACT_SPREAD = 0.2, 0.5  # median depth relative to clean cells, sd of ln depth
AMBIENT = 0.5  # share of an artefact cell's molecules that comes from control cells
MITOCHONDRIAL_SHIFT = 1.2  # ln excess of mitochondrial genes in artefact cells


@dataclass(frozen=True, eq=False)
class Observation:
    """How steady states are observed in the measured genes.

    A background is a batch in a phase, numbered batch * 3 + phase; perturbations do not change how cells fall on them.
    """

    kinetics: Kinetics
    background: np.ndarray  # (background, gene) ln shift of abundance
    background_share: np.ndarray  # (background,) probability
    dispersion: np.ndarray  # (gene,)

    @property
    def n_genes(self) -> int:
        """Measured genes."""
        return len(self.dispersion)

    def level(self, change: Float[np.ndarray, "state node"], *, context: int) -> Float[np.ndarray, "state gene"]:
        """ln abundance of the measured genes."""
        return (self.kinetics.level[context] + change)[:, : self.n_genes]

    def log_share(
        self,
        level: Float[np.ndarray, "row gene"],
        *,
        background: Int[np.ndarray, " row"],
        is_artefact: Bool[np.ndarray, " row"],
        context: Int[np.ndarray, " row"],
    ) -> Float[np.ndarray, "row gene"]:
        """ln share of each gene in the expected molecules of a cell; half ambient in artefact cells."""
        shifted = _normalised(level + self.background[background])
        if is_artefact.any():
            rows = np.flatnonzero(is_artefact)
            control = self.kinetics.level[context[rows]][:, : self.n_genes]
            ambient = _normalised(control + self.background[background[rows]])
            mixed = np.logaddexp(np.log(1 - AMBIENT) + shifted[rows], np.log(AMBIENT) + ambient)
            is_mitochondrial = self.kinetics.network.role[: self.n_genes] == MITOCHONDRIAL
            shifted[rows] = _normalised(mixed + MITOCHONDRIAL_SHIFT * is_mitochondrial)
        return shifted

    def expected(
        self, change: Float[np.ndarray, "state node"], *, context: int, artefacts: float
    ) -> Float[np.ndarray, "state gene"]:
        """Mean ln(1 + CP10k) over cells of each state, backgrounds as they fall, and that share of artefact cells."""
        level = self.level(change, context=context)
        total = np.zeros_like(level)
        for number, share in enumerate(self.background_share):
            for is_artefact, weight in ((False, 1 - artefacts), (True, artefacts)):
                if weight > 0:
                    log_share = self.log_share(
                        level,
                        background=np.full(len(level), number),
                        is_artefact=np.full(len(level), is_artefact),
                        context=np.full(len(level), context),
                    )
                    total += share * weight * (self._artefact if is_artefact else self._clean)(log_share)
        return total

    @cached_property
    def _clean(self) -> ExpectedExpression:
        settings = self.kinetics.settings
        return self._spline(depth=settings.depth, depth_spread=settings.depth_spread)

    @cached_property
    def _artefact(self) -> ExpectedExpression:
        return self._spline(depth=self.kinetics.settings.depth * ARTEFACT_DEPTH, depth_spread=ARTEFACT_SPREAD)

    def _spline(self, *, depth: float, depth_spread: float) -> ExpectedExpression:
        control = _normalised(self.kinetics.level[:1, : self.n_genes])[0]
        return expected_expression(control, self.dispersion, depth=depth, depth_spread=depth_spread)


def build_observation(kinetics: Kinetics) -> Observation:
    """Backgrounds and dispersions under the settings of the kinetics."""
    settings = kinetics.settings
    rng = settings.stream("background")
    n_genes = settings.n_genes
    cycles = rng.random(n_genes) < PHASE_GENES
    phase = np.where(cycles, rng.normal(0.0, PHASE_SPREAD, (len(PHASES), n_genes)), 0.0)
    batch = settings.batch_effect * rng.standard_normal((settings.n_batches, n_genes))
    noise = settings.stream("dispersion").standard_normal(n_genes)
    return Observation(
        kinetics=kinetics,
        background=(batch[:, None] + phase[None]).reshape(-1, n_genes),
        background_share=np.tile(np.array(PHASE_SHARE) / settings.n_batches, settings.n_batches),
        dispersion=settings.dispersion * np.exp(DISPERSION_SPREAD * np.clip(noise, -3, 3)),
    )


def _normalised(log_weight: Float[np.ndarray, "row gene"]) -> Float[np.ndarray, "row gene"]:
    top = log_weight.max(axis=1, keepdims=True)
    return log_weight - top - np.log(np.exp(log_weight - top).sum(axis=1, keepdims=True))
