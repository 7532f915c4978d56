"""The gene views that gene knowledge and the training responses themselves offer, built without a look at any test."""

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np
from scipy import sparse

from perturbcast.data.responses import ResponseTable
from perturbcast.genes.knowledge import EmbeddingTable, GeneGraph, GeneKnowledge, GeneSets
from perturbcast.genes.motifs import motif_sets
from perturbcast.models.gene_views import GeneView, known_rows, normalised

HEAT_TIMES = (1.0, 3.0)  # of exp(-tL): about one and three steps away
MOST_FEATURES = 256  # wider embedding tables are turned to their principal axes
RESPONSE_AXES = 20  # principal axes of training responses in which genes are compared
KMER = 4  # length of sequence words
PROMOTER = (100, 5000)  # bases: where sites of regulators are looked for
RAREST, MOST_COMMON = 2, 0.2  # words in fewer texts, or in a larger share of texts, say nothing of likeness
WORD = re.compile(r"[a-z0-9][a-z0-9-]{2,}")


def views_of(knowledge: GeneKnowledge) -> list[GeneView]:
    """Every view of the knowledge, in a fixed order: tables, gene sets, texts, graphs, sequences."""
    views: list[GeneView] = []
    for name in sorted(knowledge.embeddings):
        views += table_views(knowledge.embeddings[name])
    for name in sorted(knowledge.gene_sets):
        views += set_views(knowledge.gene_sets[name])
    if knowledge.texts:
        views += text_views(knowledge.texts)
    for name in sorted(knowledge.graphs):
        views += graph_views(knowledge.graphs[name])
    if knowledge.sequences:
        views += sequence_views(knowledge.sequences)
    return [known_rows(view) for view in views if view.matrix.shape[1]]


def table_views(table: EmbeddingTable) -> list[GeneView]:
    """Cosine and Gaussian kernels of an embedding table, centred so that genes can be unlike each other."""
    centred = table.matrix - table.matrix.mean(axis=0, keepdims=True)
    reduced = principal_axes(centred, most=MOST_FEATURES).astype(np.float32)
    return [GeneView(f"{table.name}:{form}", table.genes, reduced, form=form) for form in ("cosine", "rbf")]


def principal_axes(matrix: np.ndarray, *, most: int) -> np.ndarray:
    """(row, at most `most`) the same rows in their leading principal axes; distances kept as well as can be."""
    if matrix.shape[1] <= most:
        return np.asarray(matrix)
    values, axes = np.linalg.eigh((matrix.T @ matrix).astype(np.float64))
    leading = axes[:, np.argsort(-values, kind="stable")[:most]]
    return matrix @ leading.astype(matrix.dtype)


def set_views(sets: GeneSets) -> list[GeneView]:
    """Shared sets, rare ones counting more, and the plain Jaccard index."""
    membership = sparse.csr_matrix(sets.membership, dtype=np.float32)
    return [
        GeneView(f"{sets.name}:shared", sets.genes, rarity_weighted(membership)),
        GeneView(f"{sets.name}:jaccard", sets.genes, membership, form="jaccard"),
    ]


def graph_views(graph: GeneGraph) -> list[GeneView]:
    """Diffusion over the graph, and shared neighbours: of both directions where edges have one."""
    weights = sparse.csr_matrix(graph.weights, dtype=np.float32)
    spread = normalised(weights)
    views = [GeneView(f"{graph.name}:heat{time:g}", graph.genes, spread, heat=time) for time in HEAT_TIMES]
    if not graph.directed:
        return [*views, GeneView(f"{graph.name}:neighbours", graph.genes, rarity_weighted(weights))]
    return [
        *views,
        GeneView(f"{graph.name}:targets", graph.genes, rarity_weighted(weights)),
        GeneView(f"{graph.name}:regulators", graph.genes, rarity_weighted(sparse.csr_matrix(weights.T))),
    ]


