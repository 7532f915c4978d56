"""A small screen of Gamma-Poisson cells with known effects, as an Evaluation; made with numpy alone."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from perturbcast.data.conditions import Query
from perturbcast.data.de import DifferentialExpression
from perturbcast.data.prediction import Prediction, Support
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.metrics.base import Evaluation


@dataclass(frozen=True)
class CellsWorld:
    """Counts, who is who, and the exact multiplicative effect of every condition."""

    counts: sparse.csr_matrix
    conditions: tuple[str, ...]  # "ctrl" first
    code: np.ndarray
    fold: np.ndarray  # (condition, gene)
    share: np.ndarray  # (gene,) control molecules per molecule

    @property
    def genes(self) -> np.ndarray:
        return np.array([f"G{gene:04d}" for gene in range(self.counts.shape[1])], dtype=object)

    def screen(self) -> Screen:
        return Screen(
            name="world",
            matrix=InMemory(self.counts),
            scale=Scale.COUNTS,
            genes=self.genes,
            conditions=self.conditions,
            contexts=("",),
            condition_code=self.code.astype(np.int32),
            context_code=np.zeros(len(self.code), dtype=np.int32),
            row=np.arange(len(self.code)),
            library=np.asarray(self.counts.sum(axis=1)).ravel(),
        )


def cells_world(
    *,
    n_queries: int = 12,
    n_genes: int = 200,
    n_cells: int = 80,
    n_control: int = 300,
    depth_per_gene: float = 6.0,
    seed: int = 0,
) -> CellsWorld:
    """Conditions G0000.. (each targets the gene of its name, knocked down) with a shared shift and private effects."""
    rng = np.random.default_rng(seed)
    share = rng.gamma(0.5, 1.0, n_genes) + 0.02
    share /= share.sum()
    fold = np.ones((n_queries + 1, n_genes))
    shared = np.exp(rng.normal(0, 0.3, n_genes) * (rng.random(n_genes) < 0.2))
    for query in range(n_queries):
        private = rng.normal(0, 0.9, n_genes) * (rng.random(n_genes) < 0.15)
        fold[query + 1] = shared * np.exp(private)
        fold[query + 1, query] = 0.2
    code = np.repeat(np.arange(n_queries + 1), [n_control] + [n_cells] * n_queries)
    depth = rng.lognormal(np.log(depth_per_gene * n_genes), 0.25, len(code))
    mean = depth[:, None] * share * fold[code]
    counts = rng.poisson(rng.gamma(3.0, mean / 3.0))
    names = ("ctrl", *(f"G{query:04d}" for query in range(n_queries)))
    return CellsWorld(sparse.csr_matrix(counts.astype(np.float32)), names, code, fold, share)


def table_of(world: CellsWorld, queries: list[str], *, cells: np.ndarray | None = None) -> ResponseTable:
    """Mean responses of some conditions, with variances and cell numbers, on log1p CP10k."""
    screen = world.screen()
    logged = screen.expression(np.arange(screen.n_cells)).toarray().astype(float)
    use = np.ones(screen.n_cells, dtype=bool) if cells is None else cells
    groups = [np.flatnonzero((world.code == world.conditions.index(name)) & use) for name in ["ctrl", *queries]]
    mean = np.array([logged[group].mean(axis=0) for group in groups])
    variance = np.array([logged[group].var(axis=0, ddof=1) for group in groups])
    return ResponseTable(
        name="world",
        scale=Scale.LOG1P_CP10K,
        genes=world.genes,
        queries=tuple(Query(name) for name in queries),
        response=mean[1:] - mean[0],
        contexts=("",),
        control=mean[:1],
        n_cells=np.array([len(group) for group in groups[1:]]),
        variance=variance[1:],
        n_control=np.array([len(groups[0])]),
        control_variance=variance[:1],
    )


def prediction_of(table: ResponseTable, response: np.ndarray) -> Prediction:
    """A prediction of the queries of a table."""
    n = table.n_queries
    return Prediction(
        queries=table.queries,
        genes=table.genes,
        response=np.asarray(response, dtype=float),
        control=table.control_by_query,
        support=(Support.MEAN,) * n,
        reason=("",) * n,
        scale=table.scale,
    )


def de_of(world: CellsWorld, table: ResponseTable) -> DifferentialExpression:
    """Rank-sum of every query by scipy, gene by gene."""
    from scipy import stats

    screen = world.screen()
    linear = np.expm1(screen.expression(np.arange(screen.n_cells)).toarray().astype(float))
    control = linear[world.code == 0]
    z, p, fold = [], [], []
    for query in table.queries:
        cells = linear[world.code == world.conditions.index(query.condition)]
        test = stats.mannwhitneyu(cells, control, axis=0, method="asymptotic")
        upward = np.sign(test.statistic - len(cells) * len(control) / 2)
        p.append(np.nan_to_num(test.pvalue, nan=1.0))
        z.append(upward * stats.norm.isf(np.maximum(p[-1], 1e-300) / 2))
        fold.append(np.log2((cells.mean(axis=0) + 1e-9) / (control.mean(axis=0) + 1e-9)))
    adjusted = np.array([stats.false_discovery_control(row) for row in p])
    return DifferentialExpression(table.queries, table.genes, np.array(z), np.array(p), adjusted, np.array(fold))


def evaluation_of(world: CellsWorld, response: np.ndarray | None = None, *, n_training: int = 6) -> Evaluation:
    """The last queries as truth, the first `n_training` as training; by default the prediction is the truth."""
    truth = table_of(world, list(world.conditions[n_training + 1 :]))
    training = table_of(world, list(world.conditions[1 : n_training + 1]))
    predicted = prediction_of(truth, truth.response if response is None else response)
    return Evaluation(truth, predicted, training, de=de_of(world, truth), screen=world.screen())


def with_response(evaluation: Evaluation, response: np.ndarray) -> Evaluation:
    """The same evaluation of another prediction, with nothing cached."""
    return replace(evaluation, predicted=prediction_of(evaluation.truth, response), cache={})
