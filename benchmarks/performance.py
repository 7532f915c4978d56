"""Wall time and peak memory of the heavy jobs, each in a process of its own; writes docs/PERFORMANCE.md.

Run: python benchmarks/performance.py            (about five minutes, 3 GB of disk in a temporary folder)
     python benchmarks/performance.py all_pairs  (one job, printed as JSON)
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
THREADS = "2"
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = THREADS


def sparse_counts(n_cells, n_genes, *, seed, density=0.12):
    """(cell, gene) CSR of counts with a realistic share of zeros, made without a dense copy."""
    import numpy as np
    from scipy import sparse

    rng = np.random.default_rng(seed)
    popularity = rng.gamma(0.6, 1.0, n_genes)
    popularity /= popularity.sum()
    per_cell = rng.poisson(density * n_genes, n_cells)
    columns = rng.choice(n_genes, size=int(per_cell.sum()), p=popularity)
    rows = np.repeat(np.arange(n_cells), per_cell)
    counts = sparse.coo_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(n_cells, n_genes))
    return counts.tocsr()


def labels(n_cells, n_conditions, *, seed):
    """(cell,) condition labels, a tenth of them control."""
    import numpy as np

    rng = np.random.default_rng(seed)
    names = np.array(["ctrl", *(f"G{number}" for number in range(n_conditions))])
    return names[rng.choice(n_conditions + 1, n_cells, p=[0.1] + [0.9 / n_conditions] * n_conditions)]


def write_screen(path, *, n_cells, n_genes, n_conditions, chunk=20_000):
    """A screen file of any size, appended chunk by chunk."""
    import h5py
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    obs = pd.DataFrame({"condition": labels(n_cells, n_conditions, seed=0)}, index=[f"c{i}" for i in range(n_cells)])
    var = pd.DataFrame(index=[f"G{i}" for i in range(n_genes)])
    AnnData(sparse.csr_matrix((n_cells, n_genes), dtype=np.float32), obs=obs, var=var).write_h5ad(path)
    data, indices, indptr = [], [], [np.zeros(1, dtype=np.int64)]
    with h5py.File(path, "r+") as file:
        for name in ("data", "indices", "indptr"):
            del file["X"][name]
        data = file["X"].create_dataset("data", (0,), maxshape=(None,), dtype="f4", chunks=(2**18,))
        indices = file["X"].create_dataset("indices", (0,), maxshape=(None,), dtype="i4", chunks=(2**18,))
        for start in range(0, n_cells, chunk):
            block = sparse_counts(min(chunk, n_cells - start), n_genes, seed=start)
            written = data.shape[0]
            for dataset, values in ((data, block.data), (indices, block.indices)):
                dataset.resize((written + block.nnz,))
                dataset[written:] = values
            indptr.append(block.indptr[1:].astype(np.int64) + written)
        file["X"].create_dataset("indptr", data=np.concatenate(indptr))


def full_metric_profile(folder):
    """Statistics, DE of the truth, and every metric of the full profile: 50k cells x 5k genes x 200 conditions."""
    import perturbcast
    from perturbcast.metrics.base import Evaluation
    from perturbcast.metrics.score import score

    path = folder / "screen.h5ad"
    if not path.exists():
        write_screen(path, n_cells=50_000, n_genes=5_000, n_conditions=200)
        return None
    screen = perturbcast.read(path)
    start = time.perf_counter()
    table = perturbcast.response_table(screen)
    de = perturbcast.differential_expression(screen)
    training = perturbcast.TrainingData(responses=table)
    fitted = perturbcast.get_model("mean").fit(training, seed=0)
    evaluation = Evaluation(
        truth=table, predicted=fitted.predict(list(table.queries)), training=table, de=de, screen=screen
    )
    scores = score(evaluation, profile="full")
    return {"seconds": time.perf_counter() - start, "rows": len(scores)}


def statistics_backed(folder):
    """Response statistics of 200k cells x 2k genes read from disk."""
    import perturbcast

    path = folder / "large.h5ad"
    if not path.exists():
        write_screen(path, n_cells=200_000, n_genes=2_000, n_conditions=300)
        return None
    start = time.perf_counter()
    table = perturbcast.response_table(perturbcast.read(path, backed=True))
    return {"seconds": time.perf_counter() - start, "queries": table.n_queries}


def random_responses(n_conditions, n_genes, *, doubles=0):
    """A response table of singles (and doubles) with random profiles, and two embedding tables."""
    import numpy as np

    from perturbcast import GeneKnowledge, Query, ResponseTable
    from perturbcast.data.scale import Scale
    from perturbcast.genes.knowledge import EmbeddingTable

    rng = np.random.default_rng(0)
    names = np.array([f"G{i}" for i in range(n_conditions)], dtype=object)
    queries = [Query(name) for name in names]
    queries += [Query("+".join(sorted(rng.choice(names, 2, replace=False)))) for _ in range(doubles)]
    queries = list(dict.fromkeys(queries))
    table = ResponseTable(
        name="random",
        scale=Scale.LOG1P_CP10K,
        genes=np.array([f"G{i}" for i in range(n_genes)], dtype=object),
        queries=tuple(queries),
        response=rng.normal(size=(len(queries), n_genes)),
        contexts=("",),
        control=rng.gamma(2, 0.4, (1, n_genes)),
        n_cells=rng.integers(30, 200, len(queries)),
    )
    embeddings = {
        name: EmbeddingTable(name, names, rng.normal(size=(n_conditions, width)).astype(np.float32))
        for name, width in (("first", 64), ("second", 256))
    }
    return table, GeneKnowledge(embeddings=embeddings)


def kernel_ridge(folder):
    """Multi-kernel ridge with leave-one-out choice of weights: 1,500 conditions x 2,000 genes."""
    import perturbcast

    table, knowledge = random_responses(1_500, 2_000)
    model = perturbcast.get_model("kernel-ridge")
    start = time.perf_counter()
    fitted = model.fit(perturbcast.TrainingData(responses=table, knowledge=knowledge), seed=0)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "conditions": len(fitted.seen)}


def all_pairs(folder):
    """`predict --all-pairs` for 300 targets x 2,000 genes, file written."""
    import perturbcast

    saved = folder / "model"
    if not saved.exists():
        table, knowledge = random_responses(300, 2_000, doubles=60)
        training = perturbcast.TrainingData(responses=table, knowledge=knowledge)
        perturbcast.get_model("kernel-ridge").fit(training, seed=0).save(saved)
        return None
    from perturbcast.cli import run

    start = time.perf_counter()
    status = run(["predict", str(saved), "--all-pairs", "--out", str(folder / "pairs.h5ad"), "--threads", THREADS])
    return {"seconds": time.perf_counter() - start, "status": status}


JOBS = {
    "full_metric_profile": (full_metric_profile, "under 60 s and 1.5 GB"),
    "statistics_backed": (statistics_backed, "under 1 GB"),
    "kernel_ridge": (kernel_ridge, "under 20 s"),
    "all_pairs": (all_pairs, "under 20 s"),
}


def measure(name, folder):
    """One job in this process, as a dictionary; a job that only prepared its input is run again by the caller."""
    found = JOBS[name][0](folder)
    if found is None:
        return None
    return found | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_own_process(name, folder):
    """The result of one job, prepared in one process and measured in a fresh one."""
    for _ in range(2):
        command = [sys.executable, __file__, name, str(folder)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        result = json.loads(run.stdout.splitlines()[-1])
        if result is not None:
            return result
    raise RuntimeError(f"{name} prepared its input twice")


def main():
    """Measures every job and writes the page."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, (job, demand) in JOBS.items():
            result = in_own_process(name, Path(temporary))
            print(name, result, flush=True)
            text = " ".join(job.__doc__.split())
            rows.append(f"| {text} | {result['seconds']:.1f} | {result['peak_mb']:.0f} | {demand} |")
    page = (ROOT / "docs" / "PERFORMANCE.md").read_text()
    head, _, tail = page.partition("<!-- measured -->")
    tail = tail.partition("<!-- /measured -->")[2]
    table = "\n| job | seconds | peak MB | demand |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    (ROOT / "docs" / "PERFORMANCE.md").write_text(f"{head}<!-- measured -->{table}<!-- /measured -->{tail}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        place = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp())
        outcome = measure(sys.argv[1], place)
        if outcome is None and len(sys.argv) == 2:
            outcome = in_own_process(sys.argv[1], place)
        print(json.dumps(outcome))
    else:
        main()
