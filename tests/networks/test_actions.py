"""The actions of `perturbcast network` from file to file."""

import numpy as np
import pandas as pd
import pytest

from perturbcast.data.simulate import simulate
from perturbcast.errors import BadOption, UnknownGenes, WrongKind
from perturbcast.networks.actions import SCORE_TABLE, convert_network, infer_network, score_saved
from perturbcast.networks.export import load_network
from perturbcast.networks.network import Network


@pytest.fixture(scope="module")
def world():
    return simulate(n_cells=1200, n_genes=60, n_targets=8, n_doubles=0, seed=0)


def test_a_network_is_inferred_cut_written_converted_and_scored(world, tmp_path):
    out = tmp_path / "net.parquet"
    network = infer_network(world.screen, out=out, top=100, train_only=True)
    assert load_network(out).edges().equals(network.edges())
    assert network.n_edges == 100
    short = convert_network(out, tmp_path / "net.sif", top=10)
    assert load_network(tmp_path / "net.sif").n_edges == short.n_edges == 10
    assert infer_network(world.screen, threshold=0.5).weight.min() > 0.5
    stable = infer_network(world.screen, n_stability=3, top=20)
    assert stable.column("stability").max() == 1
    world.prior_graph.to_csv(tmp_path / "prior.csv", index=False)
    table = score_saved(
        out, world.screen, references=[tmp_path / "prior.csv"], tops=[5, 20], targets="measured", n_bootstrap=10
    )
    assert list(table) == list(SCORE_TABLE)
    held = table[table["against"] == "held-out cells"]
    assert set(held["score"]) == {"wasserstein", "significant", "false_omission_rate"}
    assert set(held["k"]) == {5, 20}
    other = table[table["against"].str.startswith("prior ")].set_index("score")
    assert other.loc["auroc", "value"] > 0.55
    assert isinstance(table, pd.DataFrame)


def test_networks_and_files_that_do_not_fit_are_refused(world, tmp_path):
    foreign = Network.of_edges(["TP53", "MYC"], np.array([0]), np.array([1]), np.ones(1))
    with pytest.raises(UnknownGenes, match="E806"):
        score_saved(foreign, world.screen)
    with pytest.raises(BadOption):
        infer_network(world.screen, top=-1)
    with pytest.raises(WrongKind):
        infer_network(world.responses)
