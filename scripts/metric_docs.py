"""Writes docs/METRICS.md: the card of every metric, from the registry, and the table of attacks, from simulation.

python scripts/metric_docs.py             # write the cards, keep the attack table that the page has
python scripts/metric_docs.py --attacks   # also stage every attack anew (some minutes; seeded, so it repeats)
python scripts/metric_docs.py --check     # exit status 1 if the cards of the page are not up to date
"""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbcast.data.conditions import is_single
from perturbcast.data.de import differential_expression
from perturbcast.data.prediction import Prediction, Support
from perturbcast.data.simulate import simulate
from perturbcast.data.statistics import response_table
from perturbcast.metrics.attacks import ATTACKS, HONEST_PROFILE, attack_table, honest_responses, profile_table
from perturbcast.metrics.base import Evaluation, MetricCard, all_metrics
from perturbcast.metrics.cells import WAYS, predicted_cells
from perturbcast.metrics.de_metrics import control_reference
from perturbcast.metrics.rank_sum import rank_sum

PAGE = Path(__file__).resolve().parents[1] / "docs" / "METRICS.md"
MARK = "\n<!-- below: staged by `python scripts/metric_docs.py --attacks` -->\n"
HEAD = """# Metrics

Every score in `scores.parquet` is one of the metrics below, on one gene set, for one query (or, where it says so, for a
data set). Each is a pure function of truth and prediction with a card; this page is made by
`python scripts/metric_docs.py` from the cards, do not edit it. A row without a value has a reason: `E602` where the
data lack what the metric reads, `E603` where the score is undefined for that query.

How to read them: no metric may rank models alone. Look at the *honest profile* ({profile}), compare by rank and with
an interval, and set every score beside the no-change, perturbed-mean and duplicate rows of the report. The last
section shows which metrics can be raised without knowing more, and how.

**Gene sets.** `all`; `top1000` the most expressed in control; `de20` the most differential of each query; `delta20` the
largest |response|; `hvg` the most variable on the training side; `significant` adjusted p < 0.05. Any number may stand
for these. Endings: `-notarget` without the query's own targets, `-nondropout` without genes that fall silent.

**Cells of a mean prediction.** Metrics that read cells draw them from the predicted mean, starting from real control
cells: molecules of a gene that goes down are thinned, those of a gene that goes up are added to, so that mean and
variance are those of a negative binomial (spec F-37) and the correlation between genes is that of control. As many
cells are drawn as the query has, at most 128: p-values fall with the number of cells, so it is the same for all models.
A model that generates cells (its fitted object has `sample_cells`) is judged by those in the metrics of distributions
(E-distance, MMD), not by shifted controls; the metrics of differential expression, which test against real control
cells, draw from its mean as from any other's.

**Ceilings.** Rows whose model starts with `ceiling:` are no models. Data with cells have `ceiling:perfect`, what a
model without error would score against these noisy means (L2 and correlations only); `ceiling:duplicate`, half of the
cells scored against the other half; and `ceiling:interpolated`, that half drawn to the mean where it shows no effect.
Data without cells have `ceiling:other-genes`: each tenth of the genes predicted from the other nine tenths of the same
measured response, by a ridge learned on training responses. It has seen the answer, so no model of perturbations has
to reach it; a model without error would, as long as noise is independent between genes, so its error bounds the noise
from above. How tight that is where the noise is known (L2, five folds, cells not used): Papalexi 1.84 for 1.24,
Norman's cells 0.82 for 0.27. It takes ten training queries.
Where responses are differences of log(1 + scaled counts) of pseudobulks, the counts are still in them: a gene that was
not seen has one and the same value in all such conditions (told where depths differ), and one molecule is worth the
same in every gene of a condition. `ceiling:counting` reads the counts back, draws rates from what they say (a gamma
distribution per gene, fitted to training) and counts anew: what a model without error would score if counting molecules
were the only noise.
Differences between cells, guides and batches come on top, so it bounds the noise from below. The responses of Norman
give back 1,999 of 2,000 genes in all 234 conditions (.4 to 28 million molecules each).
"""


def page(attacks: str) -> str:
    """The whole page; `attacks` is the part below the mark."""
    return cards() + MARK + attacks


def cards() -> str:
    """The part of the page that comes from the cards."""
    metrics = [metric.card for metric in all_metrics().values()]
    profile = ", ".join(f"`{metric}` on `{gene_set}`" for metric, gene_set in HONEST_PROFILE)
    summary = "| metric | what | better | perfect | chance | range | core |\n|---|---|---|---|---|---|---|\n"
    summary += "\n".join(_row(card) for card in metrics)
    return HEAD.format(profile=profile) + "\n## All metrics\n\n" + summary + "\n\n" + "\n".join(map(_card, metrics))


