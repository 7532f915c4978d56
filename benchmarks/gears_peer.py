"""GEARS beside the package cell-gears: the same split of the same cells, the same epochs, one thread.

Run: python benchmarks/gears_peer.py norman        (cells of Norman et al. 2019; needs the folder ../shared)
     python benchmarks/gears_peer.py simulated     (2,000 cells x 1,000 genes)
     with --venv FOLDER to use an environment made before; without it one is made in the folder of the run (1 GB);
     with --out FOLDER to keep what has been run: a repeat goes on where the last one stopped.
Prints a table for docs/PEER_GEARS.md. CPU seconds of training, so that other work on the machine counts little.
"""

import argparse
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
PEER = ["torch==2.13.0", "torch_geometric", "scipy==1.14.1", "numpy<2.3", "pandas<3", "cell-gears==0.1.2"]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
OURS = ("gears:paper", "gears:legacy")
SPLIT_SEED = 1  # of the GEARS split, and of all that is drawn while preparing


def peer_name(condition):
    """A condition as cell-gears writes it."""
    return condition if condition == "ctrl" or "+" in condition else f"{condition}+ctrl"


# ------------------------------------------------------------------------------------------------------------- prepare
def screen_and_sets(which):
    """The screen, and the gene sets that the graph of targets is made of."""
    if which == "norman":
        from perturbcast.data.readers import read
        from perturbcast.genes.load import load_knowledge

        screen = read(SHARED / "screens" / "norman2019_k562_crispra_cells.h5ad")
        knowledge = load_knowledge([SHARED / "networks" / "go_biological_process.gmt"], genes=screen.genes)
    else:
        from perturbcast.data.simulate import simulate
        from perturbcast.genes.simulated import knowledge_of

        world = simulate(n_cells=2000, n_genes=1000, n_targets=60, n_doubles=30, seed=SPLIT_SEED)
        screen, knowledge = world.screen, knowledge_of(world)
    (sets,) = knowledge.gene_sets.values()
    return screen, sets


def prepare(which, folder):
    """Writes cells, gene sets, the peer's own files and the split; conditions outside the sets are left out."""
    import anndata
    import numpy as np
    import pandas as pd
    from scipy import sparse

    from perturbcast.data.conditions import targets_of
    from perturbcast.data.splits import make_splits
    from perturbcast.models.gears_fit import validation_conditions

    screen, sets = screen_and_sets(which)
    names = sorted(str(gene) for gene in sets.genes)
    known = set(names)
    inside = np.array([set(targets_of(condition)) <= known for condition in screen.conditions])
    screen = screen.take(inside[screen.condition_code])
    labels = np.array([peer_name(condition) for condition in screen.conditions])[screen.condition_code]
    obs = pd.DataFrame({"condition": labels, "cell_type": "cell"}, index=[f"c{i}" for i in range(screen.n_cells)])
    var = pd.DataFrame({"gene_name": screen.genes.astype(str)}, index=screen.genes.astype(str))
    values = sparse.csr_matrix(screen.expression(np.arange(screen.n_cells)))
    anndata.AnnData(values, obs=obs, var=var).write_h5ad(folder / "cells.h5ad")
    write_knowledge(folder, sets, names)
    (split,) = make_splits(screen, "gears", seeds=[SPLIT_SEED])
    train = [query.condition for query in (*split.train, *split.valid)]
    valid = validation_conditions(sorted(set(train)), seed=SPLIT_SEED)
    test = [query.condition for query in split.test]
    sides = {"train": [c for c in train if c not in valid], "valid": valid, "test": test}
    (folder / "sides.json").write_text(json.dumps(sides))
    peer = {"train": [*map(peer_name, sides["train"]), "ctrl"], "val": [*map(peer_name, valid)], "test": test}
    peer["test"] = [peer_name(condition) for condition in test]
    (folder / "split.pkl").write_bytes(pickle.dumps(peer))
    print({name: len(side) for name, side in sides.items()}, f"{screen.n_cells} cells x {screen.n_genes} genes")


