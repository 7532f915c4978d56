"""Statistical scores of a network on held-out cells, as CausalBench defines them, with its defects mended.

Chevalley et al. 2022 (arXiv:2210.17283), spec 8.4 and eq. 30. For an edge a -> b, cells in which a is perturbed are
compared with control in the expression of b: their Wasserstein distance W1, and a two-sided Mann-Whitney test at 5 %.
The mean of W1 over the edges is high for a good network; the false-omission rate (FOR), the share of significant pairs
among those that no directed path of the network joins, is low.

Differs from CausalBench: `max_path` is exact (there, a closure that doubles lets "3" reach paths of 4 edges); all
omitted pairs are counted instead of 500 drawn ones, unless asked for; NaN instead of an endless loop where fewer are
left. Differs from GPO-VAE's evaluation (`published_false_omission_rate`): predicted pairs really are left out, pairs
are named consistently, the denominator counts evaluable pairs, self-loops are out, and a seed decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from perturbcast._progress import Progress
from perturbcast.data.screen import Screen
from perturbcast.errors import BadOption, NoControl, NoEvaluablePair
from perturbcast.networks.covariation import dense_columns
from perturbcast.networks.network import Network
from perturbcast.networks.two_sample import Groups, compare, stratified_p
from perturbcast.networks.universe import Universe, universe_of

GENES_AT_ONCE = 64  # columns made dense at a time
ALPHA = 0.05  # no correction for the number of pairs, as published
MAX_PATH = 3  # spec 8.4


@dataclass(frozen=True)
class InterventionTests:
    """Every source against control in every gene of the universe, on the cells given; NaN for self-loops."""

    universe: Universe
    wasserstein: np.ndarray  # (source, target) W1, ln units
    p: np.ndarray  # (source, target)
    n_cells: np.ndarray  # (source,) int64
    n_control: int

    @property
    def significant(self) -> Bool[np.ndarray, "source target"]:
        """Whether the rank-sum test says that perturbing the source changes the target."""
        return np.asarray(self.universe.pairs & (np.nan_to_num(self.p, nan=1.0) < ALPHA))


def hold_out(screen: Screen, *, share: float = 0.2, seed: int = 0) -> tuple[Screen, Screen]:
    """Training and held-out cells: `share` of the cells of each condition and context, at random. BadOption."""
    if not 0 < share < 1:
        raise BadOption(f"share={share} is outside 0 to 1.")
    drawn = np.random.default_rng(seed).random(screen.n_cells)
    order = np.lexsort((drawn, screen.query_code))
    code = screen.query_code[order]
    rank = np.arange(len(order)) - np.searchsorted(code, code, side="left")
    size = np.searchsorted(code, code, side="right") - np.searchsorted(code, code, side="left")
    held = np.zeros(screen.n_cells, dtype=bool)
    held[order] = rank < np.round(size * share)
    return screen.take(~held), screen.take(held)


def intervention_tests(
    screen: Screen,
    *,
    targets: str = "perturbed",
    min_cells: int = 20,
    progress: Progress | None = None,
) -> InterventionTests:
    """W1 and p of every evaluable pair on the cells of a screen (pass held-out cells).

    `targets`: "perturbed" keeps to genes that are themselves perturbed and measured, as CausalBench; "measured" takes
    every measured gene, and unmeasured sources. Each gene is sorted once for all sources. Cells are compared with the
    control of their own context: W1 is averaged over contexts by cells, p is that of the rank-sum test within contexts
    (van Elteren 1960). CausalBench knows one context, for which both are as published.
    Raises NoEvaluablePair where no source has `min_cells` cells (CausalBench: over 100 before its split), NoControl,
    BadOption.
    """
    if targets not in ("perturbed", "measured"):
        raise BadOption(f"targets={targets!r} is neither 'perturbed' nor 'measured'.", "")
    found = universe_of(screen, min_cells=min_cells, measured_sources=targets == "perturbed")
    universe = found if targets == "measured" else Universe(found.sources, found.sources)
    if not universe.n_pairs:
        raise NoEvaluablePair(f"Only one gene, {universe.sources[0]!r}, is perturbed and measured.")
    strata = _strata(screen, universe.sources)
    place = {str(gene): number for number, gene in enumerate(screen.genes)}
    columns = np.array([place[gene] for gene in universe.targets], dtype=np.int64)
    distance = np.full((len(universe.sources), len(columns)), np.nan)
    p = np.full_like(distance, np.nan)
    starts = range(0, len(columns), GENES_AT_ONCE)
    for start in (progress or Progress()).track(starts, label="intervention tests", total=len(starts)):
        part = np.arange(start, min(start + GENES_AT_ONCE, len(columns)))
        values = dense_columns(screen, genes=columns[part], cells=np.arange(screen.n_cells))
        for number, column in enumerate(part):
            distance[:, column], p[:, column] = _within_strata(values[:, number].astype(np.float64), strata)
    distance[~universe.pairs] = p[~universe.pairs] = np.nan
    n_cells = np.sum([groups.size for groups in strata], axis=0)
    return InterventionTests(universe, distance, p, n_cells, sum(len(groups.control) for groups in strata))


def _within_strata(
    values: Float[np.ndarray, " cell"], strata: Sequence[Groups]
) -> tuple[Float[np.ndarray, " source"], Float[np.ndarray, " source"]]:
    """W1 averaged over contexts by cells of the source, and p of the rank-sum test within contexts."""
    found = [compare(values, groups) for groups in strata]
    size = np.stack([groups.size for groups in strata]).astype(np.float64)
    control = np.array([len(groups.control) for groups in strata], dtype=np.float64)[:, None]
    weight = np.where(size > 0, 1 / (size + control + 1), 0.0)
    distance = np.nan_to_num(np.stack([one.wasserstein for one in found]))
    excess = np.nan_to_num(np.stack([one.u for one in found]) - size * control / 2)
    variance = np.nan_to_num(np.stack([one.variance for one in found]))
    return (size * distance).sum(axis=0) / np.maximum(size.sum(axis=0), 1.0), stratified_p(excess, variance, weight)


def _strata(screen: Screen, sources: Sequence[str]) -> list[Groups]:
    """The cells of the sources and control, context by context; contexts without control are left out."""
    row = {source: number for number, source in enumerate(sources)}
    code_of = np.array([row.get(name, -2) for name in screen.conditions], dtype=np.int64)
    code = np.where(screen.is_control, -1, code_of[screen.condition_code])
    if not (code == -1).any():
        raise NoControl("No control cell.", "Pass cells that have some.")
    contexts = [np.where(screen.context_code == context, code, -2) for context in range(len(screen.contexts))]
    return [Groups.of(own, n_groups=len(sources)) for own in contexts if (own == -1).any()]


# -------------------------------------------------------------------------------------------------------------- scores
def mean_wasserstein(network: Network, tests: InterventionTests) -> float:
    """Mean W1 over the network's edges that are in the universe; NaN where none is. Falls with the number of edges."""
    has = _edges(network, tests)
    return float(tests.wasserstein[has].mean()) if has.any() else float("nan")


