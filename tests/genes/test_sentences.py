"""Sentence embeddings with a tiny BERT of random weights, saved by the test; the real model where it is installed."""

import importlib.util

import numpy as np
import pytest

from perturbcast.errors import BadKnowledge, BadOption, MissingExtra, NeedsKnowledge
from perturbcast.genes.sentences import PACKAGE, sentence_embedding

TEXTS = {
    "RPL5": "ribosomal protein of the large subunit",
    "RPL11": "ribosomal protein of the large subunit too",
    "KLF1": "transcription factor of red blood cells",
    "EMPTY": "  ",
}
needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="the extra perturbcast[text] is not installed"
)


@pytest.fixture
def tiny_bert(tmp_path):
    """A folder with a BERT of two layers and 16 features, as transformers saves it."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    words = sorted({word for text in TEXTS.values() for word in text.split()})
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.BertModel(transformers.BertConfig(vocab_size=5 + len(words), **sizes)).save_pretrained(tmp_path)
    return tmp_path


@needs_extra
def test_a_model_in_a_folder_gives_a_row_per_text(tiny_bert):
    table = sentence_embedding(TEXTS, model=str(tiny_bert))
    assert list(table.genes) == ["KLF1", "RPL11", "RPL5"]
    assert table.matrix.shape == (3, 16)
    turned = sentence_embedding(dict(reversed(TEXTS.items())), model=str(tiny_bert))
    np.testing.assert_allclose(turned.matrix, table.matrix, atol=1e-6)


@needs_extra
def test_the_first_token_is_another_pooling(tiny_bert):
    import torch
    import transformers

    table = sentence_embedding(TEXTS, model=str(tiny_bert), pooling="cls")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    model = transformers.AutoModel.from_pretrained(tiny_bert).eval()
    with torch.no_grad():
        state = model(**tokenizer(TEXTS["KLF1"], return_tensors="pt")).last_hidden_state[0, 0].numpy()
    np.testing.assert_allclose(table.matrix[0], state, atol=1e-5)
    assert not np.allclose(sentence_embedding(TEXTS, model=str(tiny_bert)).matrix, table.matrix, atol=1e-3)


@needs_extra
def test_a_model_that_is_none_is_refused(tmp_path):
    with pytest.raises(BadKnowledge):
        sentence_embedding(TEXTS, model=str(tmp_path / "none"))


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason="the offline MiniLM package is not installed")
def test_the_offline_model_knows_what_texts_mean():
    table = sentence_embedding(TEXTS)
    unit = table.matrix / np.linalg.norm(table.matrix, axis=1, keepdims=True)
    alike = unit @ unit.T
    assert table.matrix.shape == (3, 384)
    assert alike[1, 2] > alike[0, 1] + 0.2


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is not None, reason="the extra perturbcast[text] is installed"
)
def test_without_the_extra_the_error_names_it():
    with pytest.raises(MissingExtra, match=r"perturbcast\[text\]"):
        sentence_embedding(TEXTS)


def test_nothing_to_embed_and_other_pooling_are_refused():
    with pytest.raises(NeedsKnowledge):
        sentence_embedding({"A": " "})
    with pytest.raises(BadOption):
        sentence_embedding(TEXTS, pooling="max")
