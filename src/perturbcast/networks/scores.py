"""Scores of a network against a truth or a reference, over a stated universe of pairs, with bootstrap intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from perturbcast.data.simulate import World
from perturbcast.errors import NoEvaluablePair, NoOverlap
from perturbcast.networks.network import Network
from perturbcast.networks.ranking import area_under_roc, average_precision, expected_hits
from perturbcast.networks.topology import reachable
from perturbcast.networks.universe import Universe


@dataclass(frozen=True)
class NetworkScore:
    """One score, its value for a random ranking, and its interval (NaN where none was asked for)."""

    score: str
    value: float
    chance: float
    low: float = float("nan")
    high: float = float("nan")


def truth_of_world(world: World) -> Network:
    """The true network of a simulated world: signed weights of the reference context, self-regulation left out."""
    true = world.network
    entries = true.weights.tocoo()
    perturbed = np.isin(true.genes.astype(str), np.array(world.targets, dtype=str))
    return Network.of_edges(
        true.genes,
        entries.row.astype(np.int64),
        entries.col.astype(np.int64),
        np.abs(entries.data),
        sign=np.sign(entries.data),
        is_perturbed=perturbed,
        is_measured=np.arange(len(true.genes)) < true.n_measured,
        method="truth",
        source=world.source,
    )


@dataclass(frozen=True)
class Pairs:
    """A network and a truth laid over a universe: one row per source, one column per target."""

    score: np.ndarray  # (source, target) weight, 0 where no edge
    sign: np.ndarray  # (source, target) of the network
    is_true: np.ndarray  # (source, target) bool
    true_sign: np.ndarray  # (source, target)
    counts: np.ndarray  # (source, target) bool: in the universe

    @classmethod
    def of(cls, network: Network, truth: Network, universe: Universe) -> "Pairs":
        """The pairs; NoEvaluablePair where the universe is empty or holds no true edge."""
        counts = universe.pairs
        is_true = (truth.between(universe.sources, universe.targets) > 0) & counts
        if not is_true.any():
            fact = f"None of the {truth.n_edges} edges of {truth.method or 'the truth'} is among {counts.sum()} pairs."
            raise NoEvaluablePair(fact, "Check species and naming.")
        return cls(
            network.between(universe.sources, universe.targets),
            network.between(universe.sources, universe.targets, column="sign"),
            is_true,
            truth.between(universe.sources, universe.targets, column="sign"),
            counts,
        )

    def rows(self, rows: np.ndarray) -> "Pairs":
        """Some sources, repeats allowed."""
        return Pairs(*(getattr(self, name)[rows] for name in ("score", "sign", "is_true", "true_sign", "counts")))

    @property
    def flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores and truth of the pairs that count."""
        return self.score[self.counts], self.is_true[self.counts]

    @property
    def prevalence(self) -> float:
        """Share of true pairs."""
        return float(self.is_true.sum() / max(self.counts.sum(), 1))


def auprc(pairs: Pairs) -> float:
    """Average precision over the universe."""
    return average_precision(*pairs.flat)


def auroc(pairs: Pairs) -> float:
    """Chance that a true pair scores above a false one."""
    return area_under_roc(*pairs.flat)


def early_precision(pairs: Pairs) -> float:
    """Share of true pairs among as many best pairs as there are true ones; pairs without an edge are no guesses."""
    score, is_true = pairs.flat
    k = int(is_true.sum())
    hits = expected_hits(score, np.where(score > 0, is_true, False).astype(np.float64), k)
    return hits / k if k else float("nan")


def early_precision_ratio(pairs: Pairs) -> float:
    """Early precision over that of a random ranking (EPR, BEELINE)."""
    return early_precision(pairs) / pairs.prevalence if pairs.prevalence else float("nan")


def signed_accuracy(pairs: Pairs) -> float:
    """Share of right signs among the true, signed pairs that the network has an edge for; NaN without such pairs."""
    known = pairs.is_true & (pairs.true_sign != 0) & (pairs.sign != 0) & (pairs.score > 0)
    return float((pairs.sign == pairs.true_sign)[known].mean()) if known.any() else float("nan")


SCORES: dict[str, tuple[Callable[[Pairs], float], Callable[[Pairs], float]]] = {  # name -> score, chance level
    "auprc": (auprc, lambda pairs: pairs.prevalence),
    "auroc": (auroc, lambda pairs: 0.5),
    "early_precision": (early_precision, lambda pairs: pairs.prevalence),
    "epr": (early_precision_ratio, lambda pairs: 1.0),
    "signed_accuracy": (signed_accuracy, lambda pairs: 0.5),
}


def score_network(
    network: Network, truth: Network, *, universe: Universe, n_bootstrap: int = 0, seed: int = 0
) -> list[NetworkScore]:
    """AUPRC, AUROC, early precision and its ratio (EPR), and signed accuracy over the universe.

    Pairs without an edge score 0 and stay in the universe; self-loops do not count. Intervals are 95 % percentile
    intervals of `n_bootstrap` resamples of the sources, since the targets of one source are not independent.
    NoEvaluablePair where the universe has no true edge.
    """
    pairs = Pairs.of(network, truth, universe)
    rng = np.random.default_rng(seed)
    n_sources = len(universe.sources)
    drawn = [pairs.rows(rng.integers(0, n_sources, n_sources)) for _ in range(n_bootstrap)]
    found = []
    for name, (score, chance) in SCORES.items():
        low, high = _interval(np.array([score(resample) for resample in drawn]))
        found.append(NetworkScore(name, score(pairs), chance(pairs), low, high))
    return found


