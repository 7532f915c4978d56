"""Writes docs/MODELS.md: the card and fields of every model, and the promises of the conformance suite.

python scripts/model_docs.py           # write the page
python scripts/model_docs.py --check   # exit status 1 if the page is not up to date
"""

import sys
from pathlib import Path
from typing import Any

from perturbcast.models.check import all_checks
from perturbcast.models.registry import model_list

PAGE = Path(__file__).resolve().parents[1] / "docs" / "MODELS.md"
HEAD = """# Models

This page is made by `python scripts/model_docs.py` from the cards of the models; do not edit it. `perturbcast models`
prints the same list. A model is named on the command line by its name, `name:profile` for a profile, and
`--set field=value` changes a field. In Python: `perturbcast.get_model("kappa-additive:global", fallback=False)`.

Every model answers any query with a prediction or a coded reason, and says in `support` what the answer rests on:
`seen` (this query was in training), `singles` (all its targets were, singly), `partial` (some were), `context` (it was
seen in another context), `neighbours` (like genes were), `mean` (only what all perturbations share), `control`, or
`nothing` (refused). `sd`, where a model has one, is the standard deviation of a new observed response around the
prediction.

Every baseline works from responses alone, so on files without cells too. None of them uses a validation set: what has
to be chosen is chosen by leave-one-out over the training conditions.
"""
CHECKS = """## The conformance suite

`perturbcast.check_model("mean")` runs these {n} checks on a model given by name, class or instance, and returns a
result for each: `passed`, `failed` with what was found, or `skipped` where a check says nothing about the model. A
model of another package can be checked the same way. Given by name or class, a model that trains for long is fitted
with the `quick` fields of its card; an instance is fitted as it is.

| check | promise |
|---|---|
"""


def page() -> str:
    """The whole page."""
    models = model_list()
    table = "| model | what | predicts unseen | reads knowledge | profiles |\n|---|---|---|---|---|\n"
    table += "".join(_row(model) for model in models)
    checks = "".join(f"| `{name}` | {promise} |\n" for name, promise in all_checks().items())
    sections = "\n".join(_section(model) for model in models)
    return f"{HEAD}\n{table}\n{sections}\n{CHECKS.format(n=len(all_checks()))}{checks}"


def _row(model: dict[str, Any]) -> str:
    kinds = ", ".join(kind.removeprefix("unseen_") + "s" for kind in model["predicts"]) or "nothing"
    profiles = ", ".join(f"`{profile}`" for profile in model["profiles"]) or "-"
    knowledge = "yes" if model["uses_knowledge"] else "no"
    return f"| `{model['name']}` | {model['title']} | {kinds} | {knowledge} | {profiles} |\n"


def _section(model: dict[str, Any]) -> str:
    lines = [f"## {model['name']}", "", model["summary"], "", f"Source: {model['source']}.", ""]
    if model["description"]:
        lines += [model["description"], ""]
    for profile, preset in model["profiles"].items():
        fields = ", ".join(f"`{field}={value}`" for field, value in preset.items()) or "the defaults"
        lines.append(f"- `{model['name']}:{profile}`: {fields}")
    lines += [""] if model["profiles"] else []
    if model["fields"]:
        lines += ["| field | default | allowed |", "|---|---|---|"]
        lines += [f"| `{name}` | `{one['default']!r}` | {one['allowed']} |" for name, one in model["fields"].items()]
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Writes or checks the page."""
    text = page()
    if "--check" in sys.argv[1:]:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
