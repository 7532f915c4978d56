"""Gene tables out of the published files of single-cell and protein models (spec D.8), read without running any code.

What they give is an embedding table of type 1: a row per gene. `write_table` makes a file of it that `--genes` reads.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perturbcast.errors import BadKnowledge, BadOption, MissingFile, did_you_mean
from perturbcast.genes.knowledge import EmbeddingTable
from perturbcast.genes.tables import read_bytes
from perturbcast.genes.weights import load_torch, load_weights, weights_in

NAME_COLUMNS = ("gene_name", "gene_symbol", "symbol", "gene", "feature_name", "ensembl_id", "index")
PICKLE_ADVICE = (
    "Pickles can run code and are not read. Where you trust the file, write it as JSON once: "
    "python -c \"import json, pickle; json.dump(pickle.load(open('IN.pkl', 'rb')), open('OUT.json', 'w'))\""
)


def foundation_table(model: str, path: str | Path, *, genes: str | Path | None = None) -> EmbeddingTable:
    """The gene table of a model's published files.

    `scgpt`: a folder with vocab.json and best_model.pt; the output of the gene encoder, its norm included.
    `scfoundation`: models.ckpt, and `genes`, the list of 19,264 symbols; the gene part of `pos_emb`.
    `geneformer`: a folder with model.safetensors or pytorch_model.bin, and `genes`, the token dictionary as JSON or
    CSV (Ensembl id, token); the word embeddings. `scbert`: panglao_pretrain.pth or the .npy of gene2vec, and `genes`,
    the gene order (list or .h5ad). `esm2`: the .pt of UCE with a tensor per gene.

    Tokens that are no genes (`<pad>`, `<cls>`, ...) are left out. Raises MissingFile, BadKnowledge (pickles too, with
    advice) and BadOption for another model or where `genes` is needed.
    """
    if model not in READERS:
        raise BadOption(f"there is no reader for {model!r}. {did_you_mean(model, READERS)}")
    place = Path(path)
    if not place.exists():
        raise MissingFile(f"there is no file or folder {place}.")
    reader = READERS[model]
    if reader.needs_genes and genes is None:
        raise BadOption(f"{model} needs the names of its rows.", f"Pass --names with {reader.needs_genes}.")
    names, matrix = reader.read(place, None if genes is None else Path(genes))
    kept = [row for row, name in enumerate(names) if name and not (name.startswith("<") and name.endswith(">"))]
    matrix = np.asarray(matrix[kept], dtype=np.float32)
    if not kept or not np.isfinite(matrix).all():
        raise BadKnowledge(f"{place.name} holds {'values that are not finite' if kept else 'no gene'}.")
    unique = list({names[row]: number for number, row in reversed(list(enumerate(kept)))}.values())[::-1]
    own = np.array([names[row] for row in kept], dtype=object)
    return EmbeddingTable(model, own[unique], matrix[unique], source=f"{model}: {place.name}")


def _scgpt(folder: Path, genes: Path | None) -> tuple[Sequence[str], np.ndarray]:
    vocabulary = _json(folder / "vocab.json" if genes is None else genes)
    if not isinstance(vocabulary, dict):
        raise BadKnowledge("the vocabulary of scGPT is a JSON object of gene and id.")
    tensors = load_weights(weights_in(folder))
    rows = _array(tensors, "encoder.embedding.weight")
    if "encoder.enc_norm.weight" in tensors:
        centred = rows - rows.mean(axis=1, keepdims=True)
        rows = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        rows = rows * _array(tensors, "encoder.enc_norm.weight") + _array(tensors, "encoder.enc_norm.bias")
    return _by_token(vocabulary, rows)


def _scfoundation(path: Path, genes: Path | None) -> tuple[Sequence[str], np.ndarray]:
    content = load_torch(path)
    part = content.get("gene", content) if isinstance(content, Mapping) else {}
    tensors = part.get("state_dict", part) if isinstance(part, Mapping) else {}
    return _in_order(names_in(genes), _array(tensors, "model.pos_emb.weight"), most_more=3)


def _geneformer(folder: Path, genes: Path | None) -> tuple[Sequence[str], np.ndarray]:
    tensors = load_weights(folder if folder.is_file() else weights_in(folder))
    name = next((name for name in tensors if name.endswith("embeddings.word_embeddings.weight")), "")
    return _by_token(_dictionary(genes), _array(tensors, name or "bert.embeddings.word_embeddings.weight"))


def _scbert(path: Path, genes: Path | None) -> tuple[Sequence[str], np.ndarray]:
    if path.suffix == ".npy":
        try:
            rows = np.load(path, allow_pickle=False)
        except ValueError as failure:
            raise BadKnowledge(f"{path.name} is no plain array: {failure}.", PICKLE_ADVICE) from failure
    else:
        rows = _array(load_weights(path), "pos_emb.emb.weight")
    return _in_order(names_in(genes), rows, most_more=1)


def _esm2(path: Path, genes: Path | None) -> tuple[Sequence[str], np.ndarray]:
    content = load_torch(path)
    if not isinstance(content, Mapping) or not all(hasattr(value, "shape") for value in content.values()):
        raise BadKnowledge(f"{path.name} is no table of a tensor per gene.")
    rows = [np.asarray(value.float()).ravel() for value in content.values()]
    if len({len(row) for row in rows}) != 1:
        raise BadKnowledge(f"{path.name}: the vectors of its genes differ in length, or there are none.")
    return [str(name) for name in content], np.vstack(rows)


@dataclass(frozen=True)
class Reader:
    """How a model's files are read, and what must be given besides."""

    read: Callable[[Path, Path | None], tuple[Sequence[str], np.ndarray]]
    needs_genes: str = ""


