"""Networks that benchmarked models learned: kept beside their predictions, and scored against truth and references."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from perturbcast.benchmarking.store import prediction_path, write_table
from perturbcast.errors import PerturbcastError
from perturbcast.networks.causalbench import curve, intervention_tests
from perturbcast.networks.export import load_network, write_network
from perturbcast.networks.from_model import LearnsNetwork
from perturbcast.networks.network import Network
from perturbcast.networks.scores import score_against, score_network
from perturbcast.networks.universe import Universe, universe_of

if TYPE_CHECKING:
    from perturbcast.benchmarking.dataset import Dataset
    from perturbcast.benchmarking.plan import Plan, Task

FOLDER = "networks"  # of a benchmark
TABLE = "network_scores.parquet"
COLUMNS = ("dataset", "split", "seed", "fold", "model", "against", "score", "value", "chance", "k", "n_pairs", "n_true")
TRUTH = "simulated truth"
TOPS = (20, 50, 100, 200, 500)


def network_path(folder: Path, *, dataset: str, split: str, seed: int, fold: int, model: str) -> Path:
    """Where the network of a model is."""
    path = prediction_path(folder, dataset=dataset, split=split, seed=seed, fold=fold, model=model)
    return folder.joinpath(FOLDER, *path.relative_to(folder / "predictions").parts).with_suffix(".parquet")


def path_of(folder: Path, task: "Task") -> Path:
    """Where the network of a task is."""
    fold = -1 if task.split.fold is None else task.split.fold
    rule = task.split.rule
    return network_path(folder, dataset=task.dataset, split=rule, seed=task.split.seed, fold=fold, model=task.label)


def keep_network(fitted: object, task: "Task", *, folder: Path) -> None:
    """Writes the network of a model that learns one; nothing for others."""
    if isinstance(fitted, LearnsNetwork):
        path = path_of(folder, task)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_network(fitted.network_of_genes(), path)


def score_networks(plan: "Plan", *, folder: Path, files: Sequence[object]) -> None:
    """Scores every network of the plan against all references there are; no file where there is no network.

    References: the graphs of the gene knowledge, and where a data set is a simulated world's screen the true network
    beside it. The cells are those of the whole data set: W1 and false omissions say what the network says of them.
    """
    tasks = [task for task in plan.tasks if task.kind == "model" and path_of(folder, task).is_file()]
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(task.dataset for task in tasks):
        dataset = next(held for held in plan.datasets if held.name == name)
        rows += _of_dataset(dataset, [task for task in tasks if task.dataset == name], folder, files)
    if rows:
        write_table(pd.DataFrame(rows, columns=list(COLUMNS)), folder / TABLE)


def _of_dataset(
    dataset: "Dataset", tasks: "Sequence[Task]", folder: Path, files: Sequence[object]
) -> list[dict[str, Any]]:
    if dataset.screen is None:
        return []
    references = {name: (Network.from_graph(graph), graph.directed) for name, graph in dataset.knowledge.graphs.items()}
    truth = truth_beside(dataset.name, files)
    if truth is not None:
        references = {TRUTH: (truth, True)} | references
    try:
        universe = universe_of(dataset.screen)
        tests = intervention_tests(dataset.screen, targets="measured")
    except PerturbcastError:  # no gene is both perturbed and measured, or too few cells: nothing can be scored
        return []
    rows = []
    for task in tasks:
        network = load_network(path_of(folder, task))
        found = _against(network, references, universe)
        at_k = curve(network, tests, tops=TOPS).melt(id_vars="k", var_name="score")
        at_k = at_k[at_k["score"].isin(["wasserstein", "false_omission_rate"])].assign(against="cells")
        both = [*found, *({str(key): value for key, value in row.items()} for row in at_k.to_dict("records"))]
        place = {"dataset": task.dataset, "split": task.split.rule, "seed": task.split.seed, "model": task.label}
        fold = -1 if task.split.fold is None else task.split.fold
        rows += [row | place | {"fold": fold} for row in both]
    return rows


def _against(network: Network, references: dict[str, tuple[Network, bool]], universe: Universe) -> list[dict[str, Any]]:
    """Scores against each reference that knows some of the genes."""
    rows: list[dict[str, Any]] = []
    for name, (reference, directed) in references.items():
        try:
            if name == TRUTH:
                found = _against_truth(network, reference, universe)
            else:
                found = score_against(network, reference, universe=universe, directed=directed)
        except PerturbcastError:  # the reference knows none of the genes, or no pair of them
            continue
        records = found.assign(against=name).to_dict("records")
        rows += [{str(key): value for key, value in row.items()} for row in records]
    return rows


def _against_truth(network: Network, truth: Network, universe: Universe) -> pd.DataFrame:
    """Scores over all pairs: the truth is complete, and a gene that it does not name has no edge."""
    n_true = int(((truth.between(universe.sources, universe.targets) > 0) & universe.pairs).sum())
    scores = pd.DataFrame(score_network(network, truth, universe=universe))
    return scores.assign(n_pairs=universe.n_pairs, n_true=n_true)


def truth_beside(name: str, files: Sequence[object]) -> Network | None:
    """The true network of a simulated world, where the data set is its screen; None for other data."""
    for file in files:
        if not isinstance(file, str | Path):
            continue
        path = Path(file)
        truth = path.parent / "truth" / "network.tsv"
        if path.stem == name and (path.parent / "world.json").is_file() and truth.is_file():
            return load_network(truth)
    return None
