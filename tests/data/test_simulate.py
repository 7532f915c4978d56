"""The simulated world against itself: identities, the exact answers against cells, partial information, files."""

import json
from itertools import combinations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from perturbcast.data.conditions import CONTROL, Query, condition_of, is_double, is_single, targets_of
from perturbcast.data.readers import read
from perturbcast.data.scale import Scale
from perturbcast.data.screen import Screen
from perturbcast.data.simulate import PERTURBATIONS, simulate
from perturbcast.data.simulation.expectation import mean_log1p
from perturbcast.data.simulation.network import HILL, NONCODING, REGULATOR, STEEPEST
from perturbcast.data.simulation.vocabulary import PSEUDOGENE, THEMES
from perturbcast.errors import BadCondition, BadOption, OutputExists, UnknownContext, UnknownOption, UnknownTarget

SMALL = {"n_cells": 400, "n_genes": 80, "n_targets": 10, "n_doubles": 6}


@pytest.fixture(scope="module")
def world():
    return simulate(seed=3, **SMALL)


@pytest.fixture(scope="module")
def default():
    return simulate()


# ------------------------------------------------------------------------------------------------------------- screen
def test_screen_is_counts_of_all_planned_conditions(world):
    screen = world.screen
    assert screen.scale is Scale.COUNTS
    assert (screen.n_cells, screen.n_genes) == (400, 80)
    assert set(screen.queries()) == set(world.design.queries)
    assert screen.conditions == tuple(sorted(screen.conditions))
    counts = screen.stored(np.arange(screen.n_cells))
    assert sparse.issparse(counts)
    assert np.array_equal(counts.data, np.round(counts.data))
    assert (counts.data > 0).all()
    assert set(screen.covariates) == {"guide", "batch"}


def test_each_cell_has_a_guide_of_its_condition(world):
    screen = world.screen
    for code, guide in zip(screen.condition_code, screen.covariates["guide"], strict=True):
        condition = screen.conditions[code]
        targets = ["non-targeting"] if condition == CONTROL else list(targets_of(condition))
        assert [part.rpartition("_g")[0] for part in guide.split("+")] == targets


def test_hidden_facts_are_in_truth_and_not_in_the_screen(world):
    hidden = {"escaped", "is_artefact", "phase", "expected_depth", "n_active"}
    assert hidden == set(world.truth)
    assert not hidden & set(world.screen.covariates)
    is_control = world.screen.is_control
    assert not world.truth["escaped"].to_numpy()[is_control].any()
    assert 0 < world.truth["escaped"].to_numpy()[~is_control].mean() < 0.5


def test_artefact_cells_are_shallow_and_mitochondrial():
    world = simulate(n_cells=1500, n_genes=100, n_targets=4, n_doubles=0, artefacts=0.3, seed=1)
    counts = world.screen.stored(np.arange(1500)).toarray()
    bad = world.truth["is_artefact"].to_numpy()
    depth = counts.sum(axis=1)
    mitochondrial = counts[:, [str(gene).startswith("MT-") for gene in world.genes]].sum(axis=1) / depth
    assert np.median(depth[bad]) < 0.5 * np.median(depth[~bad])
    assert np.median(mitochondrial[bad]) > np.median(mitochondrial[~bad])


def test_same_seed_gives_same_numbers_and_another_seed_others():
    first, again, other = (simulate(seed=seed, **SMALL) for seed in (5, 5, 6))
    everything = np.arange(SMALL["n_cells"])
    assert (first.screen.stored(everything) != again.screen.stored(everything)).nnz == 0
    assert np.array_equal(first.responses.response, again.responses.response)
    assert first.texts == again.texts
    assert first.sequences == again.sequences
    assert not np.array_equal(first.responses.response, other.responses.response)


def test_more_cells_are_another_sample_of_the_same_world(world):
    larger = simulate(seed=3, **{**SMALL, "n_cells": 3000})
    assert np.array_equal(larger.responses.response, world.responses.response)
    assert larger.design.conditions == world.design.conditions
    assert larger.prior_graph.equals(world.prior_graph)


