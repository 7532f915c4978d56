"""What is wrong with a screen or a table of responses, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perturbcast.data.conditions import CONTROL, targets_of
from perturbcast.data.counts_behind import counts_behind
from perturbcast.data.on_target import OnTarget, is_weak
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen

FEW_CELLS = 20  # below this the mean of a condition is mostly sampling noise
FEW_CONTROLS = 100
FEW_GENES = 1000  # below this the sum over measured genes is no library size

RARE = 0.01  # share of cells that show a gene, below which its responses are noise


@dataclass(frozen=True)
class Problem:
    """One problem: a stable name, how many it concerns, the fact, and what to do."""

    name: str
    n: int
    what: str
    what_to_do: str
    examples: tuple[str, ...] = ()


def find_problems(data: Screen | ResponseTable, effects: Sequence[OnTarget], *, kind: str) -> list[Problem]:
    """Every problem found, in the order of the checks below."""
    found = [
        _unmeasured(data),
        _weak(effects, kind),
        _contrary(data, effects, kind),
        _underscores(data),
        _unstated(kind),
    ]
    if isinstance(data, Screen):
        found += [
            _few_cells(data),
            _few_controls(data),
            _no_common_batch(data),
            _small_library(data),
            _other_scale(data),
            *_rarely_seen(data),
        ]
    else:
        found += [_no_cells(data), _censored(data), _silent_genes(data)]
    return [problem for problem in found if problem is not None]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _unmeasured(data: Screen | ResponseTable) -> Problem | None:
    conditions = data.conditions
    targets = sorted({target for condition in conditions for target in targets_of(condition)})
    missing = [target for target in targets if target not in set(data.genes)]
    if not missing:
        return None
    what = f"{len(missing)} of {len(targets)} targets are not measured: {_shown(missing)}."
    advice = "Their on-target effect cannot be checked; if names differ from those of the genes, pass --gene-names."
    return Problem("targets not measured", len(missing), what, advice, tuple(missing))


def _weak(effects: Sequence[OnTarget], kind: str) -> Problem | None:
    weak = [str(effect.query) for effect in effects if is_weak(effect, kind)]
    if not weak:
        return None
    direction = {"CRISPRi": "down", "CRISPRa": "up"}.get(kind, "either way")
    what = (
        f"In {len(weak)} of {len(effects)} pairs of condition and measured target it did not move {direction} (z < 2): "
    )
    advice = (
        "Escaped cells, weak guides or a target hardly expressed; a cut gene may keep its RNA. Judge these with care."
    )
    return Problem("weak on-target effect", len(weak), f"{what}{_shown(weak)}.", advice, tuple(weak))


def _contrary(data: Screen | ResponseTable, effects: Sequence[OnTarget], kind: str) -> Problem | None:
    """For responses, which carry no error, only the sign can be wrong."""
    if isinstance(data, Screen) or kind not in ("CRISPRi", "CRISPRa"):
        return None
    sign = 1 if kind == "CRISPRa" else -1
    contrary = [str(effect.query) for effect in effects if sign * effect.difference < 0]
    if not contrary:
        return None
    what = f"In {len(contrary)} of {len(effects)} pairs the target moved against {kind}: {_shown(contrary)}."
    return Problem("contrary on-target effect", len(contrary), what, "Check names and guides.", tuple(contrary))


def _underscores(data: Screen | ResponseTable) -> Problem | None:
    decision = next((decision for decision in data.decisions if decision.what == "underscore"), None)
    if decision is None:
        return None
    what = f"{decision.evidence}, such as {decision.value}."
    return Problem(
        "names with underscore", 1, what, "If it separates two targets, pass --separator _.", (decision.value,)
    )


def _unstated(kind: str) -> Problem | None:
    if kind:
        return None
    what = "The file does not say whether genes were activated, silenced or knocked out."
    return Problem("kind of perturbation", 1, what, "Set uns['perturbation'] to CRISPRa, CRISPRi or knock-out.")


def _few_cells(screen: Screen) -> Problem | None:
    n = np.bincount(screen.query_code)
    few = [str(query) for query in screen.queries() if n[_code(screen, query.condition, query.context)] < FEW_CELLS]
    if not few:
        return None
    what = f"{len(few)} of {len(screen.queries())} conditions have fewer than {FEW_CELLS} cells: {_shown(few)}."
    return Problem("few cells", len(few), what, f"Leave them out with --min-cells {FEW_CELLS}.", tuple(few))


def _code(screen: Screen, condition: str, context: str) -> int:
    return screen.contexts.index(context) * len(screen.conditions) + screen.conditions.index(condition)


def _few_controls(screen: Screen) -> Problem | None:
    n = np.bincount(screen.query_code, minlength=len(screen.contexts) * len(screen.conditions))
    few = [
        f"{context or screen.name} ({n[_code(screen, CONTROL, context)]})"
        for context in screen.contexts
        if n[_code(screen, CONTROL, context)] < FEW_CONTROLS
    ]
    if not few:
        return None
    what = f"Fewer than {FEW_CONTROLS} control cells in {_shown(few)}: every response shares the noise of their mean."
    return Problem("few control cells", len(few), what, "Add control cells, or read intervals with care.", tuple(few))


def _no_common_batch(screen: Screen) -> Problem | None:
    """Batches without control cells: what the batch did cannot be told from what the perturbation did."""
    lacking: list[str] = []
    for role in ("batch", "replicate"):
        if role not in screen.covariates:
            continue
        values = screen.covariates[role].astype(str)
        with_control = set(values[screen.is_control])
        lacking += [f"{role} {value}" for value in sorted(set(values) - with_control)]
    if not lacking:
        return None
    what = f"{len(lacking)} batches or replicates have no control cell: {_shown(lacking)}."
    return Problem(
        "batch without control", len(lacking), what, "Leave their cells out, or add control.", tuple(lacking)
    )


def _small_library(screen: Screen) -> Problem | None:
    sums = any(decision.what == "library size" and decision.value == "row sums" for decision in screen.decisions)
    if not sums or screen.n_genes >= FEW_GENES:
        return None
    what = (
        f"The library size of a cell is the sum of its {screen.n_genes} measured genes, so one strong gene moves all."
    )
    return Problem("library of few genes", screen.n_genes, what, "Put the molecules of whole cells in obs['ncounts'].")


def _other_scale(screen: Screen) -> Problem | None:
    if screen.scale not in (Scale.LOG_OTHER, Scale.ZSCORE, Scale.RESPONSE):
        return None
    what = f"The scale is {screen.scale.value}: fold changes and scores cannot be compared with those of other screens."
    return Problem("scale", 1, what, "Give counts if there are any (--layer).")


def _rarely_seen(screen: Screen) -> list[Problem | None]:
    """Genes seen in hardly any cell and cells without a molecule, counted in one pass over the screen."""
    n_cells = np.zeros(screen.n_genes, dtype=np.int64)
    n_empty = 0
    for cells in screen.blocks():
        stored = screen.stored(cells)
        n_cells += np.bincount(stored.indices, minlength=screen.n_genes)
        n_empty += int((np.diff(stored.indptr) == 0).sum())
    rare = [str(gene) for gene in screen.genes[n_cells < RARE * screen.n_cells]]
    what = f"{len(rare):,} of {screen.n_genes:,} genes are seen in fewer than {RARE:.0%} of cells: {_shown(rare)}."
    advice = "Their responses are mostly noise; score on the genes that are expressed (gene set top1000)."
    genes = Problem("genes rarely seen", len(rare), what, advice, tuple(rare))
    what = f"{n_empty:,} cells have no molecule of any measured gene."
    empty = Problem("empty cells", n_empty, what, "Leave them out of the file.")
    return [genes if rare else None, empty if n_empty else None]


def _no_cells(table: ResponseTable) -> Problem | None:
    what = "The table says nothing of cells: no noise, no control expression."
    counts = counts_behind(table.response)
    if counts is not None:
        depth = 1 / counts.one
        what += (
            " But its counts can be read back: they give the noise of counting (ceiling:counting), and show that the "
            f"deepest condition has {depth.max() / depth.min():.3g} times the molecules of the shallowest "
            f"({table.queries[int(depth.argmin())]})."
        )
    advice = "Metrics and models that need cells give that as their reason; read the cells where they are at hand."
    return Problem("responses only", table.n_queries, what, advice)


def _censored(table: ResponseTable) -> Problem | None:
    zero = float((table.response == 0).mean())
    if zero < 0.3:
        return None
    what = f"{zero:.0%} of responses are exactly 0: small ones were cut to it."
    return Problem(
        "censored responses", int((table.response == 0).sum()), what, "Read absent effects as small, not as none."
    )


def _silent_genes(table: ResponseTable) -> Problem | None:
    silent = [
        str(gene) for gene, moved in zip(table.genes, (table.response != 0).any(axis=0), strict=True) if not moved
    ]
    if not silent:
        return None
    what = f"{len(silent)} of {table.n_genes} genes are 0 in every condition: {_shown(silent)}."
    return Problem("genes that never move", len(silent), what, "They add nothing; leave them out.", tuple(silent))
