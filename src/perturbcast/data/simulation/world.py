"""The world as one value: screen, exact responses, network, interactions, and what is told of the genes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import sparse

from perturbcast._progress import Progress
from perturbcast.data.conditions import CONTROL, Query, targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Decision, InMemory, Screen
from perturbcast.data.simulation import annotations
from perturbcast.data.simulation.cells import CellSampler
from perturbcast.data.simulation.design import CellPlan, Design, guide_names, plan_cells, state_table
from perturbcast.data.simulation.interactions import interaction_drive, pair_rule
from perturbcast.data.simulation.kinetics import NOMINAL, State
from perturbcast.data.simulation.network import TrueNetwork
from perturbcast.data.simulation.observation import PHASES, Observation
from perturbcast.data.simulation.settings import WorldSettings
from perturbcast.errors import BadCondition, UnknownContext, UnknownTarget, did_you_mean

MOST_TARGETS = 6  # per query: the mixture over escaped guides has 2 to that power parts


@dataclass(frozen=True, eq=False)
class World:
    """A simulated world. Parts are made when first asked for: `screen` alone counts cells.

    Three responses, not to be confused, all against control of the same context:
    `responses` - exact expectation of what the screen estimates: mean ln(1 + CP10k) over all its cells, escaped and
        artefact cells and weak guides included. An infinitely large screen would show just this.
    `exact_response(..., cells="perturbed")` - the same over clean cells in which every guide works at efficiency one.
    `steady_state(...)` - ln fold change of the abundance itself, no counting, every guide at efficiency one.
    """

    settings: WorldSettings
    network: TrueNetwork
    observation: Observation
    design: Design

    @cached_property
    def plan(self) -> CellPlan:
        """What happens to each cell."""
        return plan_cells(self.design, self.observation.kinetics)

    @cached_property
    def sampler(self) -> CellSampler:
        """Counts cells, chunk by chunk."""
        states, table = state_table(self.design, n_guides=self.settings.n_guides)
        level = np.stack([self._level(states, context) for context in range(self.settings.n_contexts)])
        state = table[self.plan.condition, self.plan.guide, self.plan.active]
        return CellSampler(plan=self.plan, observation=self.observation, level=level, state=state)

    def _level(self, states: list[State], context: int) -> Float[np.ndarray, "state gene"]:
        change = self.observation.kinetics.steady_states(states, context=context)
        return self.observation.level(change, context=context)

    @cached_property
    def screen(self) -> Screen:
        """All cells in memory: counts with guide and batch as covariates. Hidden facts are in `truth`."""
        chunks = [counts for _, counts in self.sampler.chunks(size=self.settings.n_cells)]
        matrix = sparse.csr_matrix(sparse.vstack(chunks, format="csr").astype(np.float32))
        order = np.argsort(np.array(self.design.conditions))
        code = np.empty(len(order), dtype=np.int32)
        code[order] = np.arange(len(order), dtype=np.int32)
        return Screen(
            name="simulated",
            matrix=InMemory(matrix),
            scale=Scale.COUNTS,
            genes=self.genes,
            conditions=tuple(self.design.conditions[place] for place in order),
            contexts=self.design.contexts,
            condition_code=code[self.plan.condition],
            context_code=self.plan.context.astype(np.int32),
            row=np.arange(matrix.shape[0], dtype=np.int64),
            library=np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel(),
            cells=self.barcodes,
            covariates=self.observed[["guide", "batch"]].reset_index(drop=True),
            gene_ids=self.gene_table["ensembl_id"].to_numpy(dtype=object)[: self.settings.n_genes],
            decisions=(Decision("scale", "counts", "simulated as counts", "--scale"),),
            uns={"source": self.source, "perturbation": self.settings.perturbation},
        )

    @property
    def source(self) -> str:
        """One line that says where the data come from."""
        return f"perturbcast simulated world, seed {self.settings.seed}"

    @property
    def genes(self) -> np.ndarray:
        """(gene,) symbols of the measured genes."""
        return self.network.genes[: self.settings.n_genes]

    @property
    def targets(self) -> tuple[str, ...]:
        """Symbols of all targets, sorted, measured or not."""
        return tuple(str(self.network.genes[node]) for node in self.design.targets)

    @property
    def barcodes(self) -> np.ndarray:
        """(cell,) object: a name for each cell."""
        return np.array([f"cell{number:07d}" for number in range(self.settings.n_cells)], dtype=object)

    @cached_property
    def observed(self) -> pd.DataFrame:
        """What is known of each cell: condition, guide, batch, and cell_line where there are several; by barcode."""
        columns = {
            "condition": pd.Categorical.from_codes(self.plan.condition, categories=pd.Index(self.design.conditions)),
            "guide": pd.Categorical(guide_names(self.design, self.network, self.plan)),
            "batch": pd.Categorical(np.array([f"batch{number + 1}" for number in self.plan.batch], dtype=object)),
        }
        if self.settings.n_contexts > 1:
            columns["cell_line"] = pd.Categorical.from_codes(
                self.plan.context, categories=pd.Index(self.design.contexts)
            )
        return pd.DataFrame(columns, index=pd.Index(self.barcodes, name="barcode"))

    @cached_property
    def truth(self) -> pd.DataFrame:
        """Hidden facts of each cell: escaped (a guide failed), working arms, is_artefact, phase, expected depth."""
        plan = self.plan
        arms = np.array([len(nodes) for nodes in self.design.arms])[plan.condition]
        working = (plan.active & 1) + (plan.active >> 1)
        columns = {
            "escaped": working < arms,
            "n_active": working,
            "is_artefact": plan.is_artefact,
            "phase": np.array(PHASES, dtype=object)[plan.phase],
            "expected_depth": plan.depth,
        }
        return pd.DataFrame(columns, index=pd.Index(self.barcodes, name="barcode"))

    # ------------------------------------------------------------------------------------------------ exact answers
    @cached_property
    def responses(self) -> ResponseTable:
        """Exact expected responses of all planted conditions in all contexts, over the cells as the screen has them."""
        return self.exact_response(self.design.queries)

    def exact_response(self, queries: Iterable[Query], *, cells: str = "sampled") -> ResponseTable:
        """Exact mean responses of any queries, planted or not, on the scale of the reader (ln(1 + CP10k)).

        `cells`: "sampled" averages guides, escaped and artefact cells as in the screen; "perturbed" takes clean cells
        with every guide at efficiency one. Targets may be any gene of the network. UnknownTarget, UnknownContext and
        BadCondition where a query cannot be.
        """
        queries = tuple(queries)
        parts = [self._mixture(query, cells) for query in queries]
        artefacts = self.settings.artefacts if cells == "sampled" else 0.0
        control = np.empty((len(self.design.contexts), self.settings.n_genes))
        response = np.empty((len(queries), self.settings.n_genes))
        for context, name in enumerate(self.design.contexts):
            rows = [row for row, query in enumerate(queries) if query.context == name]
            states = list(dict.fromkeys([(), *(state for row in rows for state in parts[row])]))
            change = self.observation.kinetics.steady_states(states, context=context)
            mean = self.observation.expected(change, context=context, artefacts=artefacts)
            place = {state: number for number, state in enumerate(states)}
            control[context] = mean[place[()]]
            for row in rows:
                weights = np.array(list(parts[row].values()))
                response[row] = weights @ mean[[place[state] for state in parts[row]]] - control[context]
        return self._table(queries, response, control=control, scale=Scale.LOG1P_CP10K, unit="ln(1 + CP10k)")

    def steady_state(self, queries: Iterable[Query]) -> ResponseTable:
        """ln fold change of abundance of the measured genes at steady state, guides at efficiency one; no counting."""
        queries = tuple(queries)
        response = np.empty((len(queries), self.settings.n_genes))
        for context, name in enumerate(self.design.contexts):
            rows = [row for row, query in enumerate(queries) if query.context == name]
            states = [tuple((node, NOMINAL) for node in self._nodes(queries[row])) for row in rows]
            change = self.observation.kinetics.steady_states(states, context=context)
            response[rows] = change[:, : self.settings.n_genes]
        control = np.full((len(self.design.contexts), self.settings.n_genes), np.nan)
        return self._table(queries, response, control=control, scale=Scale.RESPONSE, unit="ln fold change")

    def _table(
        self, queries: tuple[Query, ...], response: np.ndarray, *, control: np.ndarray, scale: Scale, unit: str
    ) -> ResponseTable:
        return ResponseTable(
            name="simulated",
            scale=scale,
            genes=self.genes,
            queries=queries,
            response=response,
            contexts=self.design.contexts,
            control=control,
            unit=unit,
        )

    def _mixture(self, query: Query, cells: str) -> dict[State, float]:
        """The states that cells of a query are in, with their probabilities."""
        nodes = self._nodes(query)
        if cells == "perturbed":
            return {tuple((node, NOMINAL) for node in nodes): 1.0}
        if cells != "sampled":
            raise BadCondition(f"cells={cells!r} is neither 'sampled' nor 'perturbed'.", "")
        escape = self.observation.kinetics.escape
        mixture: dict[State, float] = {}
        for guide, works in product(range(self.settings.n_guides), product((True, False), repeat=len(nodes))):
            chance = 1 / self.settings.n_guides
            for node, working in zip(nodes, works, strict=True):
                chance *= float(1 - escape[node, guide] if working else escape[node, guide])
            state = tuple((node, guide) for node, working in zip(nodes, works, strict=True) if working)
            mixture[state] = mixture.get(state, 0.0) + chance
        return mixture

    def _nodes(self, query: Query) -> tuple[int, ...]:
        if query.context not in self.design.contexts:
            raise UnknownContext(f"The world has no context {query.context!r}, but {list(self.design.contexts)}.")
        if query.condition == CONTROL:
            return ()
        targets = targets_of(query.condition)
        unknown = [target for target in targets if target not in self._node_of]
        if unknown:
            advice = did_you_mean(unknown[0], self._node_of)
            raise UnknownTarget(f"{unknown[0]!r} is no gene of the world.", advice)
        if len(targets) > MOST_TARGETS:
            raise BadCondition(f"{len(targets)} targets at once; the world answers up to {MOST_TARGETS}.", "")
        return tuple(self._node_of[target] for target in sorted(targets))

    @cached_property
    def _node_of(self) -> dict[str, int]:
        return {str(symbol): node for node, symbol in enumerate(self.network.genes)}

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """What is planted in the doubles of the screen; see `interactions_of`."""
        doubles = [query for query in self.design.queries if len(targets_of(query.condition)) == 2]
        return self.interactions_of(doubles)

    def interactions_of(self, doubles: Iterable[Query]) -> pd.DataFrame:
        """One row per double and gene touched: condition, context, kind, gene, drive, deviation.

        `drive` is the planted ln change of production at efficiency one; `deviation` what comes of it after the
        network, saturation and counting: exact response (cells="perturbed") of the double less those of its singles.
        """
        doubles = list(doubles)
        singles = [Query(target, double.context) for double in doubles for target in targets_of(double.condition)]
        queries = [*doubles, *dict.fromkeys(singles)]
        exact = dict(zip(queries, self.exact_response(queries, cells="perturbed").response, strict=True))
        alone = self._alone(dict.fromkeys(singles))
        columns = ["condition", "context", "kind", "gene", "drive", "deviation"]
        frames = [self._interaction(double, exact, alone) for double in doubles]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def _alone(self, singles: Iterable[Query]) -> dict[Query, Float[np.ndarray, " node"]]:
        """ln change of every node, unmeasured ones included, in each single at efficiency one."""
        change: dict[Query, Float[np.ndarray, " node"]] = {}
        for context, name in enumerate(self.design.contexts):
            here = [single for single in singles if single.context == name]
            states = [((self._node_of[single.condition], NOMINAL),) for single in here]
            solved = self.observation.kinetics.steady_states(states, context=context)
            change.update(zip(here, solved, strict=True))
        return change

    def _interaction(
        self,
        query: Query,
        exact: Mapping[Query, Float[np.ndarray, " gene"]],
        alone: Mapping[Query, Float[np.ndarray, " node"]],
    ) -> pd.DataFrame:
        singles = [Query(target, query.context) for target in targets_of(query.condition)]
        first, second = (self._node_of[single.condition] for single in singles)
        arms = ((first, NOMINAL), (second, NOMINAL))
        change_of = {arm: alone[single] for arm, single in zip(arms, singles, strict=True)}
        drive = interaction_drive(arms, change_of, self.network, settings=self.settings)[: self.settings.n_genes]
        touched = np.flatnonzero(drive != 0)
        return pd.DataFrame(
            {
                "condition": query.condition,
                "context": query.context,
                "kind": pair_rule(first, second, self.network, settings=self.settings).kind,
                "gene": self.genes[touched],
                "drive": drive[touched],
                "deviation": (exact[query] - exact[singles[0]] - exact[singles[1]])[touched],
            }
        )

    # ---------------------------------------------------------------------------------------- what is told of genes
    @cached_property
    def gene_table(self) -> pd.DataFrame:
        """symbol, ensembl_id, synonyms, biotype, description of every node."""
        return annotations.gene_table(self.network, self.settings)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """Symbol -> a few sentences, partly wrong."""
        return annotations.gene_texts(self.network, self.settings)

    @cached_property
    def sequences(self) -> Mapping[str, str]:
        """Symbol -> promoter."""
        return annotations.promoters(self.network, self.settings)

    @cached_property
    def prior_graph(self) -> pd.DataFrame:
        """Gene1 (regulator), Gene2, weight: half of the true regulations and as many false ones."""
        return annotations.prior_graph(self.network, self.settings)

    @cached_property
    def gene_sets(self) -> Mapping[str, tuple[str, ...]]:
        """Set name -> symbols."""
        return annotations.gene_sets(self.network, self.settings)

    @cached_property
    def embedding(self) -> pd.DataFrame:
        """Nodes x features, symbols as index."""
        matrix = annotations.embedding(self.network, self.settings)
        return pd.DataFrame(matrix, index=self.network.genes, columns=[f"f{n}" for n in range(matrix.shape[1])])

    def write(self, folder: Path, *, chunk: int = 20_000, progress: Progress | None = None) -> Path:
        """Writes screen.h5ad, genes/, networks/ and truth/ into a new folder, with counts of one `chunk` in memory.

        A folder that holds this very world is left as it is; OutputExists if it holds anything else.
        """
        from perturbcast.data.simulation.store import write_world

        return write_world(self, folder, chunk=chunk, progress=progress or Progress())
