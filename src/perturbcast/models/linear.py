"""The bilinear linear model of Ahlmann-Eltze, Huber and Anders (spec D-7 to D-9, D-15)."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import CannotPredict, NeedsKnowledge, did_you_mean
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.models.base import FittedModel, Model, ModelCard, TrainingData
from perturbcast.models.embeddings_of_targets import TargetFeatures, spectral_embedding, target_tables
from perturbcast.models.fields import Range
from perturbcast.models.left_out import KnowsLeftOutErrors, left_out_errors
from perturbcast.models.mean import mean_by_context

TRAINING, RANDOM, SPECTRAL = "training", "random", "spectral:"


class FittedLinear(KnowsLeftOutErrors):
    """c + G W q, q the summed embedding of the targets."""

    @cached_property
    def _targets(self) -> TargetFeatures:
        return TargetFeatures.restored(self._state, "target.")

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        n_known = self._targets.knows(query)
        n_targets = len(targets_of(query.condition))
        if n_known < n_targets and getattr(self.model, "missing", "mean") == "refuse":
            unknown = [target for target in targets_of(query.condition) if target not in self._targets.row]
            raise CannotPredict(f"{', '.join(map(repr, unknown))} has no row in embedding {self._targets.name!r}.")
        mean = self._state["mean"][self.contexts.index(query.context)]
        effect = self._state["effect"] @ self._targets.rows([query])[0]  # (gene, feature) @ (feature,) -> (gene,)
        sd = self.left_out_sd(query, mean + effect, own=self._state["sd"])
        return mean + effect, sd, self._support(query, n_known, n_targets)

    def _support(self, query: Query, n_known: int, n_targets: int) -> Support:
        if query in self.seen:
            return Support.SEEN
        if not n_known:
            return Support.MEAN
        return Support.NEIGHBOURS if n_known == n_targets else Support.PARTIAL


@dataclass(frozen=True)
class Linear(Model):
    """Two successive ridge regressions from gene and perturbation embeddings to responses (D-7).

    Embeddings: `training` (10 principal components of training means; a target is embedded as its own gene, D-8),
    `random`, `spectral:GRAPH` (D-9), or the name of any table made from the knowledge (D-15).
    Differs from the paper: combinations sum the embeddings of their targets; a target without embedding gets the mean
    response unless `missing` is `refuse`; where only responses are known, components are those of responses, not of
    means; with several contexts the mean response is that of the context.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="linear",
        title="Bilinear linear model",
        summary="Predicts a response from ten features of the target gene and ten of each measured gene.",
        source="Ahlmann-Eltze et al. 2025, doi:10.1038/s41592-025-02772-6; spec D-7, D-8, D-9",
        predicts=frozenset({"unseen_single", "unseen_double", "unseen_context"}),
        baseline=True,
        uses_knowledge=True,
        profiles={"paper": {"missing": "refuse"}, "random": {"perturbation_embedding": RANDOM}},
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedLinear
    n_components: Annotated[int, Range(1)] = 10  # D-8
    ridge: Annotated[float, Range(1e-9)] = 0.1  # λ of both regressions, D-7
    gene_embedding: str = TRAINING  # G
    perturbation_embedding: str = TRAINING  # Q
    missing: Literal["mean", "refuse"] = "mean"  # for a target without embedding
    folds: Annotated[int, Range(0)] = 3  # of conditions, without each of which it is fitted to calibrate sd; 0: own sd

    def fit(self, training: TrainingData, *, seed: int = 0, progress: Progress | None = None) -> FittedLinear:
        """The fitted model; NeedsKnowledge where an embedding named is not among the knowledge."""
        table = training.responses
        mean = mean_by_context(table, variant="with-control")
        by_gene = self._embedding(self.gene_embedding, training, seed=seed)
        by_target = self._embedding(self.perturbation_embedding, training, seed=seed + 1)
        genes = by_gene.rows([Query(str(gene)) for gene in table.genes])
        known = [row for row, query in enumerate(table.queries) if by_target.knows(query) == len(targets_of(query[0]))]
        queries = by_target.rows([table.queries[row] for row in known])
        rest = (table.response - mean[table.context_code])[known]
        middle = double_ridge(genes, rest.T, queries.T, ridge=self.ridge)
        effect = genes @ middle  # (gene, d_G) @ (d_G, d_Q) -> (gene, d_Q)
        unexplained = rest - queries @ effect.T if len(known) else table.response - mean[table.context_code]
        freedom = max(len(unexplained) - queries.shape[1], 1)
        state = {"mean": mean, "effect": effect, "sd": np.sqrt((unexplained**2).sum(axis=0) / freedom)}
        state |= by_target.state("target.")
        state |= left_out_errors(replace(self, folds=0), training, n_folds=self.folds, seed=seed, progress=progress)
        return FittedLinear(self, table, state, split_fingerprint=training.split_fingerprint)

    def _embedding(self, name: str, training: TrainingData, *, seed: int) -> TargetFeatures:
        table = training.responses
        if name == TRAINING:
            return training_components(table, width=self.n_components)
        if name == RANDOM:
            genes = sorted({str(gene) for gene in table.genes} | set(table.targets))
            values = np.random.default_rng(seed).normal(size=(len(genes), self.n_components))
            return TargetFeatures.of(RANDOM, genes, values)
        return _from_knowledge(name, training.knowledge, table, width=self.n_components)


def _from_knowledge(name: str, knowledge: GeneKnowledge, table: ResponseTable, *, width: int) -> TargetFeatures:
    graph = knowledge.graphs.get(name.removeprefix(SPECTRAL)) if name.startswith(SPECTRAL) else None
    if graph is not None:
        return spectral_embedding(graph, width=width)
    if name in knowledge.embeddings:
        own = knowledge.embeddings[name]
        return TargetFeatures.of(name, [str(gene) for gene in own.genes], own.matrix)
    tables = target_tables(knowledge, table)
    if name not in tables:
        known = [TRAINING, RANDOM, *knowledge.embeddings, *tables, *(SPECTRAL + graph for graph in knowledge.graphs)]
        raise NeedsKnowledge(f"there is no embedding {name!r}. {did_you_mean(name, known)}")
    return tables[name]


def training_components(table: ResponseTable, *, width: int) -> TargetFeatures:
    """Scores of measured genes on principal components of genes x training conditions, control among them (D-8)."""
    control = table.control if table.has_control else np.zeros((1, table.n_genes))
    means = np.vstack([table.expression if table.has_control else table.response, control]).T  # (gene, condition)
    centred = means - means.mean(axis=0)
    axes, size, _ = np.linalg.svd(centred, full_matrices=False)
    kept = min(width, int((size > 1e-9 * max(size[0], 1e-300)).sum()))
    return TargetFeatures.of(TRAINING, [str(gene) for gene in table.genes], axes[:, :kept] * size[:kept])


def double_ridge(
    genes: Float[np.ndarray, "gene d_gene"],
    response: Float[np.ndarray, "gene query"],
    queries: Float[np.ndarray, "d_query query"],
    *,
    ridge: float,
) -> Float[np.ndarray, "d_gene d_query"]:
    """W = (GᵀG + λI)⁻¹ Gᵀ Y Qᵀ (QQᵀ + λI)⁻¹ (D-7): two ridges in turn, not the Kronecker ridge (oracle D1)."""
    left = genes.T @ genes + ridge * np.eye(genes.shape[1])
    right = queries @ queries.T + ridge * np.eye(queries.shape[0])
    through = np.linalg.solve(left, genes.T @ response @ queries.T)
    return np.linalg.solve(right, through.T).T
