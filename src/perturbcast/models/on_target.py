"""The own gene of a target: its response is known beforehand (up when activated, down when knocked down)."""

import numpy as np

from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.responses import ResponseTable

PRIOR = 1.0  # how many observations the mean on-target effect counts for in that of one gene


class OnTarget:
    """Adds the on-target effect (gene,) to the response of each measured target."""

    def __init__(self, genes: np.ndarray, effect: np.ndarray) -> None:
        self._column = {str(gene): column for column, gene in enumerate(genes)}
        self._effect = effect

    def add_to(self, response: np.ndarray, query: Query) -> None:
        """Changes one response row in place."""
        for target in targets_of(query.condition):
            if target in self._column:
                response[self._column[target]] += self._effect[self._column[target]]

    @staticmethod
    def set_aside(table: ResponseTable) -> tuple[np.ndarray, np.ndarray]:
        """Responses in which a target's own gene looks as under other perturbations, and the effect taken out (gene,).

        A gene's effect is shrunk to the mean effect over genes, which also serves genes that were never a target.
        """
        column = {str(gene): place for place, gene in enumerate(table.genes)}
        entries = [
            (row, column[target])
            for row, query in enumerate(table.queries)
            for target in targets_of(query.condition)
            if target in column
        ]
        response = np.array(table.response, dtype=np.float64)
        if not entries:
            return response, np.zeros(table.n_genes)
        rows, columns = (np.array(index) for index in zip(*entries, strict=True))
        others = np.ones(response.shape, dtype=bool)
        others[rows, columns] = False
        usual = (table.response * others).sum(axis=0) / np.maximum(others.sum(axis=0), 1)
        effect = table.response[rows, columns] - usual[columns]
        response[rows, columns] = usual[columns]
        count = np.bincount(columns, minlength=table.n_genes)
        total = np.bincount(columns, weights=effect, minlength=table.n_genes)
        common = effect.sum() / (len(effect) + PRIOR)
        return response, (total + PRIOR * common) / (count + PRIOR)
