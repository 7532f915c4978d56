"""Gene knowledge: gene tables, embedding tables, gene graphs, gene sets."""
