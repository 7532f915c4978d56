"""Errors of a model on conditions that it was fitted without: what calibrates intervals of models that have none."""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query
from perturbcast.errors import NotEnoughTraining
from perturbcast.models.answer_shares import MEAN, MEAN_MODEL, SHARE, LeftOut
from perturbcast.models.base import FittedModel, Model, TrainingData
from perturbcast.models.calibrated import calibrated_sd, group_errors, groups_left_out, restored_errors
from perturbcast.models.capabilities import fit_on
from perturbcast.models.conformal import ErrorModel
from perturbcast.models.holdouts import Holdout, holdouts, question_of

if TYPE_CHECKING:
    from perturbcast.training.plan import RunOptions


def left_out_errors(
    model: Model,
    training: TrainingData,
    *,
    n_folds: int,
    seed: int,
    progress: Progress | None = None,
    options: "RunOptions | None" = None,
    shrink: bool = False,
) -> dict[str, np.ndarray]:
    """Arrays of calibrated errors: the model is fitted anew without each fold of conditions, and asked for them.

    Left out are targets with all that they occur in, and combinations of targets that stay. Empty for no folds, and
    for questions of which fewer than three conditions were answered. A fold without which too little is left to train
    on is passed over. With `shrink` there are also the arrays of `AnswerShares`, and the errors are those of answers
    so moved.
    """
    given = replace(training, responses=training.responses.by_query())
    found: dict[str, list[LeftOut]] = {}
    for number, fold in enumerate(holdouts(given.responses.queries, n_folds=n_folds, seed=seed) if n_folds else ()):
        more = _answers(model, given, fold, seed, progress, _options(options, number))
        if more is not None:
            found.setdefault(fold.kind, []).append(more)
    state: dict[str, np.ndarray] = {}
    for kind, parts in found.items():
        left = LeftOut.joined(parts)
        shares = left.shares() if shrink else {}
        predicted = left.moved(shares)
        state |= {SHARE + group: share for group, share in shares.items()}
        state |= group_errors(left.groups, kind, left.observed - predicted, predicted)
    if any(name.startswith(SHARE) for name in state):
        state |= {MEAN + name: array for name, array in MEAN_MODEL.fit(given).state().items()}
    return state


def _answers(
    model: Model,
    given: TrainingData,
    fold: Holdout,
    seed: int,
    progress: Progress | None,
    options: "RunOptions | None",
) -> LeftOut | None:
    """The left-out queries that were answered; None where there are none."""
    table = given.responses
    try:
        part = replace(given, responses=table.take(fold.train))
        fitted = fit_on(model, part, seed=seed, progress=progress, options=options)
    except NotEnoughTraining:
        return None
    asked = [table.queries[row] for row in fold.valid]
    answers = fitted.predict(asked)
    places = np.flatnonzero(answers.predicted)
    if not len(places):
        return None
    mean = MEAN_MODEL.fit(part).predict([asked[place] for place in places]).response
    groups = groups_left_out(table.queries, [fold])
    observed = table.response[fold.valid[places]]
    return LeftOut(tuple(groups[place] for place in places), observed, answers.response[places], mean)


def _options(options: "RunOptions | None", number: int) -> "RunOptions | None":
    if options is None or options.folder is None:
        return options
    return replace(options, folder=options.folder / f"without-{number}")


class KnowsLeftOutErrors(FittedModel):
    """A fitted model that keeps the arrays of `left_out_errors` among those it learned."""

    @cached_property
    def _errors(self) -> dict[str, ErrorModel]:
        return restored_errors(self._state)

    def left_out_sd(
        self, query: Query, response: Float[np.ndarray, " gene"], *, own: np.ndarray | None = None
    ) -> np.ndarray | None:
        """(gene,) sd of a new observed response around a predicted one; `own` where nothing could be left out."""
        if not self._errors:
            return own
        questions = [question_of(query, self.seen_singly)]
        found = calibrated_sd(self._errors, [query], questions, response[None], self.seen_singly)[0]
        return found if np.isfinite(found).all() else own


def for_answers_alone(model: Model) -> Model:
    """The model without left-out errors of its own, for models that ask it for responses and calibrate themselves.

    Its answers are the same: where left-out conditions move them (`shrink`), the model stays as it is.
    """
    spares = issubclass(model.fitted_class, KnowsLeftOutErrors) and not getattr(model, "shrink", False)
    return replace(model, **{"folds": 0}) if spares else model
