"""Networks of benchmarked models are kept and scored against the simulated truth."""

import numpy as np
import pandas as pd
import pytest

from perturbcast.benchmarking.learned_networks import TABLE, TRUTH, truth_beside
from perturbcast.benchmarking.run import benchmark
from perturbcast.data.simulate import simulate
from perturbcast.models.registry import get_model
from perturbcast.networks.export import load_network
from perturbcast.networks.scores import score_network, truth_of_world
from perturbcast.networks.universe import universe_of
from perturbcast.report.build import build_report

TINY = {"n_latent": 3, "encoder_width": 8, "decoder_width": 8, "n_particles": 1, "n_averaged": 16, "max_epochs": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = simulate(n_cells=500, n_genes=40, n_targets=8, n_doubles=0, seed=2)
    folder = tmp_path_factory.mktemp("learned") / "world"
    made.write(folder)
    return made, folder


@pytest.fixture(scope="module")
def done(world, tmp_path_factory):
    """A benchmark of a model that learns a network, and of one that does not."""
    model = get_model("gpo-vae", **TINY, align_steps=40, unseen="refuse")
    out = tmp_path_factory.mktemp("learned") / "benchmark"
    _, folder = world
    return benchmark(
        folder / "screen.h5ad",
        models=[model, "mean"],
        splits="cells",
        out=out,
        knowledge=folder / "networks",
        metrics_profile="core",
    )


def test_only_models_that_learn_a_network_leave_one(done):
    kept = sorted(path.name for path in (done.folder / "networks").rglob("*.parquet"))
    assert kept == ["gpo-vae.parquet"]


def test_scores_are_those_of_the_network_against_the_truth_of_the_world(done, world):
    made, _ = world
    path = next((done.folder / "networks").rglob("*.parquet"))
    scored = pd.read_parquet(done.folder / TABLE)
    truth = {score.score: score.value for score in _scored(load_network(path), made)}
    own = scored[scored["against"] == TRUTH].set_index("score")["value"]
    for name in ("auprc", "auroc", "signed_accuracy"):
        assert own[name] == pytest.approx(truth[name]), name
    assert "prior_graph" in set(scored["against"])
    at_k = scored[scored["score"] == "wasserstein"].sort_values("k")["value"].to_numpy()
    assert len(at_k)
    assert np.isfinite(at_k).all()


def _scored(network, made):
    return score_network(network, truth_of_world(made), universe=universe_of(made.screen))


def test_the_report_shows_the_network_its_scores_and_loads_nothing(done):
    page = build_report(done.folder).read_text()
    assert "The network that gpo-vae learned" in page
    assert "simulated truth" in page
    assert page.count("Around the top hubs") == 1
    assert 'placeholder="Find a gene"' in page
    assert "The network that mean learned" not in page
    assert page == build_report(done.folder).read_text()


def test_truth_is_found_only_beside_the_screen_of_a_simulated_world(world, tmp_path):
    _, folder = world
    assert truth_beside("screen", [folder / "screen.h5ad"]) is not None
    assert truth_beside("other", [folder / "screen.h5ad"]) is None
    assert truth_beside("screen", [tmp_path / "screen.h5ad", object()]) is None
