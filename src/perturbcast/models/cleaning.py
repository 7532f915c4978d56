"""Observed cells without their artefacts, and how many cells pass the limits of quality (spec 7.3, 8.3)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import sparse

from perturbcast._progress import Progress
from perturbcast.data.artefacts import ArtefactLabels, ArtefactRule, artefact_labels
from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.errors import GenesDiffer, NoArtefactModel, NotCounts, ShapesDiffer, WrongScale
from perturbcast.models.artefact_family import FittedWithArtefacts
from perturbcast.models.base import FittedModel
from perturbcast.models.latent_family import FittedLatent

if TYPE_CHECKING:
    from perturbcast.nn.batch import Batch

BLOCK = 256  # cells decoded at a time; memory is particles x cells x genes
MOST_ROWS = 4096  # cells in a block of the result


def clean_cells(
    fitted: FittedModel,
    screen: Screen,
    *,
    failed: Bool[np.ndarray, " cell"],
    which: Literal["failing", "all"] = "failing",
    values: Literal["drawn", "mean"] = "drawn",
    depth: Literal["passing", "own"] = "passing",
    condition: str | None = None,
    n_particles: int = 16,
    seed: int = 0,
    progress: Progress | None = None,
) -> Screen:
    """The screen with its failing cells as they would be without artefacts: z ~ q(z | x, δ, q a), decoded without a.

    `which`: cells that pass stay as observed, or are decoded too. `values`: new cells, as drawn from the model (counts
    where it was trained on counts), or expected ln(1 + CP10k) over `n_particles`, in which case every cell is in that
    scale. `depth` of failing cells that are drawn: that of a passing cell of the screen, at random, or their own.
    `condition` decodes as if the cells had received that instead. A covariate `was_artefact` says which failed.
    `fitted` is a CRADLE-VAE or GPO-VAE; NoArtefactModel for another model, GenesDiffer and WrongScale for a screen
    unlike that of training, CannotPredict for conditions of those cells without a network input, ShapesDiffer for
    `failed`.
    """
    condition = None if condition is None else fitted.query_of(condition).condition
    chosen = _chosen(failed, which)
    blocks = cleaned_blocks(
        fitted,
        screen,
        failed=failed,
        which=which,
        values=values,
        depth=depth,
        condition=condition,
        n_particles=n_particles,
        seed=seed,
        progress=progress,
    )
    cells = np.arange(screen.n_cells)
    found = sparse.csr_matrix(sparse.vstack(list(blocks), format="csr"))
    covariates = screen.covariates.copy() if len(screen.covariates) else pd.DataFrame(index=cells)
    covariates["was_artefact"] = failed
    is_counts = screen.scale is Scale.COUNTS and values == "drawn"
    return replace(
        screen if condition is None else _as_condition(screen, chosen, condition),
        matrix=InMemory(found),
        scale=screen.scale if values == "drawn" else screen.scale.of_expression,
        row=cells.astype(np.int64),
        library=np.asarray(found.sum(axis=1)).ravel() if is_counts else None,
        covariates=covariates,
    )


def cleaned_blocks(
    fitted: FittedModel,
    screen: Screen,
    *,
    failed: Bool[np.ndarray, " cell"],
    which: Literal["failing", "all"] = "failing",
    values: Literal["drawn", "mean"] = "drawn",
    depth: Literal["passing", "own"] = "passing",
    condition: str | None = None,
    n_particles: int = 16,
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[sparse.csr_matrix]:
    """The matrix of `clean_cells`, block by block in the order of the cells; memory is one block. Raises the same."""
    network = network_with_artefacts(fitted)
    check_cleanable(fitted, screen, failed)
    chosen = _chosen(failed, which)
    assert isinstance(fitted, FittedLatent)
    for code in np.unique(screen.condition_code[chosen]):
        fitted.dosage(screen.conditions[code])  # refuses what the network has no input for
    decoder = _Decoding(fitted, network, screen, failed, condition=condition, n_particles=n_particles, seed=seed)
    library = _libraries(screen, failed, depth=depth, seed=seed)
    starts = range(0, len(chosen), BLOCK)
    done = 0
    for number, start in enumerate((progress or Progress()).track(starts, label="cleaning", total=len(starts))):
        cells = chosen[start : start + BLOCK]
        decoded = sparse.csr_matrix(decoder.decoded(cells, library, values=values, number=number))
        end = int(cells[-1]) + 1
        yield from _merged(screen, range(done, end), cells, decoded, values=values)
        done = end
    nothing = sparse.csr_matrix((0, screen.n_genes), dtype=np.float32)
    yield from _merged(screen, range(done, screen.n_cells), chosen[:0], nothing, values=values)


def _merged(
    screen: Screen, cells: range, chosen: np.ndarray, decoded: sparse.csr_matrix, *, values: str
) -> Iterator[sparse.csr_matrix]:
    """The rows of a range of cells in blocks: those of `decoded` for the chosen, as observed for the others."""
    for start in range(cells.start, cells.stop, MOST_ROWS):
        own = np.arange(start, min(start + MOST_ROWS, cells.stop))
        observed = screen.stored(own) if values == "drawn" else screen.expression(own)
        here = (chosen >= own[0]) & (chosen <= own[-1])
        yield _replaced(observed, chosen[here] - start, decoded[np.flatnonzero(here)])


def _chosen(failed: np.ndarray, which: str) -> Int[np.ndarray, " some"]:
    return np.flatnonzero(failed) if which == "failing" else np.arange(len(failed))


def pass_rates(
    fitted: FittedModel,
    screen: Screen,
    *,
    conditions: Sequence[str] | None = None,
    rule: ArtefactRule | None = None,
    thresholds: Sequence[float] = (3.0, 4.0, 5.0),
    n_cells: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of cells that pass: one row per condition and threshold, observed and generated, and how many there are.

    Limits are those of all cells of the screen, by `rule` at each threshold; generated cells are as deep as those the
    model trained on. Doublets, which single generated cells cannot be, count for neither. NotCounts for a screen of
    expression. Differs from the published
    code: the share is mean(1 - q), never that of the larger class (B15), and depths are not all 10⁴.
    """
    network_with_artefacts(fitted)
    check_cleanable(fitted, screen, np.zeros(screen.n_cells, dtype=bool))
    if screen.scale is not Scale.COUNTS:
        raise NotCounts(f"molecules and genes of generated cells need counts, and the screen is {screen.scale}.")
    asked = list(conditions) if conditions is not None else [name for name in screen.conditions if name != CONTROL]
    generated = {name: _generated(fitted, name, n_cells=n_cells, seed=seed) for name in asked}
    rule = rule or ArtefactRule()
    rows = []
    for threshold in thresholds:
        flags = tuple(flag for flag in rule.flags if flag != "doublet")
        labels = artefact_labels(screen, rule=replace(rule, threshold=float(threshold), flags=flags, per_batch=False))
        rows += [_row(screen, labels, name, generated[name], fitted.genes, threshold) for name in asked]
    return pd.DataFrame(rows)