def rarity_weighted(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Columns times ln(1 + rows / rows that have it), so that what few genes share counts more."""
    n_rows = counts.shape[0]
    holders = np.bincount(counts.indices[counts.data != 0], minlength=counts.shape[1])
    weight = np.log1p(n_rows / np.where(holders > 0, holders, 1.0))
    return sparse.csr_matrix(counts @ sparse.diags_array(weight), dtype=np.float32)


def text_views(texts: Mapping[str, str]) -> list[GeneView]:
    """TF-IDF of words: cosine and Gaussian kernels. A gene's own symbol is in too few texts to count."""
    genes = sorted(texts)
    words = [Counter(WORD.findall(texts[gene].casefold())) for gene in genes]
    spread = Counter(word for bag in words for word in bag)
    most = max(RAREST, MOST_COMMON * len(genes))
    column = {word: place for place, word in enumerate(sorted(w for w, n in spread.items() if RAREST <= n <= most))}
    entries = [
        (row, column[word], (1 + np.log(count)) * np.log(len(genes) / spread[word]))
        for row, bag in enumerate(words)
        for word, count in bag.items()
        if word in column
    ]
    matrix = _csr(entries, shape=(len(genes), len(column)))
    names = np.array(genes, dtype=object)
    return [GeneView("text:cosine", names, matrix), GeneView("text:rbf", names, matrix, form="rbf")]


def sequence_views(sequences: Mapping[str, str]) -> list[GeneView]:
    """Sites that promoters share; of other sequences, and where no site is shared, the words of four bases.

    Promoters have 100 to 5,000 bases: sites found in core promoters of 60 bases told nothing of responses measured,
    and longer sequences hold most words. Words of four bases beside sites only cost where neither told anything.
    """
    promoters = {gene: dna for gene, dna in sequences.items() if PROMOTER[0] <= len(dna) <= PROMOTER[1]}
    sites = motif_sets(promoters)
    if not sites.sets:
        return _word_views(sequences)
    found = [GeneView("sequence:sites", sites.genes, rarity_weighted(sparse.csr_matrix(sites.membership)))]
    return [*found, *_word_views({gene: dna for gene, dna in sequences.items() if gene not in promoters})]


def _word_views(sequences: Mapping[str, str]) -> list[GeneView]:
    """Shares of the words of four bases, relative to the mean gene."""
    genes = [gene for gene in sorted(sequences) if len(sequences[gene]) >= KMER]
    if not genes:
        return []
    counts = np.stack([_words_of(sequences[gene]) for gene in genes])
    share = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0))
    centred = (share - share.mean(axis=0)).astype(np.float32)
    return [GeneView("sequence:words", np.array(genes, dtype=object), centred)]


def _words_of(sequence: str) -> np.ndarray:
    """(4^k,) counts of words of A, C, G, T; words with other letters are left out."""
    code = np.full(256, -1, dtype=np.int64)
    code[list(b"ACGT")], code[list(b"acgt")] = np.arange(4), np.arange(4)
    letters = code[np.frombuffer(sequence.encode("ascii", "replace"), dtype=np.uint8)]
    windows = np.lib.stride_tricks.sliding_window_view(letters, KMER)
    words = windows[(windows >= 0).all(axis=1)] @ (4 ** np.arange(KMER))
    return np.bincount(words, minlength=4**KMER).astype(np.float64)


def response_view(table: ResponseTable) -> list[GeneView]:
    """Co-expression: measured genes compared by how they respond across training queries, in principal axes.

    A gene's row uses all training responses, a left-out query among them, so leave-one-out is slightly hopeful here.
    """
    if table.n_queries <= 2:
        return []
    centred = table.response - table.response.mean(axis=0)
    from scipy.linalg import eigh

    kept = min(RESPONSE_AXES, table.n_queries // 4 + 1, table.n_genes)
    last = table.n_queries - 1
    _, axes = eigh(centred @ centred.T, subset_by_index=[last - kept + 1, last])
    loading = (centred.T @ axes).astype(np.float32)  # (gene, query) @ (query, axis) -> (gene, axis)
    return [GeneView("responses:coexpression", np.asarray(table.genes, dtype=object), loading)]


def _csr(entries: list[tuple[int, int, float]], *, shape: tuple[int, int]) -> sparse.csr_matrix:
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    return sparse.csr_matrix((np.array(values, dtype=np.float32), (rows, columns)), shape=shape)