def test_chunking_never_changes_a_count():
    world = simulate(n_cells=3500, n_genes=40, n_targets=5, n_doubles=2, seed=2)
    whole = world.screen.stored(np.arange(3500))
    for size in (1, 2000, 10_000):
        chunks = list(world.sampler.chunks(size=size))
        assert np.array_equal(np.concatenate([cells for cells, _ in chunks]), np.arange(3500))
        assert (sparse.vstack([counts for _, counts in chunks]) != whole).nnz == 0


# ------------------------------------------------------------------------------------------------------ exact answers
def test_control_is_exactly_zero(world):
    control = [Query(CONTROL)]
    assert np.array_equal(world.exact_response(control).response, np.zeros((1, 80)))
    assert np.array_equal(world.steady_state(control).response, np.zeros((1, 80)))


def test_steady_states_solve_the_kinetic_equations(world):
    kinetics = world.observation.kinetics
    node = world.design.targets[0]
    change = kinetics.steady_states([((node, -1),)], context=0)[0]
    gain = 1 / (1 + np.exp(-kinetics.logit[0] - HILL * change)) - 1 / (1 + np.exp(-kinetics.logit[0]))
    expected = np.zeros(len(change))
    for target in range(len(change)):
        regulated = sum(world.network.weights[source, target] * gain[source] for source in range(len(change)))
        regulated += kinetics.stress[target] * (1 - np.exp(-kinetics.burden[node]))
        expected[target] = 2.0 * np.tanh(regulated / 2.0) + (kinetics.push[node] if target == node else 0.0)
    assert np.allclose(change, expected, atol=1e-7)


@pytest.mark.parametrize("perturbation", PERTURBATIONS)
def test_measured_target_goes_where_it_is_pushed(perturbation):
    world = simulate(perturbation=perturbation, seed=1, **SMALL)
    up = perturbation == "activation"
    singles = [query for query in world.design.queries if is_single(query.condition)]
    steady, exact = world.steady_state(singles), world.exact_response(singles)
    own = [(row, list(world.genes).index(query.condition)) for row, query in enumerate(singles)
           if query.condition in world.genes]  # fmt: skip
    assert len(own) >= 8
    moved = np.array([steady.response[place] for place in own])
    assert ((moved > 0) == up).mean() >= 0.9
    assert np.sign(np.median([exact.response[place] for place in own])) == (1 if up else -1)


def test_knock_out_silences_targets_of_a_gene_more_than_its_own_message():
    world = simulate(perturbation="knock-out", stress=0.0, seed=1, **SMALL)
    kinetics = world.observation.kinetics
    hub = int(np.argmax(world.network.out_degree))
    dose = kinetics.steady_states([((hub, -1),)], context=0)[0]
    assert dose[hub] > -2.5
    reached = world.network.weights[hub].indices
    assert np.abs(dose[reached]).mean() > 3 * np.abs(np.delete(dose, [*reached, hub])).mean()


def test_without_network_and_stress_only_targets_change_and_doubles_add_up():
    world = simulate(effect=0.0, stress=0.0, interaction=0.0, seed=4, **SMALL)
    doubles = [query for query in world.design.queries if is_double(query.condition)]
    for query in doubles:
        first, second = (Query(target) for target in targets_of(query.condition))
        both, one, other = world.steady_state([query, first, second]).response
        assert np.allclose(both, one + other, atol=1e-8)
        changed = {str(gene) for gene in world.genes[np.abs(both) > 1e-8]}
        assert changed <= set(targets_of(query.condition))


