"""Single sources of gene knowledge: one alone, or one with its genes' names shuffled, to see what each is worth."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from perturbcast.errors import NeedsKnowledge, did_you_mean
from perturbcast.genes.graphs import gene_sets_of
from perturbcast.genes.knowledge import GeneKnowledge

BIOTYPE, TEXT, SEQUENCE = "biotype", "text", "sequence"


def sources_of(knowledge: GeneKnowledge) -> list[str]:
    """Names of the sources: tables, graphs and sets by name, `text`, `sequence`, and `biotype` of the gene table."""
    named = [*knowledge.embeddings, *knowledge.graphs, *knowledge.gene_sets]
    told = {TEXT: knowledge.texts, SEQUENCE: knowledge.sequences, BIOTYPE: biotypes_of(knowledge)}
    return [*sorted(named), *(name for name, content in told.items() if content)]


def only(knowledge: GeneKnowledge, source: str) -> GeneKnowledge:
    """That source and nothing else; biotypes become gene sets, which every model can read."""
    _check(knowledge, source)
    if source == BIOTYPE:
        return _of_biotypes(knowledge)
    return GeneKnowledge(
        embeddings=_kept(knowledge.embeddings, source),
        graphs=_kept(knowledge.graphs, source),
        gene_sets=_kept(knowledge.gene_sets, source),
        texts=knowledge.texts if source == TEXT else {},
        sequences=knowledge.sequences if source == SEQUENCE else {},
    )


def shuffled(knowledge: GeneKnowledge, source: str, *, seed: int) -> GeneKnowledge:
    """All of the knowledge, the genes of one source having swapped their names at random: it tells nothing any more."""
    _check(knowledge, source)
    rng = np.random.default_rng(seed)
    if source == BIOTYPE:
        assert knowledge.table is not None
        frame = knowledge.table.frame.copy()
        frame["biotype"] = rng.permutation(frame["biotype"].to_numpy())
        return replace(knowledge, table=replace(knowledge.table, frame=frame))
    if source in knowledge.embeddings:
        return replace(knowledge, embeddings=_swapped(knowledge.embeddings, source, rng))
    if source in knowledge.graphs:
        return replace(knowledge, graphs=_swapped(knowledge.graphs, source, rng))
    if source in knowledge.gene_sets:
        return replace(knowledge, gene_sets=_swapped(knowledge.gene_sets, source, rng))
    told = knowledge.texts if source == TEXT else knowledge.sequences
    swapped = dict(zip(told, rng.permutation(np.array(list(told.values()), dtype=object)), strict=True))
    return replace(knowledge, texts=swapped) if source == TEXT else replace(knowledge, sequences=swapped)


def biotypes_of(knowledge: GeneKnowledge) -> dict[str, str]:
    """Biotype by symbol, where the gene table tells it."""
    if knowledge.table is None:
        return {}
    rows = zip(knowledge.table.frame["symbol"], knowledge.table.frame["biotype"], strict=True)
    return {str(symbol): str(biotype) for symbol, biotype in rows if symbol and biotype}


def _of_biotypes(knowledge: GeneKnowledge) -> GeneKnowledge:
    members: dict[str, list[str]] = {}
    for symbol, biotype in biotypes_of(knowledge).items():
        members.setdefault(biotype, []).append(symbol)
    return GeneKnowledge(gene_sets={BIOTYPE: gene_sets_of(BIOTYPE, sorted(members.items()))})


def _kept(held: Mapping[str, Any], source: str) -> dict[str, Any]:
    return {name: content for name, content in held.items() if name == source}


def _swapped(held: Mapping[str, Any], source: str, rng: np.random.Generator) -> dict[str, Any]:
    return {**held, source: replace(held[source], genes=rng.permutation(held[source].genes))}


def _check(knowledge: GeneKnowledge, source: str) -> None:
    known = sources_of(knowledge)
    if source not in known:
        raise NeedsKnowledge(f"no source is called {source!r}. {did_you_mean(source, known)}")
