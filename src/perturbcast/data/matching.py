"""A control cell for every perturbed cell: by optimal transport, by assignment, or the mean of controls (spec 5.4)."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from perturbcast._progress import Progress
from perturbcast.data.conditions import CONTROL
from perturbcast.data.screen import Screen
from perturbcast.errors import BadOption, UnknownTarget, did_you_mean

Method = Literal["transport", "hungarian", "published", "group"]
EXACT = 2_000  # cells on either side up to which transport is exact
RELATIVE = 0.05  # regularisation beyond that, times the median cost; spec 5.4
MOST_CONTROLS = 5_000  # control cells of a context that are considered, drawn by seed
BACKENDS = ("PYTORCH", "JAX", "CUPY", "TENSORFLOW")


@dataclass(frozen=True)
class Matching:
    """Which control cell stands beside each cell of `screen`; everything is by position in that screen (B4, B5)."""

    screen: Screen
    control: Int[np.ndarray, " cell"]  # a position; a control cell's own; -1 where the mean of controls stands in
    columns: Int[np.ndarray, " gene"]  # the genes that differences are given for
    means: Float[np.ndarray, "context gene"]  # mean expression of control, of those genes

    def differences(self, cells: Int[np.ndarray, " some"]) -> Float[np.ndarray, "some gene"]:
        """Expression of some cells minus that of their controls (ΔX, signed); memory is that of these cells."""
        own = self.screen.expression(cells)[:, self.columns].toarray()
        matched = self.control[cells]
        other = self.means[self.screen.context_code[cells]].astype(np.float32)
        found = matched >= 0
        if found.any():
            other[found] = self.screen.expression(matched[found])[:, self.columns].toarray()
        return np.asarray(own - other)


def match_controls(
    screen: Screen,
    *,
    method: Method = "transport",
    genes: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Matching:
    """A control cell of the same context for each perturbed cell, by expression of `genes` (all, if none are given).

    `transport`: the control that receives most of the cell's mass under optimal transport, exact where neither side
    has over 2,000 cells, else entropic with 0.05 times the median cost. `hungarian`: the assignment of least total
    cost, in which no control is used more often than the numbers require. `published`: entropic with regularisation 1
    of costs over 100, a nearly uniform plan (22a, B23). `group`: no cell; the mean of controls stands in.
    The result does not depend on the order of cells: groups and controls are put in order of their expression.
    Raises UnknownTarget for genes that are not measured.
    """
    columns = _columns(screen, genes)
    control = np.full(screen.n_cells, -1, dtype=np.int64)
    means = np.zeros((len(screen.contexts), len(columns)))
    rng = np.random.default_rng(seed)
    queries = [(code, *divmod(int(code), len(screen.conditions))) for code in np.unique(screen.query_code)]
    place = screen.conditions.index(CONTROL)
    pools: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for code, context, condition in queries:
        if condition == place:
            own = np.flatnonzero(screen.query_code == code)
            values = screen.expression(own)[:, columns].toarray()
            means[context] = values.mean(axis=0, dtype=np.float64)
            control[own] = own if method != "group" else -1
            pools[context] = _pool(own, values, rng)
    if method != "group":
        for code, context, condition in (progress or Progress()).track(queries, label="matching", total=len(queries)):
            if condition != place and context in pools:
                own = np.flatnonzero(screen.query_code == code)
                positions, values = pools[context]
                given = screen.expression(own)[:, columns].toarray()
                control[own] = positions[matched(given, values, method=method)]
    return Matching(screen, control, columns, means)


def matched(
    cells: Float[np.ndarray, "cell gene"],
    controls: Float[np.ndarray, "control gene"],
    *,
    method: Literal["transport", "hungarian", "published"] = "transport",
) -> Int[np.ndarray, " cell"]:
    """The row of `controls` that stands beside each row of `cells`, in the order of `cells`."""
    if not len(controls) or not len(cells):
        raise BadOption("matching needs cells on both sides.")
    by_cell, by_control = _canonical(cells), _canonical(controls)
    cost = _distances(cells[by_cell], controls[by_control])
    if method == "hungarian":
        found = _assigned(cost)
    elif method == "published":
        found = transport_plan(cost / 100, regularisation=1.0).argmax(axis=1)
    else:
        exact = max(cost.shape) <= EXACT
        median = float(np.median(cost))
        scale = None if exact or median == 0 else RELATIVE * median
        found = transport_plan(cost, regularisation=scale).argmax(axis=1)
    answer = np.empty(len(cells), dtype=np.int64)
    answer[by_cell] = by_control[found]
    return answer


def transport_plan(
    cost: Float[np.ndarray, "cell control"], *, regularisation: float | None
) -> Float[np.ndarray, "cell control"]:
    """Γ with uniform marginals: exact without regularisation, else by Sinkhorn's iteration on logarithms (POT)."""
    ot = _transport()
    cost = np.ascontiguousarray(cost, dtype=np.float64)
    rows, columns = np.full(cost.shape[0], 1 / cost.shape[0]), np.full(cost.shape[1], 1 / cost.shape[1])
    if regularisation is None:
        return np.asarray(ot.emd(rows, columns, cost, numItermax=1_000_000))
    method = "sinkhorn" if cost.max() / regularisation < 100 else "sinkhorn_log"
    plan = ot.sinkhorn(rows, columns, cost, regularisation, method=method, numItermax=1_000, stopThr=1e-9, warn=False)
    return np.asarray(plan)


def _columns(screen: Screen, genes: Sequence[str] | None) -> np.ndarray:
    if genes is None:
        return np.arange(screen.n_genes)
    place = {str(gene): position for position, gene in enumerate(screen.genes)}
    missing = [gene for gene in genes if gene not in place]
    if missing:
        listed = ", ".join(map(repr, missing[:5]))
        raise UnknownTarget(f"{len(missing)} of {len(genes)} genes are not measured: {listed}. {_near(missing, place)}")
    return np.array([place[gene] for gene in genes], dtype=np.int64)


def _near(missing: Sequence[str], place: dict[str, int]) -> str:
    return did_you_mean(missing[0], place)


def _pool(own: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Control cells that are considered: all, or a draw of them that does not depend on their order."""
    if len(own) <= MOST_CONTROLS:
        return own, values
    chosen = np.sort(_canonical(values)[rng.choice(len(own), MOST_CONTROLS, replace=False)])
    return own[chosen], values[chosen]


def _canonical(values: np.ndarray) -> np.ndarray:
    """An order of rows by their content: a fixed weighted sum of each row, computed alike wherever the row stands."""
    weights = np.random.default_rng(0).normal(size=values.shape[1])
    return np.argsort((values * weights).sum(axis=1), kind="stable")


def _distances(cells: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """(cell, control) Euclidean distances."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(cells.astype(np.float64), controls.astype(np.float64)))


def _assigned(cost: np.ndarray) -> np.ndarray:
    """(cell,) control of each cell, every control used at most ⌈cells / controls⌉ times."""
    from scipy.optimize import linear_sum_assignment

    n_cells, n_controls = cost.shape
    copies = -(-n_cells // n_controls)
    _, columns = linear_sum_assignment(np.tile(cost, (1, copies)))
    return np.asarray(columns % n_controls)


def _transport() -> Any:
    """POT without the back-ends that it would import only because they are installed."""
    with _without_backends():
        import ot
    return ot


@contextmanager
def _without_backends() -> Iterator[None]:
    names = [f"POT_BACKEND_DISABLE_{backend}" for backend in BACKENDS]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
