"""Nearest neighbours: the mean response of the most similar training targets, shrunk to the mean (spec D-19)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Annotated, ClassVar

import numpy as np

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, is_single, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.models.base import Answers, FittedModel, Model, ModelCard, TrainingData, decode_text, encode_text
from perturbcast.models.fields import Range
from perturbcast.models.gene_views import GeneView
from perturbcast.models.kernel_state import restored_views, view_state
from perturbcast.models.knowledge_views import response_view, views_of
from perturbcast.models.left_out import KnowsLeftOutErrors, left_out_errors
from perturbcast.models.mean import mean_by_context

NEIGHBOURS = (1, 5, 20)  # candidates for k, D-19
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # candidates for ω
FEWEST_SINGLES = 4  # below this the mean is predicted
ALL_VIEWS = "all views"


class FittedNearest(KnowsLeftOutErrors):
    """Mean + ω * (mean deviation of the k most similar targets), summed over the targets of a query."""

    @cached_property
    def _views(self) -> list[GeneView]:
        return restored_views(self._state)

    @cached_property
    def _targets(self) -> list[str]:
        return decode_text(self._state["targets"])

    @cached_property
    def _row(self) -> dict[str, int]:
        return {target: row for row, target in enumerate(self._targets)}

    @cached_property
    def _training_rows(self) -> list[object]:
        return [view.rows(self._targets) for view in self._views]

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        answers = self._respond_many([query], dtype=np.float64)
        return answers.response[0], None if answers.sd is None else answers.sd[0], answers.support[0]

    def _respond_many(self, queries: Sequence[Query], *, dtype: type) -> Answers:
        targets = sorted({target for query in queries for target in targets_of(query.condition)})
        deviation = self._deviations(targets)
        response: np.ndarray = np.empty((len(queries), len(self.genes)), dtype=dtype)
        sd = np.full_like(response, np.nan)
        support = []
        for row, query in enumerate(queries):
            mean = self._state["mean"][self.contexts.index(query.context)]
            found = [deviation[target] for target in targets_of(query.condition)]
            response[row] = np.sum([mean + change for change, _ in found], axis=0)
            n_guessed = sum(rests_on is not Support.SEEN for _, rests_on in found)
            sd[row] = self._state["sd"] * np.sqrt(n_guessed) if n_guessed else np.nan
            support.append(self._support(query, [rests_on for _, rests_on in found]))
            if support[-1] is not Support.SEEN:
                sd[row] = self.left_out_sd(query, response[row], own=sd[row])
        return Answers(response, sd, tuple(support), ("",) * len(queries))

    def _deviations(self, targets: Sequence[str]) -> dict[str, tuple[np.ndarray, Support]]:
        """What sets targets apart from the mean: their own response where seen, else that of their neighbours."""
        nothing = np.zeros(len(self.genes)), Support.MEAN
        found = {t: (self._state["deviation"][self._row[t]], Support.SEEN) for t in targets if t in self._row}
        unseen = [target for target in targets if target not in self._row]
        if not self._views or not unseen:
            return found | dict.fromkeys(unseen, nothing)
        pairs = zip(self._views, self._training_rows, strict=True)
        likeness = np.mean([view.kernel(view.rows(unseen), rows) for view, rows in pairs], axis=0)
        for target, row in zip(unseen, likeness, strict=True):
            chosen = nearest_rows(row, k=int(self._state["k"][0]))
            near = self._state["share"][0] * self._state["deviation"][chosen].mean(axis=0) if len(chosen) else None
            found[target] = nothing if near is None else (near, Support.NEIGHBOURS)
        return found

    def _support(self, query: Query, found: list[Support]) -> Support:
        if query in self.seen:
            return Support.SEEN
        if all(support is Support.SEEN for support in found):
            return Support.SINGLES if len(found) > 1 else Support.CONTEXT
        if any(support is Support.SEEN for support in found):
            return Support.PARTIAL
        return Support.NEIGHBOURS if Support.NEIGHBOURS in found else Support.MEAN


@dataclass(frozen=True)
class Nearest(Model):
    """(1 - ω) mean + ω * mean response of the k most similar targets; all that tie for the last place count (D-19).

    The view of genes in which they are compared, k and ω are chosen by leave-one-out over training singles. A target
    that was seen is its own nearest neighbour; combinations add up, as in the additive model.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="nearest",
        title="Nearest neighbours",
        summary="Predicts a perturbation from the few most similar genes that were perturbed in training.",
        source="spec D-19",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        baseline=True,
        uses_knowledge=True,
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedNearest
    k: Annotated[int, Range(1)] | None = None  # neighbours; none: leave-one-out over 1, 5, 20
    share: Annotated[float, Range(0.0, 1.0)] | None = None  # ω; none: leave-one-out
    folds: Annotated[int, Range(0)] = 3  # of conditions, without each of which it is fitted to calibrate sd; 0: own sd

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedNearest:
        """The fitted model; with fewer than four training singles no neighbours are looked for."""
        table = training.responses
        targets, deviation, mean = target_deviations(table)
        views = [view for view in training.knowledge.derived(views_of) if view.form != "rbf"] + response_view(table)
        views = [view for view in views if view.knows(targets).sum() > 1] if len(targets) >= FEWEST_SINGLES else []
        likeness = likeness_by_view(views, targets, progress or Progress())
        ks = NEIGHBOURS if self.k is None else (self.k,)
        shares = SHARES if self.share is None else (self.share,)
        errors = {
            (name, k, share): error
            for name, k in product(likeness, ks)
            for share, error in zip(shares, left_out(likeness[name], deviation, k=k, shares=shares), strict=True)
        }
        name, k, share = min(errors, key=lambda choice: errors[choice]) if errors else ("", 1, 0.0)
        kept = [view for view in views if name in (view.name, ALL_VIEWS)]
        state = {
            "mean": mean,
            "deviation": deviation,
            "targets": encode_text(targets),
        }
        state |= {"k": np.array([k]), "share": np.array([share])}
        state["sd"] = left_out_sd(likeness.get(name), deviation, k=k, share=share)
        state |= view_state(kept)
        state |= left_out_errors(replace(self, folds=0), training, n_folds=self.folds, seed=seed, progress=progress)
        return FittedNearest(self, table, state, split_fingerprint=training.split_fingerprint)


