"""The regulatory network of a simulated world: roles, modules, hubs, feedback, signed weights."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from perturbcast.data.simulation.settings import WorldSettings

REGULATOR, EFFECTOR, NONCODING, MITOCHONDRIAL = "regulator", "effector", "noncoding", "mitochondrial"
HILL = 2.0  # Hill coefficient of every regulator
STEEPEST = 0.8  # bound on the spectral radius of the linearised kinetics: one steady state, reached by iteration
MEDIAN_WEIGHT, WEIGHT_SPREAD = 0.35, 0.5  # of |weight|, lognormal
OWN_MODULE = 0.75  # share of a regulator's edges that stay in its module
CONSISTENT = 0.88  # share of edges whose sign is regulator sign times gene sign: makes a module respond as one
SMALLEST_DEGREE, DEGREE_TAIL = 1.0, 1.1  # Pareto out-degrees: many small regulators, few hubs
ACTIVATORS = 0.95  # share of regulators that activate
THROUGH_HUB, THROUGH_WEIGHT = 1.0, 2.5  # share of regulators that act on the hub of their module, |weight|
POTENCY_SPREAD = 0.7  # sd of ln strength of regulators: a few strong ones, many weak; hubs have strength one
HUB_FEEDBACK, SELF_FEEDBACK = 0.4, 0.4  # |weight| of the planted negative feedback
HUB_REACH, HUB_STRENGTH = 0.8, 3.0  # share of the other genes of its module that a hub regulates; times the weight

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]  # source node, target node, weight; one entry per edge


@dataclass(frozen=True, eq=False)
class TrueNetwork:
    """Signed weights over nodes (row regulates column), with module and role of each node; measured genes come first.

    `weights[i, j]` is the ln change of the production of j between an empty and a full binding site of i.
    """

    genes: np.ndarray  # (node,) object dtype of str
    weights: sparse.csr_matrix  # (node, node), in the reference context
    module: np.ndarray  # (node,) int64
    role: np.ndarray  # (node,) object: regulator, effector, noncoding, mitochondrial
    n_measured: int

    @property
    def n_modules(self) -> int:
        """How many modules there are."""
        return int(self.module.max()) + 1

    @property
    def biotype(self) -> np.ndarray:
        """(node,) object: lncRNA or protein_coding."""
        return np.where(self.role == NONCODING, "lncRNA", "protein_coding").astype(object)

    @property
    def out_degree(self) -> np.ndarray:
        """(node,) int64: how many genes each node regulates."""
        return np.diff(self.weights.indptr).astype(np.int64)

    def edges(self) -> pd.DataFrame:
        """One row per regulation: source, target, weight (signed), strongest first."""
        edge = self.weights.tocoo()
        frame = pd.DataFrame({"source": self.genes[edge.row], "target": self.genes[edge.col], "weight": edge.data})
        order = np.argsort(-np.abs(edge.data), kind="stable")
        return frame.iloc[order].reset_index(drop=True)


def build_network(settings: WorldSettings) -> TrueNetwork:
    """The network of the settings: power-law out-degrees, modules that respond as one, feedback, local lncRNAs."""
    role = _roles(settings)
    module = _modules(role, settings.stream("modules"))
    rows, columns, weights = _edges(role, module, settings)
    shape = (len(role), len(role))
    matrix = sparse.csr_matrix((weights * settings.effect, (rows, columns)), shape=shape)
    matrix.eliminate_zeros()
    names = _symbols(role, settings.stream("symbols"))
    return TrueNetwork(genes=names, weights=tamed(matrix), module=module, role=role, n_measured=settings.n_genes)


def tamed(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """The weights with edges into regulators scaled down where feedback would exceed the bound `STEEPEST`.

    The kinetics have slope at most HILL / 4 per unit weight, so a spectral radius of |weights| * HILL / 4 below one
    makes the steady state unique and the iteration towards it a contraction.
    """
    radius = _spectral_radius(abs(weights)) * HILL / 4
    if radius <= STEEPEST:
        return weights
    regulates = np.diff(weights.indptr) > 0
    scale = np.where(regulates, STEEPEST / radius, 1.0)
    return sparse.csr_matrix(weights @ sparse.diags(scale))


def _spectral_radius(weights: sparse.csr_matrix, *, steps: int = 60) -> float:
    regulates = np.flatnonzero(np.diff(weights.indptr) > 0)
    core = weights[regulates][:, regulates]
    vector = np.ones(core.shape[0])
    radius = 0.0
    for _ in range(steps):
        # The shift by a small multiple of the identity keeps the iteration from stalling on cycles of even length.
        vector = core @ vector + 0.1 * vector
        norm = float(np.linalg.norm(vector))
        if norm == 0:
            return 0.0
        radius, vector = norm, vector / norm
    return max(radius - 0.1, 0.0)


def _roles(settings: WorldSettings) -> np.ndarray:
    """Regulators fill the unmeasured nodes first, since only targets are unmeasured and most targets regulate."""
    rng = settings.stream("roles")
    measured, hidden = settings.n_genes, settings.n_unmeasured
    n_regulators = int(np.clip(max(0.2 * measured, 0.9 * settings.n_targets - hidden), 4, 0.6 * measured))
    n_mitochondrial = max(2, measured // 100)
    n_noncoding = min(round(settings.noncoding * measured), measured - n_regulators - n_mitochondrial)
    role = np.full(measured, EFFECTOR, dtype=object)
    role[:n_regulators] = REGULATOR
    role[n_regulators : n_regulators + n_mitochondrial] = MITOCHONDRIAL
    role[n_regulators + n_mitochondrial : n_regulators + n_mitochondrial + n_noncoding] = NONCODING
    return np.concatenate([rng.permutation(role), np.full(hidden, REGULATOR, dtype=object)])


def _modules(role: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Modules of unequal size; the regulators are dealt round so that every module has some."""
    n_modules = int(np.clip(len(role) // 40, 3, 40))
    share = rng.dirichlet(np.full(n_modules, 6.0))
    module = rng.choice(n_modules, size=len(role), p=share)
    regulators = rng.permutation(np.flatnonzero(role == REGULATOR))
    module[regulators] = np.arange(len(regulators)) % n_modules
    return module.astype(np.int64)


def _edges(role: np.ndarray, module: np.ndarray, settings: WorldSettings) -> Edges:
    """Regulators with power-law degrees, local lncRNAs, and the planted pathways; first of a pair drawn twice stays."""
    rng = settings.stream("edges")
    gene_sign = np.where(rng.random(len(role)) < 0.85, 1.0, -1.0)
    regulators = np.flatnonzero(role == REGULATOR)
    local = np.flatnonzero(role == NONCODING)
    local = local[rng.random(len(local)) < 0.5]  # half of the lncRNAs regulate nothing
    degree = np.minimum(SMALLEST_DEGREE * (1 + rng.pareto(DEGREE_TAIL, len(regulators))), len(role) / 8).astype(int)
    hubs = _hubs(regulators, degree, module)
    rank = _ranks(role, hubs, rng)
    potency = np.exp(POTENCY_SPREAD * rng.standard_normal(len(role)))
    potency[hubs[hubs >= 0]] = 1.0
    parts = [_pathways(hubs, role, module, gene_sign, potency, rng)]
    for node, n_edges, activates in zip(regulators, degree, rng.random(len(regulators)) < ACTIVATORS, strict=True):
        chosen = _regulated(node, int(n_edges), module, rng, own_module=OWN_MODULE)
        chosen = chosen[rank[chosen] > rank[node]]
        sign = (1.0 if activates else -1.0) * potency[node] * gene_sign[chosen]
        parts.append(_drawn(node, chosen, sign * np.where(rng.random(len(chosen)) < CONSISTENT, 1, -1), rng))
    for node in local:
        chosen = _regulated(node, int(rng.integers(1, 4)), module, rng, own_module=1.0)
        chosen = chosen[role[chosen] == EFFECTOR]
        parts.append(_drawn(node, chosen, np.where(rng.random(len(chosen)) < 0.8, -1.0, 1.0), rng))  # mostly repress
    row, column, weight = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    _, first = np.unique(row * len(role) + column, return_index=True)
    return row[first], column[first], weight[first]


def _drawn(node: int | np.integer, chosen: np.ndarray, sign: np.ndarray, rng: np.random.Generator) -> Edges:
    weight = sign * MEDIAN_WEIGHT * np.exp(WEIGHT_SPREAD * rng.standard_normal(len(chosen)))
    return np.full(len(chosen), node, dtype=np.int64), chosen.astype(np.int64), weight


def _hubs(regulators: np.ndarray, degree: np.ndarray, module: np.ndarray) -> np.ndarray:
    """(module,) the regulator with most edges in each module."""
    by_degree = regulators[np.argsort(-degree, kind="stable")]
    modules, first = np.unique(module[by_degree], return_index=True)
    hubs = np.full(int(module.max()) + 1, -1, dtype=np.int64)
    hubs[modules] = by_degree[first]
    return hubs


def _ranks(role: np.ndarray, hubs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(node,) order in which regulation runs down: regulators at random, hubs, other genes. Loops are planted apart.

    Random edges that ran up as well would close so many loops that the kinetics had several steady states.
    """
    rank = np.full(len(role), 2.0)
    regulators = np.flatnonzero(role == REGULATOR)
    rank[regulators] = rng.random(len(regulators))
    rank[hubs[hubs >= 0]] = 1 + rng.random(int((hubs >= 0).sum()))
    return np.where(role == REGULATOR, rank, 3.0)


def _pathways(
    hubs: np.ndarray,
    role: np.ndarray,
    module: np.ndarray,
    gene_sign: np.ndarray,
    potency: np.ndarray,
    rng: np.random.Generator,
) -> Edges:
    """Regulators act through the hub of their module, so that targets of one module have related responses.

    The hub reaches most genes of its module; one regulator is repressed by the hub it activates (a feedback loop);
    a third of the regulators repress themselves.
    """
    parts = []
    for number, hub in enumerate(hubs):
        members = np.flatnonzero((module == number) & (role == REGULATOR))
        if not len(members):
            continue
        others = rng.permutation(members[members != hub])
        through = others[: round(THROUGH_HUB * len(others))]
        strength = THROUGH_WEIGHT * potency[through]
        sign = np.where(rng.random(len(through)) < ACTIVATORS, 1.0, -1.0)
        parts.append((through.astype(np.int64), np.full(len(through), hub), strength * sign))
        plain = np.flatnonzero((module == number) & (role != REGULATOR))
        reached = plain[rng.random(len(plain)) < HUB_REACH]
        parts.append(_drawn(hub, reached, HUB_STRENGTH * gene_sign[reached], rng))
        parts.append(
            (np.full(len(through[:1]), hub), through[:1].astype(np.int64), np.full(len(through[:1]), -HUB_FEEDBACK))
        )
    selfish = np.flatnonzero(role == REGULATOR)
    selfish = selfish[rng.random(len(selfish)) < 1 / 3].astype(np.int64)
    parts.append((selfish, selfish, np.full(len(selfish), -SELF_FEEDBACK)))
    row, column, weight = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return row, column, weight


def _regulated(
    node: int | np.integer, n_edges: int, module: np.ndarray, rng: np.random.Generator, *, own_module: float
) -> np.ndarray:
    """Distinct genes that a node regulates, most of them in its module; never itself."""
    near = np.flatnonzero(module == module[node])
    near = near[near != node]
    n_near = min(len(near), int(rng.binomial(n_edges, own_module)))
    far = rng.integers(0, len(module), size=n_edges - n_near if own_module < 1 else 0)
    chosen = np.unique(np.concatenate([rng.permutation(near)[:n_near], far]))
    return chosen[chosen != node]


def _symbols(role: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Made-up symbols that say nothing of the module; lncRNAs and mitochondrial genes are named as such genes are."""
    consonants, vowels = "BDFGKPTVXZ", "AEIOU"
    numbers = rng.choice(225_000, size=len(role), replace=False)
    names = np.empty(len(role), dtype=object)
    for node, number in enumerate(numbers.tolist()):
        number, digit = divmod(number, 9)
        name = ""
        for letters in (consonants, vowels, consonants, vowels, consonants):
            number, place = divmod(number, len(letters))
            name += letters[place]
        names[node] = f"{name}{digit + 1}"
    for count, node in enumerate(np.flatnonzero(role == NONCODING).tolist()):
        names[node] = f"LINC9{count:04d}"
    for count, node in enumerate(np.flatnonzero(role == MITOCHONDRIAL).tolist()):
        names[node] = f"MT-SIM{count + 1}"
    return names
