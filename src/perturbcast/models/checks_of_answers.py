"""Checks of the answers of a fitted model."""

import re
from dataclasses import replace
from functools import cache

import numpy as np

from perturbcast.data.conditions import CONTROL, Query, is_double, is_single, targets_of
from perturbcast.data.prediction import Prediction, Support
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import UnknownContext
from perturbcast.models.base import TrainingData
from perturbcast.models.check import Case, NotApplicable, check, require, same

CODED = re.compile(r"E\d{3} \w+: .+")
SLACK = 1.02  # of the error of no change, on the worlds of the suite
TOGETHER = 1e-9  # largest change of an answer by what is asked beside it, in units of expression


@check
def every_query_gets_a_row(case: Case) -> None:
    """A row per query, in the order asked, with the genes of training."""
    found, n_genes = case.prediction, len(case.fitted.genes)
    require(found.queries == case.asked, "the queries of the prediction are not those asked, in that order")
    require(found.response.shape == (len(case.asked), n_genes), f"the response has shape {found.response.shape}")
    require(np.array_equal(found.genes, case.fitted.genes), "the genes are not those of training")


@check
def every_query_is_predicted_or_refused_with_a_code(case: Case) -> None:
    """A row is finite without a reason, or all NaN with a reason that begins with a code."""
    for row, reason in enumerate(case.prediction.reason):
        values, query = case.prediction.response[row], case.prediction.queries[row]
        if reason:
            require(bool(CODED.match(reason)), f"{query}: the reason {reason!r} has no code")
            require(bool(np.isnan(values).all()), f"{query}: refused, yet the row holds numbers")
        else:
            require(bool(np.isfinite(values).all()), f"{query}: predicted, yet not all values are finite")


@check
def support_is_in_the_vocabulary(case: Case) -> None:
    """Support is one of `Support`, and `nothing` exactly where the query is refused."""
    for query, support, reason in zip(
        case.prediction.queries, case.prediction.support, case.prediction.reason, strict=True
    ):
        require(isinstance(support, Support), f"{query}: support {support!r} is not a Support")
        require((support is Support.NOTHING) == bool(reason), f"{query}: support {support} with reason {reason!r}")


@check
def unseen_queries_are_not_called_seen(case: Case) -> None:
    """Only training queries have support `seen`."""
    rows = zip(case.prediction.queries, case.prediction.support, strict=True)
    wrong = [str(query) for query, support in rows if support is Support.SEEN and query not in case.fitted.seen]
    require(not wrong, f"called seen, but never in training: {wrong}")


@check
def claimed_kinds_are_predicted(case: Case) -> None:
    """What the card claims to predict is predicted, not refused, for measured targets that the knowledge names."""
    predicts = case.model.card.predicts
    known = case.world.training.knowledge.known_genes() & {str(gene) for gene in case.fitted.genes}
    for query, reason in zip(case.prediction.queries, case.prediction.reason, strict=True):
        targets = targets_of(query.condition)
        if not set(targets) <= known:
            continue
        seen_singly = all(Query(target) in case.fitted.seen for target in targets)
        claimed = ("unseen_single" in predicts and len(targets) == 1) or (
            "unseen_double" in predicts and len(targets) == 2 and seen_singly
        )
        require(not (claimed and reason), f"{query}: {reason}")


@check
def control_does_not_change(case: Case) -> None:
    """The control query has response 0 and support `control`."""
    found = case.fitted.predict([Query(CONTROL, case.fitted.contexts[0])])
    require(not found.response.any(), "the response of control is not zero")
    require(found.support == (Support.CONTROL,) and found.reason == ("",), f"support {found.support[0]}")


@check
def nothing_asked_gives_nothing(case: Case) -> None:
    """No queries give an empty prediction."""
    found = case.fitted.predict([])
    require(found.response.shape == (0, len(case.fitted.genes)), f"the response has shape {found.response.shape}")


