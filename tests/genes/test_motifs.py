"""Over-represented words of DNA: planted sites are found on either strand, chance words are not."""

import numpy as np
import pytest

from perturbcast.errors import BadOption
from perturbcast.genes.motifs import motif_sets, spelt
from perturbcast.genes.text import BASES

SITE = "GATTACAGCC"
OTHER_STRAND = str.maketrans("ACGT", "TGCA")


def drawn(rng, n_genes, n_bases=200, *, p=None):
    return {f"g{number:03d}": "".join(rng.choice(list(BASES), n_bases, p=p)) for number in range(n_genes)}


def either_strand(word):
    return min(word, word.translate(OTHER_STRAND)[::-1])


def planted(rng):
    """Every fourth gene holds the site, every eighth on the other strand."""
    sequences = drawn(rng, 100)
    for number, gene in enumerate(sorted(sequences)):
        if number % 4 == 0:
            site = SITE if number % 8 else SITE.translate(OTHER_STRAND)[::-1]
            sequences[gene] = sequences[gene][:50] + site + sequences[gene][60:]
    return sequences


def test_a_planted_site_is_found_on_both_strands_and_only_words_that_overlap_it():
    found = motif_sets(planted(np.random.default_rng(0)), length=8)
    words = {either_strand(SITE[start : start + 8]) for start in range(3)}
    assert words <= set(found.sets)
    for column in [found.sets.index(word) for word in words]:
        held = set(np.flatnonzero(found.membership[:, [column]].toarray()))
        assert set(range(0, 100, 4)) <= held
        assert len(held) <= 28
    cores = [SITE[start : start + 7] for start in range(4)]
    for word in found.sets:
        assert any(core in word or core in word.translate(OTHER_STRAND)[::-1] for core in cores)


@pytest.mark.parametrize("p", [None, (0.15, 0.35, 0.35, 0.15)])
def test_random_sequences_hardly_share_words(p):
    """The chance of .05 is for all words of one call, so that about one of twenty calls finds one."""
    rng = np.random.default_rng(1)
    assert sum(len(motif_sets(drawn(rng, 120, p=p), length=7).sets) for _ in range(8)) <= 2


def test_strand_and_order_do_not_matter():
    sequences = planted(np.random.default_rng(2))
    first = motif_sets(sequences)
    turned = {gene: sequences[gene].translate(OTHER_STRAND)[::-1].lower() for gene in reversed(sequences)}
    second = motif_sets(turned)
    assert first.sets == second.sets
    assert (first.membership != second.membership).nnz == 0


def test_words_of_most_genes_are_passed_over_and_repeats_count_once():
    rng = np.random.default_rng(3)
    held = {gene: dna[:100] + SITE * 3 for gene, dna in drawn(rng, 60).items()}
    assert either_strand(SITE[:8]) not in motif_sets(held).sets
    found = motif_sets(held | {f"h{gene}": dna for gene, dna in drawn(rng, 200).items()})
    assert either_strand(SITE[:8]) in found.sets
    assert set(found.membership.data) == {1.0}


def test_short_unknown_and_missing_sequences_are_borne():
    assert motif_sets({}).membership.shape == (0, 0)
    found = motif_sets({"a": "ACG", "b": "NNNNNNNNNN", "c": "ACGTACGTAC"})
    assert list(found.genes) == ["b", "c"]
    assert found.sets == ()


def test_a_word_is_spelt_from_its_number():
    assert spelt(0, 4) == "AAAA"
    assert spelt(4**3 + 2, 4) == "CAAG"


@pytest.mark.parametrize("length", [3, 13])
def test_lengths_beyond_the_range_are_refused(length):
    with pytest.raises(BadOption):
        motif_sets({"a": "ACGT" * 10}, length=length)
