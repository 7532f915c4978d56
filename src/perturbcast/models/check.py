"""The conformance suite: what every model must do, whoever wrote it. `check_model("mean")` is public API."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from perturbcast.data.conditions import Query
from perturbcast.data.prediction import Prediction
from perturbcast.errors import PerturbcastError
from perturbcast.models.base import FittedModel, Model, TrainingData
from perturbcast.models.check_world import CheckWorld, check_world

SEED = 7


class CheckFailed(AssertionError):
    """A promise that the model does not keep."""


class NotApplicable(Exception):
    """The check says nothing about this model."""


@dataclass(frozen=True)
class CheckResult:
    """One check of one model."""

    name: str  # a sentence
    status: Literal["passed", "failed", "skipped"]
    detail: str = ""  # what was found, where it failed


@dataclass
class Case:
    """A model and what its checks share: a world, a world with two contexts, and the model fitted to them."""

    model: Model

    @cached_property
    def world(self) -> CheckWorld:
        """One context."""
        return check_world()

    @cached_property
    def two_contexts(self) -> CheckWorld:
        """Two contexts, every query in both."""
        return check_world(contexts=("K562", "RPE1"), seed=1)

    def given(self, world: CheckWorld) -> TrainingData:
        """The training data of a world, with cells where the model reads cells."""
        return world.with_cells if self.model.card.needs_cells else world.training

    @cached_property
    def fitted(self) -> FittedModel:
        """Fitted to the world of one context."""
        return self.fit(self.given(self.world))

    @cached_property
    def fitted_in_two(self) -> FittedModel:
        """Fitted to the world of two contexts."""
        return self.fit(self.given(self.two_contexts))

    def fit(self, training: TrainingData) -> FittedModel:
        """The model fitted with the seed of the suite."""
        return self.model.fit(training, seed=SEED)

    def fit_or_code(self, training: TrainingData) -> tuple[FittedModel | None, str]:
        """The fitted model and "", or None and the code of the coded error that refuses."""
        try:
            return self.fit(training), ""
        except PerturbcastError as refusal:
            return None, refusal.code

    @cached_property
    def asked(self) -> tuple[Query, ...]:
        """Held-out queries, some training queries, and an unmeasured and an unknown target."""
        seen = self.world.training.responses.queries
        return (*self.world.test.queries, *seen[:2], *seen[-2:], Query("U5"), Query("NEVER_HEARD_OF"))

    @cached_property
    def prediction(self) -> Prediction:
        """Predictions of `asked`."""
        return self.fitted.predict(self.asked)


Check = Callable[[Case], None]
_CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Lists a check; its docstring is the promise."""
    _CHECKS[function.__name__] = function
    return function


def all_checks() -> dict[str, str]:
    """Name and promise of every check, in the order they are run."""
    _load()
    return {name: (function.__doc__ or "").strip() for name, function in _CHECKS.items()}


def check_model(model: str | type[Model] | Model) -> list[CheckResult]:
    """The result of every check for a model, given by name (`mean:cells`), class or instance.

    A failed check is a result with status `failed` and what was found, never an exception; docs/MODELS.md lists the
    promises. Takes a second or two for a model that fits at once. A model given by name or class is fitted with the
    `quick` fields of its card; an instance is fitted as it is.
    """
    _load()
    if isinstance(model, str):
        from perturbcast.models.registry import get_model

        model = _quickly(get_model(model))
    case = Case(model if isinstance(model, Model) else _quickly(model()))
    return [_run(name, function, case) for name, function in _CHECKS.items()]


def _quickly(model: Model) -> Model:
    """The model with the quick fields of its card; as it is where they are wrong, which a check finds."""
    try:
        return replace(model, **model.card.quick)
    except (TypeError, PerturbcastError):
        return model


def _run(name: str, function: Check, case: Case) -> CheckResult:
    try:
        function(case)
    except NotApplicable as reason:
        return CheckResult(name, "skipped", str(reason))
    except CheckFailed as failure:
        return CheckResult(name, "failed", str(failure))
    except Exception as error:  # a model that breaks in any way has failed the check, and the others must still run
        return CheckResult(name, "failed", f"{type(error).__name__}: {error}")
    return CheckResult(name, "passed")


def _load() -> None:
    import perturbcast.models.checks_of_answers
    import perturbcast.models.checks_of_artefacts
    import perturbcast.models.checks_of_fitting  # noqa: F401 - each lists its checks


def require(fact: bool, found: str) -> None:
    """Nothing if the fact holds; CheckFailed with what was found otherwise."""
    if not fact:
        raise CheckFailed(found)


def same(first: Prediction, second: Prediction) -> bool:
    """Whether two predictions agree bit for bit, refusals and sd included."""
    return (
        first.queries == second.queries
        and first.support == second.support
        and first.reason == second.reason
        and _equal(first.response, second.response)
        and _equal(first.sd, second.sd)
    )


def _equal(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    if first is None or second is None:
        return first is second
    return bool(np.array_equal(first, second, equal_nan=True))


def attempt(act: Callable[[], object]) -> str:
    """The code of the coded error that an act ends in, "" where it succeeds; other exceptions pass through."""
    try:
        act()
    except PerturbcastError as refusal:
        return refusal.code
    return ""


def without_knowledge(training: TrainingData) -> TrainingData:
    """The same training data with nothing known of genes."""
    return replace(training, knowledge=type(training.knowledge)())