def _generated(fitted: FittedModel, condition: str, *, n_cells: int, seed: int) -> np.ndarray:
    assert isinstance(fitted, FittedLatent)
    query = Query(condition, fitted.contexts[0])
    return fitted.sample_cells(query, n_cells=n_cells, seed=seed)


def _row(
    screen: Screen, labels: ArtefactLabels, name: str, cells: np.ndarray, genes: np.ndarray, threshold: float
) -> dict[str, Any]:
    own = screen.condition_code == screen.conditions.index(name) if name in screen.conditions else np.zeros(0, bool)
    observed = labels.failed[own] if own.any() else np.zeros(0, dtype=bool)
    return {
        "condition": name,
        "threshold": float(threshold),
        "observed": float(1 - observed.mean()) if len(observed) else np.nan,
        "generated": float(1 - labels.judge(cells.astype(np.float64), genes, scale=screen.scale).mean()),
        "n_observed": len(observed),
        "n_generated": len(cells),
    }


# ---------------------------------------------------------------------------------------------------------- decoding
class _Decoding:
    """Decodes blocks of cells of a screen without artefacts."""

    def __init__(
        self,
        fitted: FittedModel,
        network: Any,
        screen: Screen,
        failed: np.ndarray,
        *,
        condition: str | None,
        n_particles: int,
        seed: int,
    ) -> None:
        assert isinstance(fitted, FittedWithArtefacts)
        self.source, self.network = fitted.labelled(screen, failed), network
        self.context_code = screen.context_code
        self.others = None
        if condition is not None:
            self.others = [fitted.dosage_of(Query(condition, context)) for context in screen.contexts]
        self.n_particles, self.seed = n_particles, seed
        self.least_zero = screen.scale in (Scale.LOG1P_CP10K, Scale.LOG1P_CPM)  # where nothing is negative

    def decoded(
        self, cells: Int[np.ndarray, " some"], library: np.ndarray, *, values: Literal["drawn", "mean"], number: int
    ) -> Float[np.ndarray, "some gene"]:
        """Values of some cells, genes as in the screen."""
        import torch

        from perturbcast.nn.average import stream

        with torch.no_grad():
            batch = self.source.batch(cells)
            parts = self._parts(
                batch, cells, 1 if values == "drawn" else self.n_particles, stream(self.seed, 1, number)
            )
            found = self._mean(parts) if values == "mean" else self._drawn(parts, library[cells], number)
        placed = np.empty_like(found, dtype=np.float32)
        placed[:, self.source.cells.order] = found
        return placed

    def _parts(self, batch: "Batch", cells: Int[np.ndarray, " some"], n_particles: int, seed: int) -> tuple[Any, ...]:
        """(particle, cell, ...) basal state and offset; the slot of artefacts is 0."""
        from perturbcast.nn.latent import draw_basal

        noise = batch.noise(seed)
        drawn = self.network.draw(batch.present, noise, n_particles=n_particles)
        own, _ = self.network.encode(batch, drawn)
        basal = draw_basal(own, noise, n_particles=n_particles)
        if self.others is None:
            return basal, *drawn.of_cells(batch)
        return self._as_other(basal, self.context_code[cells], seed)

    def _as_other(self, basal: Any, context: Int[np.ndarray, " cell"], seed: int) -> tuple[Any, ...]:
        """The parts for cells that had received the other condition, each in its own context."""
        import torch

        from perturbcast.nn.average import stream
        from perturbcast.nn.noise import Noise

        assert self.others is not None
        found: list[Any] = []
        for code in np.unique(context):
            own = torch.from_numpy(np.flatnonzero(context == code))
            flat = basal[:, own].reshape(-1, basal.shape[-1])
            dosage = torch.from_numpy(self.others[code])
            parts = self.network.decoder_input(dosage, flat, lambda column: Noise(stream(seed, column), n_everywhere=0))
            for place, part in enumerate(parts):
                if len(found) <= place:
                    found.append(part.new_zeros(*basal.shape[:2], part.shape[-1]))
                found[place][:, own] = part.reshape(len(basal), len(own), -1)
        return tuple(found)

    def _mean(self, parts: tuple[Any, ...]) -> np.ndarray:
        from perturbcast.nn.counts import CountHead
        from perturbcast.nn.predictive import PER

        decoder = self.network.decoder
        if not isinstance(decoder.head, CountHead):
            return np.asarray(decoder.mean(*parts).mean(dim=0).numpy())
        share = decoder.log_share(*parts).exp().mean(dim=0)
        return np.asarray((share * PER).log1p().numpy())

    def _drawn(self, parts: tuple[Any, ...], library: np.ndarray, number: int) -> np.ndarray:
        from perturbcast.nn.average import stream
        from perturbcast.nn.counts import CountHead
        from perturbcast.nn.predictive import drawn_counts

        decoder = self.network.decoder
        rng = np.random.default_rng(stream(self.seed, 2, number))
        if not isinstance(decoder.head, CountHead):
            mean = decoder.mean(*parts)[0].numpy()
            found = mean + decoder.head.log_sd.exp().numpy() * rng.standard_normal(mean.shape)
            return np.maximum(found, 0.0) if self.least_zero else np.asarray(found)
        share = decoder.log_share(*parts)[0].exp().numpy().astype(np.float64)
        return drawn_counts(share, library, decoder.head.log_dispersion.exp().numpy(), rng)