def test_doubles_of_unconnected_targets_are_near_additive_and_planted_ones_are_not():
    planted = simulate(stress=0.0, n_genes=300, n_targets=30, n_doubles=0)
    free = simulate(stress=0.0, n_genes=300, n_targets=30, n_doubles=0, interaction=0.0)
    weights = free.network.weights
    reach = ((np.abs(weights) + np.abs(weights @ weights)) > 0).toarray()
    nodes = free.design.targets
    apart = [pair for pair in combinations(nodes, 2) if not (reach[pair[0]] & reach[pair[1]]).any()]
    assert len(apart) >= 5

    def deviation(world, pair):
        names = [str(world.network.genes[node]) for node in pair]
        both, one, other = world.steady_state([Query(condition_of(names)), *map(Query, names)]).response
        return np.abs(both - one - other).max()

    assert np.median([deviation(free, pair) for pair in apart]) < 0.05
    close = sorted(combinations(nodes, 2), key=lambda pair: -(reach[pair[0]] & reach[pair[1]]).sum())[:20]
    assert max(deviation(planted, pair) for pair in close) > 0.3


def test_interaction_table_explains_what_deviates(default):
    table = default.interactions
    assert set(table["kind"]) == {"buffering", "synergy", "emergent"}
    assert set(table["condition"]) <= {name for name in default.design.conditions if is_double(name)}
    strong = table[np.abs(table["drive"]) > 0.2]
    assert (np.sign(strong["drive"]) == np.sign(strong["deviation"])).mean() > 0.85


def test_about_four_percent_of_doubles_and_genes_are_not_additive():
    shares = []
    for seed in range(2):
        world = simulate(seed=seed)
        exact = world.responses
        row = {condition: exact.response[place] for place, condition in enumerate(exact.conditions)}
        doubles = [condition for condition in exact.conditions if is_double(condition)]
        epsilon = np.array([row[name] - sum(row[target] for target in targets_of(name)) for name in doubles])
        shares.append(((epsilon > 0.195) | (epsilon < -0.205)).mean())  # spec D-11
    assert 0.02 < np.mean(shares) < 0.06


def test_feedback_is_bounded_so_that_the_steady_state_is_unique(default):
    weights = abs(default.network.weights).toarray()
    assert max(abs(np.linalg.eigvals(weights))) * HILL / 4 <= STEEPEST + 1e-3


def test_exact_mean_of_log_expression_agrees_with_a_monte_carlo():
    rng = np.random.default_rng(0)
    share = np.array([0.3, 0.1, 0.02, 1e-3, 5e-5])
    share = np.append(share, np.full(30, (1 - share.sum()) / 30))
    dispersion = np.full(len(share), 0.3)
    n, depth = 200_000, 500 * np.exp(0.4 * rng.standard_normal((200_000, 1)))
    counts = rng.poisson(depth * share * rng.standard_gamma(1 / 0.3, (n, len(share))) * 0.3)
    sampled = np.log1p(1e4 * counts[:, :5] / counts.sum(axis=1, keepdims=True))
    exact = mean_log1p(
        share[:5], dispersion[:5], depth=500.0, depth_spread=0.4, library_cv2=float((dispersion * share**2).sum())
    )
    error = sampled.std(axis=0) / np.sqrt(n)
    assert (np.abs(sampled.mean(axis=0) - exact) < 4 * error).all()
    assert (error < 4e-3).all()


def test_sampled_cells_converge_to_the_exact_response():
    world = simulate(n_cells=30_000, n_genes=40, n_targets=4, n_doubles=2, escape=0.3, artefacts=0.1, n_contexts=2)
    screen = world.screen
    expression = screen.expression(np.arange(screen.n_cells)).toarray()
    for query, exact in zip(world.responses.queries, world.responses.response, strict=True):
        here = expression[screen.cells_of(query)]
        control = expression[screen.cells_of(Query(CONTROL, query.context))]
        error = np.sqrt(here.var(axis=0) / len(here) + control.var(axis=0) / len(control))
        z = (here.mean(axis=0) - control.mean(axis=0) - exact) / error
        assert 0.6 < z.std() < 1.5
        assert np.abs(z).max() < 5


