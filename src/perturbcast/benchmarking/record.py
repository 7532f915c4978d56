"""run.json: what was run, on what, with which versions, what the audit found, and what it cost."""

import dataclasses
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import perturbcast
from perturbcast.benchmarking.dataset import Dataset
from perturbcast.benchmarking.plan import NamedModel, Plan
from perturbcast.data.audit import AuditReport
from perturbcast.data.inspect import inspection_of
from perturbcast.data.split import Split

FORMAT = 1
PACKAGES = ("numpy", "scipy", "pandas", "anndata", "scikit-learn", "illico", "pyarrow")


def run_record(
    plan: Plan,
    *,
    configuration: Mapping[str, Any],
    audits: Sequence[AuditReport],
    warnings: Sequence[str],
    seconds: float,
    n_done_now: int,
) -> dict[str, Any]:
    """The contents of run.json; all but `finished`, `seconds`, `peak_memory_mb` and `n_tasks_this_time` repeat."""
    return {
        "format": FORMAT,
        "fingerprint": plan.fingerprint,
        "configuration": dict(configuration),
        "versions": versions(),
        "datasets": [_dataset(dataset) for dataset in plan.datasets],
        "splits": [_split(*pair, audit) for pair, audit in zip(plan.splits, audits, strict=True)],
        "models": [_model(named) for named in plan.models],
        "warnings": list(warnings),
        "n_tasks": len(plan.tasks),
        "n_tasks_this_time": n_done_now,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }


def versions() -> dict[str, str]:
    """Versions of the package, of Python and of the packages that numbers depend on."""
    found = {"perturbcast": perturbcast.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float:
    """Largest resident memory of this process or of any of its ended children, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(peaks) * unit / 1e6


def _dataset(dataset: Dataset) -> dict[str, Any]:
    table, screen = dataset.responses, dataset.screen
    source = "" if screen is None else str(screen.uns.get("source", ""))
    facts = {
        "kind": "responses" if screen is None else "cells",
        "cells": None if screen is None else screen.n_cells,
        "control cells": None if screen is None else int(screen.is_control.sum()),
        "genes": table.n_genes,
        "conditions": len(set(table.conditions)),
        "targets": len(table.targets),
        "contexts": ", ".join(context for context in table.contexts if context),
        "scale": str(table.scale),
        "unit of responses": table.unit,
        "source": source,
    }
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "unit": table.unit,
        "facts": {name: fact for name, fact in facts.items() if fact not in (None, "")},
        "decisions": [dataclasses.asdict(decision) for decision in dataset.decisions],
        "problems": [f"{problem.what} {problem.what_to_do}" for problem in inspection_of(dataset.data).problems],
        "knowledge": {"fingerprint": dataset.knowledge_fingerprint, "notes": list(dataset.knowledge.notes)},
    }


def _split(name: str, split: Split, audit: AuditReport) -> dict[str, Any]:
    return {
        "dataset": name,
        "split": split.rule,
        "seed": split.seed,
        "fold": -1 if split.fold is None else split.fold,
        "fingerprint": split.fingerprint,
        "n_train": len(split.train),
        "n_valid": len(split.valid),
        "n_test": len(split.test),
        "checked": list(audit.checked),
        "findings": [{"severity": finding.severity, "finding": str(finding)} for finding in audit.findings],
    }


def _model(named: NamedModel) -> dict[str, Any]:
    card = named.model.card
    fields = {entry.name: getattr(named.model, entry.name) for entry in dataclasses.fields(named.model)}
    return {
        "name": named.label,
        "title": card.title,
        "source": card.source,
        "baseline": card.baseline,
        "fields": {name: _plain(value) for name, value in fields.items()},
    }


def _plain(value: Any) -> Any:
    """The value if JSON can hold it, else its text."""
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)
