"""How far any fixed mixture of models could go: weights of least mean L2 to the test responses, a bound, no result.

Run: python benchmarks/best_mixture.py STUDY [STUDY ...] --out FOLDER     (after graph_results.py --out FOLDER)
Prints L2 of each model, of the mixture, and its weights: the best at or above 0 that sum to 1, one set for all queries.
"""

import argparse
from pathlib import Path

import anndata
import numpy as np
from graph_results import SHARED, STUDIES, Study
from scipy.optimize import minimize

from perturbcast.data.readers import read
from perturbcast.data.responses import ResponseTable

MODELS = ("app", "spectral-ridge", "kernel-ridge", "pair-ridge", "grape", "gears", "fmlp", "embedding-ridge", "nearest")
FEWEST_WEIGHT = 0.005  # weights below are not shown


def predictions(folder: Path, model: str) -> dict[tuple[str, str], np.ndarray]:
    """Response (gene,) by split and condition; empty where the model was not run."""
    found: dict[tuple[str, str], np.ndarray] = {}
    for file in sorted((folder / model / "predictions").glob(f"**/{model}.h5ad")):
        block = anndata.read_h5ad(file)
        rows = np.asarray(block.layers["response"], dtype=np.float64)
        found |= {(file.parent.name, str(name)): row for name, row in zip(block.obs["condition"], rows, strict=True)}
    return found


def errors(study: Study, folder: Path) -> dict[str, np.ndarray]:
    """(query, gene) error of each model on the queries that all answered."""
    truth = read(SHARED / study.file)
    assert isinstance(truth, ResponseTable)
    row = {condition: place for place, condition in enumerate(truth.conditions)}
    answered = {model: found for model in MODELS if (found := predictions(folder, model))}
    shared = sorted(set.intersection(*(set(found) for found in answered.values())))
    observed = np.array([truth.response[row[condition]] for _, condition in shared])
    return {model: np.array([found[query] for query in shared]) - observed for model, found in answered.items()}


def best_weights(parts: np.ndarray) -> np.ndarray:
    """(model,) weights of least mean L2 of the mixture of (model, query, gene) errors."""
    products = np.einsum("iqg,jqg->qij", parts, parts)
    n = len(parts)

    def l2(weights: np.ndarray) -> tuple[float, np.ndarray]:
        along = products @ weights
        size = np.sqrt(along @ weights)
        return float(size.mean()), (along / size[:, None]).mean(axis=0)

    sums_to_one = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    start = np.full(n, 1 / n)
    return np.asarray(minimize(l2, start, jac=True, bounds=[(0, 1)] * n, constraints=sums_to_one).x)


def main() -> None:
    """Prints a table per study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+", choices=[study.name for study in STUDIES])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for study in STUDIES:
        if study.name not in arguments.studies:
            continue
        found = errors(study, arguments.out / study.name)
        weights = best_weights(np.stack(list(found.values())))
        mixed = sum(weight * error for weight, error in zip(weights, found.values(), strict=True))
        n_queries = len(mixed)
        print(f"{study.name}: {n_queries} queries")
        for (model, error), weight in zip(found.items(), weights, strict=True):
            share = f"weight {weight:.2f}" if weight >= FEWEST_WEIGHT else ""
            print(f"  {model:16s} L2 {np.linalg.norm(error, axis=1).mean():.3f} {share}")
        print(f"  {'mixture':16s} L2 {np.linalg.norm(mixed, axis=1).mean():.3f}")


if __name__ == "__main__":
    main()
