"""Words of DNA that more genes share than chance would have: what sites of one factor leave in promoters."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from perturbcast.errors import BadOption
from perturbcast.genes.knowledge import GeneSets
from perturbcast.genes.text import BASES, encoded, kmer_counts

MOST_COMMON = 0.3  # share of genes: what more of them hold tells them little apart
MOST_WORDS = 2000  # the least likely ones are kept
BLOCK = 2000  # genes read at once


def motif_sets(
    sequences: Mapping[str, str], *, length: int = 8, chance: float = 0.05, name: str = "sequence motifs"
) -> GeneSets:
    """One set per over-represented word: the genes whose sequence holds it on either strand.

    A word and its reverse complement are one. A word is kept if so many genes hold it that fewer than `chance` of
    all words would be held by as many, were bases drawn one after the other with the frequencies of neighbours that
    the sequences have (a Markov chain of order one; the count of holders is taken as Poisson). Words of more than
    30 % of genes are passed over, and of the rest at most 2,000 kept, the least likely ones. Short words drown sites
    in chance matches, long ones lose those with a changed base. There may be no word at all. BadOption if `length`
    is outside 4 to 12.
    """
    if not 4 <= length <= 12:
        raise BadOption(f"length is {length}; give 4 to 12 bases.")
    genes = np.array(sorted(gene for gene, sequence in sequences.items() if len(sequence) >= length), dtype=object)
    counts, pairs = _read(sequences, genes, length)
    words = np.unique(counts.indices).astype(np.int64)
    counts = sparse.csr_matrix(counts[:, words])
    places = np.asarray(counts.sum(axis=1)).ravel()
    counts.data[:] = 1.0
    holders = np.asarray(counts.sum(axis=0)).ravel()
    unlikely = _tail(holders, _expected(_frequency(words, length, pairs), places)) * (4**length / 2)
    unlikely[holders > MOST_COMMON * len(genes)] = np.inf
    kept = np.sort(np.argsort(unlikely, kind="stable")[: min(MOST_WORDS, int((unlikely < chance).sum()))])
    labels = tuple(spelt(int(word), length) for word in words[kept])
    return GeneSets(name, genes, labels, sparse.csr_matrix(counts[:, kept]), "over-represented words")


def spelt(word: int, length: int) -> str:
    """The letters of a word that is given as a number of base four, its first base leading."""
    return "".join(BASES[word // 4 ** (length - 1 - place) % 4] for place in range(length))


def _read(
    sequences: Mapping[str, str], genes: Sequence[str] | np.ndarray, length: int
) -> tuple[sparse.csr_matrix, Float[np.ndarray, "base next_base"]]:
    """Counts (gene, any word) of both strands, and how often each base follows each; block by block."""
    parts = [sparse.csr_matrix((0, 4**length))]
    pairs = np.ones((4, 4))  # one of each, so that no pair is impossible
    for start in range(0, len(genes), BLOCK):
        block = genes[start : start + BLOCK]
        codes, owner = encoded([sequences[gene] for gene in block])
        counts, words = kmer_counts(codes, owner, length, len(block))
        every = (counts.data, words[counts.indices], counts.indptr)
        parts.append(sparse.csr_matrix(every, shape=(len(block), 4**length)))
        sound = (codes[:-1] >= 0) & (codes[1:] >= 0)
        np.add.at(pairs, (codes[:-1][sound], codes[1:][sound]), 1)
    return sparse.csr_matrix(sparse.vstack(parts)), pairs + pairs.T[::-1, ::-1]  # and what the other strand reads


def _frequency(
    words: Int[np.ndarray, " word"], length: int, pairs: Float[np.ndarray, "base next_base"]
) -> Float[np.ndarray, " word"]:
    """Probability of each word, on either strand, at one place, by the chain of neighbours."""
    after = pairs / pairs.sum(axis=1, keepdims=True)
    base = words[:, None] // 4 ** np.arange(length - 1, -1, -1) % 4  # (word, place)
    single = pairs.sum(axis=1) / pairs.sum()
    forward = single[base[:, 0]] * np.prod(after[base[:, :-1], base[:, 1:]], axis=1)
    palindrome = (base == 3 - base[:, ::-1]).all(axis=1)
    return np.where(palindrome, forward, 2 * forward)


def _expected(frequency: Float[np.ndarray, " word"], places: Float[np.ndarray, " gene"]) -> Float[np.ndarray, " word"]:
    """How many genes would hold each word, given at how many places each gene is read."""
    sizes, counts = np.unique(places, return_counts=True)
    found = np.zeros(len(frequency))
    for size, count in zip(sizes, counts, strict=True):
        found += count * -np.expm1(-size * frequency)
    return found


def _tail(holders: Float[np.ndarray, " word"], expected: Float[np.ndarray, " word"]) -> Float[np.ndarray, " word"]:
    """P(as many holders or more), Poisson."""
    from scipy.special import gammainc

    return np.asarray(gammainc(holders, expected))