def _interval(values: Float[np.ndarray, " resample"]) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def precision_recall(network: Network, truth: Network, *, universe: Universe | None = None) -> tuple[float, float]:
    """Share of the network's edges that are true, and of the true edges that it has; NaN where it has none."""
    if universe is None:
        genes = tuple(dict.fromkeys([*network.genes, *truth.genes]))
        universe = Universe(genes, genes)
    pairs = Pairs.of(network, truth, universe)
    has = (pairs.score > 0) & pairs.counts
    both = int((has & pairs.is_true).sum())
    return both / int(has.sum()) if has.any() else float("nan"), both / int(pairs.is_true.sum())


# -------------------------------------------------------------------------------------------------- direct or indirect
def direct_or_indirect(truth: Network, universe: Universe) -> tuple[Bool[np.ndarray, "s t"], Bool[np.ndarray, "s t"]]:
    """Which pairs are true edges, and which are joined by a longer directed path of the truth only."""
    linked = reachable(np.asarray(truth.weights.toarray() > 0))
    places = [[truth.place.get(gene, -1) for gene in genes] for genes in (universe.sources, universe.targets)]
    padded = np.pad(linked, ((0, 1), (0, 1)))  # position -1: genes that the truth does not know
    direct = (truth.between(universe.sources, universe.targets) > 0) & universe.pairs
    return direct, padded[np.ix_(*places)] & universe.pairs & ~direct


def score_directness(network: Network, truth: Network, *, universe: Universe) -> dict[str, float]:
    """How well direct edges are told from indirect ones, and what the best pairs are.

    auprc_direct_among_linked, auroc_direct_among_linked: ranking of the direct edges among all pairs that any path
    joins (chance_direct_among_linked: their share). top_direct, top_indirect, top_unlinked: what share of the best
    pairs, as many as there are true edges, is of each kind.
    """
    direct, indirect = direct_or_indirect(truth, universe)
    if not direct.any():
        raise NoEvaluablePair("The truth has no direct edge in the universe.", "Check species and naming.")
    score = network.between(universe.sources, universe.targets)
    among, all_pairs = direct | indirect, universe.pairs
    k = int(direct.sum())
    kinds = {"top_direct": direct, "top_indirect": indirect, "top_unlinked": all_pairs & ~among}
    shares = {
        name: expected_hits(score[all_pairs], kind[all_pairs].astype(np.float64), k) / k for name, kind in kinds.items()
    }
    return {
        "auprc_direct_among_linked": average_precision(score[among], direct[among]),
        "auroc_direct_among_linked": area_under_roc(score[among], direct[among]),
        "chance_direct_among_linked": float(direct.sum() / among.sum()),
        **shares,
    }


def score_against(
    network: Network,
    reference: Network,
    *,
    universe: Universe,
    directed: bool = True,
    n_bootstrap: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """A network against a biological reference: one row per score, with chance and interval, and what was compared.

    The universe shrinks to genes that the reference knows: sources that are sources there (any role if undirected),
    targets that occur there at all. `directed=False` counts a reference edge in either direction. Columns: score,
    value, chance, low, high, n_sources, n_targets, n_pairs, n_true. NoOverlap where no gene is shared, NoEvaluablePair
    where no reference edge falls into the universe.
    """
    truth = reference if directed else undirected(reference)
    starts = {str(truth.genes[code]) for code in np.unique(truth.source_code)}
    every = starts | {str(truth.genes[code]) for code in np.unique(truth.target_code)}
    shared = universe.within(every)
    shared = Universe(tuple(gene for gene in shared.sources if gene in starts), shared.targets)
    if not shared.sources or not shared.targets:
        raise NoOverlap(
            f"{reference.method or 'The reference'} has no edge from one of {len(universe.sources)} sources."
        )
    rows = pd.DataFrame(score_network(network, truth, universe=shared, n_bootstrap=n_bootstrap, seed=seed))
    n_true = int(((truth.between(shared.sources, shared.targets) > 0) & shared.pairs).sum())
    return rows.assign(
        n_sources=len(shared.sources), n_targets=len(shared.targets), n_pairs=shared.n_pairs, n_true=n_true
    )


def undirected(network: Network) -> Network:
    """The network with every edge in both directions; of two opposite edges the stronger weight stays, no sign."""
    both = network.weights.maximum(network.weights.T).tocoo()
    return Network.of_edges(
        network.genes,
        both.row.astype(np.int64),
        both.col.astype(np.int64),
        both.data,
        is_perturbed=network.is_perturbed,
        is_measured=network.is_measured,
        is_extended=network.is_extended,
        method=network.method,
        source=network.source,
    )
