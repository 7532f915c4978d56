"""What the table of queries says of each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perturbcast.benchmarking.dataset import Dataset, load_datasets
from perturbcast.benchmarking.query_table import query_table
from perturbcast.benchmarking.run import _aliases
from perturbcast.benchmarking.sides import sides_of
from perturbcast.data.screen import Screen
from perturbcast.data.splits import make_splits
from perturbcast.genes.knowledge import GeneKnowledge, GeneTable


@pytest.fixture(scope="module")
def dataset(screen: Screen) -> Dataset:
    return load_datasets(screen)[0]


@pytest.fixture(scope="module")
def table(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    split = make_splits(dataset.data, "singles", seeds=(1,), folds=2)[0]
    return query_table(sides_of(dataset, split, cache=tmp_path_factory.mktemp("cache")), split, dataset.responses)


def test_effect_and_noise_are_norms_over_genes(dataset: Dataset, table: pd.DataFrame) -> None:
    row = table.iloc[0]
    whole = dataset.responses
    position = next(place for place, query in enumerate(whole.queries) if query.condition == row.condition)
    assert row.effect_norm == pytest.approx(np.sqrt((whole.response[position] ** 2).sum()))
    assert whole.variance is not None
    assert whole.n_cells is not None
    assert row.noise == pytest.approx(np.sqrt(whole.variance[position].sum() / whole.n_cells[position]))
    np.testing.assert_allclose(table.excess**2, np.maximum(table.effect_norm**2 - table.noise**2, 0), atol=1e-9)


def test_strata_are_thirds_of_the_data_set(dataset: Dataset, tmp_path: Path) -> None:
    split = make_splits(dataset.data, "singles", seeds=(1,), folds=2)[0]
    everything = replace(split, train=split.train, test=dataset.responses.queries)
    found = query_table(sides_of(dataset, everything, cache=tmp_path), everything, dataset.responses)
    counts = found.stratum.value_counts()
    third = len(found) / 3
    assert all(abs(counts[name] - third) <= 1 for name in ("weak", "middle", "strong"))
    ordered = found.sort_values("excess").stratum.drop_duplicates()
    assert list(ordered) == ["weak", "middle", "strong"]


def test_the_nearest_training_condition_is_never_the_query_itself(dataset: Dataset, tmp_path: Path) -> None:
    split = make_splits(dataset.data, "cells", seeds=(1,))[0]
    sides = sides_of(dataset, split, cache=tmp_path)
    found = query_table(sides, split, dataset.responses)
    assert (found.nearest != found.condition).all()
    train, row = sides.training.responses, found.iloc[0]
    truth = sides.truth.response[0]
    cosine = train.response @ truth / np.linalg.norm(train.response, axis=1) / np.linalg.norm(truth)
    others = [place for place, query in enumerate(train.queries) if query.condition != row.condition]
    assert row.nearest_cosine == pytest.approx(cosine[others].max())
    assert found.cosine_to_mean.between(-1, 1).all()


def test_split_half_correlation_is_that_of_the_halves(dataset: Dataset, table: pd.DataFrame) -> None:
    halves = dataset.responses.response_halves
    assert halves is not None
    position = next(p for p, query in enumerate(dataset.responses.queries) if query.condition == table.condition[0])
    expected = np.corrcoef(halves[0, position], halves[1, position])[0, 1]
    assert table.split_half_r[0] == pytest.approx(expected)


def test_aliases_that_are_ambiguous_or_symbols_are_not_used_in_the_audit() -> None:
    frame = pd.DataFrame({"symbol": ["A", "B", "C"], "aliases": [("A1", "X"), ("X", "C"), ("C9",)]})
    assert _aliases(GeneKnowledge(table=GeneTable(frame))) == {"A1": "A", "C9": "C"}
    assert _aliases(GeneKnowledge()) == {}
