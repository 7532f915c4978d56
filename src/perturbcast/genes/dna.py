"""Embedding tables from DNA by a trained model: windows of a sequence, the mean over their places."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from perturbcast._progress import Progress
from perturbcast.errors import BadKnowledge, BadOption, MissingExtra, MissingFile, NeedsKnowledge
from perturbcast.genes.knowledge import EmbeddingTable

Pooling = Literal["mean", "last", "first"]
Encoder = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]  # windows -> states (window, place, feature), places
AT_ONCE = 1 << 16  # places of windows of one length that are computed together


def dna_embedding(
    sequences: Mapping[str, str],
    checkpoint: str | Path,
    *,
    window: int | None = None,
    pooling: str = "mean",
    name: str | None = None,
    progress: Progress | None = None,
) -> EmbeddingTable:
    """Genes x features from their DNA by a model in a folder: HyenaDNA, or another that `transformers` knows.

    A sequence is cut into windows of `window` bases (default: the longest the model takes) without overlap.
    `pooling`: `mean` over all places of all windows; `last`, the mean over windows of their last place; `first`, of
    their first. The first place of HyenaDNA has seen one base only, so that with `first` genes of one window have at
    most five different rows; that is what the code of GRAPE computes (spec A-F1), and the reason for `mean`.

    HyenaDNA needs no extra. Other models need `perturbcast[dna]`; code inside a checkpoint is never run. Genes without
    sequence are left out. Raises MissingFile, MissingExtra, BadKnowledge, BadOption, NeedsKnowledge.
    """
    folder = Path(checkpoint)
    genes = sorted(gene for gene, sequence in sequences.items() if sequence)
    if not genes:
        raise NeedsKnowledge("no gene has a sequence.", "Pass sequences with --genes, or fetch them.")
    if pooling not in get_args(Pooling):
        raise BadOption(f"pooling is {pooling!r}; give {', '.join(get_args(Pooling))}.")
    encode, longest = _encoder(folder)
    size = longest if window is None else window
    if not 1 <= size <= longest:
        raise BadOption(f"window is {size}; this model takes 1 to {longest:,} bases.")
    windows = [
        (row, sequences[gene][start : start + size])
        for row, gene in enumerate(genes)
        for start in range(0, len(sequences[gene]), size)
    ]
    matrix = _pooled(windows, len(genes), encode, pooling=pooling, progress=progress or Progress())
    names = np.array(genes, dtype=object)
    return EmbeddingTable(name or f"sequence ({folder.name})", names, matrix, source=f"{folder.name}, {pooling}")


def _pooled(
    windows: list[tuple[int, str]], n_genes: int, encode: Encoder, *, pooling: str, progress: Progress
) -> np.ndarray:
    """(gene, feature) mean over the places or windows of each gene."""
    total, weight = np.zeros((0, 0)), np.zeros(n_genes)
    for batch in progress.track(list(_batches(windows)), label="sequences"):
        states, n_places = encode([window for _, window in batch])
        rows = np.array([row for row, _ in batch])
        total = total if total.size else np.zeros((n_genes, states.shape[2]))
        if pooling == "mean":
            inside = np.arange(states.shape[1]) < n_places[:, None]  # (window, place)
            np.add.at(total, rows, (states * inside[:, :, None]).sum(axis=1))
            np.add.at(weight, rows, n_places)
        else:
            place = n_places - 1 if pooling == "last" else np.zeros_like(n_places)
            np.add.at(total, rows, states[np.arange(len(rows)), place])
            np.add.at(weight, rows, 1)
    return (total / weight[:, None]).astype(np.float32)


def _batches(windows: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Windows of one length together, so that nothing is padded."""
    ordered = sorted(windows, key=lambda entry: len(entry[1]))
    batch: list[tuple[int, str]] = []
    for entry in ordered:
        if batch and (len(batch[0][1]) != len(entry[1]) or len(batch) * len(entry[1]) >= AT_ONCE):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch


def _encoder(folder: Path) -> tuple[Encoder, int]:
    """A function from windows of one length to hidden states and how many places are filled, and the longest window."""
    if not (folder / "config.json").is_file():
        raise MissingFile(f"{folder} holds no config.json.", "Pass the folder of a downloaded checkpoint.")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as failure:
        raise BadKnowledge(f"{folder / 'config.json'} is no JSON: {failure}.") from failure
    return _hyena(folder) if config.get("model_type") == "hyenadna" else _transformer(folder, config)


def _hyena(folder: Path) -> tuple[Encoder, int]:
    import torch

    from perturbcast.genes.hyena import Hyena, base_ids

    model = Hyena.of(folder)

    def encode(windows: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = torch.from_numpy(np.stack([base_ids(window) for window in windows]))
        return model.hidden_states(ids).numpy(), np.full(len(windows), ids.shape[1])

    return encode, model.longest


def _transformer(folder: Path, config: Mapping[str, Any]) -> tuple[Encoder, int]:
    """Any architecture that transformers itself has, such as ESM (Nucleotide Transformer) or BERT (DNABERT)."""
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as failure:
        raise MissingExtra(f"{folder.name} needs transformers.", "pip install 'perturbcast[dna]'.") from failure
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, padding_side="right"
        )
        model = AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_safetensors=True)
    except (OSError, ValueError, KeyError) as failure:
        first = (str(failure).splitlines() or [""])[0][:200]
        raise BadKnowledge(f"transformers cannot open {folder}: {first}", "Its own code is never run.") from failure
    model.eval()

    @torch.inference_mode()
    def encode(windows: list[str]) -> tuple[np.ndarray, np.ndarray]:
        asked = tokenizer(windows, return_tensors="pt", add_special_tokens=False, padding=True)
        return model(**asked).last_hidden_state.numpy(), asked["attention_mask"].sum(dim=1).numpy()

    return encode, int(config.get("max_position_embeddings", 512)) - 2  # two places are for special tokens
