"""Boosted regression trees, one regression per gene, in the manner of GRNBoost2 and GENIE3."""

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
from jaxtyping import Float, Int

from perturbcast._progress import Progress
from perturbcast.data.screen import Screen
from perturbcast.networks.covariation import Cells, chosen_cells, correlations, dense_columns
from perturbcast.networks.infer_correlation import network_of_rows
from perturbcast.networks.methods import MethodCard, NetworkMethod, require
from perturbcast.networks.network import Network
from perturbcast.networks.parts import Parts, identity_of
from perturbcast.networks.universe import universe_of

GENES_AT_ONCE = 16  # genes in one part


@dataclass(frozen=True)
class Boosting(NetworkMethod):
    """Edge a -> b: share of the variance of b that splits on a explain in boosted trees that predict b from all
    perturbed, measured genes but b. Signs are those of the correlation.

    Differs from GRNBoost2: histogram trees of scikit-learn instead of exact ones; early stopping on held-out cells
    instead of out-of-bag cells; a learning rate of 0.05 instead of 0.01 with a fifth as many trees (5,000 there, nearly
    never reached). Genes are scaled to unit variance, so that weights of different targets can be compared.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="boosting",
        title="Boosted trees (GRNBoost type)",
        summary="Each gene is predicted from the perturbed genes by boosted trees; useful predictors are linked to it.",
        source="Moerman et al. 2019 (GRNBoost2); Huynh-Thu et al. 2010 (GENIE3, variance explained as weight)",
        weight="share of variance explained, 0 to 1",
        resumable=True,
    )
    n_trees: int = 200  # at most; stopped earlier where held-out cells gain nothing
    learning_rate: float = 0.05
    depth: int = 3  # GRNBoost2
    features: float = 0.1  # share of regulators offered to each split; GRNBoost2
    max_cells: int = 20_000  # drawn at random where there are more
    cells: Cells = "all"

    def __post_init__(self) -> None:
        require(self.n_trees >= 1, f"n_trees={self.n_trees} is below 1.")
        require(0 < self.learning_rate <= 1, f"learning_rate={self.learning_rate} is outside 0 to 1.")
        require(self.depth >= 1, f"depth={self.depth} is below 1.")
        require(0 < self.features <= 1, f"features={self.features} is outside 0 to 1.")
        require(self.max_cells >= 20, f"max_cells={self.max_cells} is below 20.")

    def infer(
        self, screen: Screen, *, seed: int = 0, progress: Progress | None = None, parts: Path | None = None
    ) -> Network:
        """The network; with `parts`, blocks of 16 genes are kept and not computed again."""
        work = _Work.of(self, screen, seed=seed)
        identity = dataclasses.asdict(self) | {"method": self.card.name, "seed": seed}
        kept = None if parts is None else Parts.open(parts, identity=identity_of(screen, work.cells, identity))
        blocks = [
            np.arange(start, min(start + GENES_AT_ONCE, screen.n_genes))
            for start in range(0, screen.n_genes, GENES_AT_ONCE)
        ]
        gains = []
        numbered: Iterable[tuple[int, np.ndarray]] = enumerate(blocks)
        for number, genes in (progress or Progress()).track(numbered, label="boosted trees", total=len(blocks)):
            gain = None if kept is None else kept.load(number)
            if gain is None:
                gain = work.gains(genes)
                if kept is not None:
                    kept.save(number, gain)
            gains.append(gain)
        weights = np.concatenate(gains, axis=1)  # (row, gene)
        sign = np.sign(correlations(screen, rows=work.rows, cells=self.cells).matrix)
        return network_of_rows(screen, work.rows, weights, sign, method=self.card.name)


def forecast(method: Boosting, screen: Screen, *, seed: int = 0, n_genes: int = 3) -> float:
    """Seconds that `method.infer` will take, from `n_genes` genes drawn at random."""
    work = _Work.of(method, screen, seed=seed)
    drawn = np.random.default_rng(seed).choice(screen.n_genes, min(n_genes, screen.n_genes), replace=False)
    work.gains(drawn[:1])  # the first call pays for imports
    start = time.perf_counter()
    work.gains(drawn)
    return (time.perf_counter() - start) / len(drawn) * screen.n_genes


@dataclass(frozen=True)
class _Work:
    """What every gene's regression shares."""

    method: Boosting
    screen: Screen
    cells: np.ndarray  # (cell,)
    rows: np.ndarray  # (row,) positions of the regulators among the genes
    regulators: np.ndarray  # (cell, row) float32
    seed: int

    @classmethod
    def of(cls, method: Boosting, screen: Screen, *, seed: int) -> "_Work":
        universe = universe_of(screen)
        cells = chosen_cells(screen, method.cells)
        if len(cells) > method.max_cells:
            cells = np.sort(np.random.default_rng(seed).choice(cells, method.max_cells, replace=False))
        place = {str(gene): number for number, gene in enumerate(screen.genes)}
        rows = np.array([place[gene] for gene in universe.sources], dtype=np.int64)
        return cls(method, screen, cells, rows, dense_columns(screen, genes=rows, cells=cells), seed)

    def gains(self, genes: Int[np.ndarray, " column"]) -> Float[np.ndarray, "row column"]:
        """Variance explained by each regulator in some genes; 0 for the gene itself."""
        found = np.zeros((len(self.rows), len(genes)))
        expression = dense_columns(self.screen, genes=genes, cells=self.cells)
        for column, gene in enumerate(genes):
            used = np.flatnonzero(self.rows != gene)
            sd = float(expression[:, column].std())
            if sd > 0 and len(used):
                scaled = expression[:, column].astype(np.float64) / sd
                found[used, column] = self._gain(
                    self.regulators[:, used], scaled, seed=self.seed + crc32(str(self.screen.genes[gene]).encode())
                )
        return found

    def _gain(
        self, regulators: Float[np.ndarray, "cell row"], gene: Float[np.ndarray, " cell"], *, seed: int
    ) -> Float[np.ndarray, " row"]:
        from sklearn.ensemble import HistGradientBoostingRegressor

        model = HistGradientBoostingRegressor(
            max_iter=self.method.n_trees,
            learning_rate=self.method.learning_rate,
            max_depth=self.method.depth,
            max_features=max(self.method.features, 1 / regulators.shape[1]),
            early_stopping=True,
            n_iter_no_change=10,
            validation_fraction=0.1,
            random_state=seed % 2**32,
        )
        with import_module("threadpoolctl").threadpool_limits(limits=1, user_api="openmp"):
            model.fit(regulators, gene)
        return explained(model, n_features=regulators.shape[1])


def explained(model: Any, *, n_features: int) -> Float[np.ndarray, " feature"]:
    """Variance that the splits on each feature explain: the drop in squared error of all trees, per training cell.

    scikit-learn's histogram trees have no public importances, so the nodes are read: each holds the feature of its
    split and its gain, the drop in squared error if its two leaves took their means.
    """
    gain = np.zeros(n_features)
    for trees in model._predictors:
        nodes = trees[0].nodes
        splits = nodes[nodes["is_leaf"] == 0]
        np.add.at(gain, splits["feature_idx"], splits["gain"] / nodes["count"][0])
    # Leaves move by the learning rate only, so squared error falls by 1 - (1 - rate)^2 of a full split's gain
    rate = model.learning_rate
    return gain * (2 * rate - rate**2)
