"""DNA models: a tiny HyenaDNA and a tiny BERT of random weights in the layout of published checkpoints."""

import importlib.util
import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from perturbcast.errors import BadKnowledge, BadOption, MissingExtra, MissingFile, NeedsKnowledge
from perturbcast.genes.dna import dna_embedding
from perturbcast.genes.hyena import Hyena, base_ids, causal_convolution

WIDTH, LAYERS, LONGEST, ORDER_OF_FILTER, BANDS = 8, 2, 32, 6, 5


def tensors_of_hyena(*, seed=0):
    """Name -> tensor of a checkpoint `hyenadna-*-hf`: order 2, two inner layers of the filter."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(shape, generator=generator) * 0.4

    place = torch.linspace(0, 1, LONGEST)
    angle = 2 * math.pi * torch.arange(LONGEST)[:, None] / LONGEST * torch.linspace(1e-4, 1, (BANDS - 1) // 2)
    found = {"hyena.backbone.embeddings.word_embeddings.weight": drawn(16, WIDTH), "lm_head.weight": drawn(16, WIDTH)}
    for layer in range(LAYERS):
        block = f"hyena.backbone.layers.{layer}"
        inner = f"{block}.mixer.filter_fn"
        shapes = {
            f"{block}.mixer.in_proj": (3 * WIDTH, WIDTH),
            f"{block}.mixer.out_proj": (WIDTH, WIDTH),
            f"{block}.mlp.fc1": (4 * WIDTH, WIDTH),
            f"{block}.mlp.fc2": (WIDTH, 4 * WIDTH),
            f"{inner}.implicit_filter.0": (ORDER_OF_FILTER, BANDS),
            f"{inner}.implicit_filter.2": (ORDER_OF_FILTER, ORDER_OF_FILTER),
            f"{inner}.implicit_filter.4": (ORDER_OF_FILTER, ORDER_OF_FILTER),
            f"{block}.mixer.short_filter": (3 * WIDTH, 1, 3),
            f"{block}.norm1": (WIDTH,),
            f"{block}.norm2": (WIDTH,),
        }
        for name, shape in shapes.items():
            found |= {f"{name}.weight": drawn(*shape), f"{name}.bias": drawn(shape[0])}
        found |= {
            f"{inner}.implicit_filter.6.weight": drawn(WIDTH, ORDER_OF_FILTER),
            f"{inner}.implicit_filter.1.freq": torch.full((1, ORDER_OF_FILTER), 10.0),
            f"{inner}.bias": drawn(WIDTH),
            f"{inner}.pos_emb.t": place[None, :, None],
            f"{inner}.pos_emb.z": torch.cat([place[:, None], torch.cos(-angle), torch.sin(-angle)], dim=1)[None],
            f"{inner}.modulation.deltas": torch.linspace(-3.07, -15.35, WIDTH)[None, None],
        }
    return found | {"hyena.backbone.ln_f.weight": drawn(WIDTH), "hyena.backbone.ln_f.bias": drawn(WIDTH)}


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "hyenadna-tiny-32-seqlen-hf"
    folder.mkdir()
    save_file({name: tensor.clone() for name, tensor in tensors_of_hyena().items()}, folder / "model.safetensors")
    config = {"model_type": "hyenadna", "d_model": WIDTH, "n_layer": LAYERS, "max_seq_len": LONGEST, "hyena_order": 2}
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_epsilon": 1e-5}))
    return folder


def drawn_sequences(*, n_genes=12, length=20, seed=0):
    rng = np.random.default_rng(seed)
    return {f"G{number:02d}": "".join(rng.choice(list("ACGT"), length)) for number in range(n_genes)}


def test_a_long_convolution_looks_back_only_and_is_the_plain_sum():
    values, filters = torch.randn(2, 3, 9), torch.randn(3, 9)
    found = causal_convolution(values, filters)
    for place in range(9):
        plain = sum(values[:, :, place - lag] * filters[:, lag] for lag in range(place + 1))
        torch.testing.assert_close(found[:, :, place], plain, atol=1e-5, rtol=1e-4)


def test_hidden_states_agree_with_the_equations_written_out(checkpoint):
    """One layer after another in float64 with loops over places, from the tensors themselves."""
    tensors = {name: value.double().numpy() for name, value in tensors_of_hyena().items()}
    ids = base_ids("ACGTNGATTACA")

    def normed(name, rows):
        centred = rows - rows.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def linear(name, rows):
        return rows @ tensors[f"{name}.weight"].T + tensors.get(f"{name}.bias", 0.0)

    rows = tensors["hyena.backbone.embeddings.word_embeddings.weight"][ids]
    n_places = len(ids)
    for layer in range(LAYERS):
        block = f"hyena.backbone.layers.{layer}"
        inner = f"{block}.mixer.filter_fn"
        wide = linear(f"{block}.mixer.in_proj", normed(f"{block}.norm1", rows))
        weight, bias = (tensors[f"{block}.mixer.short_filter.{part}"] for part in ("weight", "bias"))
        padded = np.vstack([np.zeros((2, 3 * WIDTH)), wide])
        short = np.array([(padded[at : at + 3] * weight[:, 0].T).sum(axis=0) + bias for at in range(n_places)])
        outer, gate, value = np.split(short, 3, axis=1)
        value = value * gate
        hidden = tensors[f"{inner}.pos_emb.z"][0]
        for step in (0, 2, 4):
            hidden = np.sin(10.0 * linear(f"{inner}.implicit_filter.{step}", hidden))
        decay = np.exp(-tensors[f"{inner}.pos_emb.t"][0] * np.abs(tensors[f"{inner}.modulation.deltas"][0]))
        lags = linear(f"{inner}.implicit_filter.6", hidden) * (decay + 0.05)
        mixed = np.array([sum(value[at - lag] * lags[lag] for lag in range(at + 1)) for at in range(n_places)])
        mixed = (mixed + value * tensors[f"{inner}.bias"]) * outer
        rows = rows + linear(f"{block}.mixer.out_proj", mixed)
        inside = linear(f"{block}.mlp.fc1", normed(f"{block}.norm2", rows))
        bent = 0.5 * inside * (1 + np.tanh(math.sqrt(2 / math.pi) * (inside + 0.044715 * inside**3)))
        rows = rows + linear(f"{block}.mlp.fc2", bent)
    found = Hyena.of(checkpoint).hidden_states(torch.from_numpy(ids[None]))[0].numpy()
    np.testing.assert_allclose(found, normed("hyena.backbone.ln_f", rows), atol=2e-4)


def test_the_first_place_is_a_code_of_five_and_the_mean_is_not(checkpoint):
    sequences = drawn_sequences()
    first = dna_embedding(sequences, checkpoint, pooling="first").matrix
    by_base = {sequence[0]: row for sequence, row in zip(sequences.values(), first, strict=True)}
    assert len(np.unique(first.round(5), axis=0)) == len(by_base) <= 5
    for pooling in ("mean", "last"):
        assert len(np.unique(dna_embedding(sequences, checkpoint, pooling=pooling).matrix.round(5), axis=0)) == 12


def test_windows_are_averaged_by_place(checkpoint):
    sequence = drawn_sequences(n_genes=1, length=50)["G00"]
    whole = dna_embedding({"A": sequence}, checkpoint).matrix[0]
    parts = dna_embedding({"x": sequence[:LONGEST], "y": sequence[LONGEST:]}, checkpoint).matrix
    np.testing.assert_allclose(whole, (32 * parts[0] + 18 * parts[1]) / 50, atol=1e-6)
    firsts = dna_embedding({"x": sequence[:32], "y": sequence[32:]}, checkpoint, pooling="first").matrix
    np.testing.assert_allclose(
        dna_embedding({"A": sequence}, checkpoint, pooling="first").matrix[0], firsts.mean(axis=0), atol=1e-6
    )
    narrow = dna_embedding({"A": sequence}, checkpoint, window=10).matrix[0]
    assert not np.allclose(narrow, whole, atol=1e-3)


def test_batches_and_order_do_not_matter(checkpoint, monkeypatch):
    sequences = drawn_sequences() | drawn_sequences(n_genes=3, length=7, seed=1) | {"EMPTY": ""}
    table = dna_embedding(sequences, checkpoint)
    monkeypatch.setattr("perturbcast.genes.dna.AT_ONCE", 1)
    other = dna_embedding(dict(reversed(sequences.items())), checkpoint)
    assert list(table.genes) == list(other.genes) == sorted(set(sequences) - {"EMPTY"})
    np.testing.assert_allclose(other.matrix, table.matrix, atol=1e-6)


def test_small_letters_and_rna_are_the_same_bases():
    assert base_ids("ACGTNacgtnUuXR").tolist() == [7, 8, 9, 10, 11, 7, 8, 9, 10, 11, 10, 10, 11, 11]


def test_broken_checkpoints_and_options_are_refused(checkpoint, tmp_path):
    sequences = drawn_sequences(n_genes=2)
    with pytest.raises(MissingFile):
        dna_embedding(sequences, tmp_path / "none")
    with pytest.raises(NeedsKnowledge):
        dna_embedding({"A": ""}, checkpoint)
    for more in ({"pooling": "max"}, {"window": 0}, {"window": LONGEST + 1}):
        with pytest.raises(BadOption):
            dna_embedding(sequences, checkpoint, **more)
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BadKnowledge, match="damaged"):
        dna_embedding(sequences, checkpoint)
    save_file({"other": torch.zeros(1)}, weights)
    with pytest.raises(BadKnowledge, match="no HyenaDNA"):
        dna_embedding(sequences, checkpoint)
    (checkpoint / "config.json").write_text("{")
    with pytest.raises(BadKnowledge, match="JSON"):
        dna_embedding(sequences, checkpoint)


def test_other_architectures_go_through_transformers(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    if importlib.util.find_spec("transformers") is None:
        with pytest.raises(MissingExtra, match=r"perturbcast\[dna\]"):
            dna_embedding({"A": "ACGT"}, tmp_path)
        return
    import transformers

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"acgtn", *(f"##{base}" for base in "acgtn")]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(tmp_path)
    table = dna_embedding(drawn_sequences(n_genes=4) | {"SHORT": "ACG"}, tmp_path)
    assert table.matrix.shape == (5, 16)
    assert len(np.unique(table.matrix.round(5), axis=0)) == 5
