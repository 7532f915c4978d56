"""Whether what a model goes by is of the query, or of any query."""

import numpy as np
import pandas as pd
import pytest

from perturbcast.data.conditions import Query
from perturbcast.models.check_world import check_world
from perturbcast.models.explain import N_TOP, Explanation, enrichment
from perturbcast.models.registry import get_model

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
