"""What models of cells are told of targets: which training target each is, and what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from perturbcast.data.conditions import targets_of
from perturbcast.errors import CannotPredict, did_you_mean
from perturbcast.genes.knowledge import GeneKnowledge
from perturbcast.models.base import TrainingData, decode_text, encode_text
from perturbcast.models.embeddings_of_targets import TargetFeatures
from perturbcast.models.gene_views import unit_rows
from perturbcast.models.knowledge_views import response_view
from perturbcast.models.node_table import known_tables


@dataclass(frozen=True)
class TargetInputs:
    """The inputs of each target: one for each training target by name, then what is known of it."""

    names: tuple[str, ...]
    n_own: int  # training targets, the first of the names
    known: Float[np.ndarray, "target feature"]  # float16; no columns where only names are inputs

    @property
    def width(self) -> int:
        """Inputs of a query."""
        return self.n_own + self.known.shape[1]

    @cached_property
    def row(self) -> dict[str, int]:
        """Row of each target."""
        return {name: place for place, name in enumerate(self.names)}

    def dose(self, condition: str) -> Float[np.ndarray, " input"]:
        """Summed inputs of the targets; zeros for control. CannotPredict for a target of which there is nothing."""
        found = np.zeros(self.width, dtype=np.float32)
        missing = [target for target in targets_of(condition) if target not in self.row]
        if missing:
            named = ", ".join(map(repr, missing))
            raise CannotPredict(f"nothing is known of {named}. {did_you_mean(missing[0], self.names)}")
        for target in targets_of(condition):
            place = self.row[target]
            if place < self.n_own:
                found[place] = 1.0
            found[self.n_own :] += self.known[place]
        return found

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which `restored` makes the inputs again."""
        size = np.array([self.n_own], dtype=np.int64)
        return {"inputs.names": encode_text(self.names), "inputs.own": size, "inputs.known": self.known}

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray]) -> "TargetInputs":
        """The inputs whose `state` is among these arrays."""
        names = tuple(decode_text(state["inputs.names"]))
        return cls(names, int(state["inputs.own"][0]), np.asarray(state["inputs.known"]))


def target_inputs(training: TrainingData, *, knowledge: bool) -> TargetInputs:
    """Inputs of the training targets, and with `knowledge` of every gene that is known or measured.

    What knowledge says is the same at every fit and made once. Beside it stand the principal axes of the training
    responses in which measured genes differ.
    """
    own = training.responses.targets
    if not knowledge:
        return TargetInputs(own, len(own), np.zeros((len(own), 0), dtype=np.float16))
    known = training.knowledge.derived(known_genes)
    n_known = known.matrix.shape[1]
    responding = co_response(training, width=n_known)
    names = (*own, *sorted((set(known.row) | set(responding.row)) - set(own)))
    found = np.zeros((len(names), n_known + responding.matrix.shape[1]), dtype=np.float16)
    for table, columns in ((known, slice(n_known)), (responding, slice(n_known, None))):
        there = [(place, table.row[name]) for place, name in enumerate(names) if name in table.row]
        if there:
            places, at = np.array(there, dtype=np.int64).T
            found[places, columns] = table.matrix[at]
    return TargetInputs(names, len(own), found)


def known_genes(knowledge: GeneKnowledge) -> TargetFeatures:
    """All tables of the knowledge side by side, and whether each knows the gene; float16, rows no longer than 1."""
    tables = list(knowledge.derived(known_tables).values())
    names = sorted({name for table in tables for name in table.row})
    place = {name: number for number, name in enumerate(names)}
    width = sum(table.matrix.shape[1] + 1 for table in tables)
    found, start = np.zeros((len(names), width), dtype=np.float16), 0
    for table in tables:
        rows = [place[name] for name in table.row]
        own = table.matrix[list(table.row.values())]
        end = start + own.shape[1]
        found[rows, start:end] = own * np.sqrt(own.shape[1] / width)
        found[rows, end] = own.any(axis=1) / np.sqrt(width)
        start = end + 1
    kept = np.flatnonzero(found.any(axis=1))
    return TargetFeatures.of("known", [names[number] for number in kept], found[kept])


def co_response(training: TrainingData, *, width: int) -> TargetFeatures:
    """Measured genes by how they respond across training conditions; an axis counts as one of `width` features."""
    for view in response_view(training.responses.by_query()):
        n_axes = view.matrix.shape[1]
        matrix = unit_rows(view.matrix) * np.sqrt(n_axes / max(width, n_axes))
        return TargetFeatures.of(view.name, [str(gene) for gene in view.genes], matrix)
    return TargetFeatures("nothing", {}, np.zeros((0, 0)))
