"""Embedding tables made complete, transformed, written, and set beside controls that know nothing (spec D-15)."""

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy import sparse

from perturbcast._files import written_whole
from perturbcast.errors import BadOption, NeedsKnowledge, UnknownFormat
from perturbcast.genes.knowledge import EmbeddingTable, GeneGraph

Missing = Literal["drop", "flag", "neighbours"]
Transform = Literal["none", "zscore", "l2", "pca"]
ENDINGS = (".npz", ".parquet", ".csv")


def completed(
    table: EmbeddingTable, genes: Iterable[str], *, missing: str = "drop", graph: GeneGraph | None = None
) -> EmbeddingTable:
    """The table with exactly the genes asked for, in their order, as far as the policy can.

    `drop`: genes without a row are left out (as the papers do). `flag`: they get zeros, and one more feature that is
    1 for them and 0 for all others. `neighbours`: they get the mean of their neighbours' rows in `graph`, weighted by
    the edges to them, either way; a gene without such a neighbour is left out. BadOption, NeedsKnowledge without graph.
    """
    if missing not in get_args(Missing):
        raise BadOption(f"missing is {missing!r}; give {', '.join(get_args(Missing))}.")
    asked = np.array(list(dict.fromkeys(genes)), dtype=object)
    rows, known = table.rows(asked)
    if missing == "flag":
        rows = np.hstack([rows, (~known)[:, None].astype(np.float32)])
        return replace(table, genes=asked, matrix=rows)
    if missing == "neighbours":
        rows, known = _from_neighbours(table, asked, rows, known, graph)
    return replace(table, genes=asked[known], matrix=rows[known])


def _from_neighbours(
    table: EmbeddingTable, asked: np.ndarray, rows: np.ndarray, known: np.ndarray, graph: GeneGraph | None
) -> tuple[np.ndarray, np.ndarray]:
    if graph is None:
        raise NeedsKnowledge("the mean of neighbours needs a gene graph.", "Pass --networks.")
    lost = np.flatnonzero(~known)
    names = np.concatenate([asked[lost], table.genes])
    weights, _ = graph.between(names)
    both = sparse.csr_matrix(weights.maximum(weights.T))[: len(lost), len(lost) :]
    total = np.asarray(both.sum(axis=1)).ravel()
    found = total > 0
    rows, known = rows.copy(), known.copy()
    rows[lost[found]] = (both[found] @ table.matrix) / total[found, None]
    known[lost[found]] = True
    return rows, known


def transformed(table: EmbeddingTable, how: str, *, width: int | None = None) -> EmbeddingTable:
    """The table with its features transformed over all of its genes.

    `none`; `zscore`, each feature with mean 0 and standard deviation 1 (a constant one is 0); `l2`, each row of length
    1; `pca`, the leading `width` principal components. Spec D-15 advises a width of at most a quarter of the number of
    training conditions. BadOption for another way or width.
    """
    if how not in get_args(Transform):
        raise BadOption(f"transform is {how!r}; give {', '.join(get_args(Transform))}.")
    matrix = np.asarray(table.matrix, dtype=np.float64)
    if how == "zscore":
        spread = matrix.std(axis=0)
        constant = spread <= 1e-12 * np.maximum(np.abs(matrix).max(axis=0, initial=0.0), 1e-300)
        matrix = np.where(constant, 0.0, (matrix - matrix.mean(axis=0)) / np.where(constant, 1.0, spread))
    elif how == "l2":
        length = np.linalg.norm(matrix, axis=1, keepdims=True)
        matrix = matrix / np.where(length > 0, length, 1.0)
    elif how == "pca":
        matrix = _components(matrix, width)
    return replace(table, matrix=matrix.astype(np.float32))


def _components(matrix: np.ndarray, width: int | None) -> np.ndarray:
    if width is None or not 1 <= width <= min(matrix.shape):
        raise BadOption(f"width is {width}; give 1 to {min(matrix.shape)} for this table.")
    centred = matrix - matrix.mean(axis=0)
    if centred.shape[0] >= centred.shape[1]:
        scores = centred @ np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :width]
    else:
        size, axes = np.linalg.eigh(centred @ centred.T)
        scores = (axes * np.sqrt(np.maximum(size, 0.0)))[:, ::-1][:, :width]
    return scores * np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(width)])  # the largest entry is positive


def control_tables(table: EmbeddingTable, *, seed: int, most_one_hot: int | None = None) -> dict[str, EmbeddingTable]:
    """Tables that a model may not need to beat, by name: what they reach is not owed to knowledge of the genes.

    `random`: independent normal numbers of mean 0 and the spread of the table. `permuted`: the table's rows under other
    genes' names. `one-hot`: a feature per gene, so that no two genes are alike; left out
    where the table has more than `most_one_hot` genes.
    """
    rng = np.random.default_rng(seed)
    by_name = np.argsort(table.genes.astype(str), kind="stable")  # the order of the rows must not matter
    random, permuted = np.empty_like(table.matrix), np.empty_like(table.matrix)
    spread = np.sqrt(table.matrix.var(axis=0).mean()) if len(by_name) else 0.0
    random[by_name] = (spread * rng.standard_normal(table.matrix.shape)).astype(table.matrix.dtype)
    permuted[by_name] = table.matrix[by_name[rng.permutation(len(by_name))]]
    found = {"random": random, "permuted": permuted}
    if most_one_hot is None or len(table.genes) <= most_one_hot:
        found["one-hot"] = np.eye(len(table.genes), dtype=np.float32)
    named = {how: f"{table.name} ({how})" for how in found}
    return {how: EmbeddingTable(named[how], table.genes, rows, f"control, seed {seed}") for how, rows in found.items()}


def coexpression_table(profiles: Float[np.ndarray, "row gene"], genes: Iterable[str], *, width: int) -> EmbeddingTable:
    """Measured genes by their loadings on principal components of profiles of the *training* side (spec D-15).

    The control of what a screen says of its genes without any knowledge. `width` is cut to what the profiles carry.
    """
    names = np.array(list(genes), dtype=object)
    centred = np.asarray(profiles, dtype=np.float64) - np.mean(profiles, axis=0)
    kept = min(width, *centred.shape)
    return EmbeddingTable("co-expression", names, _components(centred.T, kept).astype(np.float32), source="training")


def write_table(table: EmbeddingTable, path: Path) -> None:
    """Writes a table that `--genes` reads: .npz (arrays `genes` and `matrix`), .parquet or .csv by the ending."""
    if path.suffix not in ENDINGS:
        raise UnknownFormat(f"{path.name!r} ends in {path.suffix!r}.", f"Use {', '.join(ENDINGS)}.")
    with written_whole(path) as draft:
        if path.suffix == ".npz":
            packed = io.BytesIO()
            np.savez_compressed(packed, genes=table.genes.astype(str), matrix=table.matrix)
            draft.write_bytes(packed.getvalue())
            return
        import pandas as pd

        frame = pd.DataFrame(table.matrix, columns=[f"feature_{n}" for n in range(table.matrix.shape[1])])
        frame.insert(0, "gene", table.genes)
        if path.suffix == ".parquet":
            frame.to_parquet(draft, index=False)
        else:
            frame.to_csv(draft, index=False)
