"""Predict how cells respond to genetic perturbations, and say how far each prediction can be trusted.

The names below are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "Benchmark": "perturbcast.benchmarking.run",
    "GeneKnowledge": "perturbcast.genes.knowledge",
    "PerturbcastError": "perturbcast.errors",
    "Prediction": "perturbcast.data.prediction",
    "Query": "perturbcast.data.conditions",
    "ResponseTable": "perturbcast.data.responses",
    "Screen": "perturbcast.data.screen",
    "Split": "perturbcast.data.split",
    "TrainingData": "perturbcast.models.base",
    "benchmark": "perturbcast.benchmarking.run",
    "build_report": "perturbcast.report.build",
    "check_model": "perturbcast.models.check",
    "clean": "perturbcast.models.clean_file",
    "differential_expression": "perturbcast.data.de",
    "from_anndata": "perturbcast.data.readers",
    "get_model": "perturbcast.models.registry",
    "inspect": "perturbcast.data.inspect",
    "load_knowledge": "perturbcast.genes.load",
    "load_model": "perturbcast.models.artefact",
    "make_splits": "perturbcast.data.splits",
    "read": "perturbcast.data.readers",
    "response_table": "perturbcast.data.statistics",
    "simulate": "perturbcast.data.simulate",
}
_OTHER_NAME = {"load_model": "load"}

if TYPE_CHECKING:
    from perturbcast.benchmarking.run import Benchmark, benchmark
    from perturbcast.data.conditions import Query
    from perturbcast.data.de import differential_expression
    from perturbcast.data.inspect import inspect
    from perturbcast.data.prediction import Prediction
    from perturbcast.data.readers import from_anndata, read
    from perturbcast.data.responses import ResponseTable
    from perturbcast.data.screen import Screen
    from perturbcast.data.simulate import simulate
    from perturbcast.data.split import Split
    from perturbcast.data.splits import make_splits
    from perturbcast.data.statistics import response_table
    from perturbcast.errors import PerturbcastError
    from perturbcast.genes.knowledge import GeneKnowledge
    from perturbcast.genes.load import load_knowledge
    from perturbcast.models.artefact import load as load_model
    from perturbcast.models.base import TrainingData
    from perturbcast.models.check import check_model
    from perturbcast.models.clean_file import clean
    from perturbcast.models.registry import get_model
    from perturbcast.report.build import build_report


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'perturbcast' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), _OTHER_NAME.get(name, name))


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "Benchmark",
    "GeneKnowledge",
    "PerturbcastError",
    "Prediction",
    "Query",
    "ResponseTable",
    "Screen",
    "Split",
    "TrainingData",
    "__version__",
    "benchmark",
    "build_report",
    "check_model",
    "clean",
    "differential_expression",
    "from_anndata",
    "get_model",
    "inspect",
    "load_knowledge",
    "load_model",
    "make_splits",
    "read",
    "response_table",
    "simulate",
]