def test_clean_cells_at_full_efficiency_respond_more_than_the_screen_shows(default):
    queries = [query for query in default.design.queries if is_single(query.condition)]
    sampled = np.linalg.norm(default.exact_response(queries).response, axis=1)
    clean = np.linalg.norm(default.exact_response(queries, cells="perturbed").response, axis=1)
    assert np.median(sampled / clean) < 0.97
    quiet = simulate(guide_spread=0.0, escape=0.0, artefacts=0.0, seed=3, **SMALL)
    same = [quiet.exact_response(quiet.design.queries, cells=cells).response for cells in ("sampled", "perturbed")]
    assert np.allclose(*same, atol=1e-12)


def test_any_gene_can_be_asked_for_alone_and_in_any_order(world):
    unseen = [str(gene) for gene in world.network.genes if gene not in world.targets][:3]
    queries = [Query(condition_of(unseen[:2])), Query(unseen[2]), Query(condition_of([unseen[0], world.targets[0]]))]
    forward = world.exact_response(queries).response
    backward = world.exact_response(queries[::-1]).response[::-1]
    assert np.isfinite(forward).all()
    assert np.allclose(forward, backward, atol=1e-12)
    assert np.allclose(forward[1], world.exact_response([queries[1]]).response[0], atol=1e-9)


def test_impossible_queries_are_refused_by_name(world):
    with pytest.raises(UnknownTarget, match="NOSUCH"):
        world.exact_response([Query("NOSUCH")])
    with pytest.raises(UnknownContext):
        world.exact_response([Query(world.targets[0], "elsewhere")])
    with pytest.raises(BadCondition):
        world.exact_response([Query(condition_of([str(gene) for gene in world.genes[:7]]))])
    with pytest.raises(BadCondition):
        world.exact_response([Query(world.targets[0])], cells="dead")


def test_contexts_differ_in_baseline_and_partly_in_response():
    world = simulate(n_contexts=3, seed=1, n_cells=600, n_genes=200, n_targets=20, n_doubles=4)
    exact = world.responses
    assert exact.contexts == ("line1", "line2", "line3")
    assert np.abs(exact.control[0] - exact.control[1]).mean() > 0.1
    by_context = exact.response.reshape(3, -1, 200)
    likeness = np.corrcoef(by_context[0].ravel(), by_context[1].ravel())[0, 1]
    assert 0.3 < likeness < 0.98


def test_perturbations_share_a_shift_and_its_setting_rules_it():
    def share_of_mean(stress):
        response = simulate(stress=stress).responses.response
        mean = response.mean(axis=0)
        return float(np.median(response @ mean / np.linalg.norm(mean) / np.linalg.norm(response, axis=1)))

    without, usual, strong = (share_of_mean(stress) for stress in (0.0, 1.0, 3.0))
    assert without < usual < strong


# ------------------------------------------------------------------------------------------------ network and targets
def test_network_has_hubs_feedback_and_local_repressive_lncrnas(default):
    network = default.network
    degree = network.out_degree[network.role == REGULATOR]
    assert degree.max() > 8 * np.median(degree)
    link = network.weights.toarray() != 0
    np.fill_diagonal(link, False)
    assert (link & link.T).any()
    edges = network.weights.tocoo()
    of_lncrna = network.role[edges.row] == NONCODING
    assert (network.module[edges.row] == network.module[edges.col])[of_lncrna].all()
    assert (edges.data[of_lncrna] < 0).mean() > 0.6
    assert network.out_degree[network.role == NONCODING].mean() < degree.mean() / 2
    assert set(network.biotype[network.role == NONCODING]) == {"lncRNA"}


def test_targets_are_mostly_measured_mostly_regulators_and_unequal_in_effect(default):
    nodes = np.array(default.design.targets)
    assert 0.85 <= (nodes < default.network.n_measured).mean() < 1
    assert 0.7 <= (default.network.role[nodes] == REGULATOR).mean() < 0.95
    singles = [query for query in default.design.queries if is_single(query.condition)]
    without_own = []
    for query, row in zip(singles, default.exact_response(singles).response, strict=True):
        without_own.append(np.linalg.norm(row[default.genes != query.condition]))
    assert np.quantile(without_own, 0.95) > 1.4 * np.median(without_own)
    assert np.min(without_own) < 0.35 * np.median(without_own)


