"""What each embedding table is worth to a linear decoder on unseen singles, beside tables that know nothing.

Run: OMP_NUM_THREADS=1 python benchmarks/knowledge_tables.py ../shared/data [MORE_TABLES.npz ...]

Five folds of singles of the Norman and Replogle responses, training singles only for Norman; `embedding-ridge` on one
table at a time. L2 is the mean over conditions; `above mean` is the paired difference to the mean baseline with its
95 % bootstrap interval over conditions (negative is better); r is the mean Pearson correlation of prediction and truth,
both less the mean response of training, 0 where the prediction is that mean.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import perturbcast
from perturbcast.data.conditions import is_single
from perturbcast.genes.knowledge import EmbeddingTable, GeneKnowledge
from perturbcast.genes.policies import control_tables
from perturbcast.models.embedding_ridge import COEXPRESSION
from perturbcast.models.embeddings_of_targets import target_tables

SCREENS = ("norman2019_k562_crispra", "replogle2022_k562_crispri_censored")
FOLDS, DRAWS = 5, 2000


def embedding_tables(knowledge, responses):
    """Every table made from the knowledge, and controls of the text table."""
    found = {}
    for name, table in target_tables(knowledge, responses).items():
        if name != COEXPRESSION:
            names = np.array(sorted(table.row, key=lambda gene: table.row[gene]), dtype=object)
            found[name] = EmbeddingTable("table", names, np.asarray(table.matrix, dtype=np.float32))
    targets = np.array(sorted(responses.targets), dtype=object)
    rows, _ = found["text:cosine"].rows(targets)
    controls = control_tables(EmbeddingTable("table", targets, rows), seed=0)
    return found | {f"control: {how}": replace(table, name="table") for how, table in controls.items()}


def scores(model, training, truth):
    """(query,) L2 and Pearson correlation against the perturbed mean of training."""
    predicted = model.fit(training, seed=0).predict(truth.queries).response
    mean = training.responses.response.mean(axis=0)
    error = np.linalg.norm(predicted - truth.response, axis=1)
    ours, theirs = ((rows - mean) - (rows - mean).mean(axis=1, keepdims=True) for rows in (predicted, truth.response))
    size = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return error, np.where(size > 1e-9, (ours * theirs).sum(axis=1) / np.where(size > 1e-9, size, 1.0), 0.0)


def study(data, knowledge):
    """Table name -> (L2, r) per test condition, all folds together; `mean` is the baseline."""
    splits = perturbcast.make_splits(data, "singles", folds=FOLDS)
    place = {query: row for row, query in enumerate(data.queries)}
    found = {}
    tables = embedding_tables(knowledge, data)
    for split in splits:
        train = data.take([place[query] for query in split.train if is_single(query.condition)])
        truth = data.take([place[query] for query in split.test if is_single(query.condition)])
        bare = perturbcast.TrainingData(responses=train)
        jobs = {"mean": (perturbcast.get_model("mean"), bare)}
        jobs["control: co-expression"] = (perturbcast.get_model("embedding-ridge:co-expression"), bare)
        for name, table in tables.items():
            knows = GeneKnowledge(embeddings={"table": table})
            training = perturbcast.TrainingData(responses=train, knowledge=knows)
            jobs[name] = (perturbcast.get_model("embedding-ridge", table="table:cosine"), training)
        for name, (model, training) in jobs.items():
            found.setdefault(name, []).append(np.stack(scores(model, training, truth)))
    return {name: np.hstack(parts) for name, parts in found.items()}


def main(data_folder, more):
    """Prints one table per screen, best first."""
    for screen in SCREENS:
        data = perturbcast.read(data_folder / "responses" / f"{screen}.h5ad")
        files = [data_folder / "genes", data_folder / "networks", *more]
        knowledge = perturbcast.load_knowledge(files, genes=data.genes, targets=sorted(data.targets))
        found = study(data, knowledge)
        base = found["mean"][0]
        print(f"\n{screen}: {len(base)} unseen singles\n\n| table | L2 | above mean | r |\n|---|---|---|---|")
        draws = np.random.default_rng(0).integers(len(base), size=(DRAWS, len(base)))
        for name, (error, r) in sorted(found.items(), key=lambda entry: entry[1][0].mean()):
            low, high = np.quantile((error - base)[draws].mean(axis=1), [0.025, 0.975])
            gain = f"{(error - base).mean():+.3f} [{low:+.3f}, {high:+.3f}]"
            print(f"| {name} | {error.mean():.3f} | {gain} | {r.mean():.3f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])
