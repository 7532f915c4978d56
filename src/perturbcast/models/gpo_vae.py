"""GPO-VAE (spec 5): the mask of the perturbations' embeddings is the gene regulatory network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.artefacts import ArtefactRule
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.errors import CannotPredict
from perturbcast.models.anchors import RestVariance, posterior_variance
from perturbcast.models.artefact_family import PUBLISHED_ARTEFACTS, ArtefactModel, FittedWithArtefacts
from perturbcast.models.base import FittedModel, ModelCard, TrainingData
from perturbcast.models.fields import Range
from perturbcast.models.gpo_unseen import FEATURES, answer, restored
from perturbcast.models.gpo_unseen_errors import unseen_sd
from perturbcast.models.kernel_ridge import FittedKernelRidge
from perturbcast.models.latent_family import NET, QUICK, UNSEEN
from perturbcast.networks.network import Network

if TYPE_CHECKING:
    from perturbcast.training.plan import RunOptions

PAPER: dict[str, Any] = PUBLISHED_ARTEFACTS | {
    "encoder_width": 200,
    "guide": "correlated",
    "alignment": "cells",
    "n_hops": 5,
    "sparsity": 10.0,
    "align_steps": 0,
    "mask_prior": 0.3,
    "closed": False,
    "extended_fold": 3.0,
    "max_extended": None,
    "anchored": False,
    "patience": 30,
    "diagonal": True,
    "unseen": "refuse",
}


class FittedGpo(FittedWithArtefacts):
    """A trained network; `network_of_genes` reads the regulatory network out.

    `evidence_bound` takes every cell as of good quality.
    """

    @cached_property
    def sources(self) -> dict[str, int]:
        """The targets of training and their dosage columns; extended genes come after them."""
        return {name: place for name, place in self.columns.items() if place < int(self._state["n_perturbed"][0])}

    @property
    def inputs(self) -> Mapping[str, int]:
        """The columns of targets: extended genes have no dosage."""
        return self.sources

    @property
    def extended(self) -> tuple[str, ...]:
        """Genes of the network that were never perturbed (spec 5.7)."""
        return tuple(name for name in self.columns if name not in self.sources)

    @property
    def n_artefacts(self) -> int:
        """1, or 0 where no training cell failed."""
        return int(self._state["n_artefacts"][0])

    @property
    def _gpo(self) -> "GpoVae":
        assert isinstance(self.model, GpoVae)
        return self.model

    def _first_network(self, standardise: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        return self._gpo.neural(
            n_perturbed=len(self.sources),
            n_columns=len(self.columns),
            standardise=standardise,
            likelihood=self.likelihood,
            n_artefacts=self.n_artefacts,
            n_contexts=len(arrays.get("context.location", ())),
            prior=arrays["prior"],
            coupling=arrays["coupling"],
        )

    def dosage_of(self, query: Query) -> Float[np.ndarray, " input"]:
        """Dosage of a query, and after it, where there are several contexts, 1 for its own."""
        row = self.dosage(query.condition)
        if NET + "context.location" not in self._state:
            return row
        own = [float(context == query.context) for context in self.contexts]
        return np.concatenate([row, np.array(own, dtype=np.float32)])

    def _batches_of(self, screen: Screen) -> Any:
        from perturbcast.nn.cells import CellBatches
        from perturbcast.nn.contexts import context_labels

        contexts = self.contexts if NET + "context.location" in self._state else ()
        cells = np.arange(screen.n_cells)
        told = context_labels(screen.contexts, screen.context_code, contexts, train_cells=cells)
        return CellBatches.of(screen, columns=list(self.columns), train_cells=cells, extra=told)

    def _source_of(self, screen: Screen) -> Any:
        return self.labelled(screen, np.zeros(screen.n_cells, dtype=bool))

    def _respond(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        if self._by_features is not None and not set(targets_of(query.condition)) <= set(self.sources):
            return self._answer_by_features(query)
        response, sd, support = super()._respond(query)
        return response + self._anchor_of(query), sd, support

    @cached_property
    def _training_table(self) -> ResponseTable:
        """The queries of training; responses are not kept."""
        return ResponseTable(
            name="",
            scale=self.scale,
            genes=self.genes,
            queries=self.trained_on,
            response=np.zeros((len(self.trained_on), len(self.genes))),
            contexts=self.contexts,
            control=self.control,
            unit=self.unit,
        )

    @cached_property
    def _by_features(self) -> FittedKernelRidge | None:
        """What is known of unseen targets; None where that was not learned."""
        learned = any(name.startswith(FEATURES) for name in self._state)
        return restored(self._training_table, self._state, FEATURES) if learned else None

    def _answer_by_features(self, query: Query) -> tuple[np.ndarray, np.ndarray | None, Support]:
        """The answer of the function of features; CannotPredict where nothing is known of an unseen target."""
        assert self._by_features is not None
        unseen = [target for target in targets_of(query.condition) if target not in self.sources]
        alone = self._by_features.predict([Query(target, query.context) for target in unseen])
        silent = [target for target, by in zip(unseen, alone.support, strict=True) if by is Support.MEAN]
        if silent:
            named = ", ".join(map(repr, silent))
            raise CannotPredict(f"{UNSEEN.format(targets=named)} Nor is anything known of it from elsewhere.")
        response, rests_on = answer(self._gpo, self._training_table, self._state, self.columns, query)
        return response, unseen_sd(self._state, query, response, self.genes), rests_on

    def error_variance(self, query: Query, support: Support) -> Float[np.ndarray, " gene"]:
        """As of the family; for a query that was seen, what its training mean leaves open takes the place of the rest.

        See `posterior_variance`, with v the variance of the network's error and the noise that of the training mean.
        """
        row = self._row_of.get(query)
        if row is None or "anchors" not in self._state:
            return super().error_variance(query, support)
        off = RestVariance(*(self._state[f"rest.{axis}"].astype(np.float64) for axis in ("query", "gene")))
        noise = self._noise.variance(row, self.contexts.index(query.context))
        return posterior_variance(off.of(row), noise, self.spread(query))

    def _anchor_of(self, query: Query) -> np.ndarray:
        """What is added to the network's response: the shrunken rest of the training mean (see `anchors`).

        Of a query seen, its own; of a condition seen in other contexts, their mean; of an unseen combination, the sum
        of its targets'; 0 where nothing is known, and without anchors.
        """
        anchors = self._state.get("anchors")
        if anchors is None:
            return np.zeros(len(self.genes))
        rows = self._rows_of.get(query.condition, [])
        own = [row for row in rows if self.trained_on[row] == query]
        if own or rows:
            return anchors[own or rows].astype(np.float64).mean(axis=0)
        singly = [self._rows_of.get(target, []) for target in targets_of(query.condition)]
        parts = [anchors[rows].astype(np.float64).mean(axis=0) for rows in singly if rows]
        return np.sum(parts, axis=0) if parts else np.zeros(len(self.genes))

    @cached_property
    def _rows_of(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, query in enumerate(self.trained_on):
            rows.setdefault(query.condition, []).append(row)
        return rows

    def network_of_genes(self) -> Network:
        """The regulatory network: probabilities of edges, signs where they are learned, extended genes flagged.

        With mean-field embeddings the weight of an edge is its expected effect |σ(Ŵ) E|, ln change of the target per ln
        change of its source, and its sign that of E; with correlated ones, as published, the weight is σ(Ŵ) and there
        is no sign. Self-loops are left out. An edge counts as found where its probability is above one half:
        `threshold(0.5, column="probability")`. Genes that were closed have no outgoing edge.
        """
        logits = self._state[NET + "guide.logits"].astype(np.float64)
        probability = np.zeros((len(self.columns), len(self.columns)))
        probability[: len(logits)] = 1 / (1 + np.exp(-logits))
        weight, sign = probability, None
        if NET + "guide.location" in self._state:
            effect = np.zeros_like(probability)
            effect[: len(logits)] = self._state[NET + "guide.location"]
            weight, sign = probability * np.abs(effect), np.sign(effect)
        names = list(self.columns)
        is_perturbed = np.array([name in self.sources for name in names])
        return Network.of_matrix(
            names,
            weight,
            sign=sign,
            columns={"probability": probability},
            is_perturbed=is_perturbed,
            is_measured=np.isin(names, self.genes.astype(str)),
            is_extended=~is_perturbed,
            method=self.model.label,
        )


@dataclass(frozen=True)
class GpoVae(ArtefactModel):
    """CRADLE-VAE with δ = d(E ⊙ M) in gene space, M ~ Bern(σ(Ŵ)) the network, and K hops of it aligned with responses.

    `paper`: equations (19) to (25): correlated embeddings, L1 on |ΔX| of single cells against transported controls,
    products of logits, KLs by samples, unbalanced reconstruction (B3, B6, B9, B24); row ids are right (B1, B2, B4, B5).
    `plus` (default): E is the strength of an edge with its sign; hops run over expected effects σ(Ŵ) ⊙ E, and what they
    give is held against mean responses in units of their error; what all perturbations share makes no edge; the
    network is aligned first and trained on with the cells; genes never perturbed are closed (B7) and any gene that
    responds is in; exact KLs, balanced reconstruction, free artefacts. Predictions of seen conditions are drawn to
    their training means, as far as the number of cells makes these certain, so that no effect that the data pin down
    is lost. Unseen targets: `paper` refuses them (5.9). In `plus` the strengths of a target's row are a function of
    gene features (knowledge, co-response in training) plus a deviation of its own, learned together; `likeness` is
    the share of the first. With `unseen=rows` that function gives the row of an unseen target, and K hops its
    response; with `responses` (default, more accurate) a second function of the same features is learned, onto what
    the hops say of the training conditions. Genes of which nothing is known are refused; there are no cells of them.
    Where a screen has several contexts, each has an embedding c beside the basal state, h = [z ; δ ; c ; a]. The
    network is one for all and knows none; what contexts differ in makes no edge, and responses may differ between them.
    Differs from the paper in both: doublets are looked for on demand only; extended genes by 5.7 (B8); unmeasured
    targets take part but have no ΔX; scale and depth of predictions as in sams-vae; stops by patience.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="gpo-vae",
        title="GPO-VAE",
        summary="A latent variable model of cells in which the effects of perturbations run along a gene network that "
        "is learned with it and can be read out.",
        source="GPO-VAE (dmis-lab 2025); spec 5",
        predicts=frozenset({"unseen_double"}),
        needs_cells=True,
        uses_knowledge=True,
        learns_network=True,
        profiles={"paper": PAPER, "plus": {}},
        quick=QUICK | {"embedding_width": 8, "embedding_layers": 2, "align_steps": 20, "max_extended": 20},
    )
    fitted_class: ClassVar[type[FittedModel]] = FittedGpo
    guide: Literal["correlated", "mean-field"] = "mean-field"  # q(E | M); mean-field: strengths of edges
    alignment: Literal["effects", "reach", "means", "cells", "none"] = "effects"  # cells: (22); see `nn.grn`
    diagonal: bool = False  # align targets' own responses too (B24)
    n_hops: Annotated[int, Range(0)] = 2  # K; published 5
    criterion: Annotated[float, Range(0.0)] = 0.5  # c, ln units: 0.4 Adamson, 0.5 RPE1, 0.8 K562; of cells and reach
    alignment_weight: Annotated[float, Range(0.0)] = 100.0  # λ_g; spec 6
    sparsity: Annotated[float, Range(0.0)] = 5.0  # λ_s, relative to λ_g unless alignment is cells; published 1, 5, 10
    ridge: Annotated[float, Range(0.0)] = 3.0  # of strengths, relative to λ_g
    align_steps: Annotated[int, Range(0)] = 300  # steps on the network alone before the cells; `effects` only
    least_amplitude: Annotated[float, Range(1e-3)] = 0.5  # ln units: what a target moves by at least
    mask_prior: Annotated[float, Range(1e-6, 0.999999)] = 0.02  # π
    prior_graph: str = ""  # gene graph of the knowledge that gives initial logits and π_ab (spec 5.6)
    closed: bool = True  # extended genes regulate nothing (B7)
    extended_fold: Annotated[float, Range(0.0)] = 0.0  # least |log2 fold change| of an extended gene
    max_extended: Annotated[int, Range(0)] | None = 1000
    doublets: bool = False  # also by Scrublet, which takes about a minute per 10,000 cells; published
    anchored: bool = True  # draw predictions of seen conditions to their training means
    unseen: Literal["responses", "rows", "refuse"] = "responses"  # what is learned as a function of gene features
    likeness: Annotated[float, Range(0.0, 0.99)] = 0.5  # κ: share of the variance of a row that gene features explain

    def rule(self) -> ArtefactRule:
        """When a cell fails; doublets are looked for on demand only."""
        rule = super().rule()
        flags = [flag for flag in rule.flags if flag != "doublet"] + ["doublet"] * self.doublets
        return replace(rule, flags=tuple(flags))

    def network(self, n_columns: int, standardise: Any, likelihood: str) -> Any:
        """The neural network where every gene of the regulatory network was perturbed."""
        return self.neural(n_perturbed=n_columns, n_columns=n_columns, standardise=standardise, likelihood=likelihood)

    def neural(
        self,
        *,
        n_perturbed: int,
        n_columns: int,
        standardise: Any,
        likelihood: str,
        n_artefacts: int = 1,
        n_contexts: int = 0,
        prior: np.ndarray | None = None,
        targets: Any = None,
        coupling: np.ndarray | None = None,
    ) -> Any:
        """The neural network for that many perturbed and all genes of the regulatory network."""
        from perturbcast.nn.gpo_net import GpoNet, GpoShape

        cradle = self.cradle_shape(
            likelihood,
            n_targets=n_columns,
            n_offset=n_columns,
            n_artefacts=n_artefacts,
            n_contexts=n_contexts,
            artefact=self.artefact if n_artefacts else "free",
            reconstruction=self.reconstruction if n_artefacts else "none",  # (15) is 0 where no cell fails
            counterfactual_batch=None if self.counterfactual_kl == "published" else 512,
        )
        shape = GpoShape(
            cradle=cradle,
            n_sources=n_perturbed if self.closed else n_columns,
            guide=self.guide,
            alignment=self.alignment,
            n_hops=self.n_hops,
            criterion=self.criterion,
            alignment_weight=self.alignment_weight,
            sparsity=self.sparsity,
            ridge=self.ridge,
            diagonal=self.diagonal,
        )
        return GpoNet(shape, standardise, prior=prior, targets=targets, coupling=coupling)

    def fit(
        self,
        training: TrainingData,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        options: "RunOptions | None" = None,
    ) -> FittedGpo:
        """The trained model. `options` say what to run on and where to keep checkpoints.

        Raises what `LatentModel.fit` raises; NotEnoughTraining for one condition, and where every training cell fails;
        NeedsKnowledge and NoOverlap where `prior_graph` is not among the graphs given, or is of other genes;
        BadOption where effects are aligned without the strengths of mean-field embeddings.
        """
        from perturbcast.models.gpo_fit import fitted_state

        state = fitted_state(self, training, seed=seed, progress=progress, options=options)
        return FittedGpo(self, training.responses, state, split_fingerprint=training.split_fingerprint)
