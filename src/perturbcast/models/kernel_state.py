"""How kernels of conditions are kept in a fitted model: views once, kernels as numbers of views with weights."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from perturbcast.models.base import encode_text
from perturbcast.models.condition_kernels import ConditionKernel
from perturbcast.models.gene_views import GeneView, restored_view

CELLS = "cells"  # name of the noise kernel diag(mean n / n)
NO_VIEW = -1  # number of the view of a kernel that asks whether it is the same target


def views_in_use(kernels: Sequence[ConditionKernel], weights: Float[np.ndarray, " weight"]) -> list[GeneView]:
    """The views of kernels that have weight, each once."""
    active = [kernels[int(k)].view for k in np.flatnonzero(weights[: len(kernels)])]
    return different(view for view in active if view is not None)


def different(views: Iterable[GeneView]) -> list[GeneView]:
    """The views, each once, in the order in which they come first."""
    return list({id(view): view for view in views}.values())


def view_state(views: Sequence[GeneView]) -> dict[str, np.ndarray]:
    """Arrays of all views, by number."""
    return {f"view.{n}.{key}": value for n, view in enumerate(views) for key, value in view.state().items()}


def restored_views(state: Mapping[str, np.ndarray]) -> list[GeneView]:
    """The views whose `view_state` is among some arrays."""
    by_number: dict[int, dict[str, np.ndarray]] = {}
    for key, array in state.items():
        if key.startswith("view."):
            _, number, name = key.split(".", 2)
            by_number.setdefault(int(number), {})[name] = array
    return [restored_view(by_number[number]) for number in sorted(by_number)]


def kernel_state(
    kernels: Sequence[ConditionKernel], weights: Float[np.ndarray, " weight"], views: Sequence[GeneView]
) -> dict[str, np.ndarray]:
    """Names and weights of all kernels, that of the noise of cells last where it has one; views by number."""
    names = [kernel.name for kernel in kernels] + [CELLS] * (len(weights) > len(kernels))
    active = np.flatnonzero(weights[: len(kernels)])
    number = {id(view): place for place, view in enumerate(views)}
    reach = [(number.get(id(kernels[int(k)].view), NO_VIEW), kernels[int(k)].local) for k in active]
    return {
        "kernel.names": encode_text(names),
        "kernel.weights": np.asarray(weights, dtype=np.float64),
        "kernel.reach": np.array(reach, dtype=np.int64).reshape(len(active), 2),
        "kernel.reach_weights": np.asarray(weights, dtype=np.float64)[active],
    }


def restored_kernels(state: Mapping[str, np.ndarray], views: Sequence[GeneView]) -> list[ConditionKernel]:
    """The kernels that have weight, in the order of `kernel.reach_weights`."""
    reach = state["kernel.reach"].tolist()
    return [ConditionKernel(None if n == NO_VIEW else views[n], local=bool(local)) for n, local in reach]