def _libraries(
    screen: Screen, failed: np.ndarray, *, depth: Literal["passing", "own"], seed: int
) -> Float[np.ndarray, " cell"]:
    """Molecules that each cell is to have; those of a passing cell of the same context for failing ones."""
    from perturbcast.nn.cells import library_sizes

    sizes = library_sizes(screen).astype(np.float64)
    rng = np.random.default_rng(seed)
    if depth == "passing":
        for context in range(len(screen.contexts)):
            here = screen.context_code == context
            passing, failing = np.flatnonzero(here & ~failed), np.flatnonzero(here & failed)
            if len(passing):
                sizes[failing] = sizes[rng.choice(passing, len(failing))]
    return sizes


def _replaced(observed: sparse.csr_matrix, chosen: np.ndarray, decoded: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows `chosen` of a matrix replaced by those of another, the rest as they are."""
    stacked = sparse.csr_matrix(sparse.vstack([observed, decoded], format="csr")).astype(np.float32)
    row = np.arange(observed.shape[0])
    row[chosen] = observed.shape[0] + np.arange(len(chosen))
    return sparse.csr_matrix(stacked[row])


def _as_condition(screen: Screen, chosen: np.ndarray, condition: str) -> Screen:
    """The screen with some cells under another condition."""
    conditions = tuple(sorted({*screen.conditions, condition}))
    code = np.array([conditions.index(own) for own in screen.conditions])[screen.condition_code]
    code[chosen] = conditions.index(condition)
    return replace(screen, conditions=conditions, condition_code=code.astype(np.int32))


def network_with_artefacts(fitted: FittedModel) -> Any:
    """The network of a model that knows artefacts; NoArtefactModel otherwise."""
    network = fitted.network if isinstance(fitted, FittedLatent) else None
    embedding = getattr(network, "artefact", None)
    if embedding is None or not len(embedding.posterior().mean):
        raise NoArtefactModel(f"this {fitted.model.card.name} knows no artefacts of cells.")
    return network


def check_cleanable(fitted: FittedModel, screen: Screen, failed: np.ndarray) -> None:
    """Raises ShapesDiffer, GenesDiffer or WrongScale for a screen that the model cannot clean."""
    if len(failed) != screen.n_cells:
        raise ShapesDiffer(f"{len(failed):,} labels of quality were given for {screen.n_cells:,} cells.")
    if not np.array_equal(np.sort(screen.genes.astype(str)), np.sort(fitted.genes.astype(str))):
        raise GenesDiffer("the screen does not have the genes that the model was trained on.")
    assert isinstance(fitted, FittedLatent)
    is_counts = screen.scale is Scale.COUNTS
    if is_counts != (fitted.likelihood == "counts") or screen.scale.of_expression != fitted.scale:
        trained = "counts" if fitted.likelihood == "counts" else str(fitted.scale)
        raise WrongScale(f"the model was trained on {trained}, the screen is {screen.scale}.")
