"""Why a fitted model answers as it does: the genes it goes by, the nearest training conditions, and whether it helps.

The genes are those a model attends to (`Explains`) or its learned network joins to the targets (`LearnsNetwork`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from perturbcast.data.conditions import Query, targets_of
from perturbcast.data.de import differential_expression
from perturbcast.data.responses import ResponseTable
from perturbcast.data.screen import Screen
from perturbcast.data.statistics import response_table
from perturbcast.errors import BadOption, UnknownTarget
from perturbcast.models.base import FittedModel
from perturbcast.models.capabilities import Explains, GeneScores, HasConditionStates
from perturbcast.models.response_family import FittedResponse
from perturbcast.networks.from_model import LearnsNetwork

N_TOP = 20  # genes whose enrichment is tested; spec B.7b
N_MATCHED = 20  # genes of like degree for each of them
SHARE_CHANGED = 0.05  # of measured genes that count as differential where no cells are known


@dataclass(frozen=True)
class Explanation:
    """One query explained.

    `genes`: gene, score (NaN where the model has none), rank, is_target, predicted, and with data observed and
    differential. `nearest`: training conditions by likeness. `evenness` is 1 where all genes count alike.
    """

    query: Query
    model: str
    unit: str
    genes: pd.DataFrame
    nearest: pd.DataFrame
    evenness: float


@dataclass(frozen=True)
class Observed:
    """What was measured: responses by query, and which genes are differential."""

    response: dict[Query, Float[np.ndarray, " gene"]]
    differential: dict[Query, Bool[np.ndarray, " gene"]]


def explain(fitted: FittedModel, query: Query | str, *, observed: Observed | None = None) -> Explanation:
    """What the answer to a query goes by.

    BadOption for a model that neither attends, nor learned a network, nor has states or features to compare conditions
    in; UnknownTarget where no target is known to it.
    """
    asked = query if isinstance(query, Query) else fitted.query_of(query)
    scores = gene_scores(fitted, asked)
    if scores is None and states_of(fitted, [asked]) is None:
        raise BadOption(
            f"model {fitted.model.label!r} cannot be explained: it has no attention, network or states of conditions.",
            "Explain a model that docs/GRAPH_MODELS.md describes, or one that learns a network.",
        )
    return Explanation(
        query=asked,
        model=fitted.model.label,
        unit=fitted.unit,
        genes=_gene_table(fitted, asked, scores, observed),
        nearest=nearest_conditions(fitted, asked),
        evenness=float("nan") if scores is None else scores.evenness,
    )


# ------------------------------------------------------------------------------------------------------------- genes
def gene_scores(fitted: FittedModel, query: Query) -> GeneScores | None:
    """Scores of genes by attention, else by the learned network; None where the model has neither."""
    if isinstance(fitted, Explains):
        return fitted.explain(query)
    if isinstance(fitted, LearnsNetwork):
        return network_scores(fitted, query)
    return None


def network_scores(fitted: LearnsNetwork, query: Query) -> GeneScores:
    """Weights of the edges between the targets and each gene, either way, summed and made to sum to 1.

    UnknownTarget where no edge reaches any target.
    """
    network = fitted.network_of_genes()
    names = [str(gene) for gene in network.genes]
    is_target = np.isin(names, targets_of(query.condition))
    score = np.zeros(len(names))
    for here, there in ((network.source_code, network.target_code), (network.target_code, network.source_code)):
        own = is_target[here]
        np.add.at(score, there[own], np.abs(network.weight[own]))
    if not score.any():
        raise UnknownTarget(f"the learned network has no edge at {query.condition!r}.")
    share = score / score.sum()
    entropy = -(share * np.log(np.maximum(share, 1e-300))).sum()
    return GeneScores(tuple(names), share, float(entropy / np.log(max(len(names), 2))))


def even_shares(found: Explanation) -> pd.Series:
    """Scores of the genes in the table's order, as multiples of what each would have if all counted alike."""
    score = found.genes["score"]
    return score * score.notna().sum() / max(float(score.sum()), 1e-300)


