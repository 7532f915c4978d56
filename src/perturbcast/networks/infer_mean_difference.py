"""The mean difference: how far a gene moves when another is perturbed, with its test."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import is_single
from perturbcast.data.de import differential_expression
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.statistics import response_table
from perturbcast.networks.methods import MethodCard, NetworkMethod
from perturbcast.networks.network import Network
from perturbcast.networks.universe import LOSS, direction_of, genes_of, universe_of

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class MeanDifference(NetworkMethod):
    """Edge a -> b: |mean expression of b with a perturbed - in control|, over the cells of singles.

    Contexts are averaged by their cells. The interval is the 95 % normal interval of the difference, by Welch's
    standard error; p values are Welch's t, or the rank-sum test's (the smallest over contexts, times their number).
    It sees direct and indirect effects alike.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="mean-difference",
        title="Mean difference",
        summary="An edge is as strong as the mean change of the gene when its source is perturbed.",
        source="the winning idea of the CausalBench challenge, arXiv:2308.15395; Welch 1947",
        weight="|mean difference| of expression, ln units (or its |t|)",
        interventional=True,
    )
    weight: Literal["difference", "t"] = "difference"
    test: Literal["welch", "rank-sum"] = "welch"
    min_cells: int = 3  # of a perturbation

    def infer(
        self, screen: Screen, *, seed: int = 0, progress: Progress | None = None, parts: Path | None = None
    ) -> Network:
        """The network; `seed` and `parts` change nothing, since nothing is drawn and it takes one pass."""
        universe = universe_of(screen, min_cells=self.min_cells, measured_sources=False)
        wanted = set(universe.sources)
        queries = [query for query in screen.queries() if is_single(query.condition) and query.condition in wanted]
        table = response_table(screen, queries=queries, min_cells=self.min_cells, progress=progress)
        found = _joined(table, universe.sources)
        p = found.p if self.test == "welch" else _rank_sum_p(screen, table, universe.sources, progress)
        t = np.divide(found.difference, found.error, out=np.zeros_like(found.error), where=found.error > 0)
        size = np.abs(found.difference if self.weight == "difference" else t)
        spread = Z95 * found.error if self.weight == "difference" else np.full_like(t, Z95)
        columns = {"p_value": p, "ci_low": np.maximum(size - spread, 0.0), "ci_high": size + spread}
        return network_of_effects(screen, universe.sources, found.difference, size, columns, method=self.card.name)


@dataclass(frozen=True)
class _Effects:
    """Differences, standard errors and p values, (source, gene) each."""

    difference: np.ndarray
    error: np.ndarray
    p: np.ndarray


def _joined(table: ResponseTable, sources: Sequence[str]) -> _Effects:
    """Effects of each source, averaged over contexts by cells; Welch's degrees of freedom of the average."""
    from scipy.stats import t as student

    assert table.n_cells is not None
    assert table.variance is not None
    assert table.control_variance is not None
    assert table.n_control is not None
    share = _shares(table, sources)  # (source, query)
    own = table.variance / table.n_cells[:, None]
    control = (table.control_variance / table.n_control[:, None])[table.context_code]
    parts = np.stack([own, control])  # (2, query, gene): two means vary, each with its degrees of freedom
    freedom = np.stack([table.n_cells - 1.0, table.n_control[table.context_code] - 1.0])[:, :, None]
    parts = np.nan_to_num(parts)
    variance = np.einsum("sq,kqg->sg", share**2, parts)
    spread = np.einsum("sq,kqg->sg", share**4, parts**2 / np.maximum(freedom, 1.0))
    degrees = np.divide(variance**2, spread, out=np.ones_like(spread), where=spread > 0)
    difference, error = share @ table.response, np.sqrt(variance)
    t = np.divide(difference, error, out=np.zeros_like(error), where=error > 0)
    return _Effects(difference, error, 2 * student.sf(np.abs(t), degrees))


def _shares(table: ResponseTable, sources: Sequence[str]) -> Float[np.ndarray, "source query"]:
    """Share of each query in the average of its source, by cells."""
    row = {source: number for number, source in enumerate(sources)}
    share = np.zeros((len(sources), table.n_queries))
    assert table.n_cells is not None
    for number, query in enumerate(table.queries):
        share[row[query.condition], number] = table.n_cells[number]
    return share / np.maximum(share.sum(axis=1, keepdims=True), 1.0)


def _rank_sum_p(
    screen: Screen, table: ResponseTable, sources: Sequence[str], progress: Progress | None
) -> Float[np.ndarray, "source gene"]:
    tested = differential_expression(screen, queries=list(table.queries), progress=progress)
    p = np.ones((len(sources), len(table.genes)))
    for number, source in enumerate(sources):
        rows = [row for row, query in enumerate(tested.queries) if query.condition == source]
        if rows:
            p[number] = np.minimum(tested.p[rows].min(axis=0) * len(rows), 1.0)
    return p


def network_of_effects(
    screen: Screen,
    sources: Sequence[str],
    effect: Float[np.ndarray, "source gene"],
    size: Float[np.ndarray, "source gene"],
    columns: dict[str, np.ndarray],
    *,
    method: str,
) -> Network:
    """A network of effects of perturbing sources: signs say what the source itself does to its target.

    A target that falls when its source is lost is activated by it.
    """
    genes, flags = genes_of(screen)
    place = {gene: number for number, gene in enumerate(genes)}
    own = {gene: float(effect[row, place[gene]]) for row, gene in enumerate(sources) if place[gene] < screen.n_genes}
    turn = -1.0 if direction_of(screen, own_effects=own) == LOSS else 1.0
    rows, cols = np.nonzero(size > 0)
    return Network.of_edges(
        genes,
        np.array([place[gene] for gene in sources], dtype=np.int64)[rows],
        cols.astype(np.int64),
        size[rows, cols],
        sign=np.sign(turn * effect[rows, cols]),
        columns={name: values[rows, cols] for name, values in columns.items()},
        **flags,
        method=method,
        source=str(screen.uns.get("source", screen.name)),
    )
