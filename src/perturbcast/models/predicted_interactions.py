"""Genetic-interaction scores of doubles that a model predicts (spec C.8)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perturbcast.data.conditions import Query, is_double, targets_of
from perturbcast.errors import CannotPredict
from perturbcast.models.base import FittedModel

if TYPE_CHECKING:
    from perturbcast.metrics.interactions import InteractionFit


def predicted_interactions(
    fitted: FittedModel, doubles: Sequence[Query | str], *, most_genes: int | None = None, seed: int = 1000
) -> "list[InteractionFit]":
    """The scores of each double, from the predicted responses of both singles and of the double itself.

    Over the `most_genes` (500) genes of highest mean expression in control, as in C.8, or of largest predicted
    responses where control is unknown. Raises CannotPredict for a condition that is no double, or that the model
    refuses.
    """
    from perturbcast.metrics.interactions import MOST_GENES, interaction_fit

    most = MOST_GENES if most_genes is None else most_genes
    found = []
    for asked in doubles:
        query = asked if isinstance(asked, Query) else fitted.query_of(asked)
        if not is_double(query.condition):
            raise CannotPredict(f"{query} is no double.", "Name two targets, such as A+B.")
        first, second = targets_of(query.condition)
        prediction = fitted.predict([Query(first, query.context), Query(second, query.context), query])
        refused = next((reason for reason in prediction.reason if reason), "")
        if refused:
            raise CannotPredict(f"{query} has no scores: {refused}")
        size = np.abs(prediction.response).max(axis=0)
        rank = prediction.control[2] if np.isfinite(prediction.control[2]).all() else size
        genes = np.sort(np.argsort(-rank, kind="stable")[:most])
        a, b, both = prediction.response[:, genes]
        found.append(interaction_fit(a, b, both, seed=seed))
    return found
