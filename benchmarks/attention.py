"""Whether the genes that APP attends to are those that respond (spec B.7b), on unseen singles of real responses.

Run: OMP_NUM_THREADS=1 python benchmarks/attention.py ../shared/data [--models app:paper,app] [--screens NAME,NAME]

One split of four fifths; every single left out is explained, and the 20 measured genes of its highest attention are
compared with 20 genes of like degree each (as `perturbcast explain` does). Differential are the twentieth of genes that
changed most. Beside it, as a control, the same attention is compared with what the other left-out singles changed, in
the mean: attention that knows only which genes respond to anything scores as high there.
Prints a table; its rows are kept in --out and not made again.
"""

import argparse
from pathlib import Path

import pandas as pd

import perturbcast
from perturbcast.models.explain import Explanation, dependence, enrichment, explain, observed_in

SCREENS = ("norman2019_k562_crispra", "replogle2022_k562_crispri_censored")
KNOWLEDGE = ("genes/gene_summaries.json", "networks/string_human.csv", "networks/go_biological_process.gmt")
FIELDS = {"folds": 2, "max_steps": 40, "lr": 3e-3}
ROOT = Path(__file__).resolve().parents[1]
COLUMNS = (
    "| screen | model | singles | evenness | depends on the query | of 20 attended, differential |"
    " of 20 of like degree | singles with q < 0.05 | differential for the other singles |"
)


def explained(data, knowledge, model: str) -> tuple[list[Explanation], "perturbcast.models.base.FittedModel"]:
    """Every left-out single whose target the model knows, with what was measured of it; and the fitted model."""
    (split,) = perturbcast.make_splits(data, "singles:0.2", seeds=[1])
    place = {query: row for row, query in enumerate(data.queries)}
    train = data.take([place[query] for query in split.train])
    own = dict(FIELDS) if model != "app" else {"folds": 2, "base": "mean:same-size", "max_steps": 60}
    training = perturbcast.TrainingData(responses=train, knowledge=knowledge)
    fitted = perturbcast.get_model(model, **own).fit(training, seed=1)
    asked = [query for query in split.test if query.condition in fitted.nodes.number]
    observed = observed_in(data, fitted, asked)
    return [explain(fitted, query, observed=observed) for query in asked], fitted


def row_of(screen: str, model: str, data, knowledge) -> dict:
    """One line of the table."""
    found, fitted = explained(data, knowledge, model)
    table = enrichment(found, fitted)
    return {
        "screen": screen,
        "model": model,
        "singles": len(table),
        "evenness": table["evenness"].mean(),
        "depends": dependence(found),
        "hits": table["hits"].mean(),
        "expected": table["expected"].mean(),
        "significant": int((table["q"] < 0.05).sum()),
        "others": table["elsewhere"].mean(),
    }


def line(row) -> str:
    """A row as Markdown."""
    return (
        f"| {row.screen.split('_')[0]} | {row.model} | {row.singles} | {row.evenness:.4f} | {row.depends:.1%} |"
        f" {row.hits:.2f} | {row.expected:.2f} | {row.significant} | {row.others:.2f} |"
    )


def main() -> None:
    """Prints one line per screen and model; what was made before is read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", default="app:paper,app")
    parser.add_argument("--screens", default=",".join(SCREENS))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "attention")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    print(f"{COLUMNS}\n{'|---' * (COLUMNS.count('|') - 1)}|")
    for screen in asked.screens.split(","):
        data = perturbcast.read(asked.data / "responses" / f"{screen}.h5ad")
        files = [asked.data / name for name in KNOWLEDGE]
        knowledge = perturbcast.load_knowledge(files, genes=data.genes, targets=sorted(data.targets))
        for model in asked.models.split(","):
            kept = asked.out / f"{screen}-{model.replace(':', '-')}.csv"
            if not kept.is_file():
                pd.DataFrame([row_of(screen, model, data, knowledge)]).to_csv(kept, index=False)
            print(line(next(pd.read_csv(kept).itertuples())), flush=True)


if __name__ == "__main__":
    main()