def test_targets_of_a_module_respond_alike(default):
    singles = [query for query in default.design.queries if is_single(query.condition)]
    response = default.exact_response(singles).response
    response = response - response.mean(axis=0)
    response /= np.linalg.norm(response, axis=1, keepdims=True)
    module = default.network.module[list(default.design.targets)]
    within, between = _within_and_between(response @ response.T, module)
    assert within > between + 0.15


# ---------------------------------------------------------------------------------------------- what is told of genes
def _within_and_between(similarity, module):
    same = module[:, None] == module[None, :]
    other = ~np.eye(len(module), dtype=bool)
    return similarity[same & other].mean(), similarity[~same].mean()


def test_texts_tell_part_of_the_module(default):
    words = sorted({word for _, words in THEMES for word in words})
    texts = [default.texts[gene] for gene in default.network.genes]
    counts = np.array([[word in text for word in words] for text in texts], dtype=float)
    norm = np.linalg.norm(counts, axis=1, keepdims=True)
    unit = np.divide(counts, norm, out=np.zeros_like(counts), where=norm > 0)
    within, between = _within_and_between(unit @ unit.T, default.network.module)
    assert between + 0.05 < within < 0.7
    assert 0.08 < np.mean(["not known" in text for text in texts]) < 0.25


def test_promoters_tell_part_of_the_regulators(default):
    sequences = [default.sequences[gene] for gene in default.network.genes]
    assert {len(sequence) for sequence in sequences} == {240}
    assert set("".join(sequences)) == set("ACGT")
    words = [{sequence[start : start + 8] for start in range(233)} for sequence in sequences]
    regulated = (default.network.weights != 0).toarray()
    shared_regulators = regulated.T.astype(int) @ regulated.astype(int)
    pairs = np.array(list(combinations(range(len(words)), 2)))
    common = shared_regulators[pairs[:, 0], pairs[:, 1]]
    rng = np.random.default_rng(0)

    def shared_words(chosen):
        return np.mean([len(words[a] & words[b]) for a, b in rng.permutation(chosen)[:3000]])

    assert shared_words(pairs[common >= 2]) > 1.5 * shared_words(pairs[common == 0])


def test_prior_graph_is_half_right_and_half_complete(default):
    true = set(map(tuple, default.network.edges()[["source", "target"]].to_numpy()))
    told = list(map(tuple, default.prior_graph[["Gene1", "Gene2"]].to_numpy()))
    right = np.array([pair in true for pair in told])
    assert 0.4 < right.mean() < 0.6
    assert 0.35 < right.sum() / len(true) < 0.65
    assert len(set(told)) == len(told)
    weight = default.prior_graph["weight"].to_numpy()
    assert ((weight > 0) & (weight <= 1)).all()
    assert weight[right].mean() > weight[~right].mean()


def test_gene_sets_and_embedding_tell_part_of_the_module(default):
    genes = list(default.network.genes)
    member = np.array(
        [[gene in names for names in map(set, default.gene_sets.values())] for gene in genes], dtype=float
    )
    within, between = _within_and_between(member @ member.T, default.network.module)
    assert within > 3 * between
    features = default.embedding.to_numpy()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    within, between = _within_and_between(unit @ unit.T, default.network.module)
    assert 0.1 < within - between < 0.9


def test_gene_table_names_every_node_once(default):
    table = default.gene_table
    assert list(table["symbol"]) == list(default.network.genes)
    assert table["symbol"].is_unique
    assert table["ensembl_id"].is_unique
    assert table["ensembl_id"].str.fullmatch(r"ENSG\d{11}").all()
    assert {"protein_coding", "lncRNA", PSEUDOGENE} < set(table["biotype"])


