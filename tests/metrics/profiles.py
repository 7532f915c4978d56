"""Random predicted and observed responses for property tests."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

REPEATABLE = settings(deadline=None, max_examples=40, derandomize=True)


@st.composite
def pairs(draw: st.DrawFn, *, least_genes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and observed responses of the same shape, of ordinary size, with some exact zeros."""
    seed = draw(st.integers(0, 10_000))
    shape = (draw(st.integers(2, 8)), draw(st.integers(least_genes, 40)))
    rng = np.random.default_rng(seed)
    size = draw(st.sampled_from([0.01, 1.0, 30.0]))
    predicted, truth = size * rng.normal(size=(2, *shape))
    silent = rng.random(shape) < draw(st.sampled_from([0.0, 0.3]))
    return predicted, np.where(silent, 0.0, truth)