def _gene_table(
    fitted: FittedModel, query: Query, scores: GeneScores | None, observed: Observed | None
) -> pd.DataFrame:
    measured = [str(gene) for gene in fitted.genes]
    score = {} if scores is None else dict(zip(scores.genes, scores.score, strict=True))
    names = [*measured, *(name for name in score if name not in set(measured))]
    table = pd.DataFrame({"gene": names, "score": [score.get(name, np.nan) for name in names]})
    table["is_target"] = table["gene"].isin(targets_of(query.condition))
    table["predicted"] = _with_gaps(fitted.predict([query]).response[0], len(names))
    if observed is not None and query in observed.response:
        table["observed"] = _with_gaps(observed.response[query], len(names))
        table["differential"] = np.concatenate(
            [observed.differential[query], np.zeros(len(names) - len(measured), dtype=bool)]
        )
    by = "score" if score else "predicted"
    order = np.lexsort((table["gene"].astype(str), -table[by].abs().fillna(-1.0)))
    table = table.iloc[order].reset_index(drop=True)
    table.insert(2, "rank", np.arange(1, len(table) + 1))
    return table


def _with_gaps(values: np.ndarray, length: int) -> Float[np.ndarray, " gene"]:
    return np.concatenate([values, np.full(length - len(values), np.nan)])


# -------------------------------------------------------------------------------------------------- nearest conditions
def states_of(fitted: FittedModel, queries: Sequence[Query]) -> Float[np.ndarray, "query state"] | None:
    """States of conditions that the model learned, else the summed features of their targets; None without either."""
    if isinstance(fitted, HasConditionStates):
        return fitted.condition_states(queries)
    if not isinstance(fitted, FittedResponse):
        return None
    found = np.zeros((len(queries), fitted.nodes.features.shape[1]))
    for row, query in enumerate(queries):
        known = [fitted.nodes.number[name] for name in targets_of(query.condition) if name in fitted.nodes.number]
        found[row] = fitted.nodes.features[known].sum(axis=0)
    return found


def nearest_conditions(fitted: FittedModel, query: Query, *, most: int = 10) -> pd.DataFrame:
    """The training queries whose states are most like that of a query by cosine; the query itself is left out.

    Empty where the model has no states of conditions, or knows no target.
    """
    others = [other for other in fitted.trained_on if other != query]
    states = states_of(fitted, [query, *others])
    columns = ["condition", "context", "likeness", "shared_targets"]
    if states is None or not states[0].any() or not others:
        return pd.DataFrame(columns=columns)
    length = np.linalg.norm(states, axis=1)
    likeness = states[1:] @ states[0] / np.maximum(length[1:] * length[0], 1e-12)
    order = sorted(range(len(others)), key=lambda row: (-likeness[row], others[row]))[:most]
    own = set(targets_of(query.condition))
    rows = [
        (others[row].condition, others[row].context, likeness[row], len(own & set(targets_of(others[row].condition))))
        for row in order
    ]
    return pd.DataFrame(rows, columns=columns)


# --------------------------------------------------------------------------------------------------- against the truth
def observed_in(data: Screen | ResponseTable, fitted: FittedModel, queries: Sequence[Query]) -> Observed:
    """What the data say of those queries that they hold, genes in the order of the model.

    Differential are genes of adjusted rank-sum p < 0.05 against control; where there are only responses, the twentieth
    of genes that changed most. Genes that the data lack are NaN and not differential.
    """
    table = data if isinstance(data, ResponseTable) else response_table(data)
    row = {query: place for place, query in enumerate(table.queries)}
    inside = [query for query in queries if query in row]
    column = {str(gene): place for place, gene in enumerate(table.genes)}
    at = np.array([column.get(str(gene), -1) for gene in fitted.genes])
    response = {query: np.where(at >= 0, table.response[row[query], at], np.nan) for query in inside}
    if isinstance(data, ResponseTable) or not inside:
        return Observed(response, {query: _most_changed(found) for query, found in response.items()})
    tested = differential_expression(data, queries=inside)
    place = {query: number for number, query in enumerate(tested.queries)}
    significant = tested.significant()
    return Observed(response, {query: (at >= 0) & significant[place[query], at] for query in inside})


def _most_changed(response: Float[np.ndarray, " gene"]) -> Bool[np.ndarray, " gene"]:
    size = np.nan_to_num(np.abs(response), nan=-1.0)
    number = max(1, round(SHARE_CHANGED * len(size)))
    return size >= np.sort(size)[::-1][number - 1]


