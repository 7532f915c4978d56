"""Steady states of a simulated world: Hill kinetics, perturbations, contexts, the shared stress response."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.special import expit

from perturbcast.data.simulation.interactions import interaction_drive
from perturbcast.data.simulation.network import HILL, MITOCHONDRIAL, NONCODING, REGULATOR, TrueNetwork, tamed
from perturbcast.data.simulation.settings import WorldSettings
from perturbcast.errors import DefectError

# What is done in a cell: (node, guide) of every target acted on; guide NOMINAL has efficiency one. () is control.
State = tuple[tuple[int, int], ...]
NOMINAL = -1

CEILING = 2.0  # bound of the regulated ln change of production: a promoter saturates
MEAN_BURDEN = 0.4  # of a target that regulates something; a fifth for others
TOLERANCE = 1e-9  # of the steady state, ln units
BLOCK = 512  # states solved at once
# ln change of own production at guide efficiency one (least, most), and ln change of the activity of each molecule.
PUSH = {"interference": (-3.0, -1.0), "knock-out": (-1.5, -0.5), "activation": (1.0, 3.0)}
ACTIVITY = {"interference": 0.0, "knock-out": -4.0, "activation": 0.0}
MEAN_LEVEL = {REGULATOR: -0.5, NONCODING: -1.4, MITOCHONDRIAL: 3.0}  # ln abundance; effector genes 0
LEVEL_SPREAD = 1.3  # sd of ln abundance


@dataclass(frozen=True, eq=False)
class Kinetics:
    """All parameters of the steady state. Per node i with ln abundance x_i and ln change y_i = x_i - x0_i:

    h_j = 1 / (1 + exp(-logit_j - HILL * (y_j + activity_j)))            occupancy of the sites of regulator j
    u_i = sum_j w_ji (h_j - h0_j) + stress_i * (1 - exp(-burden)) + interaction_i
    y_i = push_i + CEILING * tanh(u_i / CEILING)                         production over decay, in logarithm
    """

    settings: WorldSettings
    network: TrueNetwork
    level: np.ndarray  # (context, node) ln abundance of control
    logit: np.ndarray  # (context, node) logit of the occupancy in control
    weights: tuple[sparse.csr_matrix, ...]  # per context (node, node), row = destination
    push: np.ndarray  # (node,) ln change of own production at efficiency one
    activity: float  # ln change of the activity of a perturbed gene at efficiency one
    burden: np.ndarray  # (node,) what acting on a node adds to the stress
    stress: np.ndarray  # (node,) ln change of production at full stress
    efficiency: np.ndarray  # (node, guide)
    escape: np.ndarray  # (node, guide) probability that the guide does nothing in a cell

    def steady_states(self, states: Sequence[State], *, context: int) -> Float[np.ndarray, "state node"]:
        """ln fold change of every node at the steady state of each state, against control of the same context."""
        change = np.empty((len(states), len(self.push)))
        for start in range(0, len(states), BLOCK):
            block = states[start : start + BLOCK]
            change[start : start + len(block)] = self._block(block, context)
        return change

    def _block(self, states: Sequence[State], context: int) -> Float[np.ndarray, "state node"]:
        several = [place for place, state in enumerate(states) if len(state) > 1]
        arms = sorted({arm for place in several for arm in states[place]})
        drive = np.zeros((len(states), len(self.push)))
        if arms and self.settings.interaction > 0:
            alone = self._solve([(arm,) for arm in arms], drive=np.zeros((len(arms), len(self.push))), context=context)
            change_of = dict(zip(arms, alone, strict=True))
            for place in several:
                drive[place] = interaction_drive(states[place], change_of, self.network, settings=self.settings)
        return self._solve(states, drive=drive, context=context)

    def _solve(
        self, states: Sequence[State], *, drive: Float[np.ndarray, "state node"], context: int
    ) -> Float[np.ndarray, "state node"]:
        dose = self._dose(states)
        push, active = dose * self.push, dose * self.activity
        load = 1 - np.exp(-(dose @ self.burden))
        drive = drive + load[:, None] * self.stress  # (state, 1) * (node,) -> (state, node)
        # Only nodes that regulate something feed back, so the iteration runs on them; the others follow in one step.
        core = np.flatnonzero(self.network.out_degree)
        incoming = sparse.csr_matrix(self.weights[context][:, core])
        inner = sparse.csr_matrix(incoming[core])
        logit = self.logit[context, core] + HILL * active[:, core]
        rest = expit(self.logit[context, core])
        change = push[:, core]
        for _ in range(1000):
            new = _produced(push[:, core], inner, expit(logit + HILL * change) - rest, drive[:, core])
            moved = np.abs(new - change).max(initial=0.0)
            change = new
            if moved < TOLERANCE:
                return _produced(push, incoming, expit(logit + HILL * change) - rest, drive)
        raise DefectError(f"The steady state of the simulated world was not reached: it still moves by {moved:.2g}.")

    def _dose(self, states: Sequence[State]) -> Float[np.ndarray, "state node"]:
        """Efficiency with which each node is acted on; zero where it is not."""
        dose = np.zeros((len(states), len(self.push)))
        for place, state in enumerate(states):
            for node, guide in state:
                dose[place, node] = 1.0 if guide == NOMINAL else self.efficiency[node, guide]
        return dose


def _produced(
    push: Float[np.ndarray, "state node"],
    weights: sparse.csr_matrix,
    occupied: Float[np.ndarray, "state regulator"],
    drive: Float[np.ndarray, "state node"],
) -> Float[np.ndarray, "state node"]:
    """ln change of abundance under these changes of occupancy."""
    regulated = (weights @ occupied.T).T + drive  # (node, regulator) @ (regulator, state) -> (state, node)
    return push + CEILING * np.tanh(regulated / CEILING)


def build_kinetics(network: TrueNetwork, settings: WorldSettings) -> Kinetics:
    """The kinetic parameters of a network under the settings."""
    n_nodes = len(network.genes)
    level, logit, weights = _contexts(network, settings)
    rng = settings.stream("perturbation")
    low, high = PUSH[settings.perturbation]
    regulates = network.out_degree > 0
    burden = rng.gamma(2.0, MEAN_BURDEN / 2, n_nodes) * np.where(regulates, 1.0, 0.2)
    rng = settings.stream("stress")
    stress = np.where(rng.random(n_nodes) < 0.25, rng.normal(0.0, 0.35, n_nodes), 0.0)
    rng = settings.stream("guides")
    shape = (n_nodes, settings.n_guides)
    return Kinetics(
        settings=settings,
        network=network,
        level=level,
        logit=logit,
        weights=weights,
        push=settings.stream("push").uniform(low, high, n_nodes),
        activity=ACTIVITY[settings.perturbation],
        burden=burden,
        stress=stress * settings.stress,
        efficiency=np.clip(rng.normal(1.0, settings.guide_spread, shape), 0.4, 1.4),
        escape=_escapes(rng, settings.escape, shape),
    )


def _escapes(rng: np.random.Generator, mean: float, shape: tuple[int, int]) -> Float[np.ndarray, "node guide"]:
    """Beta with that mean and weight 10: most guides escape rarely, a few often."""
    return rng.beta(10 * mean, 10 * (1 - mean), shape) if mean > 0 else np.zeros(shape)


def _contexts(
    network: TrueNetwork, settings: WorldSettings
) -> tuple[Float[np.ndarray, "context node"], Float[np.ndarray, "context node"], tuple[sparse.csr_matrix, ...]]:
    """Reference context first; in the others 40 % of baselines move and a fifth of the regulations is lost."""
    rng = settings.stream("baseline")
    n_nodes = len(network.genes)
    mean = np.array([MEAN_LEVEL.get(role, 0.0) for role in network.role])
    spread = np.where(network.role == MITOCHONDRIAL, 0.4, LEVEL_SPREAD)
    levels = [mean + spread * rng.standard_normal(n_nodes)]
    logits = [np.clip(rng.normal(0.0, 0.8, n_nodes), -2, 2)]
    matrices = [network.weights]
    for number in range(1, settings.n_contexts):
        rng = settings.stream("context", number)
        shift = np.where(rng.random(n_nodes) < 0.4, rng.normal(0.0, 0.8, n_nodes), 0.0)
        kept = np.where(rng.random(network.weights.nnz) < 0.2, 0.1, rng.lognormal(0.0, 0.3, network.weights.nnz))
        changed = network.weights.copy()
        changed.data = changed.data * kept
        levels.append(levels[0] + shift)
        logits.append(np.clip(logits[0] + HILL * shift, -4, 4))
        matrices.append(tamed(changed))
    return np.array(levels), np.array(logits), tuple(sparse.csr_matrix(matrix.T) for matrix in matrices)
