"""What the rest of a measured response says of each of its genes: a bound of the noise where there are no cells."""

import numpy as np
from jaxtyping import Float

from perturbcast._types import ProfileByQuery
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import MetricNeeds

PARTS = 10  # of the genes; each is predicted from the other nine
ALPHAS = np.geomspace(1e-4, 1e2, 13)  # of the ridge, in units of the mean variance that training has per query
FEWEST = 10  # training queries, and measured genes, below which nothing is learned


def from_other_genes(truth: ResponseTable, training: ResponseTable, *, seed: int = 0) -> ProfileByQuery:
    """(query, gene) each tenth of the genes predicted from the other nine tenths of the same measured response.

    A ridge regression from genes to genes, fitted on training responses, its penalty chosen by leave-one-out there; the
    tenths are drawn by `seed`. Whoever predicts it has seen the response, so it is no model of perturbations. Its error
    is that of a perfect model and more, as long as noise is independent between genes: bi-cross-validation (Owen and
    Perry 2009, Annals of Applied Statistics 3:564). Noise that genes share (depth, state of the cells, a common
    control) is partly predicted as well, and then the bound is too low.
    MetricNeeds below ten training queries or ten genes.
    """
    if min(training.n_queries, len(truth.genes)) < FEWEST:
        raise MetricNeeds(f"predicting genes from other genes needs {FEWEST} training queries and {FEWEST} genes.")
    known = np.asarray(training.response, dtype=np.float64)
    asked = np.asarray(truth.response, dtype=np.float64)
    part = np.random.default_rng(seed).permutation(known.shape[1]) % PARTS
    found = np.empty_like(asked)
    for place in range(PARTS):
        own = part == place
        found[:, own] = _ridge(known[:, ~own], known[:, own], asked[:, ~own])
    return found


def _ridge(
    known: Float[np.ndarray, "query other"], target: Float[np.ndarray, "query own"], asked: Float[np.ndarray, "n other"]
) -> Float[np.ndarray, "n own"]:
    """Targets of the asked rows."""
    from sklearn.linear_model import RidgeCV

    scale = known.var(axis=0).sum()
    if scale == 0.0:
        return np.tile(target.mean(axis=0), (len(asked), 1))
    return RidgeCV(alphas=scale * ALPHAS).fit(known, target).predict(asked)