# -------------------------------------------------------------------------------------------------- settings and files
@pytest.mark.parametrize(
    "wrong",
    [{"n_targets": 1}, {"n_doubles": 100}, {"n_cells": 16}, {"n_genes": 5}, {"perturbation": "wish"}, {"escape": 1.5},
     {"n_targets": 75, "n_cells": 1000}, {"depth": -1.0}, {"n_contexts": 0}, {"seed": -1}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(BadOption):
        simulate(**{**SMALL, **wrong})


def test_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownOption, match="artefacts"):
        simulate(artifacts=0.1, **SMALL)


def test_written_world_is_read_back_as_it_was(world, tmp_path):
    folder = world.write(tmp_path / "world", chunk=1000)
    stored = anndata.read_h5ad(folder / "screen.h5ad")
    assert sparse.issparse(stored.X)
    assert stored.X.dtype == np.int32
    assert (world.screen.stored(np.arange(400)) != stored.X).nnz == 0
    assert list(stored.var_names) == list(world.genes)
    assert list(stored.obs["condition"].astype(str)) == [
        world.screen.conditions[c] for c in world.screen.condition_code
    ]
    assert set(stored.obs) == {"condition", "guide", "batch"}
    truth = anndata.read_h5ad(folder / "truth" / "responses.h5ad")
    assert truth.uns["kind"] == "response"
    assert np.array_equal(truth.X, world.responses.response)
    assert list(truth.obs["condition"]) == list(world.responses.conditions)
    network = pd.read_csv(folder / "truth" / "network.tsv", sep="\t")
    assert len(network) == world.network.weights.nnz
    assert json.loads((folder / "world.json").read_text())["settings"]["seed"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


@pytest.mark.parametrize("n_contexts", [1, 2])
def test_reader_finds_the_screen_of_the_world_without_a_flag(tmp_path, n_contexts):
    world = simulate(n_contexts=n_contexts, seed=4, **SMALL)
    folder = world.write(tmp_path / "world")
    found, screen = read(folder / "screen.h5ad"), world.screen
    assert isinstance(found, Screen)
    assert found.scale is screen.scale
    assert (found.conditions, found.contexts) == (screen.conditions, screen.contexts)
    assert np.array_equal(found.query_code, screen.query_code)
    everything = np.arange(screen.n_cells)
    assert np.allclose(found.expression(everything).toarray(), screen.expression(everything).toarray(), atol=1e-5)
    truth = read(folder / "truth" / "responses.h5ad")
    assert truth.queries == world.responses.queries
    assert np.allclose(truth.response, world.responses.response, atol=1e-6)


def test_writing_again_keeps_the_same_world_and_refuses_another(world, tmp_path):
    folder = world.write(tmp_path / "world")
    before = (folder / "screen.h5ad").stat().st_mtime_ns
    world.write(folder)
    assert (folder / "screen.h5ad").stat().st_mtime_ns == before
    with pytest.raises(OutputExists, match="another world"):
        simulate(seed=9, **SMALL).write(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OutputExists, match="something else"):
        world.write(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_failed_writing_leaves_nothing_behind(world, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("perturbcast.data.simulation.store._write_truth", full)
    with pytest.raises(Exception, match="No space left") as caught:
        world.write(tmp_path / "world")
    assert caught.value.code == "E209"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_writing_many_cells_keeps_few_in_memory(tmp_path):
    import tracemalloc

    world = simulate(n_cells=20_000, n_genes=500, n_targets=20, n_doubles=10)
    _ = world.sampler  # states of the world itself, whatever the number of cells
    tracemalloc.start()
    world.write(tmp_path / "world", chunk=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    n_values = world.screen.matrix.matrix.nnz
    assert peak < 8 * n_values  # bytes: less than the values and column numbers of the matrix alone
    assert peak < 60e6
    assert anndata.read_h5ad(tmp_path / "world" / "screen.h5ad", backed="r").shape == (20_000, 500)
