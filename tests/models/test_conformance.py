"""Every model passes the conformance suite, and models broken on purpose fail the check that names their defect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Support
from perturbcast.models.base import Answers, FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.check import all_checks, check_model
from perturbcast.models.registry import all_models

NAMES = [  # a profile without fields is the model itself
    name if profile is None else f"{name}:{profile}"
    for name, model in all_models().items()
    for profile in (None, *(profile for profile, fields in model.card.profiles.items() if fields))
]
SIMULATED = "not_worse_than_no_change_on_the_simulated_world"
AS_PUBLISHED = {
    # fixed λ = 0.1 and ten components overfit the 34 conditions of the world
    "linear:paper": {"not_worse_than_no_change"},
    "linear:random": {"not_worse_than_no_change"},
    # inputs name the targets of training one by one: a target never seen is refused
    "decoder-only:paper": {"claimed_kinds_are_predicted"},
    "graphvci:paper": {"claimed_kinds_are_predicted"},
    "latent-additive:paper": {"claimed_kinds_are_predicted"},
    "linear-additive:paper": {"claimed_kinds_are_predicted"},
    # (26) draws counts of 10,000 molecules from the prior and apart for each condition: off by 3 to 6 % of no change
    "cradle-vae:paper": {SIMULATED},
    "gpo-vae:paper": {SIMULATED},
    "sams-vae:paper": {SIMULATED},
}


@pytest.mark.parametrize("name", NAMES)
def test_model_keeps_every_promise(name):
    expected = AS_PUBLISHED.get(name, set())
    failed = [result for result in check_model(name) if result.status == "failed" and result.name not in expected]
    assert not failed, "\n".join(f"{result.name}: {result.detail}" for result in failed)


def test_the_suite_has_at_least_thirty_checks_and_each_states_its_promise():
    checks = all_checks()
    assert len(checks) >= 30
    assert all(promise.endswith(".") for promise in checks.values())


class Fitted(FittedModel):
    """The mean training response, as the honest base of the broken models below."""

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        return self._state["mean"], None, Support.MEAN


@dataclass(frozen=True)
class Honest(Model):
    """Keeps every promise."""

    card: ClassVar[ModelCard] = ModelCard("honest", "Honest", "The mean.", "a test", frozenset({"unseen_single"}))
    fitted_class: ClassVar[type[FittedModel]] = Fitted

    def fit(self, training: TrainingData, *, seed: int = 0, progress: object = None) -> FittedModel:
        table = training.responses
        return self.fitted_class(self, table, {"mean": table.perturbed_mean()})


def broken_answer(respond):
    """A model whose `_respond` is the one given."""
    fitted = type("Broken", (Fitted,), {"_respond": respond})
    return dataclass(frozen=True)(type("BrokenModel", (Honest,), {"fitted_class": fitted, "__annotations__": {}}))


def broken_fit(fit):
    """A model whose `fit` is the one given."""
    return dataclass(frozen=True)(type("BrokenModel", (Honest,), {"fit": fit, "__annotations__": {}}))


def with_card(**changes):
    """A model with another card."""
    fields = {"name": "honest", "title": "Honest", "summary": "The mean.", "source": "a test"}
    card = ModelCard(**({**fields, "predicts": frozenset()} | changes))
    return dataclass(frozen=True)(type("BrokenModel", (Honest,), {"card": card, "__annotations__": {}}))


def with_nan(self, query):
    response = self._state["mean"].copy()
    response[0] = np.nan
    return response, None, Support.MEAN


def by_text(self, query):
    return self._state["mean"], None, "mean"


def always_seen(self, query):
    return self._state["mean"], None, Support.SEEN


def crash_on_unknown(self, query):
    {"G00": 1}[query.condition]
    return self._state["mean"], None, Support.MEAN


def negative_sd(self, query):
    return self._state["mean"], -np.ones(len(self.genes)), Support.MEAN


def random_answer(self, query):
    return self._state["mean"] + np.random.default_rng().normal(size=len(self.genes)), None, Support.MEAN


def inflated(self, query):
    return 50 * (1 + self._state["mean"]), None, Support.MEAN


def remembers_questions(self, query):
    self.asked = getattr(self, "asked", 0) + 1
    return self._state["mean"] + self.asked, None, Support.MEAN


def fit_in_place(self, training, *, seed=0, progress=None):
    training.responses.response[0, 0] += 1
    return Honest.fit(self, training)


def fit_with_global_seed(self, training, *, seed=0, progress=None):
    np.random.seed(seed)  # noqa: NPY002
    return Honest.fit(self, training)


def fit_without_seed(self, training, *, seed=0, progress=None):
    noise = np.random.default_rng().normal(size=training.responses.n_genes)
    return self.fitted_class(self, training.responses, {"mean": training.responses.perturbed_mean() + noise})


def fit_by_position(self, training, *, seed=0, progress=None):
    weight = np.arange(training.responses.n_genes)
    return self.fitted_class(self, training.responses, {"mean": training.responses.perturbed_mean() * weight})


def fit_to_the_last(self, training, *, seed=0, progress=None):
    return self.fitted_class(self, training.responses, {"mean": training.responses.response[-1]})


def fit_needs_texts(self, training, *, seed=0, progress=None):
    next(iter(training.knowledge.texts))
    return Honest.fit(self, training)


def fit_gives_another_class(self, training, *, seed=0, progress=None):
    other = type("Other", (Fitted,), {})
    return other(self, training.responses, {"mean": training.responses.perturbed_mean()})


class Forgetful(Fitted):
    """Does not save what it learned."""

    def __init__(self, model: Model, training: object, state: Mapping[str, np.ndarray] | None = None) -> None:
        super().__init__(model, training, state or {"mean": np.zeros(training.n_genes)})

    def state(self) -> dict[str, np.ndarray]:
        return {}


class Shared(Fitted):
    """Hands out one array again and again."""

    def predict(self, queries, *, dtype=np.float64):
        found = super().predict(queries, dtype=dtype)
        self._kept = getattr(self, "_kept", found)
        return self._kept if self._kept.queries == found.queries else found


class Sorted(Fitted):
    """Answers in alphabetical order instead of the order asked."""

    def predict(self, queries, *, dtype=np.float64):
        return super().predict(sorted(self._as_query(query) for query in queries), dtype=dtype)


class Together(Fitted):
    """Centres its answers over what is asked together."""

    def _respond_many(self, queries: Sequence[Query], *, dtype: type) -> Answers:
        answers = super()._respond_many(queries, dtype=dtype)
        answers.response[:] += len(queries)
        return answers


def with_class(fitted):
    """The honest model with another fitted class."""
    return dataclass(frozen=True)(type("BrokenModel", (Honest,), {"fitted_class": fitted, "__annotations__": {}}))


BROKEN = {
    "every_query_is_predicted_or_refused_with_a_code": broken_answer(with_nan),
    "support_is_in_the_vocabulary": broken_answer(by_text),
    "unseen_queries_are_not_called_seen": broken_answer(always_seen),
    "unknown_target_is_answered": broken_answer(crash_on_unknown),
    "sd_is_not_negative": broken_answer(negative_sd),
    "predicting_changes_nothing": broken_answer(remembers_questions),
    "repeated_queries_get_equal_rows": broken_answer(random_answer),
    "not_worse_than_no_change": broken_answer(inflated),
    "not_worse_than_no_change_on_the_simulated_world": broken_answer(inflated),
    "fit_leaves_its_input_alone": broken_fit(fit_in_place),
    "fit_leaves_the_global_random_state_alone": broken_fit(fit_with_global_seed),
    "fit_is_deterministic": broken_fit(fit_without_seed),
    "order_of_genes_does_not_matter": broken_fit(fit_by_position),
    "order_of_training_queries_does_not_matter": broken_fit(fit_to_the_last),
    "empty_training_fits_or_is_refused": broken_fit(fit_to_the_last),
    "training_without_knowledge_fits_or_is_refused": broken_fit(fit_needs_texts),
    "fit_gives_the_fitted_class": broken_fit(fit_gives_another_class),
    "saved_and_loaded_predicts_the_same": with_class(Forgetful),
    "answers_are_the_callers_own": with_class(Shared),
    "every_query_gets_a_row": with_class(Sorted),
    "queries_do_not_depend_on_each_other": with_class(Together),
    "card_is_complete": with_card(summary=" "),
    "card_claims_known_kinds": with_card(predicts=frozenset({"everything"})),
    "quick_fields_are_allowed": with_card(quick={"no_such_field": 1}),
    "profiles_can_be_made": with_card(profiles={"strong": {"no_such_field": 1}}),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_model_fails_the_check_that_names_its_defect(name):
    results = {result.name: result for result in check_model(BROKEN[name])}
    assert results[name].status == "failed", f"{name} passed"
    assert results[name].detail


def cells_by_position(self, training, *, seed=0, progress=None):
    weight = np.arange(training.screen.n_genes)
    mean = np.asarray(training.screen.expression(np.arange(training.screen.n_cells)).mean(axis=0)).ravel()
    return self.fitted_class(self, training.responses, {"mean": mean * weight})


@pytest.mark.parametrize("name", ["order_of_genes_does_not_matter", SIMULATED])
def test_broken_model_of_cells_fails_the_check_that_names_its_defect(name):
    card = ModelCard("honest", "Honest", "The mean.", "a test", frozenset(), needs_cells=True)
    broken = dataclass(frozen=True)(
        type("BrokenModel", (Honest,), {"card": card, "fit": cells_by_position, "__annotations__": {}})
    )
    results = {result.name: result for result in check_model(broken)}
    assert results[name].status == "failed"


@dataclass(frozen=True)
class Slow(Honest):
    """Trains for as long as it is told."""

    card: ClassVar[ModelCard] = ModelCard("honest", "Honest", "The mean.", "a test", frozenset(), quick={"n_epochs": 1})
    n_epochs: int = 1000

    def fit(self, training: TrainingData, *, seed: int = 0, progress: object = None) -> FittedModel:
        assert self.n_epochs < 10, "too long for a test"
        return super().fit(training, seed=seed, progress=progress)


def test_suite_fits_a_model_by_name_or_class_with_the_quick_fields_and_an_instance_as_it_is():
    assert [result for result in check_model(Slow) if result.status == "failed"] == []
    assert [result for result in check_model(Slow(n_epochs=2)) if result.status == "failed"] == []
    assert [result for result in check_model(Slow()) if "too long for a test" in result.detail]


def test_model_that_is_not_frozen_fails():
    class Open(Honest):
        __setattr__ = object.__setattr__

    results = {result.name: result.status for result in check_model(Open())}
    assert results["model_is_frozen"] == "failed"


def test_honest_model_passes_though_it_is_in_no_registry():
    assert [result for result in check_model(Honest) if result.status == "failed"] == []
