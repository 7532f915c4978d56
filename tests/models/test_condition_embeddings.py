"""Linear decoders on tables of whole conditions, the penalty of the paper, and controls beside them (spec D-14)."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_worlds import featured, mean_l2, table_of
from sklearn.linear_model import Ridge

from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Support
from perturbcast.genes.knowledge import EmbeddingTable, GeneKnowledge
from perturbcast.models.artefact import load
from perturbcast.models.base import TrainingData
from perturbcast.models.embeddings_of_targets import TargetFeatures
from perturbcast.models.registry import get_model

SINGLES = [f"T{number}" for number in range(12)]
PAIRS = ["T0+T1", "T2+T3", "T4+T5", "T6+T7"]


@pytest.fixture(scope="module")
def edited():
    """Responses linear in the embedding of the whole condition, which is no sum over targets; two pairs are unseen."""
    rng = np.random.default_rng(0)
    conditions = [*SINGLES, *PAIRS]
    states = rng.normal(size=(len(conditions), 3)).astype(np.float32)
    response = states @ rng.normal(size=(3, 25)) + 1.5
    names = [*SINGLES, "T1+T0", "T2+T3", "T5+T4", "ctrl+T6+T7"]  # written in any order
    knowledge = GeneKnowledge(embeddings={"cells": EmbeddingTable("cells", np.array(names, dtype=object), states)})
    table = table_of(response[:-2], conditions[:-2])
    return TrainingData(table, knowledge=knowledge), states, response


def test_the_paper_profile_is_ridge_with_penalty_one(edited):
    training, states, response = edited
    fitted = get_model("embedding-ridge:paper", table="cells").fit(training)
    peer = Ridge(alpha=1.0).fit(states[:-2], response[:-2])
    found = fitted.predict(["T4+T5", "T6+T7"])
    np.testing.assert_allclose(found.response, peer.predict(states[-2:]), atol=1e-4)
    assert found.support == (Support.NEIGHBOURS, Support.NEIGHBOURS)


def test_a_row_of_a_condition_goes_before_those_of_its_targets(edited):
    training = edited[0]
    features = TargetFeatures.of("x", ["A", "B", "B+A"], np.array([[1.0, 2], [3, 1], [9, 9]]))
    queries = [Query("A+B"), Query("A+C"), Query("B"), Query("ctrl")]
    assert features.rows(queries).tolist() == [[9, 9], [1, 2], [3, 1], [0, 0]]
    assert [features.knows(query) for query in queries] == [2, 1, 1, 0]
    fitted = get_model("embedding-ridge", table="cells:cosine").fit(training)
    assert fitted.predict(["T0+T3"]).support == (Support.NEIGHBOURS,)


def test_targets_are_summed_averaged_or_set_beside_their_maximum():
    features = TargetFeatures.of("x", ["A", "B"], np.array([[1.0, 2], [3, 1]]))
    query = [Query("A+B")]
    assert features.rows(query).tolist() == [[4, 3]]
    assert features.rows(query, combination="mean").tolist() == [[2, 1.5]]
    assert features.rows(query, combination="concat-max").tolist() == [[4, 3, 3, 2]]


@pytest.mark.parametrize("control", ["random", "permuted", "one-hot", "co-expression"])
def test_controls_know_nothing_of_unseen_targets(control):
    training, test = featured()
    knowing = mean_l2(get_model("embedding-ridge").fit(training), test)
    mean = mean_l2(get_model("mean").fit(training), test)
    fitted = get_model(f"embedding-ridge:{control}").fit(training, seed=1)
    assert mean_l2(fitted, test) > 0.5 * (knowing + mean)


@pytest.mark.parametrize("fields", [{"combination": "concat-max"}, {"control": "permuted"}, {"alpha": 2.0}])
def test_a_saved_model_predicts_the_same(edited, tmp_path, fields):
    fitted = get_model("embedding-ridge", **fields).fit(edited[0])
    asked = ["T0", "T4+T5", "T0+T9"]
    again = load(fitted.save(tmp_path / "model"))
    np.testing.assert_allclose(again.predict(asked).response, fitted.predict(asked).response, atol=1e-6)


STRANGE = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["T0", "t0", "T0+T1", "T1 + T0", "T0+", "+", "ctrl", "ctrl+T3", "ENSG00000141510.3", "T0+T0", ""]),
    st.from_regex(r"[A-Z0-9]{1,6}(-[A-Z0-9]{1,3})?(\+[A-Z0-9]{1,6})?", fullmatch=True),
)


FITTED = {}


def fitted_once(name, training):
    if name not in FITTED:
        FITTED[name] = get_model(name).fit(training)
    return FITTED[name]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STRANGE, min_size=1, max_size=30))
@pytest.mark.parametrize("name", ["embedding-ridge", "embedding-ridge:paper", "linear:paper"])
def test_any_name_gets_a_prediction_or_a_coded_reason(edited, name, asked):
    found = fitted_once(name, edited[0]).predict(asked)
    assert len(found.support) == len(asked)
    for support, reason, row in zip(found.support, found.reason, found.response, strict=True):
        assert np.isfinite(row).all() == (reason == "")
        assert reason == "" or (support == Support.NOTHING and reason.startswith("E5"))
