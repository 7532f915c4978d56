"""Attacks: ways to score well without knowing more, and a profile of metrics that none of them wins (docs/METRICS.md).

An attack takes an honest prediction and returns another that holds no more information on the queries, or none. A
metric *falls* to an attack if the attacked prediction scores better, beyond what resampling the queries explains; it is
*blind* to it if the two cannot be told apart. Metrics that fall are not useless, but none may rank models alone.

The honest profile is read by rank, never by adding raw scores (spec F.13): for every query and metric the better of
two predictions gets 1, the other 0, both 1/2 if equal (mid-ranks); the consensus of a query is the mean over metrics.
An attack *wins* if its mean consensus over queries is above 1/2 beyond its 95 % bootstrap interval, and is *beaten* if
below.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from perturbcast._types import ProfileByQuery
from perturbcast.data.conditions import targets_of
from perturbcast.data.prediction import Prediction
from perturbcast.data.responses import ResponseTable
from perturbcast.errors import BadOption, MetricNeeds, did_you_mean
from perturbcast.metrics.base import Evaluation, get_metric
from perturbcast.metrics.score import EVERY, score

EXTREMES = 20  # genes that "extremes only" keeps
RESAMPLED = 50  # control cells behind a "duplicated control"
HONEST_PROFILE = (
    ("l2", "all-notarget"),
    ("pearson_delta_perturbed", "all-notarget"),
    ("pds_cosine", "all-notarget"),
    ("direction_accuracy", "all-notarget"),
    ("direction_fidelity", "all-notarget"),
)
Apply = Callable[[Prediction, ResponseTable, np.random.Generator], ndarray]


@dataclass(frozen=True)
class Attack:
    """A named way to change a prediction. `respond` gives (query, gene) responses."""

    name: str
    what: str
    respond: Apply

    def __call__(self, prediction: Prediction, training: ResponseTable, *, seed: int = 0) -> Prediction:
        """The attacked prediction. `training` is all that an attacker knows besides; neither input is changed."""
        response = self.respond(prediction, training, np.random.default_rng(seed))
        return replace(
            prediction, response=np.asarray(response, dtype=np.float64), model=f"{prediction.model} {self.name}"
        )


def _control_mean(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    return np.zeros_like(prediction.response)


def _perturbed_mean(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    return np.tile(training.perturbed_mean(), (len(prediction.queries), 1))


def _shuffled(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    order = rng.permutation(len(prediction.queries))
    taken = np.empty_like(order)
    taken[order] = np.roll(order, 1)  # one cycle: no query keeps its own
    return prediction.response[taken]


def _genes_shuffled(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    return prediction.response[:, rng.permutation(prediction.response.shape[1])]


def _inflated(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    return 3.0 * prediction.response


def _shrunk(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    return 0.3 * prediction.response


def _mean_in_disguise(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    mean = training.perturbed_mean()
    return mean + 0.05 * (prediction.response - mean)


def _log_of_log(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    known = np.isfinite(prediction.control)
    control = np.where(known, prediction.control, 0.0)
    twice = np.log1p(np.maximum(control + prediction.response, 0.0)) - control
    bent = np.sign(prediction.response) * np.log1p(np.abs(prediction.response))
    return np.where(known, twice, bent)


def _wrong_scale(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    control = np.nan_to_num(prediction.control, nan=0.0)
    return (control + prediction.response) / np.log(2) - control


def _duplicated_control(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    if training.control_variance is None:
        spread = 0.1 * training.response.std(axis=0)
    else:
        spread = np.sqrt(np.nan_to_num(training.control_variance).mean(axis=0) / RESAMPLED)
    return rng.normal(size=prediction.response.shape) * spread


def _constant(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    return np.tile(prediction.response[:1], (len(prediction.queries), 1))


def _own_target_leak(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    column = {str(gene): position for position, gene in enumerate(prediction.genes)}
    own = [
        training.response[row, column[target]]
        for row, query in enumerate(training.queries)
        for target in targets_of(query.condition)
        if target in column
    ]
    response = _perturbed_mean(prediction, training, rng)
    for row, query in enumerate(prediction.queries):
        for target in targets_of(query.condition):
            if target in column and own:
                response[row, column[target]] = np.mean(own)
    return response


def _clipped(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    most = np.quantile(np.abs(training.response), 0.5) if training.n_queries else 0.0
    return np.clip(prediction.response, -most, most)


def _sign_only(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    return np.sign(prediction.response) * np.abs(prediction.response).mean(axis=1, keepdims=True)


def _sign_flipped(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    return -prediction.response


def _extremes_only(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    size = np.abs(prediction.response)
    order = np.argsort(-size, axis=1, kind="stable")[:, :EXTREMES]
    kept = np.zeros_like(prediction.response)
    np.put_along_axis(kept, order, np.take_along_axis(prediction.response, order, axis=1), axis=1)
    return kept


def _offset(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    return prediction.response + 2.0 * np.abs(prediction.response).mean()


def _evened(prediction: Prediction, training: ResponseTable, rng: np.random.Generator) -> ndarray:
    mean = training.perturbed_mean()
    rest = prediction.response - mean
    _, size, axes = np.linalg.svd(training.response - mean, full_matrices=False)
    even = (rest @ axes.T / np.maximum(size, np.median(size)).clip(min=np.finfo(float).tiny)) @ axes
    before, after = np.linalg.norm(rest), np.linalg.norm(even)
    return mean + even * (before / after if after > 0 else 0.0)


ATTACKS = (
    Attack("control mean", "no change for every query", _control_mean),
    Attack("perturbed mean", "the mean training response for every query", _perturbed_mean),
    Attack("constant", "the prediction of the first query for every query", _constant),
    Attack(
        "duplicated control",
        f"the mean of {RESAMPLED} other control cells: noise of the right size",
        _duplicated_control,
    ),
    Attack("shuffled", "every query gets the prediction of another", _shuffled),
    Attack("genes shuffled", "the genes of all predictions permuted alike", _genes_shuffled),
    Attack("inflated", "responses times 3", _inflated),
    Attack("shrunk", "responses times 0.3", _shrunk),
    Attack("mean in disguise", "the perturbed mean and 5 % of what is particular to the query", _mean_in_disguise),
    Attack("log of log", "the logarithm taken twice", _log_of_log),
    Attack("wrong scale", "logarithm to base 2 for natural", _wrong_scale),
    Attack("own-target leak", "the perturbed mean, with the usual change at the query's own targets", _own_target_leak),
    Attack("clipped", "responses clipped at the median |training response|", _clipped),
    Attack("sign-only", "the sign of every response, all of one size", _sign_only),
    Attack("sign flipped", "every response with the opposite sign", _sign_flipped),
    Attack("extremes only", f"the {EXTREMES} largest responses, nothing else", _extremes_only),
    Attack("evened", "what is particular to the query, with every pattern of training as strong as any other", _evened),
    Attack("offset", "a constant added to every gene", _offset),
)


def get_attack(name: str) -> Attack:
    """The attack of that name; BadOption with the nearest names otherwise."""
    by_name = {attack.name: attack for attack in ATTACKS}
    if name not in by_name:
        raise BadOption(f"no attack is called {name!r}. {did_you_mean(name, by_name)}", "")
    return by_name[name]


def honest_responses(
    exact: ProfileByQuery, training: ResponseTable, *, noise: float, shrink: bool, seed: int = 0
) -> ProfileByQuery:
    """Responses of a model that sees the exact ones through noise, as the honest side of an attack.

    `noise` is in standard deviations, between queries, of each gene's exact response. With `shrink` it knows how noisy
    it is and shrinks towards the perturbed mean by 1 / (1 + noise²), as the best linear predictor does.
    """
    spread = exact.std(axis=0)
    seen = exact + noise * spread * np.random.default_rng(seed).normal(size=exact.shape)
    if not shrink:
        return seen
    mean = training.perturbed_mean()
    return mean + (seen - mean) / (1 + noise**2)


def attacked(evaluation: Evaluation, attack: Attack, *, seed: int = 0) -> Evaluation:
    """The evaluation of the attacked prediction, with nothing cached."""
    predicted = attack(evaluation.predicted, evaluation.training, seed=seed)
    return replace(evaluation, predicted=predicted, cache={})


# ---------------------------------------------------------------------------------------------------------- tables
def attack_table(
    evaluation: Evaluation,
    *,
    attacks: Sequence[Attack] = ATTACKS,
    metrics: Sequence[str] | None = None,
    n_bootstrap: int = 400,
    seed: int = 0,
) -> pd.DataFrame:
    """Every metric and gene set under every attack, against the honest prediction of the evaluation.

    Columns attack, metric, gene_set, honest, attacked (means), advantage (of the attack, in the metric's units, > 0 =
    the attack is better), low, high (95 % bootstrap over queries), verdict: `falls`, `blind`, `holds`, or `unscored`
    where either side has no score. Metrics of a whole data set have one number: they fall if it is better at all.
    """
    chosen = None if metrics is None else list(metrics)
    honest = score(evaluation, metrics=chosen, profile="full")
    rows = []
    for attack in attacks:
        other = score(attacked(evaluation, attack, seed=seed), metrics=chosen, profile="full")
        pair = honest.assign(attacked=other["value"])
        for (metric, gene_set), group in pair.groupby(["metric", "gene_set"], sort=True):
            rows.append(
                {"attack": attack.name, "metric": metric, "gene_set": gene_set} | _compare(group, n_bootstrap, seed)
            )
    return pd.DataFrame(rows)


def _compare(group: pd.DataFrame, n_bootstrap: int, seed: int) -> dict[str, object]:
    both = group.dropna(subset=["value", "attacked"])
    if both.empty:
        return dict.fromkeys(("honest", "attacked", "advantage", "low", "high"), np.nan) | {"verdict": "unscored"}
    sign = 1.0 if get_metric(str(both["metric"].iloc[0])).card.higher_is_better else -1.0
    gain = sign * (both["attacked"] - both["value"]).to_numpy()
    low, high = bootstrap_interval(gain, n_bootstrap=n_bootstrap, seed=seed)
    least = 1e-9 * max(float(np.abs(both["value"]).mean()), 1e-9)
    verdict = "falls" if low > least else "holds" if high < -least else "blind"
    means = {"honest": both["value"].mean(), "attacked": both["attacked"].mean(), "advantage": gain.mean()}
    return means | {"low": low, "high": high, "verdict": verdict}


def bootstrap_interval(values: Float[ndarray, " query"], *, n_bootstrap: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean over queries; the value itself twice where there is only one."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (n_bootstrap, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def consensus(
    first: Evaluation, second: Evaluation, *, profile: Sequence[tuple[str, str]] = HONEST_PROFILE
) -> pd.DataFrame:
    """Per query and metric of the profile: 1 where `second` scores better than `first`, 0 worse, 1/2 equal.

    Rows are queries, columns "metric/gene_set". An undefined score loses to a defined one; both undefined are equal.
    Metrics that these data cannot give are left out. MetricNeeds where that leaves none.
    """
    columns = {}
    for metric, gene_set in profile:
        tables = [score(one, metrics=[metric], gene_sets=[gene_set]) for one in (first, second)]
        if any((table["condition"] == EVERY).any() for table in tables):
            continue
        columns[f"{metric}/{gene_set}"] = _better(metric, *(table["value"].to_numpy() for table in tables))
    if not columns:
        raise MetricNeeds("none of the metrics of the profile can be computed from these data.")
    return pd.DataFrame(columns, index=pd.Index([str(query) for query in first.truth.queries], name="query"))


def _better(metric: str, first: ndarray, second: ndarray) -> ndarray:
    sign = 1.0 if get_metric(metric).card.higher_is_better else -1.0
    lowest = -np.inf
    a, b = (np.where(np.isnan(values), lowest, sign * np.nan_to_num(values)) for values in (first, second))
    close = np.isclose(a, b, rtol=1e-9, atol=1e-12) | (a == b)
    return np.where(close, 0.5, (b > a).astype(np.float64))


def profile_table(
    evaluation: Evaluation,
    *,
    attacks: Sequence[Attack] = ATTACKS,
    profile: Sequence[tuple[str, str]] = HONEST_PROFILE,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The honest profile under every attack: attack, consensus (of the attack, 1/2 = even), low, high, verdict.

    `verdict` is `wins` if the interval lies above 1/2, `beaten` if below, `undecided` otherwise.
    """
    rows = []
    for attack in attacks:
        table = consensus(evaluation, attacked(evaluation, attack, seed=seed), profile=profile)
        share = table.mean(axis=1).to_numpy()
        low, high = bootstrap_interval(share, n_bootstrap=n_bootstrap, seed=seed)
        verdict = "wins" if low > 0.5 else "beaten" if high < 0.5 else "undecided"
        rows.append({"attack": attack.name, "consensus": share.mean(), "low": low, "high": high, "verdict": verdict})
    return pd.DataFrame(rows)
