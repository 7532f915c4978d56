"""Processor time and peak memory of gene knowledge at 10,000 genes, each job in a process of its own.

Run: python benchmarks/genes.py ../shared/data           (prints a table; about a minute)
     python benchmarks/genes.py ../shared/data go_graph  (one job, printed as JSON)
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

N_GENES = 10_000


def genes_and_sets(data, name):
    """The sets of a GMT file, and 10,000 genes: those in sets first."""
    from perturbcast.genes.load import load_knowledge

    knowledge = load_knowledge([data / "genes" / "ensembl_genes.parquet", data / "networks" / f"{name}.gmt"])
    sets = knowledge.gene_sets[name]
    genes = list(dict.fromkeys([*sets.genes, *knowledge.table.frame["symbol"]]))[:N_GENES]
    return genes, sets


def go_graph(data):
    """C-1: Jaccard graph of 10,000 genes over GO biological process."""
    from perturbcast.genes.graphs import jaccard_top_graph

    genes, sets = genes_and_sets(data, "go_biological_process")
    return lambda: jaccard_top_graph(sets, genes)


def reactome_graph(data):
    """C-1: Jaccard graph of 10,000 genes over Reactome."""
    from perturbcast.genes.graphs import jaccard_top_graph

    genes, sets = genes_and_sets(data, "reactome")
    return lambda: jaccard_top_graph(sets, genes)


def coexpression_of_responses(data):
    """C-2: co-expression graph of 10,000 genes from 800 responses."""
    import numpy as np

    from perturbcast.genes.graphs import coexpression_graph

    profiles = np.random.default_rng(0).normal(size=(800, N_GENES))
    return lambda: coexpression_graph(profiles, [f"G{number}" for number in range(N_GENES)], least=0.1)


def coexpression_of_cells(data):
    """C-2: co-expression graph of 5,000 genes from 20,000 cells, 10 % of entries filled."""
    import numpy as np
    from scipy import sparse

    from perturbcast.genes.graphs import coexpression_graph

    cells = sparse.random_array((20_000, 5_000), density=0.1, format="csr", rng=np.random.default_rng(0))
    cells = sparse.csr_matrix(cells)
    return lambda: coexpression_graph(cells, [f"G{number}" for number in range(5_000)], least=0.01)


def rewired_string(data):
    """B.4 c: half of STRING rewired."""
    from perturbcast.genes.degrade import degraded
    from perturbcast.genes.load import load_knowledge

    (graph,) = load_knowledge([data / "networks" / "string_human.csv"]).graphs.values()
    return lambda: degraded(graph, "rewire", 0.5, seed=0)


JOBS = [go_graph, reactome_graph, coexpression_of_responses, coexpression_of_cells, rewired_string]


def measure(job, data):
    """Processor seconds of the job itself, its edges, and the peak memory of the process."""
    work = job(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    graph = work()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 2), "edges": graph.weights.nnz, "mb_before": round(before), "mb": round(peak)}


def main(data):
    """One row per job."""
    print("| job | processor s | edges | MB before | MB peak |\n|---|---|---|---|---|")
    for job in JOBS:
        command = [sys.executable, __file__, str(data), job.__name__]
        row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        print(f"| {job.__doc__.strip()} | {' | '.join(str(row[key]) for key in row)} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(measure({job.__name__: job for job in JOBS}[sys.argv[2]], Path(sys.argv[1]))))
    else:
        main(Path(sys.argv[1]))
