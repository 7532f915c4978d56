"""Embedding tables from descriptions and from DNA, with the core install: word and k-mer counts, and an SVD."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int
from scipy import sparse

from perturbcast.errors import BadOption, NeedsKnowledge
from perturbcast.genes.knowledge import EmbeddingTable

BASES = "ACGT"


def text_embedding(
    texts: Mapping[str, str], *, n_components: int = 128, seed: int = 0, name: str = "text (TF-IDF)"
) -> EmbeddingTable:
    """Genes x components from their texts: TF-IDF of words and pairs of words, truncated SVD, rows of length 1.

    Genes without a word are left out. Words in one text only are dropped, English stop words too; counts enter as
    1 + ln(count). Fewer components come where texts or words do not carry `n_components`. The same texts and seed give
    the same numbers, whatever the order of the genes. NeedsKnowledge with fewer than three texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    genes = sorted(gene for gene, text in texts.items() if text.strip())
    if len(genes) < 3:
        raise NeedsKnowledge(f"{len(genes)} genes have a text; at least 3 are needed for an embedding.")
    words = TfidfVectorizer(
        sublinear_tf=True, stop_words="english", ngram_range=(1, 2), min_df=2, token_pattern=r"(?u)\b\w[\w-]+\b"
    )
    try:
        counts = sparse.csr_matrix(words.fit_transform([texts[gene] for gene in genes]))
    except ValueError as failure:  # sklearn's word for: no term is left
        raise NeedsKnowledge(f"the {len(genes)} texts share no words.") from failure
    return _reduced(name, genes, counts, n_components=n_components, seed=seed)


def kmer_embedding(
    sequences: Mapping[str, str],
    *,
    ks: Sequence[int] = (3, 4, 5, 6),
    n_components: int = 64,
    seed: int = 0,
    name: str = "sequence (k-mers)",
) -> EmbeddingTable:
    """Genes x components from their DNA: k-mers of both strands, square roots of shares, truncated SVD, unit rows.

    A k-mer and its reverse complement are one; k-mers with other letters than ACGT are passed over. Genes whose
    sequence is shorter than the longest k are left out. The strand a sequence is given in does not matter.
    """
    if not ks or min(ks) < 1 or max(ks) > 12:
        raise BadOption(f"ks is {tuple(ks)}; give lengths from 1 to 12.")
    genes = sorted(gene for gene, sequence in sequences.items() if len(sequence) >= max(ks))
    if len(genes) < 3:
        raise NeedsKnowledge(f"{len(genes)} genes have a sequence of {max(ks)} bases; at least 3 are needed.")
    codes, owner = encoded([sequences[gene] for gene in genes])
    shares = [_kmer_shares(codes, owner, k, len(genes)) for k in ks]
    return _reduced(name, genes, sparse.csr_matrix(sparse.hstack(shares)), n_components=n_components, seed=seed)


def encoded(sequences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """All bases in one row as 0..3, or -1 for any other letter and between sequences; and whose each base is."""
    letters = np.frombuffer("|".join(sequences).encode("ascii", "replace").upper(), dtype=np.uint8)
    code_of = np.full(256, -1, dtype=np.int64)
    code_of[np.frombuffer(BASES.encode(), dtype=np.uint8)] = np.arange(4)
    code_of[ord("U")] = 3
    owner = np.repeat(np.arange(len(sequences)), [len(sequence) + 1 for sequence in sequences])[:-1]
    return code_of[letters], owner


def kmer_counts(
    codes: Int[np.ndarray, " place"], owner: Int[np.ndarray, " place"], k: int, n_genes: int
) -> tuple[sparse.csr_matrix, Int[np.ndarray, " word"]]:
    """Counts (gene, k-mer seen), and the k-mers as numbers of base four: the lesser of both strands."""
    n_places = max(len(codes) - k + 1, 0)
    windows = [codes[shift : shift + n_places] for shift in range(k)]
    sound = np.logical_and.reduce([window >= 0 for window in windows])
    forward = sum(window * 4 ** (k - 1 - shift) for shift, window in enumerate(windows))
    reverse = sum((3 - window) * 4**shift for shift, window in enumerate(windows))
    seen, column = np.unique(np.minimum(forward, reverse)[sound], return_inverse=True)
    rows = owner[:n_places][sound]
    counts = sparse.csr_matrix((np.ones(len(rows)), (rows, column)), shape=(n_genes, len(seen)))
    return counts, seen.astype(np.int64)


def _kmer_shares(codes: np.ndarray, owner: np.ndarray, k: int, n_genes: int) -> sparse.csr_matrix:
    """Square root of the share of each k-mer (of both strands) among those of a gene: (gene, k-mer seen)."""
    counts, _ = kmer_counts(codes, owner, k, n_genes)
    total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
    return sparse.csr_matrix(sparse.diags_array(1.0 / total) @ counts).sqrt()


def _reduced(
    name: str, genes: Sequence[str], rows: sparse.csr_matrix, *, n_components: int, seed: int
) -> EmbeddingTable:
    """Truncated SVD and unit rows; genes whose row is empty are left out."""
    from sklearn.decomposition import TruncatedSVD

    if n_components < 1:
        raise BadOption(f"n_components is {n_components}; at least 1 is needed.")
    filled = np.flatnonzero(np.diff(rows.indptr) > 0)
    rows = rows[filled]
    n_possible = min(n_components, rows.shape[0] - 1, rows.shape[1] - 1)
    if n_possible < 1:
        raise NeedsKnowledge(f"{name}: too few genes or features for an embedding.")
    reduction = TruncatedSVD(n_possible, algorithm="randomized", n_iter=7, random_state=seed)
    with np.errstate(divide="ignore", invalid="ignore"):  # its share of variance, which is 0 / 0 where rows are equal
        matrix = reduction.fit_transform(rows)
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit = (matrix / np.where(length > 0, length, 1.0)).astype(np.float32)
    return EmbeddingTable(name, np.array(genes, dtype=object)[filled], unit, source="computed by perturbcast")
