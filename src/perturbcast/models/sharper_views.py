"""Further views of genes: rare sets, topics of long texts, leading axes of graphs, and how symbols begin.

They say much where they fit and nothing elsewhere, so they are weighed beside the usual views, not instead of them.
"""

import re
from collections import Counter

import numpy as np
from scipy import sparse

from perturbcast.genes.knowledge import GeneGraph, GeneKnowledge, GeneSets
from perturbcast.models.embeddings_of_targets import leading_axes
from perturbcast.models.gene_views import GeneView, known_rows, normalised, unit_rows
from perturbcast.models.knowledge_views import text_views

WIDTH = 64  # leading axes kept of topics and graphs
LONG_TEXT = 150  # letters: shorter texts are a gene's name and little more
SHORTEST = 2  # letters of a beginning
MOST_COMMON = 0.02  # share of genes; beginnings of more say nothing
SYMBOL = re.compile(r"[A-Z][A-Z0-9-]+")


def sharper_views(knowledge: GeneKnowledge) -> list[GeneView]:
    """Every further view that the knowledge allows, in a fixed order."""
    views: list[GeneView] = []
    for name in sorted(knowledge.gene_sets):
        views += rare_set_views(knowledge.gene_sets[name])
    views += topic_views({gene: text for gene, text in knowledge.texts.items() if len(text) >= LONG_TEXT})
    for name in sorted(knowledge.graphs):
        views += axis_views(knowledge.graphs[name])
    if knowledge.texts or knowledge.gene_sets:
        views += beginning_views(sorted(knowledge.known_genes()))
    return [known_rows(view) for view in views]


def rare_set_views(sets: GeneSets) -> list[GeneView]:
    """Shared sets, each counting 1 / its size: complexes and small pathways decide."""
    membership = sparse.csr_matrix(sets.membership, dtype=np.float32)
    size = np.asarray(membership.sum(axis=0)).ravel()
    rare = sparse.csr_matrix(membership @ sparse.diags_array(1.0 / np.maximum(size, 1.0)), dtype=np.float32)
    return [GeneView(f"{sets.name}:rare-{form}", sets.genes, rare, form=form) for form in ("cosine", "rbf")]


def topic_views(texts: dict[str, str]) -> list[GeneView]:
    """Leading axes of the words of long texts."""
    if len(texts) < WIDTH:
        return []
    words = next(view for view in text_views(texts) if view.form == "cosine")
    return _in_axes("text:topics", words.genes, unit_rows(words.matrix))


def axis_views(graph: GeneGraph) -> list[GeneView]:
    """Leading axes of the normalised adjacency."""
    return _in_axes(f"{graph.name}:axes", graph.genes, normalised(sparse.csr_matrix(graph.weights)))


def beginning_views(genes: list[str]) -> list[GeneView]:
    """How symbols begin: members of a family are named alike (PSMB1, PSMB5; FOXA1, FOXA3)."""
    named = [gene for gene in genes if SYMBOL.fullmatch(gene)]
    bags = [[gene[:length] for length in range(SHORTEST, len(gene))] for gene in named]
    spread = Counter(start for bag in bags for start in bag)
    most = MOST_COMMON * len(named)
    column = {start: place for place, start in enumerate(sorted(s for s, n in spread.items() if 2 <= n <= most))}
    entries = [
        (row, column[start], np.log(len(named) / spread[start]))
        for row, bag in enumerate(bags)
        for start in bag
        if start in column
    ]
    if not entries:
        return []
    rows, columns, values = zip(*entries, strict=True)
    shape = (len(named), len(column))
    matrix = sparse.csr_matrix((np.array(values, dtype=np.float32), (rows, columns)), shape=shape)
    return [GeneView("symbol:beginning", np.array(named, dtype=object), matrix, form="rbf")]


def _in_axes(name: str, genes: np.ndarray, rows: sparse.csr_matrix) -> list[GeneView]:
    """Cosine and Gaussian kernels of rows in their leading axes; none for few genes."""
    if min(rows.shape) <= WIDTH:
        return []
    axes = leading_axes(sparse.csr_matrix(rows, dtype=np.float64), width=WIDTH).astype(np.float32)
    return [GeneView(f"{name}-{form}", genes, axes, form=form) for form in ("cosine", "rbf")]