def false_omission_rate(
    network: Network,
    tests: InterventionTests,
    *,
    max_path: int | None = MAX_PATH,
    n_pairs: int | None = None,
    seed: int = 0,
) -> float:
    """Share of significant pairs among the pairs of the universe that no directed path of the network joins.

    Paths have up to `max_path` edges (None: any number) and run over genes of the universe only. `n_pairs`: draw that
    many omitted pairs, without repeats, instead of taking all (CausalBench: 500). NaN where no pair is omitted.
    BadOption for max_path or n_pairs below 1.
    """
    omitted = _omitted(_edges(network, tests), tests, max_path=max_path)
    return _share_significant(tests.significant[omitted], n_pairs=n_pairs, seed=seed)


def _share_significant(significant: Bool[np.ndarray, " pair"], *, n_pairs: int | None, seed: int) -> float:
    if n_pairs is not None:
        if n_pairs < 1:
            raise BadOption(f"n_pairs={n_pairs} is below 1.")
        drawn = np.random.default_rng(seed).permutation(len(significant))[:n_pairs]
        significant = significant[drawn]
    return float(significant.mean()) if len(significant) else float("nan")


def _edges(network: Network, tests: InterventionTests) -> Bool[np.ndarray, "source target"]:
    """Which pairs of the universe are edges of the network."""
    return np.asarray(
        (network.between(tests.universe.sources, tests.universe.targets) > 0) & tests.universe.pairs, dtype=bool
    )


def _omitted(
    has: Bool[np.ndarray, "source target"], tests: InterventionTests, *, max_path: int | None
) -> Bool[np.ndarray, "source target"]:
    """Pairs of the universe that no path of the edges `has` joins."""
    return np.asarray(tests.universe.pairs & ~linked(has, tests.universe, max_path=max_path), dtype=bool)


