"""Gene tables out of tiny files in the layouts that the models publish; nothing in a file can run."""

import json
import pickle

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from perturbcast.errors import BadKnowledge, BadOption, MissingFile
from perturbcast.genes.foundation import foundation_table
from perturbcast.genes.load import load_knowledge
from perturbcast.genes.policies import write_table

WEIGHTS = torch.arange(24.0).reshape(6, 4) ** 1.5


def scgpt(folder, *, norm=True):
    folder.mkdir()
    tokens = {"TP53": 1, "<pad>": 0, "MYC": 4, "<cls>": 2, "GATA1": 3}
    (folder / "vocab.json").write_text(json.dumps(tokens))
    (folder / "args.json").write_text("{}")
    state = {"encoder.embedding.weight": WEIGHTS, "decoder.fc.0.weight": torch.zeros(2, 2)}
    if norm:
        state |= {"encoder.enc_norm.weight": torch.full((4,), 2.0), "encoder.enc_norm.bias": torch.ones(4)}
    torch.save(state, folder / "best_model.pt")
    return folder


def test_scgpt_gives_what_its_gene_encoder_puts_out(tmp_path):
    plain = foundation_table("scgpt", scgpt(tmp_path / "plain", norm=False))
    assert list(plain.genes) == ["TP53", "MYC", "GATA1"]
    np.testing.assert_array_equal(plain.matrix, WEIGHTS.numpy()[[1, 4, 3]])
    normed = foundation_table("scgpt", scgpt(tmp_path / "normed"))
    layer = torch.nn.functional.layer_norm(WEIGHTS, (4,), torch.full((4,), 2.0), torch.ones(4))
    np.testing.assert_allclose(normed.matrix, layer.numpy()[[1, 4, 3]], atol=1e-5)


def test_scfoundation_gives_the_rows_of_its_gene_list(tmp_path):
    state = {"model.pos_emb.weight": WEIGHTS, "model.token_emb.weight": torch.zeros(3, 4)}
    torch.save({"gene": {"state_dict": state, "config": {"layers": 2}}, "cell": {}}, tmp_path / "models.ckpt")
    (tmp_path / "genes.tsv").write_text("gene_name\tindex\nA1BG\t0\nA1CF\t1\nA2M\t2\n")
    table = foundation_table("scfoundation", tmp_path / "models.ckpt", genes=tmp_path / "genes.tsv")
    assert list(table.genes) == ["A1BG", "A1CF", "A2M"]
    np.testing.assert_array_equal(table.matrix, WEIGHTS.numpy()[:3])
    (tmp_path / "genes.tsv").write_text("gene_name\tindex\nA1BG\t0\n")
    with pytest.raises(BadKnowledge, match="6 rows"):
        foundation_table("scfoundation", tmp_path / "models.ckpt", genes=tmp_path / "genes.tsv")


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin", "sharded"])
@pytest.mark.parametrize("dictionary", ["tokens.json", "tokens.csv"])
def test_geneformer_gives_the_word_embeddings_of_ensembl_ids(tmp_path, form, dictionary):
    state = {"bert.embeddings.word_embeddings.weight": WEIGHTS, "cls.predictions.bias": torch.zeros(6)}
    if form == "pytorch_model.bin":
        torch.save(state, tmp_path / form)
    elif form == "model.safetensors":
        save_file(state, tmp_path / form)
    else:
        for number, name in enumerate(state):
            save_file({name: state[name]}, tmp_path / f"model-{number}.safetensors")
        shards = {name: f"model-{number}.safetensors" for number, name in enumerate(state)}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    tokens = {"<pad>": 0, "<mask>": 1, "ENSG00000141510": 5, "ENSG00000136997": 2}
    text = json.dumps(tokens) if dictionary.endswith("json") else "".join(f"{k},{v}\n" for k, v in tokens.items())
    (tmp_path / dictionary).write_text(text)
    table = foundation_table("geneformer", tmp_path, genes=tmp_path / dictionary)
    assert list(table.genes) == ["ENSG00000141510", "ENSG00000136997"]
    np.testing.assert_array_equal(table.matrix, WEIGHTS.numpy()[[5, 2]])


