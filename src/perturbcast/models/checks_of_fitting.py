"""Checks of a model's card, its fields, and of fitting."""

import dataclasses
import hashlib
import re
from dataclasses import replace
from typing import Any

import numpy as np

from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.errors import GenesDiffer, UnknownOption, UnknownProfile, WrongScale
from perturbcast.models.base import TrainingData
from perturbcast.models.check import Case, NotApplicable, attempt, check, require, same, without_knowledge

PREDICTS = {"unseen_single", "unseen_double", "unseen_context"}
CLOSE = 0.01  # relative L2 within which a re-ordered fit must agree: iterative fits stop at slightly other places


@check
def card_is_complete(case: Case) -> None:
    """The card has a command-line name, a title, a summary and a source."""
    card = case.model.card
    require(bool(re.fullmatch(r"[a-z][a-z0-9-]*", card.name)), f"name {card.name!r} is not lower case with hyphens")
    empty = [name for name in ("title", "summary", "source") if not getattr(card, name).strip()]
    require(not empty, f"empty on the card: {empty}")


@check
def card_claims_known_kinds(case: Case) -> None:
    """What the card says it predicts is in the vocabulary."""
    unknown = set(case.model.card.predicts) - PREDICTS
    require(not unknown, f"unknown kinds {sorted(unknown)}; known are {sorted(PREDICTS)}")


@check
def model_is_frozen(case: Case) -> None:
    """Hyper-parameters cannot be changed after the model is made."""
    try:
        case.model.__setattr__("card", None)
    except dataclasses.FrozenInstanceError:
        return
    require(False, "a field could be set; declare the class with @dataclass(frozen=True)")


@check
def models_of_equal_fields_are_equal(case: Case) -> None:
    """Two models with the same hyper-parameters are equal."""
    require(dataclasses.replace(case.model) == case.model, "a copy is not equal to its original")


@check
def defaults_are_allowed(case: Case) -> None:
    """The model can be made without arguments."""
    require(type(case.model)() == type(case.model).make(), "make() differs from the plain constructor")


@check
def profiles_can_be_made(case: Case) -> None:
    """Every profile of the card makes a model."""
    if not case.model.card.profiles:
        raise NotApplicable("no profiles")
    for profile in case.model.card.profiles:
        type(case.model).make(profile)


@check
def quick_fields_are_allowed(case: Case) -> None:
    """The `quick` fields of the card, with which this suite fits the model, are fields of it."""
    if not case.model.card.quick:
        raise NotApplicable("no quick fields")
    code = attempt(lambda: type(case.model).make(**case.model.card.quick))
    require(not code, f"make(**card.quick) gave {code}")


@check
def label_names_the_same_model_again(case: Case) -> None:
    """The label of every profile, read as a name, gives the model that it labels."""
    kind = type(case.model)
    for profile in [None, *case.model.card.profiles]:
        made = kind.make(profile)
        name, _, again = made.label.partition(":")
        require(name == kind.card.name, f"label {made.label!r} does not begin with {kind.card.name!r}")
        require(kind.make(again or None) == made, f"label {made.label!r} gives another model")


@check
def unknown_field_is_refused(case: Case) -> None:
    """A field that does not exist is UnknownOption, not ignored."""
    code = attempt(lambda: type(case.model).make(no_such_field=1))
    require(code == UnknownOption.code, f"make(no_such_field=1) gave {code or 'a model'}")


@check
def unknown_profile_is_refused(case: Case) -> None:
    """A profile that does not exist is UnknownProfile."""
    code = attempt(lambda: type(case.model).make("no-such-profile"))
    require(code == UnknownProfile.code, f"the profile gave {code or 'a model'}")


@check
def fit_gives_the_fitted_class(case: Case) -> None:
    """`fit` returns an instance of `fitted_class`, which `load` will make again."""
    found = type(case.fitted)
    require(found is case.model.fitted_class, f"fit gave {found.__name__}, not {case.model.fitted_class.__name__}")


@check
def fit_leaves_its_input_alone(case: Case) -> None:
    """No array of the training data is changed by fitting."""
    training = case.given(case.world)
    before = _arrays(training.responses)
    case.fit(training)
    after = _arrays(training.responses)
    changed = [name for name in before if not np.array_equal(before[name], after[name], equal_nan=True)]
    require(not changed, f"changed by fit: {changed}")


@check
def fit_leaves_the_global_random_state_alone(case: Case) -> None:
    """Fitting neither seeds nor draws from numpy's global generator."""
    np.random.random()  # noqa: NPY002 - so that seeding it as an earlier fit may have done shows
    before = _global_state()
    case.fit(case.given(case.world))
    require(before == _global_state(), "the state of np.random changed; use np.random.default_rng(seed)")


@check
def fit_is_deterministic(case: Case) -> None:
    """The same data and seed give the same predictions, bit for bit."""
    again = case.fit(case.given(case.world)).predict(case.asked)
    require(same(case.prediction, again), "a second fit with the same seed predicts differently")


@check
def fit_remembers_the_training_table(case: Case) -> None:
    """Genes, contexts, scale and training queries of the fitted model are those of training."""
    table, fitted = case.world.training.responses, case.fitted
    require(np.array_equal(fitted.genes, table.genes), "genes differ")
    require(fitted.contexts == table.contexts and fitted.scale == table.scale, "contexts or scale differ")
    require(fitted.trained_on == table.queries, "training queries differ")