def target_deviations(table: ResponseTable) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(targets, their response less the context's mean, averaged over contexts; mean single response per context)."""
    singles = np.array([row for row, query in enumerate(table.queries) if is_single(query.condition)], dtype=np.int64)
    base = table.take(singles) if len(singles) else table
    mean = mean_by_context(base)
    if not len(singles):
        return [], np.zeros((0, table.n_genes)), mean
    targets = sorted(set(base.conditions))
    place = np.array([targets.index(condition) for condition in base.conditions])
    total = np.zeros((len(targets), table.n_genes))
    np.add.at(total, place, base.response - mean[base.context_code])
    return targets, total / np.bincount(place)[:, None], mean


def likeness_by_view(views: list[GeneView], targets: Sequence[str], progress: Progress) -> dict[str, np.ndarray]:
    """(target, target) likeness in each view, and the mean over views."""
    found = {}
    for view in progress.track(views, label="views of genes"):
        rows = view.rows(targets)
        found[view.name] = view.kernel(rows, rows)
    return found | ({ALL_VIEWS: np.mean(list(found.values()), axis=0)} if len(found) > 1 else {})


def nearest_rows(likeness: np.ndarray, *, k: int) -> np.ndarray:
    """Positions of the k largest positive likenesses, and of all that tie with the last of them."""
    positive = likeness[likeness > 0]
    if not len(positive):
        return np.zeros(0, dtype=np.int64)
    last = np.sort(positive)[::-1][min(k, len(positive)) - 1]
    return np.flatnonzero(likeness >= last - 1e-12)


def left_out_neighbours(likeness: np.ndarray, deviation: np.ndarray, *, k: int) -> np.ndarray:
    """(target, gene) mean deviation of each target's neighbours, itself left out of them and of the mean."""
    n_targets = len(deviation)
    found = np.zeros_like(deviation)
    for row in range(n_targets):
        others = likeness[row].copy()
        others[row] = 0.0
        chosen = nearest_rows(others, k=k)
        if len(chosen):
            found[row] = deviation[chosen].mean(axis=0)
    return found


def left_out(likeness: np.ndarray, deviation: np.ndarray, *, k: int, shares: Sequence[float]) -> list[float]:
    """Mean left-out L2 for each ω. The mean without target i is lower by deviation_i / (n - 1)."""
    shift = deviation / (len(deviation) - 1)
    near = left_out_neighbours(likeness, deviation, k=k)
    known = near.any(axis=1, keepdims=True)
    return [
        float(np.linalg.norm(deviation + shift - share * (near + shift * known), axis=1).mean()) for share in shares
    ]


def left_out_sd(likeness: np.ndarray | None, deviation: np.ndarray, *, k: int, share: float) -> np.ndarray:
    """(gene,) root mean square left-out residual; the spread around the mean where there are no neighbours."""
    if not len(deviation):
        return np.zeros(deviation.shape[1])
    near = 0.0 if likeness is None else share * left_out_neighbours(likeness, deviation, k=k)
    return np.sqrt(((deviation - near) ** 2).mean(axis=0))
