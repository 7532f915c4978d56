"""What a simulated screen does: targets, pairs, and how many cells get which guide in which batch."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from perturbcast.data.conditions import Query, condition_of
from perturbcast.data.simulation.kinetics import Kinetics, State
from perturbcast.data.simulation.network import MITOCHONDRIAL, REGULATOR, TrueNetwork
from perturbcast.data.simulation.observation import ARTEFACT_DEPTH, ARTEFACT_SPREAD, PHASE_SHARE, PHASES
from perturbcast.data.simulation.settings import WorldSettings

REGULATORS = 0.8  # share of the measured targets that are regulators; the others mostly change nothing but themselves
CELLS_SPREAD = 0.35  # sd of ln cells per condition


@dataclass(frozen=True, eq=False)
class Design:
    """Targets (nodes) and pairs of a screen, and its conditions: control first, then singles, then doubles, sorted."""

    targets: tuple[int, ...]
    doubles: tuple[tuple[int, int], ...]
    contexts: tuple[str, ...]
    conditions: tuple[str, ...]
    arms: tuple[tuple[int, ...], ...]  # nodes acted on, one entry per condition

    @property
    def queries(self) -> tuple[Query, ...]:
        """Every condition but control in every context, contexts outermost, sorted: the order of `Screen.queries`."""
        return tuple(
            Query(condition, context) for context in self.contexts for condition in sorted(self.conditions[1:])
        )


@dataclass(frozen=True, eq=False)
class CellPlan:
    """What happens to each cell before anything is counted: one entry per cell in every array."""

    context: np.ndarray  # int64 into Design.contexts
    condition: np.ndarray  # int64 into Design.conditions
    guide: np.ndarray  # int64: which guide construct of the condition
    active: np.ndarray  # int64 bits: which arms of the condition work in this cell
    batch: np.ndarray  # int64
    phase: np.ndarray  # int64 into PHASES
    is_artefact: np.ndarray  # bool
    depth: np.ndarray  # float64 expected molecules

    @property
    def background(self) -> np.ndarray:
        """Batch and phase of each cell in one number, as `Observation.background` orders them."""
        return self.batch * len(PHASES) + self.phase


def build_design(network: TrueNetwork, settings: WorldSettings) -> Design:
    """Targets: all unmeasured nodes, regulators by out-degree, some others; pairs prefer targets with many edges."""
    rng = settings.stream("targets")
    hidden = np.arange(network.n_measured, len(network.genes))
    measured = np.arange(network.n_measured)
    wanted = settings.n_targets - len(hidden)
    pull = np.sqrt(network.out_degree + 1.0)
    regulators = measured[network.role[measured] == REGULATOR]
    others = measured[(network.role[measured] != REGULATOR) & (network.role[measured] != MITOCHONDRIAL)]
    n_regulators = min(len(regulators), max(wanted - len(others), round(REGULATORS * wanted)))
    chosen = rng.choice(regulators, n_regulators, replace=False, p=_shares(pull[regulators]))
    rest = rng.choice(others, wanted - n_regulators, replace=False)
    targets = sorted(np.concatenate([hidden, chosen, rest]).tolist(), key=lambda node: network.genes[node])
    doubles = _pairs(targets, pull, settings)
    contexts = ("",) if settings.n_contexts == 1 else tuple(f"line{n + 1}" for n in range(settings.n_contexts))
    arms = ((), *((node,) for node in targets), *doubles)
    conditions = tuple(condition_of([network.genes[node] for node in nodes]) for nodes in arms)
    return Design(tuple(targets), doubles, contexts, conditions, arms)


def _pairs(targets: list[int], pull: np.ndarray, settings: WorldSettings) -> tuple[tuple[int, int], ...]:
    pairs = list(combinations(targets, 2))  # targets are sorted by symbol, so are the arms of A+B
    weight = np.array([pull[first] * pull[second] for first, second in pairs])
    rng = settings.stream("doubles")
    places = rng.choice(len(pairs), settings.n_doubles, replace=False, p=_shares(weight))
    return tuple(pairs[place] for place in sorted(places.tolist()))


def _shares(weights: Float[np.ndarray, " option"]) -> Float[np.ndarray, " option"]:
    return weights / weights.sum()


def plan_cells(design: Design, kinetics: Kinetics) -> CellPlan:
    """Deals the cells to contexts, conditions, guides, batches and phases, in random order; every query gets one."""
    settings = kinetics.settings
    rng = settings.stream("plan")
    cells = _cells(design, settings)
    query = rng.permutation(np.repeat(np.arange(len(cells)), cells))
    context, condition = np.divmod(query, len(design.conditions))
    n_cells = len(query)
    guide = rng.integers(0, settings.n_guides, n_cells)
    active = np.zeros(n_cells, dtype=np.int64)
    for arm in range(2):
        node = np.array([nodes[arm] if len(nodes) > arm else -1 for nodes in design.arms])[condition]
        works = (node >= 0) & (rng.random(n_cells) >= kinetics.escape[node, guide])
        active |= works.astype(np.int64) << arm
    is_artefact = rng.random(n_cells) < settings.artefacts
    spread = np.where(is_artefact, ARTEFACT_SPREAD, settings.depth_spread)
    median = np.where(is_artefact, ARTEFACT_DEPTH, 1.0) * settings.depth
    return CellPlan(
        context=context,
        condition=condition,
        guide=guide,
        active=active,
        batch=rng.integers(0, settings.n_batches, n_cells),
        phase=rng.choice(len(PHASES), size=n_cells, p=PHASE_SHARE),
        is_artefact=is_artefact,
        depth=median * np.exp(spread * rng.standard_normal(n_cells)),
    )


def _cells(design: Design, settings: WorldSettings) -> Int[np.ndarray, " query"]:
    """Cells per context and condition: one each, the rest by share of control and ln-normal sizes of conditions."""
    rng = settings.stream("condition sizes")
    size = np.exp(CELLS_SPREAD * rng.standard_normal(len(design.conditions)))
    size[0] = 0.0
    share = (1 - settings.control_share) * _shares(size)
    share[0] = settings.control_share
    share = np.tile(share / settings.n_contexts, settings.n_contexts)
    exact = (settings.n_cells - len(share)) * share
    cells = np.floor(exact).astype(np.int64)
    left = settings.n_cells - len(share) - int(cells.sum())
    cells[np.argsort(cells - exact, kind="stable")[:left]] += 1
    return cells + 1


def state_table(design: Design, *, n_guides: int) -> tuple[list[State], Int[np.ndarray, "condition guide active"]]:
    """The distinct states that cells can be in, and which one each condition, guide and set of working arms makes."""
    row: dict[State, int] = {(): 0}
    table = np.zeros((len(design.conditions), n_guides, 4), dtype=np.int64)
    for condition, nodes in enumerate(design.arms):
        for guide in range(n_guides):
            for active in range(4):
                state = tuple((node, guide) for arm, node in enumerate(nodes) if active >> arm & 1)
                table[condition, guide, active] = row.setdefault(state, len(row))
    return list(row), table


def guide_names(design: Design, network: TrueNetwork, plan: CellPlan) -> np.ndarray:
    """(cell,) object: the guide of each cell, `A_g1`, `A_g1+B_g1` for doubles, `non-targeting_g1` for control."""
    n_guides = int(plan.guide.max(initial=0)) + 1
    label = np.empty((len(design.conditions), n_guides), dtype=object)
    for condition, nodes in enumerate(design.arms):
        names = [str(network.genes[node]) for node in nodes] or ["non-targeting"]
        for guide in range(n_guides):
            label[condition, guide] = "+".join(f"{name}_g{guide + 1}" for name in names)
    return label[plan.condition, plan.guide]
