"""GPO-VAE (spec 5): the mask of the perturbations' embeddings is the gene regulatory network."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from perturbcast._progress import Progress
from perturbcast.data.artefacts import PUBLISHED as PUBLISHED_RULE
from perturbcast.data.artefacts import ArtefactLabels, ArtefactRule, artefact_labels
from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.prediction import Support
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.errors import CannotPredict, did_you_mean
from perturbcast.models.base import FittedModel, ModelCard, TrainingData, decode_text
from perturbcast.models.fields import Range
from perturbcast.models.gpo_unseen import FEATURES, answer, restored
from perturbcast.models.kernel_ridge import FittedKernelRidge
from perturbcast.models.latent_family import BOUND_BATCH, NET, PUBLISHED, QUICK, UNSEEN, FittedLatent, LatentModel
from perturbcast.networks.network import Network

if TYPE_CHECKING:
    from perturbcast.training.plan import RunOptions

PAPER: dict[str, Any] = PUBLISHED | {
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
    "artefact": "network",
    "quality": "published",
    "reconstruction": "paper",
    "counterfactual_kl": "published",
    "counterfactual_draws": "separate",
    "anchored": False,
    "max_epochs": 2000,
    "max_steps": None,
    "patience": 30,
    "diagonal": True,
    "unseen": "refuse",
}


class FittedGpo(FittedLatent):
    """A trained network; `network_of_genes` reads the regulatory network out."""

    @cached_property
    def sources(self) -> dict[str, int]:
        """The targets of training and their dosage columns; extended genes come after them."""
        return {name: place for name, place in self.columns.items() if place < int(self._state["n_perturbed"][0])}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out and why: labels of artefacts that could not be told."""
        return tuple(decode_text(self._state["notes"]))

    @property
    def extended(self) -> tuple[str, ...]:
        """Genes of the network that were never perturbed (spec 5.7)."""
        return tuple(name for name in self.columns if name not in self.sources)

    @cached_property
    def network(self) -> Any:
        """The neural network with its learned weights."""
        import torch

        from perturbcast.nn.latent import standardiser

        n_genes = len(self.genes)
        blank = standardiser(np.zeros(n_genes), np.ones(n_genes), "counts" if self.likelihood == "counts" else "normal")
        arrays = {name.removeprefix(NET): value for name, value in self._state.items() if name.startswith(NET)}
        with torch.random.fork_rng(devices=[]):  # weights are drawn before they are replaced
            network = self._gpo.neural(
                n_perturbed=len(self.sources),
                n_columns=len(self.columns),
                standardise=blank,
                likelihood=self.likelihood,
                n_artefacts=int(self._state["n_artefacts"][0]),
                prior=arrays["prior"],
                coupling=arrays["coupling"],
            )
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        return network.eval()

    @property
    def _gpo(self) -> "GpoVae":
        assert isinstance(self.model, GpoVae)
        return self.model

    def dosage(self, condition: str) -> Float[np.ndarray, " column"]:
        """1 in the columns of the condition's targets; CannotPredict for targets that were not in training."""
        row = np.zeros(len(self.columns), dtype=np.float32)
        missing = [target for target in targets_of(condition) if target not in self.sources]
        if missing:
            named = ", ".join(map(repr, missing))
            raise CannotPredict(f"{UNSEEN.format(targets=named)} {did_you_mean(missing[0], self.sources)}")
        row[[self.sources[target] for target in targets_of(condition)]] = 1.0
        return row

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
        return response, None, rests_on

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

    def label(self, screen: Screen) -> ArtefactLabels:
        """Quality of the cells of a screen by the rule of the model; limits are those of that screen."""
        return self._gpo.labels_of(screen)

    def clean(
        self,
        screen: Screen,
        *,
        failed: np.ndarray | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        **choices: Any,
    ) -> Screen:
        """The screen with its failing cells as they would be without artefacts; by the rule of the model, or as given.

        `choices` are those of `models.cleaning.clean_cells`, which also says what is raised.
        """
        from perturbcast.models.cleaning import clean_cells

        failed = self.label(screen).failed if failed is None else failed
        return clean_cells(self, screen, failed=failed, seed=seed, progress=progress, **choices)

    def evidence_bound(self, screen: Screen, *, n_particles: int = 100, seed: int = 0) -> Float[np.ndarray, " cell"]:
        """Importance-weighted bound on ln p of each cell, in nats (equation (27)), every cell taken as of good quality.

        `screen` has the genes of training, in any order, and its scale. CannotPredict for targets not in training.
        """
        import torch

        from perturbcast.nn.cells import CellBatches
        from perturbcast.nn.counterfactual import LabelledBatches

        for code in np.unique(screen.condition_code):
            self.dosage(screen.conditions[code])
        cells = np.arange(screen.n_cells)
        plain = CellBatches.of(screen, columns=list(self.columns), train_cells=cells)
        good = np.zeros((screen.n_cells, int(self._state["n_artefacts"][0])), dtype=np.float32)
        source, found = LabelledBatches(plain, good, cells), []
        with torch.no_grad():
            for number, start in enumerate(range(0, len(cells), BOUND_BATCH)):
                batch = source.batch(cells[start : start + BOUND_BATCH])
                found.append(self.network.bound(batch, seed=seed + number, n_particles=n_particles).numpy())
        return np.concatenate(found).astype(np.float64)


