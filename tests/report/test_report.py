"""The report says what the tables say, in one self-contained page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perturbcast.benchmarking.compare import summarise
from perturbcast.errors import NotABenchmark, NothingToScore
from perturbcast.report.build import build_report
from perturbcast.report.figures import Match, predicted_against_observed, spread, to_svg
from perturbcast.report.summary import number, read_tables, sections_of

MODELS = {"no-change": 4.0, "mean": 3.0, "kernel-ridge": 2.0, "ceiling:duplicate": 1.0}
CONDITIONS = [f"G{row}" for row in range(24)]


def scores_table(*, hostile_name: str = "G0") -> pd.DataFrame:
    """Scores in which the order of the models is known: L2 around the values of MODELS, correlations opposite to it."""
    rng = np.random.default_rng(0)
    rows = []
    for model, level in MODELS.items():
        for condition in [hostile_name, *CONDITIONS[1:]]:
            shared = {"dataset": "demo", "context": "", "split": "singles", "seed": 1, "fold": 0, "model": model}
            shared |= {"condition": condition, "reason": "", "seconds": 0.1, "support": "mean", "group": ""}
            error = level + rng.normal(0, 0.1)
            rows.append(shared | {"metric": "l2", "gene_set": "all", "value": error})
            rows.append(shared | {"metric": "pearson_delta", "gene_set": "all", "value": 1 - error / 5})
    refused = rows[0] | {"model": "additive", "metric": "prediction", "gene_set": "", "value": np.nan}
    rows.append(refused | {"reason": "E503 CannotPredict: no single was seen.", "support": "nothing"})
    return pd.DataFrame(rows)


def write_folder(folder: Path, scores: pd.DataFrame, *, warnings: tuple[str, ...] = ()) -> Path:
    """A benchmark folder of those scores."""
    scores.to_parquet(folder / "scores.parquet", index=False)
    summarise(scores, n_bootstrap=200).to_parquet(folder / "summary.parquet", index=False)
    about = {"decisions": [], "problems": ["Few control cells. Add some."], "knowledge": {"notes": ["edges.csv"]}}
    run = {
        "configuration": {"models": list(MODELS)},
        "versions": {"perturbcast": "0.1.0"},
        "datasets": [{"name": "demo", "unit": "ln", "facts": {"genes": 10}, **about}],
        "warnings": list(warnings),
        "finished": "2026-01-02T03:04:05",
        "seconds": 1.0,
        "peak_memory_mb": 100.0,
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path, scores_table())


class Page(HTMLParser):
    """Collects what a page would load from elsewhere, and whether its tags close."""

    VOID = frozenset({"meta", "br", "input", "img", "link", "hr", "path", "use", "rect", "image", "col", "source"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded, self.open_tags, self.stray = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in ("script", "img", "link", "iframe") and ("src" in attributes or tag in ("link", "iframe")):
            self.loaded.append((tag, attributes))
        if tag not in self.VOID:
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if self.open_tags and self.open_tags[-1] == tag:
            self.open_tags.pop()
        else:
            self.stray.append(tag)


def test_the_page_is_one_well_formed_file_that_loads_nothing(folder):
    page = build_report(folder).read_text()
    parsed = Page(page)
    assert parsed.loaded == []
    assert parsed.stray == []
    assert parsed.open_tags == []
    assert not re.search(r"url\((?!#)", page.replace("url(&quot;#", "url(#"))


def test_the_models_stand_in_the_order_of_their_error_with_ceilings_last(folder):
    (section,) = sections_of(read_tables(folder))
    in_order = ["kernel-ridge", "mean", "no-change", "ceiling:duplicate"]
    assert [row.model for row in section.rows if row.cells[0]] == in_order
    assert section.best_model == "kernel-ridge"
    assert section.n_queries == len(CONDITIONS)
    assert section.verdict[0].startswith("kernel-ridge predicts best: clearly better than every other simple baseline")
    assert "kernel-ridge is best at 2.0" in section.verdict[1]
    assert "clearly better than mean" in section.verdict[1]
    assert re.search(r"(49|50|51) % of the way from floor", section.verdict[1])


def test_where_nothing_beats_the_baselines_the_verdict_says_so(tmp_path):
    scores = scores_table()
    level = scores.groupby(["condition", "metric"])["value"].transform("mean")
    scores["value"] = scores["value"].where(scores.model.str.startswith("ceiling") | scores.value.isna(), level)
    (section,) = sections_of(read_tables(write_folder(tmp_path, scores)))
    assert section.verdict[0].startswith("No model is clearly better than the simple baselines")


def test_refusals_are_counted_with_their_reason(folder):
    (section,) = sections_of(read_tables(folder))
    assert section.refusals == (("additive", "E503 CannotPredict: no single was seen.", 1),)
    assert "E503 CannotPredict" in build_report(folder).read_text()


def test_the_same_tables_give_the_same_page(folder):
    first = build_report(folder).read_bytes()
    assert build_report(folder).read_bytes() == first
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_names_from_the_data_cannot_break_out_of_the_page(tmp_path):
    hostile = "</script><script>alert(1)</script>"
    page = build_report(write_folder(tmp_path, scores_table(hostile_name=hostile))).read_text()
    assert hostile not in page
    assert "<script>alert" not in page


def test_warnings_stand_at_the_top(tmp_path):
    page = build_report(write_folder(tmp_path, scores_table(), warnings=("the split leaks",))).read_text()
    assert page.index("the split leaks") < page.index("What the data are") < page.index("Few control cells. Add some.")


def test_the_per_query_table_holds_every_scored_query_of_every_model(folder):
    page = build_report(folder).read_text()
    data = json.loads(re.search(r'id="queries">(.*?)</script>', page, flags=re.DOTALL).group(1))
    (part,) = data.values()
    assert len(part["rows"]) == len(CONDITIONS) * 3
    assert part["best"] == "kernel-ridge"
    assert {row["model"] for row in part["rows"]} == set(MODELS) - {"ceiling:duplicate"}


def test_a_folder_without_tables_or_without_scores_is_a_coded_error(tmp_path, folder):
    with pytest.raises(NotABenchmark):
        build_report(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = scores_table().assign(metric="prediction", value=np.nan, reason="E503 CannotPredict: no.")
    with pytest.raises(NothingToScore):
        build_report(write_folder(empty, refused))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (-6.9e-18, "0.00"),
        (0.12345, "0.123"),
        (-0.5, "-0.500"),
        (15.44, "15.4"),
        (1234.5, "1234"),
        (2e-5, "2.00e-05"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert number(value) == text


def test_a_number_that_is_none_is_a_dash():
    assert number(float("nan")) == "–"


def test_names_pushed_apart_keep_their_order_and_their_middle():
    heights = [0.0, 0.01, 0.02, 1.0]
    moved = spread(heights, gap=0.1)
    assert (np.diff(moved) >= 0.1 - 1e-12).all()
    np.testing.assert_allclose(moved.mean(), np.mean(heights))


def test_a_figure_is_the_same_every_time():
    rng = np.random.default_rng(0)
    genes = np.array([f"G{i}" for i in range(30)], dtype=object)
    match = Match("best: A", rng.normal(size=30), rng.normal(size=30), genes)
    pictures = {to_svg(predicted_against_observed([match], unit="ln")) for _ in range(2)}
    assert len(pictures) == 1


@pytest.mark.parametrize(("unit", "label"), [("ln", "observed response (ln)"), ("x" * 60, "observed response")])
def test_a_unit_too_long_for_the_axes_is_left_to_the_caption(unit, label):
    match = Match("best: A", np.array([0.0, 1.0]), np.array([0.5, 0.5]), np.array(["G1", "G2"], dtype=object))
    figure = predicted_against_observed([match], unit=unit)
    assert figure.axes[0].get_xlabel() == label


def test_a_model_that_answered_one_easy_query_is_not_called_the_best(tmp_path):
    scores = scores_table()
    lucky = scores[(scores.model == "mean") & (scores.condition == "G1")].assign(model="linear")
    lucky = lucky.assign(value=lucky.value.where(lucky.metric != "l2", 0.1))
    refused = scores[scores.metric == "prediction"].assign(model="linear")
    (section,) = sections_of(read_tables(write_folder(tmp_path, pd.concat([scores, lucky, refused]))))
    assert section.best_model == "kernel-ridge"
    assert [row.model for row in section.rows if row.cells[0]][-2:] == ["linear", "ceiling:duplicate"]


def test_a_report_without_learned_networks_has_no_trace_of_them(folder, monkeypatch):
    monkeypatch.setattr("perturbcast.report.network_section.consensus", None)  # must not be called
    page = build_report(folder).read_text()
    assert "Find a gene" not in page
    assert ".network" not in page
