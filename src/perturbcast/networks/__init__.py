"""Networks over genes: readers of references and edge files."""