def linked(
    has: Bool[np.ndarray, "source target"], universe: Universe, *, max_path: int | None
) -> Bool[np.ndarray, "source target"]:
    """Whether a path of 1 to `max_path` of the edges `has` leads from a source to a target.

    Only sources have outgoing edges, so paths run over those targets that are sources too: sources² x targets a step.
    """
    if max_path is not None and max_path < 1:
        raise BadOption(f"max_path={max_path} is below 1.", "Pass 1 or more, or none for paths of any length.")
    row = {gene: number for number, gene in enumerate(universe.sources)}
    inner = [(column, row[gene]) for column, gene in enumerate(universe.targets) if gene in row]
    columns, rows = np.array(inner, dtype=np.int64).reshape(-1, 2).T
    step = has[rows].astype(np.float32)
    reached, front = has.copy(), has
    for _ in range(len(row) if max_path is None else max_path - 1):
        front = (front[:, columns].astype(np.float32) @ step > 0) & ~reached  # first reached by paths of this length
        if not front.any():
            break
        reached |= front
    return reached


def curve(
    network: Network,
    tests: InterventionTests,
    *,
    tops: Sequence[int] | None = None,
    max_path: int | None = MAX_PATH,
) -> pd.DataFrame:
    """Mean W1, share of significant edges and FOR of the k strongest edges of the universe, for each k of `tops`.

    Networks are comparable at the same k only. k counts edges within the universe; equal weights are taken in the
    network's order. Default `tops`: about 20 values from 1 to all pairs, evenly spaced in their logarithm. A k above
    the number of edges of the network is left out. Columns: k, wasserstein, significant, false_omission_rate,
    n_omitted.
    BadOption for k < 0.
    """
    ranked = _ranked(network, tests)
    if tops is None:
        tops = np.unique(np.geomspace(1, max(len(ranked), 1), 20).round().astype(int)).tolist()
    if min(tops, default=0) < 0:
        raise BadOption(f"top={min(tops)} edges is below 0.", "Pass 0 or more.")
    rows, columns = np.divmod(ranked, len(tests.universe.targets))
    distance = np.cumsum(tests.wasserstein[rows, columns])
    hits = np.cumsum(tests.significant[rows, columns])
    found = []
    for k in sorted(k for k in tops if k <= len(ranked)):
        has = np.zeros(tests.universe.pairs.shape, dtype=bool)
        has[rows[:k], columns[:k]] = True
        omitted = _omitted(has, tests, max_path=max_path)
        found.append(
            {
                "k": k,
                "wasserstein": distance[k - 1] / k if k else np.nan,
                "significant": hits[k - 1] / k if k else np.nan,
                "false_omission_rate": _share_significant(tests.significant[omitted], n_pairs=None, seed=0),
                "n_omitted": int(omitted.sum()),
            }
        )
    return pd.DataFrame(found, columns=["k", "wasserstein", "significant", "false_omission_rate", "n_omitted"])


def _ranked(network: Network, tests: InterventionTests) -> np.ndarray:
    """Pairs of the universe that are edges, as source * n_targets + target, strongest first."""
    universe = tests.universe
    row = {gene: number for number, gene in enumerate(universe.sources)}
    column = {gene: number for number, gene in enumerate(universe.targets)}
    row_of = np.array([row.get(str(gene), -1) for gene in network.genes], dtype=np.int64)
    column_of = np.array([column.get(str(gene), -1) for gene in network.genes], dtype=np.int64)
    rows, columns = row_of[network.source_code], column_of[network.target_code]
    inside = (rows >= 0) & (columns >= 0)
    return np.asarray(rows[inside] * len(universe.targets) + columns[inside])


# --------------------------------------------------------------------------------------------- the deviating evaluation
def published_false_omission_rate(
    tests: InterventionTests, *, n_genes: int, n_pairs: int = 500, seed: int = 0
) -> float:
    """The FOR of GPO-VAE's released evaluation (register B13): it does not depend on any network.

    Pairs are drawn among all `n_genes` rows and columns of the network (perturbed and extended); none is ever excluded
    as predicted, those with a gene that is not perturbed count as not significant. For comparison with published values
    only. BadOption where `n_genes` is below the number of perturbed genes.
    """
    m = len(tests.universe.sources)
    if n_genes < max(m, 2):
        raise BadOption(f"n_genes={n_genes} is below the {m} perturbed genes.")
    rng = np.random.default_rng(seed)
    first = rng.integers(0, n_genes, n_pairs)
    second = (first + rng.integers(1, n_genes, n_pairs)) % n_genes
    inside = (first < m) & (second < m)
    square = tests.significant[:, [tests.universe.targets.index(gene) for gene in tests.universe.sources]]
    return float(square[first[inside], second[inside]].sum() / n_pairs)


def deflation(n_perturbed: int, n_genes: int) -> float:
    """Share of random ordered pairs of `n_genes` genes that are both perturbed: what the published FOR is scaled by."""
    return n_perturbed * (n_perturbed - 1) / (n_genes * (n_genes - 1))
