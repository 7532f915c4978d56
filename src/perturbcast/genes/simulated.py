"""Gene knowledge of a simulated world, as `load_knowledge` reads it from the world's folder."""

import numpy as np

from perturbcast.data.simulate import World
from perturbcast.genes.graphs import gene_sets_of, graph_of_edges
from perturbcast.genes.knowledge import EmbeddingTable, GeneKnowledge, GeneTable


def knowledge_of(world: World) -> GeneKnowledge:
    """What is told of the genes of a world, without the detour over files: partial, noisy and partly wrong.

    The same as `load_knowledge([folder])` after `world.write(folder)`: table, texts (description and summary),
    promoters, embedding table `embedding`, undirected graph `prior_graph`, gene sets `gene_sets`.
    """
    source = world.source
    table = world.gene_table.drop(columns="synonyms").astype(object)
    table.insert(2, "aliases", [tuple(names.split("|")) for names in world.gene_table["synonyms"]])
    table["sequence"] = ""
    described = zip(table["symbol"], table["description"], strict=True)
    edges = world.prior_graph
    graph = graph_of_edges(
        "prior_graph",
        edges["Gene1"].to_numpy(dtype=object),
        edges["Gene2"].to_numpy(dtype=object),
        weights=edges["weight"].to_numpy(),
        source=source,
    )
    features = world.embedding.to_numpy(dtype=np.float32)
    return GeneKnowledge(
        table=GeneTable(table, source),
        embeddings={"embedding": EmbeddingTable("embedding", world.network.genes, features, source)},
        graphs={"prior_graph": graph},
        gene_sets={"gene_sets": gene_sets_of("gene_sets", list(world.gene_sets.items()), source=source)},
        texts={str(symbol): f"{description}. {world.texts[symbol]}" for symbol, description in described},
        sequences=dict(world.sequences),
        notes=(f"{source}: knowledge of {len(table)} genes, partly wrong on purpose",),
    )
