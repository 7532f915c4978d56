"""What `perturbcast network` does, one function per action: infer, convert, score. Drawing is in `report`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from perturbcast._progress import Progress
from perturbcast.data.readers import read
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.errors import NeedsCells, WrongKind
from perturbcast.networks.causalbench import curve, hold_out, intervention_tests
from perturbcast.networks.export import load_network, write_network
from perturbcast.networks.from_model import LearnsNetwork, network_of_model
from perturbcast.networks.methods import get_method
from perturbcast.networks.network import Network
from perturbcast.networks.reference import read_reference
from perturbcast.networks.scores import score_against
from perturbcast.networks.stability import consensus, stability
from perturbcast.networks.universe import universe_of

SCORE_TABLE = ("score", "value", "chance", "low", "high", "against", "k", "n_pairs", "n_true")


def infer_network(
    data: Path | str | Screen | ResponseTable,
    *,
    method: str = "mean-difference",
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
    top: int | None = None,
    threshold: float | None = None,
    train_only: bool = False,
    n_stability: int = 0,
    parts: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Network:
    """The network of a screen, cut at `top` edges or above `threshold`, and written to `out` where given.

    `train_only`: infer from the cells that `score_saved` with the same seed does not score on. `n_stability`: repeats
    of the bootstrap of cells; 0 leaves stability out. WrongKind for a file of responses; errors of `infer` and
    `write_network`.
    """
    screen = screen_of(data)
    if train_only:
        screen = hold_out(screen, seed=seed)[0]
    chosen = get_method(method, **(settings or {}))
    if n_stability:
        network = stability(screen, method=chosen, n=n_stability, top=top or 1000, seed=seed, progress=progress)
    else:
        network = chosen.infer(screen, seed=seed, progress=progress, parts=parts)
    network = _cut(network, top=top, threshold=threshold)
    if out is not None:
        write_network(network, out)
    return network


def read_out(
    fitted: Sequence[Any],
    *,
    screen: Screen | None = None,
    out: Path | None = None,
    top: int | None = None,
    threshold: float | None = None,
) -> Network:
    """The network of fitted models, cut as asked, and written to `out` where given.

    Of a model that learned one (LearnsNetwork) that network; of any other, or of all where a `screen` is given, the
    sizes of its predicted responses to single perturbations (`network_of_model`). Of several fits what they agree on,
    with stability (`consensus`). NeedsCells for a model without a network of its own and without a screen; BadOption
    without a model; errors of `network_of_model` and `write_network`.
    """
    networks = [_of_fitted(one, screen) for one in fitted]
    network = networks[0] if len(networks) == 1 else consensus(networks, top=top or 1000)
    network = _cut(network, top=top, threshold=threshold)
    if out is not None:
        write_network(network, out)
    return network


def _of_fitted(fitted: Any, screen: Screen | None) -> Network:
    if screen is not None:
        return network_of_model(fitted, screen)
    if isinstance(fitted, LearnsNetwork):
        return fitted.network_of_genes()
    raise NeedsCells(
        "this model learned no network of its own.", "Name the screen with --screen to rank its predicted responses."
    )


def convert_network(source: Path, out: Path, *, top: int | None = None, threshold: float | None = None) -> Network:
    """A saved network (or any edge list) cut and written in the format of `out`'s ending."""
    network = _cut(load_network(source), top=top, threshold=threshold)
    write_network(network, out)
    return network


def _cut(network: Network, *, top: int | None, threshold: float | None) -> Network:
    if threshold is not None:
        network = network.threshold(threshold)
    return network if top is None else network.top(top)


def score_saved(
    network: Path | Network,
    data: Path | str | Screen | ResponseTable,
    *,
    references: Sequence[Path] = (),
    tops: Sequence[int] | None = None,
    targets: str = "perturbed",
    max_path: int | None = 3,
    n_bootstrap: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One long table: CausalBench's scores on the held-out fifth of the cells at each K, and scores against references.

    Columns SCORE_TABLE: `against` is "held-out cells" or a reference with its version, `k` the number of edges taken
    (all where a ranking is scored). UnknownGenes where the network names genes that the screen neither measures nor
    perturbs.
    """
    screen = screen_of(data)
    found = load_network(network) if isinstance(network, Path) else network
    universe = universe_of(screen, measured_sources=False)
    found = found.among(dict.fromkeys([*universe.targets, *universe.sources]))
    tests = intervention_tests(hold_out(screen, seed=seed)[1], targets=targets, progress=progress)
    at_k = curve(found, tests, tops=tops, max_path=max_path)
    long = at_k.melt(id_vars="k", value_vars=["wasserstein", "significant", "false_omission_rate"], var_name="score")
    records = long.assign(against="held-out cells", n_pairs=tests.universe.n_pairs).to_dict("records")
    for path in references:
        reference = read_reference(path)
        rows = score_against(
            found,
            reference.network,
            universe=universe,
            directed=reference.directed,
            n_bootstrap=n_bootstrap,
            seed=seed,
        )
        rows = rows.assign(against=f"{reference.name} {reference.version}", k=found.n_edges)
        records += rows.to_dict("records")
    return pd.DataFrame(records, columns=list(SCORE_TABLE))


def screen_of(data: Path | str | Screen | ResponseTable) -> Screen:
    """The screen itself, or that of a file; WrongKind for a file of responses."""
    screen = data if isinstance(data, Screen | ResponseTable) else read(data)
    if isinstance(screen, ResponseTable):
        raise WrongKind("networks are inferred from cells, and the file holds responses.", "Pass a screen of cells.")
    return screen
