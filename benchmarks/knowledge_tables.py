"""What each embedding table is worth to a linear decoder on unseen singles, beside tables that know nothing.

Run: OMP_NUM_THREADS=1 python benchmarks/knowledge_tables.py ../shared/data [MORE_TABLES.npz ...] [--screens NAME,NAME]

Five folds of singles of the Norman and Replogle responses, training singles only for Norman; `embedding-ridge` on one
table at a time. L2 is the mean over conditions; `above mean` is the paired difference to the mean baseline with its
95 % bootstrap interval over conditions (negative is better); r is the mean Pearson correlation of prediction and truth,
both less the mean response of training, 0 where the prediction is that mean. Folds are kept in --out, not made again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import perturbcast
from perturbcast.data.conditions import is_single
from perturbcast.genes.knowledge import EmbeddingTable, GeneKnowledge
from perturbcast.genes.motifs import motif_sets
from perturbcast.genes.policies import control_tables
from perturbcast.genes.text import kmer_embedding
from perturbcast.models.embedding_ridge import COEXPRESSION
from perturbcast.models.embeddings_of_targets import target_tables

SCREENS = ("norman2019_k562_crispra", "replogle2022_k562_crispri_censored")
FOLDS, DRAWS = 5, 2000
ROOT = Path(__file__).resolve().parents[1]


def embedding_tables(knowledge, responses):
    """Every table made from the knowledge, and controls of the text table."""
    found = {}
    sites = {"sites": motif_sets(knowledge.sequences, name="promoters, shared words")} if knowledge.sequences else {}
    tables = target_tables(knowledge, responses) | target_tables(GeneKnowledge(gene_sets=sites), responses)
    for name, table in tables.items():
        if name != COEXPRESSION:
            names = np.array(sorted(table.row, key=lambda gene: table.row[gene]), dtype=object)
            found[name] = EmbeddingTable("table", names, np.asarray(table.matrix, dtype=np.float32))
    if knowledge.sequences:
        found["sequence: 3- to 6-mers"] = kmer_embedding(knowledge.sequences)
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


def study(data, knowledge, *, out):
    """Table name -> (L2, r) per test condition, all folds together; `mean` is the baseline."""
    splits = perturbcast.make_splits(data, "singles", folds=FOLDS)
    tables = embedding_tables(knowledge, data)
    parts = []
    for number, split in enumerate(splits):
        kept = out / f"{data.name}-{number}.csv"
        if not kept.is_file():
            of_fold(data, tables, split).to_csv(kept, index=False)
        parts.append(pd.read_csv(kept))
    found = pd.concat(parts)
    return {name: rows[["l2", "r"]].to_numpy().T for name, rows in found.groupby("table", sort=False)}


def of_fold(data, tables, split):
    """A row per table and test single: columns table, condition, l2, r."""
    place = {query: row for row, query in enumerate(data.queries)}
    train = data.take([place[query] for query in split.train if is_single(query.condition)])
    truth = data.take([place[query] for query in split.test if is_single(query.condition)])
    bare = perturbcast.TrainingData(responses=train)
    jobs = {"mean": (perturbcast.get_model("mean"), bare)}
    jobs["control: co-expression"] = (perturbcast.get_model("embedding-ridge:co-expression"), bare)
    for name, table in tables.items():
        knows = GeneKnowledge(embeddings={"table": replace(table, name="table")})
        training = perturbcast.TrainingData(responses=train, knowledge=knows)
        jobs[name] = (perturbcast.get_model("embedding-ridge", table="table:cosine"), training)
    rows = []
    for name, (model, training) in jobs.items():
        errors, r = scores(model, training, truth)
        rows += [(name, query.condition, *pair) for query, *pair in zip(truth.queries, errors, r, strict=True)]
    return pd.DataFrame(rows, columns=["table", "condition", "l2", "r"])


def main():
    """Prints one table per screen, best first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("more", nargs="*", type=Path)
    parser.add_argument("--screens", default=",".join(SCREENS))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "knowledge-tables")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for screen in asked.screens.split(","):
        data = perturbcast.read(asked.data / "responses" / f"{screen}.h5ad")
        files = [asked.data / "genes", asked.data / "networks", *asked.more]
        knowledge = perturbcast.load_knowledge(files, genes=data.genes, targets=sorted(data.targets))
        found = study(data, knowledge, out=asked.out)
        base = found["mean"][0]
        print(f"\n{screen}: {len(base)} unseen singles\n\n| table | L2 | above mean | r |\n|---|---|---|---|")
        draws = np.random.default_rng(0).integers(len(base), size=(DRAWS, len(base)))
        for name, (error, r) in sorted(found.items(), key=lambda entry: entry[1][0].mean()):
            low, high = np.quantile((error - base)[draws].mean(axis=1), [0.025, 0.975])
            gain = f"{(error - base).mean():+.3f} [{low:+.3f}, {high:+.3f}]"
            print(f"| {name} | {error.mean():.3f} | {gain} | {r.mean():.3f} |", flush=True)


if __name__ == "__main__":
    main()
