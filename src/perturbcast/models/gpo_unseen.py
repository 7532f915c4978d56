"""Targets that GPO-VAE never saw: rows of the network, and responses, as learned functions of gene features."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from perturbcast.data.conditions import Query, is_single, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.models.base import TrainingData, decode_text
from perturbcast.models.condition_kernels import Conditions
from perturbcast.models.gpo_unseen_errors import error_state, left_out, own_genes
from perturbcast.models.kernel_ridge import FEWEST_QUERIES, FittedKernelRidge, KernelRidge
from perturbcast.models.latent_family import NET

if TYPE_CHECKING:
    from perturbcast.models.gpo_vae import GpoVae

FEATURES = "features."  # prefix of the arrays of the likeness
TOLD, ROWS = "told.", "told_rows"  # of the function onto what the model says, and the training queries behind it
BLOCK = 256  # genes whose likeness with themselves is computed together
OWN = "amplitude"  # how far perturbations move their own targets, the mean of training


@dataclass(frozen=True)
class Likeness:
    """How alike the rows of genes are expected to be, by views of genes that are weighed on the training responses.

    The views are those of kernel-ridge (embedding tables, gene sets, graphs, texts, co-response in training), their
    weights those that predict held-out training conditions best. 1 for a gene with itself, 0 where nothing is known.
    """

    learned: FittedKernelRidge

    def between(self, left: Sequence[str], right: Sequence[str]) -> Float[np.ndarray, "left right"]:
        """Correlations expected of the rows of genes."""
        return self._covariance(left, right) * np.outer(self._scale(left), self._scale(right))

    def _covariance(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        kernels, weights = self.learned._kernels, self.learned._state["kernel.reach_weights"]
        return self._of(left).between(kernels, weights, self._of(right))

    def _scale(self, targets: Sequence[str]) -> np.ndarray:
        parts = [targets[start : start + BLOCK] for start in range(0, len(targets), BLOCK)]
        own = np.concatenate([np.diag(self._covariance(part, part)) for part in parts] or [np.zeros(0)])
        return np.divide(1.0, np.sqrt(own), out=np.zeros_like(own), where=own > 0)

    def _of(self, targets: Sequence[str]) -> Conditions:
        return Conditions.of([Query(target, self.learned.contexts[0]) for target in targets])


def likeness_of(model: "GpoVae", training: TrainingData, *, seed: int) -> Likeness | None:
    """Likeness learned from the training responses; None where it is not asked for or there are too few of them."""
    if model.unseen == "refuse" or training.responses.n_queries < FEWEST_QUERIES:
        return None
    return Likeness(KernelRidge().fit(replace(training, screen=None), seed=seed))


def coupling(likeness: Likeness, sources: Sequence[str], *, share: float) -> Float[np.ndarray, "source source"]:
    """C⁻¹ with C = κ·likeness + (1 - κ)·I, of unit diagonal: what couples the rows of the network in training.

    A row is a function of features, linear in those of which `likeness` is the product, plus a deviation of its own,
    with shares κ and 1 - κ of its variance. With both of them normal and the function integrated out, Σ EᵀC⁻¹E is
    what a row costs, in place of Σ E².
    """
    covariance = share * likeness.between(sources, sources)
    np.fill_diagonal(covariance, 1.0)
    return np.linalg.inv(covariance)


def row_weights(
    likeness: Likeness, unseen: Sequence[str], sources: Sequence[str], inverse: np.ndarray, *, share: float
) -> Float[np.ndarray, "unseen source"]:
    """κ·likeness·C⁻¹: the learned function at genes that were not seen, as weights of the rows of those that were."""
    return share * likeness.between(unseen, sources) @ inverse


@dataclass(frozen=True)
class LearnedNetwork:
    """The aligned network of a state: what its K hops say of conditions."""

    logits: Float[np.ndarray, "source gene"]
    strength: Float[np.ndarray, "source gene"]
    shared: Float[np.ndarray, " gene"]
    inverse: Float[np.ndarray, "source source"]
    n_hops: int

    @classmethod
    def of(cls, state: Mapping[str, np.ndarray], *, n_hops: int) -> "LearnedNetwork":
        """Out of the arrays of a fitted model."""
        names = ("guide.logits", "guide.location", "shared", "coupling")
        logits, strength, shared, inverse = (np.asarray(state[NET + name], dtype=np.float64) for name in names)
        free = np.eye(len(logits))  # of rows that nothing couples, which are kept as one number
        return cls(logits, strength, shared, inverse if len(inverse) == len(logits) else free, n_hops)

    @cached_property
    def effect(self) -> Float[np.ndarray, "source gene"]:
        """σ(Ŵ) ⊙ E without self-loops: ln change per ln change of the source."""
        found = self.strength / (1 + np.exp(-self.logits))
        np.fill_diagonal(found, 0.0)
        return found

    def responses(
        self, amplitude: Float[np.ndarray, "row source"], *, further: Float[np.ndarray, "row gene"] | None = None
    ) -> Float[np.ndarray, "row gene"]:
        """Mean responses of all genes of the network after K hops, and what all perturbations share.

        `further` is what targets without a row of their own do directly.
        """
        free = amplitude == 0
        first = amplitude @ self.effect + (0.0 if further is None else further)
        total = first
        for _ in range(self.n_hops):
            total = first + (total[:, : len(self.effect)] * free) @ self.effect
        return np.asarray(total + self.shared)


def state_of_unseen(
    model: "GpoVae",
    training: TrainingData,
    likeness: Likeness,
    state: Mapping[str, np.ndarray],
    targets: Any,
    place: Int[np.ndarray, " column"],
    *,
    seed: int,
) -> dict[str, np.ndarray]:
    """The arrays from which unseen targets are answered.

    The likeness; for `rows` the mean amplitude; for `responses` a kernel ridge onto what the model says of the single
    perturbations of training (of all, where there are too few).
    """
    found = {FEATURES + name: value for name, value in likeness.learned.state().items()}
    if targets is not None:
        amplitude = targets.amplitude.numpy()
        found[OWN] = np.array([amplitude[amplitude != 0].mean()])
    table = training.responses
    if model.unseen == "responses":
        onto = _told(model, table, state, targets, place)
        single = np.flatnonzero([is_single(query.condition) for query in table.queries])
        rows = single if len(single) >= FEWEST_QUERIES else np.arange(table.n_queries)
        told = replace(table.take(rows), response=onto[rows])
        learned = KernelRidge(on_target=False).fit(replace(training, responses=told, screen=None), seed=seed)
        found |= {TOLD + name: value for name, value in learned.state().items()}
        found[ROWS] = rows
    if "residual" in state and model.unseen == "responses":
        left, residual = left_out(learned)
        found |= error_state(left, told.response[left] - residual, table.take(rows))
    elif "residual" in state:
        found |= error_state(*left_out_rows(model, table, {**state, **found}), table)
    return found


def _told(
    model: "GpoVae", table: ResponseTable, state: Mapping[str, np.ndarray], targets: Any, place: np.ndarray
) -> Float[np.ndarray, "query gene"]:
    """What the model says of the training queries: K hops without the noise of the training means, 0 at own genes.

    Every context keeps its mean difference from what is said of all. Own answers where hops are no responses.
    """
    from perturbcast.models.gpo_vae import FittedGpo

    if model.alignment != "effects":
        found = FittedGpo(model, table, dict(state)).predict(table.queries).response
        return _with_own(found, np.zeros_like(found), table.queries, table.genes)
    conditions = sorted(set(table.conditions))
    by_gene = LearnedNetwork.of(state, n_hops=model.n_hops).responses(targets.amplitude.numpy().astype(np.float64))
    row = np.array([conditions.index(name) for name in table.conditions])
    found = np.zeros_like(table.response)
    measured = place >= 0
    found[:, place[measured]] = by_gene[row][:, measured]
    for code in np.unique(table.context_code) if len(table.contexts) > 1 else ():
        own = table.context_code == code
        found[own] += (table.response[own] - found[own]).mean(axis=0)
    return _with_own(found, np.zeros_like(found), table.queries, table.genes)


def answer(
    model: "GpoVae",
    table: ResponseTable,
    state: Mapping[str, np.ndarray],
    columns: Mapping[str, int],
    query: Query,
) -> tuple[np.ndarray, Support]:
    """(gene,) response to a query with unseen targets; own genes, and what it rests on, as by the likeness.

    `table` has the training queries; its responses are not read. CannotPredict is for the caller to raise.
    """
    usual = restored(table, state, FEATURES).predict([query])
    if model.unseen == "rows":
        found = by_rows(model, table, state, columns, query)[None]
    else:
        found = restored(table.take(state[ROWS]), state, TOLD).predict([query]).response
    return _with_own(found, usual.response, [query], table.genes)[0], usual.support[0]


def restored(table: ResponseTable, state: Mapping[str, np.ndarray], prefix: str) -> FittedKernelRidge:
    """The function of features that is kept under a prefix; `table` has the queries that it was learned from."""
    arrays = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return FittedKernelRidge(KernelRidge(), table, arrays)


def _with_own(
    found: np.ndarray, observed: np.ndarray, queries: Sequence[Query], genes: np.ndarray
) -> Float[np.ndarray, "query gene"]:
    """The responses with those of the targets' own genes taken from others."""
    return np.where(own_genes(queries, genes), observed, found)


