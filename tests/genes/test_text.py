"""Embeddings of texts and of DNA: deterministic, blind to order and strand, alike for alike genes."""

import numpy as np
import pytest

from perturbcast.errors import BadOption, NeedsKnowledge
from perturbcast.genes.text import kmer_embedding, text_embedding

TEXTS = {
    "MED1": "subunit of the mediator complex, regulates transcription by RNA polymerase II",
    "MED2": "mediator complex subunit of RNA polymerase II transcription",
    "EXO1": "exosome component that degrades RNA from its end",
    "EXO2": "component of the exosome, degrades RNA",
    "KIN1": "kinase that phosphorylates cyclins in the cell cycle",
    "KIN2": "cell cycle kinase, phosphorylates cyclins",
    "NONE": "  ",
}


def likeness(table, first, second):
    rows, _ = table.rows([first, second])
    return float(rows[0] @ rows[1])


def complement(sequence):
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


@pytest.fixture(scope="module")
def promoters():
    rng = np.random.default_rng(0)
    return {f"G{number}": "".join(rng.choice(list("ACGT"), 200)) for number in range(30)}


def test_genes_with_alike_texts_are_alike():
    table = text_embedding(TEXTS, n_components=3)
    for family in ("MED", "EXO", "KIN"):
        assert likeness(table, f"{family}1", f"{family}2") > 0.9
    assert likeness(table, "MED1", "KIN1") < 0.5


def test_genes_without_a_text_are_left_out_and_rows_have_length_one():
    table = text_embedding(TEXTS)
    assert "NONE" not in table.genes
    np.testing.assert_allclose(np.linalg.norm(table.matrix, axis=1), 1.0, rtol=1e-5)
    assert table.matrix.dtype == np.float32


def test_the_order_of_the_texts_does_not_matter():
    one, two = text_embedding(TEXTS, seed=3), text_embedding(dict(reversed(TEXTS.items())), seed=3)
    assert list(one.genes) == list(two.genes)
    np.testing.assert_array_equal(one.matrix, two.matrix)


def test_too_few_texts_or_no_common_word_are_refused():
    with pytest.raises(NeedsKnowledge, match="2 genes have a text"):
        text_embedding({"A": "one", "B": "two", "C": ""})
    with pytest.raises(NeedsKnowledge, match="share no words"):
        text_embedding({"A": "apple", "B": "banana", "C": "cherry"})
    with pytest.raises(BadOption):
        text_embedding(TEXTS, n_components=0)


def test_the_strand_of_a_sequence_does_not_matter(promoters):
    one = kmer_embedding(promoters, n_components=8)
    other = kmer_embedding({gene: complement(dna) for gene, dna in promoters.items()}, n_components=8)
    np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-5)


def test_kmers_are_counted_as_in_a_plain_loop(promoters):
    sequences = {gene: dna[:40] + "N" + dna[40:90].lower() for gene, dna in promoters.items()}
    table = kmer_embedding(sequences, ks=(3,), n_components=29)
    shares = []
    for gene in table.genes:
        counts = {}
        dna = sequences[gene].upper()
        for start in range(len(dna) - 2):
            kmer = dna[start : start + 3]
            if "N" not in kmer:
                key = min(kmer, complement(kmer))
                counts[key] = counts.get(key, 0) + 1
        shares.append({kmer: np.sqrt(count / sum(counts.values())) for kmer, count in counts.items()})
    columns = sorted(set().union(*shares))
    assert len(columns) <= 32
    dense = np.array([[row.get(kmer, 0.0) for kmer in columns] for row in shares])
    np.testing.assert_allclose(table.matrix @ table.matrix.T, dense @ dense.T, atol=0.01)


def test_short_sequences_are_left_out_and_too_few_refused(promoters):
    table = kmer_embedding(promoters | {"SHORT": "ACGTA"}, n_components=4)
    assert "SHORT" not in table.genes
    with pytest.raises(NeedsKnowledge):
        kmer_embedding({"A": "ACGTACGT", "B": "ACGT"})
    with pytest.raises(BadOption):
        kmer_embedding(promoters, ks=())


def test_promoters_with_the_same_motif_are_more_alike(promoters):
    with_motif = {
        gene: ("TGACTCA" * 6 + dna)[:200] if number < 5 else dna for number, (gene, dna) in enumerate(promoters.items())
    }
    table = kmer_embedding(with_motif, n_components=6)
    assert likeness(table, "G0", "G1") > likeness(table, "G0", "G20") + 0.1


def test_genes_with_the_same_words_have_the_same_row():
    table = text_embedding(dict.fromkeys("ABC", "protein of cells"))
    np.testing.assert_allclose(table.matrix, np.broadcast_to(table.matrix[0], table.matrix.shape), atol=1e-6)
    assert np.isfinite(table.matrix).all()
