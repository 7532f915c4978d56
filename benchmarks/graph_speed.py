"""Fit time, time to predict 20,000 single targets, parameters and peak memory of models of mean responses.

Run: python benchmarks/graph_speed.py                      (app and what it is compared with; a few minutes)
     python benchmarks/graph_speed.py grape app:paper      (models by name; each in a process of its own)
Sizes: --genes 2000 --conditions 800 --asked 20000 --threads 2
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

MODELS = ("kernel-ridge", "fmlp", "app", "app:paper")
N_FEATURES, N_NEIGHBOURS = 64, 20
AT_ONCE = 1024  # queries per call of `predict`, as in the command line


def training_data(*, n_genes, n_conditions, n_known, seed=0):
    """(training data, names of all known genes): responses that hidden features explain in part, with two graphs."""
    import numpy as np

    from perturbcast.data.conditions import Query
    from perturbcast.data.responses import ResponseTable
    from perturbcast.data.scale import Scale
    from perturbcast.genes.knowledge import EmbeddingTable, GeneKnowledge
    from perturbcast.models.base import TrainingData

    rng = np.random.default_rng(seed)
    names = np.array([f"G{number:05d}" for number in range(n_known)], dtype=object)
    hidden = rng.normal(size=(n_known, N_FEATURES)).astype(np.float32)
    perturbed = np.sort(rng.choice(n_known, n_conditions, replace=False))
    mixing = rng.normal(size=(N_FEATURES, n_genes)) / np.sqrt(N_FEATURES)
    response = 0.3 * np.tanh(hidden[perturbed]) @ mixing + 0.1 * rng.normal(size=(n_conditions, n_genes))
    table = ResponseTable(
        name="speed",
        scale=Scale.LOG1P_CP10K,
        genes=names[:n_genes],
        queries=tuple(Query(str(names[place])) for place in perturbed),
        response=response,
        contexts=("",),
        control=np.ones((1, n_genes)),
    )
    noisy = hidden + 0.5 * rng.normal(size=hidden.shape).astype(np.float32)
    knowledge = GeneKnowledge(
        embeddings={"features": EmbeddingTable("features", names, noisy)},
        graphs={name: random_graph(name, names, rng) for name in ("first", "second")},
    )
    return TrainingData(table, knowledge=knowledge), [str(name) for name in names]


def random_graph(name, names, rng):
    """A graph of twenty edges a gene, of no meaning: it costs what a real one of that size costs."""
    import numpy as np
    from scipy import sparse

    from perturbcast.genes.knowledge import GeneGraph

    n_edges = N_NEIGHBOURS // 2 * len(names)
    ends = rng.integers(0, len(names), (2, n_edges))
    weights = sparse.coo_matrix((np.ones(n_edges, dtype=np.float32), ends), shape=(len(names),) * 2).tocsr()
    return GeneGraph(name, names, sparse.csr_matrix(weights.maximum(weights.T)))


def n_parameters(fitted):
    """Learned numbers: weights of all networks, or of the whole state where there is no network."""
    state = fitted.state()
    networks = {name: array for name, array in state.items() if name.startswith("member.")}
    return int(sum(array.size for array in (networks or state).values()))


def measured(model, sizes, *, threads):
    """What one model costs; run in a process of its own."""
    import numpy as np
    import torch

    from perturbcast.models.registry import get_model

    training, names = training_data(n_genes=sizes.genes, n_conditions=sizes.conditions, n_known=sizes.asked)
    torch.set_num_threads(threads)
    start = time.monotonic()
    fitted = get_model(model).fit(training)
    fit_seconds = time.monotonic() - start
    start = time.monotonic()
    for place in range(0, len(names), AT_ONCE):
        found = fitted.predict(names[place : place + AT_ONCE], dtype=np.float32)
        assert np.isfinite(found.response).all()
    return {
        "model": model,
        "fit s": round(fit_seconds, 1),
        "predict s": round(time.monotonic() - start, 1),
        "parameters": n_parameters(fitted),
        "peak GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def main():
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--conditions", type=int, default=800)
    parser.add_argument("--asked", type=int, default=20_000, help="single targets; knowledge is of as many genes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="in this process, as JSON; for one model")
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measured(asked.models[0], asked, threads=asked.threads)))
        return
    sizes = [f"--{name}={getattr(asked, name)}" for name in ("genes", "conditions", "asked", "threads")]
    environment = os.environ | {f"{name}_NUM_THREADS": str(asked.threads) for name in ("OMP", "OPENBLAS", "MKL")}
    columns = ("model", "fit s", "predict s", "parameters", "peak GB")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for model in asked.models:
        command = [sys.executable, __file__, model, "--here", *sizes]
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(run.stdout.splitlines()[-1])
        print(
            "| " + " | ".join(f"{row[name]:,}" if name != "model" else row[name] for name in columns) + " |", flush=True
        )


if __name__ == "__main__":
    main()
