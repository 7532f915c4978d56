"""What each change of GPO-VAE `plus` against `paper` is worth: effects on held-out cells and direct edges.

    python benchmarks/gpo_ablation.py [--seeds 3]     (about 15 minutes on one core; resumed; writes docs/GPO_VAE.md)

Simulated worlds with a known network; one cell in five is held out. Every change is switched back in `plus`, and on in
`paper`, alone. All variants are trained alike: same widths, steps and learning rate, no anchors (which draw predictions
to the training means and would hide what the network does) but in the rows that name them. ATE: conditions of training,
against the response of the held-out cells; correlation and R² (28) over all entries, mean L2 per condition. AUPRC:
direct edges from perturbed, measured genes to measured genes. Differences are from the first row of each block, paired
by world, with Student's 95 % interval.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from gpo_networks import PAGE, ROOT, interval, write_between

import perturbcast
from perturbcast.models.base import TrainingData
from perturbcast.models.gpo_vae import GpoVae
from perturbcast.networks.scores import Pairs, auprc, truth_of_world
from perturbcast.networks.universe import universe_of

START, END = "<!-- ablation -->", "<!-- /ablation -->"
WORLD = {"n_cells": 2500, "n_genes": 100, "n_targets": 25, "n_doubles": 0}
FIRST_SEED = 40  # unlike those on which defaults were chosen
NET = {"n_latent": 10, "encoder_width": 48, "decoder_width": 48, "embedding_width": 48, "n_particles": 2}
NET |= {"batch_size": 256, "lr": 5e-3, "max_steps": 300, "max_epochs": 10_000, "patience": None, "n_averaged": 256}
NET |= {"validation": 0.1, "anchored": False, "unseen": "refuse"}
CELLS = {"alignment": "cells", "n_hops": 5, "sparsity": 10.0, "align_steps": 0}
SIGNED = {"alignment": "effects", "guide": "mean-field", "closed": True, "n_hops": 2, "sparsity": 5.0}

BACK = {  # in plus
    "KL by samples": {"kl": "mc"},
    "reconstruction as published (15)": {"reconstruction": "paper"},
    "counterfactual KL without σ², separate draws": {
        "counterfactual_kl": "published",
        "counterfactual_draws": "separate",
    },
    "targets: |ΔX| of single cells, products of logits": CELLS,
    "targets: |mean response|, products of logits": CELLS | {"alignment": "means"},
    "unsigned hops of probabilities": {"alignment": "reach", "align_steps": 0, "sparsity": 0.1},
    "the same, extended genes open": {"alignment": "reach", "align_steps": 0, "sparsity": 0.1, "closed": False},
    "diagonal aligned": {"diagonal": True},
    "artefacts by a network of ones": {"artefact": "network", "embedding_width": 48},
    "network not aligned first": {"align_steps": 0},
    "prior π 0.3": {"mask_prior": 0.3},
    "5 hops": {"n_hops": 5},
    "averages from 𝒩(0, I), independent draws": {"basal": "prior", "average": "independent"},
    "rows coupled by features": {"unseen": "responses"},
    "anchors on": {"anchored": True},
}
ON = {  # in paper
    "exact KL": {"kl": "analytic"},
    "balanced reconstruction": {"reconstruction": "balanced"},
    "exact counterfactual KL, shared draws": {"counterfactual_kl": "exact", "counterfactual_draws": "shared"},
    "targets: |mean response|": {"alignment": "means"},
    "targets: |mean response|, diagonal excluded": {"alignment": "means", "diagonal": False},
    "targets: |mean response|, hops of probabilities": {"alignment": "reach", "diagonal": False, "sparsity": 0.1},
    "signed effects (mean-field, closed)": SIGNED | {"diagonal": False},
    "signed effects, aligned first": SIGNED | {"diagonal": False, "align_steps": 300},
    "diagonal excluded": {"diagonal": False},
    "extended genes closed": {"closed": True},
    "free artefacts": {"artefact": "free"},
    "prior π 0.02": {"mask_prior": 0.02},
    "averages from control cells, common draws": {"basal": "cells", "average": "common"},
    "anchors on": {"anchored": True},
}


def variants() -> dict[str, tuple[str, str, GpoVae]]:
    """File name -> block, row, model."""
    found = {}
    for profile, changes in (("plus", BACK), ("paper", ON)):
        base = NET | ({"extended_fold": 0.0, "max_extended": 1000} if profile == "paper" else {})
        for number, (name, fields) in enumerate({profile: {}, **changes}.items()):
            model = GpoVae.make(profile, **(base | fields))
            assert isinstance(model, GpoVae)
            found[f"{profile}-{number:02d}"] = (profile, name, model)
    return found


def scored(model: GpoVae, seed: int) -> dict[str, float]:
    """Scores of a variant in a world."""
    world = perturbcast.simulate(**WORLD, seed=seed)  # type: ignore[arg-type]
    held_out = np.random.default_rng(seed).random(world.screen.n_cells) < 0.2
    train = TrainingData.of(world.screen.take(~held_out))
    test = TrainingData.of(world.screen.take(held_out)).responses
    fitted = model.fit(train, seed=seed)
    queries = [query for query in train.responses.queries if query in test.queries]
    found, truth = fitted.predict(queries).response, test.response[test.index(queries)]
    rest = np.square(truth - found).sum() / np.square(truth - truth.mean()).sum()
    pairs = Pairs.of(fitted.network_of_genes(), truth_of_world(world), universe_of(world.screen))
    return {
        "ATE ρ": float(np.corrcoef(found.ravel(), truth.ravel())[0, 1]) if found.std() else 0.0,
        "ATE R²": float(1 - rest),
        "L2": float(np.linalg.norm(found - truth, axis=1).mean()),
        "AUPRC": auprc(pairs),
    }


def mean_of_training(seed: int) -> dict[str, float]:
    """The same scores of the training means, which know no network."""
    world = perturbcast.simulate(**WORLD, seed=seed)  # type: ignore[arg-type]
    held_out = np.random.default_rng(seed).random(world.screen.n_cells) < 0.2
    train = TrainingData.of(world.screen.take(~held_out)).responses
    test = TrainingData.of(world.screen.take(held_out)).responses
    queries = [query for query in train.queries if query in test.queries]
    found, truth = train.response[train.index(queries)], test.response[test.index(queries)]
    rest = np.square(truth - found).sum() / np.square(truth - truth.mean()).sum()
    rho = float(np.corrcoef(found.ravel(), truth.ravel())[0, 1])
    return {"ATE ρ": rho, "ATE R²": float(1 - rest), "L2": float(np.linalg.norm(found - truth, axis=1).mean())}


def table(scores: pd.DataFrame, block: str, reference: pd.DataFrame) -> str:
    """Markdown of a block: means, and paired differences from its first row."""
    names = ["ATE ρ", "ATE R²", "L2", "AUPRC"]
    head = [f"`{block}` with", "worlds", *names, *(f"Δ {name}" for name in ("ATE ρ", "L2", "AUPRC"))]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    own = scores[scores.block == block]
    base = own[own.row == block].set_index("seed")
    for row in dict.fromkeys(own.row):
        one = own[own.row == row].set_index("seed")
        cells = [str(len(one)), *(f"{one[name].mean():.3f}" for name in names)]
        same = row == block
        differences = [
            "" if same else interval((one[name] - base[name]).dropna().to_numpy()) for name in ("ATE ρ", "L2", "AUPRC")
        ]
        label = "nothing changed" if same else row.replace("|", "\\|")
        lines.append("| " + " | ".join([label, *cells, *differences]) + " |")
    means = reference.drop(columns="seed").mean()
    cells = [str(len(reference)), *(f"{means[name]:.3f}" for name in names[:3])]
    lines.append("| " + " | ".join(["(training means instead)", *cells, "", "", "", ""]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Writes both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only-table", action="store_true", help="of what is done")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpo_ablation", help="keeps what is done")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    seeds, rows = range(FIRST_SEED, FIRST_SEED + given.seeds), []
    for seed in seeds:
        for name, (block, row, model) in variants().items():
            path = given.out / f"{name}-{seed}.json"
            if not path.exists() and given.only_table:
                continue
            if not path.exists():
                path.write_text(json.dumps(scored(model, seed)), encoding="utf-8")
            rows.append({"block": block, "row": row, "seed": seed, **json.loads(path.read_text(encoding="utf-8"))})
            print(f"seed {seed}  {block:6s} {row:52s} {rows[-1]['ATE ρ']:.3f}  {rows[-1]['AUPRC']:.3f}", flush=True)
    reference = pd.DataFrame([{"seed": seed, **mean_of_training(seed)} for seed in seeds])
    scores = pd.DataFrame(rows)
    body = "\n\n".join(table(scores, block, reference) for block in ("plus", "paper"))
    write_between(PAGE, START, END, body)


if __name__ == "__main__":
    main()