@check
def order_of_queries_does_not_matter(case: Case) -> None:
    """Queries asked in reverse order give the same rows in reverse."""
    found = case.fitted.predict(case.asked[::-1])
    _require_equal(case.prediction, found.take(np.arange(len(case.asked))[::-1]), "asked in reverse")


@check
def queries_do_not_depend_on_each_other(case: Case) -> None:
    """A query asked alone gives the row that it gives among others."""
    for row in (0, len(case.asked) // 2, len(case.asked) - 1):
        _require_equal(case.prediction.take([row]), case.fitted.predict([case.asked[row]]), "asked alone")


@check
def repeated_queries_get_equal_rows(case: Case) -> None:
    """A query asked twice gives two equal rows."""
    found = case.fitted.predict([case.asked[0], case.asked[1], case.asked[0]])
    require(np.array_equal(found.response[0], found.response[2], equal_nan=True), "two rows of one query differ")


@check
def predicting_changes_nothing(case: Case) -> None:
    """The same question asked later gives the same answer, bit for bit."""
    first = case.fitted.predict(case.asked)
    require(same(first, case.fitted.predict(case.asked)), "the second answer differs from the first")


@check
def answers_are_the_callers_own(case: Case) -> None:
    """Changing the arrays of an answer does not change the next one."""
    first = case.fitted.predict(case.asked)
    kept = first.response.copy()
    first.response[:] = 1e6
    again = case.fitted.predict(case.asked)
    require(np.array_equal(again.response, kept, equal_nan=True), "the answer shares memory with the model")


@check
def text_is_read_as_a_condition(case: Case) -> None:
    """A condition may be given as text, its targets in any order and with spaces."""
    double = next(query.condition for query in case.asked if is_double(query.condition))
    first, second = double.split("+")
    found = case.fitted.predict([f"{second} + {first}"])
    _require_equal(case.fitted.predict([Query(double, case.fitted.contexts[0])]), found, "asked as text")


@check
def unknown_target_is_answered(case: Case) -> None:
    """A target that nobody knows is predicted, or refused with a code; it does not crash."""
    _require_answer(case.fitted.predict([Query("NEVER_HEARD_OF"), Query("NEITHER+NOR")]))


@check
def unmeasured_target_is_answered(case: Case) -> None:
    """A target that is not among the measured genes is predicted, or refused with a code."""
    _require_answer(case.fitted.predict([Query(f"U{number}") for number in range(6)]))


@check
def combinations_are_answered(case: Case) -> None:
    """Doubles with 0, 1 and 2 seen targets, and a triple, are predicted or refused with a code."""
    seen = [query.condition for query in case.fitted.trained_on if is_single(query.condition)]
    unseen = [query.condition for query in case.world.test.queries if is_single(query.condition)]
    asked = [(seen[0], seen[5]), (seen[0], unseen[0]), (unseen[0], unseen[1]), (seen[0], seen[1], unseen[0])]
    _require_answer(case.fitted.predict(["+".join(sorted(targets)) for targets in asked]))


@check
def unknown_context_is_refused(case: Case) -> None:
    """A context that was not in training is refused with UnknownContext."""
    found = case.fitted.predict([Query(case.asked[0].condition, "no such context")])
    require(found.reason[0].startswith(UnknownContext.code), f"reason {found.reason[0]!r}")


@check
def contexts_keep_their_own_control(case: Case) -> None:
    """In a screen of two contexts both are answered, each against its own control."""
    world = case.two_contexts
    found = case.fitted_in_two.predict(world.test.queries)
    _require_answer(found)
    require(np.array_equal(found.control, world.test.control_by_query), "a query has the control of another context")


@check
def held_out_context_is_answered(case: Case) -> None:
    """A context with control but without training queries is predicted, or refused with a code."""
    given = case.given(case.two_contexts)
    table = given.responses
    training = replace(given, responses=table.take(table.context_code == 0))
    found = case.fit(training).predict([Query(query.condition, "RPE1") for query in table.queries[:5]])
    _require_answer(found)
    require(Support.SEEN not in found.support, "a query of a held-out context is called seen")


@check
def sd_is_not_negative(case: Case) -> None:
    """Standard deviations, where there are any, have the shape of the response and are not negative."""
    sd = case.prediction.sd
    if sd is None:
        raise NotApplicable("no sd")
    require(sd.shape == case.prediction.response.shape, f"sd has shape {sd.shape}")
    require(bool((sd[np.isfinite(sd)] >= 0).all()), "some sd is negative")
    refused = ~case.prediction.predicted
    require(bool(np.isnan(sd[refused]).all()), "a refused query has an sd")


@check
def prediction_carries_label_and_scale(case: Case) -> None:
    """The prediction is labelled with the model and has the scale of training."""
    require(case.prediction.model == case.model.label, f"labelled {case.prediction.model!r}")
    require(case.prediction.scale is case.world.training.responses.scale, f"scale {case.prediction.scale}")


@check
def smaller_numbers_agree(case: Case) -> None:
    """Predictions in float32 agree with those in float64."""
    found = case.fitted.predict(case.asked, dtype=np.float32)
    require(found.response.dtype == np.float32, f"asked for float32, got {found.response.dtype}")
    agree = np.allclose(found.response, case.prediction.response, rtol=1e-4, atol=1e-4, equal_nan=True)
    require(agree, "float32 answers differ by more than rounding")


@check
def not_worse_than_no_change(case: Case) -> None:
    """On held-out queries of a world with known structure the mean L2 is at most that of predicting no change."""
    found = case.fitted.predict(case.world.test.queries)
    _require_no_worse(found, case.world.test.response)


@check
def not_worse_than_no_change_on_the_simulated_world(case: Case) -> None:
    """On held-out targets of a simulated screen the mean L2 is at most that of predicting no change."""
    training, test = _simulated_sides(with_cells=case.model.card.needs_cells)
    fitted, refused = case.fit_or_code(training)
    if fitted is None:
        raise NotApplicable(f"refuses exact responses: {refused}")
    _require_no_worse(fitted.predict(test.queries), test.response)


@cache
def _simulated_sides(*, with_cells: bool) -> tuple[TrainingData, ResponseTable]:
    """Three quarters of the exact responses of a simulated screen, with their cells if wanted, and the fourth."""
    from perturbcast.data.simulate import simulate

    world = simulate(n_cells=1500, n_genes=80, n_targets=40, n_doubles=10, seed=0)
    truth = world.responses
    held_out = np.arange(truth.n_queries) % 4 == 0
    screen = None
    if with_cells:
        tested = [world.screen.cells_of(truth.queries[row]) for row in np.flatnonzero(held_out)]
        screen = world.screen.take(np.setdiff1d(np.arange(world.screen.n_cells), np.concatenate(tested)))
    return TrainingData(truth.take(~held_out), screen=screen), truth.take(held_out)


def _require_no_worse(found: Prediction, truth: np.ndarray) -> None:
    rows = found.predicted
    if not rows.any():
        raise NotApplicable("no held-out query is predicted")
    error = np.linalg.norm(found.response[rows] - truth[rows], axis=1).mean()
    nothing = np.linalg.norm(truth[rows], axis=1).mean()
    require(bool(error <= SLACK * nothing), f"mean L2 {error:.3f}, no change has {nothing:.3f}")


def _require_answer(found: Prediction) -> None:
    for query, reason, values in zip(found.queries, found.reason, found.response, strict=True):
        if reason:
            require(bool(CODED.match(reason)), f"{query}: the reason {reason!r} has no code")
        else:
            require(bool(np.isfinite(values).all()), f"{query}: predicted, yet not finite")


def _require_equal(expected: Prediction, found: Prediction, how: str) -> None:
    require(expected.queries == found.queries, f"other queries when {how}")
    require(
        expected.reason == found.reason and expected.support == found.support, f"other reason or support when {how}"
    )
    close = np.allclose(expected.response, found.response, rtol=TOGETHER, atol=TOGETHER, equal_nan=True)
    require(close, f"other numbers when {how}")