def write_knowledge(folder, sets, names):
    """The gene sets as GMT for us; as pickles and a table of edges (C-1) for the peer, which would download them."""
    import numpy as np
    import pandas as pd

    from perturbcast.genes.graphs import jaccard_top_graph

    members = sets.membership.tocsc()
    genes = np.array([str(gene) for gene in sets.genes])
    columns = [genes[members.indices[a:b]] for a, b in zip(members.indptr[:-1], members.indptr[1:], strict=True)]
    lines = ["\t".join([name, "", *column]) for name, column in zip(sets.sets, columns, strict=True)]
    (folder / "sets.gmt").write_text("\n".join(lines) + "\n")
    rows = sets.membership.tocsr()
    place = {gene: row for row, gene in enumerate(genes)}
    peer = folder / "peer"
    (peer / "go_essential_all").mkdir(parents=True)
    by_gene = {name: set(rows[place[name]].indices.tolist()) for name in names}
    (peer / "gene2go_all.pkl").write_bytes(pickle.dumps(by_gene))
    (peer / "essential_all_data_pert_genes.pkl").write_bytes(pickle.dumps(names))
    edges = jaccard_top_graph(sets, names).weights.tocoo()
    named = np.array(names)
    table = {"source": named[edges.row], "target": named[edges.col], "importance": edges.data}
    pd.DataFrame(table).to_csv(peer / "go_essential_all" / "go_essential_all.csv", index=False)


# ----------------------------------------------------------------------------------------------------- one side, alone
def clocked(function, spent):
    """The function, its CPU and wall seconds added to `spent`."""

    def timed(*arguments, **named):
        cpu, wall = time.process_time(), time.perf_counter()
        found = function(*arguments, **named)
        spent["cpu"] = spent.get("cpu", 0.0) + time.process_time() - cpu
        spent["wall"] = spent.get("wall", 0.0) + time.perf_counter() - wall
        return found

    return timed


def peer_side(folder, *, epochs, seed):
    """Trains the peer; its predictions of the test conditions, and what it took."""
    import anndata
    import gears.gears as code
    import numpy as np
    import torch
    from gears import GEARS, PertData

    torch.set_num_threads(1)
    np.random.seed(seed)  # noqa: NPY002 - what the peer draws from
    torch.manual_seed(seed)
    os.chdir(folder)
    started = time.perf_counter()
    data = PertData(str(folder / "peer"))
    data.new_data_process(dataset_name=f"screen{seed}", adata=anndata.read_h5ad(folder / "cells.h5ad"))
    data.load(data_path=str(folder / "peer" / f"screen{seed}"))
    data.prepare_split(split="custom", split_dict_path=str(folder / "split.pkl"))
    data.seed, data.train_gene_set_size = seed, 0
    data.get_dataloader(batch_size=32, test_batch_size=128)
    model = GEARS(data, device="cpu")
    model.model_initialize(hidden_size=64)
    prepared = time.perf_counter() - started
    evaluating, training = {}, {}
    code.evaluate = clocked(code.evaluate, evaluating)
    clocked(model.train, training)(epochs=epochs, lr=1e-3)
    test = json.loads((folder / "sides.json").read_text())["test"]
    found = model.predict([condition.split("+") for condition in test])
    expression = np.stack([found["_".join(condition.split("+"))] for condition in test])
    return expression, {"prepare": prepared, "training": training, "evaluating": evaluating}


def our_side(folder, *, name, epochs, seed):
    """Trains ours; its predictions of the test conditions, and what it took."""
    import numpy as np
    import torch

    import perturbcast.models.gears_fit as code
    import perturbcast.training.engine as engine
    from perturbcast.data.readers import read
    from perturbcast.data.statistics import response_table
    from perturbcast.genes.load import load_knowledge
    from perturbcast.models.base import TrainingData
    from perturbcast.models.registry import get_model

    torch.set_num_threads(1)
    started = time.perf_counter()
    screen = read(folder / "cells.h5ad")
    sides = json.loads((folder / "sides.json").read_text())
    table = response_table(screen)
    rows = np.isin(np.array(table.conditions), sides["train"] + sides["valid"])
    training = TrainingData(table.take(rows), screen=screen, knowledge=load_knowledge([folder / "sets.gmt"]))
    code.validation_conditions = lambda conditions, *, seed: sides["valid"]  # the same for every seed
    spent = {}
    engine.train = clocked(engine.train, spent)
    fitted = get_model(name, max_epochs=epochs).fit(training, seed=seed)
    prepared = time.perf_counter() - started - spent["wall"]
    expression = fitted.predict(sides["test"]).expression
    return expression, {"prepare": prepared, "training": spent, "evaluating": {}}


