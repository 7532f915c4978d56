"""Plans: which tasks there are, and when two of them are the same."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from perturbcast.benchmarking.dataset import load_datasets
from perturbcast.benchmarking.fingerprint import data_fingerprint, fingerprint
from perturbcast.benchmarking.plan import make_plan, named_models, with_references
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.splits import make_splits
from perturbcast.data.statistics import response_table
from perturbcast.errors import NothingToScore, UnknownModel, UnknownOption
from perturbcast.models.registry import all_models, get_model


def test_simple_baselines_run_beside_any_model(responses: ResponseTable) -> None:
    named = named_models(["matching-mean"])
    singles = make_splits(responses, "singles", folds=2)[0]
    doubles = make_splits(responses, "doubles")[0]
    assert [one.label for one in with_references(named, singles)] == ["no-change", "mean", "matching-mean"]
    assert [one.label for one in with_references(named, doubles)] == ["no-change", "mean", "additive", "matching-mean"]


def test_groups_are_expanded_and_models_named_twice_run_once() -> None:
    labels = [named.label for named in named_models(["mean", "baselines", "mean:perturbed"])]
    assert labels[0] == "mean"
    assert sorted(labels) == sorted(name for name, model in all_models().items() if model.card.baseline)


def test_models_are_given_as_objects_too() -> None:
    model = get_model("mean:cells")
    assert [named.label for named in named_models([model, "mean:cells"])] == ["mean:cells"]


def test_fields_are_set_in_the_models_that_have_them() -> None:
    named = named_models(["mean", "no-change"], fields={"variant": "cells"})
    assert named[0].model == get_model("mean:cells")
    assert named_models(["mean"], fields={"mean.variant": "cells"})[0].model == get_model("mean:cells")


@pytest.mark.parametrize("field", ["varriant", "linear.variant", "mean.varriant"])
def test_a_field_that_no_model_has_is_an_error(field: str) -> None:
    with pytest.raises(UnknownOption, match="riant"):
        named_models(["mean"], fields={field: "cells"})


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(UnknownModel, match="mean"):
        named_models(["maen"])


def test_no_data_is_an_error() -> None:
    with pytest.raises(NothingToScore):
        load_datasets([])


def test_data_sets_of_one_name_are_told_apart(responses: ResponseTable) -> None:
    assert [dataset.name for dataset in load_datasets([responses, responses])] == ["world", "world-2"]


def test_keys_change_with_model_fields_split_profile_and_data(responses: ResponseTable) -> None:
    datasets = load_datasets(responses)
    splits = make_splits(responses, "singles", seeds=(1, 2), folds=2)

    def keys(split: int = 0, model: str = "mean", profile: str = "core", data: ResponseTable = responses) -> set[str]:
        plan = make_plan(load_datasets(data), [("world", splits[split])], named_models([model]), profile=profile)
        return {task.key for task in plan.tasks if task.kind == "model" and task.label == model}

    other = replace(responses, response=responses.response + 1e-3)
    variants = [keys(), keys(2), keys(model="mean:cells"), keys(profile="full"), keys(data=other)]
    assert len(set.union(*variants)) == len(variants)
    assert keys() == keys()
    assert datasets[0].fingerprint == load_datasets(responses)[0].fingerprint


def test_the_fingerprint_of_data_sees_every_cell(screen: Screen) -> None:
    table = response_table(screen)
    swapped = screen.condition_code.copy()
    perturbed = np.flatnonzero(~screen.is_control)
    first, second = perturbed[0], perturbed[swapped[perturbed] != swapped[perturbed[0]]][0]
    swapped[[first, second]] = swapped[[second, first]]
    changed = replace(screen, condition_code=swapped)
    assert data_fingerprint(screen, table) == data_fingerprint(screen, response_table(screen))
    assert data_fingerprint(screen, table) != data_fingerprint(changed, response_table(changed))


def test_fingerprints_tell_values_apart_that_look_alike() -> None:
    values = [
        *("1", 1, 1.5, True, None, (), ("",), ("a", "b"), ("ab",), (("a",), "b"), {"a": 1}, {"a": "1"}),
        *(np.array([1, 2]), np.array([[1, 2]]), np.array([1.0, 2.0]), np.array(["1", "2"], dtype=object)),
        sparse.csr_matrix(np.array([[1, 2]])),
    ]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