@pytest.mark.parametrize("form", ["panglao_pretrain.pth", "gene2vec_16906.npy"])
@pytest.mark.parametrize("order", ["panglao_human.h5ad", "genes.txt"])
def test_scbert_gives_its_gene2vec_in_the_order_of_panglao(tmp_path, form, order):
    names = ["A1BG", "A1CF", "A2M", "TP53", "MYC"]
    if form.endswith("pth"):
        state = {"module.pos_emb.emb.weight": WEIGHTS, "module.token_emb.weight": torch.zeros(7, 4)}
        torch.save({"epoch": 3, "model_state_dict": state, "losses": 0.5}, tmp_path / form)
    else:
        np.save(tmp_path / form, WEIGHTS.numpy()[:5])
    if order.endswith("h5ad"):
        anndata.AnnData(np.zeros((1, 5), dtype=np.float32), var=pd.DataFrame(index=names)).write_h5ad(tmp_path / order)
    else:
        (tmp_path / order).write_text("\n".join(names))
    table = foundation_table("scbert", tmp_path / form, genes=tmp_path / order)
    assert list(table.genes) == names
    np.testing.assert_array_equal(table.matrix, WEIGHTS.numpy()[:5])


def test_esm2_gives_a_row_per_tensor(tmp_path):
    torch.save({"TP53": WEIGHTS[0], "MYC": WEIGHTS[1].half()}, tmp_path / "gene_symbol_to_embedding_ESM2.pt")
    table = foundation_table("esm2", tmp_path / "gene_symbol_to_embedding_ESM2.pt")
    assert list(table.genes) == ["TP53", "MYC"]
    np.testing.assert_allclose(table.matrix, WEIGHTS.numpy()[:2], rtol=1e-3)
    torch.save({"TP53": WEIGHTS[0], "MYC": WEIGHTS[1, :2]}, tmp_path / "odd.pt")
    with pytest.raises(BadKnowledge, match="length"):
        foundation_table("esm2", tmp_path / "odd.pt")


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_nothing_in_a_file_runs(tmp_path):
    trap = Trap(tmp_path / "sprung")
    torch.save({"gene": {"state_dict": {}}, "trap": trap}, tmp_path / "models.ckpt")
    (tmp_path / "genes.txt").write_text("A\nB\n")
    with pytest.raises(BadKnowledge, match="more than tensors"):
        foundation_table("scfoundation", tmp_path / "models.ckpt", genes=tmp_path / "genes.txt")
    (tmp_path / "token_dictionary.pkl").write_bytes(pickle.dumps({"ENSG00000141510": trap}))
    save_file({"bert.embeddings.word_embeddings.weight": WEIGHTS}, tmp_path / "model.safetensors")
    with pytest.raises(BadKnowledge, match=r"json\.dump"):
        foundation_table("geneformer", tmp_path, genes=tmp_path / "token_dictionary.pkl")
    np.save(tmp_path / "gene2vec.npy", np.array([trap], dtype=object), allow_pickle=True)
    with pytest.raises(BadKnowledge, match=r"json\.dump"):
        foundation_table("scbert", tmp_path / "gene2vec.npy", genes=tmp_path / "genes.txt")
    assert not (tmp_path / "sprung").exists()


def test_wrong_and_damaged_files_are_refused(tmp_path):
    folder = scgpt(tmp_path / "scgpt")
    with pytest.raises(BadOption, match="'scgpt'"):
        foundation_table("scGTP", folder)
    with pytest.raises(BadOption, match="--names"):
        foundation_table("geneformer", folder)
    with pytest.raises(MissingFile):
        foundation_table("scgpt", tmp_path / "none")
    with pytest.raises(BadKnowledge, match="no tensor 'model"):
        foundation_table("scfoundation", folder / "best_model.pt", genes=folder / "vocab.json")
    (folder / "vocab.json").write_text('{"TP53": 99}')
    with pytest.raises(BadKnowledge, match="6 rows"):
        foundation_table("scgpt", folder)
    (folder / "vocab.json").write_text("{")
    with pytest.raises(BadKnowledge, match="line 1"):
        foundation_table("scgpt", folder)
    (folder / "best_model.pt").write_bytes((folder / "best_model.pt").read_bytes()[:200])
    (folder / "vocab.json").write_text('{"TP53": 1}')
    with pytest.raises(BadKnowledge):
        foundation_table("scgpt", folder)
    (folder / "best_model.pt").unlink()
    with pytest.raises(MissingFile):
        foundation_table("scgpt", folder)


def test_a_written_table_is_knowledge_under_the_screens_names(tmp_path):
    table = foundation_table("scgpt", scgpt(tmp_path / "scgpt"))
    write_table(table, tmp_path / "scgpt.npz")
    (tmp_path / "table.csv").write_text("symbol,synonyms\nTP53,P53\nMYC,c-Myc\nGATA1,ERYF1\n")
    knowledge = load_knowledge([tmp_path / "scgpt.npz", tmp_path / "table.csv"], targets=["P53", "GATA1"])
    assert list(knowledge.embeddings["scgpt"].genes) == ["P53", "MYC", "GATA1"]
    np.testing.assert_array_equal(knowledge.embeddings["scgpt"].matrix, table.matrix)