def _row(card: MetricCard) -> str:
    cells = (
        f"[`{card.name}`](#{card.name})",
        _plain(card.title),
        "higher" if card.higher_is_better else "lower",
        _number(card.perfect),
        _number(card.chance),
        f"{_number(card.lowest)} to {_number(card.highest)}",
        "yes" if card.core else "",
    )
    return "| " + " | ".join(cells) + " |"


def _card(card: MetricCard) -> str:
    sets = ", ".join(f"`{name}`" for name in card.gene_sets)
    lines = [
        f"### {card.name}",
        f"{_plain(card.title)}: {_plain(card.formula)}.",
        "",
        f"- Source: {_plain(card.source)}. Reads: {', '.join(sorted(card.reads))}. Gene sets: {sets}."
        + (" One score for a data set." if card.per == "dataset" else ""),
        f"- Perfect {_number(card.perfect)}"
        + ("" if card.reaches_perfect else " (which no mean prediction reaches exactly)")
        + f"; the same prediction for every query: {_number(card.chance)}.",
        f"- Undefined where {_plain(card.undefined)} Counts as {_number(card.undefined_counts_as, missing='missing')}.",
    ]
    if card.note:
        lines.append(f"- {_plain(card.note)}")
    if card.gameable_by:
        lines.append(f"- Falls or is blind to: {', '.join(card.gameable_by)}.")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _number(value: float, *, missing: str = "depends on the data") -> str:
    if math.isnan(value):
        return missing
    return "∞" if value == math.inf else "−∞" if value == -math.inf else f"{value:g}"


# ------------------------------------------------------------------------------------------------------- the attacks
def stage(*, noise: float, shrink: bool, seed: int = 0, **world: int) -> tuple[Evaluation, Evaluation]:
    """A simulated screen, half of its queries scored, and two predictions: an honest model, and the exact responses."""
    simulated = simulate(seed=seed, **world)
    table = response_table(simulated.screen, seed=seed)
    single = np.array([is_single(query.condition) for query in table.queries])
    scored = np.zeros(len(single), dtype=bool)
    for kind in (single, ~single):
        scored[np.random.default_rng(seed).permutation(np.flatnonzero(kind))[::2]] = True
    truth, training = table.take(scored), table.take(~scored)
    exact = simulated.exact_response(truth.queries).response
    de = differential_expression(simulated.screen, queries=truth.queries)
    honest = honest_responses(exact, training, noise=noise, shrink=shrink, seed=seed)
    evaluations = []
    for response in (honest, exact):
        prediction = Prediction(
            queries=truth.queries,
            genes=truth.genes,
            response=response,
            control=truth.control_by_query,
            support=(Support.NEIGHBOURS,) * truth.n_queries,
            reason=("",) * truth.n_queries,
            scale=truth.scale,
            model="honest",
        )
        evaluations.append(Evaluation(truth, prediction, training, de=de, screen=simulated.screen, seed=seed))
    return evaluations[0], evaluations[1]


WORLD: dict[str, Any] = {"n_cells": 5000, "n_genes": 400, "n_targets": 60, "n_doubles": 40}
CALIBRATED: dict[str, Any] = {"noise": 0.7, "shrink": True}
OVERCONFIDENT: dict[str, Any] = {"noise": 1.5, "shrink": False}
ATTACK_TEXT = """
## Attacks

An attack changes an honest prediction without adding knowledge of the queries. A metric **falls** if the attacked
prediction scores better beyond the 95 % bootstrap interval over queries, and is **blind** if the two cannot be told
apart. World: simulated, {n_cells} cells x {n_genes} genes, {n_queries} scored queries, seed 0. Two honest models, made
from the exact responses: *calibrated* sees them through noise of 0.7 standard deviations and shrinks as it should;
*overconfident* sees them through noise of 1.5 and does not shrink, like many a published model.

### The honest profile

{profile}.
For every query and metric the better prediction gets 1, the other 0, both 1/2 if equal; the consensus is the mean over
metrics, then queries (spec F.13: ranks, never sums of raw scores). An attack **wins** if the consensus lies above 1/2
beyond its 95 % interval, and is **beaten** if below.

- Against the calibrated model: {calibrated}.
- Against the overconfident model: {overconfident}. Pulling its predictions towards control or the mean may come out
  even or better, and should: such predictions keep what the model knows and drop part of its noise.

{consensus}

### What falls, what is blind

With 95 % intervals about one verdict in forty is chance; metrics of a data set have no interval and fall if the attack
is better at all.

{falls}

### Drawing cells

Exact mean responses turned into cells in three ways, against the truth's significant genes: what a perfect mean earns
under each. `shift` (spec F-36) loses genes that go down, for it cannot lower a zero; `coupled` is the default.

{drawing}
"""


