"""Whether what a model goes by is of the query, or of any query."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from perturbcast.data.conditions import Query
from perturbcast.models.check_world import check_world
from perturbcast.models.explain import N_TOP, Explanation, enrichment, even_shares
from perturbcast.models.registry import get_model
from perturbcast.report.explain_figure import explanation_figure
from perturbcast.report.explain_files import explain_into

N_GENES = 400


def explanation(condition, leading, changed):
    """A query that is explained by genes of descending score from `leading` on, and changed those of `changed`."""
    names = np.array([f"G{number:03d}" for number in range(N_GENES)])
    score = np.roll(np.linspace(1.0, 0.1, N_GENES), leading)
    table = pd.DataFrame({"gene": names, "score": score / score.sum(), "is_target": False, "predicted": 0.0})
    table["differential"] = np.isin(np.arange(N_GENES), changed)
    table = table.sort_values("score", ascending=False, ignore_index=True)
    return Explanation(Query(condition), "any", "ln", table, pd.DataFrame(), 0.9)


@pytest.fixture(scope="module")
def fitted():
    return get_model("mean").fit(check_world().training)


def test_genes_that_answer_to_any_perturbation_are_told_from_those_of_the_query(fitted):
    same = np.arange(N_TOP)
    alike = enrichment([explanation(name, 0, same) for name in "ABC"], fitted)
    assert (alike["hits"] == N_TOP).all()
    assert (alike["elsewhere"] == N_TOP).all()
    assert (alike["q"] < 0.01).all()  # the test against genes of like degree cannot see it
    own = [explanation(name, 30 * place, 30 * place + same) for place, name in enumerate("ABC")]
    found = enrichment(own, fitted)
    assert (found["hits"] == N_TOP).all()
    assert (found["elsewhere"] == 0).all()


def test_one_query_alone_has_nothing_to_be_compared_with(fitted):
    found = enrichment([explanation("A", 0, np.arange(5))], fitted)
    assert found["hits"].tolist() == [5]
    assert np.isnan(found["elsewhere"]).all()


def test_scores_are_told_as_multiples_of_an_even_share():
    found = explanation("A", 0, np.arange(3))
    shares = even_shares(found)
    assert shares.mean() == pytest.approx(1.0)
    assert shares.iloc[0] == pytest.approx(found.genes["score"].iloc[0] * N_GENES)


def test_figure_explains_the_colours_that_it_has_and_no_others():
    near = pd.DataFrame({"condition": ["A+B"], "context": [""], "likeness": [0.5], "shared_targets": [1]})
    genes, others = explanation_figure(replace(explanation("A", 0, np.arange(3)), nearest=near)).axes
    assert [text.get_text() for text in genes.get_legend().get_texts()] == [
        "all genes alike",
        "differential in the data",
    ]
    assert [text.get_text() for text in others.get_legend().get_texts()] == ["a target in common"]
    assert genes.patches[-1].get_width() == pytest.approx(1 / 0.55, rel=0.01)  # scores run from 1 to 0.1


def test_attention_that_is_spread_over_all_genes_names_none(tmp_path):
    model = get_model("app", base="mean:same-size", max_steps=1, folds=2, n_state=8, n_attention=8)
    saved = model.fit(check_world().training).save(tmp_path / "model")
    (line, *_) = explain_into(saved, ["G00"], out=tmp_path / "found")
    assert "goes by no gene in particular" in line