READERS: dict[str, Reader] = {
    "scgpt": Reader(_scgpt),
    "scfoundation": Reader(_scfoundation, "the list of genes, OS_scRNA_gene_index.19264.tsv"),
    "geneformer": Reader(_geneformer, "the token dictionary as JSON or CSV"),
    "scbert": Reader(_scbert, "the gene order: panglao_human.h5ad, or a list of genes"),
    "esm2": Reader(_esm2),
}


def names_in(path: Path | None) -> list[str]:
    """Gene names of a file, in order: a JSON list, the var names of an .h5ad, a column of a table, or one a line."""
    assert path is not None
    if path.suffix == ".h5ad":
        return _var_names(path)
    content = read_bytes(path)
    if content[:1] == b"\x80":
        raise BadKnowledge(f"{path.name} is a pickle.", PICKLE_ADVICE)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        raise BadKnowledge(f"{path.name} is no UTF-8 text.") from failure
    if text.lstrip()[:1] in ("[", "{"):
        return [str(name) for name in _parsed(path, text)]
    lines = [line for line in text.splitlines() if line.strip()]
    mark = next((mark for mark in "\t,;" if lines and mark in lines[0]), "\t")
    rows = list(csv.reader(lines, delimiter=mark))
    header = [value.strip().casefold() for value in rows[0]] if rows else []
    column = next((header.index(name) for name in NAME_COLUMNS if name in header), None)
    body = rows if column is None else rows[1:]
    return [row[column or 0].strip() for row in body if len(row) > (column or 0)]


def _var_names(path: Path) -> list[str]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            index = file["var"].attrs.get("_index", "index")
            return [name.decode() if isinstance(name, bytes) else str(name) for name in file["var"][index][:]]
    except (OSError, KeyError) as failure:
        raise BadKnowledge(f"{path.name} is no .h5ad file with names of genes: {failure}.") from failure


def _dictionary(path: Path | None) -> dict[str, Any]:
    """Name -> token of a JSON object or of a table of two columns."""
    assert path is not None
    content = read_bytes(path)
    if content[:1] == b"\x80":
        raise BadKnowledge(f"{path.name} is a pickle.", PICKLE_ADVICE)
    text = content.decode("utf-8-sig", "replace")
    if text.lstrip()[:1] == "{":
        return dict(_parsed(path, text))
    mark = "\t" if "\t" in text[:400] else ","
    rows = [row for row in csv.reader(text.splitlines(), delimiter=mark) if len(row) == 2]
    pairs = {name.strip(): token.strip() for name, token in rows if token.strip().isdigit()}
    if not pairs:
        raise BadKnowledge(f"{path.name} holds no pairs of gene and token.", "Two columns: Ensembl id, token number.")
    return pairs


def _json(path: Path) -> Any:
    return _parsed(path, read_bytes(path).decode("utf-8-sig", "replace"))


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as failure:
        raise BadKnowledge(f"{path.name}, line {failure.lineno}: not JSON ({failure.msg}).") from failure


def _array(tensors: Mapping[str, Any], name: str) -> np.ndarray:
    """A matrix by its name in a file of weights, float32."""
    if name not in tensors or getattr(tensors[name], "ndim", 0) == 0:
        has = ", ".join(list(tensors)[:6])
        raise BadKnowledge(
            f"the file holds no tensor {name!r}, but {has or 'none at all'}.", "Is it that model's file?"
        )
    return np.asarray(tensors[name].detach().float().numpy())


def _by_token(tokens: Mapping[str, Any], rows: np.ndarray) -> tuple[Sequence[str], np.ndarray]:
    """The rows of the genes of a vocabulary; BadKnowledge where a token has no row."""
    try:
        places = np.array([int(token) for token in tokens.values()], dtype=np.int64)
    except (TypeError, ValueError) as failure:
        raise BadKnowledge(f"a token is no number: {failure}.") from failure
    if len(places) == 0 or places.min() < 0 or places.max() >= len(rows):
        raise BadKnowledge(f"the vocabulary has tokens to {places.max(initial=-1)}, the weights {len(rows)} rows.")
    return [str(name) for name in tokens], rows[places]


def _in_order(names: Iterable[str], rows: np.ndarray, *, most_more: int) -> tuple[Sequence[str], np.ndarray]:
    """The rows of a list of genes, which stand first; at most so many rows more are no genes."""
    listed = list(names)
    if not 0 <= len(rows) - len(listed) <= most_more:
        fact = f"{len(listed):,} genes are listed, and the weights have {len(rows):,} rows."
        raise BadKnowledge(fact, f"As many rows, or at most {most_more} more, belong to one model.")
    return listed, rows[: len(listed)]