def by_rows(
    model: "GpoVae",
    table: ResponseTable,
    state: Mapping[str, np.ndarray],
    columns: Mapping[str, int],
    query: Query,
) -> Float[np.ndarray, " gene"]:
    """Response to a query with unseen targets through rows of the network that features give; own genes are not told.

    A row tells what a target does directly; K hops carry it on.
    """
    network = LearnedNetwork.of(state, n_hops=model.n_hops)
    sources = list(columns)[: len(network.logits)]
    seen = [target for target in targets_of(query.condition) if target in sources]
    unseen = [target for target in targets_of(query.condition) if target not in sources]
    typical = float(state[OWN][0])
    amplitude = np.zeros((1, len(sources)))
    amplitude[0, [sources.index(target) for target in seen]] = typical
    likeness = Likeness(restored(table, state, FEATURES))
    weights = row_weights(likeness, unseen, sources, network.inverse, share=model.likeness)
    directly = typical * (weights @ network.effect).sum(axis=0, keepdims=True)
    return _placed(network.responses(amplitude, further=directly), columns, table.genes)[0]


def left_out_rows(
    model: "GpoVae", table: ResponseTable, state: Mapping[str, np.ndarray]
) -> tuple[Int[np.ndarray, " row"], Float[np.ndarray, "row gene"]]:
    """Single queries of training, and what `by_rows` would say of them had their row of the network not been learned.

    With C⁻¹ what couples the rows B, a left-out row is B_i - (C⁻¹ B)_i / (C⁻¹)_ii. Other rows stay as they are.
    """
    network, columns = LearnedNetwork.of(state, n_hops=model.n_hops), decode_text(state["columns"])
    place = {name: number for number, name in enumerate(columns[: len(network.logits)])}
    rows = np.flatnonzero([is_single(query.condition) for query in table.queries])
    sources = [place[table.queries[row].condition] for row in rows]
    own = network.effect - (network.inverse @ network.effect) / np.diag(network.inverse)[:, None]
    directly = float(state[OWN][0]) * own[sources]
    told = network.responses(np.zeros((len(rows), len(place))), further=directly)
    return rows, _placed(told, columns, table.genes)


def _placed(told: np.ndarray, columns: Iterable[str], genes: np.ndarray) -> Float[np.ndarray, "row gene"]:
    """Responses of the genes of the network among those that are measured; 0 for the others."""
    place = {str(gene): number for number, gene in enumerate(genes)}
    found = np.zeros((len(told), len(genes)))
    for column, gene in enumerate(columns):
        if gene in place:
            found[:, place[gene]] = told[:, column]
    return found