@dataclass(frozen=True)
class GpoVae(LatentModel):
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
    decoder_layers: Annotated[int, Range(1)] = 2  # spec 6
    guide: Literal["correlated", "mean-field"] = "mean-field"  # q(E | M); mean-field: strengths of edges
    embedding_width: Annotated[int, Range(1)] = 400  # of correlated embeddings and published artefacts; spec 6
    embedding_layers: Annotated[int, Range(1)] = 4  # spec 6
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
    artefact: Literal["free", "network"] = "free"  # q(a); network: published (B17)
    quality: Literal["rule", "published", "none"] = "rule"  # how cells of low quality are told (spec 4.3)
    doublets: bool = False  # also by Scrublet, which takes about a minute per 10,000 cells; published
    reconstruction: Literal["none", "paper", "balanced"] = "balanced"  # (15) and B9
    counterfactual: Annotated[float, Range(0.0)] = 0.1  # β; spec 6
    counterfactual_kl: Literal["exact", "published"] = "exact"  # (7) or (17)
    counterfactual_draws: Literal["shared", "separate"] = "shared"
    anchored: bool = True  # draw predictions of seen conditions to their training means
    unseen: Literal["responses", "rows", "refuse"] = "responses"  # what is learned as a function of gene features
    likeness: Annotated[float, Range(0.0, 0.99)] = 0.5  # κ: share of the variance of a row that gene features explain

    def labels_of(self, screen: Screen, *, seed: int = 0) -> ArtefactLabels:
        """Which cells fail, by the fields of the model."""
        if self.quality == "none":
            return artefact_labels(screen, given=np.zeros(screen.n_cells, dtype=bool))
        rule = PUBLISHED_RULE if self.quality == "published" else ArtefactRule()
        flags = [flag for flag in rule.flags if flag != "doublet"] + ["doublet"] * self.doublets
        return artefact_labels(screen, rule=replace(rule, flags=tuple(flags)), seed=seed)

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
        prior: np.ndarray | None = None,
        targets: Any = None,
        coupling: np.ndarray | None = None,
    ) -> Any:
        """The neural network for that many perturbed and all genes of the regulatory network."""
        from perturbcast.nn.cradle_net import CradleShape
        from perturbcast.nn.gpo_net import GpoNet, GpoShape

        cradle = CradleShape(
            n_targets=n_columns,
            n_offset=n_columns,
            n_artefacts=n_artefacts,
            embedding_width=self.embedding_width,
            embedding_layers=self.embedding_layers,
            artefact=self.artefact if n_artefacts else "free",
            mask_prior=self.mask_prior,
            reconstruction=self.reconstruction if n_artefacts else "none",  # (15) is 0 where no cell fails
            counterfactual=self.counterfactual,
            counterfactual_kl=self.counterfactual_kl,
            counterfactual_draws=self.counterfactual_draws,
            counterfactual_batch=None if self.counterfactual_kl == "published" else 512,
            **self.shape_fields(likelihood),
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

        Raises what `LatentModel.fit` raises; NeedsKnowledge where `prior_graph` is not among the graphs given;
        BadOption where effects are aligned without the strengths of mean-field embeddings.
        """
        from perturbcast.models.gpo_fit import fitted_state

        state = fitted_state(self, training, seed=seed, progress=progress, options=options)
        return FittedGpo(self, training.responses, state, split_fingerprint=training.split_fingerprint)