def attacks() -> str:
    """The part of the page that is staged."""
    (calibrated, exact), (overconfident, _) = (stage(**model, **WORLD) for model in (CALIBRATED, OVERCONFIDENT))
    against = [profile_table(one) for one in (calibrated, overconfident)]
    tables = [attack_table(one) for one in (calibrated, overconfident)]
    return ATTACK_TEXT.format(
        n_cells=WORLD["n_cells"],
        n_genes=WORLD["n_genes"],
        n_queries=calibrated.truth.n_queries,
        profile="The metrics: " + ", ".join(f"`{metric}` on `{gene_set}`" for metric, gene_set in HONEST_PROFILE),
        calibrated=_verdicts(against[0]),
        overconfident=_verdicts(against[1]),
        consensus=_consensus(*against),
        falls="\n".join(_falls(attack.name, *tables) for attack in ATTACKS),
        drawing=_drawing(exact),
    )


def _verdicts(table: pd.DataFrame) -> str:
    parts = []
    for verdict in ("wins", "undecided", "beaten"):
        names = list(table.loc[table["verdict"] == verdict, "attack"])
        listed = f" ({', '.join(names)})" if names and verdict != "beaten" else ""
        parts.append(f"{len(names)} of {len(table)} {verdict}{listed}")
    return "; ".join(parts)


def _consensus(calibrated: pd.DataFrame, overconfident: pd.DataFrame) -> str:
    rows = ["| attack | what it does | against calibrated | | against overconfident | |", "|---|---|---|---|---|---|"]
    for attack, one, other in zip(ATTACKS, calibrated.itertuples(), overconfident.itertuples(), strict=True):
        shares = [
            f"{table.consensus:.2f} ({table.low:.2f} to {table.high:.2f}) | {table.verdict}" for table in (one, other)
        ]
        rows.append(f"| {attack.name} | {_plain(attack.what)} | {' | '.join(shares)} |")
    return "\n".join(rows)


def _falls(attack: str, calibrated: pd.DataFrame, overconfident: pd.DataFrame) -> str:
    lines = [f"**{attack}**\n"]
    for title, table in (("calibrated", calibrated), ("overconfident", overconfident)):
        rows = table[table["attack"] == attack]
        for verdict in ("falls", "blind"):
            lines.append(f"- {title}, {verdict}: {_listed(rows[rows['verdict'] == verdict])}")
    return "\n".join(lines) + "\n"


def _listed(rows: pd.DataFrame) -> str:
    sets = rows.groupby("metric")["gene_set"].agg(list)
    return "; ".join(f"`{metric}` ({', '.join(names)})" for metric, names in sets.items()) or "none"


def _drawing(exact: Evaluation) -> str:
    rows = ["| cells drawn by | called / significant | found of those up | found of those down |", "|---|---|---|---|"]
    assert exact.de is not None
    significant, up = exact.de.significant(), exact.de.log2_fold_change > 0
    for way in WAYS:
        p = []
        for row, query in enumerate(exact.truth.queries):
            against = control_reference(exact, query.context)
            p.append(rank_sum(against, predicted_cells(exact, row, way=way).expression)[1])
        called = _adjusted(np.array(p)) < 0.05
        found = [(called & side).sum() / side.sum() for side in (significant & up, significant & ~up)]
        rows.append(f"| `{way}` | {called.sum() / significant.sum():.2f} | {found[0]:.2f} | {found[1]:.2f} |")
    return "\n".join(rows)


def _adjusted(p: np.ndarray) -> np.ndarray:
    from scipy import stats

    return np.asarray(stats.false_discovery_control(p, axis=1))


def staged(text: str) -> str:
    """The part of a page below the mark; empty if it has none."""
    return text.split(MARK, 1)[1] if MARK in text else ""


def main() -> int:
    """0 if the page is up to date or was written."""
    there = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if "--check" in sys.argv[1:]:
        return int(there != page(staged(there)))
    below = attacks() if "--attacks" in sys.argv[1:] else staged(there)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(below), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