@check
def order_of_genes_does_not_matter(case: Case) -> None:
    """Training genes in another order give the same predictions in that order."""
    order = np.random.default_rng(0).permutation(case.world.training.responses.n_genes)
    given = case.given(case.world)
    screen = None if given.screen is None else _genes_of_cells(given.screen, order)
    other = case.fit(replace(given, responses=_genes(given.responses, order), screen=screen))
    _require_close(case.prediction.response[:, order], other.predict(case.asked).response, "genes")


@check
def order_of_training_queries_does_not_matter(case: Case) -> None:
    """Training queries in another order give the same predictions."""
    table = case.world.training.responses
    order = np.random.default_rng(1).permutation(table.n_queries)
    other = case.fit(replace(case.given(case.world), responses=table.take(order)))
    _require_close(case.prediction.response, other.predict(case.asked).response, "training queries")


@check
def training_without_knowledge_fits_or_is_refused(case: Case) -> None:
    """Without gene knowledge the model fits, or refuses with a coded error."""
    fitted, _ = case.fit_or_code(without_knowledge(case.given(case.world)))
    if fitted is not None:
        fitted.predict(case.asked)


@check
def empty_training_fits_or_is_refused(case: Case) -> None:
    """Training data without a single query fit, or are refused with a coded error."""
    attempt(lambda: case.fit(_first(case.given(case.world), 0)))


@check
def tiny_training_fits_or_is_refused(case: Case) -> None:
    """One, two and five training queries fit and predict, or are refused with a coded error."""
    for n_queries in (1, 2, 5):
        training = _first(case.given(case.world), n_queries)
        attempt(lambda training=training: case.fit(training).predict(case.asked))  # type: ignore[misc]


@check
def responses_without_control_fit_or_are_refused(case: Case) -> None:
    """A table of responses only (control unknown, no cell numbers) fits, or is refused with a coded error."""
    table = case.world.training.responses
    bare = replace(
        table,
        scale=Scale.RESPONSE,
        control=np.full_like(table.control, np.nan),
        n_cells=None,
        variance=None,
        n_control=None,
        control_variance=None,
    )
    training = TrainingData(bare, knowledge=case.world.training.knowledge)
    fitted, _ = case.fit_or_code(training)
    if fitted is not None:
        found = fitted.predict(case.asked)
        require(found.scale is Scale.RESPONSE, f"the scale became {found.scale}")
        require(bool(np.isfinite(found.response[found.predicted]).all()), "predictions are not finite")


@check
def other_scales_are_refused(case: Case) -> None:
    """Training data whose cells and responses differ in scale or genes cannot be made, so no model mixes scales."""
    screen, table = case.world.with_cells.screen, case.world.training.responses
    code = attempt(lambda: TrainingData(replace(table, scale=Scale.LOG1P_CPM), screen=screen))
    require(code == WrongScale.code, f"cells of another scale gave {code or 'training data'}")
    code = attempt(lambda: TrainingData(_genes(table, np.arange(table.n_genes)[::-1]), screen=screen))
    require(code == GenesDiffer.code, f"cells of other genes gave {code or 'training data'}")
    require(case.prediction.scale is table.scale, f"the prediction has scale {case.prediction.scale}")


def _global_state() -> str:
    """A digest of the state of numpy's global generator."""
    state: Any = np.random.get_state()  # noqa: NPY002
    return hashlib.sha256(state[1].tobytes() + str(state[2:]).encode()).hexdigest()


def _arrays(table: ResponseTable) -> dict[str, np.ndarray]:
    """Copies of the numeric arrays of a table."""
    values = {entry.name: getattr(table, entry.name) for entry in dataclasses.fields(table)}
    return {name: value.copy() for name, value in values.items() if isinstance(value, np.ndarray) and name != "genes"}


def _genes(table: ResponseTable, order: np.ndarray) -> ResponseTable:
    """The table with its genes in another order."""
    return replace(
        table,
        genes=table.genes[order],
        response=table.response[:, order],
        control=table.control[:, order],
        variance=None if table.variance is None else table.variance[:, order],
        control_variance=None if table.control_variance is None else table.control_variance[:, order],
    )


def _genes_of_cells(screen: Screen, order: np.ndarray) -> Screen:
    """The cells with their genes in another order."""
    stored = screen.matrix.rows(np.arange(screen.matrix.shape[0]))
    return replace(screen, genes=screen.genes[order], matrix=InMemory(stored[:, order].tocsr()))


def _first(training: TrainingData, n_queries: int) -> TrainingData:
    return replace(training, responses=training.responses.take(np.arange(n_queries)))


def _require_close(expected: np.ndarray, found: np.ndarray, what: str) -> None:
    both = np.isfinite(expected) & np.isfinite(found)
    require(bool((np.isfinite(expected) == np.isfinite(found)).all()), f"other queries are refused when {what} move")
    size = max(float(np.linalg.norm(expected[both])), 1e-12)
    change = float(np.linalg.norm(expected[both] - found[both])) / size
    require(change < CLOSE, f"predictions change by {change:.2%} when {what} are re-ordered")
