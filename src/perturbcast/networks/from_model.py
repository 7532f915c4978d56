"""The network of any fitted model that can say how all genes respond to a perturbation of one."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from perturbcast.data.prediction import Prediction
from perturbcast.data.screen import Screen
from perturbcast.errors import NoEvaluablePair
from perturbcast.networks.infer_mean_difference import network_of_effects
from perturbcast.networks.network import Network
from perturbcast.networks.universe import universe_of


@runtime_checkable
class NetworkFromModel(Protocol):
    """Anything that predicts responses by condition: every fitted perturbcast model."""

    genes: np.ndarray  # (gene,)

    def predict(self, queries: Sequence[str]) -> Prediction:
        """Responses of conditions; a row it refuses is NaN with a reason."""


@runtime_checkable
class LearnsNetwork(Protocol):
    """A fitted model that learned a network of its own, such as GPO-VAE."""

    def network_of_genes(self) -> Network:
        """The network, genes and weights as the model has them."""


def network_of_model(model: NetworkFromModel, screen: Screen, *, sources: Sequence[str] | None = None) -> Network:
    """The network of |predicted response| of every gene to the perturbation of each source alone.

    `sources` default to the genes perturbed singly in the screen, measured or not; any gene may be asked, unseen ones
    included. A source that the model refuses has no edge. Where it gives standard deviations, the interval is 95 %.
    Signs say what the source does to its target, as in mean-difference. NoEvaluablePair if every source is refused.
    """
    asked = list(universe_of(screen, measured_sources=False).sources if sources is None else sources)
    predicted = model.predict(asked)
    answered = np.flatnonzero(predicted.predicted)
    if not len(answered):
        raise NoEvaluablePair(f"The model refuses all {len(asked)} sources: {predicted.reason[0]}", "")
    known = [asked[row] for row in answered]
    place = {str(gene): number for number, gene in enumerate(predicted.genes)}
    columns_of = np.array([place[str(gene)] for gene in screen.genes], dtype=np.int64)
    effect = predicted.response[answered][:, columns_of].astype(np.float64)
    size = np.abs(effect)
    columns: dict[str, np.ndarray] = {}
    if predicted.sd is not None:
        spread = 1.959963984540054 * predicted.sd[answered][:, columns_of]
        columns = {"ci_low": np.maximum(size - spread, 0.0), "ci_high": size + spread}
    return network_of_effects(screen, known, effect, size, columns, method=f"model {predicted.model}".strip())
