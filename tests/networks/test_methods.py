"""Methods of inference: what every one keeps, and what each one is."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, spearmanr, ttest_ind

from perturbcast.data.conditions import Query
from perturbcast.data.simulate import simulate
from perturbcast.errors import BadOption, NoEvaluablePair, OutputExists, UnknownMethod, UnknownOption
from perturbcast.networks.covariation import correlations, dense_columns
from perturbcast.networks.from_model import NetworkFromModel, network_of_model
from perturbcast.networks.infer_boosting import Boosting, explained, forecast
from perturbcast.networks.infer_lasso import best_coefficients
from perturbcast.networks.infer_local_response import local_responses
from perturbcast.networks.infer_partial_correlation import shrunken
from perturbcast.networks.methods import all_methods, get_method, infer, method_list
from perturbcast.networks.network import Network
from perturbcast.networks.scores import score_network, truth_of_world
from perturbcast.networks.stability import bootstrap_cells, stability
from perturbcast.networks.universe import GAIN, LOSS, direction_of, universe_of

QUICK = {"boosting": {"n_trees": 4}}


@pytest.fixture(scope="module")
def world():
    return simulate(n_cells=900, n_genes=60, n_targets=10, n_doubles=3, seed=1)


def quick(screen, name, seed=0):
    return infer(screen, method=name, seed=seed, **QUICK.get(name, {}))


@pytest.mark.parametrize("name", all_methods())
def test_every_method_links_perturbed_genes_to_measured_ones_and_repeats(world, name):
    network = quick(world.screen, name)
    edges = network.edges()
    assert network.n_edges > 0
    assert set(edges["source"]) <= set(world.targets)
    assert set(edges["target"]) <= {str(gene) for gene in world.genes}
    assert not (edges["source"] == edges["target"]).any()
    assert (network.weight > 0).all()
    assert edges.equals(quick(world.screen, name).edges())
    assert network.method == name
    assert network.is_perturbed.sum() == 10


@pytest.mark.parametrize("name", [name for name in all_methods() if name != "random"])
def test_renaming_and_reordering_genes_changes_no_edge(world, name):
    screen = world.screen
    order = np.random.default_rng(0).permutation(screen.n_genes)
    matrix = dataclasses.replace(screen.matrix, matrix=screen.matrix.matrix[:, order])
    moved = dataclasses.replace(screen, genes=screen.genes[order], matrix=matrix)
    one, two = (quick(part, name).edges().set_index(["source", "target"])["weight"] for part in (screen, moved))
    if name == "boosting":  # which regulators a split is offered depends on their order
        assert spearmanr(one, two.reindex(one.index, fill_value=0.0)).statistic > 0.6
        return
    np.testing.assert_allclose(two.reindex(one.index).to_numpy(), one.to_numpy(), rtol=2e-4, atol=1e-7)


def test_every_method_but_random_beats_chance_on_the_simulated_world(world):
    universe, truth = universe_of(world.screen), truth_of_world(world)
    for name in all_methods():
        found = {s.score: s for s in score_network(quick(world.screen, name), truth, universe=universe)}
        assert (found["auroc"].value > 0.6) == (name != "random"), name
        if name != "random":
            assert found["signed_accuracy"].value > 0.7, name


def test_mean_difference_is_the_difference_of_means_with_welchs_test(world):
    screen = world.screen
    source, gene = universe_of(world.screen).sources[0], 7
    control = dense_columns(screen, genes=np.array([gene]), cells=np.flatnonzero(screen.is_control))[:, 0]
    cells = np.flatnonzero(screen.condition_code == screen.conditions.index(source))
    own = dense_columns(screen, genes=np.array([gene]), cells=cells)[:, 0]
    network = infer(screen, method="mean-difference")
    name = str(screen.genes[gene])
    difference = float(own.mean()) - float(control.mean())
    assert network.between([source], [name])[0, 0] == pytest.approx(abs(difference), rel=1e-5)
    assert network.between([source], [name], column="sign")[0, 0] == -np.sign(difference)  # a loss
    welch = ttest_ind(own, control, equal_var=False)
    assert network.between([source], [name], column="p_value")[0, 0] == pytest.approx(welch.pvalue, rel=1e-4)
    ranked = infer(screen, method="mean-difference", weight="t", test="rank-sum")
    assert ranked.between([source], [name])[0, 0] == pytest.approx(abs(welch.statistic), rel=1e-4)
    p = mannwhitneyu(own, control, method="asymptotic").pvalue
    assert ranked.between([source], [name], column="p_value")[0, 0] == pytest.approx(p, rel=1e-6)


def test_signs_turn_with_the_kind_of_perturbation(world):
    screen = world.screen
    turned = dataclasses.replace(screen, uns=screen.uns | {"perturbation": "activation"})
    loss, gain = (infer(part, method="mean-difference") for part in (screen, turned))
    np.testing.assert_array_equal(loss.sign, -gain.sign)
    silent = dataclasses.replace(screen, uns={})
    assert direction_of(silent, own_effects={"A": -0.5, "B": -0.2}) == LOSS
    assert direction_of(silent, own_effects={"A": 0.5, "B": 0.2}) == GAIN
    assert direction_of(silent, own_effects={}) == LOSS


def test_correlations_are_numpys(world):
    dense = dense_columns(world.screen, genes=np.arange(60), cells=np.arange(900)).astype(float)
    found = correlations(world.screen, rows=np.array([3, 9]))
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(np.corrcoef(dense.T))[[3, 9]]
    np.testing.assert_allclose(found.matrix, np.where(found.varies, expected, 0), atol=1e-8)


def test_shrinkage_is_scikit_learns():
    from sklearn.covariance import OAS

    data = np.random.default_rng(0).normal(size=(40, 12)) @ np.random.default_rng(1).normal(size=(12, 12))
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    np.testing.assert_allclose(
        shrunken(data.T @ data / 40, n_cells=40), OAS(assume_centered=True).fit(data).covariance_
    )


def test_partial_correlation_drops_an_indirect_link():
    rng = np.random.default_rng(0)
    a = rng.normal(size=20_000)
    b = a + rng.normal(size=20_000)
    c = b + rng.normal(size=20_000)
    inverse = np.linalg.inv(shrunken(np.corrcoef([a, b, c]), n_cells=20_000))
    assert abs(inverse[0, 2]) < 0.05 < abs(inverse[0, 1])


def test_graphical_lasso_is_sparser(world):
    few = infer(world.screen, method="partial-correlation", estimator="graphical-lasso", alpha=0.2)
    assert few.n_edges < infer(world.screen, method="partial-correlation").n_edges / 2


def test_lasso_finds_the_planted_regressors():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(5000, 6))
    output = 0.8 * inputs[:, 1] - 0.3 * inputs[:, 4] + rng.normal(size=5000)
    inputs, output = (inputs - inputs.mean(0)) / inputs.std(0), (output - output.mean()) / output.std()
    found = best_coefficients(inputs.T @ inputs / 5000, inputs.T @ output / 5000, n_cells=5000)
    assert np.argsort(-np.abs(found))[:2].tolist() == [1, 4]
    assert np.abs(found[[0, 2, 3, 5]]).max() < 0.03 < -found[4]
    assert found[1] == pytest.approx(0.8 / np.sqrt(1.73), abs=0.03)
    assert best_coefficients(np.zeros((0, 0)), np.zeros(0), n_cells=5).shape == (0,)


def test_local_responses_invert_a_linear_network(world):
    """Global responses of a linear network, without noise, give back its direct edges."""
    table = infer_table(world)
    found = local_responses(table.table, sources=np.arange(5), ridge=1e-9, centre=False)
    np.testing.assert_allclose(found, table.weights[:5], atol=1e-5)


@dataclasses.dataclass
class Linear:
    """A planted linear network of 5 sources and 7 genes and its exact responses."""

    table: object
    weights: np.ndarray


def infer_table(world):
    from perturbcast.data.responses import ResponseTable

    rng = np.random.default_rng(3)
    weights = np.zeros((7, 7))
    weights[:5] = np.where(rng.random((5, 7)) < 0.4, rng.normal(scale=0.4, size=(5, 7)), 0.0)
    np.fill_diagonal(weights, 0.0)
    response = (-np.eye(7)[:5]) @ np.linalg.inv(np.eye(7) - weights)
    genes = np.array([f"G{number}" for number in range(7)], dtype=object)
    table = ResponseTable(
        name="linear",
        scale=world.responses.scale,
        genes=genes,
        queries=tuple(Query(f"G{number}") for number in range(5)),
        response=response,
        contexts=("",),
        control=np.zeros((1, 7)),
    )
    return Linear(table, weights)


def test_variance_explained_by_splits_is_the_fit_of_the_trees():
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2000, 4)).astype(np.float32)
    output = inputs[:, 2] + 0.5 * np.sin(3 * inputs[:, 0]) + 0.3 * rng.normal(size=2000)
    model = HistGradientBoostingRegressor(max_iter=60, max_depth=3, learning_rate=0.1, early_stopping=False)
    model.fit(inputs, output)
    shares = explained(model, n_features=4) / output.var()
    fit = 1 - ((output - model.predict(inputs)) ** 2).mean() / output.var()
    assert shares.sum() == pytest.approx(fit, abs=0.01)
    assert np.argsort(-shares)[:2].tolist() == [2, 0]
    assert shares[[1, 3]].max() < 0.05 < shares[0]


def test_a_stopped_boosting_goes_on_where_it_was_and_ends_the_same(world, tmp_path, monkeypatch):
    from perturbcast.networks import infer_boosting

    method, folder = get_method("boosting", n_trees=3), tmp_path / "parts"
    whole = method.infer(world.screen, seed=5)
    computed = []
    gains = infer_boosting._Work.gains

    def stopping(self, genes):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(genes)
        return gains(self, genes)

    monkeypatch.setattr(infer_boosting._Work, "gains", stopping)
    with pytest.raises(KeyboardInterrupt):
        method.infer(world.screen, seed=5, parts=folder)
    assert len(list(folder.glob("*.npy"))) == 2
    computed.clear()
    monkeypatch.setattr(infer_boosting, "GENES_AT_ONCE", 16)
    assert method.infer(world.screen, seed=5, parts=folder).edges().equals(whole.edges())
    assert len(computed) == 2  # four blocks of 60 genes, two of them kept
    with pytest.raises(OutputExists):
        method.infer(world.screen, seed=6, parts=folder)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists):
        method.infer(world.screen, parts=tmp_path / "else")


def test_forecast_is_a_time(world):
    assert 0 < forecast(Boosting(n_trees=2), world.screen, n_genes=2) < 600


def test_any_fitted_model_says_a_network(world):
    from perturbcast.models.base import TrainingData
    from perturbcast.models.registry import get_model

    fitted = get_model("linear").fit(TrainingData.of(world.screen))
    assert isinstance(fitted, NetworkFromModel)
    network = network_of_model(fitted, world.screen)
    assert network.method == "model linear"
    sources, genes = universe_of(world.screen).sources, [str(gene) for gene in world.genes]
    response = fitted.predict(sources).response
    other = universe_of(world.screen).pairs
    np.testing.assert_allclose(network.between(sources, genes)[other], np.abs(response)[other])
    np.testing.assert_array_equal(network.between(sources, genes, column="sign")[other], -np.sign(response)[other])
    unseen = str(next(gene for gene in world.genes if gene not in world.targets))
    asked = network_of_model(fitted, world.screen, sources=[unseen])
    assert set(asked.edges()["source"]) == {unseen}


def test_a_model_that_refuses_every_source_gives_no_network(world):
    from perturbcast.models.base import TrainingData
    from perturbcast.models.registry import get_model

    fitted = get_model("linear").fit(TrainingData.of(world.screen))
    everywhere = Query("A", "no such context")
    refused = dataclasses.replace(fitted.predict([everywhere]), queries=(Query("A"),))

    class Elsewhere:
        genes = fitted.genes

        def predict(self, queries):
            return refused

    with pytest.raises(NoEvaluablePair, match="E508"):
        network_of_model(Elsewhere(), world.screen, sources=["A"])


def test_bootstrap_keeps_the_size_of_every_condition(world):
    screen = world.screen
    drawn = screen.take(bootstrap_cells(screen, seed=0))
    np.testing.assert_array_equal(np.bincount(drawn.condition_code), np.bincount(screen.condition_code))
    assert len(np.unique(drawn.row)) < screen.n_cells


def test_stability_tells_strong_edges_from_weak_ones(world):
    found = stability(world.screen, method="mean-difference", n=12, top=20)
    often = found.column("stability")
    assert often[:5].min() > 0.9 > 0.1 > often[-200:].max()
    assert often.sum() == pytest.approx(20, abs=1e-9)  # every repeat has 20 strongest edges
    assert (found.column("ci_low") <= found.column("ci_high")).all()
    inside = (found.column("ci_low") <= found.weight) & (found.weight <= found.column("ci_high"))
    assert inside[:100].mean() > 0.9
    seeds = stability(world.screen, method="random", n=20, top=50, over="seeds")
    assert seeds.column("stability").max() < 0.5


@pytest.mark.parametrize(
    ("error", "make"),
    [
        (UnknownMethod, lambda: get_method("mean-diference")),
        (UnknownOption, lambda: get_method("boosting", trees=3)),
        (BadOption, lambda: get_method("boosting", n_trees="many")),
        (BadOption, lambda: get_method("boosting", n_trees=2.5)),
        (BadOption, lambda: get_method("boosting", n_trees=0)),
        (BadOption, lambda: get_method("boosting", learning_rate=2)),
        (BadOption, lambda: get_method("local-response", ridge=0)),
        (BadOption, lambda: get_method("partial-correlation", alpha=-1)),
        (BadOption, lambda: get_method("local-response", centre="perhaps")),
        (BadOption, lambda: get_method("correlation", cells="perturbed")),
    ],
)
def test_wrong_names_and_settings_are_refused_with_a_code(error, make):
    with pytest.raises(error):
        make()


def test_settings_are_read_from_text():
    made = get_method("boosting", n_trees="7", learning_rate="0.5")
    assert (made.n_trees, made.learning_rate) == (7, 0.5)
    assert get_method("local-response", centre="false").centre is False


def test_a_screen_without_a_measured_target_is_refused(world):
    targets = set(world.targets)
    screen = world.screen
    kept = np.array([str(gene) not in targets for gene in screen.genes])
    matrix = dataclasses.replace(screen.matrix, matrix=screen.matrix.matrix[:, np.flatnonzero(kept)])
    blind = dataclasses.replace(screen, genes=screen.genes[kept], matrix=matrix)
    with pytest.raises(NoEvaluablePair, match="E807"):
        infer(blind, method="correlation")
    assert infer(blind, method="mean-difference").n_edges > 0  # an effect needs no measured source


def test_the_list_of_methods_names_settings_and_cards():
    rows = {row["name"]: row for row in method_list()}
    assert {"mean-difference", "correlation", "partial-correlation", "boosting", "lasso", "random"} <= set(rows)
    assert rows["boosting"]["settings"]["depth"] == 3
    assert all(row["summary"] and row["source"] and row["weight"] for row in rows.values())
    assert isinstance(
        infer(simulate(n_cells=60, n_genes=40, n_targets=4, n_doubles=0).screen, method="random"), Network
    )


def test_contexts_are_averaged_by_their_cells():
    world = simulate(n_cells=900, n_genes=40, n_targets=5, n_doubles=0, n_contexts=2, seed=3)
    screen, gene = world.screen, 3
    source = universe_of(screen).sources[0]
    expected, n_total = 0.0, 0
    for context in range(2):
        here = screen.context_code == context
        own = np.flatnonzero(here & (screen.condition_code == screen.conditions.index(source)))
        means = [
            float(dense_columns(screen, genes=np.array([gene]), cells=cells).mean())
            for cells in (own, np.flatnonzero(here & screen.is_control))
        ]
        expected, n_total = expected + len(own) * (means[0] - means[1]), n_total + len(own)
    network = infer(screen, method="mean-difference")
    assert network.between([source], [str(screen.genes[gene])])[0, 0] == pytest.approx(
        abs(expected / n_total), rel=1e-4
    )
