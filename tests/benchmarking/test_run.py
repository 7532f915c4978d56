"""Whole benchmarks on a small world."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad
from runs import MODELS, contents, run_small

from perturbcast.benchmarking.compare import COLUMNS as SUMMARY_COLUMNS
from perturbcast.benchmarking.query_table import COLUMNS as QUERY_COLUMNS
from perturbcast.benchmarking.run import Benchmark, benchmark
from perturbcast.benchmarking.store import read_match
from perturbcast.benchmarking.work import COLUMNS
from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.splits import make_splits
from perturbcast.errors import BadOption, CannotPredict, LeakError, NothingToScore, OtherRun
from perturbcast.models.base import FittedModel, Model, ModelCard, TrainingData


class FittedOdd(FittedModel):
    """Answers every other query."""

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        if query.condition < "M":
            raise CannotPredict(f"{query.condition} comes early in the alphabet.")
        return np.zeros(len(self.genes)), None, Support.MEAN


@dataclass(frozen=True)
class Odd(Model):
    """Fails in the way asked for."""

    card: ClassVar[ModelCard] = ModelCard("odd", "Odd", "", "", frozenset({"unseen_single"}))
    fitted_class: ClassVar[type[FittedModel]] = FittedOdd
    way: str = "refuses some"

    def fit(self, training: TrainingData, *, seed: int = 0, progress: object = None) -> FittedOdd:
        """Fitted, or not."""
        if self.way == "refuses all":
            raise CannotPredict("this model never can.")
        if self.way == "breaks":
            raise ZeroDivisionError("of\nits own")
        return FittedOdd(self, training.responses)


@pytest.fixture(scope="module")
def done(responses: ResponseTable, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return run_small(responses, tmp_path_factory.mktemp("run") / "out")


def test_the_tables_have_the_columns_of_the_contract(done: Benchmark) -> None:
    scores, queries, summary = (
        pd.read_parquet(done.folder / f"{name}.parquet") for name in ("scores", "queries", "summary")
    )
    assert list(scores.columns) == list(COLUMNS)
    assert list(queries.columns) == list(QUERY_COLUMNS)
    assert list(summary.columns) == list(SUMMARY_COLUMNS)
    assert (scores["seed"].dtype, scores["fold"].dtype) == (np.int64, np.int64)
    pd.testing.assert_frame_equal(scores, done.scores)
    pd.testing.assert_frame_equal(summary, done.summary, check_dtype=False)


def test_every_query_of_every_fold_has_scores_for_every_model(done: Benchmark, responses: ResponseTable) -> None:
    per_model = done.scores[(done.scores.metric == "l2") & (done.scores.gene_set == "all")]
    for split, folds in (("singles", {0, 1}), ("doubles", {-1})):
        part = per_model[per_model.split == split]
        assert set(part.fold) == folds
        tested = {query for one in make_splits(responses, split, seeds=(1,), folds=2) for query in one.test}
        assert set(part.model) >= {"no-change", "mean", *MODELS}
        assert {len(rows) for _, rows in part.groupby("model")} == {len(tested)}
        assert set(part.condition) == {query.condition for query in tested}


def test_scores_are_those_of_the_model_fitted_on_the_training_side(done: Benchmark, responses: ResponseTable) -> None:
    split = make_splits(responses, "doubles", seeds=(1,))[0]
    train, test = (responses.take(responses.index(side)) for side in (split.train, split.test))
    expected = np.linalg.norm(test.response - train.response.mean(axis=0), axis=1)
    rows = done.scores.query("split == 'doubles' and model == 'mean' and metric == 'l2' and gene_set == 'all'")
    np.testing.assert_allclose(rows.set_index("condition").value[list(test.conditions)], expected)


def test_predictions_and_truth_are_files(done: Benchmark, responses: ResponseTable) -> None:
    split = make_splits(responses, "doubles", seeds=(1,))[0]
    folder = done.folder / "predictions" / "world" / "doubles" / "1--1"
    predicted = read_h5ad(folder / "mean.h5ad")
    assert list(predicted.obs["condition"]) == [query.condition for query in split.test]
    query = split.test[0]
    found = read_match(
        done.folder, dataset="world", split="doubles", seed=1, fold=-1, model="no-change",
        condition=query.condition, context=query.context,
    )  # fmt: skip
    assert found is not None
    assert (found[1] == 0).all()
    np.testing.assert_allclose(found[2], responses.response[responses.index([query])[0]], rtol=1e-6)


def test_run_json_says_what_was_run(done: Benchmark) -> None:
    run = json.loads((done.folder / "run.json").read_text())
    assert run == done.run
    assert run["configuration"]["models"] == list(MODELS)
    assert {"perturbcast", "python", "numpy", "scipy", "pandas", "anndata"} <= set(run["versions"])
    assert [split["fold"] for split in run["splits"]] == [0, 1, -1]
    assert all(split["findings"] == [] and split["checked"] for split in run["splits"])
    assert run["peak_memory_mb"] > 10
    assert run["warnings"] == []


def test_the_same_call_gives_the_same_tables(done: Benchmark, responses: ResponseTable, tmp_path: Path) -> None:
    run_small(responses, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(done.folder)


def test_a_finished_benchmark_is_read_and_not_repeated(responses: ResponseTable, tmp_path: Path) -> None:
    run_small(responses, tmp_path, splits="doubles")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    again = run_small(responses, tmp_path, splits="doubles")
    assert again.run["n_tasks_this_time"] == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()} == before
    with pytest.raises(OtherRun, match="splits"):
        run_small(responses, tmp_path, splits="singles", models=["mean"])


def test_a_refused_query_is_a_row_with_a_reason(responses: ResponseTable, tmp_path: Path) -> None:
    found = run_small(responses, tmp_path, models=[Odd()], splits="singles")
    rows = found.scores[found.scores.model == "odd"]
    refused = rows[rows.metric == "prediction"]
    assert (refused.condition < "M").all()
    assert refused.reason.str.startswith("E503").all()
    assert refused.value.isna().all()
    assert set(refused.support) == {"nothing"}
    assert set(rows.condition) - {"*"} == set(responses.conditions) - {c for c in responses.conditions if "+" in c}
    row = found.summary.query("model == 'odd' and metric == 'l2' and gene_set == 'all'").iloc[0]
    assert (row.n, row.n_refused) == (len(set(rows.condition) - set(refused.condition) - {"*"}), len(refused))


@pytest.mark.parametrize(("way", "code"), [("refuses all", "E503"), ("breaks", "E001")])
def test_a_model_that_fails_has_a_row_per_query_and_stops_no_other(
    way: str, code: str, responses: ResponseTable, tmp_path: Path
) -> None:
    found = run_small(responses, tmp_path, models=[Odd(way=way)], splits="singles")
    rows = found.scores[found.scores.model == "odd"]
    assert set(rows.metric) == {"prediction"}
    assert rows.reason.str.startswith(code).all()
    assert found.summary.query("model == 'mean' and metric == 'l2'")["mean"].notna().all()
    assert found.summary.query("model == 'odd' and metric == 'l2'")["n_refused"].min() == len(rows)
    assert bool(found.run["warnings"]) == (way == "breaks")


def test_a_model_that_broke_is_tried_again(responses: ResponseTable, tmp_path: Path) -> None:
    first = run_small(responses, tmp_path, models=[Odd(way="breaks")], splits="doubles")
    again = run_small(responses, tmp_path, models=[Odd(way="breaks")], splits="doubles")
    assert (first.run["n_tasks_this_time"], again.run["n_tasks_this_time"]) == (first.run["n_tasks"], 1)
    traceback = next((tmp_path / "parts").glob("*.traceback.txt")).read_text()
    assert "ZeroDivisionError" in traceback


def _leaking(responses: ResponseTable, path: Path) -> Path:
    """A split file that tests a single which is inside a training double."""
    double = next(condition for condition in responses.conditions if "+" in condition)
    tested = double.split("+")[0]
    sides = {condition: "test" if condition == tested else "train" for condition in set(responses.conditions)}
    path.write_text("condition,side\n" + "".join(f"{name},{side}\n" for name, side in sorted(sides.items())))
    return path


def test_a_leaking_split_is_refused(responses: ResponseTable, tmp_path: Path) -> None:
    with pytest.raises(LeakError, match="single-in-double"):
        run_small(responses, tmp_path / "out", splits=[_leaking(responses, tmp_path / "leak.csv")])
    assert not (tmp_path / "out" / "scores.parquet").exists()


def test_a_leaking_split_is_scored_on_demand_and_said_so(responses: ResponseTable, tmp_path: Path) -> None:
    path, said = _leaking(responses, tmp_path / "leak.csv"), []
    found = run_small(responses, tmp_path / "out", splits=[path], allow_leaks=True, say=said.append)
    assert any("leak" in line for line in said)
    assert any("single-in-double" in warning for warning in found.run["warnings"])
    assert any("single-in-double" in entry["finding"] for entry in found.run["splits"][0]["findings"])
    with pytest.warns(UserWarning, match="single-in-double"):
        run_small(responses, tmp_path / "out", splits=[path], allow_leaks=True)


def test_no_prediction_at_all_is_an_error_that_leaves_the_reasons(
    responses: ResponseTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perturbcast.benchmarking.plan.REFERENCES", ())
    with pytest.raises(NothingToScore, match="reason"):
        run_small(responses, tmp_path, models=[Odd(way="refuses all")], splits="singles")
    assert pd.read_parquet(tmp_path / "scores.parquet").reason.str.startswith("E503").all()


@pytest.mark.parametrize(
    "wrong", [{"jobs": 0}, {"seeds": 0}, {"metrics_profile": "long"}, {"splits": []}, {"threads": 0}]
)
def test_options_out_of_range_are_refused_before_any_work(
    wrong: Mapping[str, object], responses: ResponseTable, tmp_path: Path
) -> None:
    with pytest.raises(BadOption):
        run_small(responses, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_cells_have_ceilings_and_each_side_its_own_statistics(screen: Screen, tmp_path: Path) -> None:
    found = benchmark(
        screen, models=["mean"], splits=["cells", "singles"], folds=2, out=tmp_path, metrics_profile="core"
    )
    assert {"ceiling:duplicate", "ceiling:interpolated", "ceiling:perfect"} < set(found.scores.model)
    l2 = found.summary.query("metric == 'l2' and gene_set == 'all' and model == 'mean'")
    assert (l2.ceiling < l2.floor).all()
    cells = found.queries[found.queries.split == "cells"]
    split = make_splits(screen, "cells", seeds=(1,))[0]
    tested = screen.take(split.cells_test)
    expected = [len(tested.cells_of(Query(row.condition, row.context))) for row in cells.itertuples()]
    assert list(cells.n_cells) == expected
    assert found.scores.query("metric == 'l2' and gene_set == 'de20' and model == 'mean'").value.notna().any()
    assert found.queries.split_half_r.between(-1, 1).any()
    assert set(found.queries.stratum) <= {"weak", "middle", "strong"}


def test_groups_of_a_split_are_in_the_tables(responses: ResponseTable, tmp_path: Path) -> None:
    found = run_small(responses, tmp_path, splits="doubles-by-seen")
    split = make_splits(responses, "doubles-by-seen", seeds=(1,))[0]
    groups = {query.condition: group for query, group in split.groups.items()}
    scored = found.scores[(found.scores.condition != "*") & ~found.scores.model.str.startswith("ceiling")]
    assert dict(zip(scored.condition, scored.group, strict=True)) == groups
    assert dict(zip(found.queries.condition, found.queries.group, strict=True)) == groups


class FittedGenerator(FittedModel):
    """Predicts no change, and generates cells in which all genes are equal."""

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        return np.zeros(len(self.genes)), None, Support.MEAN

    def sample_cells(self, query: Query | str, *, n_cells: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).poisson(3.0, (n_cells, len(self.genes))).astype(float)


@dataclass(frozen=True)
class Generator(Model):
    """A model that generates cells."""

    card: ClassVar[ModelCard] = ModelCard("generator", "Generator", "", "", frozenset({"unseen_single"}))
    fitted_class: ClassVar[type[FittedModel]] = FittedGenerator

    def fit(self, training: TrainingData, *, seed: int = 0, progress: object = None) -> FittedGenerator:
        return FittedGenerator(self, training.responses)


def test_model_that_generates_cells_is_judged_by_them(screen: Screen, tmp_path: Path) -> None:
    scores = benchmark(screen, models=[Generator()], splits=["doubles"], out=tmp_path / "out").scores
    mean = scores.groupby(["metric", "model"])["value"].mean().unstack()
    for metric in ("l2", "significant_jaccard"):
        assert mean.loc[metric, "generator"] == mean.loc[metric, "no-change"]
    for metric in ("edistance", "mmd"):
        assert mean.loc[metric, "generator"] > 2 * mean.loc[metric, "no-change"]
