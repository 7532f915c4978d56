"""The two sides of a split: what models are given, and the truth that they are scored against."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perturbcast.benchmarking.dataset import Dataset
from perturbcast.benchmarking.store import write_arrays
from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.de import DifferentialExpression, differential_expression
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.split import Split
from perturbcast.data.statistics import response_table
from perturbcast.models.base import TrainingData

DE_ARRAYS = ("z", "p", "p_adjusted", "log2_fold_change")


@dataclass(frozen=True)
class Sides:
    """Training side and test side; `de` is of the truth's queries, in their order."""

    training: TrainingData
    truth: ResponseTable
    de: DifferentialExpression | None
    screen: Screen | None  # control cells and test cells

    def de_of(self, queries: Sequence[Query]) -> DifferentialExpression | None:
        """Differential expression of some of the truth's queries, in that order; None without cells."""
        if self.de is None:
            return None
        position = {query: row for row, query in enumerate(self.de.queries)}
        rows = np.array([position[query] for query in queries], dtype=np.int64)
        return replace(self.de, queries=tuple(queries), **{name: getattr(self.de, name)[rows] for name in DE_ARRAYS})


def sides_of(dataset: Dataset, split: Split, *, cache: Path) -> Sides:
    """Both sides of a split. Statistics of the test side never enter the training side, nor the other way round."""
    if split.cells_train is not None:
        return _of_cells(dataset, split, cache)
    training = training_side(dataset, split)
    truth = dataset.responses.take(dataset.responses.index(split.test))
    if dataset.screen is None:
        return Sides(training, truth, None, None)
    sides = Sides(training, truth, whole_de(dataset, cache=cache), _cells_of(dataset.screen, split.test))
    return replace(sides, de=sides.de_of(truth.queries))


def training_side(dataset: Dataset, split: Split) -> TrainingData:
    """What models are given by a split that divides whole queries."""
    train = dataset.responses.take(dataset.responses.index(split.train))
    seen = None if dataset.screen is None else _cells_of(dataset.screen, split.train)
    return _training(dataset, split, train, seen)


def whole_de(dataset: Dataset, *, cache: Path) -> DifferentialExpression | None:
    """Differential expression of all queries of a data set, computed once per benchmark; None without cells."""
    if dataset.screen is None:
        return None
    return _cached_de(dataset.screen, dataset.responses.queries, cache / f"de-{dataset.fingerprint[:24]}.npz")


def _of_cells(dataset: Dataset, split: Split, cache: Path) -> Sides:
    screen = dataset.screen
    assert screen is not None, "a split over cells was made of a screen"
    assert split.cells_train is not None
    assert split.cells_test is not None
    trained = screen.take(split.cells_train)
    tested = screen.take(_with_control(screen, split.cells_train, split.cells_test))
    train = response_table(trained, queries=split.train)
    truth = response_table(tested, queries=split.test)
    de = _cached_de(tested, truth.queries, cache / f"de-{dataset.fingerprint[:24]}-{split.fingerprint[:24]}.npz")
    return Sides(_training(dataset, split, _in_contexts(train, dataset.responses), trained), truth, de, tested)


def _with_control(screen: Screen, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Test cells, with the control cells of training in contexts whose test side has none (split `pair-cells`)."""
    tested = screen.take(test)
    lacking = set(tested.context_code) - set(tested.context_code[tested.is_control])
    borrowed = train[screen.is_control[train] & np.isin(screen.context_code[train], sorted(lacking))]
    return np.union1d(test, borrowed)


def _in_contexts(train: ResponseTable, whole: ResponseTable) -> ResponseTable:
    """The table with its contexts in the order of the whole data set's."""
    order = [context for context in whole.contexts if context in train.contexts]
    rows = np.array([train.contexts.index(context) for context in order], dtype=np.int64)
    return replace(
        train,
        contexts=tuple(order),
        control=train.control[rows],
        n_control=None if train.n_control is None else train.n_control[rows],
        control_variance=None if train.control_variance is None else train.control_variance[rows],
    )


def _training(dataset: Dataset, split: Split, table: ResponseTable, screen: Screen | None) -> TrainingData:
    return TrainingData(table, screen=screen, knowledge=dataset.knowledge, split_fingerprint=split.fingerprint)


def _cells_of(screen: Screen, queries: tuple[Query, ...]) -> Screen:
    """A view of the cells of some queries and of all control cells."""
    n_conditions = len(screen.conditions)
    wanted = {*queries, *(Query(CONTROL, context) for context in screen.contexts)}
    codes = [
        screen.contexts.index(query.context) * n_conditions + screen.conditions.index(query.condition)
        for query in wanted
    ]
    return screen.take(np.flatnonzero(np.isin(screen.query_code, codes)))


def _cached_de(screen: Screen, queries: tuple[Query, ...], path: Path) -> DifferentialExpression:
    """Read from `path` if another process was there before, else computed and written."""
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return DifferentialExpression(queries, screen.genes, *(stored[name] for name in DE_ARRAYS))
    found = differential_expression(screen, queries=queries)
    write_arrays({name: getattr(found, name) for name in DE_ARRAYS}, path)
    return found
