"""The two examples of CONTRIBUTING.md are run as they stand."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from worlds import make_evaluation

from perturbcast.metrics.base import _REGISTRY, all_metrics
from perturbcast.models import registry
from perturbcast.models.check import check_model

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text()
MODEL, METRIC = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def module_from(source: str, *, name: str, folder: Path):
    """The source as an imported module."""
    path = folder / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def metric_registry():
    """The registry of metrics, as it was before the test, afterwards."""
    all_metrics()
    before = dict(_REGISTRY)
    yield _REGISTRY
    _REGISTRY.clear()
    _REGISTRY.update(before)


def test_the_model_of_the_contributing_page_passes_the_conformance_suite(tmp_path):
    module = module_from(MODEL, name="shrunken_mean", folder=tmp_path)
    failed = [result for result in check_model(module.ShrunkenMean) if result.status == "failed"]
    assert not failed, failed


def test_the_metric_of_the_contributing_page_is_registered_and_right(tmp_path, metric_registry):
    module = module_from(METRIC, name="largest_error_metric", folder=tmp_path)
    evaluation = make_evaluation(cells=False)
    mask = np.ones_like(evaluation.truth.response, dtype=bool)
    expected = np.abs(evaluation.predicted.response - evaluation.truth.response).max(axis=1)
    np.testing.assert_allclose(module.largest_error(evaluation, mask), expected)
    assert "largest_error" in metric_registry


def test_models_are_found_by_their_file(tmp_path):
    assert "no-change" in registry.all_models()
