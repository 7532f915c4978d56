"""Data sets of a benchmark: what was read, its statistics, its gene knowledge, and a fingerprint of its contents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from perturbcast._progress import Progress
from perturbcast.benchmarking.fingerprint import data_fingerprint, fingerprint
from perturbcast.data.conditions import targets_of
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Decision, Screen
from perturbcast.errors import NothingToScore
from perturbcast.genes.knowledge import GeneKnowledge

Data = str | Path | Screen | ResponseTable


@dataclass(frozen=True)
class Dataset:
    """One data set, read once and handed to every process."""

    name: str  # unique in a benchmark
    responses: ResponseTable  # of all cells
    screen: Screen | None  # None where only responses are known
    fingerprint: str
    knowledge: GeneKnowledge = field(default_factory=GeneKnowledge)
    knowledge_fingerprint: str = ""
    decisions: tuple[Decision, ...] = ()

    @property
    def data(self) -> Screen | ResponseTable:
        """The cells where there are some, else the responses."""
        return self.responses if self.screen is None else self.screen


def load_datasets(
    data: Data | Sequence[Data],
    *,
    knowledge: GeneKnowledge | Sequence[str | Path] | str | Path | None = None,
    reading: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Dataset]:
    """The data sets, with statistics and knowledge; names made unique. NothingToScore if there is none."""
    many = [data] if isinstance(data, str | Path | Screen | ResponseTable) else list(data)
    if not many:
        raise NothingToScore("no data set was given.", "Pass at least one file.")
    loaded = [_load(one, dict(reading or {}), progress or Progress()) for one in many]
    return [_with_knowledge(dataset, knowledge) for dataset in _uniquely_named(loaded)]


def _load(data: Data, reading: dict[str, Any], progress: Progress) -> Dataset:
    from perturbcast.data.statistics import response_table

    if isinstance(data, str | Path):
        from perturbcast.data.readers import read

        data = read(data, **reading)
    if isinstance(data, ResponseTable):
        return Dataset(data.name, data, None, data_fingerprint(None, data))
    responses = response_table(data, progress=progress)
    return Dataset(data.name, responses, data, data_fingerprint(data, responses), decisions=data.decisions)


def _uniquely_named(datasets: Sequence[Dataset]) -> list[Dataset]:
    """Data sets of one name become name, name-2, name-3."""
    taken: dict[str, int] = {}
    unique = []
    for dataset in datasets:
        name = dataset.name or "screen"
        taken[name] = taken.get(name, 0) + 1
        unique.append(replace(dataset, name=name if taken[name] == 1 else f"{name}-{taken[name]}"))
    return unique


def _with_knowledge(dataset: Dataset, knowledge: Any) -> Dataset:
    if knowledge is None:
        return dataset
    if not isinstance(knowledge, GeneKnowledge):
        from perturbcast.genes.load import load_knowledge

        paths = [Path(knowledge)] if isinstance(knowledge, str | Path) else [Path(path) for path in knowledge]
        if not paths:
            return dataset
        targets = sorted({target for query in dataset.responses.queries for target in targets_of(query.condition)})
        knowledge = load_knowledge(paths, genes=dataset.responses.genes, targets=targets)
    contents = replace(knowledge, notes=())
    return replace(dataset, knowledge=knowledge, knowledge_fingerprint=fingerprint(contents))