def run_side(arguments):
    """One side in this process; writes its predictions, prints what it took as JSON."""
    import numpy as np

    folder = Path(arguments.folder)
    numbers = {"epochs": arguments.epochs, "seed": arguments.seeds[0]}
    if arguments.side == "peer":
        expression, spent = peer_side(folder, **numbers)
    else:
        expression, spent = our_side(folder, name=arguments.side, **numbers)
    np.save(folder / f"{arguments.side}-{numbers['seed']}.npy", expression)
    print(json.dumps(spent | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


# ------------------------------------------------------------------------------------------------------------- compare
def environment(folder):
    """Python of a new environment with the peer package in it."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", *PEER], check=True)
    return python


def truth_of(folder):
    """(control mean, (query, gene) observed expression of the test conditions)."""
    import numpy as np

    from perturbcast.data.readers import read
    from perturbcast.data.statistics import response_table

    sides = json.loads((folder / "sides.json").read_text())
    table = response_table(read(folder / "cells.h5ad"))
    rows = [table.conditions.index(condition) for condition in sides["test"]]
    trained = [table.conditions.index(condition) for condition in sides["train"] + sides["valid"]]
    return table.control[0], table.response[rows], np.mean(table.response[trained], axis=0)


def row_of(side, folder, spent, *, epochs, seed, control, truth):
    """One row of the table."""
    import numpy as np

    found = np.load(folder / f"{side}-{seed}.npy") - control
    pearson = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, truth, strict=True)])
    cpu, evaluating = spent["training"]["cpu"], spent["evaluating"].get("cpu", 0.0)
    return {
        "side": side,
        "seed": seed,
        "pearson": pearson,
        "l2": np.linalg.norm(found - truth, axis=1).mean(),
        "epoch": cpu / epochs,
        "bare": (cpu - evaluating) / epochs,
        "prepare": spent["prepare"],
        "peak": spent["peak"],
    }


def compare(arguments):
    """Runs every side with every seed, each in a process of its own, and prints the table."""
    import numpy as np

    with tempfile.TemporaryDirectory() as place:
        folder = Path(arguments.out or place).resolve() / f"{arguments.data}-{arguments.epochs}"
        if not (folder / "split.pkl").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            prepare(arguments.data, folder)
        python = Path(arguments.venv) / "bin" / "python" if arguments.venv else environment(folder / "venv")
        rows = compared(arguments, folder, python)
        _, truth, mean = truth_of(folder)
        flat = np.mean([np.corrcoef(mean, own)[0, 1] for own in truth])
        print(f"\nmean response: Pearson-delta {flat:.3f}, L2 {np.linalg.norm(mean - truth, axis=1).mean():.3f}\n")
        print(summary(rows))


def compared(arguments, folder, python):
    """A row per seed and side, those that are in the folder taken from there."""
    control, truth, _ = truth_of(folder)
    rows = []
    for seed in arguments.seeds:
        for side in ("peer", *OURS):
            done = folder / f"{side}-{seed}.json"
            if not done.exists():
                command = [str(python if side == "peer" else sys.executable), __file__, arguments.data]
                command += ["--side", side, "--folder", str(folder), "--epochs", str(arguments.epochs)]
                command += ["--seeds", str(seed)]
                ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                done.write_text(ran.stdout.strip().splitlines()[-1])
            numbers = {"epochs": arguments.epochs, "seed": seed, "control": control, "truth": truth}
            rows.append(row_of(side, folder, json.loads(done.read_text()), **numbers))
            print(rows[-1], flush=True)
    return rows


def summary(rows):
    """A markdown table: means over seeds, and ratios to the peer."""
    import numpy as np

    lines = [
        "| | Pearson-delta by seed | mean | L2 | CPU s per epoch | same without evaluation | peak MB "
        "| times faster | share of memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    mean = {
        side: {key: np.mean([row[key] for row in rows if row["side"] == side]) for key in rows[0] if key != "side"}
        for side in ("peer", *OURS)
    }
    for side, own in mean.items():
        each = ", ".join(f"{row['pearson']:.3f}" for row in rows if row["side"] == side)
        ratios = f"{mean['peer']['epoch'] / own['epoch']:.1f} | {own['peak'] / mean['peer']['peak']:.3f}"
        numbers = f"{own['pearson']:.3f} | {own['l2']:.3f} | {own['epoch']:.2f} | {own['bare']:.2f} | {own['peak']:.0f}"
        lines.append(f"| {'cell-gears' if side == 'peer' else side} | {each} | {numbers} | {ratios} |")
    return "\n".join(lines)


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("norman", "simulated"))
    parser.add_argument("--epochs", type=int, default=8)  # the rate is halved after each: later ones change nothing
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--venv", default="")
    parser.add_argument("--out", default="")
    parser.add_argument("--side", default="", help="for the processes that this one starts")
    parser.add_argument("--folder", default="", help="for the processes that this one starts")
    arguments = parser.parse_args()
    for variable in THREADS:
        os.environ[variable] = "1"
    run_side(arguments) if arguments.side else compare(arguments)


if __name__ == "__main__":
    main()
