"""The public names are a promise: they exist, and none disappears unnoticed."""

import perturbcast

PUBLIC = {
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
}


def test_the_public_names_are_exactly_those_promised():
    assert set(perturbcast.__all__) == PUBLIC == set(dir(perturbcast))


def test_every_public_name_can_be_loaded_and_is_documented():
    for name in PUBLIC - {"__version__"}:
        assert getattr(perturbcast, name).__doc__, name


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert perturbcast.__version__ == version("perturbcast")
