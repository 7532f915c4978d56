"""The plan of a benchmark: every data set, split, seed and fold times every model, each task with a stable key."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import perturbcast
from perturbcast.benchmarking.dataset import Dataset
from perturbcast.benchmarking.fingerprint import fingerprint
from perturbcast.data.conditions import is_double
from perturbcast.data.split import Split
from perturbcast.errors import UnknownOption, did_you_mean
from perturbcast.models.base import Model
from perturbcast.models.capabilities import TrainsByGradient
from perturbcast.models.registry import GROUPS, all_models, get_model, group

REFERENCES = ("no-change", "mean")  # run beside any model
REFERENCES_OF_DOUBLES = ("additive",)  # and these where doubles are tested
Kind = Literal["model", "ceilings", "queries"]


@dataclass(frozen=True)
class NamedModel:
    """A model under the name that tables give it."""

    label: str
    model: Model

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of name and hyper-parameters."""
        fields = {entry.name: repr(getattr(self.model, entry.name)) for entry in dataclasses.fields(self.model)}
        return fingerprint((self.label, self.model.card.name, fields))


@dataclass(frozen=True)
class Task:
    """The smallest unit that is run, stored and, after an interruption, repeated."""

    kind: Kind
    dataset: str
    split: Split
    label: str
    model: Model | None
    key: str  # names the stored part


@dataclass(frozen=True)
class Plan:
    """All tasks in the order of the tables."""

    datasets: tuple[Dataset, ...]
    splits: tuple[tuple[str, Split], ...]  # data set and split
    models: tuple[NamedModel, ...]
    tasks: tuple[Task, ...]
    profile: str

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all keys: two commands with equal fingerprints give equal tables."""
        return fingerprint([task.key for task in self.tasks])

    def settings(self) -> dict[str, Any]:
        """What was asked for, JSON-able, to say how two plans differ."""
        return {
            "datasets": {dataset.name: dataset.fingerprint for dataset in self.datasets},
            "splits": {f"{name} {split.name} seed {split.seed}": split.fingerprint for name, split in self.splits},
            "models": {named.label: named.fingerprint for named in self.models},
            "knowledge": {dataset.name: dataset.knowledge_fingerprint for dataset in self.datasets},
            "metrics": self.profile,
            "version": perturbcast.__version__,
        }


def make_plan(
    datasets: Sequence[Dataset],
    splits: Sequence[tuple[str, Split]],
    models: Sequence[NamedModel],
    *,
    profile: str,
    precision: str = "fp32",
) -> Plan:
    """The tasks of every data set and split: its queries, its ceilings, then the models, references first.

    `precision` is that of training by gradient, and makes other tasks of the models concerned.
    """
    by_name = {dataset.name: dataset for dataset in datasets}
    tasks = []
    for name, split in splits:
        tasks.append(_task("queries", by_name[name], split, None, profile, precision))
        tasks.append(_task("ceilings", by_name[name], split, None, profile, precision))
        chosen = with_references(models, split)
        tasks += [_task("model", by_name[name], split, named, profile, precision) for named in chosen]
    every = {named.label: named for task_split in splits for named in with_references(models, task_split[1])}
    return Plan(tuple(datasets), tuple(splits), tuple(every.values()), tuple(tasks), profile)


def _task(kind: Kind, dataset: Dataset, split: Split, named: NamedModel | None, profile: str, precision: str) -> Task:
    identity: dict[str, Any] = {
        "kind": kind,
        "dataset": (dataset.name, dataset.fingerprint),
        "split": (split.fingerprint, [(*query, group) for query, group in sorted(split.groups.items())]),
        "model": "" if named is None else named.fingerprint,
        "knowledge": dataset.knowledge_fingerprint if named is not None and named.model.card.uses_knowledge else "",
        "metrics": profile,
        "version": perturbcast.__version__,
    }
    if named is not None and isinstance(named.model, TrainsByGradient) and precision != "fp32":
        identity["precision"] = precision
    key = fingerprint(identity)
    if named is None:
        return Task(kind, dataset.name, split, kind, None, key)
    return Task(kind, dataset.name, split, named.label, named.model, key)


def with_references(models: Sequence[NamedModel], split: Split) -> list[NamedModel]:
    """The models with the simple baselines that always run beside them, these first."""
    names = list(REFERENCES)
    if any(is_double(query.condition) for query in split.test):
        names += REFERENCES_OF_DOUBLES
    given = {named.label: named for named in models}
    references = {name: given.get(name) or NamedModel(name, get_model(name)) for name in names}
    return list((references | given).values())


def named_models(
    names: Sequence[str | Model | NamedModel], *, fields: Mapping[str, Any] | None = None
) -> list[NamedModel]:
    """The models of names (`linear`, `mean:cells`), groups and objects, each once, with hyper-parameters set.

    A `NamedModel` keeps its label, and its fields as they are.

    A key of `fields` is `model.field` or `field`; the latter is set in every model named that has it. Raises
    UnknownModel, UnknownProfile, BadOption, and UnknownOption for a field that no model named has.
    """
    unused = set(fields or {})
    found: dict[str, NamedModel] = {}
    for name in _expanded(names):
        if isinstance(name, NamedModel):
            found.setdefault(name.label, name)
            continue
        if isinstance(name, Model):
            found.setdefault(name.label, NamedModel(name.label, name))
            continue
        own, used = _fields_of(name, fields or {})
        unused -= used
        model = get_model(name, **own)
        label = name if ":" in name and model != get_model(name.split(":")[0]) else model.label
        found.setdefault(label, NamedModel(label, model))
    if unused:
        known = sorted({entry.name for named in found.values() for entry in dataclasses.fields(named.model)})
        missing = sorted(unused)[0]
        raise UnknownOption(f"none of the models named has a field {missing!r}. {did_you_mean(missing, known)}")
    return list(found.values())


def _expanded(names: Sequence[str | Model | NamedModel]) -> list[str | Model | NamedModel]:
    """Names with groups replaced by their members."""
    return [one for name in names for one in (group(name) if isinstance(name, str) and name in GROUPS else [name])]


def _fields_of(name: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The fields meant for a model, and the keys that named them."""
    base = name.split(":")[0]
    model = all_models().get(base)
    known = {entry.name for entry in dataclasses.fields(model)} if model is not None else set()
    own, used = {}, set()
    for key, value in fields.items():
        owner, dot, entry = key.rpartition(".")
        if (dot and owner in (base, name)) or (not dot and key in known):
            own[entry] = value
            used.add(key)
    return own, used
