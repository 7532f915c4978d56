"""CRADLE-VAE: promises, artefacts told from effects in a known world, cleaned cells and pass rates."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from vae_worlds import two_contexts

from perturbcast.data.artefacts import ArtefactRule, artefact_labels
from perturbcast.data.conditions import CONTROL
from perturbcast.data.scale import Scale
from perturbcast.data.screen import InMemory, Screen
from perturbcast.errors import (
    CannotPredict,
    GenesDiffer,
    NoArtefactModel,
    NotCounts,
    NotEnoughTraining,
    ShapesDiffer,
    WrongScale,
)
from perturbcast.models import registry
from perturbcast.models.base import TrainingData
from perturbcast.models.capabilities import CleansCells
from perturbcast.models.check import check_model
from perturbcast.models.check_world import check_world
from perturbcast.models.cleaning import clean_cells, pass_rates
from perturbcast.models.cradle_vae import CradleVae
from perturbcast.models.registry import get_model
from perturbcast.nn.standardise import Standardise

SMALL = {"n_latent": 4, "encoder_width": 16, "decoder_width": 16, "n_particles": 2, "n_averaged": 20}
SMALL |= {"max_epochs": 4, "batch_size": 128, "embedding_width": 8, "embedding_layers": 2}
LEARNS = {"n_latent": 6, "encoder_width": 32, "decoder_width": 32, "n_particles": 2, "n_averaged": 128}
LEARNS |= {"max_epochs": 60, "batch_size": 128, "lr": 5e-3, "embedding_width": 16, "embedding_layers": 2}
LEARNS |= {"mask_prior": 0.1}

# These checks of the suite cannot run on a model that needs cells; tests of the family make the same promises.
NOT_FOR_CELLS = {"order_of_genes_does_not_matter", "not_worse_than_no_change_on_the_simulated_world"}
N_GENES, N_MITOCHONDRIAL, N_TARGETS = 50, 4, 8


@pytest.fixture
def listed(monkeypatch):
    """The registry with the model in it."""
    known = dict(registry.all_models()) | {CradleVae.card.name: CradleVae}
    monkeypatch.setattr(registry, "_scanned", lambda: known)


@pytest.mark.parametrize("profile", [None, "paper"])
def test_model_keeps_every_promise(listed, profile):
    paper = {"n_averaged": 400} if profile else {}  # of independent draws
    model = CradleVae.make(profile, **(SMALL | paper))
    failed = [result for result in check_model(model) if result.status == "failed"]
    told = "\n".join(f"{result.name}: {result.detail}" for result in failed)
    assert {result.name for result in failed} <= NOT_FOR_CELLS, told


def test_o23_published_network_has_410_parameters():
    sizes = {"n_latent": 2, "encoder_width": 5, "decoder_width": 7, "embedding_width": 6, "embedding_layers": 2}
    standardise = Standardise(np.zeros(4), np.ones(4), logarithm=True)
    network = CradleVae.make("paper", **sizes).network(3, standardise, "counts")
    assert sum(parameter.numel() for parameter in network.parameters()) == 410


@dataclass(frozen=True)
class ArtefactWorld:
    """Counts of which some come from bad cells, and the exact shares of good ones per condition."""

    screen: Screen
    failed: np.ndarray
    share: dict[str, np.ndarray]


def artefact_world(*, cells_each=100, depth=3000.0, bad=0.25, seed=0):
    """The count simulator of spec 13.2: bad cells have 0.4 of the depth and three times the mitochondrial share.

    Half of the conditions have twice as many bad cells as the others, so that artefacts pass for effects.
    """
    rng = np.random.default_rng(seed)
    base, loading = rng.normal(size=N_GENES), rng.normal(size=(2, N_GENES)) * 0.2
    base[:N_MITOCHONDRIAL] = 0.5
    delta = (rng.random((N_TARGETS, N_GENES)) < 0.15) * rng.choice([-1.2, 1.2], (N_TARGETS, N_GENES))
    delta[:, :N_MITOCHONDRIAL] = 0.0
    genes = [f"MT-{number}" if number < N_MITOCHONDRIAL else f"G{number:03d}" for number in range(N_GENES)]
    targets = genes[-N_TARGETS:]
    made = {CONTROL: np.zeros(N_GENES)} | dict(zip(targets, delta, strict=True))
    names = tuple(sorted(made))
    counts, code, failed, shares = [], [], [], {}
    for place, name in enumerate(names):
        n_cells = cells_each * (5 if name == CONTROL else 1)
        logits = base + made[name] + rng.normal(size=(n_cells, 2)) @ loading
        is_bad = rng.random(n_cells) < bad * (0.5 if place % 2 else 1.5)
        shares[name] = softmax(logits).mean(axis=0)
        logits[:, :N_MITOCHONDRIAL] += np.log(3.0) * is_bad[:, None]
        library = depth * rng.lognormal(0, 0.2, n_cells) * np.where(is_bad, 0.4, 1.0)
        rate = library[:, None] * softmax(logits) * rng.standard_gamma(4.0, logits.shape) / 4.0
        counts.append(rng.poisson(rate))
        code += [place] * n_cells
        failed += list(is_bad)
    values = np.vstack(counts).astype(np.float32)
    screen = Screen(
        name="artefacts",
        matrix=InMemory(sparse.csr_matrix(values)),
        scale=Scale.COUNTS,
        genes=np.array(genes, dtype=object),
        conditions=names,
        contexts=("",),
        condition_code=np.array(code, dtype=np.int32),
        context_code=np.zeros(len(code), dtype=np.int32),
        row=np.arange(len(code), dtype=np.int64),
        library=values.sum(axis=1).astype(np.float64),
        covariates=pd.DataFrame({"bad": np.array(failed)}),
    )
    return ArtefactWorld(screen, np.array(failed), shares)


def softmax(logits):
    raised = np.exp(logits)
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def world():
    return artefact_world()


@pytest.fixture(scope="module")
def fitted(world):
    return CradleVae(**LEARNS, quality_column="bad").fit(TrainingData.of(world.screen))


def truth_of(world, conditions):
    """(condition, gene) ln(1 + CP10k) of the mean share of good cells, minus control."""
    expression = {name: np.log1p(1e4 * share) for name, share in world.share.items()}
    return np.array([expression[name] - expression[CONTROL] for name in conditions])


def test_responses_are_those_of_good_cells(world, fitted):
    targets = [name for name in world.screen.conditions if name != CONTROL]
    truth = truth_of(world, targets)
    found = fitted.predict(targets).response
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.85
    observed = TrainingData.of(world.screen).responses.response
    mitochondrial = slice(0, N_MITOCHONDRIAL)
    assert np.abs(found[:, mitochondrial]).mean() < 0.7 * np.abs(observed[:, mitochondrial]).mean()


def test_generated_cells_pass_where_observed_ones_fail(world, fitted):
    rates = pass_rates(fitted, world.screen, rule=ArtefactRule(threshold=3.0))
    at_three = rates[rates["threshold"] == 3.0]
    assert list(rates.columns) == ["condition", "threshold", "observed", "generated", "n_observed", "n_generated"]
    assert len(rates) == 3 * N_TARGETS
    assert at_three["observed"].mean() < 0.9
    assert at_three["generated"].mean() > 0.96
    assert (rates["generated"].between(0, 1)).all()


def test_pass_rate_is_not_that_of_the_larger_class(world, fitted):
    """B15: where most cells fail, the published share is that of the failing ones."""
    strict = pass_rates(fitted, world.screen, rule=ArtefactRule(floor=0.0), thresholds=(0.05,), n_cells=40)
    assert strict["generated"].mean() < 0.5
    assert strict["observed"].mean() < 0.5


def test_cleaned_cells_pass_and_the_others_are_as_observed(world, fitted):
    assert isinstance(fitted, CleansCells)
    cleaned = fitted.clean(world.screen, seed=1)
    stored, before = cleaned.stored(np.arange(cleaned.n_cells)), world.screen.stored(np.arange(cleaned.n_cells))
    assert (stored[~world.failed] != before[~world.failed]).nnz == 0
    assert (stored[world.failed] != before[world.failed]).nnz > 0
    limits = artefact_labels(world.screen, rule=ArtefactRule(per_batch=False))
    assert limits.failed[world.failed].mean() > 0.6
    after = limits.judge(stored.toarray().astype(np.float64), cleaned.genes)
    assert after[world.failed].mean() < 0.08
    assert cleaned.scale is Scale.COUNTS
    np.testing.assert_array_equal(cleaned.covariates["was_artefact"], world.failed)
    np.testing.assert_allclose(cleaned.library, stored.sum(axis=1).A1)
    assert (stored.data == np.round(stored.data)).all()


def test_cleaning_keeps_the_state_of_the_cell(world, fitted):
    """A cleaned cell is nearer to the truth of its condition than to that of another, though it was a bad cell."""
    mean = clean_cells(fitted, world.screen, failed=world.failed, values="mean")
    assert mean.scale is Scale.LOG1P_CP10K
    expression = mean.stored(np.arange(mean.n_cells)).toarray()
    truth = {name: np.log1p(1e4 * share) for name, share in world.share.items()}
    names = np.array(world.screen.conditions)[world.screen.condition_code]
    own = np.array([truth[name] for name in names])
    error = np.abs(expression - own)[world.failed].mean()
    library = world.screen.stored(np.arange(mean.n_cells)).sum(axis=1).A1
    observed = np.log1p(1e4 * world.screen.stored(np.arange(mean.n_cells)).toarray() / library[:, None])
    assert error < 0.7 * np.abs(observed - own)[world.failed].mean()


def test_cells_can_be_decoded_as_if_they_had_received_something_else(world, fitted):
    target = world.screen.conditions[0]
    as_control = clean_cells(fitted, world.screen, failed=world.failed, which="all", values="mean", condition=CONTROL)
    as_target = clean_cells(fitted, world.screen, failed=world.failed, which="all", values="mean", condition=target)
    assert set(as_target.condition_code) == {as_target.conditions.index(target)}
    assert as_control.is_control.all()
    cells = np.arange(world.screen.n_cells)
    change = as_target.stored(cells).toarray().mean(axis=0) - as_control.stored(cells).toarray().mean(axis=0)
    assert np.corrcoef(change, truth_of(world, [target])[0])[0, 1] > 0.6


def test_cells_that_are_decoded_as_another_condition_stay_in_their_context():
    training = two_contexts()
    bad = np.random.default_rng(0).random(training.screen.n_cells) < 0.2
    screen = replace(training.screen, covariates=pd.DataFrame({"bad": bad}))
    found = CradleVae(**(LEARNS | {"max_epochs": 15}), quality_column="bad").fit(replace(training, screen=screen))
    control = clean_cells(found, screen, failed=bad, which="all", values="mean", condition=CONTROL)
    expression = control.stored(np.arange(screen.n_cells)).toarray()
    for code in (0, 1):
        mean = expression[screen.context_code == code].mean(axis=0)
        off = [np.abs(mean - training.responses.control[other]).mean() for other in (code, 1 - code)]
        assert off[0] < 0.5 * off[1]


def test_cleaning_twice_gives_the_same_cells_and_another_seed_others(world, fitted):
    first, again, other = (fitted.clean(world.screen, seed=seed).matrix.matrix for seed in (1, 1, 2))
    assert (first != again).nnz == 0
    assert (first != other).nnz > 0


def test_cells_keep_their_own_depth_if_asked(world, fitted):
    own = clean_cells(fitted, world.screen, failed=world.failed, depth="own").library[world.failed]
    passing = clean_cells(fitted, world.screen, failed=world.failed).library[world.failed]
    assert np.median(own) == pytest.approx(np.median(world.screen.library[world.failed]), rel=0.15)
    assert np.median(passing) > 2 * np.median(own)


def test_labels_may_be_given_for_cleaning(world, fitted):
    one = np.zeros(world.screen.n_cells, dtype=bool)
    one[7] = True
    cleaned = fitted.clean(world.screen, failed=one)
    changed = np.flatnonzero(np.diff((cleaned.matrix.matrix != world.screen.matrix.matrix).indptr))
    assert changed.tolist() == [7]


def test_genes_in_another_order_are_cleaned_alike(world, fitted):
    order = np.random.default_rng(0).permutation(N_GENES)
    matrix = InMemory(world.screen.matrix.matrix[:, order].tocsr())
    shuffled = replace(world.screen, genes=world.screen.genes[order], matrix=matrix)
    whole = clean_cells(fitted, world.screen, failed=world.failed, values="mean").matrix.matrix[:, order]
    found = clean_cells(fitted, shuffled, failed=world.failed, values="mean").matrix.matrix
    np.testing.assert_allclose(found.toarray(), whole.toarray(), atol=2e-5)


def test_screens_that_cannot_be_cleaned_are_refused(world, fitted):
    screen, failed = world.screen, world.failed
    with pytest.raises(ShapesDiffer):
        clean_cells(fitted, screen, failed=failed[:5])
    with pytest.raises(GenesDiffer):
        clean_cells(fitted, replace(screen, genes=np.array([f"X{n}" for n in range(N_GENES)], object)), failed=failed)
    with pytest.raises(WrongScale):
        clean_cells(fitted, replace(screen, scale=Scale.LOG1P_CP10K), failed=failed)
    with pytest.raises(CannotPredict):
        clean_cells(fitted, screen, failed=failed, condition="G000")
    mean = get_model("mean").fit(TrainingData.of(screen))
    with pytest.raises(NoArtefactModel, match="mean knows no artefacts"):
        clean_cells(mean, screen, failed=failed)


def test_cells_of_unseen_targets_pass_through_as_long_as_none_of_them_is_decoded(world, fitted):
    renamed = replace(world.screen, conditions=("A_UNSEEN", *world.screen.conditions[1:]))
    unseen = renamed.condition_code == 0
    cleaned = clean_cells(fitted, renamed, failed=world.failed & ~unseen)
    changed = np.flatnonzero(np.diff((cleaned.matrix.matrix != renamed.matrix.matrix).indptr))
    assert len(changed)
    assert not unseen[changed].any()
    with pytest.raises(CannotPredict, match="A_UNSEEN"):
        clean_cells(fitted, renamed, failed=world.failed)


def test_saved_and_loaded_it_cleans_alike(listed, world, fitted, tmp_path):
    from perturbcast.models.artefact import load

    loaded = load(fitted.save(tmp_path / "model"))
    first, again = fitted.clean(world.screen), loaded.clean(world.screen)
    assert (first.matrix.matrix != again.matrix.matrix).nnz == 0
    assert loaded.share_failed == fitted.share_failed == pytest.approx(world.failed.mean(), abs=0.03)
    assert loaded.notes == fitted.notes


def test_bound_is_finite_and_prefers_observed_cells_to_shuffled_genes(world, fitted):
    part = world.screen.take(np.arange(0, world.screen.n_cells, 10))
    bound = fitted.evidence_bound(part, n_particles=20)
    values = part.stored(np.arange(part.n_cells)).toarray()
    order = np.random.default_rng(0).permutation(N_GENES)
    mixed = replace(part, matrix=InMemory(sparse.csr_matrix(values[:, order])), row=np.arange(part.n_cells))
    assert np.isfinite(bound).all()
    assert bound.mean() > fitted.evidence_bound(mixed, n_particles=20).mean() + 10


def test_screen_in_which_nothing_can_be_told_is_trained_without_artefacts_and_said():
    fitted = CradleVae(**SMALL).fit(check_world().with_cells)
    assert fitted.notes == (
        "molecules: not told, because the screen holds log1p_cp10k instead of counts.",
        "mitochondrial: not told, because no such gene is measured.",
    )
    assert fitted.share_failed < 0.2


def test_published_weights_without_failing_cells_still_reconstruct(world):
    model = CradleVae.make("paper", **SMALL, quality="none")
    fitted = model.fit(TrainingData.of(world.screen))
    assert fitted.share_failed == 0.0
    assert fitted.losses[-1, 0] < fitted.losses[0, 0]


def test_all_cells_failing_is_refused(world):
    every = replace(world.screen, covariates=pd.DataFrame({"bad": np.ones(world.screen.n_cells, dtype=bool)}))
    with pytest.raises(NotEnoughTraining, match="every training cell fails"):
        CradleVae(**SMALL, quality_column="bad").fit(TrainingData.of(every))
    with pytest.raises(NotCounts):
        pass_rates(CradleVae(**SMALL).fit(check_world().with_cells), check_world().with_cells.screen)
