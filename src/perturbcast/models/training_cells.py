"""Which cells a model of cells is trained on, and which decide when training stops."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from perturbcast.data.conditions import CONTROL, Query
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.errors import NeedsCells, NotEnoughTraining
from perturbcast.models.base import TrainingData

FEWEST_TO_HOLD_OUT = 10  # cells of a screen


def training_cells(training: TrainingData, *, label: str) -> Screen:
    """The cells of the training queries and of control.

    NeedsCells without cells; NotEnoughTraining without cells of control or of any perturbation, and where a training
    query has none: nothing would be learned of it, and it would be answered as if it were seen.
    """
    screen = training.screen
    if screen is None:
        raise NeedsCells(f"{label} learns from cells, and only responses are known.")
    code_of = {
        Query(condition, context): row * len(screen.conditions) + column
        for row, context in enumerate(screen.contexts)
        for column, condition in enumerate(screen.conditions)
    }
    there = set(np.unique(screen.query_code).tolist())
    lacking = [query for query in training.responses.queries if code_of.get(query, -1) not in there]
    if lacking:
        named = ", ".join(repr(str(query)) for query in lacking[:3])
        raise NotEnoughTraining(f"{len(lacking)} training queries have no cells: {named}.", "Leave them out.")
    wanted = {*training.responses.queries, *(Query(CONTROL, context) for context in training.responses.contexts)}
    chosen = screen.take(np.isin(screen.query_code, [code_of[query] for query in wanted if query in code_of]))
    if not training.responses.n_queries or chosen.is_control.all() or not chosen.is_control.any():
        raise NotEnoughTraining(f"{label} needs cells of control and of a perturbation.")
    return replace(chosen, uns={})


def held_out_cells(
    n_cells: int, *, share: float, seed: int, query_code: Int[np.ndarray, " cell"] | None = None
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " valid"]]:
    """Cells to train on and cells to stop by, at random; the latter none where there are fewer than ten cells.

    With `query_code`, a query all of whose cells were drawn to stop by gets the first of them back, so that every query
    is trained on.
    """
    shuffled = np.random.default_rng(seed).permutation(n_cells)
    n_valid = round(share * n_cells) if n_cells >= FEWEST_TO_HOLD_OUT else 0
    train, valid = np.sort(shuffled[n_valid:]), np.sort(shuffled[:n_valid])
    if query_code is None:
        return train, valid
    codes, first = np.unique(query_code[valid], return_index=True)
    back = valid[first[~np.isin(codes, query_code[train])]]
    return np.union1d(train, back), np.setdiff1d(valid, back)


def share_held(screen: Screen) -> float:
    """Share of the molecules of whole cells that are of the screen's genes; 1 where only these are known."""
    if screen.scale is not Scale.COUNTS or screen.library is None:
        return 1.0
    from perturbcast.nn.cells import BLOCK

    held = sum(float(screen.stored(cells).sum()) for cells in screen.blocks(size=BLOCK))
    return held / max(float(screen.library.sum()), 1.0)