def enrichment(explanations: Sequence[Explanation], fitted: FittedModel) -> pd.DataFrame:
    """Whether the genes a model goes by are differential more often than others of like degree (spec B.7b).

    For each query with data: the 20 measured genes of the highest score (`hits` of them differential), and for each of
    them the 20 genes nearest in degree over the graphs of the model; p is hypergeometric within their union, q is
    Benjamini-Hochberg over queries. `elsewhere` is how many of the 20 are differential for the other queries, in the
    mean: where that is as many as `hits`, the model goes by genes that respond to anything, not by those of this query.
    `target_score` is the score of the targets together.
    """
    degree = _degrees(fitted)
    rows = [_enriched(found, degree) for found in explanations]
    table = pd.DataFrame(rows)
    table["elsewhere"] = _hits_elsewhere(explanations)
    tested = table["p"].notna().to_numpy()
    table["q"] = np.nan
    if tested.any():
        from scipy.stats import false_discovery_control

        table.loc[tested, "q"] = false_discovery_control(table.loc[tested, "p"].to_numpy())
    return table


def _enriched(found: Explanation, degree: dict[str, int]) -> dict[str, object]:
    table = found.genes
    row: dict[str, object] = {
        "condition": found.query.condition,
        "context": found.query.context,
        "evenness": found.evenness,
        "target_score": float(table.loc[table["is_target"], "score"].fillna(0.0).sum()),
        "hits": np.nan,
        "expected": np.nan,
        "p": np.nan,
    }
    measured = _scored(found)
    if "differential" not in table or len(measured) <= N_TOP:
        return row
    top, others = measured.iloc[:N_TOP], measured.iloc[N_TOP:]
    pool = np.unique(_of_like_degree(top["gene"], others["gene"], degree))
    hits, changed = int(top["differential"].sum()), int(others["differential"].to_numpy()[pool].sum())
    from scipy.stats import hypergeom

    size = N_TOP + len(pool)
    expected = N_TOP * (hits + changed) / size
    p = float(hypergeom.sf(hits - 1, size, hits + changed, N_TOP))
    return row | {"hits": float(hits), "expected": expected, "p": p}


def _scored(found: Explanation) -> pd.DataFrame:
    """Measured genes with a score that are no targets, leading genes first."""
    table = found.genes
    return table[table["predicted"].notna() & ~table["is_target"] & table["score"].notna()]


def _hits_elsewhere(explanations: Sequence[Explanation]) -> list[float]:
    """Of each query's 20 leading genes, how many are differential for another query, in the mean; NaN without any."""
    known = [number for number, found in enumerate(explanations) if "differential" in found.genes]
    tables = {number: explanations[number].genes for number in known}
    changed = {number: set(table.loc[table["differential"], "gene"]) for number, table in tables.items()}
    means = []
    for number, found in enumerate(explanations):
        top = set(_scored(found)["gene"].head(N_TOP))
        others = [len(top & genes) for other, genes in changed.items() if other != number]
        means.append(float(np.mean(others)) if others and number in changed and top else float("nan"))
    return means


def _of_like_degree(top: pd.Series, others: pd.Series, degree: dict[str, int]) -> np.ndarray:
    """Places among `others` of the genes nearest in degree to each of `top`; ties by name."""
    own = np.array([degree.get(gene, 0) for gene in others])
    rank = np.argsort(np.argsort(others.astype(str).to_numpy(), kind="stable"), kind="stable")
    found = [np.lexsort((rank, np.abs(own - degree.get(gene, 0))))[:N_MATCHED] for gene in top]
    return np.concatenate(found)


def _degrees(fitted: FittedModel) -> dict[str, int]:
    """Edges of each gene over all graphs that the model was given; none known: all genes are alike."""
    if not isinstance(fitted, FittedResponse):
        return {}
    count = np.zeros(len(fitted.nodes.names), dtype=np.int64)
    for edges in fitted.nodes.graphs.values():
        count += np.bincount(edges.destination, minlength=len(count))
    return dict(zip(fitted.nodes.names, count.tolist(), strict=True))


def dependence(explanations: Sequence[Explanation]) -> float:
    """How far scores depend on the query: mean half distance to their mean over queries, 0 none, near 1 all of it."""
    if len(explanations) < 2:
        return float("nan")
    wide = [found.genes.set_index("gene")["score"].sort_index().to_numpy() for found in explanations]
    scores = np.nan_to_num(np.array(wide))
    return float(0.5 * np.abs(scores - scores.mean(axis=0)).sum(axis=1).mean())
